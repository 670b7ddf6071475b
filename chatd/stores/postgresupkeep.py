"""What is removed from a PostgreSQL store, in small steps: old messages, old sessions."""

from __future__ import annotations

from itertools import takewhile

from chatd.stores.postgreslink import Link
from chatd.stores.postgrespages import LAST_SEQ, OLDEST_FIRST

# Ids that one call forgets: a session may have a million of them.
_IDS_A_STEP = 2000

_OLDEST = """
    SELECT upkeep.room, first FROM upkeep JOIN messages ON messages.room = upkeep.room AND seq = first
    WHERE at < %s LIMIT 1
"""
_EXPIRED = """
    SELECT id FROM sessions WHERE seen < %s AND NOT EXISTS (SELECT 1 FROM here WHERE session = sessions.id)
    ORDER BY seen LIMIT %s FOR UPDATE SKIP LOCKED
"""
_TAKE_IDS = """
    WITH gone AS (
        DELETE FROM ids WHERE ctid = ANY(ARRAY(SELECT ctid FROM ids WHERE session = %s LIMIT %s)) RETURNING 1)
    SELECT count(*) FROM gone
"""


def retain(link: Link, before: int, limit: int) -> int:
    """Remove up to `limit` messages older than that moment. Returns how many."""
    removed = 0
    while removed < limit:
        row = link.execute(_OLDEST, (before,)).fetchone()
        if row is None:
            break
        removed += _remove(link, row[0], row[1], before, limit - removed)
    return removed


def _remove(link: Link, room: int, first: int, before: int, limit: int) -> int:
    """Remove up to `limit` messages from the front of a room. Returns how many."""
    rows = link.execute(OLDEST_FIRST, (room, first - 1, room, LAST_SEQ, limit)).fetchall()
    old = list(takewhile(lambda row: row[1] < before, rows))
    end = old[-1][0]
    for table in ("messages", "search"):
        link.execute(f"DELETE FROM {table} WHERE room = %s AND seq BETWEEN %s AND %s", (room, first, end))
    query = "UPDATE upkeep SET first = %s, indexed = greatest(indexed, %s) WHERE room = %s"
    link.execute(query, (end + 1, end, room))
    return len(old)


def expire(link: Link, before: int, limit: int) -> int:
    """Forget up to `limit` sessions seen last before that moment, and their ids. Returns how many."""
    left = _IDS_A_STEP
    count = 0
    for (session,) in link.execute(_EXPIRED, (before, limit)).fetchall():
        (gone,) = link.execute(_TAKE_IDS, (session, left)).fetchall()
        left -= gone[0]
        count += 1
        if left <= 0:  # there may be more: the session stays until it has none
            break
        link.execute("DELETE FROM sessions WHERE id = %s", (session,))
    return count
