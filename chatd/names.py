"""What people and rooms may be called, and what a message may hold.

The server and the client apply the same rules, the client before it connects.
"""

from __future__ import annotations

import re
import unicodedata

from precis_i18n import get_profile

from chatd.errors import BadName, BadRoom, BadText, ChatError

MAX_NAME = 32
"""The most characters in the name of a person or a room."""

MAX_TEXT = 4_000
"""The most characters in a message."""

_MAX_MARKS = 4
_SHRINKS = 4  # NFKC makes at most this many characters into one, so that a huge text is refused unread

_PLAIN_PERSON = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", re.ASCII)
_PLAIN_ROOM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}", re.ASCII)
_PUNCTUATION = frozenset("_-.")
_JOINERS = str.maketrans("", "", "\u200c\u200d")

# PRECIS knows what no category tells: the class what is invisible, and where a joiner has a meaning; the
# profile which right-to-left names can be shown without tearing the line around them.
_IDENTIFIER = get_profile("IdentifierClass")
_USERNAME = get_profile("UsernameCasePreserved")

# The scripts that are written together, by the first word of their characters' Unicode names.
_EAST_ASIAN = frozenset(
    {"LATIN", "CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "BOPOMOFO", "HANGUL"}
)
_ARABIC_DIGITS = frozenset({"ARABIC-INDIC", "EXTENDED"})
_EVERY_SCRIPT = frozenset({"COMBINING", "DIGIT", "VEDIC"})
_APOSTROPHES = frozenset("\u02bb\u02bc")  # letters in Hawaiian and in Ukrainian

UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f\ud800-\udfff]")
"""Control characters, line and paragraph separators, what turns the writing direction, lone surrogates."""


def person(text: str) -> tuple[str, str]:
    """Return the name `text` as it is shown, and its key: two names with one key are the same name.

    White space around the name is dropped. Raises `BadName` with a sentence that says what is wrong.
    """
    if _PLAIN_PERSON.fullmatch(text):
        return text, text.lower()
    shown = _normal(text, "name", BadName)
    if not (shown[0].isalpha() or shown[0] == "_"):
        raise BadName(f"A name begins with a letter or '_', not with {_visible(shown[0])}.")
    _check(shown, "name", BadName)
    return shown, fold(shown)


def room(text: str) -> str:
    """Return the name of the room that `text` means: folded, without the `#` in front and white space around.

    Raises `BadRoom` with a sentence that says what is wrong.
    """
    if _PLAIN_ROOM.fullmatch(text):
        return text.lower()
    folded = _normal(fold(_normal(text, "room", BadRoom).removeprefix("#")), "room", BadRoom)
    if not (folded[0].isalpha() or folded[0].isdecimal() or folded[0] == "_"):
        raise BadRoom(f"A room begins with a letter, a digit or '_', not with {_visible(folded[0])}.")
    _check(folded, "room", BadRoom)
    return folded


def fold(text: str) -> str:
    """Return `text` without the differences that do not make another name: case, width, accents' spelling.

    Joiners go too, since in most fonts they cannot be seen.
    """
    normal = unicodedata.normalize("NFKC", text.translate(_JOINERS))
    return unicodedata.normalize("NFKC", normal.casefold())


def clean(text: str) -> str:
    """Return `text` safe to show on a terminal, to store anywhere and to encode, with as many characters.

    Control and bidi characters, line and paragraph separators and lone surrogates become U+FFFD, a tab
    becomes a space.
    """
    if text.isprintable():
        return text
    return UNSAFE.sub("\ufffd", text.replace("\t", " "))


def message(text: str) -> str:
    """Return the clean text of a message; raises `BadText` where there is none or too much of it."""
    if not text:
        raise BadText("The message is empty: it needs at least one character.")
    if len(text) > MAX_TEXT:
        raise BadText(
            f"The message has {len(text):,} characters, and {MAX_TEXT:,} are the most: send it in parts."
        )
    return clean(text)


def _normal(text: str, what: str, error: type[ChatError]) -> str:
    """Return the NFKC form of `text` without the white space around it, never empty."""
    if len(text) > MAX_NAME * _SHRINKS:
        raise error(f"A {what} has at most {MAX_NAME} characters, and this one has {len(text):,}.")
    normal = unicodedata.normalize("NFKC", text).strip()
    if not normal:
        raise error(f"A {what} has at least one letter: it may be made of letters, digits, '_', '-' and '.'.")
    return normal


def _check(name: str, what: str, error: type[ChatError]) -> None:
    """Raise `error` unless the characters of `name` are allowed, and allowed together."""
    if len(name) > MAX_NAME:
        raise error(f"A {what} has at most {MAX_NAME} characters, and this one has {len(name)}.")
    for char in name:
        if not _allowed(char):
            raise error(f"{_visible(char)} cannot be in a {what}: letters, digits, '_', '-' and '.' can.")
    if _piled_up(name):
        raise error(f"A {what} has at most {_MAX_MARKS} accents on one letter.")
    _check_places(name, what, error)
    _check_scripts(name, what, error)
    try:
        _USERNAME.enforce(name)
    except UnicodeEncodeError:
        raise error(
            f"A {what} written from right to left begins with a letter and ends with a letter or a digit."
        ) from None


def _check_places(name: str, what: str, error: type[ChatError]) -> None:
    """Raise `error` where a character is invisible, or allowed in other places only."""
    try:
        _IDENTIFIER.enforce(name)
    except UnicodeEncodeError as refused:
        if refused.reason.endswith("arabic_indic"):
            raise error(f"A {what} has Arabic digits of one kind, not of two.") from None
        char = f"U+{ord(name[refused.start]):04X}"
        raise error(f"{char} cannot be at this place in a {what}, where nobody would see it.") from None


def _check_scripts(name: str, what: str, error: type[ChatError]) -> None:
    scripts = sorted({script for char in name if (script := _script(char))})
    if len(scripts) > 1 and not _EAST_ASIAN.issuperset(scripts):
        first, second = (script.capitalize() for script in scripts[:2])
        raise error(f"A {what} is written in one script, and this one mixes {first} and {second}.")


def _allowed(char: str) -> bool:
    if char.isalpha():
        return char in _APOSTROPHES or not unicodedata.name(char, "").startswith("MODIFIER")
    if char.isdecimal() or char in _PUNCTUATION or ord(char) in _JOINERS:
        return True
    return unicodedata.category(char) in ("Mn", "Mc")


def _piled_up(name: str) -> bool:
    """Tell whether more marks stand on one letter than any language needs, to reach into the lines around."""
    marks = 0
    for char in name:
        marks = marks + 1 if unicodedata.category(char) == "Mn" else 0
        if marks > _MAX_MARKS:
            return True
    return False


def _script(char: str) -> str:
    """Return the script of a letter, a mark or a digit, or "" for what every script uses.

    Python knows no scripts; the first word of a character's name tells them apart well enough.
    """
    if char in _PUNCTUATION or char in _APOSTROPHES or ord(char) in _JOINERS:
        return ""
    word = unicodedata.name(char, "UNKNOWN").partition(" ")[0]
    if word in _EVERY_SCRIPT:
        return ""
    return "ARABIC" if word in _ARABIC_DIGITS else word


def _visible(char: str) -> str:
    if char == " ":
        return "A space"
    if char.isprintable() and unicodedata.category(char)[0] != "M":
        return f"'{char}'"
    return f"U+{ord(char):04X}"
