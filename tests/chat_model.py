"""A whole chat in memory, with each of its uncertainties in the test's hand: when a commit happens and what is
heard of it, when a page is read and when it arrives, how much a line takes, when a server dies. Where the store is
one that nodes share, there may be several servers.

Nothing of chatd is replaced: the store is the real one behind a wrapper that fails or is late when told to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import msgspec
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import alsoProvides

from chatd.connectionlog import ConnectionLog
from chatd.hub import Hub, Settings
from chatd.interfaces import (
    Draft,
    Hint,
    ISharedStore,
    IStore,
    Kept,
    OutcomeUnknown,
    SessionRecord,
    StoreError,
)
from chatd.member import Context
from chatd.outbox import Turns
from chatd.server import ChatFactory, Limits
from chatd.stores import open_store

P = ParamSpec("P")
T = TypeVar("T")

ROOMS = ("lobby", "den")
#: The windows hold a few messages, so that most pages come from the store.
WINDOW_BYTES = 5000
#: Text and number of each message, by log and room.
Truth = dict[tuple[str, str, int], str]


class UnreliableStore:
    """The real store; `outcomes` says what becomes of the next appends and claims, and then they succeed.

    "fail": nothing is stored, and that is known. "lost": all is stored, and the answer gets lost. "unknown":
    nothing is stored, and that is not known. Of `hints`, those that are False get lost.
    """

    def __init__(self, url: str, in_place: bool) -> None:
        self.real: Any = open_store(url)
        if ISharedStore.providedBy(self.real):
            alsoProvides(self, ISharedStore)
        self.outcomes: deque[str] = deque()
        self.hints: deque[bool] = deque()
        self.in_place = in_place
        #: What a flush takes, for the journal: it commits in another thread where that is slow.
        self.flush_seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def append(self, drafts: Sequence[Draft], sessions: Sequence[SessionRecord]) -> list[Kept]:
        return self._unreliably(lambda: self.real.append(drafts, sessions))

    def claim(self, claims: Sequence[tuple[SessionRecord, str]]) -> list[bool]:
        return self._unreliably(lambda: self.real.claim(claims))

    def wait(self, seconds: float) -> Hint:
        """What has been heard, without waiting for more."""
        hint: Hint = self.real.wait(0)
        heard = not self.hints or self.hints.popleft()
        return hint if heard else Hint(frozenset(), frozenset())

    def _unreliably(self, call: Callable[[], list[T]]) -> list[T]:
        outcome = self.outcomes.popleft() if self.outcomes else "ok"
        if outcome == "fail":
            raise StoreError("no space, says the test")
        if outcome == "unknown":
            raise OutcomeUnknown("no answer, says the test")
        result = call()
        if outcome == "lost":
            raise OutcomeUnknown("the answer is lost, says the test")
        return result


class Job:
    """A call that a worker has been given: it is made at one time, and its result heard at another."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._outcome: Any = None
        self.done: Deferred[Any] = Deferred()
        self.made = False

    def make(self) -> None:
        if not self.made:
            self.made = True
            try:
                self._outcome = self._call()
            except Exception:
                self._outcome = Failure()

    def tell(self) -> None:
        self.make()
        self.done.callback(self._outcome)


class ManualWorkers:
    """Workers that work when they are told to."""

    def __init__(self) -> None:
        self.writes: deque[Job] = deque()
        self.reads: list[Job] = []
        self.waits: list[Job] = []

    def write(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        job = Job(lambda: call(*args, **kwargs))
        self.writes.append(job)
        return job.done

    def read(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        job = Job(lambda: call(*args, **kwargs))
        self.reads.append(job)
        return job.done

    def wait(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        job = Job(lambda: call(*args, **kwargs))
        self.waits.append(job)
        return job.done


class NarrowTransport:
    """A line that takes `window` bytes more. What arrived is in `arrived`."""

    def __init__(self) -> None:
        self.window = 1 << 30
        self.arrived = b""
        self.connected = True
        self.disconnecting = False
        self._buffer = b""
        self._producer: Any = None

    def writeSomeData(self, data: bytes) -> int:
        taken = min(len(data), self.window)
        self.window -= taken
        self.arrived += bytes(data[:taken])
        return taken

    def write(self, data: bytes) -> None:
        self._buffer += data

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self._producer is None
        assert not streaming
        self._producer = producer
        producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self._producer = None

    def drain(self, size: int) -> None:
        """The peer has read so many bytes."""
        self.window += size
        taken = self.writeSomeData(self._buffer)
        self._buffer = self._buffer[taken:]
        if self._producer is not None and not self._buffer:
            self._producer.resumeProducing()

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    def loseConnection(self) -> None:
        self.disconnecting = True

    abortConnection = loseWriteConnection = loseConnection

    def pauseProducing(self) -> None:
        """A line that is not read keeps what is sent; the protocol holds its lines back itself."""

    resumeProducing = pauseProducing


class Server:
    """One life of a daemon."""

    def __init__(self, url: str, folder: Path, now: float, in_place: bool) -> None:
        self.clock = clock = Clock()
        clock.advance(now)
        self.workers = ManualWorkers()
        self.store = UnreliableStore(url, in_place)
        self.store.open()
        self.log = ConnectionLog(str(folder / "log"), messages=False)
        self.hub = Hub(
            cast(IStore, self.store),
            clock,
            self.workers,
            Settings(grace=90, session_days=30, window_bytes=WINDOW_BYTES),
        )
        self.hub.start()
        context = Context(self.hub, clock, Turns(clock), self.log)
        self.factory = ChatFactory(context, Limits(1000, None))
        self.alive = True

    def kill(self) -> None:
        """What the journal holds is lost, as after kill -9: nothing of this life is called any more."""
        self.alive = False
        self.hub.close()
        for call in self.clock.getDelayedCalls():
            call.cancel()
        self.store.close()
        self.log.stopService()

    def turn(self) -> None:
        """The reactor turns, in no time."""
        for _ in range(3):
            self.clock.advance(0)

    def write(self) -> None:
        """The writer does its next job."""
        if self.workers.writes:
            self.workers.writes.popleft().tell()

    def hear(self) -> None:
        """What other nodes say is heard."""
        if self.workers.waits:
            self.workers.waits.pop(0).tell()

    def settle(self) -> None:
        """Everything that can happen without a failure happens."""
        for _ in range(200):
            self.clock.advance(0.01)
            self.hear()
            while self.workers.writes:
                self.write()
            while self.workers.reads:
                self.workers.reads.pop(0).tell()
            if not self.workers.writes and not self.workers.reads and self._quiet():
                return
        self.clock.advance(1)

    def _quiet(self) -> bool:
        now = self.clock.seconds()
        return all(call.getTime() > now for call in self.clock.getDelayedCalls())


class Connection:
    """One connection of a client that follows the protocol, and checks what it is told."""

    def __init__(self, client: Client, last: dict[str, int], server: Server) -> None:
        self.client = client
        self.last = last
        self.server = server
        self.transport = NarrowTransport()
        self.protocol = self.server.factory.buildProtocol(IPv4Address("TCP", "203.0.113.1", 1))
        self.protocol.makeConnection(self.transport)
        self.live_rooms: set[str] = set()
        self.members: dict[str, list[str]] = {}
        self.welcome = False
        #: Whether its hello was refused.
        self.turned_away = False
        self._read = 0
        self.send(type="hello", name=client.name, token=client.token, rooms={})

    @property
    def open(self) -> bool:
        return self.server.alive and not self.transport.disconnecting

    def send(self, **request: Any) -> None:
        self.protocol.dataReceived(msgspec.json.encode(request) + b"\n")

    def lose(self) -> None:
        """The server learns that the line is cut."""
        if self.server.alive:
            self.protocol.connectionLost(Failure(ConnectionLost()))

    def read(self) -> None:
        """Take in all whole lines that have arrived."""
        *lines, rest = self.transport.arrived[self._read :].split(b"\r\n")
        self._read = len(self.transport.arrived) - len(rest)
        for line in lines:
            answer = msgspec.json.decode(line)
            getattr(self, "on_" + answer["type"], lambda answer: None)(answer)

    def on_welcome(self, answer: dict[str, Any]) -> None:
        self.welcome = True
        client = self.client
        if client.log != answer["log"]:
            client.new_log(answer["log"])
        if client.token is not None and not answer["resumed"]:
            client.new_session()
        client.token = answer["token"]
        for room in ROOMS:
            self.send(type="join", room=room, after=self.last.get(room, 0))
        for id, (room, text) in list(client.unsent.items()):
            self.send(type="say", room=room, text=text, id=id)

    def on_room(self, answer: dict[str, Any]) -> None:
        assert not answer.get("reset"), "a cursor lies beyond the end of its own log"
        self.live_rooms.add(answer["room"])

    def on_message(self, answer: dict[str, Any]) -> None:
        room, seq, text = answer["room"], answer["seq"], answer["text"]
        expected = self.last.get(room, 0) + 1
        assert seq == expected, f"{self.client.name} in {room}: got #{seq}, expected #{expected}"
        self.last[room] = seq
        self.client.world.saw(self.client.log, room, seq, text)

    def on_kept(self, answer: dict[str, Any]) -> None:
        client = self.client
        _, text = client.said[answer["id"]]
        client.unsent.pop(answer["id"], None)
        client.world.saw(client.log, answer["room"], answer["seq"], text)

    def on_error(self, answer: dict[str, Any]) -> None:
        assert answer["code"] in {"not_kept", "name_in_use", "unavailable"}, answer
        assert answer["retry"] is (answer["code"] != "name_in_use")
        self.client.complaints.append(answer["text"])
        if answer["code"] == "not_kept":
            self.client.refused.add(answer["id"])
        else:
            self.turned_away = True

    def on_members(self, answer: dict[str, Any]) -> None:
        self.members[answer["room"]] = answer["names"]

    def on_waiting(self, answer: dict[str, Any]) -> None:
        assert answer["id"] in self.client.said


class Client:
    """A session's owner: it keeps token, cursors and what is not acknowledged, as a good client does."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.token: str | None = None
        self.log = ""
        self.said: dict[str, tuple[str, str]] = {}
        self.unsent: dict[str, tuple[str, str]] = {}
        #: Ids whose last answer was that they are not kept: nothing may have been stored then.
        self.refused: set[str] = set()
        self.complaints: list[str] = []
        self.slots: list[Connection | None] = [None, None]
        self.cursors: list[dict[str, int]] = [{}, {}]

    def new_log(self, log: str) -> None:
        """Another database: what was known of the old one says nothing here."""
        self.log = log
        for slot, connection in enumerate(self.slots):
            self.cursors[slot] = {}
            if connection is not None:
                connection.last = self.cursors[slot]

    def new_session(self) -> None:
        """The server has forgotten the session, so ids that are sent again are new to it."""
        self.world.may_be_twice.update(text for _, text in self.said.values())

    def connect(self, slot: int, node: int = 0) -> None:
        server = self.world.servers[node]
        if self.slots[slot] is None and server.alive:
            self.slots[slot] = Connection(self, self.cursors[slot], server)

    def cut(self, slot: int, noticed: bool) -> None:
        connection, self.slots[slot] = self.slots[slot], None
        if connection is None:
            return
        if noticed:
            connection.lose()
        else:
            self.world.half_dead.append(connection)

    def say(self, room: str) -> None:
        id = f"{self.name}-{len(self.said)}"
        text = f"{id} in {room} " + "x" * (len(self.said) % 5 * 20)
        self.said[id] = self.unsent[id] = (room, text)
        self.resend(id)

    def resend(self, id: str) -> None:
        room, text = self.said[id]
        for connection in self.slots:
            if connection is not None and connection.open and room in connection.live_rooms:
                self.refused.discard(id)
                connection.send(type="say", room=room, text=text, id=id)
                return

    def read(self) -> None:
        for slot, connection in enumerate(self.slots):
            if connection is not None:
                connection.read()
                if not connection.open or connection.turned_away:
                    self.cut(slot, noticed=True)


class World:
    """The server's lives, the clients, and what anybody ever saw. With several URLs there are several servers."""

    def __init__(self, folder: Path, in_place: bool, *urls: str) -> None:
        self.folder = folder
        self.in_place = in_place
        self.urls = urls or (str(folder / "chat.db"),)
        self.truth: Truth = {}
        self.may_be_twice: set[str] = set()
        self.half_dead: list[Connection] = []
        self.servers = [Server(url, folder, 1_700_000_000, in_place) for url in self.urls]
        self.clients = [Client(self, name) for name in ("ana", "bo", "cy")]

    @property
    def server(self) -> Server:
        """The first server."""
        return self.servers[0]

    @property
    def alive(self) -> list[Server]:
        """The servers that run."""
        return [server for server in self.servers if server.alive]

    def saw(self, log: str, room: str, seq: int, text: str) -> None:
        """Somebody saw this, or was told that it is kept."""
        known = self.truth.setdefault((log, room, seq), text)
        assert known == text, f"{room} #{seq} is {known!r} for one and {text!r} for another"

    def advance(self, seconds: float) -> None:
        """Time passes."""
        for server in self.alive:
            server.clock.advance(seconds)

    def turn(self) -> None:
        """All reactors turn, in no time."""
        for server in self.alive:
            server.turn()

    def settle(self) -> None:
        """Everything that can happen without a failure happens."""
        for server in self.alive:
            server.settle()

    def restart(self, node: int = 0) -> None:
        """kill -9, and a new life."""
        self.kill(node)
        self.revive(node)

    def kill(self, node: int = 0) -> None:
        """kill -9."""
        self.servers[node].kill()

    def revive(self, node: int = 0) -> None:
        """A new life, after the old one has ended."""
        dead = self.servers[node]
        self.half_dead = [one for one in self.half_dead if one.server is not dead]
        for client in self.clients:
            client.slots = [None if one is None or one.server is dead else one for one in client.slots]
        now = max(server.clock.seconds() for server in self.servers)
        self.servers[node] = Server(self.urls[node], self.folder, now, self.in_place)

    def bring_in(self) -> None:
        """Whoever has connected gets its welcome and its rooms."""
        for _ in range(3):
            self.settle()
            for client in self.clients:
                client.read()

    def heal(self) -> None:
        """Nothing fails any more, everybody comes back and reads on."""
        for server in self.servers:
            server.store.outcomes.clear()
        for connection in self.half_dead:
            connection.lose()
        self.half_dead.clear()
        for _ in range(4):
            for client in self.clients:
                self._bring_back(client)
            self.settle()
            self.pass_time()
            self.settle()
            for client in self.clients:
                client.read()

    def pass_time(self) -> None:
        """So much that no name is held any more."""
        self.advance(100)

    def _bring_back(self, client: Client) -> None:
        for slot in (0, 1):
            client.connect(slot, slot % len(self.servers))
            connection = client.slots[slot]
            assert connection is not None
            connection.transport.drain(1 << 30)
        for _ in range(2):
            self.settle()
            client.read()
        for id in list(client.unsent):
            client.resend(id)

    def check(self) -> None:
        """After `heal`: what the promise says."""
        store = self.server.store
        for room in ROOMS:
            record = store.room(room)
            last = record.last if record else 0
            page = store.page(room, 0, None, 1 << 20, 1 << 30)
            texts = [message.text for message in page]
            assert [message.seq for message in page] == list(range(1, last + 1)), "holes"
            once = [text for text in texts if text not in self.may_be_twice]
            assert len(once) == len(set(once)), "stored twice"
            for (log, where, seq), text in self.truth.items():
                if log == store.log_id and where == room:
                    assert seq <= last, f"#{seq} was seen and is gone"
                    assert texts[seq - 1] == text
            for client in self.clients:
                assert not client.unsent, f"{client.name} never heard of {client.unsent}"
                for cursor in client.cursors:
                    assert cursor.get(room, 0) == last, (
                        f"{client.name} has {cursor} of {last}: {client.complaints}"
                    )

    def close(self) -> None:
        for node, server in enumerate(self.servers):
            if server.alive:
                self.kill(node)
