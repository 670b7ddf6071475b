"""A file that lines are appended to, that rotates by size, and whose failures stop nobody."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable

from twisted.logger import Logger

MODE = 0o640
RETRY_SECONDS = 1.0
"""After a failure the file is left alone for so long."""

# A pipe that nobody reads must not make the chat wait: writing to it fails instead.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


class LogFile:
    """Lines appended to the file at `path`, which is opened when the first of them comes.

    A file is rotated before it grows over `max_bytes`; `path.1` to `path.<keep>` are the older ones, the
    newest first. What cannot be written is counted and thrown away: the ordinary log of Twisted is told once,
    and once more when writing works again, and then the line `notice(count)` goes in front. `clock` returns
    seconds and never goes back.
    """

    _log = Logger()

    def __init__(
        self,
        path: str,
        notice: Callable[[int], bytes],
        max_bytes: int = 10 * 1024 * 1024,
        keep: int = 5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self._notice = notice
        self._max_bytes = self._rotate_above = max_bytes
        self._keep = keep
        self._clock = clock
        self._descriptor: int | None = None
        self._size = 0
        self._lost = 0
        self._retry_at: float | None = None

    def write(self, lines: bytes) -> None:
        """Append whole lines, at once."""
        if self._retry_at is not None and self._clock() < self._retry_at:
            self._lost += lines.count(b"\n")
            return
        notice = self._notice(self._lost) if self._lost else b""
        data = notice + lines
        done = 0
        try:
            descriptor = self._make_room(len(data))
            while done < len(data):
                done += os.write(descriptor, data[done:])
        except OSError as error:
            whole = self._cut_to_whole_lines(data[:done])
            self._lost += data.count(b"\n", max(whole, len(notice)))
            self._failed(error)
        else:
            self._size += done
            self._recovered()

    def reopen(self) -> None:
        """Open the file that has the path now, after something else has rotated it."""
        self.close()
        try:
            self._open()
        except OSError as error:
            self._failed(error)
        else:
            self._retry_at = None if self._retry_at is None else self._clock()

    def close(self) -> None:
        """Close the file; the next `write` opens it again."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            # An error here is late news of an earlier write; there is nothing left to do about it.
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _make_room(self, size: int) -> int:
        """Return the open file, rotated where `size` bytes more would be too many."""
        descriptor = self._open()
        if self._size + size <= self._rotate_above or not self._is_full(descriptor, size):
            return descriptor
        try:
            self._rotate()
        except OSError as error:
            self._rotate_above = self._size + self._max_bytes
            self._log.error(
                "The log {path} cannot be rotated ({reason}). It grows.",
                path=self.path,
                reason=error.strerror,
            )
        return self._open()

    def _is_full(self, descriptor: int, size: int) -> bool:
        """Look again, since something else may have cut the file; what is not a file is never full."""
        status = os.fstat(descriptor)
        self._size = status.st_size
        return stat.S_ISREG(status.st_mode) and self._size > 0 and self._size + size > self._rotate_above

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = _open(self.path)
            self._size = os.fstat(self._descriptor).st_size
        return self._descriptor

    def _rotate(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.path}.{number}", f"{self.path}.{number + 1}")
        os.replace(self.path, f"{self.path}.1")
        self.close()
        self._rotate_above = self._max_bytes

    def _cut_to_whole_lines(self, written: bytes) -> int:
        """Remove the part of a line at the end of what was `written`; returns how much of it stays."""
        whole = written.rfind(b"\n") + 1
        if self._descriptor is not None and whole < len(written):
            # Fails on what is not a file, where the part has been seen anyway.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - len(written) + whole)
        return whole

    def _failed(self, error: OSError) -> None:
        if self._retry_at is None:
            self._log.error(
                "The log {path} cannot be written ({reason}). The chat goes on without it.",
                path=self.path,
                reason=error.strerror,
            )
        self._retry_at = self._clock() + RETRY_SECONDS
        self.close()

    def _recovered(self) -> None:
        if self._retry_at is not None:
            self._log.info(
                "The log {path} can be written again; {lost} of its lines are lost.",
                path=self.path,
                lost=self._lost,
            )
            self._retry_at = None
            self._lost = 0


def check(path: str) -> None:
    """Try whether a log can be written at `path`; where there is no file, an empty one is left.

    Raises OSError with one line that says what is wrong and what would be right.
    """
    try:
        os.close(_open(path))
    except OSError as error:
        raise OSError(
            f"the log {path} cannot be written ({error.strerror}): name another place with --log"
        ) from error


def _open(path: str) -> int:
    try:
        descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, MODE)
    except FileExistsError:
        return os.open(path, _FLAGS)
    # twistd sets a umask when it becomes a daemon; who may read logs does not depend on that.
    os.fchmod(descriptor, MODE)
    return descriptor
