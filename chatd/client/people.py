"""Who is in which room, as far as the server has told, and how that is said."""

from __future__ import annotations

from collections.abc import Sequence

from chatd import wire

#: So many names a room are remembered, for completion.
MAX_KNOWN = 2_000


class People:
    """The names seen in each room, those who spoke last at the end, and how many people there are."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, None]] = {}
        self._counts: dict[str, int] = {}

    def entered(self, room: str, names: Sequence[str], count: int) -> bool:
        """We are in the room, for the first time where this returns True."""
        first = room not in self._names
        self._names[room] = dict.fromkeys(names)
        self._counts[room] = count
        return first

    def joined(self, joined: wire.Joined) -> str:
        """Take it in, and return the sentence."""
        known = self._names.setdefault(joined.room, {})
        known.update(dict.fromkeys(joined.names))
        self._bound(known)
        self._counts[joined.room] = joined.count
        return f"{listed(joined.names, joined.total)} joined{self._now(joined.total, joined.count)}"

    def left(self, left: wire.Left) -> str:
        """Take it in, and return the sentence."""
        for name in left.names:
            self._names.get(left.room, {}).pop(name, None)
        self._counts[left.room] = left.count
        return f"{listed(left.names, left.total)} left{self._now(left.total, left.count)}"

    def spoke(self, room: str, name: str) -> None:
        """Somebody said something: whom one answers is who spoke last."""
        known = self._names.setdefault(room, {})
        known.pop(name, None)
        known[name] = None
        self._bound(known)

    def counted(self, room: str, count: int) -> None:
        """So many are there now."""
        self._counts[room] = count

    def forget(self, room: str) -> None:
        """We left the room."""
        self._names.pop(room, None)
        self._counts.pop(room, None)

    def known(self, room: str) -> list[str]:
        """The names seen in a room, who spoke last first."""
        return list(reversed(self._names.get(room, {})))

    def here(self, room: str) -> str:
        """Who is in the room, in a sentence."""
        count = self._counts.get(room, 0)
        return f"{people(count)} in {room}: {listed(list(self._names.get(room, {})), count)}"

    def _now(self, total: int, count: int) -> str:
        """Crowds are numbers."""
        return f"; {people(count)} now" if total > 1 else ""

    def _bound(self, known: dict[str, None]) -> None:
        while len(known) > MAX_KNOWN:
            del known[next(iter(known))]


def people(count: int) -> str:
    """How many people."""
    return "1 person" if count == 1 else f"{count:,} people"


def listed(names: Sequence[str], total: int) -> str:
    """Names, and how many more there are."""
    shown = ", ".join(names)
    more = total - len(names)
    if more <= 0:
        return shown or "nobody"
    return f"{shown} and {more:,} more" if shown else people(more)
