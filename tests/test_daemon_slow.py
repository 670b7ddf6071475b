"""Readers that do not read, at the real daemon: they cost no memory, slow nobody down, and miss nothing."""

from __future__ import annotations

import re
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.certificate import make_certificate, trusting
from tests.daemon import Closed, Daemon, JsonClient, TextClient, wait_until

STALLED = 30
TEXT = "x" * 1000
IN_FLIGHT = 200
#: By so much the daemon may grow: it keeps the last messages in memory, whoever reads them.
MEMORY = 80 * 1024 * 1024


class Readers(NamedTuple):
    """Some who have joined and do not read."""

    people: list[TextClient]
    programs: list[JsonClient]


def _stalled(daemon: Daemon, tls: ssl.SSLContext | None) -> Readers:
    people = [daemon.text(f"person{n}", tls=tls, receive_buffer=4096) for n in range(STALLED // 2)]
    programs = [daemon.json(f"program{n}", tls=tls, receive_buffer=4096) for n in range(STALLED // 2)]
    return Readers(people, programs)


def _say_many(client: JsonClient, begin: int, end: int) -> None:
    """Say so many messages, and see all of them."""
    said = begin
    for number in range(begin, end):
        while said < min(end, number + IN_FLIGHT):
            client.say(f"{said} {TEXT}", str(said))
            said += 1
        assert client.until("message")["text"] == f"{number} {TEXT}"


def _read_on(readers: Readers, count: int) -> None:
    """One of each kind reads all that it has missed, in order, and is live again."""
    person, program = readers.people[0], readers.programs[0]
    for reader in (person, program):
        reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024 * 1024)
    for number in range(count):
        assert person.until("bo: ")[-1] == f"bo: {number} {TEXT}"
    for number in range(count):
        message = program.until("message")
        assert (message["seq"], message["text"]) == (number + 1, f"{number} {TEXT}")


@pytest.mark.parametrize(("kind", "count"), [("tcp", 20_000), ("ssl", 8_000)])
def test_who_does_not_read_costs_no_memory_and_misses_nothing(tmp_path: Path, kind: str, count: int) -> None:
    place, tls = "0", None
    if kind == "ssl":
        certificate = make_certificate(tmp_path / "chat.pem")
        place, tls = f"ssl:0:privateKey={certificate}:certKey={certificate}", trusting(certificate)
    assert STALLED * count * len(TEXT) > 2 * MEMORY
    with Daemon(tmp_path, "--rate", "off", "--no-log-messages", "--port", place) as daemon:
        readers, bo = _stalled(daemon, tls), daemon.json("bo", tls=tls)
        before = daemon.memory
        _say_many(bo, 0, count)
        assert daemon.memory - before < MEMORY
        _read_on(readers, count)
        bo.say("all is read", "last")
        assert readers.people[0].until("bo: all")[-1] == "bo: all is read"
        assert readers.programs[0].until("message")["seq"] == count + 1


def test_who_sends_without_reading_is_read_no_more_and_loses_nothing(tmp_path: Path) -> None:
    count = 20_000
    with Daemon(tmp_path, "--rate", "off", "--no-log-messages") as daemon, ThreadPoolExecutor(1) as pool:
        bo, ana = daemon.json("bo"), daemon.json("ana", receive_buffer=4096)
        lines = b"".join(
            b'{"type":"say","room":"lobby","id":"%d","text":"%d %s"}\n' % (n, n, TEXT.encode())
            for n in range(count)
        )
        before = daemon.memory
        sending = pool.submit(ana.send, lines)
        for number in range(1000):
            assert bo.until("message")["seq"] == number + 1
        # What she is told would fill more than the daemon keeps for her: it has stopped to read.
        assert not sending.done()
        assert daemon.memory - before < MEMORY
        kept = [ana.until("kept") for _ in range(count)]
        assert [(receipt["seq"], receipt["id"]) for receipt in kept] == [(n + 1, str(n)) for n in range(count)]
        sending.result()
        assert [bo.until("message")["seq"] for _ in range(1000, count)] == list(range(1001, count + 1))


def test_who_takes_nothing_for_too_long_is_cut_off(tmp_path: Path) -> None:
    with Daemon(tmp_path, "--rate", "off", "--stall-timeout", "1") as daemon:
        bo, stalled = daemon.json("bo"), daemon.json("stalled", receive_buffer=4096)
        _say_many(bo, 0, 3000)
        wait_until(lambda: re.search(r" disconnected .*name=stalled ", daemon.log), "it is cut off")
        # Who reads is not, however little happens.
        bo.sync()
        with pytest.raises(Closed):
            stalled.until("goodbye")


def test_who_reads_slowly_falls_behind_and_catches_up_again_and_again(tmp_path: Path) -> None:
    with Daemon(tmp_path, "--rate", "off") as daemon:
        bo, slow = daemon.json("bo"), daemon.json("slow", receive_buffer=4096)
        seen = 0
        for begin in range(0, 3000, 300):
            _say_many(bo, begin, begin + 300)
            for message in slow.messages(250):
                seen += 1
                assert message["seq"] == seen
        # What it asks for meanwhile is answered, in its place.
        slow.request("ping", id="p")
        while (answer := slow.read())["type"] != "pong":
            if answer["type"] == "message":
                seen += 1
                assert answer["seq"] == seen
        while seen < 3000:
            seen += 1
            assert slow.until("message")["seq"] == seen
