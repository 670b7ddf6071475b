"""The TCP door: which dialect a connection speaks, how fast it is read, and when it is closed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from zope.interface.verify import verifyClass, verifyObject

from chatd.interfaces import IDoor
from chatd.pacing import Rate
from chatd.server import LINGER, ChatFactory, Limits, address
from tests.harness import Chat, JsonLine, Line, TextLine

HELLO = b'{"type":"hello","name":"ana"}\n'
WELCOME = ["* Welcome to chatd.", "* What is your name?"]


@pytest.fixture(params=["socket", "wrapped"])
def chat(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Chat]:
    """A chat on plain sockets, or on transports like those of TLS."""
    with Chat(tmp_path, wrapped=request.param == "wrapped") as made:
        yield made


def kinds(line: JsonLine) -> list[str]:
    """The types of the answers that have come."""
    return [answer["type"] for answer in line.read()]


# Which dialect


def test_who_says_nothing_is_greeted_after_a_moment(chat: Chat) -> None:
    line = TextLine(chat)
    chat.advance(0.29)
    assert line.read() == []
    chat.advance(0.01)
    assert line.read() == WELCOME
    chat.advance(10)
    assert line.read() == []


def test_the_first_byte_of_a_person_brings_the_greeting(chat: Chat) -> None:
    line = TextLine(chat)
    line.send(b"a")
    assert line.read() == WELCOME
    line.send(b"na\n")
    assert line.read()[0].startswith("* Hello ana.")
    chat.advance(1)
    assert line.read() == []


def test_a_program_is_never_greeted(chat: Chat) -> None:
    line = JsonLine(chat)
    line.send(b"{")
    chat.advance(1)
    assert line.read_bytes() == b""
    line.send(HELLO[1:])
    assert kinds(line) == ["welcome", "room"]


def test_a_program_on_a_slow_line_is_a_program_after_the_greeting_too(chat: Chat) -> None:
    line = JsonLine(chat)
    chat.advance(0.5)
    assert all(not greeting.startswith(b"{") for greeting in line.read_lines())
    line.send(HELLO[:1], HELLO[1:])
    assert kinds(line) == ["welcome", "room"]
    line.say("x" * 4000, "1")
    assert kinds(line) == ["kept", "message"]
    assert line.ask("bye")[-1] == {"type": "goodbye", "reason": "bye"}
    assert line.closed


def test_the_first_byte_alone_decides(chat: Chat) -> None:
    line = TextLine(chat)
    line.send(b"a{\n")
    assert line.read()[:2] == WELCOME


def test_who_sends_nothing_and_closes_its_side_is_answered_too(tmp_path: Path) -> None:
    with Chat(tmp_path) as chat:
        line = TextLine(chat)
        line.finish()
        assert line.read() == [*WELCOME, "* Goodbye."]
        assert line.closed


def test_who_has_been_a_person_stays_one(chat: Chat) -> None:
    ana, bo = chat.text("ana"), chat.text("bo")
    ana.send(b'{"type":"bye"}\n')
    assert bo.read() == ['ana: {"type":"bye"}']


# What is no chat


REQUEST = b"POST /chat HTTP/1.1\r\nHost: chat.example:5000\r\n\r\nana\r\nhola\r\n"


@pytest.mark.parametrize("cut", range(len(b"POST /chat HTTP/1.1\r\n") + 1))
def test_a_web_page_cannot_post_into_the_chat(chat: Chat, cut: int) -> None:
    bo = chat.text("bo")
    line = Line(chat)
    line.send(*(piece for piece in (REQUEST[:cut], REQUEST[cut:]) if piece))
    chat.advance(2)
    assert line.closed
    assert b"".join(line.read_lines()[len(WELCOME) :]) == b""
    assert bo.read() == []
    assert chat.logged[-1].endswith('reason="sent an HTTP request"')


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1", b"OPTIONS * HTTP/1.0", b"PRI * HTTP/2.0", b"CONNECT chat.example:5000 HTTP/1.1"]
)
def test_any_http_is_dropped_without_an_answer(chat: Chat, first: bytes) -> None:
    line = Line(chat)
    line.send(first + b"\r\n")
    assert line.closed
    assert line.read_bytes() == b""


def test_people_may_talk_about_http(chat: Chat) -> None:
    ana, bo = chat.text("ana"), chat.text("bo")
    ana.say("GET / HTTP/1.1")
    assert bo.read() == ["ana: GET / HTTP/1.1"]


def test_who_says_no_name_is_sent_away_after_a_minute(chat: Chat) -> None:
    silent, person, program = TextLine(chat), TextLine(chat), JsonLine(chat)
    person.say("5")
    program.request("ping")
    chat.advance(59.9)
    assert (silent.read(), person.read()[-1], kinds(program)) == (WELCOME, WELCOME[1], ["pong"])
    chat.advance(0.1)
    assert silent.read() == person.read() == ["* Goodbye: no name within a minute."]
    assert program.read() == [{"type": "goodbye", "reason": "no name within a minute"}]
    assert silent.closed
    assert person.closed
    assert program.closed


def test_who_said_a_name_may_be_silent(chat: Chat) -> None:
    ana, bo = chat.text("ana"), chat.json("bo")
    chat.advance(100_000)
    assert not ana.closed
    assert not bo.closed


# How many


def test_one_too_many_is_told_so_in_its_own_kind(tmp_path: Path) -> None:
    with Chat(tmp_path, limits=Limits(2, None)) as chat:
        ana, bo = chat.text("ana"), chat.text("bo")
        program, person, silent = JsonLine(chat), TextLine(chat), TextLine(chat)
        program.send(HELLO)
        person.say("cy")
        (goodbye,) = program.read()
        retry_after = goodbye.pop("retry_after")
        assert goodbye == {"type": "goodbye", "reason": "the server is full"}
        assert 15 <= retry_after <= 45
        assert silent.read() == []
        chat.advance(0.3)
        for line in (person, silent):
            (told,) = line.read()
            assert re.fullmatch(r"\* Goodbye: the server is full; come back in \d\d s\.", told)
        assert program.closed
        assert person.closed
        assert silent.closed
        assert chat.logged[-1].endswith('reason="turned away: the server is full"')
        ana.say("exit")
        assert chat.json("ana").token
        assert not bo.closed


def test_half_a_close_of_a_person_is_an_exit_that_of_a_program_may_be_an_accident(tmp_path: Path) -> None:
    with Chat(tmp_path) as chat:
        ana, bo, cy = chat.text("ana"), chat.json("bo"), chat.text("cy")
        chat.advance(15)
        cy.read()
        ana.finish()
        bo.say("last words", "1")
        bo.finish()
        assert ana.closed
        assert bo.closed
        assert kinds(bo)[-3:] == ["kept", "message", "goodbye"]
        chat.advance(2)
        assert cy.read() == ["* ana left", "bo: last words"]
        assert JsonLine(chat).hello("bo", token=bo.token)["resumed"]


# How fast


def test_a_flood_is_read_slowly_and_loses_nothing(tmp_path: Path) -> None:
    with Chat(tmp_path, limits=Limits(rate=Rate(20, 2))) as chat:
        ana, bo = chat.text("ana"), chat.text("bo")
        chat.advance(10)
        ana.read()
        bo.read()
        ana.say(*map(str, range(100)))
        assert len(bo.read()) == 21
        assert ana.read() == ["! You are too fast: what you send is read more slowly now, nothing is lost."]
        assert not ana.being_read
        chat.advance(1)
        assert bo.read() == [f"ana: {n}" for n in range(21, 31)]
        chat.advance(60)
        assert bo.read() == [f"ana: {n}" for n in range(31, 100)]
        assert ana.read() == []
        assert ana.being_read


def test_a_program_is_told_once_that_it_is_too_fast(tmp_path: Path) -> None:
    with Chat(tmp_path, limits=Limits(rate=Rate(20, 2))) as chat:
        ana = chat.json("ana")
        chat.advance(10)
        for id in range(50):
            ana.say("hola", str(id))
        chat.advance(10)
        answers = ana.read()
        (error,) = (answer for answer in answers if answer["type"] == "error")
        assert (error["code"], error["retry"], "id" in error) == ("too_fast", True, False)
        assert [answer["id"] for answer in answers if answer["type"] == "kept"] == list(map(str, range(50)))


@pytest.mark.parametrize(
    ("request_", "free"),
    [
        ('{"type":"ping"}', 20),
        ('{"type":"join","room":"den"}', 4),
        ('{"type":"search","room":"lobby","words":"x"}', 2),
        ("not JSON", 20),
        ("hola", 20),
        ("/join den", 4),
        ("/search x", 2),
    ],
)
def test_what_costs_more_weighs_more(tmp_path: Path, request_: str, free: int) -> None:
    with Chat(tmp_path, limits=Limits(rate=Rate(20, 2))) as chat:
        ana = chat.json("ana") if request_.startswith(("{", "not")) else chat.text("ana")
        chat.advance(10)
        for _ in range(free):
            ana.send(request_.encode() + b"\n")
            assert ana.being_read
        ana.send(request_.encode() + b"\n")
        assert not ana.being_read


def test_complaints_that_wait_are_bounded_too(tmp_path: Path) -> None:
    with Chat(tmp_path) as chat:
        ana = chat.text("ana")
        ana.socket.window = 0
        for _ in range(2000):
            if ana.being_read:
                ana.send(b"x" * 65_537 + b"\n")
        assert not ana.being_read


def test_a_pause_does_not_outlive_its_connection(tmp_path: Path) -> None:
    with Chat(tmp_path, limits=Limits(rate=Rate(20, 2))) as chat:
        ana, bo = chat.text("ana"), chat.text("bo")
        chat.advance(10)
        ana.say(*map(str, range(50)))
        ana.lose()
        chat.advance(60)
        assert [line for line in bo.read() if line.startswith("ana: ")] == [f"ana: {n}" for n in range(21)]


# The end


def test_a_farewell_reaches_everybody(chat: Chat) -> None:
    ana, bo, new = chat.text("ana"), chat.json("bo"), TextLine(chat)
    chat.factory.stop_reading()
    ana.say("too late")
    closed = chat.factory.farewell("the server is stopping")
    assert not closed.called
    chat.settle()
    assert closed.called
    for line in (ana, new):
        (told,) = line.read()
        assert re.fullmatch(r"\* Goodbye: the server is stopping; come back in \d s\.", told)
    (goodbye,) = bo.read()
    assert goodbye["reason"] == "the server is stopping"
    assert 0.5 <= goodbye["retry_after"] <= 3
    assert chat.factory.clients == {}


def test_with_nobody_there_the_farewell_is_over_at_once(chat: Chat) -> None:
    assert chat.factory.farewell("the server is stopping").called


def test_who_does_not_take_the_farewell_is_cut_off(chat: Chat) -> None:
    ana = chat.json("ana")
    ana.socket.window = 0
    chat.factory.stop_reading()
    closed = chat.factory.farewell("the server is stopping")
    chat.advance(10)
    assert not closed.called
    chat.factory.abort()
    chat.settle()
    assert closed.called
    assert ana.closed


def test_who_comes_while_the_server_stops_is_dropped(chat: Chat) -> None:
    chat.factory.stop_reading()
    line = Line(chat)
    assert line.closed
    assert line.read_bytes() == b""


def test_who_is_leaving_is_not_told_twice(chat: Chat) -> None:
    ana = chat.text("ana")
    ana.socket.window = 0
    ana.say("exit")
    chat.factory.farewell("the server is stopping")
    ana.take(None)
    assert ana.read() == ["* Goodbye."]
    assert ana.closed


def test_what_comes_after_the_goodbye_is_thrown_away(tmp_path: Path) -> None:
    with Chat(tmp_path) as chat:
        ana, bo = chat.text("ana"), chat.text("bo")
        chat.advance(2)
        bo.read()
        ana.socket.polite = False
        ana.say("exit")
        ana.say("ana", "hola")
        chat.advance(LINGER - 0.01)
        assert ana.read()[-1] == "* Goodbye."
        assert bo.read() == ["* ana left"]
        assert not ana.closed
        chat.advance(0.01)
        assert ana.closed


def test_a_connection_leaves_no_timer(chat: Chat) -> None:
    lines = [Line(chat), chat.text("ana")]
    for line in lines:
        line.lose()
    chat.advance(2)
    assert chat.clock.getDelayedCalls() == []


# The log


@pytest.mark.parametrize(
    ("leave", "reason"),
    [
        (lambda line: line.say("exit"), "bye"),
        (lambda line: line.finish(), '"closed its side"'),
        (lambda line: line.lose(), '"Connection to the other side was lost in a non-clean fashion."'),
    ],
)
def test_who_left_and_why_is_logged(tmp_path: Path, leave, reason: str) -> None:  # type: ignore[no-untyped-def]
    with Chat(tmp_path) as chat:
        ana = chat.text("ana")
        chat.advance(12.5)
        leave(ana)
        assert chat.logged == [
            "connected connection=1 door=tcp peer=203.0.113.7:50007",
            "named connection=1 name=ana resumed=false",
            "joined connection=1 name=ana room=lobby",
            f"disconnected connection=1 name=ana seconds=12.5 reason={reason}",
        ]


@pytest.mark.parametrize(
    ("addr", "shown"),
    [
        (IPv4Address("TCP", "203.0.113.7", 5), "203.0.113.7:5"),
        (IPv6Address("TCP", "2001:db8::1", 5), "[2001:db8::1]:5"),
        (IPv6Address("TCP", "::ffff:203.0.113.7", 5), "203.0.113.7:5"),
        (UNIXAddress("/run/chatd.sock"), "unix"),
        (None, "unix"),
    ],
)
def test_addresses_as_people_write_them(addr: IAddress | None, shown: str) -> None:
    assert address(addr) == shown


def test_the_factory_is_a_door(tmp_path: Path) -> None:
    with Chat(tmp_path) as chat:
        assert verifyClass(IDoor, ChatFactory)
        assert verifyObject(IDoor, chat.factory)
