"""What a word is to a search: the same for every store, and for messages as for what is looked for."""

from __future__ import annotations

import re
from unicodedata import category, combining, normalize, unidata_version

_ASCII_WORD = re.compile("[a-z0-9]+")

# Says how `fold` cuts and folds. An index that was made another way is made anew.
FOLD_VERSION = f"1, Unicode {unidata_version}"


def fold(text: str) -> list[str]:
    """The words of a text in their order, without case and accents. They hold no space and no ASCII sign."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    plain = normalize("NFKD", normalize("NFKD", text).casefold())
    return plain.translate(_LETTERS).split()


class _Letters(dict[int, "int | str | None"]):
    """What becomes of a character: a part of a word, the space between two, or nothing (None)."""

    def __missing__(self, code: int) -> int | str | None:
        char = chr(code)
        if _is_dropped(char):
            self[code] = None
        else:
            self[code] = code if category(char)[0] in "LNM" else " "
        return self[code]


def _is_dropped(char: str) -> bool:
    # Combining classes from 200 on are accents, 10 to 36 the points of Hebrew, Arabic and Syriac, 1 a stroke
    # through the letter. The other marks are letters to those who write them: vowels, tones, kana sounds.
    accent = combining(char)
    if accent >= 200 or 10 <= accent <= 36 or accent == 1:
        return True
    return category(char) in ("Cf", "Me") or any(first <= char <= last for first, last in _INVISIBLE)


# Marks that are not seen: a joiner, and the selectors of variants, such as emoji have.
_INVISIBLE = ("\u034f", "\u034f"), ("\u180b", "\u180f"), ("\ufe00", "\ufe0f"), ("\U000e0100", "\U000e01ef")
_LETTERS = _Letters()
