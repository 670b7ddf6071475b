"""Starts and stops the parts in their order."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Sequence
from types import FrameType
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError, gatherResults, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from chatd import __version__
from chatd.connectionlog import ConnectionLog
from chatd.hub import Hub
from chatd.interfaces import IStore
from chatd.listening import Ports
from chatd.maintenance import Maintenance
from chatd.systemd import Readiness
from chatd.workers import WorkerThreads

#: Stopping takes at most so many seconds: to settle what is under way, then for the farewells to arrive, and for
#: all of it.
SETTLE_WITHIN, CLOSE_WITHIN, STOP_WITHIN = 2.5, 1.5, 4.25


class Door(Protocol):
    """What stopping asks of a factory."""

    def stop_reading(self) -> None:
        """Take nothing more."""

    def farewell(self, reason: str) -> Deferred[None]:
        """Say goodbye to all; fires when all connections have closed."""

    def abort(self) -> None:
        """Close what is still open."""


class IChatReactor(IReactorTime, IReactorFromThreads):
    """The reactor, as far as it is used here."""


class ChatService(Service):
    """The chat: a store, a hub, doors with their ports, and what goes beside.

    Stopping goes the other way round: no new connections, nothing more is read, what is under way is committed
    and delivered, everybody is told, connections close; then the store.
    """

    name = "chat"
    log = Logger()

    def __init__(
        self,
        reactor: IChatReactor,
        store: IStore,
        hub: Hub,
        workers: WorkerThreads,
        connection_log: ConnectionLog,
        maintenance: Maintenance,
        doors: Sequence[Door],
        ports: Sequence[Ports],
    ) -> None:
        self._reactor = reactor
        self._store = store
        self._hub = hub
        self._workers = workers
        self._connection_log = connection_log
        self._maintenance = maintenance
        self._doors = doors
        self._ports = ports
        self._readiness = Readiness()
        self._starting: IDelayedCall | None = None
        self._since = 0.0

    def startService(self) -> None:
        super().startService()
        self._since = self._reactor.seconds()
        self._store.open()
        self._workers.startService()
        self._hub.start()
        self._connection_log.startService()
        self._maintenance.startService()
        addresses = [address for port in self._ports for address in port.addresses]
        self._connection_log.started(__version__, addresses)
        self._reopen_on_hangup()
        # What is there now stays: the collector need not look at it again. What comes is seldom part of a cycle,
        # and under load its default of 700 objects is a few messages.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        # Before the reactor runs, a signal to stop would end the process without a farewell.
        self._starting = self._reactor.callLater(0, self._started, addresses)

    def _started(self, addresses: Sequence[str]) -> None:
        self.log.info(
            "chatd {version} listens on {addresses}", version=__version__, addresses=", ".join(addresses)
        )
        self._readiness.startService()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        if self._starting is not None and self._starting.active():
            self._starting.cancel()
        self._readiness.stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        began = self._reactor.seconds()
        for port in self._ports:
            await maybeDeferred(port.stopService)
        for door in self._doors:
            door.stop_reading()
        self._maintenance.stopService()
        await self._within(SETTLE_WITHIN, Deferred.fromCoroutine(self._hub.idle()))
        await self._within(
            CLOSE_WITHIN, gatherResults([d.farewell("the server is stopping") for d in self._doors])
        )
        for door in self._doors:
            door.abort()
        # An aborted connection is lost in the next turn.
        await deferLater(self._reactor, 0)
        rest = STOP_WITHIN - (self._reactor.seconds() - began)
        await self._within(rest, Deferred.fromCoroutine(self._hub.idle()))
        self._hub.close()
        self._workers.stopService()
        self._store.close()
        self._connection_log.stopped(self._reactor.seconds() - self._since)
        self._connection_log.stopService()

    async def _within(self, seconds: float, waiting: Deferred[Any]) -> None:
        """Wait for that, but no longer; nor does a failure keep the rest from being stopped."""
        over: Deferred[Any] = Deferred()
        waiting.addErrback(lambda failure: self.log.failure("stopping goes on after a failure", failure))
        waiting.chainDeferred(over)
        try:
            await over.addTimeout(seconds, self._reactor)
        except TimeoutError:
            self.log.warn("stopping goes on, though this takes longer than {seconds:.1f} s", seconds=seconds)

    def _reopen_on_hangup(self) -> None:
        """A hangup means that the log was moved; on a terminal it means that the terminal is gone."""
        if os.isatty(0):
            return

        def hangup(number: int, frame: FrameType | None) -> None:
            self._reactor.callFromThread(self._connection_log.reopen)

        signal.signal(signal.SIGHUP, hangup)
