"""The TCP door: one port for people with nc and for programs with JSON lines, told apart by the first byte."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from msgspec import Struct
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from chatd.errors import ChatError, LineTooLong, TooFast
from chatd.events import Joined, Left, Message, Presence
from chatd.framing import BoundedLineReceiver
from chatd.interfaces import IDoor, IMember
from chatd.jsonlines import JsonMember
from chatd.member import Context, Member, announce, broadcast
from chatd.pacing import Pacer, Rate
from chatd.room import Room
from chatd.text import TextMember

#: The greeting waits so many seconds for a first byte that says which dialect it will be.
GREET_AFTER = 0.3
#: Who has not said a name by then is sent away.
NAME_WITHIN = 60.0
#: What a connection sends after its goodbye is thrown away for so many seconds, unless it closes before.
LINGER = 0.5
#: Who is turned away is told to come back after about so many seconds.
FULL_RETRY = 30.0

_HTTP = re.compile(rb"[A-Z]+ \S+ HTTP/[0-9.]+")


class Limits(Struct, frozen=True):
    """How much a door takes: connections, and what each may send (None: as fast as it can)."""

    clients: int = 1000
    rate: Rate | None = Rate(20, 2)


class ChatProtocol(BoundedLineReceiver):
    """One connection: finds out which dialect it speaks, hands its lines to a member of that dialect one at a
    time, and reads no faster than its rate allows."""

    member: Member | None = None

    def __init__(self, door: ChatFactory, peer: str) -> None:
        super().__init__()
        self.peer = peer
        self.number = 0
        self.since = 0.0
        self.reason: str | None = None
        #: Whether it is one more than there may be.
        self.surplus = False
        self._spoken = False
        self._door = door
        self._clock = door.context.clock
        self._pacer = Pacer(door.limits.rate)
        self._told_too_fast = False
        self._holds = 0
        self._lingering = False
        self._calls: set[IDelayedCall] = set()

    def connectionMade(self) -> None:
        self.since = self._clock.seconds()
        self._door.join(self)
        self._later(NAME_WITHIN, self._named_by_now)
        self._begin()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        for call in self._calls:
            if call.active():
                call.cancel()
        farewell = None
        if self.member is not None:
            farewell = self.member.farewell
            self.member.lost()
        self._door.leave(self, self.reason or farewell or reason.getErrorMessage())

    def dataReceived(self, data: bytes) -> None:
        if self._lingering:
            return
        if data and not self._spoken:
            self._spoken = True
            if _HTTP.match(data):
                self.drop("sent an HTTP request")
                return
            if data.startswith(b"{"):
                self._speak(JsonMember)
            else:
                self._greet()
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        member = self.member
        assert member is not None
        if member.leaving:
            return
        if member.session is None and _HTTP.match(line):
            self.drop("sent an HTTP request")
            return
        wait = member.line_received(line)
        delay = self._pacer.take(member.weight, self._clock.seconds())
        if delay:
            self._slow_down(delay)
        self._wait_for(wait)
        self._wait_for(member.outbox.congestion())

    def lineLengthExceeded(self, line: bytes) -> None:
        assert self.member is not None
        self._complain(LineTooLong(f"A line has at most {self.MAX_LENGTH} bytes: this one is lost."))
        self._wait_for(self.member.outbox.congestion())

    def inputEnded(self) -> None:
        """The peer has closed its side, after all before it is answered. For a person that is an exit; a program
        may have died."""
        self._greet()
        assert self.member is not None
        self.reason = "closed its side"
        Deferred.fromCoroutine(self.member.depart(clean=not self.member.resumable))

    def readConnectionLost(self) -> None:
        if self._lingering:
            self._close()
        else:
            super().readConnectionLost()

    def writeConnectionLost(self) -> None:
        """All has been written. A connection that is closed while something of it is unread is reset, and what
        was on its way to the peer is lost: go on reading for a while."""
        self._lingering = True
        self._later(0 if self.surplus else LINGER, self._close)
        self.transport.resumeProducing()  # type: ignore[union-attr]

    def _close(self) -> None:
        self.transport.loseConnection()  # type: ignore[union-attr]

    def drop(self, reason: str) -> None:
        """Close without a word, and without a look at what else has come."""
        self.reason = reason
        self.hold_for_good()
        self.transport.abortConnection()  # type: ignore[union-attr]

    def goodbye(self, reason: str, retry_after: float | None) -> None:
        """Say goodbye, in whatever dialect, and close."""
        self.reason = reason
        if self.member is None:
            self._speak(TextMember)
        assert self.member is not None
        self.member.goodbye(reason, retry_after)

    def hold_for_good(self) -> None:
        """Read nothing any more."""
        self._hold(Deferred())

    def _begin(self) -> None:
        """The connection is made, and its dialect not known yet."""
        self._later(GREET_AFTER, self._greet)

    def _greet(self) -> None:
        """No first byte says what it speaks, or one that is not JSON's: take it for a person."""
        if self.member is None:
            self._speak(TextMember)
            if isinstance(self.member, TextMember) and not self.member.leaving:
                self.member.greet()

    def _speak(self, kind: type[TextMember] | type[JsonMember]) -> None:
        if self.member is not None:
            # A program on a slow line, greeted before its first byte came.
            self.member.outbox.detach()
        self.member = kind(self._door.context, self._door, self.transport, self.number)
        if self.surplus:
            self._turn_away()

    def _turn_away(self) -> None:
        assert self.member is not None
        self.reason = "turned away: the server is full"
        self.member.goodbye("the server is full", FULL_RETRY * random.uniform(0.5, 1.5))

    def _named_by_now(self) -> None:
        if self.member is not None and self.member.session is None and not self.member.leaving:
            self.goodbye("no name within a minute", None)

    def _slow_down(self, seconds: float) -> None:
        if not self._told_too_fast:
            self._told_too_fast = True
            self._complain(TooFast("You are too fast: what you send is read more slowly now, nothing is lost."))
        waiting: Deferred[None] = Deferred()
        self._hold(waiting)
        self._later(seconds, waiting.callback, None)

    def _complain(self, error: ChatError) -> None:
        assert self.member is not None
        self.member.complain(error)

    def _wait_for(self, deferred: Deferred[None] | None) -> None:
        if deferred is not None:
            self._hold(deferred)

    def _hold(self, until: Deferred[None]) -> None:
        """Read nothing until that fires."""
        self._holds += 1
        if self._holds == 1:
            self.pauseProducing()
        until.addBoth(self._release)

    def _release(self, _: object) -> None:
        self._holds -= 1
        if not self._holds and self.connected:
            self.resumeProducing()

    def _later(self, seconds: float, call, *args: object) -> None:  # type: ignore[no-untyped-def]
        self._calls = {call for call in self._calls if call.active()}
        self._calls.add(self._clock.callLater(seconds, call, *args))


@implementer(IDoor)
class ChatFactory(ServerFactory):
    """Holds the connections that came in by a door: who connected, what reaches all of them, who is gone."""

    noisy = False
    protocol = ChatProtocol
    #: What the log calls this door.
    door = "tcp"

    def __init__(self, context: Context, limits: Limits | None = None) -> None:
        self.context = context
        self.limits = limits or Limits()
        self.clients: dict[int, ChatProtocol] = {}
        self._closing: list[Deferred[None]] = []
        self._stopping = False

    def buildProtocol(self, addr: IAddress | None) -> ChatProtocol:
        protocol = ChatProtocol(self, address(addr))
        protocol.factory = self
        return protocol

    def join(self, client: ChatProtocol) -> None:
        """A connection enters the chat."""
        client.number = self.context.connections.enter()
        self.clients[client.number] = client
        client.surplus = self.context.connections.open > self.limits.clients
        self.context.log.connected(client.number, self.door, client.peer)
        if self._stopping:
            client.drop("the server is stopping")

    def leave(self, client: ChatProtocol, reason: str) -> None:
        """A connection leaves the chat."""
        del self.clients[client.number]
        self.context.connections.leave()
        member = client.member
        name = member.session.name if member is not None and member.session is not None else None
        seconds = self.context.clock.seconds() - client.since
        self.context.log.disconnected(client.number, name, reason, seconds)
        if not self.clients:
            waiting, self._closing = self._closing, []
            for deferred in waiting:
                deferred.callback(None)

    def broadcast(self, room: Room, messages: Sequence[Message], members: Sequence[IMember]) -> None:
        """Encode a batch once for each dialect and write it to the live members."""
        broadcast(room, messages, members)

    def announce(self, event: Joined | Left | Presence, members: Sequence[IMember]) -> None:
        """Tell the live members who came and left."""
        announce(event, members)

    def stop_reading(self) -> None:
        """Nothing more is taken from anybody."""
        self._stopping = True
        for client in self.clients.values():
            client.hold_for_good()

    def farewell(self, reason: str) -> Deferred[None]:
        """Say goodbye to everybody. Fires when the last connection has closed."""
        for client in list(self.clients.values()):
            client.goodbye(reason, random.uniform(0.5, 3.0))
        closed: Deferred[None] = Deferred()
        if self.clients:
            self._closing.append(closed)
        else:
            closed.callback(None)
        return closed

    def abort(self) -> None:
        """Close what is still open."""
        for client in list(self.clients.values()):
            client.drop("the server is stopping")


def address(addr: IAddress | None) -> str:
    """How an address is written in the log."""
    if not isinstance(addr, IPv4Address | IPv6Address):
        return "unix"
    host = addr.host.removeprefix("::ffff:")
    return f"[{host}]:{addr.port}" if ":" in host else f"{host}:{addr.port}"
