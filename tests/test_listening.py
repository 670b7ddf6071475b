"""Where a door listens, and what is said when it cannot."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_twisted
from twisted.application.service import IService
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.error import CannotListenError, ConnectError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from chatd.listening import CannotListen, Ports, _reason
from tests.certificate import make_certificate, trusting
from tests.daemon import Daemon

Open = Callable[..., Ports]


class Greeter(Protocol):
    """Says what its socket is set to, and closes."""

    def connectionMade(self) -> None:
        handle = self.transport.getHandle()  # type: ignore[union-attr]
        tcp = handle.family != socket.AF_UNIX
        options = [handle.getsockopt(level, name) for level, name in OPTIONS if tcp]
        assert self.transport is not None
        self.transport.write(f"{options}".encode())
        self.transport.loseConnection()


OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
]


class Reader(Protocol):
    """Reads to the end."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred()
        self._got = b""

    def dataReceived(self, data: bytes) -> None:
        self._got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.done.callback(self._got)


async def read(where: str) -> bytes:
    """What the server there says."""
    reader: Reader = await connectProtocol(clientFromString(reactor, where), Reader())
    return await reader.done


@pytest_twisted.async_yield_fixture
async def open_ports() -> AsyncIterator[Open]:
    """Opens ports; what has been opened is closed at the end."""
    opened: list[Ports] = []

    def open_ports(*places: str) -> Ports:
        ports = Ports(reactor, "--port ", places, Factory.forProtocol(Greeter), stall_timeout=12.5)
        opened.append(ports)
        ports.startService()
        ports.open()
        return ports

    yield open_ports
    for ports in opened:
        await ports.stopService()


def refusal(*places: str) -> str:
    """Why it does not listen there, in one line."""
    ports = Ports(reactor, "--port ", places, Factory.forProtocol(Greeter), 60)
    with pytest.raises(CannotListen) as refused:
        ports.open()
    line = str(refused.value)
    assert len(line.splitlines()) == 1
    return line


def number(address: str) -> int:
    found = re.search(r"port (\d+)", address)
    assert found
    return int(found[1])


async def test_a_number_is_a_port_on_all_addresses(open_ports: Open) -> None:
    (address,) = open_ports("0").addresses
    port = number(address)
    assert address == f"port {port}"
    for host in ("127.0.0.1", "127.0.0.2"):
        assert await read(f"tcp:{host}:{port}")
    if _has_ipv6():
        assert await read(f"tcp:\\:\\:1:{port}")


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


async def test_connections_inherit_what_the_listening_socket_has(open_ports: Open) -> None:
    (address,) = open_ports("tcp:0:interface=127.0.0.1").addresses
    said = await read(f"tcp:127.0.0.1:{number(address)}")
    assert said == b"[1, 1, 60, 15, 4, 12500]"


async def test_several_places(open_ports: Open, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    ports = open_ports("tcp:0:interface=127.0.0.1", f"unix:{path}", "0")
    one, two, three = ports.addresses
    assert re.fullmatch(r"127\.0\.0\.1 port \d+", one)
    assert two == f"unix {path}"
    assert re.fullmatch(r"port \d+", three)
    assert await read(f"unix:{path}") == b"[]"
    assert await read(f"tcp:127.0.0.1:{number(one)}")


async def test_stopping_closes_the_port(open_ports: Open) -> None:
    ports = open_ports("tcp:0:interface=127.0.0.1")
    port = number(ports.addresses[0])
    await ports.stopService()
    assert ports.addresses == []
    with pytest.raises(ConnectError):
        await read(f"tcp:127.0.0.1:{port}")


async def test_a_port_that_is_taken(open_ports: Open) -> None:
    port = number(open_ports("tcp:0:interface=127.0.0.1").addresses[0])
    place = f"tcp:{port}:interface=127.0.0.1"
    assert refusal(place) == (
        f"--port {place}: the port is in use, by another chatd perhaps: stop that, or choose another port"
    )


EXAMPLE = "; give a number, or an endpoint such as tcp:5000:interface=127.0.0.1"


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("65536", "a port is a number from 0 to 65535" + EXAMPLE),
        ("99999999999", "a port is a number from 0 to 65535" + EXAMPLE),
        ("nonsense", "Unknown endpoint type: 'nonsense'" + EXAMPLE),
        ("", "Unknown endpoint type: ''" + EXAMPLE),
        ("\u0665", "Unknown endpoint type: '\u0665'" + EXAMPLE),
        ("tcp:0:interface=192.0.2.1", "this machine has no such address"),
        ("unix:/missing/folder/socket", "No such file or directory"),
        ("ssl:0:privateKey=/missing.pem", "/missing.pem: No such file or directory" + EXAMPLE),
    ],
)
def test_why_it_does_not_listen(place: str, why: str) -> None:
    assert refusal(place) == f"--port {place}: {why}"


@pytest.mark.parametrize("place", ["tcp:x", "tcp:0:colour=red", "ssl:0:privateKey=/dev/null"])
def test_other_mistakes_are_one_line_too(place: str) -> None:
    assert refusal(place).startswith(f"--port {place}: ")


def test_what_is_not_allowed() -> None:
    # Whoever runs the tests may be allowed everything.
    refused = Failure(CannotListenError("", 80, OSError(errno.EACCES, "Permission denied")))
    assert _reason(refused) == "not allowed: ports below 1024 need more rights, choose one above"


def test_the_reactor_does_not_wait_for_a_name() -> None:
    refusal("tcp:0:interface=no-such-name.invalid")


def test_ports_are_a_service() -> None:
    assert verifyObject(IService, Ports(reactor, "--port ", [], Factory.forProtocol(Greeter), 60))


# With TLS, at the real daemon: its transport is not a socket.


def test_people_and_programs_over_tls(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "both.pem")
    place = f"ssl:0:interface=127.0.0.1:privateKey={certificate}:certKey={certificate}"
    with Daemon(tmp_path, "--port", place, "--rate", "off") as daemon:
        tls = trusting(certificate)
        ana = daemon.text("ana", tls=tls)
        bo = daemon.json("bo", tls=tls)
        ana.say("hola")
        assert bo.until("message")["text"] == "hola"
        bo.say("hey", "1")
        assert ana.until("bo")[-1] == "bo: hey"
        for id in range(200):
            bo.say(f"{id} {'x' * 3900}", f"long {id}")
        slow = daemon.json(tls=tls, receive_buffer=4096)
        slow.hello("cy", rooms={"lobby": 0})
        assert [slow.until("message")["seq"] for _ in range(202)] == list(range(1, 203))
        ana.say("exit")
        assert ana.until(r"\* Goodbye")
