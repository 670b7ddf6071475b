"""A blocking client for chatd's JSON lines: one request, one answer, and how long that took."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any

Line = dict[str, Any]


class Client:
    """Connected and in the room `lobby`, with the cursor at `after`: see `join` in docs/protocol.md."""

    def __init__(self, port: int, name: str, after: int | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self._socket.makefile("rb", buffering=1 << 20)
        self.send([{"type": "hello", "name": name, "rooms": {"lobby": after}}])
        self.room = self.wait_for("room")

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()

    def send(self, lines: Iterable[Line]) -> None:
        self._socket.sendall(b"".join(json.dumps(line).encode() + b"\n" for line in lines))

    def wait_for(self, kind: str) -> Line:
        """The next line of that type; others are passed over. Raises RuntimeError at an error or the end."""
        marker = f'"type":"{kind}"'.encode()
        for line in self._lines:
            if marker in line[:64]:
                found: Line = json.loads(line)
                return found
            if line.startswith(b'{"type":"error"'):
                raise RuntimeError(line.decode())
        raise RuntimeError("the server has closed the connection")

    def wait_for_number(self, seq: int) -> None:
        """Until the message with that number has come."""
        marker = f'"seq":{seq},'.encode()
        for line in self._lines:
            if marker in line[:128] and line.startswith(b'{"type":"message"'):
                return
        raise RuntimeError("the server has closed the connection")

    def timed(self, request: Line, kind: str) -> float:
        """Milliseconds until the answer."""
        begin = time.perf_counter()
        self.send([request])
        self.wait_for(kind)
        return (time.perf_counter() - begin) * 1000
