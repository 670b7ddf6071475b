"""The client's connection: what is read, what a silence means, and when to come back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from chatd import wire
from chatd.client.connection import (
    LASTED,
    LONG,
    MAX_RETRY_AFTER,
    PATIENCE,
    QUIET,
    SHORT,
    SOON,
    WELCOME,
    Backoff,
    Link,
    certificates,
)
from tests.harness import MemorySocket

HELLO = wire.Welcome(name="ana", token="t", server="x", log="l", resumed=False)
MESSAGE = wire.Message(room="lobby", seq=1, name="bob", at="2026-11-22T14:05:31.250Z", text="žluť")


class Heard:
    """What a link tells."""

    def __init__(self) -> None:
        self.answers: list[wire.AnyAnswer] = []
        self.puzzled = 0
        self.made: list[Link] = []
        self.lost: list[Failure] = []

    def link_made(self, link: Link) -> None:
        self.made.append(link)

    def received(self, answer: wire.AnyAnswer) -> None:
        self.answers.append(answer)

    def not_understood(self) -> None:
        self.puzzled += 1

    def link_lost(self, link: Link, reason: Failure) -> None:
        self.lost.append(reason)

    def not_connected(self, reason: Failure) -> None:
        raise AssertionError("a link is a connection")


class Wire:
    """A link, to a server that the test plays."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.heard = Heard()
        self.link = Link(self.heard, self.clock)
        self.socket = MemorySocket(self.clock)
        self.socket.connect(self.link)

    def settle(self) -> None:
        """Do what can be done now."""
        self.clock.advance(0)
        while self.socket.turn():
            self.clock.advance(0)

    def say(self, *pieces: bytes) -> None:
        """The server says this, piece by piece."""
        self.socket.incoming.extend(piece for piece in pieces if piece)
        self.settle()

    def welcome(self) -> None:
        """The server lets us in."""
        self.say(wire.encode(HELLO))

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)
        self.settle()

    def sent(self) -> list[wire.AnyRequest]:
        """What was sent since it was asked last."""
        data = bytes(self.socket.arrived)
        self.socket.arrived.clear()
        return [wire.decode_request(line) for line in data.splitlines()]


@pytest.fixture
def line() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.socket.lose()
    assert made.clock.getDelayedCalls() == [], "a lost connection leaves no timer"


def test_requests_are_lines(line: Wire) -> None:
    line.link.send(wire.Hello(name="ana"))
    line.settle()
    assert line.sent() == [wire.Hello(name="ana")]


@given(st.lists(st.integers(1, 60), max_size=12))
def test_any_pieces_give_the_same_answers(sizes: list[int]) -> None:
    line = Wire()
    data = wire.encode(HELLO) + wire.encode(MESSAGE) * 3
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    line.say(*pieces, data)
    assert line.heard.answers == [HELLO, MESSAGE, MESSAGE, MESSAGE]


def test_a_greeting_for_people_is_passed_over(line: Wire) -> None:
    line.say(b"* Welcome. What is your name?\r\n")
    line.welcome()
    assert line.heard.answers == [HELLO]
    assert line.link.answered


def test_what_is_no_answer_is_told_once(line: Wire) -> None:
    line.welcome()
    line.say(b"nonsense\r\n", b"{}\n", b'{"type":"later","x":1}\n', b"[" * 100_000 + b"\n")
    assert line.heard.puzzled == 1
    assert line.heard.answers == [HELLO]


def test_types_of_a_later_protocol_are_ignored(line: Wire) -> None:
    line.welcome()
    line.say(b'{"type":"reaction","room":"lobby","seq":1}\n')
    assert line.heard.puzzled == 0


def test_a_line_without_end_is_thrown_away(line: Wire) -> None:
    line.welcome()
    for _ in range(100):
        line.say(b"x" * 10_000)
    line.say(b"\n", wire.encode(MESSAGE))
    assert line.heard.puzzled == 1
    assert line.heard.answers == [HELLO, MESSAGE]


def test_what_says_nothing_is_given_up(line: Wire) -> None:
    line.wait(WELCOME - 0.1)
    assert line.heard.lost == []
    line.wait(0.1)
    line.settle()
    assert len(line.heard.lost) == 1
    assert line.link.mute
    assert line.link.heard == b""


def test_what_says_something_else_is_remembered(line: Wire) -> None:
    line.say(b"SSH-2.0-Open", b"SSH\r\n")
    line.wait(WELCOME)
    assert line.link.heard == b"SSH-2.0-OpenSSH\r\n"
    assert not line.link.answered


def test_while_a_person_chooses_another_name_nothing_is_due(line: Wire) -> None:
    line.say(wire.encode(wire.Error(code="name_in_use", text="taken", retry=False)))
    line.wait(WELCOME * 10)
    assert line.heard.lost == []
    assert line.sent() == []


def test_a_quiet_line_is_pinged_and_a_dead_one_given_up(line: Wire) -> None:
    line.welcome()
    line.wait(QUIET)
    assert line.sent() == [wire.Ping()]
    line.say(wire.encode(wire.Pong()))
    line.wait(QUIET)
    assert line.sent() == [wire.Ping()]
    line.wait(PATIENCE - 0.1)
    assert line.heard.lost == []
    line.wait(0.1)
    line.settle()
    assert len(line.heard.lost) == 1


def test_a_line_on_which_something_comes_is_not_pinged(line: Wire) -> None:
    line.welcome()
    for _ in range(10):
        line.wait(QUIET - 1)
        line.say(wire.encode(MESSAGE))
    assert line.sent() == []


def test_time_in_which_we_do_not_read_says_nothing(line: Wire) -> None:
    line.welcome()
    line.link.pauseProducing()
    line.socket.incoming.append(wire.encode(MESSAGE))
    line.wait((QUIET + PATIENCE) * 3)
    assert (line.heard.answers, line.heard.lost, line.sent()) == ([HELLO], [], [])
    line.link.resumeProducing()
    line.settle()
    assert line.heard.answers == [HELLO, MESSAGE]


def test_what_arrived_before_the_end_counts_and_what_is_read_after_it_does_not(line: Wire) -> None:
    line.welcome()
    line.say(wire.encode(MESSAGE))
    line.link.pauseProducing()
    line.link.dataReceived(wire.encode(MESSAGE))
    line.socket.lose()
    line.link.resumeProducing()
    assert line.heard.answers == [HELLO, MESSAGE]


def test_a_server_that_closes_its_side_is_left(line: Wire) -> None:
    line.welcome()
    line.socket.finish()
    line.settle()
    line.settle()
    assert len(line.heard.lost) == 1


# When to come back


def backoff(share: float = 1.0) -> tuple[Clock, Backoff]:
    clock = Clock()
    clock.advance(1_000_000)
    return clock, Backoff(clock, lambda: share)


def delays(clock: Clock, policy: Backoff, count: int) -> list[float]:
    """The next waits, each of which passes."""
    found = []
    for attempt in range(count):
        found.append(policy(attempt))
        clock.advance(found[-1])
    return found


def test_after_a_loss_the_first_try_is_at_once() -> None:
    clock, policy = backoff()
    policy.welcomed()
    clock.advance(LASTED)
    policy.lost()
    assert delays(clock, policy, 6) == [0, 1, 2, 4, 8, SHORT]


def test_later_the_tries_are_further_apart() -> None:
    clock, policy = backoff()
    waits = delays(clock, policy, 40)
    assert max(waits[:14]) == SHORT
    assert waits[-1] == LONG
    assert sum(waits[: waits.index(LONG)]) >= SOON


@given(st.floats(0, 1, exclude_max=True))
def test_full_jitter(share: float) -> None:
    clock, policy = backoff(share)
    for wait, most in zip(delays(clock, policy, 4), (1, 2, 4, 8), strict=True):
        assert wait == share * most


def test_a_server_that_lets_in_and_throws_out_is_not_hammered() -> None:
    clock, policy = backoff()
    waits = []
    for _ in range(20):
        policy.welcomed()
        clock.advance(0.1)
        policy.lost()
        waits += delays(clock, policy, 1)
    assert sum(waits) > SOON


def test_a_server_may_ask_for_time() -> None:
    clock, policy = backoff(0.5)
    policy.welcomed()
    clock.advance(LASTED)
    policy.retry_after(3.0)
    policy.lost()
    assert delays(clock, policy, 3) == [3.0 + 0.5 * 3.0, 0.5 * 1, 0.5 * 2]


@pytest.mark.parametrize(("asked", "waited"), [(1e300, MAX_RETRY_AFTER), (-1e300, 0.0), (0.0, 0.0)])
def test_it_may_not_ask_for_everything(asked: float, waited: float) -> None:
    clock, policy = backoff(0.0)
    policy.welcomed()
    clock.advance(LASTED)
    policy.retry_after(asked)
    policy.lost()
    assert policy(1) == waited


def test_certificates_that_are_none() -> None:
    for text in ("", "hello", "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"):
        with pytest.raises(ValueError, match="certificate"):
            certificates(text)


def test_the_reason_of_a_loss_is_passed_on(line: Wire) -> None:
    line.socket.lose(ConnectionLost())
    assert line.heard.lost[0].check(ConnectionLost)
