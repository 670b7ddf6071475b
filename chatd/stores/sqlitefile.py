"""The file of an SQLite store: who may use it, how it is opened, and its tables brought up to date."""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3

from chatd.interfaces import StoreUnusable
from chatd.stores.schemas import schema
from chatd.stores.witness import Witness
from chatd.stores.words import FOLD_VERSION

# "chat", where SQLite's header names the program that a database belongs to.
APPLICATION_ID = 0x63686174


def lock(path: str) -> int:
    """Take the lock beside the database. Returns the descriptor that holds it. Raises StoreUnusable."""
    if os.path.isdir(path):
        raise StoreUnusable(f"{path} is a folder: the database must be a file, such as {path}/chat.db")
    try:
        held = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(held)
        raise StoreUnusable(f"{path} is in use by another chatd: stop it, or choose another file") from error
    return held


def make(path: str) -> None:
    """Make the file, for its owner alone, where there is none. Raises StoreUnusable.

    Only who holds the lock may call it: closing a descriptor of the file drops the locks of every SQLite
    connection to it in this process.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise _unusable(path, error) from error
    if not os.path.isfile(path):
        raise StoreUnusable(f"{path} is not a file: the database must be one")
    if not os.access(os.path.dirname(path), os.W_OK | os.X_OK):
        raise _unusable(path, PermissionError())


def _unusable(path: str, error: OSError) -> StoreUnusable:
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        return StoreUnusable(f"{folder} is not a folder: make it, or choose another place for the database")
    if isinstance(error, PermissionError):
        return StoreUnusable(f"{path} is not writable: give chatd the file and its folder, or choose another")
    return StoreUnusable(f"{path} is not writable: {error.strerror}")


def version(db: sqlite3.Connection, path: str) -> int:
    """The version of the tables, 0 where there are none yet.

    Raises StoreUnusable where they are not chatd's, or are newer than this one knows; or sqlite3.Error.
    """
    known = len(schema("sqlite"))
    found = _pragma(db, "user_version")
    empty = not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if _pragma(db, "application_id") != APPLICATION_ID and not empty:
        raise StoreUnusable(f"{path} is the database of another program: choose another place")
    if found > known:
        raise StoreUnusable(
            f"{path} is from a newer chatd (version {found} of the tables, this one knows {known}): upgrade chatd"
        )
    return found


def upgrade(db: sqlite3.Connection, path: str) -> None:
    """Make the tables, or bring them up to date, at once. Raises StoreUnusable or sqlite3.Error."""
    begin = version(db, path)
    scripts = schema("sqlite")
    # This comes before the log and before the first table, or SQLite does not take it.
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise StoreUnusable(f"{path} is where SQLite cannot keep its log: choose a disk of this machine")
    if begin < len(scripts):
        stamp = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {len(scripts)};"
        db.executescript("BEGIN EXCLUSIVE;" + "".join(scripts[begin:]) + stamp + "COMMIT;")


def log_id(db: sqlite3.Connection, witness: Witness) -> str:
    """The database's id, made where it has none or where it has been put back to an earlier state.

    Raises sqlite3.Error.
    """
    db.execute("INSERT OR IGNORE INTO meta (name, value) VALUES ('log', ?)", (secrets.token_hex(8),))
    log = _log(db)
    count = db.execute("SELECT coalesce(sum(last), 0) FROM rooms").fetchone()[0]
    if witness.doubts(log, count):
        db.execute("UPDATE meta SET value = ? WHERE name = 'log'", (secrets.token_hex(8),))
        log = _log(db)
    witness.begin(log, count)
    return log


def _log(db: sqlite3.Connection) -> str:
    return str(db.execute("SELECT value FROM meta WHERE name = 'log'").fetchone()[0])


def renew_index(db: sqlite3.Connection) -> None:
    """Empty an index that another `fold` made: it fills again behind the commits. Raises sqlite3.Error."""
    if db.execute("SELECT 1 FROM meta WHERE (name, value) = ('fold', ?)", (FOLD_VERSION,)).fetchone():
        return
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO search (search) VALUES ('delete-all')")
    db.execute("UPDATE rooms SET indexed = first - 1")
    db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('fold', ?)", (FOLD_VERSION,))
    db.execute("COMMIT")


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])
