"""A chat in memory: the real factory, hub, journal and SQLite store, on a clock and on sockets of the test's own.

    with Chat(tmp_path) as chat:
        ana, bo = chat.text("ana"), chat.json("bo")
        ana.say("hola")
        assert bo.read()[-1]["text"] == "hola"

Nothing happens behind the test's back: what is sent is handled when it is sent, and time stands still until
`chat.advance`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import msgspec
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, execute
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IProtocol
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.task import Clock
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure

from chatd.connectionlog import ConnectionLog
from chatd.hub import Hub, Settings
from chatd.member import Context
from chatd.outbox import Turns
from chatd.server import ChatFactory, Limits
from chatd.stores import open_store
from chatd.workers import Workers

P = ParamSpec("P")
T = TypeVar("T")

#: When the clock of a chat begins: 2026-11-22 14:05 UTC.
START = 1_795_356_300
#: As much as the reactor reads from a socket in a turn.
READ = 64 * 1024


def clock() -> Clock:
    """A clock that shows START."""
    made = Clock()
    made.advance(START)
    return made


class HereAndNow:
    """Workers that make each call at once, where it is asked for."""

    def write(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return execute(call, *args, **kwargs)

    read = wait = write


class Later:
    """Workers that make each call when `work` is called: what happens in between is the test's."""

    def __init__(self) -> None:
        self._calls: deque[Deferred[None]] = deque()

    def write(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        asked: Deferred[None] = Deferred()
        self._calls.append(asked)
        return asked.addCallback(lambda _: call(*args, **kwargs))

    read = wait = write

    def __len__(self) -> int:
        return len(self._calls)

    def work(self) -> None:
        """Make all calls that have been asked for."""
        while self._calls:
            self._calls.popleft().callback(None)


class MemorySocket(FileDescriptor):
    """A TCP connection whose two directions are pieces of memory. The buffering in between is Twisted's own.

    `arrived` is what the other side has got; it takes `window` bytes more, where that is not None, and with the
    next ones `writeSomeData` takes less than it is given, as a socket does. `incoming` is what the other side has
    sent and nobody has read yet. `sends` counts the system calls that writing has taken. When it is told that no
    more will come, the other side closes too, if it is `polite`.
    """

    def __init__(self, clock: Clock, window: int | None = None) -> None:
        super().__init__(clock)  # type: ignore[arg-type]  # no reactor watches it: `turn` does what one would do
        self.connected = 1
        self.window = window
        self.arrived = bytearray()
        self.incoming: deque[bytes] = deque()
        self.sends = 0
        self.polite = True
        self.protocol: IProtocol
        self.reading = self.writing = False
        self._clock = clock
        self._ended = False

    def connect(self, protocol: IProtocol) -> None:
        """Both sides are there."""
        self.protocol = protocol
        self.startReading()
        protocol.makeConnection(self)

    def take(self, size: int | None) -> None:
        """The other side takes so many bytes more; None: all there is from now on."""
        self.window = None if size is None else (self.window or 0) + size

    def finish(self) -> None:
        """The other side sends no more."""
        self._ended = True

    def lose(self, why: Exception | None = None) -> None:
        """The connection is lost."""
        if not self.disconnected:
            self.connectionLost(Failure(why or ConnectionLost()))

    def turn(self) -> bool:
        """What a reactor does in a turn. Returns whether there was something to do."""
        read = self._read_some() if self.reading else False
        return self._write_some() or read

    @property
    def buffered(self) -> int:
        """How many bytes wait in Twisted's buffer."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    def _read_some(self) -> bool:
        if self.incoming:
            data = self.incoming.popleft()
            if len(data) > READ:
                self.incoming.appendleft(data[READ:])
            self.protocol.dataReceived(data[:READ])
        elif self._ended:
            # A reactor that is asked to go on reading comes by here again.
            self.stopReading()
            self._end()
        else:
            return False
        return True

    def _end(self) -> None:
        half = IHalfCloseableProtocol(self.protocol, None)
        if half is None:
            self.lose(ConnectionDone())
        else:
            half.readConnectionLost()

    def _write_some(self) -> bool:
        if not self.writing or not self.connected or self.window == 0:
            return False
        why = self.doWrite()
        if why is not None:
            self.lose(why)
        return True

    # What Twisted asks of a transport

    def writeSomeData(self, data: bytes) -> int | BaseException:
        if self.disconnected:
            return CONNECTION_LOST
        self.sends += 1
        size = len(data) if self.window is None else min(len(data), self.window)
        if self.window is not None:
            self.window -= size
        self.arrived += data[:size]
        return size

    def abortConnection(self) -> None:
        if not self.disconnected:
            self.stopReading()
            self.stopWriting()
            self._clock.callLater(0, self.lose, ConnectionAborted())

    def _closeWriteConnection(self) -> None:
        half = IHalfCloseableProtocol(self.protocol, None)
        if half is not None:
            half.writeConnectionLost()
        if self.polite:
            self.finish()

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        self.protocol.connectionLost(reason)

    def startReading(self) -> None:
        self.reading = True

    def stopReading(self) -> None:
        self.reading = False

    def startWriting(self) -> None:
        self.writing = True

    def stopWriting(self) -> None:
        self.writing = False

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "203.0.113.7", 50007)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.1", 5000)


class Chat:
    """A chat in `folder`. `limits` are without a rate unless they are given.

    With `wrapped`, its transports are like those of TLS: they buffer by themselves and have no `writeSomeData`.
    Without `in_place`, the journal commits by way of `workers`, as it does while the disk is slow.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings | None = None,
        limits: Limits | None = None,
        motd: str | None = None,
        history: int = 20,
        wrapped: bool = False,
        workers: Workers | None = None,
        in_place: bool = True,
        clock: Clock | None = None,
    ) -> None:
        self.folder = folder
        self.clock = clock or _start()
        self.store = open_store(str(folder / "chat.db"))
        self.store.in_place = in_place
        self.log = ConnectionLog(str(folder / "chat.log"))
        self.hub = Hub(
            self.store, self.clock, HereAndNow() if workers is None else workers, settings, self.log.said
        )
        # A disk that is busy with something else must not change where the journal commits.
        pace = self.hub.journal._pace
        pace.quick = pace.stalled = math.inf
        self.context = Context(self.hub, self.clock, Turns(self.clock), self.log, motd, history)
        self.factory = ChatFactory(self.context, limits or Limits(rate=None))
        self.lines: list[Line] = []
        self._build: Callable[[IAddress], IProtocol | None] = self.factory.buildProtocol
        if wrapped:
            self._build = WrappingFactory(self.factory).buildProtocol

    def __enter__(self) -> Chat:
        self.store.open()
        self.log.startService()
        self.hub.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None) -> None:
        if kind is None:
            for line in self.lines:
                line.socket.lose()
            self.settle()
        self.hub.close()
        self.log.stopService()
        self.store.close()

    @property
    def logged(self) -> list[str]:
        """The lines of the connection log, without their times."""
        return [line.partition(" ")[2] for line in (self.folder / "chat.log").read_text().splitlines()]

    def accept(self, window: int | None = None) -> MemorySocket:
        """A connection comes in."""
        socket = MemorySocket(self.clock, window)
        protocol = self._build(socket.getPeer())
        assert protocol is not None
        socket.connect(protocol)
        return socket

    def line(self, window: int | None = None) -> Line:
        """A connection that has said nothing yet."""
        return Line(self, window)

    def text(self, name: str) -> TextLine:
        """A person by that name in the lobby, who has read the first lines."""
        line = TextLine(self)
        line.say(name)
        line.read()
        return line

    def json(self, name: str, **fields: object) -> JsonLine:
        """A program by that name, which has read what answers its hello."""
        line = JsonLine(self)
        line.hello(name, **fields)
        return line

    def settle(self) -> None:
        """Do what can be done now."""
        busy = True
        while busy:
            self.clock.advance(0)
            busy = sum(line.socket.turn() for line in self.lines) > 0

    def advance(self, seconds: float) -> None:
        """Let time pass, from one thing that is due to the next."""
        until = self.clock.seconds() + seconds
        self.settle()
        while due := [at for call in self.clock.getDelayedCalls() if (at := call.getTime()) <= until]:
            self.clock.advance(min(due) - self.clock.seconds())
            self.settle()
        self.clock.advance(until - self.clock.seconds())


_start = clock


class Line:
    """The other side of a connection."""

    def __init__(self, chat: Chat, window: int | None = None) -> None:
        self.chat = chat
        self.socket = chat.accept(window)
        chat.lines.append(self)
        chat.settle()

    @property
    def closed(self) -> bool:
        """Whether the server has closed the connection, or it was lost."""
        return bool(self.socket.disconnected)

    @property
    def being_read(self) -> bool:
        """Whether the server reads from it."""
        return self.socket.reading

    def send(self, *pieces: bytes) -> None:
        """Send these pieces, each of which arrives by itself."""
        self.socket.incoming.extend(pieces)
        self.chat.settle()

    def take(self, size: int | None) -> None:
        """Read so many bytes more; None: all from now on."""
        self.socket.take(size)
        self.chat.settle()

    def finish(self) -> None:
        """Send no more."""
        self.socket.finish()
        self.chat.settle()

    def lose(self) -> None:
        """The connection is lost."""
        self.socket.lose()
        self.chat.settle()

    def read_bytes(self) -> bytes:
        """What has come since it was asked last."""
        data = bytes(self.socket.arrived)
        self.socket.arrived.clear()
        return data

    def read_lines(self) -> list[bytes]:
        """The whole lines that have come since it was asked last, without their CRLF."""
        *lines, rest = self.read_bytes().split(b"\n")
        self.socket.arrived += rest
        assert all(line.endswith(b"\r") for line in lines), lines
        return [line[:-1] for line in lines]


class TextLine(Line):
    """A person with nc."""

    def say(self, *lines: str) -> None:
        """Send lines."""
        self.send(*(line.encode() + b"\n" for line in lines))

    def read(self) -> list[str]:
        """The lines that have come."""
        return [line.decode() for line in self.read_lines()]

    def ask(self, line: str) -> list[str]:
        """Send a line; return what comes."""
        self.say(line)
        return self.read()


class JsonLine(Line):
    """A program. `token` is that of its last welcome."""

    token: str | None = None

    def hello(self, name: str, **fields: object) -> dict[str, Any]:
        """Say hello. Returns the welcome; what else came is dropped."""
        welcome = self.ask("hello", name=name, **fields)[0]
        assert welcome["type"] == "welcome", welcome
        self.token = welcome["token"]
        return welcome

    def request(self, type: str, **fields: object) -> None:
        """Send a request."""
        self.send(msgspec.json.encode({"type": type, **fields}) + b"\n")

    def say(self, text: str, id: str, room: str = "lobby") -> None:
        """Send a message."""
        self.request("say", room=room, text=text, id=id)

    def read(self) -> list[dict[str, Any]]:
        """The answers that have come."""
        return [msgspec.json.decode(line) for line in self.read_lines()]

    def ask(self, type: str, **fields: object) -> list[dict[str, Any]]:
        """Send a request; return what comes."""
        self.request(type, **fields)
        return self.read()
