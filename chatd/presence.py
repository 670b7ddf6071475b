"""Who came and who left: told at once, then at most once a second and room, with those who came back left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chatd.events import Joined, Left
from chatd.room import Room

MAX_NAMES = 50
INTERVAL = 1.0


class _News:
    def __init__(self) -> None:
        self.joined: dict[str, None] = {}
        self.left: dict[str, None] = {}
        self.call: IDelayedCall | None = None


class Presence:
    """Gathers the news of all rooms; `tell` is called with a room and an event."""

    def __init__(self, clock: IReactorTime, tell: Callable[[Room, Joined | Left], None]) -> None:
        self._clock = clock
        self._tell = tell
        self._news: dict[Room, _News] = {}

    def joined(self, room: Room, name: str) -> None:
        """Somebody came into the room."""
        news = self._news.setdefault(room, _News())
        if name in news.left:
            del news.left[name]
        else:
            news.joined[name] = None
        self._soon(room, news)

    def left(self, room: Room, name: str) -> None:
        """Somebody left the room."""
        news = self._news.setdefault(room, _News())
        if name in news.joined:
            del news.joined[name]
        else:
            news.left[name] = None
        self._soon(room, news)

    def before(self, room: Room, names: Iterable[str]) -> None:
        """These are about to be seen talking: tell first that they came."""
        news = self._news.get(room)
        if news is None or not news.joined:
            return
        known = dict.fromkeys(name for name in names if name in news.joined)
        if known:
            for name in known:
                del news.joined[name]
            self._say(room, Joined, known)

    def close(self) -> None:
        """Stop the timers."""
        for news in self._news.values():
            if news.call is not None:
                news.call.cancel()
        self._news.clear()

    def _soon(self, room: Room, news: _News) -> None:
        if news.call is None:
            self._flush(room, news)

    def _flush(self, room: Room, news: _News) -> None:
        joined, left = news.joined, news.left
        if not joined and not left:
            # Nothing for a second: the next news is told at once.
            del self._news[room]
            return
        news.joined, news.left = {}, {}
        news.call = self._clock.callLater(INTERVAL, self._again, room, news)
        self._say(room, Joined, joined)
        self._say(room, Left, left)

    def _again(self, room: Room, news: _News) -> None:
        news.call = None
        self._flush(room, news)

    def _say(self, room: Room, event: type[Joined] | type[Left], names: dict[str, None]) -> None:
        if names:
            first = tuple(names)[:MAX_NAMES]
            self._tell(room, event(room.name, first, len(names), room.count))
