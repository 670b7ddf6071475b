"""Browsers in memory: connections to the web door of a `Chat`, which speak by way of wsproto."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, Pong, TextMessage

from chatd.health import Health
from chatd.server import Limits
from chatd.web.door import WebFactory
from chatd.web.peers import Proxies
from chatd.web.site import Site
from tests.harness import Chat, Line, MemorySocket

PATIENCE = 600.0
HOST = "chat.example"


class Answer(NamedTuple):
    """An answer over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes


class Web:
    """The web door of a chat."""

    def __init__(self, chat: Chat, limits: Limits | None = None) -> None:
        self.chat = chat
        self.door = WebFactory(chat.context, limits or Limits(rate=None), PATIENCE)
        self.health = Health(chat.hub.journal, chat.store, chat.clock)
        self.site = Site(self.door, self.health, Proxies(), chat.clock)

    def http(self, window: int | None = None) -> HttpLine:
        """A connection that has asked for nothing yet."""
        return HttpLine(self, window)

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """What is answered to one request."""
        return self.http().ask(path, method, **headers)

    def socket(self, window: int | None = None, **headers: str) -> WebLine:
        """A WebSocket that has said nothing yet."""
        return WebLine(self, window, **headers)

    def enter(self, name: str, **fields: object) -> WebLine:
        """A browser by that name, which has read what answers its hello."""
        line = self.socket()
        line.request("hello", name=name, **fields)
        assert line.read()[0]["type"] == "welcome"
        return line


class HttpLine(Line):
    """The other side of a connection to the web door."""

    def __init__(self, web: Web, window: int | None = None) -> None:
        self.chat = web.chat
        self.socket = MemorySocket(self.chat.clock, window)
        protocol = web.site.buildProtocol(self.socket.getPeer())
        assert protocol is not None
        self.socket.connect(protocol)
        self.chat.lines.append(self)
        self.chat.settle()

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Send a request; return what is answered."""
        self.send(request(path, method, **headers))
        return self.answer()

    def answer(self) -> Answer:
        """The answer that has come."""
        head, _, body = self.read_bytes().partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        fields = [line.split(": ", 1) for line in lines]
        return Answer(int(first.split()[1]), {name.lower(): value for name, value in fields}, body)


def request(path: str, method: str = "GET", **headers: str) -> bytes:
    """A request over HTTP. An underscore in the name of a header is a hyphen."""
    fields = {"host": HOST, **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


HANDSHAKE = {
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec_websocket_version": "13",
    "sec_websocket_key": base64.b64encode(bytes(16)).decode(),
}


class WebLine(HttpLine):
    """The other side of a WebSocket. `events` are those that came beside text; `code` that of a close."""

    def __init__(self, web: Web, window: int | None = None, **headers: str) -> None:
        super().__init__(web, window)
        self.wire = Connection(ConnectionType.CLIENT)
        self.events: list[Event] = []
        self._opened = False
        self._text = ""
        self.send(request("/ws", **HANDSHAKE, **headers))

    @property
    def code(self) -> int | None:
        """The code that the server closed it with."""
        return next((event.code for event in self.events if isinstance(event, CloseConnection)), None)

    def request(self, type: str, **fields: object) -> None:
        """Send a request."""
        self.say_lines(msgspec.json.encode({"type": type, **fields}).decode())

    def say(self, text: str, id: str, room: str = "lobby") -> None:
        """Send a message."""
        self.request("say", room=room, text=text, id=id)

    def say_lines(self, text: str) -> None:
        """Send text, in one message of the WebSocket."""
        self.send(self.wire.send(TextMessage(text)))

    def ping(self, payload: bytes = b"") -> None:
        self.send(self.wire.send(Ping(payload)))

    def pong(self) -> None:
        """Answer a ping."""
        self.send(self.wire.send(Pong()))

    def texts(self) -> Sequence[str]:
        """The whole text messages that have come."""
        data = self.read_bytes()
        if not self._opened:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self.socket.arrived += head
                return []
            assert head.startswith(b"HTTP/1.1 101 "), head
            self._opened = True
        self.wire.receive_data(data)
        found = []
        for event in self.wire.events():
            if isinstance(event, TextMessage):
                self._text += event.data
                if event.message_finished:
                    found.append(self._text)
                    self._text = ""
            else:
                self.events.append(event)
        return found

    def read(self) -> list[dict[str, Any]]:
        """The answers that have come."""
        return [msgspec.json.decode(line) for text in self.texts() for line in text.splitlines()]

    def ask(self, type: str, **fields: object) -> list[dict[str, Any]]:  # type: ignore[override]
        """Send a request; return what comes."""
        self.request(type, **fields)
        return self.read()
