"""A room is a log, and a member is a cursor in it.

A room in memory holds the last messages of its log (the window), who is in it, and which connections are live:
those whose cursor is at the end. It leaves memory when nobody is in it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

from chatd.events import Message
from chatd.interfaces import IDoor, IMember

if TYPE_CHECKING:
    from chatd.sessions import Session

#: A page has at most so many bytes of text, and so many messages.
PAGE_BYTES = 64 * 1024
PAGE_MESSAGES = 256


def cost(message: Message) -> int:
    """About how many bytes a message takes in memory, with what two dialects made of it."""
    return 1000 + 4 * len(message.text)


class Window:
    """The last messages of a room, in memory, without holes."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._start = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._messages) - self._start

    @property
    def first(self) -> int | None:
        """The lowest number in the window, or None where it is empty."""
        return self._messages[self._start].seq if len(self) else None

    def extend(self, messages: Sequence[Message]) -> int:
        """Append messages. Returns what they cost."""
        size = sum(map(cost, messages))
        self._messages.extend(messages)
        self.bytes += size
        return size

    def forget(self, count: int) -> None:
        """Drop the first messages, as far as they are still there."""
        count = min(count, len(self))
        self.bytes -= sum(map(cost, self._messages[self._start : self._start + count]))
        self._start += count
        if self._start > len(self._messages) // 2:
            del self._messages[: self._start]
            self._start = 0

    def after(self, seq: int, limit: int, max_bytes: int) -> list[Message] | None:
        """The messages behind a number, bounded; None where the window begins later."""
        if self.first is None or seq + 1 < self.first:
            return None
        begin = self._start + seq + 1 - self.first
        return list(_bounded(islice(self._messages, begin, begin + limit), max_bytes))

    def before(self, seq: int, limit: int, max_bytes: int) -> list[Message] | None:
        """The last `limit` messages below a number, ascending; None where the window does not hold them all."""
        if self.first is None:
            return None
        seq = min(seq, self.first + len(self))
        if seq - limit < self.first:
            return None
        end = self._start + seq - self.first
        begin = end - limit
        page = list(_bounded(reversed(self._messages[begin:end]), max_bytes))
        page.reverse()
        return page


def _bounded(messages: Iterable[Message], max_bytes: int) -> Iterable[Message]:
    for message in messages:
        max_bytes -= len(message.text) + 100
        yield message
        if max_bytes <= 0:
            return


class Room:
    """A room in memory. `last` is what has been delivered, never what the store already holds."""

    def __init__(self, name: str, last: int, first: int) -> None:
        self.name = name
        self.last = last
        #: The first message that retention has left; last + 1 where there is none.
        self.first = first
        self.window = Window()
        #: Who is in the room, in order of arrival, each with its connections: none while it is held.
        self.here: dict[Session, set[IMember]] = {}
        #: Who is in it on other nodes only, as far as this one has heard: names by session.
        self.away: dict[int, str] = {}
        #: The connections that get each batch as it is committed, by door.
        self.live: dict[IDoor, dict[IMember, None]] = {}
        #: How many drafts of each session the journal has for this room.
        self.drafts: Counter[Session] = Counter()
        #: How often it has been told who came and left.
        self.news = 0

    def extend(self, messages: Sequence[Message]) -> int:
        """The next messages have been committed. Returns what they cost in memory."""
        self.last = messages[-1].seq
        return self.window.extend(messages)

    def page(self, after: int | None, before: int, limit: int, max_bytes: int) -> list[Message] | None:
        """As a store's page, from memory; None where the window does not hold it."""
        if self.window.first is None:
            return [] if self.first > self.last else None
        if after is not None:
            page = self.window.after(max(after, self.first - 1), limit, max_bytes)
            return page and [message for message in page if message.seq < before]
        if self.window.first == self.first:
            before = min(max(before, self.first), self.last + 1)
            limit = min(limit, before - self.first)  # there is no more than that
        return self.window.before(before, limit, max_bytes)

    def forget(self, first: int) -> None:
        """The messages below this number have been removed."""
        self.first = max(self.first, first)
        if self.window.first is not None and self.window.first < first:
            self.window.forget(first - self.window.first)

    def go_live(self, member: IMember) -> None:
        """Its cursor is at the end."""
        self.live.setdefault(member.door, {})[member] = None

    def fall_behind(self, member: IMember) -> None:
        """Its cursor is not at the end, or it is not in the room any more."""
        members = self.live.get(member.door)
        if members is not None and member in members:
            del members[member]
            if not members:
                del self.live[member.door]

    @property
    def count(self) -> int:
        """How many are in the room."""
        return len(self.here) + len(self.away)

    def names(self, limit: int) -> list[str]:
        """The names of who came first."""
        return list(islice(chain((session.name for session in self.here), self.away.values()), limit))

    @property
    def unused(self) -> bool:
        """Whether the room may leave memory."""
        return not self.here and not self.drafts


class WindowBudget:
    """Bounds the memory of all windows together: the oldest batches go first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._total = 0
        self._batches: deque[tuple[Window, int, int]] = deque()

    def added(self, window: Window, count: int, size: int) -> None:
        """A window has grown by so many messages that cost so much."""
        self._batches.append((window, count, size))
        self._total += size
        while self._total > self._limit:
            window, count, size = self._batches.popleft()
            window.forget(count)
            self._total -= size
