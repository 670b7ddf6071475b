"""The search index of a PostgreSQL store: how it is filled, and how it is asked.

It is a GIN index over arrays of words. Each word stands with its room and the block of numbers that its message is
in, so that a search goes from block to block, the newest first, and sees one block of one room at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any

import psycopg

from chatd.events import Message
from chatd.stores.postgreslink import Link, array, arrays
from chatd.stores.postgrespages import NEWEST_FIRST, OLDEST_FIRST, message
from chatd.stores.words import fold

# Numbers in a block, and how much of a word the index holds: the texts that it finds are looked at once more.
_BLOCK_BITS = 14
_WORD_CHARS = 64

# Messages that are read at a time where there is no index yet.
_SCAN = 1000

_BEHIND = """
    SELECT id, last, indexed FROM rooms JOIN upkeep ON upkeep.room = rooms.id
    WHERE indexed < last ORDER BY id <= %s, id LIMIT %s
"""
_INSERT = """
    INSERT INTO search (room, seq, words)
    SELECT room, seq, words::text[]
    FROM unnest(%s::integer[], %s::bigint[], %s::text[]) AS new (room, seq, words)
"""
_SEARCH = """
    SELECT hit.seq FROM generate_series(%s::bigint, %s::bigint, -1) AS block
    CROSS JOIN LATERAL (
        SELECT array_agg(%s || '.' || block || '.' || word) AS words FROM unnest(%s::text[]) AS word) AS wanted
    CROSS JOIN LATERAL (
        SELECT seq FROM search WHERE search.words @> wanted.words AND seq < %s ORDER BY seq DESC) AS hit
    LIMIT %s
"""
_FETCH = """
    SELECT seq, at, session, name, text, flags FROM messages
    WHERE room = %s AND seq = ANY(%s::bigint[]) ORDER BY seq DESC
"""


def index(link: Link, turn: int, limit: int) -> tuple[int, bool]:
    """Take up to `limit` messages into the index, of the rooms after `turn` first.

    Returns the next turn, and whether there are more.
    """
    # One room more is asked for than can be done, to know whether there are more.
    for room, last, indexed in link.execute(_BEHIND, (turn, limit + 1)).fetchall():
        if limit <= 0:
            return turn, True
        taken, whole = _index_room(link, room, last, indexed, limit)
        limit -= taken
        turn = room
        if not whole:
            return turn, True
    return turn, False


def _index_room(link: Link, room: int, last: int, indexed: int, limit: int) -> tuple[int, bool]:
    """Take up to `limit` messages of a room. Returns how many, and whether these were all."""
    rows = link.execute(OLDEST_FIRST, (room, indexed, room, last + 1, limit)).fetchall()
    link.execute(_INSERT, arrays([(room, row[0], _entries(room, row[0], row[4])) for row in rows], 3))
    reached: int = last if len(rows) < limit else rows[-1][0]
    link.execute("UPDATE upkeep SET indexed = %s WHERE room = %s", (reached, room))
    return len(rows), reached == last


def _entries(room: int, seq: int, text: str) -> str:
    """What the index holds of a message: an array of its words, each with room and block."""
    return array(f"{room}.{seq >> _BLOCK_BITS}.{word[:_WORD_CHARS]}" for word in set(fold(text)))


class Search:
    """One search, for messages of a room that have all the `wanted` words, which are folded.

    `deadline` is by the clock of `time.monotonic`.
    """

    def __init__(self, link: Link, room: str, wanted: set[str], limit: int, deadline: float) -> None:
        self._link = link
        self._room = room
        self._wanted = wanted
        self._limit = limit
        self._deadline = deadline
        self._found: list[Message] = []

    def below(self, before: int) -> list[Message]:
        """Messages numbered below `before`, newest first. Raises TimeoutError and psycopg.Error."""
        try:
            with self._link.transaction():
                self._below(before)
        except psycopg.errors.QueryCanceled as error:
            raise TimeoutError("the search took too long") from error
        return self._found

    def _below(self, before: int) -> None:
        query = "SELECT id, first, indexed, last FROM rooms JOIN upkeep ON upkeep.room = rooms.id WHERE name = %s"
        for room, first, indexed, last in self._rows(query, (self._room,)):
            rest = self._scan(room, indexed, min(before, last + 1))
            self._look_up(room, first, rest)

    def _scan(self, room: int, indexed: int, before: int) -> int:
        """Look through what is not indexed yet. Returns below which number to go on."""
        while before > indexed + 1 and self._missing:
            rows = self._rows(NEWEST_FIRST, (room, indexed, room, before, _SCAN))
            before = self._take(rows, _SCAN, indexed + 1)
        return before

    def _look_up(self, room: int, first: int, before: int) -> None:
        words = sorted(word[:_WORD_CHARS] for word in self._wanted)
        while before > first and self._missing:
            blocks = (before - 1) >> _BLOCK_BITS, first >> _BLOCK_BITS
            asked = self._missing
            hits = self._rows(_SEARCH, (*blocks, str(room), words, before, asked))
            rows = self._rows(_FETCH, (room, [seq for (seq,) in hits])) if hits else []
            before = hits[-1][0] if len(hits) == asked else first
            self._take(rows, asked, first)

    @property
    def _missing(self) -> int:
        return self._limit - len(self._found)

    def _take(self, rows: Sequence[tuple[Any, ...]], asked: int, end: int) -> int:
        """Take those that have the words. Returns below which number to go on: `end` where these were the last."""
        for row in rows:
            if self._missing and self._wanted.issubset(fold(row[4])):
                self._found.append(message(self._room, row))
        return rows[-1][0] if len(rows) == asked else end

    def _rows(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        left = self._deadline - monotonic()
        if left <= 0:
            raise TimeoutError("the search took too long")
        with self._link.pipeline():
            self._link.execute("SELECT set_config('statement_timeout', %s, true)", (str(int(left * 1000) + 1),))
            return self._link.execute(query, values).fetchall()
