"""The HTTP server: the page, the WebSocket's handshake, and the health check."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from importlib import resources
from typing import NamedTuple, cast
from urllib.parse import urlsplit

from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.resource import Resource
from zope.interface import implementer

from chatd.health import Health
from chatd.web import websocket
from chatd.web.door import WebFactory
from chatd.web.peers import Proxies

#: An HTTP connection may be silent for so many seconds.
IDLE = 30.0
#: So many connections may be open beside those that the limit of clients is for: pages being loaded.
BESIDE = 50
#: Nobody has a reason to send more than that with a request.
MAX_BODY = 64 * 1024

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Server": "chatd",
}

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Asset(NamedTuple):
    """A file of the page."""

    type: str
    tag: bytes
    data: bytes


def assets() -> dict[bytes, Asset]:
    """The files of the page by their paths."""
    found = {}
    for file in resources.files("chatd.web").joinpath("static").iterdir():
        suffix = file.name[file.name.rindex(".") :]
        if suffix in TYPES:
            data = file.read_bytes()
            tag = f'"{hashlib.sha256(data).hexdigest()[:20]}"'.encode()
            found[b"/" + file.name.encode()] = Asset(TYPES[suffix], tag, data)
    found[b"/"] = found.pop(b"/index.html")
    return found


@implementer(IHalfCloseableProtocol)
class Channel(http.HTTPChannel):
    """A connection that speaks HTTP until it is upgraded to another protocol."""

    site: Site
    upgraded: Protocol | None = None

    def upgrade(self, protocol: Protocol) -> None:
        """Hand the connection over, in the middle of a request, which is never answered here."""
        self.setTimeout(None)
        self.requests = []
        self.upgraded = protocol
        # Twisted's channel is registered as a producer, for its answers to HTTP requests.
        self.transport.unregisterProducer()  # type: ignore[union-attr]
        protocol.makeConnection(self.transport)

    def connectionMade(self) -> None:
        super().connectionMade()
        self.site.opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.closed()
        super().connectionLost(reason)
        if self.upgraded is not None:
            self.upgraded.connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        if self.upgraded is None:
            super().dataReceived(data)
        else:
            self.upgraded.dataReceived(data)

    def readConnectionLost(self) -> None:
        if self.upgraded is None:
            self.loseConnection()
        else:
            cast(IHalfCloseableProtocol, self.upgraded).readConnectionLost()

    def writeConnectionLost(self) -> None:
        if self.upgraded is not None:
            cast(IHalfCloseableProtocol, self.upgraded).writeConnectionLost()


class Request(server.Request):
    """A request, whose body is thrown away."""

    channel: Channel
    _taken = 0

    def gotLength(self, length: int | None) -> None:
        """Twisted keeps the body, in a file where it is large."""
        super().gotLength(0)

    def handleContentChunk(self, data: bytes) -> None:
        self._taken += len(data)
        if self._taken > MAX_BODY:
            self.channel.forceAbortClient()


class Page(Resource):
    """All that is served, by its path."""

    isLeaf = True

    def __init__(self, door: WebFactory, health: Health, proxies: Proxies) -> None:
        super().__init__()
        self._door = door
        self._health = health
        self._proxies = proxies
        self._assets = assets()

    def render(self, request: Request) -> bytes | int:
        """Twisted's own way ends, for other methods, in pages of its own."""
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader("Allow", "GET, HEAD")
            return _text(request, http.NOT_ALLOWED, "this can only be read")
        answer = self._answer(request)
        return b"" if request.method == b"HEAD" and isinstance(answer, bytes) else answer

    def _answer(self, request: Request) -> bytes | int:
        if request.path == b"/ws":
            return self._websocket(request)
        if request.path == b"/health":
            return self._tell_health(request)
        asset = self._assets.get(request.path)
        if asset is None:
            return _text(request, http.NOT_FOUND, "there is nothing here")
        request.setHeader("Content-Type", asset.type)
        request.setHeader("Content-Length", str(len(asset.data)))
        request.setHeader("Cache-Control", "no-cache")
        return b"" if request.setETag(asset.tag) is http.CACHED else asset.data

    def _websocket(self, request: Request) -> bytes | int:
        if request.method != b"GET" or not _same_origin(request):
            return _text(request, http.FORBIDDEN, "this page may not connect here")
        try:
            answer = websocket.accept(request.getHeader)
        except websocket.Refused as refused:
            for name, value in refused.headers.items():
                request.setHeader(name, value)
            return _text(request, refused.status, str(refused))
        forwarded = request.requestHeaders.getRawHeaders("x-forwarded-for", [])
        peer = self._proxies.client(cast(IAddress, request.channel.getPeer()), forwarded)
        request.channel.upgrade(self._door.connect(peer, answer))
        return server.NOT_DONE_YET

    def _tell_health(self, request: Request) -> int:
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def tell(good: bool) -> None:
            if gone:
                return
            status, text = (http.OK, "ok") if good else (http.SERVICE_UNAVAILABLE, "messages cannot be kept now")
            request.setHeader("Cache-Control", "no-store")
            body = _text(request, status, text)
            if request.method != b"HEAD":
                request.write(body)
            request.finish()

        self._health.ask().addCallback(tell)
        return server.NOT_DONE_YET


class Site(server.Site):
    """The HTTP server. What comes of a WebSocket is told to the door."""

    noisy = False
    protocol = Channel  # type: ignore[assignment]
    requestFactory = Request

    def __init__(self, door: WebFactory, health: Health, proxies: Proxies, reactor: IReactorTime) -> None:
        self._page = Page(door, health, proxies)
        super().__init__(self._page, timeout=IDLE, reactor=reactor)
        self._most = door.limits.clients + BESIDE
        self._door = door
        self._open = 0

    def opened(self, channel: Channel) -> None:
        """A connection came in."""
        self._open += 1
        others = self._door.context.connections.open - len(self._door.clients)
        if self._open + others > self._most:
            channel.forceAbortClient()

    def closed(self) -> None:
        """A connection is gone."""
        self._open -= 1

    def getResourceFor(self, request: server.Request) -> Page:
        """The same for all, with the headers that all answers have."""
        for name, value in HEADERS.items():
            request.setHeader(name, value)
        return self._page

    def acceptableProtocols(self) -> list[bytes]:
        """What TLS may agree on: a WebSocket needs HTTP/1.1."""
        return [b"http/1.1"]

    def startFactory(self) -> None:
        """Twisted would begin to keep an access log here; who connects is in the connection log."""

    def stopFactory(self) -> None:
        """Nothing was begun."""


def _same_origin(request: Request) -> bool:
    """Whether the page that asks came from here. A program that is no browser says no origin."""
    origin = request.getHeader("origin")
    return origin is None or urlsplit(origin).netloc.lower() == (request.getHeader("host") or "").lower() != ""


def _text(request: Request, status: int, text: str) -> bytes:
    body = f"{text}\n".encode()
    request.setResponseCode(status, HTTPStatus(status).phrase.encode())
    request.setHeader("Content-Type", "text/plain; charset=utf-8")
    request.setHeader("Content-Length", str(len(body)))
    return body
