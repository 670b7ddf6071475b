"""The rooms in memory: brought from the store when somebody comes, kept up with it, let go when they are empty."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from chatd.errors import TooManyRooms, Unavailable
from chatd.events import Joined, Left, Message
from chatd.interfaces import Hint, IMember, ISharedStore, IStore, RoomRecord, StoreError
from chatd.journal import Journal
from chatd.outages import Outages
from chatd.presence import Presence
from chatd.room import PAGE_BYTES, PAGE_MESSAGES, Room, WindowBudget

#: A room that comes into memory brings so many of its last messages.
FIRST_WINDOW = 100
#: So many messages of other nodes are read at once.
NEWS = 1000
#: Who asks for something waits so long for a store that is elsewhere.
READ_WITHIN = 5.0
#: What could not be read is tried again after so many seconds.
AGAIN = 1.0

T = TypeVar("T")


class Rooms:
    """The rooms in memory.

    Requirements:

    1. A room's messages are delivered in the order of their numbers, without holes, whichever node stored them.
    2. Nothing is delivered that is not committed.

    `shared` is the store where several nodes share it, else None. `said` hears of each batch that is delivered.
    """

    log = Logger()

    def __init__(
        self,
        store: IStore,
        shared: ISharedStore | None,
        journal: Journal,
        clock: IReactorTime,
        max_rooms: int,
        window_bytes: int,
        said: Callable[[Sequence[Message]], None],
    ) -> None:
        self._store = store
        self._shared = shared
        self._journal = journal
        self._clock = clock
        self._max_rooms = max_rooms
        self._said = said
        self._outages = Outages(self.log)
        self.presence = Presence(clock, self._announce)
        self._windows = WindowBudget(window_bytes)
        self._rooms: dict[str, Room] = {}
        self._loading: dict[str, list[Deferred[None]]] = {}
        #: Rooms that other nodes changed while they were brought from the store.
        self._changed: set[str] = set()
        #: The rooms that have a row in the store, as far as this node has heard.
        self._stored: set[str] = set()
        self._lagging: set[Room] = set()
        self._uncounted: set[Room] = set()
        self._catching_up = False
        self._counting = False
        self._closed = False

    def __iter__(self) -> Iterator[Room]:
        return iter(list(self._rooms.values()))

    def __getitem__(self, name: str) -> Room:
        return self._rooms[name]

    def start(self) -> None:
        """Read which rooms there are: blocking. Raises StoreError."""
        self._stored = {room.name for room in self._store.rooms()}

    def close(self) -> None:
        """Stop all timers."""
        self._closed = True
        self.presence.close()

    async def get(self, name: str) -> Room:
        """The room by that folded name, from the store where it is not in memory. Raises ChatError."""
        while name not in self._rooms:
            if name in self._loading:
                waiting: Deferred[None] = Deferred()
                self._loading[name].append(waiting)
                await waiting
            else:
                await self._load(name)
        return self._rooms[name]

    def release(self, room: Room) -> None:
        """Let go of a room that nobody is in."""
        if room.unused and self._rooms.get(room.name) is room:
            del self._rooms[room.name]

    async def read(self, call: Callable[..., T], *args: object) -> T:
        """Read from the store. Raises Unavailable."""
        over = False

        def if_wanted() -> T:
            if over:
                raise StoreError("nobody waits for it any more")
            return call(*args)

        reading = self._journal.read(if_wanted)
        if self._shared is not None:
            reading.addTimeout(READ_WITHIN, self._clock)
        try:
            found = await reading
        except (StoreError, TimeoutError) as error:
            reason = (
                error if isinstance(error, StoreError) else StoreError(f"no answer within {READ_WITHIN:.0f} s")
            )
            self._outages.failed("the store cannot be read", reason)
            raise Unavailable("The database does not answer now: try again.") from None
        finally:
            over = True
        self._outages.worked("the store cannot be read")
        return found

    def page(self, room: Room, after: int) -> list[Message] | Deferred[list[Message]]:
        """The next messages behind a number, for a cursor that is not at the end."""
        page = room.window.after(after, PAGE_MESSAGES, PAGE_BYTES)
        if page is not None:
            return page
        return self._journal.read(self._store.page, room.name, after, room.last + 1, PAGE_MESSAGES, PAGE_BYTES)

    def arrived(self, messages: Mapping[Room, Sequence[Message]], stale: Iterable[Room]) -> None:
        """This node has committed these, by number; `stale` rooms have more than it has got."""
        lagging = set(stale)
        delivered: list[Message] = []
        for room, batch in messages.items():
            if room not in lagging and batch[-1].seq - room.last == len(batch):
                self._deliver(room, batch)
                delivered += batch
            else:
                # Another node has stored something in between.
                lagging.add(room)
        self._said(delivered)
        self._lag(lagging)

    def hinted(self, hint: Hint) -> None:
        """Other nodes have changed something."""
        self._changed.update(self._loading_of(hint))
        self._lag(self._named(hint.messages))
        self.recount(self._named(hint.presence))

    def recount(self, rooms: Iterable[Room]) -> None:
        """Look who is in these rooms on other nodes."""
        self._uncounted.update(rooms)
        if self._uncounted and not self._counting:
            self._counting = True
            Deferred.fromCoroutine(self._count()).addErrback(self._broken)

    async def forget_removed(self) -> None:
        """Old messages have been removed from the store: forget them in memory too. Raises StoreError."""
        for record in await self._journal.read(self._store.rooms):
            if (room := self._rooms.get(record.name)) is not None:
                room.forget(record.first)

    async def _load(self, name: str) -> None:
        if name not in self._stored and self._shared is None:
            self._rooms[name] = self._new(name)
            return
        waiting = self._loading[name] = []
        try:
            record, page, members = await self.read(self._last_page, name)
            room = Room(name, record.last, record.first) if record else self._new(name)
            self._windows.added(room.window, len(page), room.window.extend(page))
            room.away = dict(members)
            self._rooms[name] = room
            if name in self._changed:
                self.hinted(Hint(frozenset({name}), frozenset({name})))
        finally:
            self._changed.discard(name)
            del self._loading[name]
            for deferred in waiting:
                deferred.callback(None)

    def _new(self, name: str) -> Room:
        if len(self._stored | self._rooms.keys()) >= self._max_rooms:
            raise TooManyRooms("The server has as many rooms as it may have: join one that is there.")
        return Room(name, 0, 1)

    def _last_page(self, name: str) -> tuple[RoomRecord | None, list[Message], list[tuple[int, str]]]:
        """Blocking: runs in a reader's thread."""
        members = self._shared.members(name) if self._shared is not None else []
        record = self._store.room(name)
        if record is None:
            return None, [], members
        return record, self._store.page(name, None, record.last + 1, FIRST_WINDOW, PAGE_BYTES), members

    def _deliver(self, room: Room, messages: Sequence[Message]) -> None:
        self.presence.before(room, (message.name for message in messages))
        self._stored.add(room.name)
        self._windows.added(room.window, len(messages), room.extend(messages))
        for door, members in list(room.live.items()):
            door.broadcast(room, messages, list(members))

    def _announce(self, room: Room, event: Joined | Left) -> None:
        room.news += 1
        for door, live in list(room.live.items()):
            members = list(live)
            if event.total == 1:
                members = [member for member in members if not _is(member, event.names[0])]
            door.announce(event, members)

    def _loading_of(self, hint: Hint) -> Iterable[str]:
        if hint.messages is None or hint.presence is None:
            return self._loading
        return (hint.messages | hint.presence) & self._loading.keys()

    def _named(self, names: Iterable[str] | None) -> list[Room]:
        if names is None:
            return list(self)
        return [self._rooms[name] for name in names if name in self._rooms]

    def _lag(self, rooms: Iterable[Room]) -> None:
        self._lagging.update(rooms)
        if self._lagging and not self._catching_up:
            self._catching_up = True
            Deferred.fromCoroutine(self._catch_up()).addErrback(self._broken)

    async def _catch_up(self) -> None:
        """Read what other nodes have stored, until nothing is new."""
        assert self._shared is not None
        while self._lagging and not self._closed:
            rooms = {room.name: room for room in self._lagging if self._rooms.get(room.name) is room}
            self._lagging.clear()
            try:
                news = await self._journal.read(
                    self._shared.news, {name: room.last for name, room in rooms.items()}, NEWS
                )
            except StoreError:
                self._lagging.update(rooms.values())
                await deferLater(self._clock, AGAIN)
                continue
            if len(news) == NEWS:
                self._lagging.update(rooms.values())
            self._take_in(rooms, news)
        self._catching_up = False

    def _take_in(self, rooms: Mapping[str, Room], news: Sequence[Message]) -> None:
        batches: dict[str, list[Message]] = {}
        for message in news:
            # A batch of this node's own may have been delivered while this was read.
            if message.seq > rooms[message.room].last:
                batches.setdefault(message.room, []).append(message)
        for name, batch in batches.items():
            room = rooms[name]
            if self._rooms.get(name) is room:
                deliver = self._deliver if batch[0].seq == room.last + 1 else self._skip
                deliver(room, batch)
                self._said(batch)

    def _skip(self, room: Room, messages: Sequence[Message]) -> None:
        """Retention has removed what comes before these: whoever was live pulls them, and is told of the gap."""
        last = room.last
        room.forget(messages[0].seq)
        self._windows.added(room.window, len(messages), room.extend(messages))
        for member in [member for members in room.live.values() for member in members]:
            member.enter(room, last)

    async def _count(self) -> None:
        assert self._shared is not None
        while self._uncounted and not self._closed:
            room = self._uncounted.pop()
            try:
                members = await self._journal.read(self._shared.members, room.name)
            except StoreError:
                self._uncounted.add(room)
                await deferLater(self._clock, AGAIN)
                continue
            self._compare(room, dict(members))
        self._counting = False

    def _compare(self, room: Room, members: dict[int, str]) -> None:
        """Tell who came and left on other nodes. Who is here has been told when it came."""
        here = {session.id for session in room.here}
        before = {id: name for id, name in room.away.items() if id not in here}
        after = {id: name for id, name in members.items() if id not in here}
        room.away = after
        for id, name in before.items():
            if after.get(id) != name:
                self.presence.left(room, name)
        for id, name in after.items():
            if before.get(id) != name:
                self.presence.joined(room, name)

    def _broken(self, failure: object) -> None:
        self._catching_up = self._counting = False
        self.log.error("keeping up with the store failed: {failure}", failure=failure)


def _is(member: IMember, name: str) -> bool:
    return member.session is not None and member.session.name == name
