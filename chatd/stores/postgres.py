"""PostgresStore: all logs in a PostgreSQL database, which several nodes may share."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, TypeVar
from zlib import crc32

import psycopg
from zope.interface import implementer

from chatd.events import Message
from chatd.interfaces import (
    Draft,
    Hint,
    ISharedStore,
    Kept,
    RoomRecord,
    SessionRecord,
    StoreError,
    StoreUnusable,
)
from chatd.stores import postgresnodes as nodes
from chatd.stores import postgresupkeep as upkeep
from chatd.stores import postgreswrites as writes
from chatd.stores.batches import within
from chatd.stores.postgreslink import Link, Links, arrays, one_line
from chatd.stores.postgrespages import (
    NEWEST_FIRST,
    NEWS,
    OLDEST_FIRST,
    bounded,
    message,
)
from chatd.stores.postgressearch import Search, index
from chatd.stores.postgrestables import upgrade
from chatd.stores.words import fold

T = TypeVar("T")

# What one node at a time does.
_UPKEEP, _REAPING = 1, 2

# When a database that does not answer is told that this node ends.
_CLOSE_WITHIN = 2.0

_SESSIONS = "SELECT id, token, name, seen, held FROM sessions"
_ROOMS = "SELECT name, last, first FROM rooms JOIN upkeep ON upkeep.room = rooms.id WHERE last > 0"


@implementer(ISharedStore)
class PostgresStore:
    """A store in the PostgreSQL database at `url`.

    When it is closed, no other call may be under way.
    """

    in_place = False
    lease = 10.0

    def __init__(self, url: str) -> None:
        self._links = Links(url)
        self._listener: Link | None = None
        self._listening = self._renewed = 0
        self.log_id = ""
        self.node = ""
        # Rooms are never removed, so what is known of them stays true.
        self._room_ids: dict[str, int] = {}
        self._turn = 0

    @property
    def flush_seconds(self) -> float:
        """How long the last commit took to reach the disk."""
        return self._links.flush_seconds

    def open(self) -> None:
        """Open it, bringing an older schema up to date. Raises StoreUnusable."""
        try:
            self.log_id = upgrade(self._links.open())
        except psycopg.Error as error:
            self._links.close()
            raise StoreUnusable(f"The PostgreSQL database cannot be used: {one_line(error)}") from error
        except BaseException:
            self._links.close()
            raise
        self._room_ids.clear()
        self.node = secrets.token_hex(8)

    def close(self) -> None:
        """Close all connections; `open` may follow. For the other nodes, this one is dead then."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        hurry = threading.Timer(_CLOSE_WITHIN, self.interrupt, (0.0,))
        hurry.start()
        try:
            with suppress(StoreError):
                self._links.write_lazily(lambda link: nodes.leave_for_good(link, self.node))
        finally:
            hurry.cancel()
            self._links.close()

    def interrupt(self, seconds: float) -> None:
        """Cut off what has been under way for so many seconds: it fails then. From any thread."""
        self._links.interrupt(seconds)

    def reopen(self) -> None:
        """Open the connection for writing anew, after a failure. Raises StoreError."""
        self._links.reopen()

    def append(self, drafts: Sequence[Draft], sessions: Sequence[SessionRecord]) -> list[Kept]:
        """Number and store the drafts in one transaction, synced to disk; insert or update the sessions.

        Raises OutcomeUnknown or StoreError.
        """
        rooms = self._rooms_of(drafts)
        return self._links.write(lambda link: self._append(link, rooms, drafts, sessions))

    def _rooms_of(self, drafts: Sequence[Draft]) -> dict[str, int]:
        """The ids of the rooms. New ones are made beforehand: in the batch, two nodes could block each other."""
        rooms = {draft.room: self._room_ids.get(draft.room) for draft in drafts}
        new = [name for name, id in rooms.items() if id is None]
        if new:
            self._links.write(lambda link: writes.make_rooms(link, new))
            query = "SELECT name, id FROM rooms WHERE name = ANY(%s)"
            self._room_ids.update(self._links.write(lambda link: link.execute(query, (new,)).fetchall()))
        return {name: self._room_ids[name] for name in rooms}

    def _append(
        self, link: Link, rooms: dict[str, int], drafts: Sequence[Draft], sessions: Sequence[SessionRecord]
    ) -> list[Kept]:
        kept = writes.append(link, rooms, drafts)
        writes.save(link, sessions)
        changed = [draft.room for draft, one in zip(drafts, kept, strict=True) if one.new]
        nodes.notify(link, self.log_id, self.node, "messages", changed)
        return kept

    def save(self, sessions: Sequence[SessionRecord]) -> None:
        """Insert or update sessions. Raises StoreError."""
        self._links.write(lambda link: writes.save(link, sessions))

    def session(self, token: bytes) -> SessionRecord | None:
        """The session with this hashed token."""
        rows = self._rows(f"{_SESSIONS} WHERE token = %s", token)
        return SessionRecord(*rows[0]) if rows else None

    def held_sessions(self) -> list[SessionRecord]:
        """The sessions that were connected or held their names when the store was last written to."""
        return [SessionRecord(*row) for row in self._rows(f"{_SESSIONS} WHERE held")]

    def expire_sessions(self, before: int, limit: int) -> int:
        """Forget up to `limit` sessions seen last before that moment, and their ids. Returns how many.

        A session with very many ids takes several calls, and counts in each. One that is here does not expire.
        """
        return self._maintain(lambda link: upkeep.expire(link, before, limit)) or 0

    def room(self, name: str) -> RoomRecord | None:
        """The room, or None where it has no message yet."""
        rows = self._rows(f"{_ROOMS} AND name = %s", name)
        return RoomRecord(*rows[0]) if rows else None

    def rooms(self) -> list[RoomRecord]:
        """All rooms, by name."""
        return [RoomRecord(*row) for row in self._rows(f"{_ROOMS} ORDER BY name")]

    def page(self, room: str, after: int | None, before: int | None, limit: int, max_bytes: int) -> list[Message]:
        """Messages of the room, ascending, up to `limit` and about `max_bytes` of text (but one at least)."""
        id = self._room_id(room)
        if id is None:
            return []
        query = NEWEST_FIRST if after is None else OLDEST_FIRST
        rows = self._rows(query, id, bounded(after or 0), id, bounded(before), limit)
        found = list(within((message(room, row) for row in rows), max_bytes))
        return found[::-1] if after is None else found

    def _room_id(self, name: str) -> int | None:
        if name not in self._room_ids:
            self._room_ids.update(self._rows("SELECT name, id FROM rooms WHERE name = %s", name))
        return self._room_ids.get(name)

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._links.read(lambda link: link.execute(query, values).fetchall())

    def search(self, room: str, words: str, before: int, limit: int, seconds: float) -> list[Message]:
        """Messages numbered below `before` that contain all the words, newest first.

        Raises TimeoutError after so many seconds.
        """
        wanted = set(fold(words))
        if not wanted:
            return []
        deadline = monotonic() + seconds
        return self._links.read(lambda link: Search(link, room, wanted, limit, deadline).below(bounded(before)))

    def index(self, limit: int) -> bool:
        """Take up to `limit` messages into the search index. True while there are more."""
        self._turn, more = self._maintain(lambda link: index(link, self._turn, limit)) or (self._turn, False)
        return more

    def retain(self, before: int, limit: int) -> int:
        """Remove up to `limit` messages older than that moment. Returns how many."""
        return self._maintain(lambda link: upkeep.retain(link, before, limit)) or 0

    def _maintain(self, work: Callable[[Link], T], kind: int = _UPKEEP) -> T | None:
        """Do it unless another node is at such a thing: None then."""
        lock = self._lock(kind)

        def alone(link: Link) -> T | None:
            rows = link.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", lock).fetchall()
            return work(link) if rows[0][0] else None

        return self._links.write_lazily(alone)

    def _lock(self, kind: int) -> tuple[int, int]:
        return crc32(self.log_id.encode()) >> 1, kind

    def renew(self) -> bool:
        """Say that this node is alive. False: it may be known of it what is no longer so. Raises StoreError."""
        lock = self._lock(_REAPING)
        alive = self._links.write_lazily(lambda link: nodes.renew(link, self.node, self.lease, lock))
        # With the connection, the server may have been lost, and with it what was not on the disk yet.
        lasted, self._renewed = self._renewed == self._links.reopened, self._links.reopened
        return alive and lasted

    def settle(self, sessions: Sequence[int], places: Sequence[tuple[int, str]]) -> None:
        """These sessions are here and in these rooms, and no others. Raises StoreError."""

        def work(link: Link) -> None:
            self._notify_presence(link, nodes.settle(link, self.node, sessions, places))

        self._links.write(work)

    def reap(self, grace: float) -> None:
        """Do what dead nodes do no more. Raises StoreError."""

        def work(link: Link) -> None:
            left = nodes.reap(link, self.node, self.lease, grace)
            # From nobody: this node has not heard of it either.
            nodes.notify(link, self.log_id, "", "presence", left)

        self._maintain(work, _REAPING)

    def claim(self, claims: Sequence[tuple[SessionRecord, str]]) -> list[bool]:
        """Each session takes the name with this key, is here, and is saved. Raises StoreError."""

        def work(link: Link) -> set[int]:
            winners = nodes.claim(link, self.node, claims)
            writes.save(link, winners)
            return {session.id for session in winners}

        winners = self._links.write(work)
        return [session.id in winners for session, _ in claims]

    def hold(self, holds: Sequence[tuple[int, float]]) -> None:
        """Sessions that have no connection here any more, each with its seconds. Raises StoreError."""
        self._links.write_lazily(lambda link: nodes.hold(link, self.node, holds))

    def release(self, sessions: Sequence[int]) -> None:
        """The sessions are here no more, nor in rooms. Raises StoreError."""

        def work(link: Link) -> None:
            self._notify_presence(link, nodes.depart(link, [(session, self.node) for session in sessions]))

        self._links.write_lazily(work)

    def enter(self, places: Sequence[tuple[int, str]]) -> None:
        """Sessions that are here are in these rooms. Raises StoreError."""

        def work(link: Link) -> None:
            nodes.enter(link, self.node, places)
            self._notify_presence(link, [room for _, room in places])

        self._links.write_lazily(work)

    def leave(self, places: Sequence[tuple[int, str]]) -> None:
        """Sessions that are here are no longer in these rooms. Raises StoreError."""

        def work(link: Link) -> None:
            nodes.leave(link, self.node, places)
            self._notify_presence(link, [room for _, room in places])

        self._links.write_lazily(work)

    def _notify_presence(self, link: Link, rooms: Sequence[str]) -> None:
        nodes.notify(link, self.log_id, self.node, "presence", rooms)

    def members(self, room: str) -> list[tuple[int, str]]:
        """Who is in the room, on any node: session and name, by name. Raises StoreError."""
        return [(session, name) for session, name in self._rows(nodes.MEMBERS, room)]

    def counts(self) -> dict[str, int]:
        """How many are in each room that has anybody, on all nodes together. Raises StoreError."""
        return dict(self._rows(nodes.COUNTS))

    def elsewhere(self) -> dict[str, object]:
        """For each room, what changes when somebody comes or goes on another node. Raises StoreError."""
        return {room: digest for room, *digest in self._rows(nodes.ELSEWHERE, self.node)}

    def news(self, after: Mapping[str, int], limit: int) -> list[Message]:
        """Messages of several rooms behind the number given for each, up to `limit`. Raises StoreError."""
        rows = self._rows(NEWS, *arrays([(room, bounded(seq)) for room, seq in after.items()], 2), limit, limit)
        return [message(row[0], row[1:]) for row in rows]

    def wait(self, seconds: float) -> Hint:
        """Wait up to so many seconds for what other nodes change. Raises StoreError."""
        if self._listener is not None and self._listening != self._links.reopened:
            self._listener.close()  # a server that has gone silent says nothing on this one either
            self._listener = None
        if self._listener is None:
            self._listening = self._links.reopened
            self._listener = self._links.another()
            try:
                with self._links.interruptible(self._listener):
                    self._listener.execute(f"LISTEN {nodes.channel(self.log_id)}")
            except psycopg.Error as error:
                raise self._deaf(error) from error
            return Hint(None, None)
        try:
            return self._listen(self._listener, monotonic() + seconds)
        except psycopg.Error as error:
            raise self._deaf(error) from error

    def _listen(self, listener: Link, deadline: float) -> Hint:
        payloads: list[str] = []
        while True:
            # What this node changed itself comes too, and is no hint.
            left = max(0.0, deadline - monotonic())
            payloads += [note.payload for note in listener.notifies(timeout=left, stop_after=1)]
            payloads += [note.payload for note in listener.notifies(timeout=0)]
            hint = nodes.hint(payloads, self.node)
            if hint.messages != frozenset() or hint.presence != frozenset() or monotonic() >= deadline:
                return hint

    def _deaf(self, error: psycopg.Error) -> StoreError:
        assert self._listener is not None
        self._listener.close()
        self._listener = None
        return StoreError(one_line(error))
