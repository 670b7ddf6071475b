"""The rules for names, rooms and text."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatd import names
from chatd.errors import BadName, BadRoom, BadText, ChatError

any_text = st.text(st.characters(), max_size=50)
"""Any text at all, lone surrogates included."""

script_letters = [
    st.characters(min_codepoint=first, max_codepoint=last)
    for first, last in [
        (0x20, 0x24F), (0x300, 0x345), (0x370, 0x3FF), (0x400, 0x4FF), (0x590, 0x5FF), (0x600, 0x6FF),
        (0x900, 0x97F), (0x1100, 0x11FF), (0x13A0, 0x13FF), (0x1F00, 0x1FFF), (0x2000, 0x20FF),
        (0x3040, 0x30FF), (0x4E00, 0x4EFF), (0xAC00, 0xACFF), (0xFB00, 0xFB4F), (0xFF00, 0xFFEF),
    ]
]  # fmt: skip
near_names = st.one_of(*(st.text(letters, min_size=1, max_size=33) for letters in script_letters))
"""Text of one block each, so that many of them pass."""


@pytest.mark.parametrize(
    ("text", "shown", "key"),
    [
        ("ana", "ana", "ana"),
        ("Ana_B-2.x", "Ana_B-2.x", "ana_b-2.x"),
        ("_", "_", "_"),
        ("x" * 32, "x" * 32, "x" * 32),
        (" ana\r", "ana", "ana"),
        ("ＡＬＩＣＥ", "ALICE", "alice"),
        ("Žluťoučký", "Žluťoučký", "žluťoučký"),
        ("Z\u030cluta", "Žluta", "žluta"),
        ("Straße", "Straße", "strasse"),
        ("ΣΊΣΥΦΟΣ", "ΣΊΣΥΦΟΣ", "σίσυφοσ"),
        ("σίσυφος", "σίσυφος", "σίσυφοσ"),
        ("Мар'яна".replace("'", "\u02bc"), "Мар\u02bcяна", "мар\u02bcяна"),
        ("Анна", "Анна", "анна"),
        ("日本go", "日本go", "日本go"),
        ("ゆうコー々", "ゆうコー々", "ゆうコー々"),
        ("김철수_kim", "김철수_kim", "김철수_kim"),
        ("שלום", "שלום", "שלום"),
        ("محمد٣", "محمد٣", "محمد٣"),
        ("अनीता", "अनीता", "अनीता"),
        ("แอนนา", "แอนนา", "แอนนา"),
        ("Ⅷ", "VIII", "viii"),
        ("න්\u200dද්\u200dර", "න්\u200dද්\u200dර", "න්ද්ර"),
    ],
)
def test_person(text: str, shown: str, key: str) -> None:
    assert names.person(text) == (shown, key)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "at least one letter"),
        ("  ", "at least one letter"),
        ("x" * 33, "at most 32 characters, and this one has 33"),
        ("x" * 70_000, "has 70,000"),
        ("ﷺ" * 2, "and this one has 3"),
        ("1ana", "begins with a letter or '_', not with '1'"),
        ("-ana", "not with '-'"),
        ("\u0301a", "not with U+0301"),
        ("#ana", "not with '#'"),
        ("an a", "A space cannot be in a name"),
        ("a\nb", "U+000A cannot"),
        ("a\x1b[2J", "U+001B cannot"),
        ("a\x00", "U+0000 cannot"),
        ("a\ud800", "U+D800 cannot"),
        ("a\u202eb", "U+202E cannot"),
        ("a\u200bb", "U+200B cannot"),
        ("ana:", "':' cannot"),
        ("a@b", "'@' cannot"),
        ("ana😀", "'😀' cannot"),
        ("ana\u02d0", "'ː' cannot"),
        ("a\u20dd", "U+20DD cannot"),
        ("a\u00ad", "U+00AD cannot"),
        ("a\ufe0f", "U+FE0F cannot"),
        ("a\u200db", "U+200D cannot"),
        ("한\u3164", "U+1160 cannot"),
        ("аlice", "one script, and this one mixes Cyrillic and Latin"),
        ("日本го", "mixes Cjk and Cyrillic"),
        ("ana३", "mixes Devanagari and Latin"),
        ("שלוםana", "mixes Hebrew and Latin"),
        ("a\u0651", "mixes Arabic and Latin"),
        ("שלום_", "right to left"),
        ("م٣۳", "digits of one kind"),
        ("a\u0316\u0317\u0318\u0319\u031c", "at most 4 accents"),
    ],
)
def test_bad_person(text: str, says: str) -> None:
    with pytest.raises(BadName) as caught:
        names.person(text)
    assert says in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("lobby", "lobby"),
        ("#Lobby", "lobby"),
        ("＃ＬＯＢＢＹ", "lobby"),
        ("# dev ", "dev"),
        ("2026", "2026"),
        ("۳", "۳"),
        ("Straße", "strasse"),
        ("Łódź", "łódź"),
        ("x" * 32, "x" * 32),
    ],
)
def test_room(text: str, folded: str) -> None:
    assert names.room(text) == folded


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "A room has at least one letter"),
        ("#", "A room has at least one letter"),
        ("\u200c", "A room has at least one letter"),
        ("##dev", "begins with a letter, a digit or '_', not with '#'"),
        ("..", "not with '.'"),
        ("a/b", "'/' cannot be in a room"),
        ("ß" * 17, "and this one has 34"),
        ("x" * 33, "and this one has 33"),
        ("gо", "mixes Cyrillic and Latin"),
    ],
)
def test_bad_room(text: str, says: str) -> None:
    with pytest.raises(BadRoom) as caught:
        names.room(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("hola", "hola"),
        ("a\tb", "a b"),
        ("\x1b[2J\x1b]0;t\x07", "\ufffd[2J\ufffd]0;t\ufffd"),
        ("\x9b31m", "\ufffd31m"),
        ("a\r\nb\x00\x7f", "a\ufffd\ufffdb\ufffd\ufffd"),
        ("\u2028\u2029\u0085", "\ufffd" * 3),
        ("\u202eevil\u2066\u200f\u061c", "\ufffdevil\ufffd\ufffd\ufffd"),
        ("\ud800 \udfff", "\ufffd \ufffd"),
        ("👩\u200d👧 می\u200cخواهم", "👩\u200d👧 می\u200cخواهم"),
        ("日本\u3000語 10\u00a0%", "日本\u3000語 10\u00a0%"),
        ("\U0001f3f4\U000e0067\U000e0062\U000e007f", "\U0001f3f4\U000e0067\U000e0062\U000e007f"),
        ("\U0001fae9 newer than this Python's Unicode", "\U0001fae9 newer than this Python's Unicode"),
    ],
)
def test_clean(text: str, cleaned: str) -> None:
    assert names.clean(text) == cleaned


def test_clean_leaves_no_control_and_nothing_that_turns_the_line() -> None:
    everything = names.clean("".join(map(chr, range(0x11_0000))))
    kinds = {unicodedata.category(char) for char in everything}
    turns = {unicodedata.bidirectional(char) for char in everything}
    assert not kinds & {"Cc", "Cs", "Zl", "Zp"}
    assert not turns & {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def test_message() -> None:
    assert names.message("hola\x07") == "hola\ufffd"
    assert names.message("x" * 4_000) == "x" * 4_000
    with pytest.raises(BadText, match="empty"):
        names.message("")
    with pytest.raises(BadText, match="has 4,001 characters, and 4,000 are the most"):
        names.message("x" * 4_001)


@given(any_text | near_names)
@example("ᾳ\u0327")
def test_a_name_is_its_own_name(text: str) -> None:
    try:
        shown, key = names.person(text)
    except BadName:
        return
    assert names.person(shown) == (shown, key)
    assert names.fold(key) == key
    assert names.fold(text.strip()) == key
    assert 1 <= len(shown) <= names.MAX_NAME
    assert names.clean(shown) == shown


@given(any_text | near_names)
def test_the_case_of_a_name_does_not_matter(text: str) -> None:
    assert names.fold(text.lower()) == names.fold(text)


@given(any_text | near_names)
def test_a_room_is_its_own_room(text: str) -> None:
    try:
        folded = names.room(text)
    except BadRoom:
        return
    assert names.room(folded) == folded
    assert names.room("#" + folded) == folded
    assert 1 <= len(folded) <= names.MAX_NAME


@given(st.text(st.characters()))
def test_clean_text_is_clean(text: str) -> None:
    cleaned = names.clean(text)
    assert names.clean(cleaned) == cleaned
    assert len(cleaned) == len(text)
    assert cleaned.encode().decode() == cleaned
    assert len(cleaned.splitlines()) <= 1


@given(st.sampled_from([names.person, names.room, names.message]), any_text | near_names)
def test_only_errors_of_ours(rule: Callable[[str], object], text: str) -> None:
    try:
        rule(text)
    except ChatError as error:
        assert str(error).isprintable()
        assert str(error).endswith(".")
