"""What stands beside a database and knows when it has been put back to an earlier state."""

from __future__ import annotations

import os
from contextlib import suppress

_FORM = "{} {:020}\n"


class Witness:
    """Keeps, in an open file beside the database, which log it is and how many messages that has had.

    A database that has had fewer is a copy from before, put in its place: the numbers that its next messages get
    have been given to others. Every commit writes the count, without a flush of its own: after a kill it is
    right, and after a power failure it may be too low, which raises no doubt.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._log = ""
        self._count = 0

    def doubts(self, log: str, count: int) -> bool:
        """Whether this log, with so many messages, is not what it was when it was last written to.

        A log that comes without its witness, or beside another log's, is doubted too: nothing tells how old it is.
        """
        fields = os.pread(self._descriptor, 256, 0).decode("ascii", "replace").split()
        if len(fields) != 2 or not fields[1].isdigit():
            return count > 0
        return fields[0] != log or count < int(fields[1])

    def begin(self, log: str, count: int) -> None:
        """From now on it is this log, with so many messages."""
        self._log = log
        self._count = count
        self._note()

    def add(self, count: int) -> None:
        """So many more have been committed."""
        self._count += count
        self._note()

    def leave(self) -> None:
        """The log goes on in another database: this one, used again all the same, is doubted."""
        self.begin("-", 0)

    def _note(self) -> None:
        # It overwrites as many bytes as are there, so a full disk is no hindrance; another failure costs a doubt.
        with suppress(OSError):
            os.pwrite(self._descriptor, _FORM.format(self._log, self._count).encode(), 0)
