"""The other nodes of the chat: what this one tells them by way of a shared store, and how it hears of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import groupby
from typing import Protocol

from msgspec import Struct
from twisted.internet.defer import Deferred, TimeoutError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from chatd.errors import NameInUse, Unavailable
from chatd.interfaces import Hint, ISharedStore, SessionRecord, StoreError
from chatd.journal import Journal
from chatd.outages import Outages
from chatd.rounds import Rounds
from chatd.workers import Workers

REAP_EVERY = 2.0
#: Hints may get lost, so everything is looked at every so many seconds.
LOOK_EVERY = 5.0
#: How long the thread that hears hints waits at once: stopping waits for it.
WAIT = 0.5
#: What failed is tried again after so many seconds, at first and at the most.
FIRST_AGAIN, AGAIN = 0.05, 1.0
#: What the store has not answered after so many seconds is cut off, and tried again.
PATIENCE = 15.0
#: Who asks for a name waits so long for the answer.
CLAIM_WITHIN = 5.0


class Peers(Protocol):
    """What the hub asks of the other nodes."""

    async def claim(self, session: SessionRecord, key: str) -> None:
        """The session takes its name, among all nodes, and is here. Raises NameInUse or Unavailable."""

    def keep(self, session: SessionRecord, key: str) -> None:
        """The session, which was held, has a connection here again."""

    def hold(self, session: int, seconds: float) -> None:
        """The session has no connection here any more, and stays for so long."""

    def release(self, session: int) -> None:
        """The session is here no more."""

    def enter(self, session: int, room: str) -> None:
        """The session is in the room."""

    def leave(self, session: int, room: str) -> None:
        """The session is not in the room any more, here."""


class Alone:
    """There are no other nodes."""

    async def claim(self, session: SessionRecord, key: str) -> None:
        """Nobody else can have the name."""

    def keep(self, session: SessionRecord, key: str) -> None:
        """Nobody to tell."""

    def hold(self, session: int, seconds: float) -> None:
        """Nobody to tell."""

    def release(self, session: int) -> None:
        """Nobody to tell."""

    def enter(self, session: int, room: str) -> None:
        """Nobody to tell."""

    leave = enter


class Listener(Protocol):
    """Who hears of the other nodes: the hub."""

    def hinted(self, hint: Hint) -> None:
        """Something may have changed."""

    def present(self) -> Iterable[tuple[SessionRecord, str, Sequence[str], bool]]:
        """Who is here: each session with the key of its name, its rooms, and whether it has the name already."""

    def told_of_leaving(self, rooms: Iterable[str]) -> None:
        """The store knows now that somebody left these rooms here."""

    def dispossessed(self, session: int) -> None:
        """Another session has taken this one's name, while this node was not heard of."""


class Change(Struct, eq=False):
    """Something that the store is to be told: `call` names the store's method, `item` is one of its arguments.

    `about` is the session, or the session and the room: a later change about the same takes the place of one that
    the store has not been told yet. `done` is for a claim that somebody waits for.
    """

    call: str
    item: object
    about: object
    done: Deferred[object] | None = None

    @property
    def over(self) -> bool:
        """Whether somebody waited for it, and does no more."""
        return self.done is not None and self.done.called


class Nodes:
    """Tells the store, in order and as many at once as have gathered, and asks it what the others do."""

    log = Logger()

    def __init__(
        self,
        store: ISharedStore,
        journal: Journal,
        clock: IReactorTime,
        workers: Workers,
        grace: float,
        listener: Listener,
    ) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._workers = workers
        self._grace = grace
        self._listener = listener
        self._outages = Outages(self.log)
        #: What the store is to be told, in order, by what it is about: bounded, however long it does not answer.
        self._changes: dict[object, Change] = {}
        self._telling = False
        self._idle: list[Deferred[None]] = []
        self._running = False
        #: Whether who is here has to come again: the others took this node for dead, or what it told may be lost.
        self._buried = False
        #: Who was where on other nodes when this one looked last, as the store sums it up.
        self._elsewhere: dict[str, object] = {}
        self._rounds = Rounds(clock, self.log, self._outages)

    def start(self) -> None:
        """Be known as alive, before anything else: blocking. Raises StoreError."""
        self._store.renew()
        self._running = True
        self._rounds.every(self._store.lease / 3, self._renew, "the lease of this node cannot be renewed")
        self._rounds.every(REAP_EVERY, self._reap, "dead nodes cannot be looked for")
        self._rounds.every(LOOK_EVERY, self._look, "the other nodes cannot be looked at")
        self._rounds.every(1.0, self._interrupt, "what hangs cannot be cut off")
        Deferred.fromCoroutine(self._listen())

    def close(self) -> None:
        """Stop all timers, and whatever the store is still asked."""
        self._running = False
        self._rounds.stop()
        self._store.interrupt(0.0)

    def idle(self) -> Deferred[None]:
        """Fires when the store has been told all."""
        deferred: Deferred[None] = Deferred()
        if self._telling:
            self._idle.append(deferred)
        else:
            deferred.callback(None)
        return deferred

    async def claim(self, session: SessionRecord, key: str) -> None:
        asked = object()
        try:
            await self._claim(session, key, asked)
        except Unavailable:
            # A claim that is under way may be granted, though nobody knows.
            if self._changes.pop(asked, None) is None:
                self.release(session.id)
            raise

    async def _claim(self, session: SessionRecord, key: str, about: object) -> None:
        done: Deferred[object] = Deferred()
        self._add(Change("claim", (session, key), about, done))
        try:
            granted = await done.addTimeout(CLAIM_WITHIN, self._clock)
        except TimeoutError:
            raise Unavailable("The database does not answer now: try again.") from None
        if not granted:
            raise NameInUse(f"The name {session.name} is in use: choose another one.")

    def keep(self, session: SessionRecord, key: str) -> None:
        self._add(Change("claim", (session, key), session.id))

    def hold(self, session: int, seconds: float) -> None:
        self._add(Change("hold", (session, seconds), session))

    def release(self, session: int) -> None:
        self._add(Change("release", session, session))

    def enter(self, session: int, room: str) -> None:
        self._add(Change("enter", (session, room), (session, room)))

    def leave(self, session: int, room: str) -> None:
        self._add(Change("leave", (session, room), (session, room)))

    def _add(self, change: Change) -> None:
        self._changes.pop(change.about, None)  # the new one is the last
        self._changes[change.about] = change
        if not self._telling:
            self._telling = True
            Deferred.fromCoroutine(self._tell())

    async def _tell(self) -> None:
        while self._changes:
            # What comes in one turn of the reactor is one call.
            await deferLater(self._clock, 0)
            changes, self._changes = self._changes, {}
            for call, group in groupby(changes.values(), lambda change: change.call):
                await self._tell_group(call, list(group))
        self._telling = False
        idle, self._idle = self._idle, []
        for deferred in idle:
            deferred.callback(None)

    async def _tell_group(self, call: str, group: list[Change]) -> None:
        """All of these can be told again, so a failure is repeated. Of claims, those that somebody waits for."""
        delay = FIRST_AGAIN
        while group := [change for change in group if not change.over]:
            try:
                results = await self._journal.maintain(partial(self._call, call, group))
            except StoreError as error:
                self._outages.failed("the other nodes cannot be told", error)
                await deferLater(self._clock, delay)
                delay = min(2 * delay, AGAIN)
                if not self._running:
                    return
            except Exception:
                self.log.failure("telling the other nodes failed in a way it should not")
                return
            else:
                self._outages.worked("the other nodes cannot be told")
                self._told(group, results)
                return

    def _told(self, group: Sequence[Change], results: Sequence[object]) -> None:
        for change, result in zip(group, results, strict=False):
            if change.done is not None and not change.over:
                change.done.callback(result)
        self._listener.told_of_leaving(_rooms(group))

    def _call(self, call: str, group: Sequence[Change]) -> Sequence[object]:
        """Blocking: runs in the writer's thread."""
        items = [change.item for change in group]
        result = getattr(self._store, call)(items)
        return result if call == "claim" else ()

    async def _renew(self) -> None:
        if not await self._journal.maintain(self._store.renew):
            self._buried = True
        if self._buried:
            await self._come_back()

    async def _come_back(self) -> None:
        """The store may not know who is here, or the others took this node for dead: it is told all anew, and who
        lost his name is told so."""
        present = list(self._listener.present())
        sessions = [record.id for record, *_ in present]
        places = [(record.id, room) for record, _, rooms, _ in present for room in rooms]
        # Claims that come later are made later, so what they bring is not taken for a remnant.
        await self._journal.maintain(lambda: self._store.settle(sessions, places))
        self._buried = False
        # Looked at anew: who left or was renamed meanwhile has been told of, and must not come again.
        here = [(record, key) for record, key, _, named in self._listener.present() if named]
        # All at once: the lease has to be renewed meanwhile.
        await gatherResults([Deferred.fromCoroutine(self._come(*one)) for one in here])

    async def _come(self, record: SessionRecord, key: str) -> None:
        try:
            await self._claim(record, key, record.id)
        except NameInUse:
            self._listener.dispossessed(record.id)
        except Unavailable:
            self._buried = True

    async def _reap(self) -> None:
        await self._journal.maintain(lambda: self._store.reap(self._grace))

    async def _interrupt(self) -> None:
        self._store.interrupt(PATIENCE)

    async def _look(self) -> None:
        elsewhere = await self._journal.read(self._store.elsewhere)
        rooms = elsewhere.keys() | self._elsewhere.keys()
        changed = frozenset(room for room in rooms if elsewhere.get(room) != self._elsewhere.get(room))
        self._elsewhere = elsewhere
        self._listener.hinted(Hint(None, changed))

    async def _listen(self) -> None:
        while self._running:
            try:
                hint = await self._workers.wait(self._store.wait, WAIT)
            except StoreError as error:
                self._outages.failed("hints of other nodes cannot be heard", error)
                await deferLater(self._clock, AGAIN)
            except Exception:
                self.log.failure("hearing hints of other nodes failed in a way it should not")
                await deferLater(self._clock, AGAIN)
            else:
                self._outages.worked("hints of other nodes cannot be heard")
                self._heard(hint)

    def _heard(self, hint: Hint) -> None:
        if self._running and (hint.messages is None or hint.presence is None or hint.messages | hint.presence):
            self._listener.hinted(hint)


def _rooms(changes: Sequence[Change]) -> set[str]:
    return {change.item[1] for change in changes if change.call == "leave"}  # type: ignore[index]
