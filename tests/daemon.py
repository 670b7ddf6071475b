"""The real daemon as a process of its own, and clients on plain sockets to talk to it.

Nothing here shares code with the server. Whatever waits does so for an event, and for `PATIENCE` seconds at most.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

#: What does not happen within so many seconds does not happen.
PATIENCE = 20.0

#: Of a TCP port, or the path of a socket.
Address: TypeAlias = "tuple[str, int] | str"

AnyPeer = TypeVar("AnyPeer", bound="Peer")

_POLL = 0.005


def wait_until(happened: Callable[[], object], what: str, within: float = PATIENCE) -> None:
    """Return when `happened()` is true. For what can only be asked, such as a file that another process writes."""
    deadline = time.monotonic() + within
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within:g} s: {what}")
        time.sleep(_POLL)


def twistd() -> str:
    """The path of this environment's `twistd`."""
    path = shutil.which("twistd", path=str(Path(sys.executable).parent))
    assert path, "there is no twistd beside this Python"
    return path


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without options of chatd, and with what is in `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHATD_")}
    return {**kept, "PYTHONUNBUFFERED": "1", **(extra or {})}


class Daemon:
    """`twistd -n chat` in `folder`, where its database and logs are too.

        with Daemon(tmp_path, "--history", "5") as daemon:
            ana = daemon.text("ana")

    `options` are those of `twistd chat`; where nothing says the port, it takes a free one. `environment` comes on
    top of that of the tests. `before` is a command that becomes the daemon, or leaves it its number as a
    process, such as `strace -D` with its options.

    At the end of the block the clients that it made are closed, and it is stopped, unless the block has done that.
    Its log must hold no traceback.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        environment: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.options = options
        self.environment = clean_environment(environment)
        self.before = before
        self.ports: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "twistd.out"
        self._begin = 0
        self._clients: list[Peer] = []

    def __enter__(self) -> Daemon:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None) -> None:
        for client in self._clients:
            client.close()
        try:
            if self.running:
                self.stop()
        finally:
            self.kill()
        if kind is None:
            assert "Traceback" not in self.output, self.output

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that was started last."""
        assert self._process is not None, "it was never started"
        return self._process

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        """What twistd has logged since the last start."""
        return self._log.read_bytes()[self._begin :].decode()

    @property
    def port(self) -> int:
        """The first TCP port that it listens on."""
        return self.ports[0]

    @property
    def address(self) -> Address:
        """Where its first port is."""
        return "127.0.0.1", self.port

    @property
    def log(self) -> str:
        """The connection log."""
        return (self.folder / "chat_server.log").read_text()

    @property
    def memory(self) -> int:
        """How many bytes of memory it has now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    def start(self, port: int = 0) -> None:
        """Start it, and wait until it listens. `port` is where, unless the options say it."""
        assert not self.running, "it runs already"
        options = list(self.options)
        if "--port" not in options and "CHATD_PORT" not in self.environment:
            options += ["--port", str(port)]
        with self._log.open("ab") as log:
            self._begin = log.seek(0, os.SEEK_END)
            self._process = subprocess.Popen(
                [*self.before, twistd(), "--nodaemon", "--pidfile=", "chat", *options],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.ports = self._listening()

    def restart(self) -> None:
        """Start it again, where it has listened before."""
        self.start(self.port)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to stop, and wait until it has, in order."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        # twistd, when it has shut down, ends itself by the signal that asked for it.
        assert code in (0, -number), f"exit code {code}:\n{self.output}"
        assert "Server Shut Down." in self.output, self.output

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self.running:
            self.process.kill()
            self.process.wait(PATIENCE)

    def peer(self, **options: Any) -> Peer:
        """A connection to its first port. The options are those of `connected`, here and below."""
        return self._made(Peer(connected(self.address, **options)))

    def text(self, name: str | None = None, **options: Any) -> TextClient:
        """A person of that name, who is in the lobby; or, without a name, one who has said nothing yet."""
        client = self._made(TextClient(connected(self.address, **options)))
        return client if name is None else client.enter(name)

    def json(self, name: str | None = None, **options: Any) -> JsonClient:
        """A program of that name, which is in the lobby; or, without a name, one that has said nothing yet."""
        client = self._made(JsonClient(connected(self.address, **options)))
        if name is not None:
            client.hello(name)
        return client

    def _made(self, client: AnyPeer) -> AnyPeer:
        self._clients.append(client)
        return client

    def _listening(self) -> list[int]:
        said: list[str] = []

        def listens() -> bool:
            said[:] = re.findall(r"chatd \S+ listens on (.*)", self.output)
            return bool(said) or not self.running

        wait_until(listens, "it listens")
        assert said, f"it did not start:\n{self.output}"
        return [int(number) for number in re.findall(r"\bport (\d+)", said[0])]


class Closed(Exception):
    """The other side has closed the connection, or reset it."""


def connected(
    address: Address, tls: ssl.SSLContext | None = None, receive_buffer: int | None = None
) -> socket.socket:
    """A socket that is connected to the address.

    With `tls`, it is encrypted. With `receive_buffer`, the kernel takes about so many bytes before they are read.
    """
    family = (
        socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    )
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if receive_buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        made.settimeout(PATIENCE)
        made.connect(address)
        return made if tls is None else tls.wrap_socket(made, server_hostname="localhost")
    except BaseException:
        made.close()
        raise


class Peer:
    """A connection to a daemon, by a socket of `connected` or another. Whatever waits in it does so for `PATIENCE`
    seconds at the most."""

    def __init__(self, socket: socket.socket) -> None:
        self.socket = socket
        self.socket.settimeout(PATIENCE)
        self._buffer = bytearray()

    def send(self, data: bytes) -> None:
        """Send all of it. Raises Closed."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError) as error:
            raise Closed(str(error)) from error

    def read_line(self, within: float = PATIENCE) -> bytes:
        """The next line, without its end. Raises Closed, or TimeoutError."""
        deadline = time.monotonic() + within
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            self._receive(deadline)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.removesuffix(b"\r")

    def read_to_end(self) -> bytes:
        """All that comes until the other side closes. A reset counts as such."""
        deadline = time.monotonic() + PATIENCE
        with contextlib.suppress(Closed):
            while True:
                self._receive(deadline)
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def finish(self) -> None:
        """Close the side that sends."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close it without a farewell: what is under way is lost."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        """Close it."""
        self.socket.close()

    def _receive(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"nothing more came; there was {bytes(self._buffer)!r:.1000}")
        self.socket.settimeout(left)
        try:
            data = self.socket.recv(256 * 1024)
        except TimeoutError:
            raise TimeoutError(f"nothing more came; there was {bytes(self._buffer)!r:.1000}") from None
        except (ConnectionError, ssl.SSLEOFError) as error:
            raise Closed(str(error)) from error
        finally:
            self.socket.settimeout(PATIENCE)
        if not data:
            raise Closed("the daemon closed the connection")
        self._buffer += data


class TextClient(Peer):
    """A person with nc."""

    def enter(self, name: str) -> TextClient:
        """Say the name, and wait until the last line about the room has come."""
        self.say(name)
        self.until(r"\* You are in lobby, ")
        return self

    def say(self, line: str) -> None:
        """Send a line."""
        self.send(line.encode() + b"\n")

    def read(self, within: float = PATIENCE) -> str:
        """The next line."""
        return self.read_line(within).decode()

    def until(self, pattern: str) -> list[str]:
        """The lines up to the first that begins with what the regular expression says."""
        lines = [self.read()]
        while not re.match(pattern, lines[-1]):
            lines.append(self.read())
        return lines

    def sync(self) -> list[str]:
        """The lines that came before the answer to a question that is asked now: all that was sent is settled."""
        self.say("/who")
        return self.until(r"\* \d+ in ")[:-1]


class JsonClient(Peer):
    """A program that speaks JSON lines. `token` is that of the last welcome."""

    token: str | None = None

    def hello(self, name: str, **fields: Any) -> dict[str, Any]:
        """Say hello, and wait until the last of the `rooms` (the lobby, where none are named) is entered.

        Returns the welcome.
        """
        self.request("hello", name=name, **fields)
        welcome = self.until("welcome")
        self.token = welcome["token"]
        for _ in fields.get("rooms", {"lobby": None}):
            self.until("room")
        return welcome

    def request(self, type: str, **fields: Any) -> None:
        """Send a request."""
        self.send(json.dumps({"type": type, **fields}).encode() + b"\n")

    def say(self, text: str, id: str, room: str = "lobby") -> None:
        """Send a message."""
        self.request("say", room=room, text=text, id=id)

    def read(self, within: float = PATIENCE) -> dict[str, Any]:
        """The next answer. Lines that are not JSON, as greetings are, are passed over."""
        while not (line := self.read_line(within)).startswith(b"{"):
            pass
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def until(self, type: str, **fields: object) -> dict[str, Any]:
        """The next answer of this type with these fields; those before it are dropped."""
        while True:
            answer = self.read()
            if answer["type"] == type and fields.items() <= answer.items():
                return answer

    def messages(self, count: int) -> list[dict[str, Any]]:
        """The next so many messages; other answers are dropped."""
        return [self.until("message") for _ in range(count)]

    def sync(self) -> list[dict[str, Any]]:
        """The answers that came before that to a question that is asked now."""
        self.request("ping", id="sync")
        answers = [self.read()]
        while answers[-1] != {"type": "pong", "id": "sync"}:
            answers.append(self.read())
        return answers[:-1]
