"""The servers that are measured: how each is started, and what the load generator has to speak to it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.build import BUILD, HERE

START_SECONDS = 60.0

NGIRCD_CONF = """\
[Global]
    Name = irc.bench.local
    Info = benchmark
    Listen = 127.0.0.1
    Ports = {port}
    MotdPhrase = hello
    PidFile = {folder}/ngircd.pid
    ServerUID = {user}
    ServerGID = {group}
[Limits]
    MaxConnections = 0
    MaxConnectionsIP = 0
    MaxJoins = 0
    MaxNickLength = 30
    MaxPenaltyTime = 0
    PingTimeout = 3600
[Options]
    DNS = no
    Ident = no
    PAM = no
"""

INSPIRCD_CONF = """\
<server name="irc.bench.local" description="benchmark" network="bench">
<admin name="bench" nick="bench" email="bench@localhost">
<bind address="127.0.0.1" port="{port}" type="clients">
<connect name="main" allow="*" timeout="600" pingfreq="3600" hardsendq="1M" softsendq="1M" recvq="10M"
    threshold="1000000" commandrate="1000000000" fakelag="no" limit="100000" localmax="100000" globalmax="100000"
    maxchans="1000" maxconnwarn="no" resolvehostnames="no" useident="no">
<performance softlimit="20000" somaxconn="4096" netbuffersize="65534" clonesonconnect="no">
<pid file="{folder}/inspircd.pid">
<log method="file" type="*" level="default" target="{folder}/inspircd.log">
"""


@dataclass(frozen=True)
class Server:
    """One row of the table. `command` gives the arguments that start it on a port, with a folder of its own."""

    name: str
    title: str
    dialect: str
    command: Callable[[int, Path], list[str]]
    program: str
    environment: Mapping[str, str] = field(default_factory=dict)
    #: How many clients may be on their way in at once, outside a storm: ngIRCd has a backlog of 10.
    joins_at_once: int = 256

    @property
    def installed(self) -> bool:
        return bool(_find(self.program))


@dataclass
class Running:
    """A server that has been started, and accepts connections."""

    server: Server
    port: int
    folder: Path
    process: subprocess.Popen[bytes]
    seconds_to_start: float

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def peak_kib(self) -> int:
        """The most memory that the process has had."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])

    def stop(self, number: int = signal.SIGTERM) -> None:
        """With that signal; with SIGKILL where it does not end within five seconds."""
        self.process.send_signal(number)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def start_again(self) -> None:
        """After `stop`: on the same port, with the same folder."""
        self.process, self.seconds_to_start = _launch(self.server, self.port, self.folder)


@contextmanager
def running(server: Server, environment: Mapping[str, str] | None = None) -> Iterator[Running]:
    """The server on a free port of the loopback interface, stopped and its files removed at the end."""
    port = _free_port()
    if environment:
        server = replace(server, environment={**server.environment, **environment})
    with tempfile.TemporaryDirectory(prefix="run-", dir=BUILD) as name:
        process, seconds = _launch(server, port, Path(name))
        started = Running(server, port, Path(name), process, seconds)
        try:
            yield started
        finally:
            started.stop()


def _launch(server: Server, port: int, folder: Path) -> tuple[subprocess.Popen[bytes], float]:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), **server.environment}
    begin = time.monotonic()
    with (folder / "output").open("ab") as output:
        process = subprocess.Popen(
            server.command(port, folder),
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    _wait_for_port(process, port, folder / "output")
    return process, time.monotonic() - begin


def _wait_for_port(process: subprocess.Popen[bytes], port: int, output: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.01)
    process.kill()
    process.wait()
    last = output.read_text(errors="replace").strip().rpartition("\n")[2]
    raise RuntimeError(f"it does not listen on its port; its last words: {last or 'none'}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _find(program: str) -> str | None:
    """Also where Debian puts daemons, which is not in everybody's path; and beside this Python."""
    beside = Path(sys.executable).with_name(program)
    if beside.exists():
        return str(beside)
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{BUILD}:/usr/local/sbin:/usr/sbin")


def _program(name: str) -> str:
    found = _find(name)
    if not found:
        raise FileNotFoundError(name)
    return found


def _ngircd(port: int, folder: Path) -> list[str]:
    conf = folder / "ngircd.conf"
    conf.write_text(NGIRCD_CONF.format(port=port, folder=folder, user=os.getuid(), group=os.getgid()))
    return [_program("ngircd"), "-n", "-f", str(conf)]


def _inspircd(port: int, folder: Path) -> list[str]:
    conf = folder / "inspircd.conf"
    conf.write_text(INSPIRCD_CONF.format(port=port, folder=folder))
    root = ["--runasroot"] if os.getuid() == 0 else []
    return [_program("inspircd"), "--nofork", *root, f"--config={conf}"]


def _chatd(port: int, folder: Path) -> list[str]:
    return [*_chat(folder), "--port", f"tcp:{port}:interface=127.0.0.1"]


def _chatd_web(port: int, folder: Path) -> list[str]:
    doors = ["--port", "tcp:0:interface=127.0.0.1", "--web", f"tcp:{port}:interface=127.0.0.1"]
    return [*_chat(folder), *doors]


def _chat(folder: Path) -> list[str]:
    files = ["--db", str(folder / "chat.db"), "--log", str(folder / "chat_server.log")]
    return [_program("twistd"), "-n", "--pidfile=", "chat", "--rate", "off", *files]


def _reference(name: str) -> Callable[[int, Path], list[str]]:
    return lambda port, folder: [str(BUILD / name), str(port)]


CHATD_TEXT = Server("chatd-text", "chatd, text", "text", _chatd, "twistd")
CHATD_JSON = Server("chatd-json", "chatd, JSON lines", "json", _chatd, "twistd")
CHATD_WEB = Server("chatd-web", "chatd, WebSocket", "ws", _chatd_web, "twistd")
BARE = Server("bare", "C, bare epoll loop", "raw", _reference("bare_epoll"), "bare_epoll")
THREADS = Server("threads", "C, a thread a client", "raw", _reference("threads"), "threads")
NGIRCD = Server("ngircd", "ngIRCd (C)", "irc", _ngircd, "ngircd", joins_at_once=8)
INSPIRCD = Server("inspircd", "InspIRCd (C++)", "irc", _inspircd, "inspircd")
INSPIRCD_NODELAY = Server(
    "inspircd-nodelay",
    "InspIRCd, TCP_NODELAY",
    "irc",
    _inspircd,
    "inspircd",
    {"LD_PRELOAD": str(BUILD / "nodelay.so")},
)

ALL = [CHATD_TEXT, CHATD_JSON, CHATD_WEB, BARE, THREADS, NGIRCD, INSPIRCD, INSPIRCD_NODELAY]
