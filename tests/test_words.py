"""What is a word to a search."""

from __future__ import annotations

import string
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.stores.words import fold

any_text = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("don't foo_bar a-b 3.14", ["don", "t", "foo", "bar", "a", "b", "3", "14"]),
        ("¿Mañana, o PASADO mañana?", ["manana", "o", "pasado", "manana"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("ΣΊΣΥΦΟΣ Σίσυφος", ["σισυφοσ", "σισυφοσ"]),
        ("İstanbul ISTANBUL", ["istanbul", "istanbul"]),
        ("Ёлка Йод", ["елка", "иод"]),
        ("ﬁn Ａｂ² №5", ["fin", "ab2", "no5"]),
        ("a\u0301b a\u0338c", ["ab", "ac"]),
        ("שָׁלוֹם سَلَام", ["שלום", "سلام"]),
        ("\U0001f600 ❤️ 1️⃣ ok\ufe0f", ["1", "ok"]),
        ("", []),
        (" \t.,;", []),
    ],
)
def test_case_and_accents_do_not_count(text: str, words: list[str]) -> None:
    assert fold(text) == words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("हिन्दी", "हन्दी"),  # a vowel sign is a letter
        ("がく", "かく"),  # so is what makes ga of ka
        ("กู", "กุ"),  # and a vowel below the line
        ("l\u00b7l", "ll"),
    ],
)
def test_other_letters_make_other_words(one: str, other: str) -> None:
    assert fold(one) != fold(other)
    assert fold(one)


def test_what_is_not_seen_does_not_part_a_word() -> None:
    assert fold("می\u200cخواهم soft\u00adhyphen") == ["میخواهم", "softhyphen"]


@given(any_text)
def test_words_are_folded_and_hold_no_signs(text: str) -> None:
    words = fold(text)
    assert fold(" ".join(words)) == words
    for word in words:
        assert word
        assert not set(word) & set(string.punctuation + string.whitespace + string.ascii_uppercase)


@given(any_text)
def test_it_does_not_matter_how_a_character_is_composed(text: str) -> None:
    assert fold(normalize("NFC", text)) == fold(normalize("NFD", text)) == fold(text)
