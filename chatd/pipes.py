"""Transports, each with a bound: what one does not take at once stays outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IPullProducer, IPushProducer
from zope.interface import implementer

#: A transport is given so many bytes at once.
PIECE = 64 * 1024


class Pipe(Protocol):
    """A transport with a bound: what it does not take at once stays outside."""

    def send(self, data: bytes) -> int:
        """Returns how many bytes it took. Fewer than all: it is full."""

    def keep(self, data: bytes) -> None:
        """Called once after a short `send`: the rest of what was begun. `drained` is called when it is gone."""

    def close(self) -> None:
        """Close when all is written, or at least the direction in which it is written."""

    def detach(self) -> None:
        """Let go of the transport, for another pipe."""


@implementer(IPullProducer)
class SocketPipe:
    """For transports that can try a send at once: a system call a batch, and nothing buffered in between."""

    def __init__(self, transport, drained: Callable[[], None]) -> None:  # type: ignore[no-untyped-def]
        self._transport = transport
        self._drained = drained
        self._registering = False

    def send(self, data: bytes) -> int:
        sent = 0
        view = memoryview(data)
        while sent < len(data):
            piece = view[sent : sent + PIECE]
            result = self._transport.writeSomeData(piece)
            # It returns errors instead of raising them.
            if not isinstance(result, int) or result < 0:
                self._transport.abortConnection()
                return len(data)
            sent += result
            if result < len(piece):
                break
        return sent

    def keep(self, data: bytes) -> None:
        self._transport.write(data)
        # A pull producer is asked for more when all is written, but once already from inside this call.
        self._registering = True
        self._transport.registerProducer(self, False)
        self._registering = False

    def resumeProducing(self) -> None:
        if not self._registering:
            self._transport.unregisterProducer()
            self._drained()

    def stopProducing(self) -> None:
        """The connection is lost; its protocol hears of it."""

    def close(self) -> None:
        self._transport.loseWriteConnection()

    def detach(self) -> None:
        """Nothing is registered while nothing is kept."""


@implementer(IPushProducer)
class BufferedPipe:
    """For transports that buffer by themselves and say when it is enough, such as TLS."""

    def __init__(self, transport, drained: Callable[[], None]) -> None:  # type: ignore[no-untyped-def]
        self._transport = transport
        self._drained = drained
        self._paused = False
        self._full = False
        transport.registerProducer(self, True)

    def send(self, data: bytes) -> int:
        sent = 0
        while sent < len(data) and not self._paused:
            piece = data[sent : sent + PIECE]
            self._transport.write(piece)
            sent += len(piece)
        return sent

    def keep(self, data: bytes) -> None:
        self._transport.write(data)
        self._full = True

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        if self._full:
            self._full = False
            self._drained()

    def stopProducing(self) -> None:
        """The connection is lost; its protocol hears of it."""

    def close(self) -> None:
        self._transport.unregisterProducer()
        self._transport.loseConnection()

    def detach(self) -> None:
        self._transport.unregisterProducer()


def pipe_for(transport: object, drained: Callable[[], None]) -> Pipe:
    """The pipe that suits a transport; it calls `drained` when what it was given to keep is gone."""
    # Of its class: that of TLS lends out the attributes of the socket below, which would take text unencrypted.
    kind = SocketPipe if hasattr(type(transport), "writeSomeData") else BufferedPipe
    return kind(transport, drained)
