"""Lines from bytes, whatever the pieces they come in, with a bound on each."""

from __future__ import annotations

from collections import deque

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.protocols.basic import LineReceiver
from zope.interface import implementer


@implementer(IHalfCloseableProtocol)
class BoundedLineReceiver(LineReceiver):
    """A LineReceiver whose cost is linear in what arrives, and for which a line too long is no reason to close.

    A line ends with LF or CRLF. What is longer than MAX_LENGTH is thrown away and reported once by
    `lineLengthExceeded`, in its place among the lines; no more than that is ever kept. `pauseProducing` stops
    the lines at once, also those that have arrived. After the last line of a peer that has closed its side,
    `inputEnded` is called; a rest without an end counts as a line.
    """

    delimiter = b"\n"
    MAX_LENGTH = 64 * 1024

    def __init__(self) -> None:
        self._lines: deque[bytes | None] = deque()
        self._tail = b""
        self._discarding = False
        self._delivering = False
        self._ended = False

    def inputEnded(self) -> None:
        """The peer sends no more, and all its lines have been delivered."""

    def dataReceived(self, data: bytes) -> None:
        if data:
            self._split(data)
        self._deliver()

    def readConnectionLost(self) -> None:
        if self._tail and not self._discarding:
            self._lines.append(self._tail)
        self._tail = b""
        self._ended = True
        self._deliver()

    def writeConnectionLost(self) -> None:
        """Nothing: `connectionLost` follows."""

    def _split(self, data: bytes) -> None:
        *lines, tail = (self._tail + data).split(b"\n")
        if lines and self._discarding:
            lines.pop(0)
            self._discarding = False
        for line in lines:
            self._lines.append(line if len(line) <= self.MAX_LENGTH else None)
        if self._discarding:
            tail = b""
        elif len(tail) > self.MAX_LENGTH:
            self._lines.append(None)
            self._discarding = True
            tail = b""
        self._tail = tail

    def _deliver(self) -> None:
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._lines and not self.paused:
                line = self._lines.popleft()
                if line is None:
                    self.lineLengthExceeded(b"")
                else:
                    self.lineReceived(line[:-1] if line.endswith(b"\r") else line)
        finally:
            self._delivering = False
        if self._ended and not self._lines and not self.paused:
            self._ended = False
            self.inputEnded()
