"""A chat in a PostgreSQL database, read or filled as a whole."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from zope.interface import implementer

from chatd.interfaces import StoreError, StoreUnusable
from chatd.stores.copies import FIRST_SESSION, TABLES, ISource, ITarget, Row, Rows, in_place, pages_of
from chatd.stores.postgreslink import Link, arrays, connect, one_line
from chatd.stores.postgrestables import upgrade, version
from chatd.stores.schemas import schema

# Who waits for the other database is not idle, and a long statement is none that went wrong.
_SETTINGS = "SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0"
_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# A node that begins now waits until this is over.
_LOCK = "LOCK TABLE nodes, rooms, sessions, messages, ids IN SHARE ROW EXCLUSIVE MODE"

_ROOMS = "SELECT id FROM rooms WHERE last > 0 ORDER BY id"
_READ = {
    "rooms": """
        SELECT id, name, last, first, at FROM rooms JOIN upkeep ON upkeep.room = rooms.id
        WHERE last > 0 ORDER BY id
    """,
    "sessions": f"SELECT id, token, name, seen, held FROM sessions WHERE id >= {FIRST_SESSION} ORDER BY id",
    "messages": "SELECT room, seq, at, session, name, text, flags FROM messages ORDER BY room, seq",
    "ids": "SELECT session, room, id, seq FROM ids ORDER BY session, room, id",
}
_COUNT = {
    "rooms": "SELECT count(*) FROM rooms WHERE last > 0",
    "sessions": f"SELECT count(*) FROM sessions WHERE id >= {FIRST_SESSION}",
    "messages": "SELECT count(*) FROM messages",
    "ids": "SELECT count(*) FROM ids",
}
# The search index is filled later, behind the commits.
_FILL_ROOMS = """
    WITH new AS (
        SELECT * FROM unnest(%s::integer[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[])
        AS new (id, name, last, first, at)),
    kept AS (INSERT INTO upkeep (room, first, indexed) SELECT id, first, first - 1 FROM new)
    INSERT INTO rooms (id, name, last, at) OVERRIDING SYSTEM VALUE SELECT id, name, last, at FROM new
"""
_NEXT_ROOM = (
    "SELECT setval(pg_get_serial_sequence('rooms', 'id'), (SELECT coalesce(max(id), 0) + 1 FROM rooms), false)"
)
_LIVE = "SELECT count(*) FROM nodes WHERE until > now()"
_STATE = """
    SELECT (SELECT sum(last) FROM rooms), (SELECT sum(first) FROM upkeep),
        (SELECT count(*) FROM sessions), (SELECT sum(seen) FROM sessions)
"""


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise StoreError(one_line(error)) from error


@contextmanager
def _unusable() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise StoreUnusable(f"The PostgreSQL database cannot be used: {one_line(error)}") from error


class _Database:
    """The database, and a connection to it with a transaction."""

    def __init__(self, url: str) -> None:
        self.name = "the PostgreSQL database"
        self.identity = ""
        self._url = url
        self._link: Link | None = None

    @property
    def _db(self) -> Link:
        assert self._link is not None, "it is not open"
        return self._link

    def _connect(self) -> Link:
        link = self._link = connect(self._url)
        info = link.info
        self.name = f"the PostgreSQL database {info.dbname} on {info.host or 'this machine'}"
        link.execute(_SETTINGS)
        return link

    def read(self, table: str) -> Rows:
        """All rows, `PAGE_ROWS` at a time."""
        with _errors():
            rooms = [id for (id,) in self._db.execute(_ROOMS)]
            with self._db.cursor(name="chatd_move") as rows:
                rows.execute(_READ[table])
                yield from in_place(table, pages_of(rows.fetchmany), rooms)

    def _value(self, query: str) -> Any:
        row = self._db.execute(query).fetchone()
        assert row is not None
        return row[0]

    def _check_dead(self) -> None:
        if live := self._value(_LIVE):
            raise StoreUnusable(
                f"{self.name} is in use by running nodes ({live}): stop them; one that was killed counts for 10 s"
            )

    def close(self) -> None:
        """Close it. What has not been committed is gone."""
        if self._link is not None:
            self._link.close()
            self._link = None


@implementer(ISource)
class PostgresSource(_Database):
    """The chat in the database at `url`, as it was when it was opened."""

    log_id = ""

    def open(self) -> None:
        """Open it, and see that it is a chat that nobody uses. Raises StoreUnusable."""
        with _unusable():
            self._connect().execute(_SNAPSHOT)
            found = version(self._db)
            if not found:
                raise StoreUnusable(f"{self.name} holds no chat")
            if found < len(schema("postgres")):
                raise StoreUnusable(f"{self.name} is from an older chatd: start this one on it once")
            self._check_dead()
            self._state = self._db.execute(_STATE).fetchone()
            # Who restored a backup has taken the id away.
            row = self._db.execute("SELECT value FROM meta WHERE name = 'log'").fetchone()
            self.log_id = self.identity = secrets.token_hex(8) if row is None else str(row[0])

    def count(self, table: str) -> int:
        """How many rows there are."""
        with _errors():
            return int(self._value(_COUNT[table]))

    def check_unused(self) -> None:
        """Raises StoreUnusable where somebody has used it since it was opened."""
        with _errors():
            self._db.execute("COMMIT")
            self._check_dead()
            if self._db.execute(_STATE).fetchone() != self._state:
                raise StoreUnusable(f"{self.name} was used while it was moved: stop all nodes and begin anew")

    def retire(self) -> None:
        """There is no witness that could tell."""


@implementer(ITarget)
class PostgresTarget(_Database):
    """An empty chat in the database at `url`."""

    def open(self) -> None:
        """Open it, made where there is none. Raises StoreUnusable."""
        with _unusable():
            self.identity = upgrade(self._connect())

    def begin(self) -> None:
        """Begin the transaction, and see that it is empty and that nobody uses it. Raises StoreUnusable."""
        with _unusable():
            self._db.execute("BEGIN")
            self._db.execute(_LOCK)
            self._check_dead()
            full = [table for table, query in _READ.items() if self._db.execute(f"{query} LIMIT 1").fetchone()]
        if full:
            raise StoreUnusable(f"{self.name} is not empty: it holds {full[0]}")

    def fill(self, table: str, pages: Iterable[list[Row]]) -> None:
        """Insert these rows. The tables come in the order of `TABLES`."""
        with _errors():
            if table == "rooms":
                self._fill_rooms(pages)
            else:
                with self._db.cursor().copy(f"COPY {table} ({', '.join(TABLES[table])}) FROM STDIN") as copy:
                    for page in pages:
                        for row in page:
                            copy.write_row(row)
            # Who reads it, now and later, is to know how large it is.
            self._db.execute(f"ANALYZE {table}")

    def _fill_rooms(self, pages: Iterable[list[Row]]) -> None:
        # A room that never got a message may have a number already.
        self._db.execute("DELETE FROM upkeep")
        self._db.execute("DELETE FROM rooms")
        for page in pages:
            self._db.execute(_FILL_ROOMS, arrays(page, 5))
        self._db.execute(_NEXT_ROOM)

    def keep(self, log_id: str) -> None:
        """Commit all of it, as that log."""
        with _errors():
            self._db.execute("UPDATE meta SET value = %s WHERE name = 'log'", (log_id,))
            self._db.execute("COMMIT")
