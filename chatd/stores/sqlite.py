"""SqliteStore: all logs in one SQLite file, inside the process."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing

from msgspec import Struct
from zope.interface import implementer

from chatd.events import Message
from chatd.interfaces import Draft, IStore, Kept, RoomRecord, SessionRecord, StoreError, StoreUnusable
from chatd.stores.batches import Ident, Stored, ident, keep_new, within
from chatd.stores.sqlitefile import lock, log_id, make, renew_index, upgrade
from chatd.stores.sqlitelink import Readers, Repeated, Writer
from chatd.stores.sqlitepages import ACTION, MESSAGES, SEQ_BITS, Row, base, message, within_room
from chatd.stores.sqlitesearch import index, search
from chatd.stores.sqliteupkeep import UPDATE_OLDEST, expire, give_back, retain
from chatd.stores.witness import Witness
from chatd.stores.words import fold

_INSERT_ID = "INSERT INTO ids (session, room, id, seq) VALUES (?, ?, ?, ?)"
_INSERT_MESSAGE = "INSERT INTO messages (key, at, session, name, text, flags) VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_ROOM = "INSERT INTO rooms (name, last, first, at, indexed) VALUES (?, 0, 1, 0, 0)"
_FIND_ROOM = "SELECT id, last, at, oldest IS NULL FROM rooms WHERE name = ?"
_UPDATE_ROOM = "UPDATE rooms SET last = ?, at = ? WHERE id = ?"
_SAVE_SESSION = """
    INSERT INTO sessions (id, token, name, seen, held) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE
    SET token = excluded.token, name = excluded.name, seen = excluded.seen, held = excluded.held
"""
_SESSIONS = "SELECT id, token, name, seen, held FROM sessions"
_FIND_ID = """
    SELECT ids.seq, messages.at, messages.text, messages.flags
    FROM ids LEFT JOIN messages ON messages.key = (ids.room << 40) + ids.seq
    WHERE ids.session = ? AND ids.room = ? AND ids.id = ?
"""


class _Room(Struct):
    """What the writer knows of a room's row. `empty`: it holds no message, so its `oldest` is not known."""

    id: int
    last: int
    at: int
    empty: bool


@implementer(IStore)
class SqliteStore:
    """A store in the SQLite file at `path`, which is made, for its owner alone, where there is none.

    When it is closed, no other call may be under way.
    """

    in_place = True

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)
        self.log_id = ""
        self._lock: int | None = None
        self._witness: Witness | None = None
        self._writer = Writer(self.path, self._forget)
        self._readers = Readers(self.path)
        # The rooms that were written to; the ids of those that the search index is behind with, or more.
        self._rooms: dict[str, _Room] = {}
        self._behind: set[int] = set()
        self._turn = 0

    @property
    def flush_seconds(self) -> float:
        """How long the last commit took to reach the disk."""
        return self._writer.flush_seconds

    def open(self) -> None:
        """Open it, bringing an older schema up to date. Raises StoreUnusable."""
        try:
            self._lock = lock(self.path)
            make(self.path)
            db = self._writer.open()
            upgrade(db, self.path)
            self._witness = Witness(self._lock)
            self.log_id = log_id(db, self._witness)
            renew_index(db)
            self._behind = _behind(db)
            self._readers.open()
        except (sqlite3.Error, StoreUnusable) as error:
            self.close()
            if isinstance(error, StoreUnusable):
                raise
            raise StoreUnusable(f"{self.path} cannot be used as a database: {error}") from error

    def close(self) -> None:
        """Close all connections; `open` may follow."""
        self._readers.close()
        self._writer.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def reopen(self) -> None:
        """Open the connection for writing anew, after a failure. Raises StoreError."""
        if self._lock is None:
            raise StoreError("the database is closed")
        try:
            self._behind = _behind(self._writer.open())
        except sqlite3.Error as error:
            raise StoreError(str(error)) from error

    def _forget(self) -> None:
        self._rooms.clear()

    def append(self, drafts: Sequence[Draft], sessions: Sequence[SessionRecord]) -> list[Kept]:
        """Number and store the drafts in one transaction, synced to disk; insert or update the sessions.

        Raises OutcomeUnknown or StoreError.
        """
        try:
            kept = self._writer.write(lambda db: self._append(db, drafts, sessions))
        except Repeated:
            kept = self._writer.write(lambda db: self._append_new(db, drafts, sessions))
        assert self._witness is not None
        self._witness.add(sum([one.new for one in kept]))
        return kept

    def _append(
        self, db: sqlite3.Connection, drafts: Sequence[Draft], sessions: Sequence[SessionRecord]
    ) -> list[Kept]:
        # As if no draft were a repeat: if one is, inserting its id fails, and `_append_new` looks closer.
        kept = self._insert(db, drafts)
        _save(db, sessions)
        return kept

    def _append_new(
        self, db: sqlite3.Connection, drafts: Sequence[Draft], sessions: Sequence[SessionRecord]
    ) -> list[Kept]:
        kept = keep_new(drafts, self._find(db, drafts), lambda new: self._insert(db, new))
        _save(db, sessions)
        return kept

    def _find(self, db: sqlite3.Connection, drafts: Sequence[Draft]) -> dict[Ident, Stored]:
        """Those of the drafts whose ids are stored."""
        stored = {}
        for draft in drafts:
            room = self._room(db, draft.room).id
            row = db.execute(_FIND_ID, (draft.session, room, draft.id)).fetchone()
            if row is not None:
                seq, at, text, flags = row
                stored[ident(draft)] = Stored(seq, at, text, flags == ACTION)
        return stored

    def _insert(self, db: sqlite3.Connection, drafts: Sequence[Draft]) -> list[Kept]:
        # Runs for each message. `sqlite3` is slow to bind what is neither an int nor a str, a bool for one.
        rooms = self._rooms
        touched: dict[int, _Room] = {}
        ids: list[tuple[int, int, str, int]] = []
        messages: list[Row] = []
        kept: list[Kept] = []
        for draft in drafts:
            room = rooms.get(draft.room) or self._room(db, draft.room)
            touched[room.id] = room
            room.last = seq = room.last + 1
            at = draft.at
            if at < room.at:
                at = room.at
            room.at = at
            key = (room.id << SEQ_BITS) + seq
            ids.append((draft.session, room.id, draft.id, seq))
            messages.append((key, at, draft.session, draft.name, draft.text, ACTION if draft.action else 0))
            kept.append(Kept(seq, at))
        db.executemany(_INSERT_ID, ids)
        db.executemany(_INSERT_MESSAGE, messages)
        self._count(db, touched)
        return kept

    def _count(self, db: sqlite3.Connection, touched: dict[int, _Room]) -> None:
        db.executemany(_UPDATE_ROOM, [(room.last, room.at, room.id) for room in touched.values()])
        for room in touched.values():
            if room.empty:
                db.execute(UPDATE_OLDEST, (room.id,))
                room.empty = False
        self._behind.update(touched)

    def _room(self, db: sqlite3.Connection, name: str) -> _Room:
        """The room's row as the writer knows it, made where there is none."""
        room = self._rooms.get(name)
        if room is None:
            row = db.execute(_FIND_ROOM, (name,)).fetchone()
            if row is None:
                row = db.execute(_INSERT_ROOM, (name,)).lastrowid, 0, 0, 1
            room = self._rooms[name] = _Room(row[0], row[1], row[2], bool(row[3]))
        return room

    def save(self, sessions: Sequence[SessionRecord]) -> None:
        """Insert or update sessions. Raises StoreError."""
        self._writer.write(lambda db: _save(db, sessions))

    def session(self, token: bytes) -> SessionRecord | None:
        """The session with this hashed token."""
        with self._readers.reading() as db:
            row = db.execute(f"{_SESSIONS} WHERE token = ?", (token,)).fetchone()
        return None if row is None else _session(row)

    def held_sessions(self) -> list[SessionRecord]:
        """The sessions that were connected or held their names when the store was last written to."""
        with self._readers.reading() as db:
            return [_session(row) for row in db.execute(f"{_SESSIONS} WHERE held")]

    def expire_sessions(self, before: int, limit: int) -> int:
        """Forget up to `limit` sessions seen last before that moment, and their ids. Returns how many.

        A session with very many ids takes several calls, and counts in each.
        """
        return self._writer.write_lazily(lambda db: expire(db, before, limit))

    def room(self, name: str) -> RoomRecord | None:
        """The room, or None where it has no message yet."""
        with self._readers.reading() as db:
            row = db.execute("SELECT name, last, first FROM rooms WHERE name = ?", (name,)).fetchone()
        return None if row is None else RoomRecord(*row)

    def rooms(self) -> list[RoomRecord]:
        """All rooms, by name."""
        with self._readers.reading() as db:
            rows = db.execute("SELECT name, last, first FROM rooms ORDER BY name")
            return [RoomRecord(*row) for row in rows]

    def page(self, room: str, after: int | None, before: int | None, limit: int, max_bytes: int) -> list[Message]:
        """Messages of the room, ascending, up to `limit` and about `max_bytes` of text (but one at least)."""
        order = "DESC" if after is None else "ASC"
        with self._readers.reading() as db:
            start = base(db, room)
            if start is None:
                return []
            keys = start + within_room(after or 0), start + within_room(before)
            with closing(db.execute(f"{MESSAGES} {order} LIMIT ?", (*keys, limit))) as rows:
                found = list(within((message(room, row) for row in rows), max_bytes))
        return found[::-1] if after is None else found

    def search(self, room: str, words: str, before: int, limit: int, seconds: float) -> list[Message]:
        """Messages numbered below `before` that contain all the words, newest first.

        Raises TimeoutError after so many seconds.
        """
        wanted = set(fold(words))
        if not wanted:
            return []
        with self._readers.reading() as db:
            return search(db, room, wanted, before, limit, seconds)

    def index(self, limit: int) -> bool:
        """Take up to `limit` messages into the search index. True while there are more."""
        if self._behind:
            done, self._turn = self._writer.write_lazily(lambda db: index(db, self._behind, self._turn, limit))
            self._behind -= done
        if not self._behind:
            # Nobody waits for a commit now, which would have to wait for this.
            self._writer.checkpoint()
        return bool(self._behind)

    def retain(self, before: int, limit: int) -> int:
        """Remove up to `limit` messages older than that moment. Returns how many."""
        removed, rooms = self._writer.write_lazily(lambda db: retain(db, before, limit))
        for room in rooms:
            self._rooms.pop(room, None)
        self._writer.tidy(give_back)
        return removed


def _behind(db: sqlite3.Connection) -> set[int]:
    """The rooms that the search index is behind with."""
    return {room for (room,) in db.execute("SELECT id FROM rooms WHERE indexed < last")}


def _save(db: sqlite3.Connection, sessions: Sequence[SessionRecord]) -> None:
    if sessions:
        db.executemany(_SAVE_SESSION, [(s.id, s.token, s.name, s.seen, int(s.held)) for s in sessions])


def _session(row: tuple[int, bytes | None, str, int, int]) -> SessionRecord:
    return SessionRecord(*row[:4], held=bool(row[4]))
