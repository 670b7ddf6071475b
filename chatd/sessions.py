"""Who is who: a session is a name, a token and its connections, and outlives each of them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

from chatd.errors import NameInUse, TooManyConnections
from chatd.interfaces import IMember, SessionRecord

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from chatd.room import Room

MAX_CONNECTIONS = 16


def new_token() -> str:
    """256 random bits, for a client to keep."""
    return secrets.token_urlsafe(32)


def hashed(token: str) -> bytes:
    """What is kept of a token. It is random and long, so a fast hash without salt is enough."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class Session:
    """One who takes part. `token` is the hash of the token, None for sessions that cannot be resumed."""

    def __init__(self, id: int, token: bytes | None, name: str, key: str) -> None:
        self.id = id
        self.token = token
        self.name = name
        self.key = key
        self.members: set[IMember] = set()
        #: The rooms in which it is, with a connection or held.
        self.rooms: set[Room] = set()
        #: Whether its name is worth holding: it has said something, or been in a room for a while.
        self.established = False
        #: Whether the store knows it.
        self.stored = False
        self.establishing: IDelayedCall | None = None
        self.grace: IDelayedCall | None = None

    def record(self, now: int, held: bool) -> SessionRecord:
        """The session as a store keeps it; `now` in milliseconds since 1970."""
        return SessionRecord(self.id, self.token, self.name, now, held)

    def cancel(self) -> None:
        """Stop its timers."""
        for call in (self.establishing, self.grace):
            if call is not None and call.active():
                call.cancel()
        self.establishing = self.grace = None


class Sessions:
    """The sessions that are connected or held: each name belongs to one of them."""

    def __init__(self) -> None:
        #: A session that is about to be renamed is there with both its names.
        self._by_key: dict[str, Session] = {}
        self._by_token: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(dict.fromkeys(self._by_key.values())))

    def with_token(self, token: bytes) -> Session | None:
        """The session that this token speaks for, if it is connected or held."""
        return self._by_token.get(token)

    def check(self, key: str, session: Session | None = None) -> None:
        """Whether the name is free, or the session's own. Raises NameInUse."""
        if self._by_key.get(key, session) is not session:
            raise NameInUse(f"The name {self._by_key[key].name} is in use: choose another one.")

    def new(self, name: str, key: str, token: str | None) -> Session:
        """A new session. Raises NameInUse."""
        id = secrets.randbits(62) + 1
        return self.add(Session(id, None if token is None else hashed(token), name, key))

    def add(self, session: Session) -> Session:
        """Give it its name. Raises NameInUse."""
        self.check(session.key)
        self._by_key[session.key] = session
        if session.token is not None:
            self._by_token[session.token] = session
        return session

    def reserve(self, key: str, session: Session) -> None:
        """Nobody else may have the name. Raises NameInUse."""
        self.check(key, session)
        self._by_key[key] = session

    def unreserve(self, key: str, session: Session) -> None:
        """Others may have the name, unless it is the session's own."""
        if key != session.key:
            del self._by_key[key]

    def rename(self, session: Session, name: str, key: str) -> None:
        """Raises NameInUse."""
        if key != session.key:
            self.check(key, session)
            del self._by_key[session.key]
            self._by_key[key] = session
        session.name, session.key = name, key

    def connect(self, session: Session, member: IMember) -> None:
        """A connection speaks for the session. Raises TooManyConnections."""
        if len(session.members) >= MAX_CONNECTIONS:
            raise TooManyConnections(f"This session has {MAX_CONNECTIONS} connections already: close one.")
        session.members.add(member)

    def remove(self, session: Session) -> None:
        """The session is over for now: its name is free."""
        session.cancel()
        del self._by_key[session.key]
        if session.token is not None:
            del self._by_token[session.token]
