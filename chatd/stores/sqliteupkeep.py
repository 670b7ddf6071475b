"""What is removed from an SQLite store, in small steps: old messages, old sessions, free pages."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import takewhile

from chatd.stores.sqlitepages import SEQ_BITS, SEQ_END
from chatd.stores.words import fold

# Pages that one call gives back to the disk, and how many stay in the file for messages to come.
_VACUUM_PAGES = 256
_SPARE_PAGES = 1024

# Ids that one call forgets: a session may have a million of them.
_IDS_A_STEP = 2000

UPDATE_OLDEST = f"""
    UPDATE rooms SET oldest = (SELECT at FROM messages WHERE key = (id << {SEQ_BITS}) + first) WHERE id = ?
"""
_OLDEST_ROOM = "SELECT id, name, first, indexed FROM rooms WHERE oldest < ? ORDER BY oldest LIMIT 1"
_TAKE_IDS = """
    DELETE FROM ids WHERE (session, room, id) IN
    (SELECT session, room, id FROM ids WHERE session = ? ORDER BY room, id LIMIT ?)
"""


def retain(db: sqlite3.Connection, before: int, limit: int) -> tuple[int, list[str]]:
    """Remove up to `limit` messages older than that moment. Returns how many, and of which rooms."""
    removed = 0
    rooms = []
    while removed < limit:
        row = db.execute(_OLDEST_ROOM, (before,)).fetchone()
        if row is None:
            break
        room, name, first, indexed = row
        removed += _remove(db, room, first, indexed, before, limit - removed)
        rooms.append(name)
    return removed, rooms


def _remove(db: sqlite3.Connection, room: int, first: int, indexed: int, before: int, limit: int) -> int:
    """Remove up to `limit` messages from the front of a room, its index and its row. Returns how many."""
    base = room << SEQ_BITS
    with closing(
        db.execute(
            "SELECT key, at, text FROM messages WHERE key >= ? AND key < ? ORDER BY key LIMIT ?",
            (base + first, base + SEQ_END, limit),
        )
    ) as rows:
        old = list(takewhile(lambda row: row[1] < before, rows))
    end = old[-1][0] + 1
    db.executemany(
        "INSERT INTO search (search, rowid, words) VALUES ('delete', ?, ?)",
        [(key, " ".join(fold(text))) for key, _, text in old if key <= base + indexed],
    )
    db.execute("DELETE FROM messages WHERE key >= ? AND key < ?", (base + first, end))
    db.execute(
        "UPDATE rooms SET first = ?, indexed = max(indexed, ?) WHERE id = ?", (end - base, end - base - 1, room)
    )
    db.execute(UPDATE_OLDEST, (room,))
    return len(old)


def expire(db: sqlite3.Connection, before: int, limit: int) -> int:
    """Remove up to `limit` sessions seen last before that moment, and their ids. Returns how many it worked on."""
    left = _IDS_A_STEP
    count = 0
    expired = db.execute("SELECT id FROM sessions WHERE seen < ? ORDER BY seen LIMIT ?", (before, limit))
    for (session,) in expired.fetchall():
        left -= db.execute(_TAKE_IDS, (session, left)).rowcount
        count += 1
        if left <= 0:  # there may be more: the session stays until it has none
            break
        db.execute("DELETE FROM sessions WHERE id = ?", (session,))
    return count


def give_back(db: sqlite3.Connection) -> None:
    """Give some of the free pages back to the disk, but for those that the next messages will take."""
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    if free > _SPARE_PAGES:
        # Not `execute`, which lets this pragma free one page.
        db.executescript(f"PRAGMA incremental_vacuum({min(free - _SPARE_PAGES, _VACUUM_PAGES)})")
