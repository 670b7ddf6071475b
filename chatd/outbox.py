"""What stands between a member and its transport, and the only writer to that transport.

A member is live, and then each batch is written as it is committed; or its line was slower than the chat, and then
it is behind: nothing is queued for it, and it reads pages of its rooms' logs whenever its transport has drained,
until it is at the end of all of them. Joining with history and coming back after a lost connection are the same:
a cursor that is not at the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from chatd.events import Message, Part
from chatd.interfaces import IMember
from chatd.pipes import pipe_for
from chatd.room import Room

#: With so many bytes of answers waiting, a connection is not read.
MAX_WAITING = 64 * 1024
#: Members that are behind get so much of a reactor turn, in seconds; then the live ones come first again.
TURN = 0.01
#: A page that could not be read is tried again after so many seconds.
AGAIN = 1.0


class Encoded:
    """A batch as one dialect says it: encoded once, shared by all its members."""

    __slots__ = ("data", "parts")

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.data = b"".join([part.data for part in parts])


class Turns:
    """Gives the members that are behind a share of each reactor turn, one page at a time, one after the other."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._call: IDelayedCall | None = None

    def want(self, turn: Callable[[], None]) -> None:
        """Call it in one of the next turns."""
        self._waiting.append(turn)
        if self._call is None:
            self._call = self._clock.callLater(0, self._take)

    def _take(self) -> None:
        self._call = None
        until = self._clock.seconds() + TURN
        for _ in range(len(self._waiting)):
            self._waiting.popleft()()
            if self._clock.seconds() > until:
                break
        if self._waiting and self._call is None:
            self._call = self._clock.callLater(0, self._take)


class Reading(Protocol):
    """What an outbox asks of the member whose it is."""

    def render(self, room: Room, messages: Sequence[Message]) -> list[Part]:
        """A page as this member is to see it."""

    def gap(self, room: Room, first: int, last: int) -> bytes:
        """That these messages are no longer kept."""

    def presence(self, room: Room) -> bytes:
        """Who is in the room, for a member that may have missed who came and left."""

    def page(self, room: Room, after: int) -> list[Message] | Deferred[list[Message]]:
        """The next messages behind a number, none above the room's last."""


class Outbox:
    """Writes to one member's transport.

    Requirements, which all else rests on:

    1. A member is live in its rooms only while nothing is buffered for it and its cursor is at the end of each.
    2. While it is behind, nothing is queued but answers to its own requests (bounded: see `congestion`) and the
       rest of the one line whose sending has begun.
    3. A line is written whole or not at all, each message once and in order.
    """

    log = Logger()

    def __init__(
        self,
        member: IMember,
        reading: Reading,
        transport: object,
        turns: Turns,
        clock: IReactorTime,
    ) -> None:
        self._member = member
        self._reading = reading
        self._turns = turns
        self._clock = clock
        self._pipe = pipe_for(transport, self._drained)
        self._live = True
        #: The rooms it is in, next one first; the cursors count only while it is behind.
        self._cursors: dict[Room, int] = {}
        self._missed: dict[Room, int] = {}
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._blocked = False
        self._busy = False
        self._closing = False
        self._lost = False
        self._again: IDelayedCall | None = None
        self._uncongested: list[Deferred[None]] = []
        self._caught_up: list[Deferred[None]] = []

    def enter(self, room: Room, after: int) -> None:
        """Set the cursor in a room: it gets all messages behind that number."""
        if self._live and after == room.last:
            self._cursors[room] = after
            room.go_live(self._member)
        else:
            self._fall_behind()
            self._cursors[room] = after
            self._missed.setdefault(room, room.news)
            self._want()

    def leave(self, room: Room) -> None:
        """It gets no more of this room."""
        room.fall_behind(self._member)
        self._cursors.pop(room, None)
        self._missed.pop(room, None)

    def batch(self, room: Room, encoded: Encoded) -> None:
        """A batch has been committed, and the member is live."""
        parts = encoded.parts
        data = encoded.data
        if self._held:
            held = self._take_held()
            parts = [Part(held, parts[0].seq - 1 if parts else room.last), *parts]
            data = held + data
        sent = self._pipe.send(data)
        if sent < len(data):
            seq = self._keep(parts, sent)
            self._fall_behind()
            self._cursors[room] = seq

    def hold(self, line: bytes) -> None:
        """An answer that goes out in one write with the next batch, or with `flush`."""
        if self._closing or self._lost:
            return
        self._held.append(line)
        self._held_bytes += len(line)

    def answer(self, line: bytes) -> None:
        """An answer to a request."""
        self.hold(line)
        self.flush()

    def flush(self) -> None:
        """Write what is held, unless the transport is full: then when it has drained."""
        if self._blocked or not self._held:
            return
        held = self._take_held()
        sent = self._pipe.send(held)
        if sent < len(held):
            self._fall_behind()
            self._keep([Part(held, 0)], sent)

    def congestion(self) -> Deferred[None] | None:
        """None; or, when too many answers wait, what fires when they are out: read nothing until then."""
        if self._held_bytes < MAX_WAITING:
            return None
        deferred: Deferred[None] = Deferred()
        self._uncongested.append(deferred)
        return deferred

    def caught_up(self) -> Deferred[None]:
        """Fires when the member is live, or its connection lost."""
        deferred: Deferred[None] = Deferred()
        self._caught_up.append(deferred)
        if self._live or self._lost:
            self._fire(self._caught_up)
        return deferred

    def close(self) -> None:
        """Write what is held, then close the connection."""
        self._closing = True
        for room in list(self._cursors):
            self.leave(room)
        self.flush()
        if not self._blocked and not self._lost:
            self._pipe.close()

    def detach(self) -> None:
        """Let go of the transport, which another outbox takes over."""
        self._pipe.detach()
        self.lost()

    def lost(self) -> None:
        """The connection is lost: forget all."""
        self._lost = True
        for room in list(self._cursors):
            self.leave(room)
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._take_held()
        self._fire(self._caught_up)

    def _take_held(self) -> bytes:
        held = b"".join(self._held)
        self._held.clear()
        self._held_bytes = 0
        self._fire(self._uncongested)
        return held

    def _keep(self, parts: Sequence[Part], sent: int) -> int:
        """The transport took only so much: leave it the rest of the part that was begun, or of the next one, so
        that it has something to drain. Returns the number that the cursor has then."""
        for part in parts:
            if sent < len(part.data):
                break
            sent -= len(part.data)
        self._blocked = True
        self._pipe.keep(part.data[sent:])
        return part.seq

    def _drained(self) -> None:
        self._blocked = False
        self.flush()
        if self._blocked or self._lost:
            return
        if self._closing:
            self._pipe.close()
        else:
            self._want()

    def _fall_behind(self) -> None:
        if not self._live:
            return
        self._live = False
        for room in self._cursors:
            room.fall_behind(self._member)
            self._cursors[room] = room.last
            self._missed[room] = room.news

    def _want(self) -> None:
        if not self._busy:
            self._busy = True
            self._turns.want(self._turn)

    def _turn(self) -> None:
        """Read one page of the next room in which the cursor is not at the end, or go live."""
        self._busy = False
        if self._live or self._blocked or self._lost or self._closing:
            return
        room = next((room for room, cursor in self._cursors.items() if cursor < room.last), None)
        if room is None:
            self._go_live()
            return
        after = self._cursors.pop(room)
        self._cursors[room] = after
        page = self._reading.page(room, after)
        if isinstance(page, Deferred):
            self._busy = True
            page.addCallbacks(self._page_read, self._page_failed, (room, after))
        else:
            self._write_page(room, after, page)

    def _page_read(self, page: list[Message], room: Room, after: int) -> None:
        self._busy = False
        # The cursor may have been moved, or the room left, while the store was read.
        if self._cursors.get(room) == after and not self._blocked:
            self._write_page(room, after, page)
        else:
            self._want()

    def _page_failed(self, failure: object) -> None:
        self.log.error("a page could not be read; again in {again} s: {failure}", again=AGAIN, failure=failure)
        if not self._lost:
            self._again = self._clock.callLater(AGAIN, self._try_again)

    def _try_again(self) -> None:
        self._again = None
        self._busy = False
        self._want()

    def _write_page(self, room: Room, after: int, page: Sequence[Message]) -> None:
        last = page[-1].seq if page else room.last
        first = page[0].seq if page else room.last + 1
        parts = [Part(self._reading.gap(room, after + 1, first - 1), first - 1)] if first > after + 1 else []
        parts += self._reading.render(room, page)
        data = b"".join([part.data for part in parts])
        sent = self._pipe.send(data)
        if sent < len(data):
            self._cursors[room] = self._keep(parts, sent)
            return
        self._cursors[room] = last
        if all(cursor == room.last for room, cursor in self._cursors.items()):
            self._go_live()
        else:
            self._want()

    def _go_live(self) -> None:
        """Called in the turn in which the cursors are at the ends: no batch can come in between."""
        self._live = True
        for room in self._cursors:
            room.go_live(self._member)
        missed, self._missed = self._missed, {}
        for room, news in missed.items():
            if room.news != news:
                self.hold(self._reading.presence(room))
        self.flush()
        self._fire(self._caught_up)

    @staticmethod
    def _fire(waiting: list[Deferred[None]]) -> None:
        fired, waiting[:] = waiting[:], []
        for deferred in fired:
            deferred.callback(None)
