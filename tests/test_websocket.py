"""The frames of WebSockets, beside wsproto, which speaks the client's side."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.events import Event as Sent

from chatd.web.websocket import Broken, Code, Event, Opcode, Reader, Refused, accept, close, frame

LIMIT = 64 * 1024


def sent(*events: Sent) -> bytes:
    """What a client sends."""
    client = Connection(ConnectionType.CLIENT)
    return b"".join(client.send(event) for event in events)


def raw(first: int, payload: bytes = b"", masked: bool = True) -> bytes:
    """A frame that wsproto would not make: its first byte, and a mask of nothing."""
    assert len(payload) < 126
    return bytes((first, len(payload) | 0x80 * masked)) + bytes(4) * masked + payload


def read(data: bytes, limit: int = LIMIT) -> list[Event]:
    return list(Reader(limit).feed(data))


TEXTS = st.text(st.characters(codec="utf-8"), max_size=300) | st.sampled_from(
    ["x" * 125, "x" * 126, "x" * 65535, "x" * 65536]
)


@given(
    st.lists(st.lists(TEXTS, min_size=1, max_size=4).filter(lambda pieces: len("".join(pieces)) <= LIMIT // 4)),
    st.data(),
)
def test_messages_arrive_whole_whatever_the_pieces(messages: list[list[str]], data: st.DataObject) -> None:
    events: list[Sent] = []
    expected: list[Event] = []
    for number, pieces in enumerate(messages):
        for place, piece in enumerate(pieces):
            events.append(TextMessage(piece, message_finished=place == len(pieces) - 1))
            if data.draw(st.booleans(), "a ping in between"):
                events.append(Ping(str(number).encode()))
                expected.append(Event(Opcode.PING, str(number).encode()))
        # A ping behind the last piece comes after the message.
        pinged = expected.pop() if isinstance(events[-1], Ping) else None
        expected.append(Event(Opcode.TEXT, "".join(pieces).encode()))
        expected += [pinged] if pinged else []
    line = sent(*events)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(line)), max_size=6), "cuts"))
    reader = Reader(LIMIT)
    arrived = []
    for begin, end in zip([0, *cuts], [*cuts, len(line)], strict=True):
        arrived += list(reader.feed(line[begin:end]))
    assert arrived == expected


@given(st.binary(max_size=70_000) | st.sampled_from([b"x" * size for size in (125, 126, 65535, 65536)]))
def test_what_is_framed_here_is_read_there(payload: bytes) -> None:
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(frame(payload, Opcode.BINARY))
    assert b"".join(event.data for event in client.events() if isinstance(event, BytesMessage)) == payload


def test_control_frames_are_read_there() -> None:
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(frame(b"a", Opcode.PING) + frame(b"b", Opcode.PONG) + close(Code.GOING_AWAY, "later"))
    assert list(client.events()) == [Ping(b"a"), Pong(b"b"), CloseConnection(1001, "later")]


def test_control_frames_from_there() -> None:
    events = read(sent(Ping(b"a"), Pong(b"b"), CloseConnection(1000, "bye")))
    assert events == [
        Event(Opcode.PING, b"a"),
        Event(Opcode.PONG, b"b"),
        Event(Opcode.CLOSE, struct.pack("!H", 1000) + b"bye"),
    ]


BROKEN = {
    "no mask": (raw(0x81, b"hi", masked=False), Code.PROTOCOL_ERROR),
    "reserved bit": (raw(0xC1, b"hi"), Code.PROTOCOL_ERROR),
    "unknown opcode": (raw(0x83), Code.PROTOCOL_ERROR),
    "a ping in pieces": (raw(0x09), Code.PROTOCOL_ERROR),
    "a ping too long": (bytes((0x89, 0xFE)) + struct.pack("!H", 126) + bytes(130), Code.PROTOCOL_ERROR),
    "goes on with nothing": (raw(0x80, b"hi"), Code.PROTOCOL_ERROR),
    "a new one in between": (raw(0x01, b"hi") + raw(0x81, b"hi"), Code.PROTOCOL_ERROR),
    "bytes": (sent(BytesMessage(b"hi")), Code.UNSUPPORTED),
    "not UTF-8": (raw(0x81, b"\xff"), Code.BAD_TEXT),
    "half a letter": (raw(0x81, "é".encode()[:1]), Code.BAD_TEXT),
}


@pytest.mark.parametrize(("data", "code"), BROKEN.values(), ids=BROKEN)
def test_who_breaks_the_protocol_is_told_how(data: bytes, code: Code) -> None:
    reader = Reader(LIMIT)
    before = sent(TextMessage("before"))
    events: list[Event] = []
    with pytest.raises(Broken) as broken:
        events.extend(reader.feed(before + data))
    assert broken.value.code == code
    assert events == [Event(Opcode.TEXT, b"before")]


def test_a_letter_may_be_cut_by_the_end_of_a_piece() -> None:
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert read(raw(0x01, first) + raw(0x80, second)) == [Event(Opcode.TEXT, "é".encode())]


def test_a_message_of_the_limit_fits_and_one_more_byte_does_not() -> None:
    assert len(read(sent(TextMessage("x" * LIMIT)))[0].payload) == LIMIT
    with pytest.raises(Broken) as broken:
        read(sent(TextMessage("x" * (LIMIT + 1))))
    assert broken.value.code == Code.TOO_BIG


def test_a_message_is_too_big_before_it_is_put_together() -> None:
    reader = Reader(LIMIT)
    half = sent(TextMessage("x" * (LIMIT // 2), message_finished=False))
    assert list(reader.feed(half)) == []
    # The next piece only says how long it will be.
    with pytest.raises(Broken) as broken:
        list(reader.feed(bytes((0x00, 0xFE)) + struct.pack("!H", LIMIT // 2 + 1)))
    assert broken.value.code == Code.TOO_BIG


def test_a_size_that_no_memory_holds() -> None:
    with pytest.raises(Broken) as broken:
        read(bytes((0x81, 0xFF)) + struct.pack("!Q", 1 << 62))
    assert broken.value.code == Code.TOO_BIG


def test_a_message_may_not_come_in_very_many_pieces() -> None:
    with pytest.raises(Broken) as broken:
        read(raw(0x01) + raw(0x00) * 5000)
    assert broken.value.code == Code.TOO_BIG


# The handshake

GOOD = {
    "upgrade": "websocket",
    "connection": "keep-alive, Upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def headers(**changed: str | None) -> Callable[[str], str | None]:
    return {**GOOD, **{name.replace("_", "-"): value for name, value in changed.items()}}.get


def test_the_example_of_the_standard() -> None:
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in accept(headers())


REFUSED = {
    "no upgrade": (headers(upgrade=None), 426),
    "another upgrade": (headers(upgrade="h2c"), 426),
    "not on this connection": (headers(connection="keep-alive"), 426),
    "another version": (headers(sec_websocket_version="8"), 426),
    "no key": (headers(sec_websocket_key=None), 400),
    "a key of 15 bytes": (headers(sec_websocket_key="dGhlIHNhbXBsZSBub25j"), 400),
    "no base64": (headers(sec_websocket_key="ñ"), 400),
}


@pytest.mark.parametrize(("header", "status"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_handshake_is_refused(header: Callable[[str], str | None], status: int) -> None:
    with pytest.raises(Refused) as refused:
        accept(header)
    assert refused.value.status == status


def test_the_version_that_is_spoken_is_named() -> None:
    with pytest.raises(Refused) as refused:
        accept(headers(sec_websocket_version="8"))
    assert refused.value.headers == {"Sec-WebSocket-Version": "13"}
