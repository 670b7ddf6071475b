"""How fast a connection is read."""

from __future__ import annotations

from typing import NamedTuple


class Rate(NamedTuple):
    """So many messages at once, and as many again in so many seconds."""

    messages: float
    seconds: float


class Pacer:
    """A token bucket that may go below zero: nothing is refused, what is too fast is read later."""

    def __init__(self, rate: Rate | None) -> None:
        self._rate = rate
        self._level = rate.messages if rate else 0.0
        self._at = 0.0

    def take(self, weight: float, now: float) -> float:
        """Something of that weight has been read. Returns for how many seconds to read nothing."""
        if self._rate is None:
            return 0.0
        messages, seconds = self._rate
        # The clock may have been set back.
        passed = max(0.0, now - self._at)
        self._level = min(messages, self._level + passed * messages / seconds) - weight
        self._at = now
        return max(0.0, -self._level * seconds / messages)
