"""Group commit: what was read in one turn of the reactor, and what gathered while the last commit was under way,
is one transaction. Nobody sees a message before its transaction is on the disk.

The commit is the tick: no timer ever delays a message. A commit runs in the reactor's own thread while the disk
is quick, because two hand-offs between threads cost more than a quick flush, and in the writer's thread while it
is not, so that a stalled disk stops messages and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Protocol, TypeVar

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatd.errors import NotKept
from chatd.interfaces import Draft, IMember, IStore, Kept, OutcomeUnknown, SessionRecord, StoreError
from chatd.outages import Outages
from chatd.workers import Workers

#: The journal is full with so many drafts, or so many bytes of text: their senders are not read.
MAX_DRAFTS = 4096
MAX_BYTES = 4 * 1024 * 1024
#: A sender hears that its draft is waiting after so many seconds.
WAITING_AFTER = 2.0
#: Sessions that changed are written with the next batch, or after so many seconds.
SESSIONS_AFTER = 1.0
#: So many drafts that fail one by one, one after the other, mean that all will.
HOPELESS = 3
FIRST_REPEAT, LAST_REPEAT = 0.05, 1.0

T = TypeVar("T")


class Pending(Struct, eq=False):
    """A draft in the journal, and the member that waits to hear of it."""

    draft: Draft
    member: IMember
    since: float
    told: bool = False


class Listener(Protocol):
    """Who hears what became of the drafts: the hub."""

    def committed(self, batch: Sequence[Pending], kept: Sequence[Kept]) -> None:
        """These are stored."""

    def refused(self, pending: Pending, error: NotKept) -> None:
        """This one is not stored, for certain."""


class Pace:
    """Decides where commits run, by how long the last flushes took. The two thresholds differ, so that it
    does not swing."""

    quick = 0.002
    stalled = 0.1

    def __init__(self, in_place: bool) -> None:
        self._may = in_place
        self.in_place = in_place
        self._slow: deque[bool] = deque(maxlen=100)

    def flushed(self, seconds: float) -> None:
        """Take the duration of a flush into account."""
        self._slow.append(seconds > self.quick)
        if self.in_place:
            last_ten = list(self._slow)[-10:] if self._slow[-1] else ()
            if seconds > self.stalled or sum(last_ten) > 1:
                self.in_place = False
                self._slow.clear()
        elif self._may and len(self._slow) == 100 and sum(self._slow) <= 10:
            self.in_place = True


class Journal:
    """Takes drafts, commits them in batches, and tells the hub.

    `workers` run the store's blocking calls. All other methods belong to the reactor's thread.
    """

    log = Logger()

    def __init__(self, store: IStore, clock: IReactorTime, workers: Workers, listener: Listener) -> None:
        self._store = store
        self._clock = clock
        self._workers = workers
        self._listener = listener
        self._outages = Outages(self.log)
        self._pace = Pace(store.in_place)
        self._queue: list[Pending] = []
        self._settling: list[Pending] = []
        self._bytes = 0
        self._sessions: dict[int, SessionRecord] = {}
        self._sessions_call: IDelayedCall | None = None
        self._sessions_due = False
        self._jobs: deque[tuple[Callable[[], object], Deferred[object]]] = deque()
        self._running = False
        self._waiting_call: IDelayedCall | None = None
        self._no_longer_full: list[Deferred[None]] = []
        self._idle: list[Deferred[None]] = []
        #: None while the last write to the store went well, else what it failed with.
        self.failure: Exception | None = None

    def add(self, draft: Draft, member: IMember) -> Deferred[None] | None:
        """Take a draft. Returns None, or, when the journal is full now, what fires when it no longer is: read
        no more from this sender until then."""
        self._queue.append(Pending(draft, member, self._clock.seconds()))
        self._bytes += len(draft.text)
        self._start()
        if self._waiting_call is None:
            self._watch()
        if len(self._queue) < MAX_DRAFTS and self._bytes < MAX_BYTES:
            return None
        full: Deferred[None] = Deferred()
        self._no_longer_full.append(full)
        return full

    def save(self, session: SessionRecord) -> None:
        """Write the session with the next batch, or within a second."""
        self._sessions[session.id] = session
        if self._sessions_call is None:
            self._sessions_call = self._clock.callLater(SESSIONS_AFTER, self._save_sessions)

    def read(self, call: Callable[..., T], *args: object) -> Deferred[T]:
        """Read from the store, beside the writes."""
        return self._workers.read(call, *args)

    def maintain(self, call: Callable[[], T]) -> Deferred[T]:
        """Write to the store when no draft waits: a small step, for drafts wait for it."""
        done: Deferred[T] = Deferred()
        self._jobs.append((call, done))  # type: ignore[arg-type]
        self._start()
        return done

    def idle(self) -> Deferred[None]:
        """Fires when all that was added is settled and all sessions are written."""
        done: Deferred[None] = Deferred()
        if self._sessions_call is not None:
            self._sessions_call.reset(0)
        if self._running or self._sessions:
            self._idle.append(done)
        else:
            done.callback(None)
        return done

    def close(self) -> None:
        """Stop the timers. What is under way goes on; call `idle` first."""
        for call in (self._sessions_call, self._waiting_call):
            if call is not None:
                call.cancel()
        self._sessions_call = self._waiting_call = None

    def _save_sessions(self) -> None:
        self._sessions_call = None
        # Another save in this turn must not put it off.
        self._sessions_due = True
        if self._sessions:
            self._start()

    def _start(self) -> None:
        if not self._running:
            self._running = True
            self._clock.callLater(0, self._run)

    def _run(self) -> None:
        Deferred.fromCoroutine(self._work()).addErrback(self._broken)

    def _broken(self, failure: Failure) -> None:
        self._running = False
        self.log.failure("the journal broke; it goes on with the next draft", failure=failure)

    async def _work(self) -> None:
        while self._queue or self._jobs or (self._sessions and (self._sessions_due or not self._sessions_call)):
            if self._queue:
                batch, self._queue, self._bytes = self._queue, [], 0
                self._fire(self._no_longer_full)
                await self._settle(batch)
            elif not self._jobs:
                await self._settle([])
            # One between two batches, so that no load keeps maintenance waiting for ever.
            if self._jobs:
                await self._do(*self._jobs.popleft())
        self._running = False
        if not self._sessions:
            self._fire(self._idle)

    async def _do(self, call: Callable[[], object], done: Deferred[object]) -> None:
        try:
            result = await self._workers.write(call)
        except StoreError as error:
            # Its connection may be lost, and nobody else notices while no draft comes.
            await self._mend()
            done.errback(error)
        except Exception as error:
            done.errback(error)
        else:
            done.callback(result)

    async def _settle(self, batch: list[Pending]) -> None:
        """Commit the batch and tell what became of it, however long that takes."""
        self._settling = batch
        try:
            kept = await self._append(batch)
        except StoreError as error:
            self.failure = error
            if isinstance(error, OutcomeUnknown):
                self._deliver(batch, await self._repeat(batch))
            else:
                await self._mend()
                await self._one_by_one(batch, error)
        else:
            self._deliver(batch, kept)
        self._settling = []

    async def _append(self, batch: list[Pending]) -> list[Kept]:
        sessions, self._sessions = self._sessions, {}
        self._sessions_due = False
        drafts = [pending.draft for pending in batch]
        try:
            if self._pace.in_place:
                kept = self._store.append(drafts, list(sessions.values()))
            else:
                kept = await self._workers.write(self._store.append, drafts, list(sessions.values()))
        except StoreError:
            self._sessions = sessions | self._sessions
            raise
        except Exception as error:
            self._sessions = sessions | self._sessions
            self.log.failure("the store failed in a way it should not")
            raise StoreError(f"internal error: {error!r}") from error
        self._pace.flushed(self._store.flush_seconds)
        self.failure = None
        return kept

    def _deliver(self, batch: list[Pending], kept: list[Kept]) -> None:
        try:
            self._listener.committed(batch, kept)
        except Exception:
            self.log.failure("a batch is stored, but could not be delivered")

    async def _repeat(self, batch: list[Pending]) -> list[Kept]:
        """Repeat a batch that is stored or not, until it is known: its ids keep it from being stored twice.

        A repeat that fails for certain says nothing of the first try, so only success ends this.
        """
        delay = FIRST_REPEAT
        while True:
            await deferLater(self._clock, delay)
            delay = min(2 * delay, LAST_REPEAT)
            # Not before the delay: what is idle may be lost once more.
            await self._mend()
            try:
                return await self._append(batch)
            except StoreError as error:
                self.failure = error

    async def _one_by_one(self, batch: list[Pending], error: StoreError) -> None:
        """So that one draft cannot fail the others."""
        if not batch:
            self._later()
        failed = 0
        for pending in batch:
            if failed == HOPELESS:
                self._refuse(pending, error)
                continue
            try:
                kept = await self._append([pending])
                failed = 0
            except OutcomeUnknown:
                kept = await self._repeat([pending])
            except StoreError as again:
                failed += 1
                self._refuse(pending, again)
                continue
            self._deliver([pending], kept)
            pending.told = True

    def _later(self) -> None:
        """The sessions could not be written: try again in a while, though no draft comes."""
        if self._sessions_call is None:
            self._sessions_call = self._clock.callLater(LAST_REPEAT, self._save_sessions)

    def _refuse(self, pending: Pending, error: StoreError) -> None:
        pending.told = True  # that it waits would be wrong from now on
        self._listener.refused(pending, NotKept(f"Not kept, send it again: {error}."))

    async def _mend(self) -> None:
        try:
            await self._workers.write(self._store.reopen)
        except StoreError as error:
            self._outages.failed("the store cannot be opened anew", error)
        else:
            self._outages.worked("the store cannot be opened anew")

    def _watch(self) -> None:
        """Look again when the oldest draft will have waited for long: whatever it is that the writer does."""
        oldest = next((pending for pending in chain(self._settling, self._queue) if not pending.told), None)
        if oldest is not None:
            rest = oldest.since + WAITING_AFTER - self._clock.seconds()
            self._waiting_call = self._clock.callLater(max(0.0, rest), self._tell_waiting)

    def _tell_waiting(self) -> None:
        self._waiting_call = None
        # A clock adds up small steps, with what they lose.
        before = self._clock.seconds() - WAITING_AFTER + 0.001
        for pending in [*self._settling, *self._queue]:
            if not pending.told and pending.since <= before:
                pending.told = True
                pending.member.waiting(pending.draft.id)
        self._watch()

    @staticmethod
    def _fire(waiting: list[Deferred[None]]) -> None:
        fired, waiting[:] = waiting[:], []
        for deferred in fired:
            deferred.callback(None)
