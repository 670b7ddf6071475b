"""The rules: sessions, names, rooms, ids, who is told what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatd import names
from chatd.hub import ESTABLISHED_AFTER, MAX_ROOMS_EACH, Settings
from chatd.sessions import MAX_CONNECTIONS
from tests.harness import Chat, JsonLine, clock

GRACE = 90.0


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Chat]:
    """A chat with what is the default everywhere."""
    with Chat(tmp_path) as made:
        yield made


def events(line: JsonLine, *types: str) -> list[dict[str, Any]]:
    """What has come of these types."""
    return [answer for answer in line.read() if answer["type"] in types]


def came_and_left(line: JsonLine) -> list[tuple[str, list[str]]]:
    """Who came and who left, as a line of the chat was told."""
    return [(event["type"], event["names"]) for event in events(line, "joined", "left")]


# Names


def test_a_name_is_one_persons(chat: Chat) -> None:
    chat.json("ana")
    (error,) = JsonLine(chat).ask("hello", name="ANA")
    assert (error["code"], error["retry"]) == ("name_in_use", False)


def test_a_name_is_free_when_who_had_it_says_bye(chat: Chat) -> None:
    ana = chat.json("ana")
    ana.say("hola", "1")
    ana.request("bye")
    chat.json("ana")


def test_who_came_a_moment_ago_and_is_lost_leaves_no_name_behind(chat: Chat) -> None:
    bo, ana = chat.json("bo"), chat.json("ana")
    chat.advance(2)
    bo.read()
    ana.lose()
    chat.advance(1)
    assert came_and_left(bo) == [("left", ["ana"])]
    chat.json("ana")


@pytest.mark.parametrize("by", ["talking", "staying"])
def test_a_lost_line_holds_its_name_for_the_grace_time_and_nobody_is_told(chat: Chat, by: str) -> None:
    bo, ana = chat.json("bo"), chat.json("ana")
    if by == "talking":
        ana.say("hola", "1")
    else:
        chat.advance(ESTABLISHED_AFTER)
    bo.read()
    ana.lose()
    chat.advance(GRACE - 1)
    assert came_and_left(bo) == []
    assert JsonLine(chat).ask("hello", name="ana")[0]["code"] == "name_in_use"
    chat.advance(2)
    assert came_and_left(bo) == [("left", ["ana"])]
    chat.json("ana")


def test_a_text_session_frees_its_name_at_once(chat: Chat) -> None:
    bo, ana = chat.json("bo"), chat.text("ana")
    ana.say("hola")
    bo.read()
    ana.lose()
    chat.advance(1)
    assert came_and_left(bo) == [("left", ["ana"])]
    chat.text("ana")


def test_who_comes_back_within_the_grace_time_is_no_news(chat: Chat) -> None:
    bo, ana = chat.json("bo"), chat.json("ana")
    ana.say("hola", "1")
    bo.read()
    ana.lose()
    chat.advance(10)
    back = chat.json("ana", token=ana.token)
    chat.advance(GRACE + 10)
    assert came_and_left(bo) == []
    back.say("still here", "2")
    assert [message["text"] for message in events(bo, "message")] == ["still here"]


def test_a_room_that_is_not_joined_again_is_left_when_the_grace_time_ends(chat: Chat) -> None:
    bo = chat.json("bo", rooms={"lobby": None, "den": None})
    ana = chat.json("ana", rooms={"lobby": None, "den": None})
    ana.say("hola", "1")
    bo.read()
    ana.lose()
    chat.json("ana", token=ana.token, rooms={"lobby": None})
    chat.advance(GRACE + 2)
    assert [(event["room"], event["names"]) for event in events(bo, "left")] == [("den", ["ana"])]


# Sessions


def test_a_token_speaks_for_its_session_at_once(chat: Chat) -> None:
    ana = chat.json("ana")
    second = JsonLine(chat)
    assert second.hello("ana", token=ana.token)["resumed"] is True


def test_an_unknown_token_is_a_new_session(chat: Chat) -> None:
    line = JsonLine(chat)
    welcome = line.hello("ana", token="of another server")
    assert welcome["resumed"] is False
    assert welcome["token"] != "of another server"


def test_two_connections_are_one_person(chat: Chat) -> None:
    bo, ana = chat.json("bo"), chat.json("ana")
    chat.advance(2)
    bo.read()
    second = chat.json("ana", token=ana.token)
    ana.request("bye")
    chat.advance(2)
    assert came_and_left(bo) == []
    second.request("bye")
    chat.advance(2)
    assert came_and_left(bo) == [("left", ["ana"])]


def test_a_session_has_so_many_connections_and_no_more(chat: Chat) -> None:
    ana = chat.json("ana")
    for _ in range(MAX_CONNECTIONS - 1):
        chat.json("ana", token=ana.token)
    (error,) = JsonLine(chat).ask("hello", name="ana", token=ana.token)
    assert (error["code"], error["retry"]) == ("too_many_connections", True)


def test_a_session_lives_over_a_restart_and_its_name_is_held(tmp_path: Path) -> None:
    time = clock()
    with Chat(tmp_path, clock=time) as chat:
        ana = chat.json("ana")
        ana.say("hola", "1")
        chat.advance(2)
        chat.hub.close()
        chat.lines.clear()
    with Chat(tmp_path, clock=time) as chat:
        assert JsonLine(chat).ask("hello", name="ana")[0]["code"] == "name_in_use"
        back = JsonLine(chat)
        assert back.hello("ana", token=ana.token)["resumed"] is True
        back.say("hola", "1")
        assert [kept["seq"] for kept in events(back, "kept")] == [1]
        assert back.ask("history", room="lobby")[0]["messages"][-1]["seq"] == 1


def test_a_name_that_was_held_over_a_restart_is_free_after_the_grace_time(tmp_path: Path) -> None:
    time = clock()
    with Chat(tmp_path, clock=time) as chat:
        chat.json("ana").say("hola", "1")
        chat.advance(2)
        chat.hub.close()
        chat.lines.clear()
    with Chat(tmp_path, clock=time) as chat:
        chat.advance(GRACE + 1)
        chat.json("ana")


def test_a_name_taken_meanwhile_is_told_and_another_one_keeps_the_session(chat: Chat) -> None:
    ana = chat.json("ana")
    ana.say("hola", "1")
    ana.request("bye")
    chat.json("ana")
    line = JsonLine(chat)
    assert line.ask("hello", name="ana", token=ana.token)[0]["code"] == "name_in_use"
    assert line.hello("ana2", token=ana.token)["resumed"] is True
    line.say("hola", "1")
    assert [kept["seq"] for kept in events(line, "kept")] == [1]


def test_a_session_is_forgotten_after_its_days(tmp_path: Path) -> None:
    with Chat(tmp_path, Settings(session_days=1)) as chat:
        ana = chat.json("ana")
        ana.say("hola", "1")
        ana.request("bye")
        chat.advance(2 * 86400)
        assert JsonLine(chat).hello("ana", token=ana.token)["resumed"] is False


def test_the_password_is_asked_for_and_not_told(tmp_path: Path) -> None:
    with Chat(tmp_path, Settings(password="sésamo")) as chat:
        line = JsonLine(chat)
        for wrong in ({}, {"password": "x"}):
            (error,) = line.ask("hello", name="ana", **wrong)
            assert error["code"] == "wrong_password"
            assert "sésamo" not in error["text"]
        line.hello("ana", password="sésamo")


# Ids


def test_a_repeat_is_stored_once_and_gets_its_number_again(chat: Chat) -> None:
    ana = chat.json("ana")
    ana.say("hola", "1")
    ana.say("que tal", "2")
    ana.say("hola", "1")
    assert [(kept["id"], kept["seq"]) for kept in events(ana, "kept")] == [("1", 1), ("2", 2), ("1", 1)]
    assert len(ana.ask("history", room="lobby")[0]["messages"]) == 2


def test_an_id_for_another_text_is_an_error(chat: Chat) -> None:
    ana = chat.json("ana")
    ana.say("hola", "1")
    ana.say("adios", "1")
    (error,) = events(ana, "error")
    assert (error["code"], error["id"], error["retry"]) == ("bad_id", "1", False)


def test_an_id_is_its_sessions_own(chat: Chat) -> None:
    ana, bo = chat.json("ana"), chat.json("bo")
    ana.say("hola", "1")
    bo.say("buenas", "1")
    assert [message["text"] for message in bo.ask("history", room="lobby")[-1]["messages"]] == ["hola", "buenas"]


# Rooms


def test_cursors(chat: Chat) -> None:
    ana = chat.json("ana")
    for number in range(1, 11):
        ana.say(f"text {number}", str(number))

    def after(cursor: int | None) -> list[int]:
        line = JsonLine(chat)
        line.request("hello", name=f"b{len(chat.lines)}", rooms={"lobby": cursor})
        chat.advance(0)
        return [answer["seq"] for answer in line.read() if answer["type"] == "message"]

    assert after(None) == []
    assert after(-3) == [8, 9, 10]
    assert after(-30) == list(range(1, 11))
    assert after(0) == list(range(1, 11))
    assert after(7) == [8, 9, 10]
    assert after(10) == []


def test_a_cursor_beyond_the_end_is_reset_and_said_so(chat: Chat) -> None:
    line = JsonLine(chat)
    answers = line.ask("hello", name="ana", rooms={"lobby": 99})
    assert [answer.get("reset") for answer in answers if answer["type"] == "room"] == [True]


def test_a_connection_is_in_so_many_rooms_and_no_more(chat: Chat) -> None:
    ana = chat.json("ana", rooms={f"r{number}": None for number in range(MAX_ROOMS_EACH)})
    (error,) = ana.ask("join", room="one-more")
    assert error["code"] == "too_many_rooms"
    assert ana.ask("join", room="r1", after=0)[0]["type"] == "room"


def test_the_server_has_so_many_rooms_and_no_more(tmp_path: Path) -> None:
    with Chat(tmp_path, Settings(max_rooms=2)) as chat:
        ana = chat.json("ana")
        ana.say("hola", "1")
        ana.read()
        assert ana.ask("join", room="den")[0]["type"] == "room"
        assert ana.ask("join", room="third")[0]["code"] == "too_many_rooms"
        ana.ask("leave", room="den")
        assert ana.ask("join", room="third")[0]["type"] == "room"


def test_reading_and_talking_need_membership(chat: Chat) -> None:
    ana = chat.json("ana")
    for request in (
        {"type": "say", "room": "den", "text": "x", "id": "1"},
        {"type": "history", "room": "den"},
        {"type": "search", "room": "den", "words": "x"},
        {"type": "members", "room": "den"},
        {"type": "leave", "room": "den"},
    ):
        assert ana.ask(**request)[0]["code"] == "not_in_room"


def test_history_pages(chat: Chat) -> None:
    ana = chat.json("ana")
    for number in range(1, 251):
        ana.say(f"text {number}", str(number))
    ana.read()

    def numbers(**fields: object) -> list[int]:
        return [message["seq"] for message in ana.ask("history", room="lobby", **fields)[0]["messages"]]

    assert numbers() == list(range(151, 251))
    assert numbers(before=51) == list(range(1, 51))
    assert numbers(after=10, limit=5) == [11, 12, 13, 14, 15]
    assert numbers(after=250) == []
    assert numbers(limit=1_000_000) == list(range(151, 251))


def test_long_answers_stay_under_their_bound(chat: Chat) -> None:
    ana = chat.json("ana")
    for number in range(100):
        ana.say("\U0001f600" * names.MAX_TEXT, str(number))
    ana.read()
    ana.request("history", room="lobby")
    ana.request("search", room="lobby", words="\U0001f600a")
    for line in ana.read_lines():
        assert len(line) <= 256 * 1024


# Who came and who left


def test_many_that_come_at_once_are_a_few_lines(chat: Chat) -> None:
    watcher = chat.json("watcher")
    watcher.read()
    for number in range(300):
        chat.json(f"n{number}")
    chat.advance(3)
    told = events(watcher, "joined")
    assert len(told) <= 3
    assert sum(event["total"] for event in told) == 300
    assert all(len(event["names"]) <= 50 for event in told)
    assert told[-1]["count"] == 301


def test_who_talks_is_announced_before_its_message(chat: Chat) -> None:
    watcher = chat.json("watcher")
    chat.json("first")
    late = chat.json("late")
    late.say("hola", "1")
    told = [event for event in watcher.read() if event["type"] in {"joined", "message"}]
    assert told[-1]["type"] == "message"
    assert "late" in [name for event in told[:-1] for name in event["names"]]


def test_one_is_not_told_of_oneself(chat: Chat) -> None:
    ana = chat.json("ana")
    chat.advance(2)
    assert came_and_left(ana) == []
