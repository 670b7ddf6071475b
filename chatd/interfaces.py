"""The seams: what the hub asks of a door, of a member and of a store, and the records that pass through them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from zope.interface import Attribute, Interface

from chatd.events import Joined, Left, Message, Presence

if TYPE_CHECKING:
    from chatd.errors import ChatError
    from chatd.room import Room
    from chatd.sessions import Session


class SessionRecord(Struct, frozen=True):
    """A session as a store keeps it.

    `id` is a random number of 63 bits. `token` is the SHA-256 of the token, or None for a session that
    cannot be resumed. `seen` is in milliseconds since 1970. `held` is true while it is connected or holds
    its name for the grace time.
    """

    id: int
    token: bytes | None
    name: str
    seen: int
    held: bool


class Draft(Struct, frozen=True):
    """A message that is not stored yet: it has the sender's `id` and no number.

    `at` is when the server accepted it, in milliseconds since 1970. `room`, `name`, `text` and `id` are clean
    and bounded (`chatd.names`), so that no store can refuse them.
    """

    room: str
    session: int
    id: str
    at: int
    name: str
    text: str
    action: bool = False


class Kept(Struct, frozen=True):
    """What a store did with a draft: it has the number `seq`, and the moment `at` in its room.

    `new` is false where the same (room, session, id) was stored before: `seq` is its first number then, and
    nothing was stored. `same` is false where that first one had another text: the sender re-used an id.
    """

    seq: int
    at: int
    new: bool = True
    same: bool = True


class RoomRecord(Struct, frozen=True):
    """A room in a store: its last number, the first number that retention has left (`last` + 1: none)."""

    name: str
    last: int
    first: int


class Hint(Struct, frozen=True):
    """What other nodes may have changed: rooms that have new messages, rooms where somebody came or left.

    None: any of them.
    """

    messages: frozenset[str] | None
    presence: frozenset[str] | None


class StoreError(Exception):
    """The store failed, for certain: nothing of the call has been stored, nor will be."""


class OutcomeUnknown(StoreError):
    """The store failed while it committed: the batch is stored or it is not. Repeating it tells."""


class StoreUnusable(Exception):
    """The store cannot be opened. The text is one line that says what is wrong and what would be right."""


class IStore(Interface):
    """A database of logs. Plain blocking code, without Twisted.

    Calls that write come one at a time, from any thread. Calls that read come from several threads at once,
    beside those that write, and see whatever is committed.
    """

    log_id: str = Attribute("The database's random id, made with it.")
    in_place: bool = Attribute("Whether a commit may be so quick that the reactor's own thread can do it.")
    flush_seconds: float = Attribute("How long the last commit took to reach the disk.")

    def open() -> None:
        """Open it, bringing an older schema up to date. Raises StoreUnusable."""

    def close() -> None:
        """Close all connections; `open` may follow."""

    def reopen() -> None:
        """Open the connection for writing anew, after a failure. Raises StoreError."""

    def append(drafts: Sequence[Draft], sessions: Sequence[SessionRecord]) -> list[Kept]:
        """Number and store the drafts in one transaction, synced to disk; insert or update the sessions.

        One Kept a draft, in order. Numbers have no holes, also where some drafts are repeats (of stored ones
        or of each other). A draft's `at` is raised to that of the message before it in its room.
        Raises OutcomeUnknown or StoreError.
        """

    def save(sessions: Sequence[SessionRecord]) -> None:
        """Insert or update sessions. Raises StoreError."""

    def session(token: bytes) -> SessionRecord | None:
        """The session with this hashed token."""

    def held_sessions() -> list[SessionRecord]:
        """The sessions that were connected or held their names when the store was last written to."""

    def expire_sessions(before: int, limit: int) -> int:
        """Forget up to `limit` sessions seen last before that moment, and their ids. Returns how many."""

    def room(name: str) -> RoomRecord | None:
        """The room, or None where it has no message yet."""

    def rooms() -> list[RoomRecord]:
        """All rooms, by name."""

    def page(room: str, after: int | None, before: int | None, limit: int, max_bytes: int) -> list[Message]:
        """Messages of the room, ascending, up to `limit` of them and about `max_bytes` of text (but one at least).

        With `after`, the first ones behind that number (and before `before`, where given); else the last ones
        before `before`. Numbers that retention removed are just not there.
        """

    def search(room: str, words: str, before: int, limit: int, seconds: float) -> list[Message]:
        """Messages numbered below `before` that contain all the words, newest first.

        Words are compared whole, without case and accents. Raises TimeoutError after so many seconds.
        """

    def index(limit: int) -> bool:
        """Take up to `limit` messages into the search index. True while there are more."""

    def retain(before: int, limit: int) -> int:
        """Remove up to `limit` messages older than that moment. Returns how many; numbers never come again."""


class ISharedStore(IStore):
    """A store that several nodes use at once: who goes by which name, who is where, and what is new.

    A session is *here* on each node that has claimed it and not released it. `IStore.held_sessions` holds those
    of all nodes. The calls that change something write; `members`, `counts`, `elsewhere` and `news` read; `wait`
    has a thread to itself.
    """

    node: str = Attribute("The random id of this node, new with each `open`.")
    lease: float = Attribute("For how many seconds `renew` keeps this node alive for the others.")

    def renew() -> bool:
        """Say that this node is alive: before all else, then three times a lease or so. Raises StoreError.

        False: it was not known as alive, or what it told last may be lost: so it has to `settle`, and to claim its
        sessions anew.
        """

    def settle(sessions: Sequence[int], places: Sequence[tuple[int, str]]) -> None:
        """These sessions are here or about to be, and in these rooms, and no others. Raises StoreError."""

    def interrupt(seconds: float) -> None:
        """Cut off all calls that have been under way for so many seconds: they fail then. From any thread."""

    def reap(grace: float) -> None:
        """Do what dead nodes do no more. Every few seconds, on each node. Raises StoreError.

        Sessions without a token are gone when the lease ended; others so many seconds later, or when `hold` said.
        Nobody is reaped until this node has been alive for a lease without a gap: after an outage the others
        come back first.
        """

    def claim(claims: Sequence[tuple[SessionRecord, str]]) -> list[bool]:
        """Each session takes the name with this key, is here, and is saved; it gives up its other name.

        One bool a claim, in order: false where another session has the name. Raises StoreError.
        """

    def hold(holds: Sequence[tuple[int, float]]) -> None:
        """Sessions that have no connection here any more. Should this node die, each stays for so many seconds.

        Raises StoreError.
        """

    def release(sessions: Sequence[int]) -> None:
        """The sessions are here no more, nor in rooms; those that are on no other node free their names.

        Raises StoreError.
        """

    def enter(places: Sequence[tuple[int, str]]) -> None:
        """Sessions that are here are in these rooms. Raises StoreError."""

    def leave(places: Sequence[tuple[int, str]]) -> None:
        """Sessions that are here are no longer in these rooms. Raises StoreError."""

    def members(room: str) -> list[tuple[int, str]]:
        """Who is in the room, on any node: session and name, by name. Raises StoreError."""

    def counts() -> dict[str, int]:
        """How many are in each room that has anybody, on all nodes together. Raises StoreError."""

    def elsewhere() -> dict[str, object]:
        """For each room, what changes when somebody comes or goes on another node. Raises StoreError."""

    def news(after: Mapping[str, int], limit: int) -> list[Message]:
        """Messages of several rooms behind the number given for each, up to `limit` in all. Raises StoreError.

        Ascending and without holes in each room; fewer than `limit` means that there are no more.
        """

    def wait(seconds: float) -> Hint:
        """Wait up to so many seconds for what other nodes change. Returns all that has come since the last call.

        The first call, and the first after a lost connection, return at once that all may have changed. Hints may
        get lost all the same: ask for news every few seconds. Raises StoreError.
        """


class IMember(Interface):
    """A connection as the hub sees it, once it has said a name."""

    door: IDoor = Attribute("The factory that this connection belongs to.")
    resumable: bool = Attribute("Whether its session has a token and may be resumed.")
    session: Session | None = Attribute("Who it speaks for, since its hello.")
    rooms: dict[str, Room] = Attribute("The rooms it is in; the hub keeps them.")
    drafts: int = Attribute("How many of its drafts are under way; the hub counts.")

    def enter(room: Room, after: int) -> None:
        """It is in the room, and gets all messages behind that number."""

    def leave(room: Room) -> None:
        """It is not in the room any more."""

    def kept(room: str, seq: int, id: str) -> None:
        """A draft is stored. The receipt goes out with the next batch, or with `flush`."""

    def refused(error: ChatError, id: str) -> None:
        """A draft will not be stored."""

    def waiting(id: str) -> None:
        """A draft is neither stored nor refused after 2 s."""

    def flush() -> None:
        """Write what `kept` left to be written."""

    def goodbye(reason: str, retry_after: float | None) -> None:
        """Say goodbye and close the connection."""


class IDoor(Interface):
    """One way into the chat: a factory that holds connections of one kind."""

    def broadcast(room: Room, messages: Sequence[Message], members: Sequence[IMember]) -> None:
        """Encode a batch once for each dialect and write it to these members, all of them live."""

    def announce(event: Joined | Left | Presence, members: Sequence[IMember]) -> None:
        """Tell these members who came and left."""
