"""Where a door listens: endpoints, opened before a daemon forks, so that what is wrong is said on the terminal."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.python.failure import Failure

#: The kernel cuts it to its own limit (net.core.somaxconn).
BACKLOG = 4096
KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 60, 15, 4


class CannotListen(Exception):
    """One line that says where, why, and what would be right."""


class Ports(Service):
    """The ports of one door. `open` listens; nobody is answered before the reactor runs.

    `said` begins the complaints about them: "--port ". `pages` says that a browser finds a page there. `places`
    are port numbers (all addresses, IPv4 and IPv6) or endpoint descriptions of Twisted. A peer that takes nothing
    for `stall_timeout` seconds is cut off by the kernel; one that is silent and gone is found by its keepalive.
    """

    def __init__(
        self,
        reactor: object,
        said: str,
        places: Sequence[str],
        factory: IProtocolFactory,
        stall_timeout: float,
        pages: bool = False,
    ) -> None:
        self._reactor = reactor
        self._said = said
        self._places = places
        self._factory = factory
        self._stall_timeout = stall_timeout
        self._pages = pages
        self._ports: list[IListeningPort] = []

    @property
    def addresses(self) -> list[str]:
        """Where it listens, for people to read."""
        places = zip(self._places, self._ports, strict=False)  # it may have stopped
        return [_shown(port) + (_page(place, port) if self._pages else "") for place, port in places]

    def open(self) -> None:
        """Raises CannotListen."""
        for place in self._places:
            port = self._listen(place)
            self._tune(port)
            self._ports.append(port)

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        ports, self._ports = self._ports, []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports])

    def _listen(self, place: str) -> IListeningPort:
        try:
            endpoint: IStreamServerEndpoint = serverFromString(self._reactor, _endpoint(place))
        except Exception as error:
            # The parsers of endpoints, and the libraries that read certificates for them, raise all kinds.
            raise CannotListen(
                f"{self._said}{place}: {_sentence(error)}; "
                "give a number, or an endpoint such as tcp:5000:interface=127.0.0.1"
            ) from None
        results: list[object] = []
        endpoint.listen(self._factory).addBoth(results.append)
        if results and isinstance(results[0], Failure):
            raise CannotListen(f"{self._said}{place}: {_reason(results[0])}")
        if not results or not IListeningPort.providedBy(results[0]):
            raise CannotListen(f"{self._said}{place}: this kind of endpoint does not listen at once")
        return results[0]

    def _tune(self, port: IListeningPort) -> None:
        """Connections inherit these from the socket that listens."""
        with socket.socket(fileno=os.dup(port.fileno())) as listening:  # type: ignore[attr-defined]
            listening.listen(BACKLOG)
            if listening.family == socket.AF_UNIX:
                return
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._stall_timeout * 1000))


def _endpoint(place: str) -> str:
    if not place.isascii() or not place.isdigit():
        return place
    if int(place) > 65535:
        raise ValueError("a port is a number from 0 to 65535")
    # On Linux one IPv6 socket takes IPv4 too.
    return f"tcp6:{place}:interface=\\:\\:" if _has_ipv6() else f"tcp:{place}"


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as trial:
            trial.bind(("::", 0))
    except OSError:
        return False
    return True


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _reason(failure: Failure) -> str:
    error = failure.value
    cause = error.socketError if isinstance(error, CannotListenError) else error
    number = getattr(cause, "errno", None)
    if number == errno.EADDRINUSE:
        return "the port is in use, by another chatd perhaps: stop that, or choose another port"
    if number in {errno.EACCES, errno.EPERM}:
        return "not allowed: ports below 1024 need more rights, choose one above"
    if number == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    return getattr(cause, "strerror", None) or str(cause)


def _shown(port: IListeningPort) -> str:
    address = port.getHost()
    host = getattr(address, "host", None)
    if host is None:
        return f"unix {os.fsdecode(address.name)}"  # type: ignore[attr-defined]
    return f"port {address.port}" if host in {"::", "0.0.0.0"} else f"{host} port {address.port}"  # type: ignore[attr-defined]


def _page(place: str, port: IListeningPort) -> str:
    """What a browser on this machine is to be given."""
    address = port.getHost()
    host = getattr(address, "host", None)
    if host is None:
        return " (web)"
    name = "localhost" if host in {"::", "0.0.0.0"} else f"[{host}]" if ":" in host else host
    scheme = "https" if place.startswith(("ssl:", "tls:")) else "http"
    return f" ({scheme}://{name}:{address.port})"  # type: ignore[attr-defined]
