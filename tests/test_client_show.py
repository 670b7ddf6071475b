"""How things look."""

from __future__ import annotations

import unicodedata
from datetime import date, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd import wire
from chatd.client.show import Complaint, Line, Look, Notice, Page, mentions, moment

PRAGUE = timezone(timedelta(hours=1))


def person() -> Look:
    look = Look(person=True, today=date(2026, 11, 22), zone=PRAGUE)
    look.name, look.room = "ana", "lobby"
    return look


def said(text: str, **fields: object) -> wire.Message:
    values = {"room": "lobby", "seq": 7, "name": "bob", "at": "2026-11-22T14:05:31.250Z", **fields}
    return wire.Message(text=text, **values)  # type: ignore[arg-type]


def plain(lines: list[Line]) -> list[str]:
    return ["".join(text for _, text in line) for line in lines]


def test_a_message_for_a_person() -> None:
    assert plain(person().lines(said("hola"))) == ["15:05 bob: hola"]


def test_a_message_in_a_pipe() -> None:
    look = Look(person=False)
    assert plain(look.lines(said("hola"))) == ["[2026-11-22 14:05:31Z] [lobby] bob: hola"]
    look.room = "lobby"
    assert plain(look.lines(said("hola"))) == ["[2026-11-22 14:05:31Z] bob: hola"]


def test_other_rooms_are_named() -> None:
    assert plain(person().lines(said("hola", room="dev"))) == ["15:05 [dev] bob: hola"]
    assert plain(person().lines(Notice("bo joined", "dev"))) == ["* [dev] bo joined"]


def test_an_action() -> None:
    assert plain(person().lines(said("waves", action=True))) == ["15:05 bob * waves"]


def test_nobody_can_speak_as_the_client() -> None:
    """What people say begins with a time, what the client says with a mark."""
    for look in (person(), Look(person=False)):
        line = plain(look.lines(said("* connection lost", name="x", action=True)))[0]
        assert not line.startswith(("*", "!", "…", "—"))


def test_another_day_is_told_once() -> None:
    look = person()
    assert plain(look.lines(said("before midnight", at="2026-11-22T22:59:59.000Z"))) == [
        "23:59 bob: before midnight"
    ]
    assert plain(look.lines(said("after", at="2026-11-22T23:00:00.000Z"))) == [
        "— 2026-11-23 —",
        "00:00 bob: after",
    ]
    assert plain(look.lines(said("later", at="2026-11-22T23:01:00.000Z"))) == ["00:01 bob: later"]


def test_ones_own_name_and_mentions_stand_out() -> None:
    (line,) = person().lines(said("hey Ana, @ana and anabel", name="ana"))
    assert ("me", "ana") in line
    assert [text for style, text in line if style == "mention"] == ["Ana", "@ana"]


def test_the_same_person_has_the_same_colour() -> None:
    styles = {person().lines(said(text))[0][1][0] for text in ("one", "two")}
    assert len(styles) == 1
    assert styles.pop().startswith("name")


def test_a_page_has_numbers_and_days() -> None:
    page = Page("the last 2", [said("one", at="2025-01-02T03:04:05.000Z"), said("two", seq=8)])
    assert plain(person().lines(page)) == [
        "* the last 2",
        "#7 2025-01-02 04:04 bob: one",
        "#8 2026-11-22 15:05 bob: two",
    ]
    assert plain(Look(person=False).lines(page))[1] == "#7 [2025-01-02 03:04:05Z] [lobby] bob: one"


def test_several_lines_are_several_lines() -> None:
    assert plain(person().lines(Notice("one\ntwo"))) == ["* one", "* two"]
    assert plain(person().lines(Complaint("one\ntwo"))) == ["! one", "! two"]


def test_what_is_pending() -> None:
    say = wire.Say(id="1", room="dev", text="\x1b[2Jhola")
    assert plain([person().pending(say)]) == ["… [dev] \ufffd[2Jhola"]
    say = wire.Say(id="1", room="lobby", text="waves", action=True)
    assert plain([person().pending(say)]) == ["… ana * waves"]


@pytest.mark.parametrize("at", ["", "yesterday", "2026-11-22T14:05:31", "9" * 400, "0000-00-00T00:00:00Z"])
def test_a_time_that_is_none(at: str) -> None:
    assert moment(at) is None
    assert plain(person().lines(said("hola", at=at))) == ["--:-- bob: hola"]
    assert plain(Look(person=False).lines(said("hola", at=at)))[0].endswith("bob: hola")


def test_times_at_the_ends_of_time() -> None:
    for at in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        assert plain(person().lines(said("hola", at=at))) == ["--:-- bob: hola"]


def test_a_time_from_elsewhere_is_shown_in_utc() -> None:
    line = plain(Look(person=False).lines(said("hola", at="2026-11-22T14:05:31+05:00")))
    assert line == ["[2026-11-22 09:05:31Z] [lobby] bob: hola"]


@given(st.text(), st.text(), st.text(), st.text())
def test_nothing_from_outside_reaches_the_terminal_raw(text: str, name: str, room: str, at: str) -> None:
    hostile = said(text, name=name, room=room, at=at)
    for shown in (hostile, Notice(text, room), Complaint(text), Page(name, [hostile])):
        for look in (person(), Look(person=False)):
            for line in plain(look.lines(shown)):
                assert not any(unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs") for char in line)
                assert not any(char in line for char in "\u202e\u2066\u200f")


@given(st.text(alphabet="anA@ ,x"), st.text(alphabet="anA.(", min_size=1))
def test_mentions_cut_and_do_not_change(text: str, name: str) -> None:
    assert "".join(mentions(text, name)) == text
    assert all(piece.lstrip("@").casefold() == name.casefold() for piece in mentions(text, name)[1::2])


def test_nobody_is_not_mentioned() -> None:
    assert mentions("anything", "") == ["anything"]
