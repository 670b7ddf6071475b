"""The socket: lines of JSON, coming back after a loss, and noticing a line that died without a word."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Protocol

from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.python.failure import Failure
from zope.interface import implementer

from chatd import wire
from chatd.framing import BoundedLineReceiver

#: A connection attempt takes so many seconds at the most.
CONNECT = 10.0
#: A chatd answers a hello within so many.
WELCOME = 10.0
#: After so many seconds without a word from the server we ping …
QUIET = 15.0
#: … and after so many more the line counts as dead.
PATIENCE = 10.0
#: A connection that lasted so many seconds was one: after its loss the first try is at once.
LASTED = 10.0
#: In the first `SOON` seconds tries are at most `SHORT` apart, then `LONG`.
SOON, SHORT, LONG = 120.0, 10.0, 30.0
#: A server may ask to be left alone for so many seconds.
MAX_RETRY_AFTER = 600.0


class Listener(Protocol):
    """What is told about connections."""

    def link_made(self, link: Link) -> None:
        """There is a connection."""

    def received(self, answer: wire.AnyAnswer) -> None:
        """The server said this."""

    def not_understood(self) -> None:
        """The server said what no chatd says."""

    def link_lost(self, link: Link, reason: Failure) -> None:
        """The connection is lost."""

    def not_connected(self, reason: Failure) -> None:
        """There is none: an attempt failed."""


class Link(BoundedLineReceiver):
    """One connection: requests out, answers in.

    Before the server lets us in, `heard` is the beginning of what it said, and `answered` is true where it
    has spoken as a chatd does. `mute` is true where the connection was given up because nothing came.
    """

    MAX_LENGTH = wire.MAX_ANSWER

    def __init__(self, listener: Listener, clock: IReactorTime) -> None:
        super().__init__()
        self.heard = b""
        self.answered = False
        self.mute = False
        self._listener = listener
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._welcomed = False
        self._complained = False
        self._lost = False

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self._wait(WELCOME, self._give_up)
        self._listener.link_made(self)

    def send(self, request: wire.Request) -> None:
        """Write a request."""
        assert self.transport is not None
        self.transport.write(wire.encode(request))

    def close(self) -> None:
        """Give the connection up."""
        assert self.transport is not None
        self.transport.abortConnection()  # type: ignore[attr-defined]

    def dataReceived(self, data: bytes) -> None:
        if self._welcomed:
            self._wait(QUIET, self._ping)
        elif len(self.heard) < 200:
            self.heard += data[:200]
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        # A server that writes slowly may have let out a greeting for people first.
        if self._lost or not (self._welcomed or line.startswith(b"{")):
            return
        try:
            answer = wire.decode_answer(line)
        except wire.UnknownType:
            return
        except ValueError:
            self._complain()
            return
        self.answered = True
        self._welcomed = self._welcomed or isinstance(answer, wire.Welcome)
        # Where the name was refused, a person thinks, and no word is due.
        self._wait(QUIET, self._ping) if self._welcomed else self._rest()
        self._listener.received(answer)

    def lineLengthExceeded(self, line: bytes) -> None:
        self._complain()

    def inputEnded(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        self._rest()
        self._listener.link_lost(self, reason)

    def pauseProducing(self) -> None:
        # Time in which we do not read says nothing about the server.
        self._rest()
        super().pauseProducing()

    def resumeProducing(self) -> None:
        if self._lost:
            return
        if self._welcomed:
            self._wait(QUIET, self._ping)
        super().resumeProducing()

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._rest()
        if not self._lost:
            self._timer = self._clock.callLater(seconds, then)

    def _rest(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _ping(self) -> None:
        self.send(wire.Ping())
        self._wait(PATIENCE, self._give_up)

    def _give_up(self) -> None:
        self.mute = True
        self.close()

    def _complain(self) -> None:
        if self._welcomed and not self._complained:
            self._complained = True
            self._listener.not_understood()


class Backoff:
    """How long to wait before the next attempt: the `retryPolicy` of a ClientService.

    After a loss the first try is at once; then a random share ("full jitter") of 1 s, 2 s, 4 s … and at most
    of `SHORT` or `LONG`, so that a thousand clients do not come back in the same moment.
    """

    def __init__(self, clock: IReactorTime, share: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._share = share
        self._since = clock.seconds()
        self._tries = 1
        self._welcomed: float | None = None
        self._retry_after = 0.0

    def welcomed(self) -> None:
        """The server let us in."""
        self._welcomed = self._clock.seconds()

    def lost(self) -> None:
        """The connection is lost."""
        now = self._clock.seconds()
        if self._welcomed is not None and now - self._welcomed >= LASTED:
            self._since = now
            self._tries = 0
        self._welcomed = None

    def retry_after(self, seconds: float) -> None:
        """The server asks not to come back earlier."""
        self._retry_after = min(max(seconds, 0.0), MAX_RETRY_AFTER)

    def __call__(self, attempt: int) -> float:
        """Seconds until the next attempt; how ClientService counts them does not matter."""
        limit = SHORT if self._clock.seconds() - self._since < SOON else LONG
        spread = 0.0 if self._tries == 0 else min(limit, 2.0 ** (self._tries - 1))
        wanted, self._retry_after = self._retry_after, 0.0
        if wanted:
            spread = max(spread, min(wanted, limit))
        self._tries = min(self._tries + 1, 16)
        return wanted + self._share() * spread


@implementer(IStreamClientEndpoint)
class _Told:
    """An endpoint that tells about failures, which ClientService keeps to itself."""

    def __init__(self, endpoint: IStreamClientEndpoint, failed: Callable[[Failure], None]) -> None:
        self._endpoint = endpoint
        self._failed = failed

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        connecting = self._endpoint.connect(protocolFactory)
        return connecting.addErrback(self._tell)

    def _tell(self, reason: Failure) -> Failure:
        self._failed(reason)
        return reason


class _Links(Factory):
    noisy = False

    def __init__(self, listener: Listener, clock: IReactorTime) -> None:
        self._listener = listener
        self._clock = clock

    def buildProtocol(self, addr: IAddress | None) -> Link:
        return Link(self._listener, self._clock)


def service(reactor: Any, endpoint: IStreamClientEndpoint, listener: Listener, backoff: Backoff) -> ClientService:
    """A service that is connected, or tries to be, while it runs."""
    return ClientService(
        _Told(endpoint, listener.not_connected), _Links(listener, reactor), retryPolicy=backoff, clock=reactor
    )


def endpoint(reactor: Any, host: str, port: int, *, tls: bool, ca: str = "") -> IStreamClientEndpoint:
    """Where the server is; with `tls` its certificate must fit `host`.

    `ca` holds certificates to trust instead of the system's, in PEM. Raises ValueError where it holds none.
    """
    plain = HostnameEndpoint(reactor, host, port, timeout=CONNECT)
    if not tls:
        return plain
    trust = trustRootFromCertificates(certificates(ca)) if ca else None
    return wrapClientTLS(optionsForClientTLS(host, trustRoot=trust), plain)


def certificates(pem: str) -> list[Certificate]:
    """The certificates in a text. Raises ValueError where there is none."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    pieces = [piece.partition(end)[0] for piece in pem.split(begin)[1:]]
    if not pieces:
        raise ValueError("there is no certificate in it")
    try:
        return [Certificate.loadPEM(f"{begin}{piece}{end}\n".encode()) for piece in pieces]
    except Exception as error:
        raise ValueError(f"a certificate in it cannot be read: {error}") from None
