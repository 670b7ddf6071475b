"""Work that is done again and again, and goes on whatever fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from chatd.interfaces import StoreError
from chatd.outages import Outages


class Rounds:
    """Does each work every so many seconds, one round of it at a time. `outages` hears when the store fails."""

    def __init__(self, clock: IReactorTime, log: Logger, outages: Outages) -> None:
        self._clock = clock
        self._log = log
        self._outages = outages
        self._loops: list[LoopingCall] = []

    def every(self, seconds: float, work: Callable[[], Awaitable[None]], trouble: str) -> None:
        """Begin, after the first so many seconds. `trouble` is the beginning of the sentence for when it fails."""
        loop = LoopingCall(lambda: Deferred.fromCoroutine(self._round(work, trouble)))
        loop.clock = self._clock
        self._loops.append(loop)
        loop.start(seconds, now=False)

    def stop(self) -> None:
        """Begin no more rounds."""
        for loop in self._loops:
            if loop.running:
                loop.stop()

    async def _round(self, work: Callable[[], Awaitable[None]], trouble: str) -> None:
        try:
            await work()
        except StoreError as error:
            self._outages.failed(trouble, error)
        except Exception:
            self._log.failure("{trouble}, which should not be", trouble=trouble)
        else:
            self._outages.worked(trouble)
