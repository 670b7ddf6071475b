"""Live, behind, catching up: what reaches a member whose line takes less than the chat sends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatd.hub import Settings
from chatd.outbox import AGAIN, MAX_WAITING
from tests.harness import Chat, JsonLine, Later, TextLine


@pytest.fixture(params=["socket", "wrapped"])
def chat(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Chat]:
    """A chat on plain sockets, or on transports like those of TLS; its windows hold a few messages."""
    with Chat(tmp_path, Settings(window_bytes=20_000), wrapped=request.param == "wrapped") as made:
        yield made


def numbers(answers: list[dict[str, Any]]) -> list[int]:
    """The numbers of the messages among the answers."""
    return [answer["seq"] for answer in answers if answer["type"] == "message"]


def talk(line: JsonLine, first: int, last: int, size: int = 100) -> None:
    """Say messages with these numbers."""
    for number in range(first, last + 1):
        line.say("x" * size, str(number))


def test_who_reads_nothing_costs_no_memory_and_gets_it_all_in_the_end(chat: Chat) -> None:
    slow, ana = chat.json("slow"), chat.json("ana")
    slow.socket.window = 1000
    talk(ana, 1, 2000)
    assert slow.socket.buffered < 200_000
    slow.take(None)
    chat.advance(1)
    assert numbers(slow.read()) == list(range(1, 2001))


def test_the_others_are_live_while_one_is_behind(chat: Chat) -> None:
    slow, ana, bo = chat.json("slow"), chat.json("ana"), chat.json("bo")
    slow.socket.window = 0
    talk(ana, 1, 50)
    assert numbers(bo.read()) == list(range(1, 51))


def test_a_receipt_reaches_who_is_behind(chat: Chat) -> None:
    slow, ana = chat.json("slow"), chat.json("ana")
    slow.socket.window = 0
    talk(ana, 1, 300, size=1000)
    slow.say("hola", "mine")
    slow.take(None)
    chat.advance(1)
    answers = slow.read()
    assert [answer["seq"] for answer in answers if answer["type"] == "kept"] == [301]
    assert numbers(answers) == list(range(1, 302))


def test_a_receipt_comes_before_its_message(chat: Chat) -> None:
    ana = chat.json("ana")
    ana.say("hola", "1")
    assert [answer["type"] for answer in ana.read()] == ["kept", "message"]


def test_who_comes_back_from_behind_is_told_once_how_many_are_there(chat: Chat) -> None:
    slow, ana = chat.json("slow"), chat.json("ana")
    chat.advance(2)
    slow.read()
    slow.socket.window = 0
    talk(ana, 1, 300, size=1000)
    for name in ("bo", "cy", "di"):
        chat.json(name)
        chat.advance(2)
    slow.take(None)
    chat.advance(1)
    told = [answer for answer in slow.read() if answer["type"] in {"joined", "left", "presence"}]
    assert told == [{"type": "presence", "room": "lobby", "count": 5}]


def test_rooms_catch_up_in_turn(chat: Chat) -> None:
    slow = chat.json("slow", rooms={"lobby": None, "den": None})
    ana = chat.json("ana", rooms={"lobby": None, "den": None})
    slow.socket.window = 0
    for number in range(200):
        ana.say("x" * 1000, f"a{number}", room="lobby")
        ana.say("x" * 1000, f"b{number}", room="den")
    slow.take(None)
    chat.advance(1)
    rooms = [answer["room"] for answer in slow.read() if answer["type"] == "message"]
    assert rooms.count("lobby") == rooms.count("den") == 200
    assert rooms[:300].count("den") > 50


def test_a_gap_is_told(chat: Chat) -> None:
    ana = chat.json("ana")
    talk(ana, 1, 30)
    chat.advance(100)
    chat.store.retain(int(chat.clock.seconds() * 1000), 20)
    bo = JsonLine(chat)
    bo.request("hello", name="bo", rooms={"lobby": 5})
    chat.advance(1)
    answers = bo.read()
    assert [(gap["first"], gap["last"]) for gap in answers if gap["type"] == "gap"] == [(6, 20)]
    assert numbers(answers) == list(range(21, 31))


def test_answers_that_nobody_reads_stop_the_reading(chat: Chat) -> None:
    slow, ana = chat.json("slow"), chat.json("ana")
    talk(ana, 1, 100, size=1000)
    chat.settle()
    slow.read()
    slow.socket.window = 0
    for number in range(50):
        slow.send(b'{"type":"history","room":"lobby","id":"%d"}\n' % number)
    assert not slow.being_read
    assert slow.socket.buffered < MAX_WAITING * 5
    slow.take(None)
    chat.advance(1)
    answers = [answer for answer in slow.read() if answer["type"] == "history"]
    assert [answer["id"] for answer in answers] == [str(number) for number in range(50)]


def test_a_person_does_not_get_its_own_lines_back_when_it_catches_up(chat: Chat) -> None:
    ana, bo = chat.text("ana"), chat.text("bo")
    ana.read()
    ana.socket.window = 0
    for number in range(100):
        bo.say(f"b{number} " + "x" * 1000)
        ana.say(f"a{number}")
    ana.take(None)
    chat.advance(1)
    said = [line for line in ana.read() if not line.startswith("* ")]
    assert [line.split()[1] for line in said] == [f"b{number}" for number in range(100)]


def test_a_farewell_comes_after_all_that_was_asked_for(tmp_path: Path) -> None:
    with Chat(tmp_path) as chat:
        ana = TextLine(chat)
        ana.send(b"ana\nhola\n/who\n")
        ana.finish()
        chat.advance(2)
        lines = ana.read()
        assert lines[-1] == "* Goodbye."
        assert "* 1 in lobby: ana." in lines
        assert ana.closed


def test_a_page_that_cannot_be_read_is_read_later(tmp_path: Path) -> None:
    later = Later()
    with Chat(tmp_path, Settings(window_bytes=1000), workers=later) as chat:
        ana = chat.json("ana")
        talk(ana, 1, 50)
        bo = JsonLine(chat)
        bo.request("hello", name="bo", rooms={"lobby": 0})
        chat.settle()
        chat.store.close()
        later.work()
        chat.store.open()
        chat.advance(AGAIN)
        while len(later):
            later.work()
            chat.settle()
        assert numbers(bo.read()) == list(range(1, 51))


@given(steps=st.lists(st.tuples(st.integers(1, 8), st.integers(0, 3000)), min_size=1, max_size=20))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_line_is_torn_and_none_is_lost_however_little_is_taken(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]]
) -> None:
    with Chat(tmp_path_factory.mktemp("chat"), Settings(window_bytes=4000)) as chat:
        slow, ana = chat.json("slow"), chat.json("ana")
        slow.socket.window = 0
        answers: list[dict[str, Any]] = []
        said = 0
        for count, taken in steps:
            talk(ana, said + 1, said + count)
            said += count
            slow.take(taken)
            # `read` fails on half a line that is followed by another.
            answers += slow.read()
        slow.take(None)
        chat.advance(2)
        answers += slow.read()
        assert numbers(answers) == list(range(1, said + 1))
