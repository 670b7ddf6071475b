"""What fails again and again is logged once, and once more when it works again."""

from __future__ import annotations

from twisted.logger import Logger


class Outages:
    """What does not work now. `what` is the beginning of a sentence, such as `the index cannot be written`."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._now: set[str] = set()

    def failed(self, what: str, error: Exception) -> None:
        """It failed: said when it worked before."""
        if what not in self._now:
            self._now.add(what)
            self._log.error("{what}: {error}; this is said once, and tried again", what=what, error=error)

    def worked(self, what: str) -> None:
        """It worked: said when it failed before."""
        if what in self._now:
            self._now.discard(what)
            self._log.info("over: {what}", what=what)
