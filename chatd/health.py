"""Whether a message could be kept now."""

from __future__ import annotations

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from chatd.admission import now
from chatd.interfaces import IStore, SessionRecord, StoreError
from chatd.journal import Journal

#: What was found is told again for so many seconds.
FRESH = 1.0
#: A write that takes longer is none that a message could wait for.
WITHIN = 2.0
#: The id of the session that is written to see whether writing works: nobody ever has it.
NOBODY = 0


class Health:
    """Finds out by a write of its own, through the journal like a message: at most one a second, at most one at a
    time, and only when somebody asks."""

    def __init__(self, journal: Journal, store: IStore, clock: IReactorTime) -> None:
        self._journal = journal
        self._store = store
        self._clock = clock
        self._good = False
        self._at = -FRESH
        self._probe: Deferred[bool] | None = None
        self._waiting: list[Deferred[bool]] = []

    def ask(self) -> Deferred[bool]:
        """Fires with whether a message could be kept now, within two seconds."""
        asked: Deferred[bool] = Deferred()
        if self._clock.seconds() - self._at < FRESH:
            asked.callback(self._good)
            return asked
        self._waiting.append(asked)
        if self._probe is None:
            self._probe = self._journal.maintain(self._write).addCallbacks(lambda _: True, self._failed)
            self._probe.addCallback(self._found)
        return asked.addTimeout(WITHIN, self._clock).addErrback(self._too_late)

    def _write(self) -> None:
        """Blocking: runs in the writer's thread."""
        record = SessionRecord(NOBODY, None, "health", now(self._clock), False)
        try:
            self._store.save([record])
        except StoreError:
            # As the journal does after a failure: with a new connection it may work again.
            self._store.reopen()
            self._store.save([record])

    def _failed(self, failure) -> bool:  # type: ignore[no-untyped-def]
        failure.trap(StoreError)
        return False

    def _found(self, good: bool) -> None:
        self._probe = None
        self._good, self._at = good, self._clock.seconds()
        waiting, self._waiting = self._waiting, []
        for asked in waiting:
            if not asked.called:
                asked.callback(good)

    @staticmethod
    def _too_late(failure) -> bool:  # type: ignore[no-untyped-def]
        failure.trap(TimeoutError)
        return False
