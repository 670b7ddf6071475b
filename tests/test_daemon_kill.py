"""The daemon is killed under load at random moments, many times, and what anybody saw is there afterwards."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.daemon import Closed, Daemon, JsonClient

ROUNDS = 16
#: A round lasts so many seconds at the most, after the daemon listens.
LONGEST = 0.6
#: A program has so many messages under way.
IN_FLIGHT = 32
#: One answer in so many is the last that a program reads before it cuts its own connection.
CUTS = 2000


class Said(NamedTuple):
    """A message as a program has seen it."""

    seq: int
    name: str
    text: str
    at: str


class Program:
    """A program that resumes: with its token, from the last number that it has, and with what was not kept."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self.name = name
        self.seen: list[Said] = []
        self.kept: dict[str, int] = {}
        self.sent: dict[str, str] = {}
        self._unkept: dict[str, str] = {}
        self._token: str | None = None
        self._chance = chance

    def talk(self, daemon: Daemon) -> None:
        """Talk until the daemon is gone."""
        while True:
            try:
                client = daemon.json()
            except OSError:
                return
            try:
                self._resume(client)
                while self._chance.randrange(CUTS):
                    while len(self._unkept) < IN_FLIGHT:
                        self._say_more(client)
                    self._hear(client)
                client.reset()
            except Closed:
                pass

    def settle(self, daemon: Daemon) -> None:
        """Come back once more, until all that was sent is kept."""
        client = daemon.json()
        self._resume(client)
        while self._unkept:
            self._hear(client)

    def catch_up(self, daemon: Daemon, last: int) -> None:
        """Come back for what is missing, up to the message `last`."""
        client = daemon.json()
        self._resume(client)
        while self.seen[-1].seq < last:
            self._hear(client)

    def _resume(self, client: JsonClient) -> None:
        after = self.seen[-1].seq if self.seen else 0
        client.request("hello", name=self.name, token=self._token, rooms={"lobby": after})
        self._token = client.until("welcome")["token"]
        for id, text in self._unkept.items():
            client.say(text, id)

    def _say_more(self, client: JsonClient) -> None:
        id = str(len(self.sent))
        self.sent[id] = self._unkept[id] = f"{self.name} says {id}"
        client.say(self.sent[id], id)

    def _hear(self, client: JsonClient) -> None:
        answer = client.read()
        if answer["type"] == "message":
            said = Said(answer["seq"], answer["name"], answer["text"], answer["at"])
            assert said.seq == (self.seen[-1].seq + 1 if self.seen else 1), (said, self.seen[-1:])
            self.seen.append(said)
        elif answer["type"] == "kept":
            assert self.kept.setdefault(answer["id"], answer["seq"]) == answer["seq"]
            self._unkept.pop(answer["id"], None)
        else:
            assert answer["type"] in ("room", "joined", "left", "presence"), answer


class Watcher:
    """A person with nc who watches; each time a new one."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = set()

    def watch(self, daemon: Daemon) -> None:
        """Watch until the daemon is gone."""
        try:
            client = daemon.text("watcher")
            while True:
                if found := re.fullmatch(r"(\w+): (.*)", client.read()):
                    self.seen.add((found[1], found[2]))
        except (Closed, OSError):
            pass


@pytest.fixture
def chance() -> Iterator[random.Random]:
    seed = random.randrange(2**32)
    print(f"the seed is {seed}")
    yield random.Random(seed)


def test_what_anybody_saw_is_there_after_kill_9(tmp_path: Path, chance: random.Random) -> None:
    programs = [Program(name, chance) for name in ("ana", "bo", "cy", "di")]
    watcher = Watcher()
    with Daemon(tmp_path, "--rate", "off", "--history", "0") as daemon:
        daemon.kill()
        for _ in range(ROUNDS):
            _round(daemon, programs, watcher, chance.uniform(0, LONGEST))
        daemon.start()
        for program in programs:
            program.settle(daemon)
        log = _whole_log(daemon)
        for program in programs:
            program.catch_up(daemon, log[-1].seq)
    _check(log, programs, watcher)


def _round(daemon: Daemon, programs: list[Program], watcher: Watcher, seconds: float) -> None:
    """All talk at once, until the daemon is killed at that moment."""
    daemon.start()
    with ThreadPoolExecutor(len(programs) + 1) as pool:
        running = [pool.submit(program.talk, daemon) for program in programs]
        running.append(pool.submit(watcher.watch, daemon))
        time.sleep(seconds)
        daemon.kill()
        for one in running:
            one.result()


def _whole_log(daemon: Daemon) -> list[Said]:
    """What a newcomer reads from the beginning."""
    reader = daemon.json()
    reader.request("hello", name="reader", rooms={"lobby": 0})
    count = reader.until("room")["seq"]
    return [Said(m["seq"], m["name"], m["text"], m["at"]) for m in reader.messages(count)]


def _check(log: list[Said], programs: list[Program], watcher: Watcher) -> None:
    assert [said.seq for said in log] == list(range(1, len(log) + 1))
    assert [said.at for said in log] == sorted(said.at for said in log)
    by_seq = {said.seq: said for said in log}
    everything = [text for program in programs for text in program.sent.values()]
    assert len(everything) > 1000, "the load was none"
    assert sorted(said.text for said in log) == sorted(everything)
    for program in programs:
        assert program.seen == log
        for id, seq in program.kept.items():
            assert by_seq[seq].text == program.sent[id]
    assert watcher.seen
    assert watcher.seen <= {(said.name, said.text) for said in log}
