"""Lines from bytes: the same ones however the bytes come, and a bound on each."""

from __future__ import annotations

import tracemalloc
from collections.abc import Collection
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.testing import StringTransport
from zope.interface.verify import verifyObject

from chatd.framing import BoundedLineReceiver

TOO_LONG = "too long"
ENDED = "ended"

#: Of few characters, so that line ends, empty lines and long ones are frequent.
streams = st.lists(st.sampled_from([b"a", b"\n", b"\r\n", b"\r", b"bcd", b"\n\n", b"12345678"])).map(b"".join)


class Recorder(BoundedLineReceiver):
    """Writes down what happens; after so many lines, `pause_after`, it pauses itself."""

    MAX_LENGTH = 8

    def __init__(self, pause_after: Collection[int] = ()) -> None:
        super().__init__()
        self.seen: list[bytes | str] = []
        self._pause_after = pause_after

    def lineReceived(self, line: bytes) -> None:
        self._note(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        self._note(TOO_LONG)

    def inputEnded(self) -> None:
        self.seen.append(ENDED)

    def _note(self, what: bytes | str) -> None:
        self.seen.append(what)
        if len(self.seen) in self._pause_after:
            self.pauseProducing()


def recorder(pause_after: Collection[int] = ()) -> Recorder:
    made = Recorder(pause_after)
    made.makeConnection(StringTransport())
    return made


def expected(stream: bytes, most: int = Recorder.MAX_LENGTH) -> list[bytes | str]:
    """What comes of a stream, said another way."""
    *lines, rest = stream.split(b"\n")
    seen: list[bytes | str] = [TOO_LONG if len(line) > most else line.removesuffix(b"\r") for line in lines]
    return [*seen, TOO_LONG] if len(rest) > most else seen


def pieces(stream: bytes, data: st.DataObject) -> list[bytes]:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)))) | {0, len(stream)})
    return [stream[begin:end] for begin, end in pairwise(cuts)]


@given(streams, st.data())
def test_any_pieces_give_the_same_lines(stream: bytes, data: st.DataObject) -> None:
    lines = recorder()
    for piece in pieces(stream, data):
        lines.dataReceived(piece)
    assert lines.seen == expected(stream)


@given(streams, st.data())
def test_what_was_complete_is_delivered_at_once(stream: bytes, data: st.DataObject) -> None:
    lines = recorder()
    parts = pieces(stream, data)
    for piece, so_far in zip(parts, accumulate(parts), strict=True):
        lines.dataReceived(piece)
        assert lines.seen == expected(so_far)


@given(streams, st.data())
def test_pauses_keep_back_and_lose_nothing(stream: bytes, data: st.DataObject) -> None:
    stops = data.draw(st.sets(st.integers(1, 8)))
    lines = recorder(stops)
    for piece in pieces(stream, data):
        lines.dataReceived(piece)
        before = list(lines.seen)
        assert not lines.paused or len(before) in stops
        if lines.paused and data.draw(st.booleans()):
            lines.resumeProducing()
            assert lines.seen[: len(before)] == before
    while lines.paused:
        lines.resumeProducing()
    assert lines.seen == expected(stream)


@given(streams, st.data())
def test_the_end_comes_once_and_last(stream: bytes, data: st.DataObject) -> None:
    lines = recorder(data.draw(st.sets(st.integers(1, 8))))
    for piece in pieces(stream, data):
        lines.dataReceived(piece)
    lines.readConnectionLost()
    while lines.paused:
        assert ENDED not in lines.seen
        lines.resumeProducing()
    rest = stream.rpartition(b"\n")[2]
    last = [rest.removesuffix(b"\r")] if 0 < len(rest) <= Recorder.MAX_LENGTH else []
    assert lines.seen == [*expected(stream), *last, ENDED]


def test_a_pause_stops_the_lines_that_have_arrived() -> None:
    lines = recorder({1})
    lines.dataReceived(b"one\ntwo\nthree\n")
    assert lines.seen == [b"one"]
    lines.resumeProducing()
    assert lines.seen == [b"one", b"two", b"three"]


def test_resuming_while_a_line_is_handled_keeps_the_order() -> None:
    class Impatient(Recorder):
        def lineReceived(self, line: bytes) -> None:
            self.pauseProducing()
            self.resumeProducing()
            super().lineReceived(line)

    lines = Impatient()
    lines.makeConnection(StringTransport())
    lines.dataReceived(b"1\n2\n3\n")
    assert lines.seen == [b"1", b"2", b"3"]


@pytest.mark.parametrize(("size", "fits"), [(64 * 1024, True), (64 * 1024 + 1, False)])
def test_the_limit(size: int, fits: bool) -> None:
    class Wide(Recorder):
        MAX_LENGTH = BoundedLineReceiver.MAX_LENGTH

    lines = Wide()
    lines.makeConnection(StringTransport())
    line = b"x" * size
    lines.dataReceived(line + b"\nnext\n")
    assert lines.seen == [line if fits else TOO_LONG, b"next"]


def test_a_line_without_end_takes_no_memory_and_one_report() -> None:
    lines = recorder()
    chunk = b"x" * 4096
    lines.dataReceived(b"before\n")
    tracemalloc.start()
    try:
        for _ in range(10_000):
            lines.dataReceived(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024
    lines.dataReceived(b"\nafter\n")
    assert lines.seen == [b"before", TOO_LONG, b"after"]


def test_an_error_in_a_line_does_not_wedge_the_rest() -> None:
    class Failing(Recorder):
        def lineReceived(self, line: bytes) -> None:
            super().lineReceived(line)
            if line == b"bad":
                raise RuntimeError

    lines = Failing()
    lines.makeConnection(StringTransport())
    with pytest.raises(RuntimeError):
        lines.dataReceived(b"bad\ngood\n")
    lines.dataReceived(b"")
    assert lines.seen == [b"bad", b"good"]


def test_it_is_told_of_half_a_close() -> None:
    assert verifyObject(IHalfCloseableProtocol, recorder())
