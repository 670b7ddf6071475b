"""A chat as a whole, to be moved: all tables of a store, read and filled in the order of their keys.

A room goes by its place among all rooms here, from 1, so that a chat reads the same whatever store it is in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from zope.interface import Attribute, Interface

from chatd.interfaces import StoreError

Row = tuple[Any, ...]
Rows = Iterator[list[Row]]

#: The tables in the order in which they are filled, and what is in their rows. `room` is a room's place.
TABLES = {
    "rooms": ("place", "name", "last", "first", "at"),
    "sessions": ("id", "token", "name", "seen", "held"),
    "messages": ("room", "seq", "at", "session", "name", "text", "flags"),
    "ids": ("session", "room", "id", "seq"),
}

#: Which column of a table is a room.
_ROOM = {"rooms": 0, "messages": 0, "ids": 1}

#: Rows that are in memory at a time: 16 MiB, if each has the longest text.
PAGE_ROWS = 1000

#: Sessions from this number on are somebody's: 0 is what health checks write.
FIRST_SESSION = 1


class ISource(Interface):
    """A chat that nobody uses, to be read. Its database is never changed. Calls raise StoreError."""

    name: str = Attribute("What people are told that it is called. It holds no password.")
    log_id: str = Attribute("Its log: a new one, where the database has been put back to an earlier state.")
    identity: str = Attribute("The same as that of a target which is the same database.")

    def open() -> None:
        """Open it, and see that it is a chat that nobody uses. Raises StoreUnusable."""

    def count(table: str) -> int:
        """How many rows there are."""

    def read(table: str) -> Rows:
        """All rows, `PAGE_ROWS` at a time."""

    def check_unused() -> None:
        """Raises StoreUnusable where somebody has used it since it was opened."""

    def retire() -> None:
        """Its log goes on elsewhere. Where there is a witness, that tells if it is used again all the same."""

    def close() -> None:
        """Close it."""


class ITarget(Interface):
    """An empty chat, to be filled in one transaction. Calls raise StoreError."""

    name: str = Attribute("What people are told that it is called. It holds no password.")
    identity: str = Attribute("The same as that of a source which is the same database.")

    def open() -> None:
        """Open it, made where there is none. Raises StoreUnusable."""

    def begin() -> None:
        """Begin the transaction, and see that it is empty and that nobody uses it. Raises StoreUnusable."""

    def fill(table: str, pages: Iterable[list[Row]]) -> None:
        """Insert these rows. The tables come in the order of `TABLES`."""

    def read(table: str) -> Rows:
        """All rows as they are stored now, `PAGE_ROWS` at a time."""

    def keep(log_id: str) -> None:
        """Commit all of it, as that log."""

    def close() -> None:
        """Close it. What has not been committed is gone."""


def in_place(table: str, pages: Iterable[list[Row]], rooms: Iterable[int]) -> Rows:
    """Rows with the ids of rooms replaced by the places of these in the order of `rooms`. Raises StoreError."""
    column = _ROOM.get(table)
    if column is None:
        yield from pages
        return
    places = {id: place for place, id in enumerate(rooms, 1)}
    for page in pages:
        try:
            yield [(*row[:column], places[row[column]], *row[column + 1 :]) for row in page]
        except KeyError as error:
            raise StoreError(f"the table {table} has rows of room {error}, which is not there") from error


def pages_of(fetch: Callable[[int], list[Row]]) -> Rows:
    """What `fetch` returns, asked again and again for `PAGE_ROWS` rows, until there are none."""
    while page := fetch(PAGE_ROWS):
        yield page
