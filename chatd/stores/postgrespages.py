"""How a PostgreSQL store reads messages: by their room and number, in the order of the primary key."""

from __future__ import annotations

from typing import Any

from chatd.events import Message

ACTION = 1
LAST_SEQ = (1 << 62) - 1

# Rows are compared whole and ordered by the whole key, so that it is used whatever the statistics say.
_MESSAGES = """
    SELECT seq, at, session, name, text, flags FROM messages
    WHERE (room, seq) > (%s, %s) AND (room, seq) < (%s, %s) ORDER BY room {0}, seq {0} LIMIT %s
"""
NEWEST_FIRST = _MESSAGES.format("DESC")
OLDEST_FIRST = _MESSAGES.format("ASC")

NEWS = """
    SELECT wanted.name, news.* FROM unnest(%s::text[], %s::bigint[]) AS wanted (name, after)
    JOIN rooms ON rooms.name = wanted.name AND rooms.last > wanted.after
    CROSS JOIN LATERAL (
        SELECT seq, at, session, name, text, flags FROM messages
        WHERE (room, seq) > (rooms.id, wanted.after) AND (room, seq) < (rooms.id, rooms.last + 1)
        ORDER BY room, seq LIMIT %s) AS news
    ORDER BY wanted.name, news.seq LIMIT %s
"""


def bounded(seq: int | None) -> int:
    """A number that the database can compare with."""
    return LAST_SEQ if seq is None else min(max(seq, 0), LAST_SEQ)


def message(room: str, row: tuple[Any, ...]) -> Message:
    """The message in a row that begins with its number."""
    seq, at, session, name, text, flags = row
    return Message(room, seq, at, session, name, text, flags == ACTION)
