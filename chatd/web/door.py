"""The door for browsers: the JSON messages, in the frames of a WebSocket."""

from __future__ import annotations

import fcntl
import struct
import termios
from collections.abc import Sequence

from msgspec import Struct

from chatd import wire
from chatd.events import Joined, Left, Message, Part, Presence
from chatd.jsonlines import JsonLines, JsonMember, part
from chatd.member import Context
from chatd.server import ChatFactory, ChatProtocol, Limits
from chatd.web.websocket import Broken, Code, Event, Opcode, Reader, close, frame

#: Lines of a batch share a frame up to so many bytes: of a short write, what is left of one frame is kept.
FRAME = 16 * 1024
#: Every so many seconds a browser is asked whether it is there; that also keeps proxies from closing the line.
PING_EVERY = 30.0


class WebLines(JsonLines):
    """What happens, as frames that all browsers share."""

    def encode(self, messages: Sequence[Message]) -> list[Part]:
        parts: list[Part] = []
        lines: list[bytes] = []
        size = 0
        for said in messages:
            encoded = part(said).data
            if lines and size + len(encoded) > FRAME:
                parts.append(Part(frame(b"".join(lines)), said.seq - 1))
                lines, size = [], 0
            lines.append(encoded)
            size += len(encoded)
        if lines:
            parts.append(Part(frame(b"".join(lines)), messages[-1].seq))
        return parts

    def announce(self, event: Joined | Left | Presence) -> bytes:
        return frame(super().announce(event))


class WebMember(JsonMember):
    """A browser on a connection."""

    dialect = WebLines()

    def encode(self, message: Struct) -> bytes:
        return frame(super().encode(message))

    def say_goodbye(self, reason: str, retry_after: float | None) -> None:
        super().say_goodbye(reason, retry_after)
        self.outbox.answer(close(Code.GOING_AWAY))


class WebProtocol(ChatProtocol):
    """One WebSocket, after its handshake, whose `answer` is the first that is sent.

    A line is what it is on other doors; a message of the WebSocket holds one or more.
    """

    member: WebMember

    def __init__(self, door: WebFactory, peer: str, answer: bytes) -> None:
        super().__init__(door, peer)
        self._answer = answer
        self._reader = Reader(wire.MAX_LINE)
        self._spoken = True
        self._patience = door.patience
        self._heard = False
        self._silent = 0.0
        self._parting = False

    def _begin(self) -> None:
        self.member = WebMember(self._door.context, self._door, self.transport, self.number)
        self.member.outbox.answer(self._answer)
        if self.surplus:
            self._turn_away()
        self._later(PING_EVERY, self._ping)

    def dataReceived(self, data: bytes) -> None:
        # Who has been let go may send on until the line is closed, which takes a while where it is slow or TLS.
        if self._lingering or self.member.leaving:
            return
        if not data:
            # Reading goes on after a pause: first with the lines that have come.
            super().dataReceived(b"")
            return
        self._heard = True
        try:
            for event in self._reader.feed(data):
                if self.member.leaving:
                    break
                self._handle(event)
        except Broken as broken:
            self._end(broken.code, f"broke the protocol: {broken}")

    def _handle(self, event: Event) -> None:
        if event.opcode == Opcode.TEXT:
            super().dataReceived(event.payload + b"\n")
        elif event.opcode == Opcode.PING:
            self.member.outbox.answer(frame(event.payload, Opcode.PONG))
            self._wait_for(self.member.outbox.congestion())
        elif event.opcode == Opcode.CLOSE:
            self._end(Code.NORMAL, "closed")

    def _end(self, code: Code, reason: str) -> None:
        """Close the WebSocket. The session stays for the grace time, as when a connection is lost."""
        self.reason = reason
        self.member.leaving = True
        self.member.outbox.answer(close(code))
        self.member.outbox.close()

    def _ping(self) -> None:
        self._later(PING_EVERY, self._ping)
        if self.member.leaving:
            # Over TLS, a close waits for the peer's.
            if self._parting:
                self.transport.abortConnection()  # type: ignore[union-attr]
            self._parting = True
            return
        # While nothing is read from it, and while it has not taken all that was sent, it cannot answer: that a
        # peer takes nothing at all, the kernel finds out.
        if self._heard or self._holds or unsent(self.transport):
            self._silent = 0.0
        else:
            self._silent += PING_EVERY
        self._heard = False
        if self._silent >= self._patience:
            self.drop(f"did not answer for {self._patience:g} s")
        else:
            self.member.outbox.answer(frame(b"", Opcode.PING))


class WebFactory(ChatFactory):
    """Holds the connections of browsers. `patience`: who answers no ping for so many seconds is cut off."""

    door = "web"

    def __init__(self, context: Context, limits: Limits, patience: float) -> None:
        super().__init__(context, limits)
        self.patience = patience

    def connect(self, peer: str, answer: bytes) -> WebProtocol:
        """The protocol for a connection whose handshake is to be answered so."""
        protocol = WebProtocol(self, peer, answer)
        protocol.factory = self
        return protocol


def unsent(transport: object) -> int:
    """How many bytes wait in the kernel for the peer to take them."""
    try:
        waiting = fcntl.ioctl(transport.fileno(), termios.TIOCOUTQ, bytes(4))  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return 0
    return int(struct.unpack("i", waiting)[0])
