"""The connections to the file of an SQLite store: one that writes, and one for each thread that reads."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from chatd.interfaces import OutcomeUnknown, StoreError

T = TypeVar("T")

# Rows that change before it is worth to copy the log into the database.
_CHECKPOINT_ROWS = 10_000

# Seconds to wait for somebody else's lock, such as that of the sqlite3 shell.
_PATIENCE = 1.0

# The log is copied into the database when it has 16,000 pages of 4 KiB, however often a page is in it. Seldom is
# good: who writes to many rooms at once fills it with the same pages again and again, and waits for each copy.
_WRITER = """
    PRAGMA synchronous = FULL;
    PRAGMA wal_autocheckpoint = 16000;
    PRAGMA journal_size_limit = 67108864;
    PRAGMA cache_size = -6144;
"""


def connect_writer(path: str) -> sqlite3.Connection:
    """A connection that writes, from any thread. Raises sqlite3.Error."""
    db = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        db.executescript(_WRITER)
    except sqlite3.Error:
        db.close()
        raise
    return db


def _connect_reader(path: str) -> sqlite3.Connection:
    """A connection that cannot write, and that any thread may close. Raises sqlite3.Error."""
    url = f"{Path(path).as_uri()}?mode=ro"
    db = sqlite3.connect(url, uri=True, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
    # A log is read once and forwards; the system keeps its pages too.
    db.execute("PRAGMA cache_size = -512")
    return db


class Repeated(StoreError):
    """What must be unique is there already."""


class Writer:
    """The connection that writes. `forget` is called when a transaction is undone, and when it is opened anew."""

    def __init__(self, path: str, forget: Callable[[], None]) -> None:
        self._path = path
        self._forget = forget
        self._db: sqlite3.Connection | None = None
        self._copied = 0
        #: How long the last commit took that waited for the disk, in seconds.
        self.flush_seconds = 0.0

    def open(self) -> sqlite3.Connection:
        """Open it anew. Raises sqlite3.Error."""
        self.close()
        self._db = connect_writer(self._path)
        self._forget()
        return self._db

    def close(self) -> None:
        """Close it; nothing may be under way."""
        db, self._db = self._db, None
        self._copied = 0
        if db is not None:
            db.close()

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do it in a transaction of its own, which is on the disk when this returns.

        Raises OutcomeUnknown, Repeated and StoreError.
        """
        db = self._opened()
        try:
            db.execute("BEGIN IMMEDIATE")
            result = work(db)
        except sqlite3.IntegrityError as error:
            self._undo(db)
            raise Repeated(str(error)) from error
        except sqlite3.Error as error:
            self._undo(db)
            raise StoreError(str(error)) from error
        except BaseException:
            self._undo(db)
            raise
        self._commit(db)
        return result

    def write_lazily(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do what can be done again: in a transaction that is on the disk when the next one is.

        Raises StoreError.
        """
        db, flush_seconds = self._opened(), self.flush_seconds
        _flush_commits(db, always=False)
        try:
            return self.write(work)
        finally:
            self.flush_seconds = flush_seconds
            if self._db is db:
                _flush_commits(db, always=True)

    def tidy(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do what makes its own transactions. Raises StoreError."""
        db = self._opened()
        try:
            return work(db)
        except sqlite3.Error as error:
            self._undo(db)
            raise StoreError(str(error)) from error

    def checkpoint(self) -> None:
        """Copy the log into the database, where enough has gathered. Raises StoreError."""
        changes = self._opened().total_changes
        if changes - self._copied >= _CHECKPOINT_ROWS:
            self.tidy(lambda db: db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall())
            self._copied = changes

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            raise StoreError("the database is not open")
        return self._db

    def _commit(self, db: sqlite3.Connection) -> None:
        start = perf_counter()
        try:
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo(db)
            # A full disk did not take all pages, and the last one bears the mark that makes them count.
            # After another error all may be on the disk, with the mark, and count after a crash.
            if "is full" in str(error):
                raise StoreError(str(error)) from error
            raise OutcomeUnknown(str(error)) from error
        self.flush_seconds = perf_counter() - start

    def _undo(self, db: sqlite3.Connection) -> None:
        self._forget()
        try:
            if db.in_transaction:
                db.execute("ROLLBACK")
        except sqlite3.Error:
            # It must not be committed by what comes next: only a new connection helps.
            self.close()


def _flush_commits(db: sqlite3.Connection, always: bool) -> None:
    """Whether a commit waits until it is on the disk, or goes there with the next that does."""
    # Not `execute`: this pragma may work when it is compiled, and `sqlite3` keeps what it has compiled.
    db.executescript(f"PRAGMA synchronous = {'FULL' if always else 'NORMAL'}")


class Readers:
    """A connection for each thread that reads."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._open = False
        self._lock = threading.Lock()
        self._all: list[tuple[threading.Thread, sqlite3.Connection]] = []
        self._mine = threading.local()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection. Raises StoreError for an error of SQLite."""
        try:
            db: sqlite3.Connection | None = getattr(self._mine, "db", None)
            yield db or self._connect()
        except sqlite3.Error as error:
            raise StoreError(str(error)) from error

    def open(self) -> None:
        self._open = True

    def _connect(self) -> sqlite3.Connection:
        if not self._open:
            raise StoreError("the database is not open")
        db = self._mine.db = _connect_reader(self._path)
        with self._lock:
            for thread, left in self._all:
                if not thread.is_alive():
                    left.close()
            self._all = [(thread, db) for thread, db in self._all if thread.is_alive()]
            self._all.append((threading.current_thread(), db))
        return db

    def close(self) -> None:
        self._open = False
        with self._lock:
            for _, db in self._all:
                db.close()
            self._all.clear()
            self._mine = threading.local()
