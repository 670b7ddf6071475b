"""The real client on a pseudo-terminal, and the screen that a person sees there."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from wcwidth import wcwidth

from tests.daemon import PATIENCE, clean_environment

#: Makes the terminal that it finds as its input its own, as a shell's is, and becomes the client.
_ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "chatd.client", *sys.argv[1:]])
"""

_TOKEN = re.compile(
    r"\x1b\[(?P<private>\??)(?P<numbers>[\d;]*)(?P<final>[A-Za-z])|(?P<bare>\x1b[^\[])|(?P<char>[^\x1b])",
    re.DOTALL,
)

#: Modes that do not change where a character goes: cursor keys, blinking, cursor, bracketed paste.
_IGNORED_MODES = {"1", "12", "25", "2004"}


class Emulator:
    """As much of a VT100 as the client needs; whatever else it is sent is an AssertionError.

    `lines` has what scrolled away, too; `styles` the attributes (numbers of SGR) of each character.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.columns = columns
        self.rows = rows
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._pending = ""
        self._cells: list[dict[int, tuple[str, frozenset[str]]]] = [{}]
        self._x = self._y = 0
        self._wrap = True
        self._style: frozenset[str] = frozenset()

    @property
    def lines(self) -> list[str]:
        """All lines, from the first that was ever written."""
        return [
            "".join(self._cell(row, x) for x in range(max(row, default=-1) + 1)).rstrip() for row in self._cells
        ]

    def styles(self, text: str) -> list[frozenset[str]]:
        """The attributes of each character of `text`, where it stands last on the screen."""
        for row, line in zip(reversed(self._cells), reversed(self.lines), strict=True):
            if text in line:
                start = line.index(text)
                return [row.get(x, ("", frozenset()))[1] for x in range(start, start + len(text))]
        raise AssertionError(f"{text!r} is not on the screen")

    def feed(self, data: bytes) -> None:
        """The program writes this."""
        text = self._pending + self._decode(data)
        self._pending = ""
        position = 0
        while position < len(text):
            token = _TOKEN.match(text, position)
            if token is None:
                self._pending = text[position:]
                assert len(self._pending) < 20, f"not a sequence: {self._pending[:40]!r}"
                return
            position = token.end()
            if char := token["char"]:
                self._put(char)
            else:
                assert token["bare"] is None, f"not a sequence: {token[0]!r}"
                self._control(token["final"], token["private"], token["numbers"])

    @staticmethod
    def _cell(row: dict[int, tuple[str, frozenset[str]]], x: int) -> str:
        return row[x][0] if x in row else " "

    def _put(self, char: str) -> None:
        if char == "\r":
            self._x = 0
        elif char == "\n":
            self._down(1)
        elif char == "\b":
            self._x = max(0, self._x - 1)
        elif char != "\x07":
            assert char.isprintable() or char in "\u200d\u200c", f"a control character: {char!r}"
            self._print(char)

    def _print(self, char: str) -> None:
        width = max(wcwidth(char), 0)
        if self._x + width > self.columns:
            if self._wrap:
                self._x = 0
                self._down(1)
            else:
                self._x = self.columns - width
        row = self._cells[self._y]
        if width == 0:
            row[max(self._x - 1, 0)] = (self._cell(row, max(self._x - 1, 0)) + char, self._style)
            return
        row[self._x] = (char, self._style)
        if width == 2:
            row[self._x + 1] = ("", self._style)
        self._x += width

    def _down(self, count: int) -> None:
        self._y += count
        while len(self._cells) <= self._y:
            self._cells.append({})

    def _control(self, final: str, private: str, numbers: str) -> None:
        if private:
            self._mode(final, numbers)
            return
        count = int(numbers) if numbers.isdigit() and int(numbers) else 1
        if final == "A":
            top = max(0, len(self._cells) - self.rows)
            self._y = max(top, self._y - count)
        elif final == "B":
            self._down(count)
        elif final == "C":
            self._x = min(self.columns - 1, self._x + count)
        elif final == "D":
            self._x = max(0, min(self._x, self.columns - 1) - count)
        elif final == "m":
            self._attributes(numbers.split(";"))
        else:
            self._erase(final, numbers)

    def _mode(self, final: str, numbers: str) -> None:
        assert final in "hl", (final, numbers)
        if numbers == "7":
            self._wrap = final == "h"
        else:
            assert numbers in _IGNORED_MODES, (final, numbers)

    def _attributes(self, numbers: list[str]) -> None:
        for number in numbers:
            self._style = frozenset() if number in ("", "0") else self._style | {number}

    def _erase(self, final: str, numbers: str) -> None:
        assert final in "JK" and numbers in ("", "0"), (final, numbers, self.lines[-9:])
        row = self._cells[self._y]
        self._cells[self._y] = {x: cell for x, cell in row.items() if x < self._x}
        if final == "J":
            del self._cells[self._y + 1 :]


class ClientTerminal:
    """`python -m chatd.client` with these arguments on a terminal of its own; its state is below `folder`.

    At the end of the block the process is killed, if it still runs.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        columns: int = 80,
        rows: int = 24,
    ) -> None:
        self._arguments = arguments
        given = {
            "XDG_STATE_HOME": str(folder),
            "TERM": "xterm",
            "TZ": "UTC",
            "NO_COLOR": "",
            **(environment or {}),
        }
        self._environment = clean_environment(given)
        self.screen = Emulator(columns, rows)
        self.written = b""
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._open = True

    def __enter__(self) -> ClientTerminal:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ON_A_TERMINAL, *self._arguments],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=self._environment,
            start_new_session=True,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None) -> None:
        self.kill()
        os.close(self._slave)
        if self._open:
            os.close(self._master)

    @property
    def text(self) -> str:
        """The screen, and what scrolled away."""
        return "\n".join(self.screen.lines)

    @property
    def cooked(self) -> bool:
        """Whether the terminal is as a shell wants it: lines, and echo."""
        flags = termios.tcgetattr(self._slave)[3]
        return bool(flags & termios.ICANON and flags & termios.ECHO)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def enter(self, text: str) -> None:
        """Type a line, and press Enter."""
        self.type(f"{text}\r")

    def until(self, happened: Callable[[str], object], what: str) -> str:
        """Read until that is true of the screen, which is returned."""
        deadline = time.monotonic() + PATIENCE
        while not happened(self.text):
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                raise AssertionError(f"never on the screen: {what}\n{self.text}")
        return self.text

    def see(self, pattern: str) -> str:
        """Read until a line of the screen is, as a whole, what the regular expression says."""
        return self.until(re.compile(f"^{pattern}$", re.MULTILINE).search, pattern)

    def count(self, text: str) -> int:
        """How often that is on the screen or above it."""
        return self.text.count(text)

    def resize(self, columns: int, rows: int) -> None:
        """Another size of the window."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hang_up(self) -> None:
        """The window is closed."""
        os.close(self._master)
        self._open = False

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE)

    def wait(self) -> int:
        """Wait for its end; the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end\n{self.text}"
            if self._open:
                self._read(0.02)
        with contextlib.suppress(OSError):
            while self._open and self._read(0):
                pass
        return self._process.wait(PATIENCE)

    def _read(self, within: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], within)
        if not ready:
            return False
        data = os.read(self._master, 64 * 1024)
        self.written += data
        self.screen.feed(data)
        return True
