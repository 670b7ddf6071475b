"""What is done beside the chat, in small steps: the search index, retention, old sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from chatd.admission import DAY, now
from chatd.hub import Hub
from chatd.interfaces import IStore
from chatd.outages import Outages
from chatd.rounds import Rounds

INDEX_EVERY, INDEX_STEP = 1.0, 100
RETAIN_EVERY, RETAIN_STEP = 60.0, 200
EXPIRE_EVERY, EXPIRE_STEP = 600.0, 100
REFRESH_EVERY = 6 * 60 * 60.0
#: After a step it rests for so many times the step's duration, so that messages go first.
REST = 9

T = TypeVar("T")


class Maintenance(Service):
    """Keeps the store in order. `retain_days` is None where all is kept for ever."""

    name = "maintenance"
    log = Logger()

    def __init__(self, hub: Hub, store: IStore, clock: IReactorTime, retain_days: float | None) -> None:
        self._hub = hub
        self._store = store
        self._clock = clock
        self._retain_days = retain_days
        self._rounds = Rounds(clock, self.log, Outages(self.log))

    def startService(self) -> None:
        super().startService()
        self._rounds.every(INDEX_EVERY, self._index, "the search index has to wait")
        self._rounds.every(EXPIRE_EVERY, self._expire, "old sessions cannot be forgotten")
        self._rounds.every(REFRESH_EVERY, self._refresh, "who is connected cannot be noted")
        if self._retain_days is not None:
            self._rounds.every(RETAIN_EVERY, self._retain, "old messages cannot be removed")

    def stopService(self) -> None:
        super().stopService()
        self._rounds.stop()

    async def _step(self, call: Callable[[], T]) -> T:
        began = self._clock.seconds()
        result = await self._hub.journal.maintain(call)
        if self.running:
            await deferLater(self._clock, REST * (self._clock.seconds() - began))
        return result

    async def _index(self) -> None:
        while self.running and await self._step(lambda: self._store.index(INDEX_STEP)):
            pass

    async def _expire(self) -> None:
        before = now(self._clock) - int(self._hub.settings.session_days * DAY)
        while self.running and await self._step(lambda: self._store.expire_sessions(before, EXPIRE_STEP)):
            pass

    async def _refresh(self) -> None:
        self._hub.refresh()

    async def _retain(self) -> None:
        assert self._retain_days is not None
        before = now(self._clock) - int(self._retain_days * DAY)
        while self.running and await self._step(lambda: self._store.retain(before, RETAIN_STEP)):
            pass
        # Also where another node has removed them.
        await self._hub.retained()
