"""The real daemon is told to stop, under load, and to open its log anew."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import PATIENCE, Closed, Daemon, JsonClient, clean_environment, connected, twistd, wait_until

IN_FLIGHT = 100
#: The daemon has so many seconds to stop.
STOPS_WITHIN = 5.0


class Talker:
    """A program that talks until it is told goodbye."""

    def __init__(self, client: JsonClient, name: str) -> None:
        self._client = client
        self._name = name
        self.busy = threading.Event()
        self.kept: dict[str, int] = {}
        self.seen: dict[int, str] = {}
        self.goodbye: dict[str, Any] = {}
        self.rest = b"?"

    def talk(self) -> None:
        """Keep many messages under way, and note what comes back."""
        sent = 0
        while not self.goodbye:
            # After the goodbye, which may not have been read yet, nothing can be sent.
            with contextlib.suppress(Closed):
                while sent - len(self.kept) < IN_FLIGHT:
                    self._client.say(f"{self._name} {sent}", str(sent))
                    sent += 1
            self._hear(self._client.read())
            if len(self.kept) > 500:
                self.busy.set()
        self.rest = self._client.read_to_end()

    def _hear(self, answer: dict[str, Any]) -> None:
        if answer["type"] == "message":
            self.seen[answer["seq"]] = answer["text"]
        elif answer["type"] == "kept":
            self.kept[f"{self._name} {answer['id']}"] = answer["seq"]
        elif answer["type"] == "goodbye":
            self.goodbye = answer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_under_load(tmp_path: Path, number: signal.Signals) -> None:
    with Daemon(tmp_path, "--rate", "off", "--history", "0") as daemon, ThreadPoolExecutor(4) as pool:
        watcher = daemon.text("watcher")
        stalled = daemon.json("stalled", receive_buffer=4096)
        talkers = [Talker(daemon.json(name), name) for name in ("ana", "bo", "cy")]
        running = [pool.submit(talker.talk) for talker in talkers]
        watched = pool.submit(lambda: watcher.read_to_end().decode().split("\r\n"))
        for talker in talkers:
            assert talker.busy.wait(PATIENCE)
        begun = time.monotonic()
        daemon.stop(number)
        assert time.monotonic() - begun < STOPS_WITHIN
        for one in running:
            one.result()
        lines = watched.result()
        stalled.close()
        daemon.restart()
        log = _log(daemon)
    _check_programs(talkers, log)
    _check_person(lines, log)


def _log(daemon: Daemon) -> dict[int, str]:
    reader = daemon.json()
    reader.request("hello", name="reader", rooms={"lobby": 0})
    return {message["seq"]: message["text"] for message in reader.messages(reader.until("room")["seq"])}


def _check_programs(talkers: list[Talker], log: dict[int, str]) -> None:
    for talker in talkers:
        assert talker.goodbye["reason"] == "the server is stopping"
        assert 0 < talker.goodbye["retry_after"] < 10
        assert talker.rest == b""
        assert talker.seen.items() <= log.items()
        assert {(seq, text) for text, seq in talker.kept.items()} <= log.items()
        # What is kept has been delivered, too, and nothing was left out.
        assert list(talker.seen) == list(range(min(talker.seen), max(log) + 1))


def _check_person(lines: list[str], log: dict[int, str]) -> None:
    *said, farewell, end = lines
    assert re.fullmatch(r"\* Goodbye: the server is stopping; come back in \d+ s\.", farewell)
    assert end == ""
    texts = [line.partition(": ")[2] for line in said if not line.startswith("* ")]
    assert texts == [log[seq] for seq in sorted(log)]


def test_no_new_connections_while_stopping(tmp_path: Path) -> None:
    with Daemon(tmp_path, "--rate", "off") as daemon:
        # Who does not read makes the others' farewells take some time.
        stalled = daemon.json("stalled", receive_buffer=4096)
        _fill(daemon)
        ana = daemon.text("ana")
        daemon.process.send_signal(signal.SIGTERM)
        ana.until(r"\* Goodbye: ")
        assert daemon.running
        with pytest.raises(ConnectionRefusedError):
            connected(daemon.address)
        stalled.close()
        daemon.process.wait(PATIENCE)


def test_who_reads_nothing_is_left_behind(tmp_path: Path) -> None:
    with Daemon(tmp_path, "--rate", "off") as daemon:
        daemon.json("stalled", receive_buffer=4096)
        _fill(daemon)
        begun = time.monotonic()
        daemon.stop()
        assert time.monotonic() - begun < STOPS_WITHIN
    # It has stopped in order, to the end.
    assert re.search(r" disconnected .*name=stalled .*\n\S+ stopped seconds=\S+\n$", daemon.log)
    assert not (tmp_path / "chat.db-wal").exists()


def _fill(daemon: Daemon) -> None:
    """Say more than the connection of somebody who does not read can hold."""
    bo = daemon.json("bo")
    for number in range(3000):
        bo.say("x" * 4000, str(number))
        if number >= IN_FLIGHT:
            bo.until("kept")
    bo.until("kept", id="2999")
    bo.request("bye")
    bo.read_to_end()


def test_the_farewell_reaches_who_goes_on_sending(tmp_path: Path) -> None:
    with Daemon(tmp_path, "--rate", "off") as daemon, ThreadPoolExecutor(1) as pool:
        watcher, ana = daemon.text("watcher"), daemon.json("ana", receive_buffer=4096)
        for number in range(IN_FLIGHT):
            ana.say("x" * 4000, str(number))
        sending = pool.submit(_send_for_ever, ana)
        watcher.until("ana: ")
        daemon.process.send_signal(signal.SIGTERM)
        watcher.until(r"\* Goodbye: ")
        # Much of what the daemon has sent is still on its way to her.
        assert ana.until("goodbye")["reason"] == "the server is stopping"
        assert ana.read_to_end() == b""
        sending.result()
        daemon.process.wait(PATIENCE)


def _send_for_ever(client: JsonClient) -> None:
    with contextlib.suppress(Closed, OSError):
        while True:
            client.send(b"\n" * 100)


def test_a_second_signal_changes_nothing(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        ana = daemon.json("ana")
        ana.say("hola", "1")
        ana.until("kept")
        daemon.process.send_signal(signal.SIGTERM)
        assert ana.until("goodbye")["reason"] == "the server is stopping"
        daemon.stop()
        daemon.restart()
        assert _log(daemon) == {1: "hola"}


def test_who_has_said_nothing_yet_is_told_too(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        silent = daemon.peer()
        unnamed = daemon.text()
        unnamed.until(r"\* What is your name\?")
        daemon.stop()
        for client in (silent, unnamed):
            assert b"* Goodbye: the server is stopping" in client.read_to_end()


def test_a_hangup_opens_the_log_anew(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        ana = daemon.text("ana")
        old = (tmp_path / "chat_server.log").rename(tmp_path / "chat_server.log.old")
        ana.say("into the old one")
        ana.sync()
        daemon.process.send_signal(signal.SIGHUP)
        wait_until((tmp_path / "chat_server.log").exists, "the log is there again")
        ana.say("into the new one")
        ana.sync()
        assert "into the old one" in old.read_text()
        assert "into the new one" in daemon.log
        assert "into the new one" not in old.read_text()


def test_a_hangup_of_its_terminal_ends_it(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    log = tmp_path / "out"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [twistd(), "--nodaemon", "--pidfile=", "chat", "--port", "0"],
            cwd=tmp_path,
            env=clean_environment(),
            stdin=theirs,
            stdout=out,
        )
    os.close(theirs)
    try:
        wait_until(lambda: "listens on" in log.read_text(), "it listens")
        process.send_signal(signal.SIGHUP)
        assert process.wait(PATIENCE) == -signal.SIGHUP
    finally:
        process.kill()
        process.wait()
        os.close(ours)
