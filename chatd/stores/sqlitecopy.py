"""A chat in an SQLite file, read or filled as a whole."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from zope.interface import implementer

from chatd.interfaces import StoreError, StoreUnusable
from chatd.stores.copies import FIRST_SESSION, ISource, ITarget, Row, Rows, in_place, pages_of
from chatd.stores.schemas import schema
from chatd.stores.sqlitefile import lock, make, upgrade, version
from chatd.stores.sqlitepages import SEQ_BITS
from chatd.stores.witness import Witness

_ROOMS = "SELECT id FROM rooms WHERE last > 0 ORDER BY id"
_READ = {
    "rooms": "SELECT id, name, last, first, at FROM rooms WHERE last > 0 ORDER BY id",
    "sessions": f"SELECT id, token, name, seen, held FROM sessions WHERE id >= {FIRST_SESSION} ORDER BY id",
    "messages": f"""
        SELECT key >> {SEQ_BITS}, key & {(1 << SEQ_BITS) - 1}, at, session, name, text, flags
        FROM messages ORDER BY key
    """,
    "ids": "SELECT session, room, id, seq FROM ids ORDER BY session, room, id",
}
# The search index is filled later, behind the commits.
_FILL = {
    "rooms": "INSERT INTO rooms (id, name, last, first, at, indexed) VALUES (?1, ?2, ?3, ?4, ?5, ?4 - 1)",
    "sessions": "INSERT INTO sessions (id, token, name, seen, held) VALUES (?, ?, ?, ?, ?)",
    "messages": f"""
        INSERT INTO messages (key, at, session, name, text, flags)
        VALUES ((?1 << {SEQ_BITS}) + ?2, ?3, ?4, ?5, ?6, ?7)
    """,
    "ids": "INSERT INTO ids (session, room, id, seq) VALUES (?, ?, ?, ?)",
}
_UPDATE_OLDEST = f"UPDATE rooms SET oldest = (SELECT at FROM messages WHERE key = (id << {SEQ_BITS}) + first)"
_SAID = "SELECT coalesce(sum(last), 0) FROM rooms"
_WRITER = "PRAGMA synchronous = FULL; PRAGMA cache_size = -32768; PRAGMA journal_size_limit = 0;"


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(str(error)) from error


class _File:
    """The file, locked, and a connection to it."""

    def __init__(self, path: str) -> None:
        self.identity = os.path.realpath(path)
        self.name = self.identity
        self._lock: int | None = None
        self._link: sqlite3.Connection | None = None

    @contextmanager
    def _unusable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreUnusable(f"{self.name} cannot be used as a database: {error}") from error

    @property
    def _db(self) -> sqlite3.Connection:
        assert self._link is not None, "it is not open"
        return self._link

    @property
    def _witness(self) -> Witness:
        assert self._lock is not None, "it is not open"
        return Witness(self._lock)

    def read(self, table: str) -> Rows:
        """All rows, `PAGE_ROWS` at a time."""
        with _errors():
            rooms = [id for (id,) in self._db.execute(_ROOMS)]
            # The cursor is closed with the connection, where it is not read to its end.
            rows = self._db.execute(_READ[table])
            yield from in_place(table, pages_of(rows.fetchmany), rooms)

    def close(self) -> None:
        """Close it. What has not been committed is gone."""
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@implementer(ISource)
class SqliteSource(_File):
    """The chat in the file at `path`."""

    log_id = ""

    def open(self) -> None:
        """Open it, and see that it is a chat that nobody uses. Raises StoreUnusable."""
        if not os.path.exists(self.name):
            raise StoreUnusable(f"{self.name} is not there")
        self._lock = lock(self.name)
        with self._unusable():
            # It can only read: not even what the log holds is copied into the database.
            self._link = sqlite3.connect(f"{Path(self.name).as_uri()}?mode=ro", uri=True, isolation_level=None)
            _check(self._db, self.name)
            self.log_id = _log(self._db, self._witness)

    def count(self, table: str) -> int:
        """How many rows there are."""
        with _errors():
            return int(self._db.execute(f"SELECT count(*) FROM ({_READ[table]})").fetchone()[0])

    def check_unused(self) -> None:
        """The lock has seen to that."""

    def retire(self) -> None:
        """Its log goes on elsewhere: should this be used again all the same, it is another one."""
        self._witness.leave()


@implementer(ITarget)
class SqliteTarget(_File):
    """An empty chat in the file at `path`, which is made where there is none."""

    def open(self) -> None:
        """Open it, made where there is none. Raises StoreUnusable."""
        self._lock = lock(self.name)
        make(self.name)
        with self._unusable():
            self._link = sqlite3.connect(self.name, isolation_level=None)
            upgrade(self._db, self.name)
            self._db.executescript(_WRITER)

    def begin(self) -> None:
        """Begin the transaction, and see that it is empty and that nobody uses it. Raises StoreUnusable."""
        with self._unusable():
            self._db.execute("BEGIN IMMEDIATE")
            full = [table for table, query in _READ.items() if self._db.execute(f"{query} LIMIT 1").fetchone()]
        if full:
            raise StoreUnusable(f"{self.name} is not empty: it holds {full[0]}")

    def fill(self, table: str, pages: Iterable[list[Row]]) -> None:
        """Insert these rows. The tables come in the order of `TABLES`."""
        for page in pages:
            with _errors():
                self._db.executemany(_FILL[table], page)
        with _errors():
            if table == "messages":
                self._db.execute(_UPDATE_OLDEST)

    def keep(self, log_id: str) -> None:
        """Commit all of it, as that log."""
        with _errors():
            self._db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('log', ?)", (log_id,))
            (count,) = self._db.execute(_SAID).fetchone()
            # Before the commit: a witness that knows too much raises no doubt about the empty chat.
            self._witness.begin(log_id, count)
            self._db.execute("COMMIT")


def _check(db: sqlite3.Connection, path: str) -> None:
    found = version(db, path)
    if not found:
        raise StoreUnusable(f"{path} holds no chat")
    if found < len(schema("sqlite")):
        raise StoreUnusable(f"{path} is from an older chatd: start this one on it once")


def _log(db: sqlite3.Connection, witness: Witness) -> str:
    """The id of the log, a new one where the database has been put back to an earlier state."""
    row = db.execute("SELECT value FROM meta WHERE name = 'log'").fetchone()
    (count,) = db.execute(_SAID).fetchone()
    return secrets.token_hex(8) if row is None or witness.doubts(row[0], count) else str(row[0])
