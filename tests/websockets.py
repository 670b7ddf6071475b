"""Programs that speak to a real daemon by WebSocket, through wsproto."""

from __future__ import annotations

import base64
import os
import ssl

from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, TextMessage

from tests.daemon import Address, Closed, JsonClient, connected


class WebClient(JsonClient):
    """A program on a WebSocket. `head` is what answered its handshake; `code` that of the server's close.

    `pings` counts the server's pings; they are answered unless `silent`.
    """

    def __init__(self, address: Address, tls: ssl.SSLContext | None = None, **headers: str) -> None:
        super().__init__(connected(address, tls))
        self.code: int | None = None
        self.pings = 0
        self.silent = False
        self._wire = Connection(ConnectionType.CLIENT)
        fields = {
            "Host": "localhost",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        lines = ["GET /ws HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)
            if not byte:
                break
            head += byte
        self.head = head.decode()

    @property
    def status(self) -> int:
        """How the handshake was answered."""
        return int(self.head.split()[1])

    def send(self, data: bytes) -> None:
        super().send(self._wire.send(TextMessage(data.decode())))

    def say_goodbye(self) -> None:
        """Close the WebSocket as a browser does whose tab is closed."""
        super().send(self._wire.send(CloseConnection(1001)))

    def _receive(self, deadline: float) -> None:
        if self.code is not None:
            raise Closed(f"closed with {self.code}")
        before, self._buffer = self._buffer, bytearray()
        try:
            super()._receive(deadline)
        finally:
            data, self._buffer = bytes(self._buffer), before
        self._wire.receive_data(data)
        for event in self._wire.events():
            if isinstance(event, TextMessage):
                self._buffer += event.data.encode()
            elif isinstance(event, CloseConnection):
                self.code = int(event.code)
            elif isinstance(event, Ping):
                self.pings += 1
                if not self.silent:
                    super().send(self._wire.send(event.response()))
