"""The server's side of a WebSocket (RFC 6455): the handshake, and frames from and to bytes. It does no I/O.

Why not `twisted.web.websocket`: it puts messages together without a bound and writes to the transport itself, and
here the outbox is the only writer, with one frame that all members share.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import NamedTuple

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES = 16
_FIN, _RESERVED, _MASKED = 0x80, 0x70, 0x80
_MAX_CONTROL = 125
#: A message may come in so many pieces. Browsers send one.
_MAX_PIECES = 1024


class Opcode(IntEnum):
    """What a frame is."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


_OPCODES = frozenset(Opcode)


class Code(IntEnum):
    """Why a WebSocket is closed."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED = 1003
    NO_CODE = 1005
    BAD_TEXT = 1007
    TOO_BIG = 1009


class Refused(Exception):
    """The request is no handshake that this server takes. `headers` belong into the answer."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers or {}


class Broken(Exception):
    """The peer broke the protocol: the connection is closed with this code."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


def accept(header: Callable[[str], str | None]) -> bytes:
    """The answer to a handshake, whose headers `header` looks up. Raises Refused."""
    if (header("upgrade") or "").strip().lower() != "websocket" or "upgrade" not in _tokens(header("connection")):
        raise Refused(426, "this is for WebSockets", {"Upgrade": "websocket", "Connection": "Upgrade"})
    if (header("sec-websocket-version") or "").strip() != "13":
        raise Refused(426, "this speaks version 13 of WebSocket", {"Sec-WebSocket-Version": "13"})
    key = (header("sec-websocket-key") or "").strip()
    try:
        size = len(base64.b64decode(key, validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if size != _KEY_BYTES:
        raise Refused(400, "Sec-WebSocket-Key is not 16 bytes in base64")
    proof = base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + proof + b"\r\n\r\n"
    )


def _tokens(value: str | None) -> list[str]:
    return [token.strip().lower() for token in (value or "").split(",")]


def frame(payload: bytes, opcode: Opcode = Opcode.TEXT) -> bytes:
    """A whole message as one frame. The server's are not masked, so all members can share its bytes."""
    size = len(payload)
    if size <= _MAX_CONTROL:
        return bytes((_FIN | opcode, size)) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", _FIN | opcode, 126, size) + payload
    return struct.pack("!BBQ", _FIN | opcode, 127, size) + payload


def close(code: Code, reason: str = "") -> bytes:
    """The frame that ends the conversation."""
    payload = b"" if code == Code.NO_CODE else struct.pack("!H", code) + reason.encode()
    return frame(payload[:_MAX_CONTROL], Opcode.CLOSE)


class Event(NamedTuple):
    """What came: a whole text message, a ping or pong, or a close. The payload of a text is UTF-8."""

    opcode: Opcode
    payload: bytes


class Reader:
    """Makes events of what a client sends, whatever the pieces it comes in.

    Not more than `limit` bytes of a message are ever kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that are complete now. Raises Broken, once those before it have been taken."""
        self._buffer += data
        while (found := self._frame()) is not None:
            first, payload, end = found
            del self._buffer[:end]
            event = self._event(first, payload)
            if event is not None:
                yield event

    def _frame(self) -> tuple[int, bytes, int] | None:
        """The first byte of the frame that comes next, its payload, unmasked, and its end. None: not whole yet."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        self._check(first, second)
        size = second & 0x7F
        at = 2
        if size > _MAX_CONTROL:
            at += 2 if size == 126 else 8
            if len(buffer) < at:
                return None
            size = int.from_bytes(buffer[2:at], "big")
        if first & 0x0F < Opcode.CLOSE and self._size + size > self._limit:
            raise Broken(Code.TOO_BIG, f"a message has at most {self._limit} bytes")
        end = at + 4 + size
        if len(buffer) < end:
            return None
        return first, _unmasked(buffer[at + 4 : end], bytes(buffer[at : at + 4])), end

    def _check(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        if first & _RESERVED or opcode not in _OPCODES:
            raise Broken(Code.PROTOCOL_ERROR, "a frame of an unknown kind")
        if not second & _MASKED:
            raise Broken(Code.PROTOCOL_ERROR, "a frame without a mask")
        if opcode >= Opcode.CLOSE and (not first & _FIN or second & 0x7F > _MAX_CONTROL):
            raise Broken(Code.PROTOCOL_ERROR, "a control frame that is too long or in pieces")
        if opcode == Opcode.BINARY:
            raise Broken(Code.UNSUPPORTED, "messages are text here")
        if opcode in (Opcode.TEXT, Opcode.CONTINUATION) and (opcode == Opcode.CONTINUATION) != bool(self._pieces):
            raise Broken(Code.PROTOCOL_ERROR, "pieces of messages out of order")

    def _event(self, first: int, payload: bytes) -> Event | None:
        opcode = Opcode(first & 0x0F)
        if opcode >= Opcode.CLOSE:
            return Event(opcode, payload)
        self._pieces.append(payload)
        self._size += len(payload)
        if len(self._pieces) > _MAX_PIECES:
            raise Broken(Code.TOO_BIG, f"a message has at most {_MAX_PIECES} pieces")
        if not first & _FIN:
            return None
        message = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        try:
            message.decode()
        except UnicodeDecodeError:
            raise Broken(Code.BAD_TEXT, "a message that is not UTF-8") from None
        return Event(Opcode.TEXT, message)


def _unmasked(payload: bytearray, mask: bytes) -> bytes:
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")
