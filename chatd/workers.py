"""The threads: one that writes to the store, and a few that read beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

READERS = 3

P = ParamSpec("P")
T = TypeVar("T")


class Workers(Protocol):
    """Where blocking calls to the store go."""

    def write(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call it where writes are called, one after the other."""

    def read(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call it beside other reads and the write."""

    def wait(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call what takes its time, in the one thread that is there for waiting."""


class WorkerThreads(Service):
    """Workers that are threads. They start with the service, after a daemon's fork, which none would survive."""

    name = "workers"

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor
        self._writer = ThreadPool(1, 1, "chatd-writer")
        self._readers = ThreadPool(0, READERS, "chatd-reader")
        self._waiter = ThreadPool(0, 1, "chatd-waiter")

    def startService(self) -> None:
        super().startService()
        self._writer.start()
        self._readers.start()
        self._waiter.start()

    def stopService(self) -> None:
        super().stopService()
        self._waiter.stop()
        self._readers.stop()
        self._writer.stop()

    def write(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._writer, call, *args, **kwargs)

    def read(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._readers, call, *args, **kwargs)

    def wait(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._waiter, call, *args, **kwargs)
