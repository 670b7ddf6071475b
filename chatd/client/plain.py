"""Standard input and output, where there is no terminal to draw on."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer, IPullProducer
from twisted.internet.protocol import connectionDone
from twisted.internet.stdio import StandardIO
from twisted.python.failure import Failure
from zope.interface import implementer

from chatd.client.app import Client
from chatd.client.show import Line
from chatd.framing import BoundedLineReceiver

#: With so many bytes to write the server is not read until they are written.
MUCH = 256 * 1024


class Plain(BoundedLineReceiver):
    """The face in pipes: lines of standard input are typed, and what is shown is written to standard output.

    What is wrong goes to standard error. Where nobody takes the output any more, that is the end of the
    input too: what has been read is still sent.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self._reactor = reactor
        self._client: Client | None = None
        self._output: _Output | None = None
        self._answered: Callable[[str], None] | None = None
        self._gone = False
        self._closed: Deferred[None] = Deferred()
        self._modes = [(os.dup(fd), os.get_blocking(fd)) for fd in (0, 1)]

    @property
    def settled(self) -> bool:
        """Whether all that was shown has left this process."""
        return self._output is None or self._output.settled

    def start(self, client: Client) -> None:
        """Begin to read."""
        self._client = client
        transport = StandardIO(self, reactor=self._reactor)
        self._output = _Output(transport, client)

    def show(self, lines: list[Line]) -> None:
        """Write lines."""
        for line in lines:
            data = "".join(text for _, text in line).encode("utf-8", "replace") + b"\n"
            if line[0][0] == "complaint":
                _to_stderr(data)
            elif self._output is not None:
                self._output.put(data)

    def refresh(self) -> None:
        """Read on, where there was too much to send."""
        if self.paused and self._client is not None and not self._client.session.full:
            self.resumeProducing()

    def ask(self, question: str, answered: Callable[[str], None], *, hint: str, secret: bool) -> None:
        """Take the next line as the answer."""
        meant = f"[{hint}] " if hint else ""
        _to_stderr(f"{question}{meant}\n".encode())
        self._answered = lambda text: answered(text or hint)

    def withdraw(self) -> None:
        """The next line is no answer."""
        self._answered = None

    def close(self) -> Deferred[None]:
        """Write what is left, and leave the descriptors as they were."""
        if self._output is None or self._gone:
            self._closed = succeed(None)
        else:
            self.transport.loseConnection()  # type: ignore[union-attr]
        return self._closed.addCallback(lambda _: self._restore())

    def lineReceived(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace")
        if self._answered is not None:
            answered, self._answered = self._answered, None
            answered(text)
        elif self._client is not None:
            self._client.typed(text)
            if self._client.session.full:
                self.pauseProducing()

    def lineLengthExceeded(self, line: bytes) -> None:
        if self._client is not None:
            self._client.too_long()

    def inputEnded(self) -> None:
        if self._client is not None:
            self._client.leave()

    def writeConnectionLost(self) -> None:
        self._gone = True
        self.inputEnded()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone = True
        self._closed.callback(None)

    def _restore(self) -> None:
        # They may be shared, with a shell for one, which does not expect that they do not block.
        for descriptor, blocking in self._modes:
            os.set_blocking(descriptor, blocking)
            os.close(descriptor)


@implementer(IPullProducer)
class _Output:
    """What is written, as fast as it is taken; while that is slowly, the server is read slowly.

    `settled` is true while all of it is written.
    """

    def __init__(self, transport: IConsumer, client: Client) -> None:
        self.settled = True
        self._transport = transport
        self._client = client
        self._waiting: list[bytes] = []
        self._size = 0
        self._paused = False
        self._stopped = False

    def put(self, data: bytes) -> None:
        """Write it when all before it is written."""
        if self._stopped:
            return
        self._waiting.append(data)
        self._size += len(data)
        if self._size > MUCH and not self._paused:
            self._paused = True
            self._client.pause()
        if self.settled:
            self.settled = False
            self._transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        data, self._waiting, self._size = b"".join(self._waiting), [], 0
        if data:
            self._transport.write(data)
            return
        self._transport.unregisterProducer()
        self._settle()

    def stopProducing(self) -> None:
        self._stopped = True
        self._waiting.clear()
        self._settle()

    def _settle(self) -> None:
        self.settled = True
        if self._paused:
            self._paused = False
            self._client.resume()
        self._client.written()


def _to_stderr(data: bytes) -> None:
    """Write it all, also where the descriptor is one with those that do not block."""
    while data:
        try:
            data = data[os.write(2, data) :]
        except BlockingIOError:
            select.select([], [2], [], 1.0)
        except OSError:
            return  # nobody wants to hear it
