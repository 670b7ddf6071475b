"""Databases of logs: SQLite in a file, or PostgreSQL for several nodes.

Each store is plain blocking code with plain SQL; what they share stands beside them: `words` for search,
`batches` for repeats, `schemas` for tables and their versions, `copies` for a chat that is moved as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chatd.interfaces import IStore, StoreUnusable
from chatd.stores.copies import ISource, ITarget
from chatd.stores.sqlite import SqliteStore
from chatd.stores.sqlitecopy import SqliteSource, SqliteTarget
from chatd.stores.words import fold

__all__ = ["fold", "open_store", "source_of", "target_of"]


def open_store(url: str) -> IStore:
    """The store for `--db`: a `postgresql://` URL, or the path of an SQLite file. It is not opened yet.

    Raises StoreUnusable for another URL, and where the library for it is not installed.
    """
    if not _is_postgres(url):
        return SqliteStore(url)
    with _psycopg():
        from chatd.stores.postgres import PostgresStore
    return PostgresStore(url)


def source_of(url: str) -> ISource:
    """The chat at a URL or path, as for `open_store`, to be read as a whole. Raises StoreUnusable."""
    if not _is_postgres(url):
        return SqliteSource(url)
    with _psycopg():
        from chatd.stores.postgrescopy import PostgresSource
    return PostgresSource(url)


def target_of(url: str) -> ITarget:
    """The empty chat at a URL or path, as for `open_store`, to be filled as a whole. Raises StoreUnusable."""
    if not _is_postgres(url):
        return SqliteTarget(url)
    with _psycopg():
        from chatd.stores.postgrescopy import PostgresTarget
    return PostgresTarget(url)


def _is_postgres(url: str) -> bool:
    if url.startswith(("postgresql://", "postgres://")):
        return True
    if "://" in url:  # which is not shown: there may be a password in it
        raise StoreUnusable("a database is a path, or a URL that begins with postgresql://")
    return False


@contextmanager
def _psycopg() -> Iterator[None]:
    """Raises StoreUnusable where psycopg is not there, or finds no libpq."""
    try:
        yield
    except ImportError as error:
        why = " ".join(str(error).split())
        raise StoreUnusable(f"PostgreSQL needs psycopg ({why}): pip install 'chatd[postgres]'") from error
