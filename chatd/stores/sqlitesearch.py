"""The search index of an SQLite store: how it is filled, and how it is asked."""

from __future__ import annotations

import sqlite3
from bisect import bisect
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from time import monotonic

from chatd.events import Message
from chatd.stores.sqlitepages import MESSAGES, SEQ_BITS, message, within_room
from chatd.stores.words import fold

# Words that are looked up in the index. A search for more finds the others in the texts.
_WORDS_LOOKED_UP = 16

# The order of the join matters: through `search` it stops after as many as are wanted.
_SEARCH = """
    SELECT key, at, session, name, text, flags FROM search CROSS JOIN messages ON messages.key = search.rowid
    WHERE search.rowid > ? AND search.rowid < ? AND search MATCH ? ORDER BY search.rowid DESC
"""


def search(
    db: sqlite3.Connection, room: str, wanted: set[str], before: int, limit: int, seconds: float
) -> list[Message]:
    """Messages of the room below `before` that have all these words, which are folded, newest first.

    Raises TimeoutError and sqlite3.Error.
    """
    with _no_longer_than(db, seconds):
        row = db.execute("SELECT id, indexed FROM rooms WHERE name = ?", (room,)).fetchone()
        if row is None:
            return []
        base = row[0] << SEQ_BITS
        indexed, end = base + row[1], base + within_room(before)
        found = _holding(room, db.execute(f"{MESSAGES} DESC", (indexed, end)), wanted, limit)
        older = db.execute(_SEARCH, (base, min(indexed + 1, end), _match(wanted)))
        return found + _holding(room, older, wanted, limit - len(found))


def _match(words: set[str]) -> str:
    """The words in FTS5's language: `fold` leaves nothing in them that means something there, once quoted."""
    longest = sorted(words, key=len, reverse=True)[:_WORDS_LOOKED_UP]
    return " ".join(f'"{word}"' for word in longest)


def _holding(room: str, rows: sqlite3.Cursor, wanted: set[str], limit: int) -> list[Message]:
    """The first messages, up to `limit`, that have all the wanted words."""
    found: list[Message] = []
    with closing(rows):
        while len(found) < limit and (row := rows.fetchone()):
            if wanted.issubset(fold(row[4])):
                found.append(message(room, row))
    return found


@contextmanager
def _no_longer_than(db: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Cut short what is done with the connection. Raises TimeoutError."""
    deadline = monotonic() + seconds
    db.set_progress_handler(lambda: monotonic() > deadline, 1000)
    try:
        yield
    except sqlite3.OperationalError as error:
        if monotonic() > deadline:
            raise TimeoutError(f"cut after {seconds} s") from error
        raise
    finally:
        db.set_progress_handler(None, 0)


def index(db: sqlite3.Connection, rooms: Collection[int], turn: int, limit: int) -> tuple[set[int], int]:
    """Take up to `limit` messages of these rooms into the index, those after `turn` first.

    Returns the rooms that it is done with, and the next turn.
    """
    done = set()
    in_order = sorted(rooms)  # as FTS5 likes its rows
    start = bisect(in_order, turn)
    for room in in_order[start:] + in_order[:start]:
        taken, whole = _index_room(db, room, limit)
        limit -= taken
        turn = room
        if whole:
            done.add(room)
        if limit <= 0:
            break
    return done, turn


def _index_room(db: sqlite3.Connection, room: int, limit: int) -> tuple[int, bool]:
    """Take up to `limit` messages of a room into the index. Returns how many, and whether these were all."""
    row = db.execute("SELECT last, indexed FROM rooms WHERE id = ?", (room,)).fetchone()
    if row is None:  # the transaction that made it was rolled back
        return 0, True
    base = room << SEQ_BITS
    last, indexed = row
    rows = db.execute(
        "SELECT key, text FROM messages WHERE key > ? AND key <= ? ORDER BY key LIMIT ?",
        (base + indexed, base + last, limit),
    ).fetchall()
    db.executemany(
        "INSERT INTO search (rowid, words) VALUES (?, ?)", [(key, " ".join(fold(text))) for key, text in rows]
    )
    reached = last if len(rows) < limit else rows[-1][0] - base
    db.execute("UPDATE rooms SET indexed = ? WHERE id = ?", (reached, room))
    return len(rows), reached == last
