"""The connections of a PostgreSQL store: how they are made, how they fail, and what goes through them."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic, perf_counter
from typing import Any, TypeVar

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict

from chatd.interfaces import OutcomeUnknown, StoreError

T = TypeVar("T")
Link = Connection[tuple[Any, ...]]

# It warns of what it raises as well.
logging.getLogger("psycopg").setLevel(logging.ERROR)

# How soon a connection is known to be lost, on both sides; what the URL says goes before.
_DEFAULTS = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "chatd",
}

# All that is asked for is found by an index, whatever the statistics say of a chat that grows by the minute.
# A node that stopped in the middle of a transaction must not hold up the others for long; and who waits for a lock
# gives up before `interrupt` cuts it off, as the server would hold what was cut off until the lock is free.
# A commit is on the disk before it is acknowledged: what the server is set to counts, unless it is nothing.
_SETTINGS = """
    SET enable_seqscan = off;
    SET idle_in_transaction_session_timeout = '10s';
    SET lock_timeout = '5s';
    SET tcp_keepalives_idle = 10;
    SET tcp_keepalives_interval = 3;
    SET tcp_keepalives_count = 3;
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
"""


# Unlike libpq's own words, these hold nothing of the URL: it may be a part of a password.
_NO_URL = (
    "its URL must look like postgresql://user@host:5432/name; in a password, each sign other than letters and "
    "digits is written as % and its code, @ as %40"
)


def connect(url: str) -> Link:
    """A connection in autocommit mode. Raises psycopg.Error, whose text holds no password."""
    link = _connect(url)
    _set_up(link)
    return link


def _connect(url: str) -> Link:
    options: dict[str, Any] = {**_DEFAULTS, **_parameters(url), "client_encoding": "UTF8"}
    return Connection.connect(autocommit=True, **options)


def _set_up(link: Link) -> None:
    try:
        link.execute(_SETTINGS)
    except BaseException:
        link.close()
        raise


def _parameters(url: str) -> dict[str, Any]:
    """What the URL says. A password that is not written as it has to be is not taken for something else."""
    try:
        found = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise psycopg.ProgrammingError(_NO_URL) from None
    ports, hosts, name = (str(found.get(key, "")) for key in ("port", "host", "dbname"))
    misread = ports.strip("0123456789,") or "@" in hosts or ("@" in name and "user" not in found)
    if misread:
        raise psycopg.ProgrammingError(_NO_URL)
    return found


class Links:
    """The connections to one database: one that writes, and one for each thread that reads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._open = False
        self._writer: Link | None = None
        self._readers: list[tuple[threading.Thread, Link]] = []
        self._lock = threading.Lock()
        #: What is under way on which connection, and since when.
        self._under_way: dict[Link, float] = {}
        #: How often the connection that writes has been opened anew.
        self.reopened = 0
        self._mine = threading.local()
        #: How long the last commit took that waited for the disk.
        self.flush_seconds = 0.0

    def open(self) -> Link:
        """Open them. Returns the one that writes. Raises psycopg.Error."""
        self._writer = connect(self._url)
        self._open = True
        return self._writer

    def close(self) -> None:
        """Close them all; nothing may be under way."""
        self._open = False
        with self._lock:
            for _, link in self._readers:
                link.close()
            self._readers.clear()
            self._mine = threading.local()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def reopen(self) -> None:
        """Open the one that writes anew. Raises StoreError."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self.reopened += 1
        self._writer = self.another()

    def interrupt(self, seconds: float) -> None:
        """Cut off what has been under way for so many seconds: it fails then. From any thread.

        A server that hangs on a machine that lives acknowledges all that it is sent, so that TCP waits for ever.
        """
        before = monotonic() - seconds
        with self._lock:
            for link, since in self._under_way.items():
                if since <= before:
                    _cut_off(link)

    @contextmanager
    def interruptible(self, link: Link) -> Iterator[None]:
        """Something is under way on this connection, which nobody closes meanwhile."""
        with self._lock:
            self._under_way[link] = monotonic()
        try:
            yield
        finally:
            with self._lock:
                del self._under_way[link]

    def another(self) -> Link:
        """One more connection, for the caller to close. Raises StoreError."""
        if not self._open:
            raise StoreError("the database is not open")
        try:
            link = _connect(self._url)
            with self.interruptible(link):
                _set_up(link)
        except psycopg.Error as error:
            raise StoreError(one_line(error)) from error
        return link

    def write(self, work: Callable[[Link], T]) -> T:
        """Do it in a transaction of its own. Raises OutcomeUnknown or StoreError."""
        link = self._writer
        if link is None:
            raise StoreError("the database is not open")
        committing = 0.0
        try:
            # In a pipeline the server is waited for where its answer is needed, and at the end.
            with self.interruptible(link), link.pipeline():
                link.execute("BEGIN")
                result = work(link)
                committing = perf_counter()
                link.execute("COMMIT")
        except psycopg.Error as error:
            failed = _failure(link, error, committing > 0)
            self._undo(link)
            raise failed from error
        except BaseException:
            self._undo(link)
            raise
        self.flush_seconds = perf_counter() - committing
        return result

    def _undo(self, link: Link) -> None:
        with suppress(psycopg.Error):
            if not link.closed:
                with self.interruptible(link):
                    link.rollback()

    def write_lazily(self, work: Callable[[Link], T]) -> T:
        """Do what can be done again: in a transaction that is on the disk a little later. Raises StoreError."""

        def unsynced(link: Link) -> T:
            link.execute("SET LOCAL synchronous_commit = off")
            return work(link)

        flush_seconds = self.flush_seconds
        try:
            return self.write(unsynced)
        finally:
            self.flush_seconds = flush_seconds

    def read(self, work: Callable[[Link], T]) -> T:
        """Do it with this thread's connection, and once more where that has been lost. Raises StoreError."""
        link: Link | None = getattr(self._mine, "link", None)
        try:
            if link is not None:
                try:
                    with self.interruptible(link):
                        return work(link)
                except psycopg.Error as error:
                    if not _lost(link, error):
                        raise
                    link.close()
            link = self._new_reader()
            with self.interruptible(link):
                return work(link)
        except psycopg.Error as error:
            raise StoreError(one_line(error)) from error

    def _new_reader(self) -> Link:
        new = self._mine.link = self.another()
        with self._lock:
            gone = [link for thread, link in self._readers if link.closed or not thread.is_alive()]
            for link in gone:
                link.close()
            self._readers = [(thread, link) for thread, link in self._readers if link not in gone]
            self._readers.append((threading.current_thread(), new))
        return new


def _cut_off(link: Link) -> None:
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(link.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def one_line(error: psycopg.Error) -> str:
    """What the error says, without line breaks."""
    return " ".join((error.diag.message_primary or str(error)).split())


def _lost(link: Link, error: psycopg.Error) -> bool:
    """Whether the connection is gone, so that nobody knows what became of what was sent."""
    return link.closed or error.sqlstate is None or error.diag.severity_nonlocalized != "ERROR"


def _failure(link: Link, error: psycopg.Error, committing: bool) -> StoreError:
    """What a failed transaction means. Where the server answered, it is undone."""
    if committing and _lost(link, error):
        return OutcomeUnknown(one_line(error))
    return StoreError(one_line(error))


def arrays(rows: Sequence[tuple[int | str, ...]], width: int) -> list[str]:
    """Rows as an array for each of their columns, as `unnest` takes them."""
    columns: list[Sequence[int | str]] = list(zip(*rows, strict=True)) or [()] * width
    return [array(column) for column in columns]


def array(values: Iterable[int | str]) -> str:
    """An array as PostgreSQL spells it. psycopg would do it, in most of the time that a batch takes."""
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: int | str) -> str:
    if isinstance(value, int):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
