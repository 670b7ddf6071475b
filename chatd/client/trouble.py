"""Why there is no connection, each in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from twisted.internet.error import (
    ConnectError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TCPTimedOutError,
    TimeoutError,
)
from twisted.python.failure import Failure

from chatd.client.connection import Link
from chatd.names import clean


def not_connected(reason: Failure, host: str, port: int) -> str:
    """Why an attempt to connect failed."""
    there = address(host, port)
    error = reason.value
    if isinstance(error, DNSLookupError):
        return f"There is no host called {host}, or no network to ask about it."
    if isinstance(error, ConnectionRefusedError):
        return f"{there} refuses connections: nothing listens on that port."
    if isinstance(error, (TimeoutError, TCPTimedOutError)):
        return f"{there} does not answer: the host is off, or a firewall is in between."
    if isinstance(error, NoRouteError):
        return f"There is no way to {there} from here."
    if isinstance(error, ConnectError):
        return f"{there} cannot be reached: {error}"
    return _of_tls(reason, there) or f"{there} cannot be reached: {error}"


def not_welcomed(link: Link, reason: Failure, host: str, port: int) -> str:
    """Why a connection was lost before the server let us in; "" where that may happen to a chatd."""
    there = address(host, port)
    if sentence := _of_tls(reason, there):
        return sentence
    if link.answered:
        return ""
    if link.heard.startswith(b"\x15\x03"):
        return f"{there} speaks TLS: try again with --tls."
    if link.heard:
        said = link.heard.decode("utf-8", "replace").strip().partition("\n")[0]
        return f"What answers at {there} is not a chatd: it says “{clean(said.strip())[:60]}”."
    if link.mute:
        return f"What listens at {there} says nothing: it is not a chatd, or hangs."
    if reason.check(ConnectionDone, ConnectionLost):
        return f"{there} closes the connection without a word: it is not a chatd, or speaks TLS (--tls)."
    return ""


def address(host: str, port: int) -> str:
    """How a server is called, for people and for files."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _of_tls(reason: Failure, there: str) -> str:
    """What is wrong with TLS; "" where nothing is."""
    if reason.check(VerificationError):
        return f"The certificate of {there} is for another name: it may not be the server that you mean."
    if reason.check(TLSError):
        causes = [str(entry[-1]) for entry in _entries(reason)]
        if any("certificate verify failed" in cause for cause in causes):
            return f"The certificate of {there} is not signed by anybody whom this machine trusts (--ca FILE)."
        if any("wrong version" in cause or "packet length" in cause for cause in causes):
            return f"{there} does not speak TLS: try again without --tls."
        return f"TLS with {there} failed: {', '.join(causes) or 'no reason is given'}."
    return ""


def _entries(reason: Failure) -> Sequence[tuple[str, ...]]:
    """OpenSSL's stack of errors: the library, the function, the reason of each."""
    arguments = getattr(reason.value, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], list) else []
