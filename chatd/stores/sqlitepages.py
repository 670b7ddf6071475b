"""How an SQLite store reads messages: each room's log is a range of keys."""

from __future__ import annotations

import sqlite3

from chatd.events import Message

Row = tuple[int, int, int, str, str, int]

# A message's key is its room's id and its number.
SEQ_BITS = 40
SEQ_END = 1 << SEQ_BITS

ACTION = 1

MESSAGES = "SELECT key, at, session, name, text, flags FROM messages WHERE key > ? AND key < ? ORDER BY key"


def base(db: sqlite3.Connection, room: str) -> int | None:
    """The key before the first one of the room."""
    row = db.execute("SELECT id FROM rooms WHERE name = ?", (room,)).fetchone()
    return None if row is None else row[0] << SEQ_BITS


def within_room(seq: int | None) -> int:
    """A number for the bounds of a range: one too high or low must not reach into the next room."""
    return SEQ_END if seq is None else min(max(seq, 0), SEQ_END)


def message(room: str, row: Row) -> Message:
    """The message in a row of the room."""
    key, at, session, name, text, flags = row
    return Message(room, key % SEQ_END, at, session, name, text, flags == ACTION)
