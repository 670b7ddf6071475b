"""Tab: completes the word before the cursor, each time with the next word that fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class Cycle:
    """The words that fit, one after the other, and around again.

    `completions` gives what may stand instead of the last word of a text, best first.
    """

    def __init__(self, completions: Callable[[str], Sequence[str]]) -> None:
        self._completions = completions
        self._before = ""
        self._shown: str | None = None
        self._found: Sequence[str] = ()
        self._index = 0

    def turn(self, before: str, step: int) -> str:
        """What stands before the cursor after Tab (step 1) or Shift-Tab (step -1), given what stands there now."""
        if before != self._shown:
            self._before = before.removesuffix(before.split(" ")[-1])
            self._found = self._completions(before)
            self._index = -1 if step > 0 else 0
        if not self._found:
            return before
        self._index = (self._index + step) % len(self._found)
        self._shown = self._before + self._found[self._index]
        return self._shown
