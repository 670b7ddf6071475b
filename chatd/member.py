"""A connection that takes part: what all dialects have in common, and how a batch reaches many of them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar, Protocol, TypeAlias, cast

from msgspec import Struct, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from chatd.connectionlog import ConnectionLog
from chatd.errors import ChatError, Unavailable
from chatd.events import Joined, Left, Message, Part, Presence
from chatd.hub import Hub
from chatd.interfaces import IDoor, IMember
from chatd.outbox import Encoded, Outbox, Turns
from chatd.room import Room
from chatd.sessions import Session

#: How much of a connection's rate a request uses; what is not named uses 1.
JOIN_WEIGHT, SEARCH_WEIGHT = 5, 10


#: What handling a line gives back: a coroutine is run, a Deferred waited for.
Result: TypeAlias = "Coroutine[Deferred[Any], Any, None] | Deferred[None] | None"


class Connections:
    """The connections that came in by any door: numbered, and counted while they are open."""

    def __init__(self) -> None:
        self.open = 0
        self._last = 0

    def enter(self) -> int:
        """One more. Returns its number."""
        self.open += 1
        self._last += 1
        return self._last

    def leave(self) -> None:
        """One less."""
        self.open -= 1


class Context(Struct):
    """What the doors share. `history` is how many messages the text door shows who joins."""

    hub: Hub
    clock: IReactorTime
    turns: Turns
    log: ConnectionLog
    motd: str | None = None
    history: int = 20
    connections: Connections = field(default_factory=Connections)


class Dialect(Protocol):
    """How a kind of door says what happens."""

    #: Whether a member gets its own messages back.
    echoes: bool

    def encode(self, messages: Sequence[Message]) -> list[Part]:
        """A batch, as parts that are sent whole or not begun."""

    def announce(self, event: Joined | Left | Presence) -> bytes:
        """Who came and left, in one line."""


@implementer(IMember)
class Member:
    """A connection, from its first line on. Subclasses speak a dialect.

    `number` names the connection in the log. `close` closes its transport by way of the outbox.
    """

    log = Logger()
    resumable = True
    dialect: ClassVar[Dialect]

    def __init__(self, context: Context, door: IDoor, transport: object, number: int) -> None:
        self.context = context
        self.hub = context.hub
        self.door = door
        self.number = number
        self.session: Session | None = None
        self.rooms: dict[str, Room] = {}
        self.drafts = 0
        #: How much of the rate the last line used.
        self.weight = 1
        self.leaving = False
        #: What it was told when its connection was closed.
        self.farewell: str | None = None
        #: Whether the transport is lost.
        self.gone = False
        self.outbox = Outbox(self, self, transport, context.turns, context.clock)

    # What a dialect adds

    def line_received(self, line: bytes) -> Deferred[None] | None:
        """A line has come. Returns None, or what fires when the next one may come."""
        raise NotImplementedError

    def line_too_long(self) -> None:
        """A line was thrown away."""
        raise NotImplementedError

    def complain(self, error: ChatError, id: str | None = None) -> None:
        """Tell why a request was refused."""
        raise NotImplementedError

    def say_goodbye(self, reason: str, retry_after: float | None) -> None:
        """Tell that the connection will be closed."""
        raise NotImplementedError

    def render(self, room: Room, messages: Sequence[Message]) -> list[Part]:
        """A page, for a member that is not live."""
        return self.dialect.encode(messages)

    def gap(self, room: Room, first: int, last: int) -> bytes:
        """That these messages are no longer kept."""
        raise NotImplementedError

    def kept(self, room: str, seq: int, id: str) -> None:
        """A draft is stored."""

    def waiting(self, id: str) -> None:
        """A draft is neither stored nor refused."""
        raise NotImplementedError

    # What they share

    def perform(self, call: Callable[[], Result], id: str | None = None) -> Deferred[None] | None:
        """Do what a request asks for, and complain where the hub refuses. Returns as `line_received` does."""
        try:
            result = call()
        except Exception:
            self._failed(Failure(), id)
            return None
        if result is None or isinstance(result, Deferred):
            return result
        return Deferred.fromCoroutine(result).addErrback(self._failed, id)

    def _failed(self, failure: Failure, id: str | None) -> None:
        error = failure.value
        if not isinstance(error, ChatError):
            self.log.failure("a request failed that should not have", failure=failure)
            error = Unavailable("The server failed to do this; it has been noted.")
        self.complain(error, id)

    def enter(self, room: Room, after: int) -> None:
        self.outbox.enter(room, after)

    def leave(self, room: Room) -> None:
        self.outbox.leave(room)

    def page(self, room: Room, after: int) -> list[Message] | Deferred[list[Message]]:
        return self.hub.page(room, after)

    def presence(self, room: Room) -> bytes:
        return self.dialect.announce(Presence(room.name, room.count))

    def refused(self, error: ChatError, id: str) -> None:
        self.complain(error, id)

    def flush(self) -> None:
        self.outbox.flush()

    async def depart(self, clean: bool = True) -> None:
        """Leave the chat, after all that was asked for is answered, and close. Where that is not `clean`, the
        session may come back."""
        if self.leaving:
            return
        self.leaving = True
        await self.hub.settled(self)
        await self.outbox.caught_up()
        self.hub.lost(self, clean=clean)
        self.goodbye("bye", None)

    def goodbye(self, reason: str, retry_after: float | None) -> None:
        """Say goodbye and close the connection."""
        self.leaving = True
        self.farewell = reason
        self.say_goodbye(reason, retry_after)
        self.outbox.close()

    def lost(self) -> None:
        """The transport is lost."""
        self.gone = True
        self.outbox.lost()
        self.hub.lost(self, clean=False)


def broadcast(room: Room, messages: Sequence[Message], members: Sequence[IMember]) -> None:
    """Encode a batch once for each dialect, and write it to the members, all of them live."""
    encoded: dict[Dialect, Encoded] = {}
    authors = {message.session for message in messages}
    for member in cast("Sequence[Member]", members):
        dialect = member.dialect
        batch = encoded.get(dialect)
        if batch is None:
            batch = encoded[dialect] = Encoded(dialect.encode(messages))
        if not dialect.echoes and member.session.id in authors:  # type: ignore[union-attr]
            batch = Encoded(member.render(room, messages))
        member.outbox.batch(room, batch)


def announce(event: Joined | Left | Presence, members: Sequence[IMember]) -> None:
    """Tell live members who came and left."""
    encoded: dict[Dialect, bytes] = {}
    for member in cast("Sequence[Member]", members):
        line = encoded.get(member.dialect)
        if line is None:
            line = encoded[member.dialect] = member.dialect.announce(event)
        member.outbox.answer(line)
