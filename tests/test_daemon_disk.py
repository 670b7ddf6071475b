"""The real daemon on a disk that is full for a while, or that refuses to let a file grow."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon, JsonClient, wait_until

DISK = 8 * 1024 * 1024
IN_FLIGHT = 40
TEXT = " ".join(["what takes some room"] * 40)


class Talker:
    """A program that keeps messages under way, and notes what became of each."""

    def __init__(self, client: JsonClient, name: str) -> None:
        self.client = client
        self.sent: dict[str, str] = {}
        self.kept: dict[str, int] = {}
        self.refused: dict[str, dict[str, Any]] = {}
        self.waiting: set[str] = set()
        self._name = name

    @property
    def under_way(self) -> int:
        """How many messages are neither kept nor refused."""
        return len(self.sent) - len(self.kept) - len(self.refused)

    def talk(self, once: int = IN_FLIGHT) -> None:
        """Send as many more as may be under way, then hear one answer."""
        while self.under_way < once:
            id = str(len(self.sent))
            self.sent[id] = f"{self._name} {id} {TEXT}"
            self.client.say(self.sent[id], id)
        self.hear()

    def hear(self) -> None:
        """Note one answer."""
        answer = self.client.read()
        if answer["type"] == "kept":
            self.kept[answer["id"]] = answer["seq"]
            self.refused.pop(answer["id"], None)
        elif answer["type"] == "error":
            self.refused[answer["id"]] = answer
        elif answer["type"] == "waiting":
            self.waiting.add(answer["id"])

    def repeat(self, ids: list[str]) -> None:
        """Send these again, and wait until they are kept."""
        for id in ids:
            self.client.say(self.sent[id], id)
        while not self.kept.keys() >= set(ids):
            self.hear()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "chatd-test", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _log(daemon: Daemon) -> dict[int, str]:
    reader = daemon.json()
    reader.request("hello", name="reader", rooms={"lobby": 0})
    return {message["seq"]: message["text"] for message in reader.messages(reader.until("room")["seq"])}


def test_a_full_disk_stops_messages_and_nothing_else(tmp_path: Path, disk: Path) -> None:
    options = ["--rate", "off", "--db", str(disk / "chat.db"), "--log", str(disk / "chat.log")]
    with Daemon(tmp_path, *options) as daemon:
        bo = daemon.json("bo")
        talker = Talker(daemon.json("ana"), "ana")
        while len(talker.kept) < 200:
            talker.talk()
        filler = _fill(disk)
        while len(talker.refused) < 2 * IN_FLIGHT:
            talker.talk()
        while talker.under_way:
            talker.hear()
        _check_refused(talker)
        _check_alive(daemon, len(talker.kept))
        _check_log_is_full(daemon)

        filler.unlink()
        given_up, again = list(talker.refused)[:IN_FLIGHT], list(talker.refused)[IN_FLIGHT:]
        talker.repeat(again)
        for _ in range(200):
            talker.talk()
        while talker.under_way:
            talker.hear()
        seen = {message["seq"]: message["text"] for message in bo.messages(len(talker.kept))}
        daemon.kill()
        daemon.restart()
        assert _log(daemon) == seen
    assert seen == {seq: talker.sent[id] for id, seq in talker.kept.items()}
    # Nobody has ever seen what was refused and not sent again.
    assert not {talker.sent[id] for id in given_up} & set(seen.values())


def _fill(disk: Path) -> Path:
    """Write a file until there is no room left."""
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def _check_refused(talker: Talker) -> None:
    for error in talker.refused.values():
        assert (error["code"], error["retry"]) == ("not_kept", True)
        assert "full" in error["text"]


def _check_alive(daemon: Daemon, last: int) -> None:
    """People come, read and go, while nothing can be written."""
    cy = daemon.text("cy")
    cy.say("/who")
    cy.until(r"\* 3 in lobby: ")
    cy.say("/since 0")
    cy.until(rf"\* That was up to #{last}\.")
    cy.say("this cannot be kept")
    cy.until("! Not kept, send it again: ")
    cy.say("exit")
    cy.until(r"\* Goodbye\.")


def _check_log_is_full(daemon: Daemon) -> None:
    for _ in range(50):
        daemon.peer().close()
    wait_until(lambda: "cannot be written (No space left on device)" in daemon.output, "the log is full, too")


def test_a_write_whose_outcome_is_unknown_is_repeated_until_it_is_known(tmp_path: Path) -> None:
    with Daemon(tmp_path, "--rate", "off") as daemon:
        talker = Talker(daemon.json("ana"), "ana")
        while len(talker.kept) < 100:
            talker.talk()
        # Beyond the limit, a write is an error that says nothing of a full disk.
        _limit_files(daemon, (tmp_path / "chat.db-wal").stat().st_size + 100_000)
        while len(talker.waiting) < IN_FLIGHT:
            talker.talk()
        assert talker.client.sync() == []
        unknown = set(talker.waiting)
        _limit_files(daemon, resource.RLIM_INFINITY)
        while talker.under_way:
            talker.hear()
        assert talker.refused == {}
        assert unknown == talker.waiting
        log = _log(daemon)
        assert log == {seq: talker.sent[id] for id, seq in talker.kept.items()}
        daemon.kill()
        daemon.restart()
        assert _log(daemon) == log


def _limit_files(daemon: Daemon, size: int) -> None:
    """Let no file of the daemon grow beyond this size."""
    _, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (size, hard))
