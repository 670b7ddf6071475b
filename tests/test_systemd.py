"""Readiness, told to a socket like systemd's."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.application.service import IService, MultiService
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from zope.interface.verify import verifyObject

from chatd.systemd import Readiness


@pytest.fixture(params=["in a folder", "abstract"])
def channel(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """A datagram socket as systemd has one."""
    name = str(tmp_path / "notify") if request.param == "in a folder" else f"\0chatd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(name)
        bound.settimeout(5)
        yield bound


def address(channel: socket.socket) -> str:
    """The socket's name as systemd writes it into the environment."""
    name = channel.getsockname()
    return "@" + name[1:].decode() if isinstance(name, bytes) else name


def test_ready_and_stopping(channel: socket.socket) -> None:
    service = Readiness({"NOTIFY_SOCKET": address(channel)})
    service.startService()
    assert channel.recv(100) == b"READY=1"
    service.stopService()
    assert channel.recv(100) == b"STOPPING=1"


async def test_as_the_last_of_several_services(channel: socket.socket) -> None:
    top = MultiService()
    MultiService().setServiceParent(top)
    Readiness({"NOTIFY_SOCKET": address(channel)}).setServiceParent(top)
    top.startService()
    assert channel.recv(100) == b"READY=1"
    await top.stopService()
    assert channel.recv(100) == b"STOPPING=1"


def test_without_systemd() -> None:
    service = Readiness({})
    service.startService()
    assert service.running
    service.stopService()
    assert verifyObject(IService, service)


def test_a_socket_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    said: list[str] = []

    def observe(event: LogEvent) -> None:
        said.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]  # any function of an event is one
    service = Readiness({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    service.startService()
    globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]
    assert service.running
    assert said == ["systemd could not be told READY=1: [Errno 2] No such file or directory"]
    service.stopService()
