"""The hub: sessions, rooms and the rules, for every door. It knows no transport, no SQL and no reactor.

Doors call it with a member, which is a connection; what they ask for comes back or is raised as a ChatError. What
takes a read of the store is a coroutine; the rest is done when the call returns, but for drafts: what became of
one is told to its member by `kept`, `refused` and `waiting`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import nsmallest
from typing import NamedTuple

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from chatd import names
from chatd.admission import Admission, Welcome, now
from chatd.errors import (
    BadId,
    BadSearch,
    ChatError,
    HelloFirst,
    NotInRoom,
    NotKept,
    TooManyRooms,
    TooSlow,
)
from chatd.events import Message
from chatd.interfaces import Draft, Hint, IMember, ISharedStore, IStore, Kept, SessionRecord
from chatd.journal import Journal, Pending
from chatd.nodes import Alone, Nodes, Peers
from chatd.room import Room
from chatd.rooms import Rooms
from chatd.sessions import Session, Sessions
from chatd.workers import Workers

MAX_ROOMS_EACH = 100
ANSWER_MESSAGES = 100
#: So many characters of text at the most in an answer: four bytes each leave it under 256 KiB.
ANSWER_BYTES = 50_000
ANSWER_NAMES = 1000
ANSWER_ROOMS = 1000
ROOM_NAMES = 50
SEARCH_SECONDS = 2.0
#: Who has been in a room for so many seconds is worth holding a name for, like who has said something.
ESTABLISHED_AFTER = 10.0


class Settings(Struct, frozen=True):
    """What an operator may set: `grace` in seconds, `session_days` in days.

    `window_bytes` bounds what all rooms together keep in memory of their logs.
    """

    grace: float = 90.0
    session_days: float = 30.0
    max_rooms: int = 10_000
    password: str | None = None
    window_bytes: int = 8 * 1024 * 1024


class Entered(Struct, frozen=True):
    """What who joins is told of the room. `reset`: the cursor lay beyond the end of the log."""

    room: Room
    count: int
    names: list[str]
    reset: bool


class RoomListed(Struct, frozen=True):
    """A room as the list of rooms has it: its last number, and how many are in it."""

    name: str
    last: int
    count: int


class NamesPage(NamedTuple):
    """Names in order; `next` is the last of them where there are more, else None."""

    names: list[str]
    next: str | None


class Hub:
    """All rules of the chat.

    `said` is called with each batch after its delivery.
    """

    log = Logger()

    def __init__(
        self,
        store: IStore,
        clock: IReactorTime,
        workers: Workers,
        settings: Settings | None = None,
        said: Callable[[Sequence[Message]], None] = lambda messages: None,
    ) -> None:
        self.settings = settings or Settings()
        self.journal = Journal(store, clock, workers, self)
        self._store = store
        self._clock = clock
        self._sessions = Sessions()
        self._shared = shared = store if ISharedStore.providedBy(store) else None
        self._rooms = Rooms(
            store, shared, self.journal, clock, self.settings.max_rooms, self.settings.window_bytes, said
        )
        self._presence = self._rooms.presence
        self._nodes = None
        if shared is not None:
            self._nodes = Nodes(shared, self.journal, clock, workers, self.settings.grace, self)
        self._peers: Peers = self._nodes or Alone()
        self._settled: dict[IMember, list[Deferred[None]]] = {}
        self._admission = Admission(
            store,
            clock,
            self.journal,
            self._rooms,
            self._sessions,
            self._peers,
            self._end,
            session_days=self.settings.session_days,
            password=self.settings.password,
        )

    @property
    def log_id(self) -> str:
        """The random id of the database."""
        return self._store.log_id

    def start(self) -> None:
        """Read what the store holds: blocking, before the doors open. Names that were connected when the server
        stopped are held for the grace time. Raises StoreError."""
        self._rooms.start()
        if self._nodes is not None:
            # Who was connected is held by the lease of the node that it was connected to.
            self._nodes.start()
            return
        for record in self._store.held_sessions():
            try:
                session = self._admission.revive(record)
            except ChatError as error:
                self.log.warn("the name {name} is not held: {error}", name=record.name, error=error)
                continue
            session.grace = self._clock.callLater(self.settings.grace, self._grace_over, session)

    def refresh(self) -> None:
        """Note in the store that the connected sessions are still seen."""
        for session in self._sessions:
            if session.stored:
                self.journal.save(session.record(now(self._clock), held=session.token is not None))

    async def idle(self) -> None:
        """Wait until all that is under way is settled."""
        if self._nodes is not None:
            await self._nodes.idle()
        await self.journal.idle()

    def close(self) -> None:
        """Stop all timers."""
        for session in self._sessions:
            session.cancel()
        if self._nodes is not None:
            self._nodes.close()
        self._rooms.close()
        self.journal.close()

    # Other nodes

    def hinted(self, hint: Hint) -> None:
        """Other nodes have changed something."""
        self._rooms.hinted(hint)

    def present(self) -> list[tuple[SessionRecord, str, list[str], bool]]:
        """Who is here: each session with the key of its name, its rooms, and whether it has the name already."""
        moment = now(self._clock)
        claiming = self._admission.claiming
        return [
            (one.record(moment, True), one.key, [room.name for room in one.rooms], not claiming(one))
            for one in self._sessions
        ]

    def told_of_leaving(self, rooms: Iterable[str]) -> None:
        """The store knows now that somebody left these rooms here: see who is left."""
        if names := frozenset(rooms):
            self._rooms.hinted(Hint(frozenset(), names))

    def dispossessed(self, session: int) -> None:
        """Another session took this one's name while this node was not heard of."""
        for one in self._sessions:
            if one.id == session and not self._admission.claiming(one):
                for member in list(one.members):
                    member.goodbye(f"somebody else is {one.name} now", None)
                    self.lost(member, clean=True)
                if one in self._sessions:
                    self._end(one)

    # Sessions

    async def hello(
        self, member: IMember, name: str, token: str | None = None, password: str | None = None
    ) -> Welcome:
        """Give a connection a session: that of the token, else a new one by that name. Raises ChatError."""
        return await self._admission.hello(member, name, token, password)

    def check_password(self, password: str | None) -> None:
        """Raises WrongPassword where the server has one, and this is not it."""
        self._admission.check_password(password)

    def lost(self, member: IMember, clean: bool) -> None:
        """A connection is gone. `clean`: it said goodbye, so nothing is held for it."""
        session = member.session
        if session is None or member not in session.members:
            return
        session.members.discard(member)
        hold = not clean and session.token is not None and session.established and self.settings.grace > 0
        for room in list(member.rooms.values()):
            self._depart(session, room, member, hold)
        member.rooms.clear()
        if session.stored:
            self.journal.save(session.record(now(self._clock), held=hold or bool(session.members)))
        if hold:
            if session.grace is not None:
                session.grace.cancel()
            session.grace = self._clock.callLater(self.settings.grace, self._grace_over, session)
            if not session.members:
                self._peers.hold(session.id, self.settings.grace)
        elif not session.members:
            self._end(session)

    def _establish(self, session: Session) -> None:
        """It is worth remembering."""
        session.established = True
        if session.establishing is not None:
            if session.establishing.active():
                session.establishing.cancel()
            session.establishing = None
        if not session.stored:
            session.stored = True
            self.journal.save(session.record(now(self._clock), held=session.token is not None))

    def _grace_over(self, session: Session) -> None:
        session.grace = None
        for room in list(session.rooms):
            if not room.here[session]:
                self._gone(session, room)
        if not session.members and not self._admission.claiming(session):
            self._end(session)

    def _end(self, session: Session) -> None:
        for room in list(session.rooms):
            self._gone(session, room)
        self._sessions.remove(session)
        self._peers.release(session.id)
        if session.stored:
            self.journal.save(session.record(now(self._clock), held=False))

    # Rooms

    async def join(self, member: IMember, name: str, after: int | None = None) -> Entered:
        """Enter a room, or move the cursor in it. The member gets all messages behind the number `after`; with a
        negative one the last so many; with None only what comes now."""
        session = self._session(member)
        name = names.room(name)
        if name not in member.rooms and len(member.rooms) >= MAX_ROOMS_EACH:
            raise TooManyRooms(f"You are in {MAX_ROOMS_EACH} rooms: leave one first.")
        room = await self._rooms.get(name)
        if member not in session.members:
            self._rooms.release(room)
            raise HelloFirst("The connection is gone.")
        cursor, reset = self._cursor(room, after)
        member.rooms[name] = room
        self._arrive(session, room, member)
        member.enter(room, cursor)
        return Entered(room, room.count, room.names(ROOM_NAMES), reset)

    def leave(self, member: IMember, name: str) -> str:
        """Leave a room. Returns its folded name."""
        session = self._session(member)
        room = self._membership(member, name)
        del member.rooms[room.name]
        member.leave(room)
        self._depart(session, room, member, hold=False)
        return room.name

    @staticmethod
    def _cursor(room: Room, after: int | None) -> tuple[int, bool]:
        if after is None:
            return room.last, False
        if after < 0:
            return max(room.last + after, room.first - 1, 0), False
        return min(after, room.last), after > room.last

    def _arrive(self, session: Session, room: Room, member: IMember) -> None:
        if not session.established and session.establishing is None:
            session.establishing = self._clock.callLater(ESTABLISHED_AFTER, self._establish, session)
        if session in room.here:
            room.here[session].add(member)
            return
        room.here[session] = {member}
        session.rooms.add(room)
        self._peers.enter(session.id, room.name)
        # On another node it was there already; with drafts under way it left a moment ago, and nobody was told.
        if room.away.pop(session.id, None) is None and not room.drafts[session]:
            self._presence.joined(room, session.name)

    def _depart(self, session: Session, room: Room, member: IMember, hold: bool) -> None:
        connections = room.here[session]
        connections.discard(member)
        if not connections and not hold:
            self._gone(session, room)

    def _gone(self, session: Session, room: Room) -> None:
        del room.here[session]
        session.rooms.discard(room)
        # A leave waits for the session's own drafts: `_settle` tells it then.
        if not room.drafts[session]:
            self._told_gone(session, room)

    def _told_gone(self, session: Session, room: Room) -> None:
        del room.drafts[session]
        self._peers.leave(session.id, room.name)
        if self._nodes is None:
            self._presence.left(room, session.name)
        else:
            # It may be on another node too: `told_of_leaving` looks, when the store knows of this.
            room.away[session.id] = session.name
        self._rooms.release(room)

    # Messages

    def say(self, member: IMember, room: str, text: str, id: str, action: bool = False) -> Deferred[None] | None:
        """Take a message. Returns None, or what fires when more may be read from the member."""
        session = self._session(member)
        place = member.rooms.get(room) or self._membership(member, room)
        text = names.message(text)
        if names.clean(id) != id:
            raise BadId("An id has no control characters.")
        if not session.stored:
            self._establish(session)
        draft = Draft(place.name, session.id, id, now(self._clock), session.name, text, action)
        place.drafts[session] += 1
        member.drafts += 1
        return self.journal.add(draft, member)

    def committed(self, batch: Sequence[Pending], kept: Sequence[Kept]) -> None:
        """The journal has committed these: receipts first, so that they share a write with the batch."""
        arrived: dict[Room, dict[int, Message]] = {}
        stale: set[Room] = set()
        for pending, one in zip(batch, kept, strict=True):
            draft = pending.draft
            room = self._rooms[draft.room]
            # Not only what is new: of a commit whose answer got lost, the repeat stores nothing.
            if self._nodes is not None and not one.new and one.seq > room.last:
                stale.add(room)
            elif one.same and one.seq > room.last:
                arrived.setdefault(room, {}).setdefault(
                    one.seq,
                    Message(draft.room, one.seq, one.at, draft.session, draft.name, draft.text, draft.action),
                )
            if one.same:
                pending.member.kept(draft.room, one.seq, draft.id)
            else:
                pending.member.refused(BadId("This id belongs to another message."), draft.id)
        batches = {room: [found[seq] for seq in sorted(found)] for room, found in arrived.items()}
        self._rooms.arrived(batches, stale)
        for member in {pending.member: None for pending in batch}:
            member.flush()
        for pending in batch:
            self._settle(pending)

    def refused(self, pending: Pending, error: NotKept) -> None:
        """The journal could not commit this one."""
        pending.member.refused(error, pending.draft.id)
        self._settle(pending)

    def settled(self, member: IMember) -> Deferred[None]:
        """Fires when all that the member said is kept or refused."""
        deferred: Deferred[None] = Deferred()
        if member.drafts:
            self._settled.setdefault(member, []).append(deferred)
        else:
            deferred.callback(None)
        return deferred

    def _settle(self, pending: Pending) -> None:
        room = self._rooms[pending.draft.room]
        member = pending.member
        session = self._session(member)
        member.drafts -= 1
        room.drafts[session] -= 1
        if not room.drafts[session]:
            if session in room.here:
                del room.drafts[session]
            else:
                self._told_gone(session, room)
        if not member.drafts and member in self._settled:
            for deferred in self._settled.pop(member):
                deferred.callback(None)

    # Reading

    def page(self, room: Room, after: int) -> list[Message] | Deferred[list[Message]]:
        """The next messages behind a number, for a cursor that is not at the end."""
        return self._rooms.page(room, after)

    async def history(
        self,
        member: IMember,
        room: str,
        before: int | None = None,
        after: int | None = None,
        limit: int = ANSWER_MESSAGES,
    ) -> list[Message]:
        """A page of the log, ascending: the first behind `after`, else the last before `before`."""
        place = self._membership(member, room)
        end = place.last + 1
        before = end if before is None else min(before, end)
        limit = min(limit, ANSWER_MESSAGES)
        if (page := place.page(after, before, limit, ANSWER_BYTES)) is not None:
            return page
        return await self._rooms.read(self._store.page, place.name, after, before, limit, ANSWER_BYTES)

    async def search(self, member: IMember, room: str, words: str, before: int | None = None) -> list[Message]:
        """The newest messages below `before` with all the words, newest first."""
        place = self._membership(member, room)
        end = place.last + 1
        before = end if before is None else min(before, end)
        words = names.clean(words)
        if not any(letter.isalnum() for letter in words):
            raise BadSearch("There is no word to search for.")
        try:
            found = await self._rooms.read(
                self._store.search, place.name, words, before, ANSWER_MESSAGES, SEARCH_SECONDS
            )
        except TimeoutError:
            raise TooSlow("The search took too long: search for rarer words.") from None
        return _fitting(found)

    def members(self, member: IMember, room: str, after: str | None = None) -> NamesPage:
        """Names in the room, in order, behind the name `after`."""
        place = self._membership(member, room)
        after = "" if after is None else names.fold(after)
        here = [(session.key, session.name) for session in place.here]
        away = [(names.fold(name), name) for name in place.away.values()]
        page = nsmallest(ANSWER_NAMES + 1, (one for one in here + away if one[0] > after))
        shown = [name for _, name in page[:ANSWER_NAMES]]
        return NamesPage(shown, shown[-1] if len(page) > ANSWER_NAMES else None)

    async def rooms(self, member: IMember) -> list[RoomListed]:
        """The rooms, those with most people first."""
        self._session(member)
        listed = {record.name: record.last for record in await self._rooms.read(self._store.rooms)}
        here = {} if self._shared is None else await self._rooms.read(self._shared.counts)
        for place in self._rooms:
            listed[place.name] = place.last
            here[place.name] = place.count
        for name in here:
            listed.setdefault(name, 0)
        order = sorted(listed, key=lambda name: (-here.get(name, 0), name))
        return [RoomListed(name, listed[name], here.get(name, 0)) for name in order[:ANSWER_ROOMS]]

    async def retained(self) -> None:
        """Old messages have been removed from the store: forget them in memory too. Raises StoreError."""
        await self._rooms.forget_removed()

    # Helpers

    @staticmethod
    def _session(member: IMember) -> Session:
        session = member.session
        if session is None:
            raise HelloFirst("Say hello first.")
        return session

    @classmethod
    def _membership(cls, member: IMember, name: str) -> Room:
        cls._session(member)
        room = member.rooms.get(name) or member.rooms.get(names.room(name))
        if room is None:
            raise NotInRoom(f"You are not in {names.room(name)}: join it first.")
        return room


def _fitting(messages: list[Message]) -> list[Message]:
    """As many as fit in an answer."""
    room = ANSWER_BYTES
    for count, message in enumerate(messages):
        room -= len(message.text) + 100
        if room < 0:
            return messages[: max(count, 1)]
    return messages
