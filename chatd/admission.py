"""Who gets in, and under which name: a hello gets a session, a new one or one that was there before."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chatd import names, sessions
from chatd.errors import ChatError, Unavailable, WrongPassword
from chatd.interfaces import IMember, IStore, SessionRecord
from chatd.journal import Journal
from chatd.nodes import Alone, Peers
from chatd.rooms import Rooms
from chatd.sessions import Session, Sessions

DAY = 24 * 60 * 60 * 1000


class Welcome(NamedTuple):
    """What became of a hello. `token` is None for a session that cannot be resumed."""

    session: Session
    token: str | None
    resumed: bool


class Admission:
    """Gives connections their sessions.

    A session that was seen last before so many days is forgotten. `end` ends one that has no name any more.
    """

    def __init__(
        self,
        store: IStore,
        clock: IReactorTime,
        journal: Journal,
        rooms: Rooms,
        known: Sessions,
        peers: Peers,
        end: Callable[[Session], None],
        *,
        session_days: float,
        password: str | None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._journal = journal
        self._rooms = rooms
        self._sessions = known
        self._peers = peers
        self._alone = isinstance(peers, Alone)
        self._end = end
        self._session_days = session_days
        self._password = password
        #: Sessions that are asking the other nodes for their names, each with who waits for the answer.
        self._claims: dict[Session, list[Deferred[None]]] = {}

    def claiming(self, session: Session) -> bool:
        """Whether the session is asking the other nodes for its name."""
        return session in self._claims

    async def hello(
        self, member: IMember, name: str, token: str | None = None, password: str | None = None
    ) -> Welcome:
        """Give a connection a session: that of the token, else a new one by that name. Raises ChatError."""
        self.check_password(password)
        shown, key = names.person(name)
        session = None if token is None else await self._recall(token, shown)
        if session is not None:
            if not session.members and shown != session.name:
                await self._rename(session, shown, key)
            elif not session.members and session.grace is not None:
                self._peers.keep(session.record(now(self._clock), held=True), session.key)
            self._sessions.connect(session, member)
            return Welcome(session, token, True)
        token = sessions.new_token() if member.resumable else None
        session = self._sessions.new(shown, key, token)
        await self._claim(session)
        self._sessions.connect(session, member)
        return Welcome(session, token, False)

    def check_password(self, password: str | None) -> None:
        """Raises WrongPassword where the server has one, and this is not it."""
        wanted = self._password
        if wanted is None:
            return
        if password is None:
            raise WrongPassword("This server has a password: say it.")
        if not hmac.compare_digest(wanted.encode(), password.encode("utf-8", "replace")):
            raise WrongPassword("This is not the password.")

    async def _recall(self, token: str, shown: str) -> Session | None:
        """The session that the token speaks for: it is here, or comes from the store. Raises ChatError."""
        hashed = sessions.hashed(token)
        oldest = now(self._clock) - self._session_days * DAY
        while True:
            session = self._sessions.with_token(hashed)
            if session is None:
                record = await self._rooms.read(self._store.session, hashed)
                # Another connection may have come with the same token meanwhile.
                if self._sessions.with_token(hashed) is None:
                    return await self._from_store(record, shown) if record and record.seen >= oldest else None
            elif session in self._claims:
                waiting: Deferred[None] = Deferred()
                self._claims[session].append(waiting)
                await waiting
            else:
                return session

    async def _from_store(self, record: SessionRecord, shown: str) -> Session:
        session = self.revive(SessionRecord(record.id, record.token, shown, record.seen, True))
        await self._claim(session)
        return session

    def revive(self, record: SessionRecord) -> Session:
        """A session that the store knows is here again. Raises NameInUse."""
        name, key = names.person(record.name)
        session = self._sessions.add(Session(record.id, record.token, name, key))
        session.stored = session.established = True
        if self._alone:
            self._journal.save(session.record(now(self._clock), held=True))
        return session

    async def _claim(self, session: Session) -> None:
        """Take the name among all nodes. Raises ChatError, and then the session is none."""
        with self._claiming(session):
            try:
                await self._peers.claim(session.record(now(self._clock), held=True), session.key)
            except ChatError:
                self._sessions.remove(session)
                raise

    async def _rename(self, session: Session, shown: str, key: str) -> None:
        """Give another name to a session without connections. Raises ChatError."""
        self._sessions.reserve(key, session)
        with self._claiming(session):
            try:
                await self._peers.claim(
                    SessionRecord(session.id, session.token, shown, now(self._clock), True), key
                )
            except ChatError as error:
                self._sessions.unreserve(key, session)
                if session.grace is None or isinstance(error, Unavailable):
                    self._end(session)
                raise
        old = session.name
        self._sessions.rename(session, shown, key)
        for room in session.rooms:
            self._rooms.presence.left(room, old)
            self._rooms.presence.joined(room, shown)
            self._peers.enter(session.id, room.name)  # it is there already, but the others hear of it

    @contextmanager
    def _claiming(self, session: Session) -> Iterator[None]:
        """Others who come with its token wait for what becomes of it."""
        self._claims[session] = []
        try:
            yield
        finally:
            for waiting in self._claims.pop(session):
                waiting.callback(None)


def now(clock: IReactorTime) -> int:
    """The clock's time in milliseconds since 1970."""
    return int(clock.seconds() * 1000)
