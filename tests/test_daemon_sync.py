"""No message leaves the real daemon before it is on the disk, as the kernel sees it: strace tells the order."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.daemon import PATIENCE, Daemon, JsonClient, TextClient, wait_until

COUNT = 120
TRACE = "trace=write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync"

_FULL = re.compile(r"(\d+) +(\w+)\(\d+<(.*?)>(.*?)\) = (-?\d+)(?: (.*))?")
_BEGUN = re.compile(r"(\d+) +(\w+)\(\d+<(.*?)>(.*) <unfinished \.\.\.>")
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*?)\) = (-?\d+)(?: (.*))?")


class Call(NamedTuple):
    """A system call: the numbers of the lines in which it began and ended, its thread, its file, what it wrote."""

    begun: int
    ended: int
    thread: int
    name: str
    file: str
    data: str
    result: int


def _can_trace() -> bool:
    return bool(shutil.which("strace")) and not subprocess.run(["strace", "-o", "/dev/null", "true"]).returncode


needs_strace = pytest.mark.skipif(not _can_trace(), reason="strace is not there, or not allowed")


class Traced:
    """A daemon under strace, which may inject delays and errors into its syncs."""

    def __init__(self, folder: Path, *inject: str) -> None:
        self._file = folder / "trace"
        injections = [word for what in inject for word in ("-e", f"inject=fsync,fdatasync:{what}")]
        # Its strings hold a page of the database, or a piece of what is sent. With -D, the daemon is our child.
        command = ["strace", "-D", "-f", "-y", "-qq", "-s", "70000", "-e", "signal=none", "-e", TRACE, *injections]
        self.daemon = Daemon(folder, "--rate", "off", before=[*command, "-o", str(self._file)])

    def calls(self) -> list[Call]:
        """The calls that it made, when it has ended."""
        wait_until(lambda: "Server Shut Down." in self._file.read_text(), "strace has written the last call")
        return _parsed(self._file.read_text().splitlines())


def _parsed(lines: list[str]) -> list[Call]:
    calls: list[Call] = []
    open_calls: dict[int, tuple[int, re.Match[str]]] = {}
    for number, line in enumerate(lines):
        if found := _BEGUN.fullmatch(line):
            open_calls[int(found[1])] = number, found
        elif found := _RESUMED.fullmatch(line):
            thread = int(found[1])
            first, begun = open_calls.pop(thread)
            calls.append(Call(first, number, thread, begun[2], begun[3], begun[4] + found[3], int(found[4])))
        elif found := _FULL.fullmatch(line):
            calls.append(Call(number, number, int(found[1]), found[2], found[3], found[4], int(found[5])))
    return calls


def _check(calls: list[Call], texts: list[str], which: Callable[[Iterable[int]], int] = min) -> set[int]:
    """Each text was sent after a sync that followed its way to the log: the first one or, with `max`, the last one
    before it was sent. Returns the threads that synced."""
    log = [call for call in calls if call.file.endswith("-wal")]
    sends = [call for call in calls if call.file.startswith("socket:")]
    threads = set()
    for text in texts:
        sent = [call.begun for call in sends if text in call.data]
        assert len(sent) == 2, f"{text} was sent {len(sent)} times"
        writes = [call for call in log if call.name == "pwrite64" and text in call.data]
        written = which(call.ended for call in writes if call.result > 0 and call.ended < sent[0])
        syncs = [call for call in log if call.name.endswith("sync") and call.result == 0 and call.begun > written]
        assert syncs and syncs[0].ended < sent[0], f"{text} was sent before it was on the disk"
        threads.add(syncs[0].thread)
    return threads


def _talk(bo: TextClient, ana: JsonClient, many: int, at_once: int) -> list[str]:
    """Ana says so many messages, so many of them at once; Bo gets them all."""
    texts = [f"<{number}>" for number in range(many)]
    for begin in range(0, many, at_once):
        for text in texts[begin : begin + at_once]:
            ana.say(text, text)
        for text in texts[begin : begin + at_once]:
            assert bo.until("ana: ")[-1] == f"ana: {text}"
    return texts


@needs_strace
def test_what_is_committed_in_place_is_synced_before_it_is_sent(tmp_path: Path) -> None:
    traced = Traced(tmp_path)
    with traced.daemon as daemon:
        texts = _talk(daemon.text("bo"), daemon.json("ana"), COUNT, at_once=1)
    assert daemon.process.pid in _check(traced.calls(), texts)


@needs_strace
def test_what_the_writer_commits_is_synced_before_it_is_sent(tmp_path: Path) -> None:
    # On so slow a disk, commits leave the main thread after the first ones.
    traced = Traced(tmp_path, "delay_enter=4000")
    with traced.daemon as daemon:
        texts = _talk(daemon.text("bo"), daemon.json("ana"), COUNT, at_once=6)
    assert _check(traced.calls(), texts) - {daemon.process.pid}


@needs_strace
def test_a_sync_that_fails_shows_nothing(tmp_path: Path) -> None:
    # The first syncs belong to the start; the counts are those of each thread.
    traced = Traced(tmp_path, "error=EIO:when=25..27")
    with traced.daemon as daemon:
        bo, ana = daemon.text("bo"), daemon.json("ana")
        texts = _talk(bo, ana, COUNT, at_once=1)
        answers = ana.sync()
        assert [answer["seq"] for answer in answers if answer["type"] == "kept"] == list(range(1, COUNT + 1))
        assert [answer["seq"] for answer in answers if answer["type"] == "message"] == list(range(1, COUNT + 1))
    calls = traced.calls()
    assert any(call.name.endswith("sync") and call.result < 0 for call in calls)
    # What failed to be synced was written again.
    _check(calls, texts, max)


@needs_strace
def test_a_disk_that_stalls_does_not_keep_it_from_stopping(tmp_path: Path) -> None:
    # The first stall makes commits leave the main thread; the second one is the writer's, and takes longer than
    # the daemon waits for it before it says goodbye.
    traced = Traced(tmp_path, "delay_enter=3500000:when=20..20")
    with traced.daemon as daemon:
        bo, ana = daemon.json("bo"), daemon.json("ana")
        numbers = count(1)
        first = next(number for number in numbers if _stalls(ana, bo, number))
        bo.until("message", seq=first)
        last = next(number for number in numbers if _stalls(ana, bo, number))
        begun = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        assert bo.until("goodbye")["reason"] == "the server is stopping"
        assert bo.read_to_end() == b""
        assert 2 < time.monotonic() - begun < 5
        daemon.process.wait(PATIENCE)
    with Daemon(tmp_path) as daemon:
        reader = daemon.json()
        reader.request("hello", name="reader", rooms={"lobby": 0})
        # What was taken was committed, although nobody was left to be told.
        assert [message["text"] for message in reader.messages(last)] == [str(n) for n in range(1, last + 1)]


def _stalls(ana: JsonClient, bo: JsonClient, number: int) -> bool:
    """Whether what Ana says takes more than half a second to arrive."""
    ana.say(str(number), str(number))
    try:
        while bo.read(within=0.5).get("seq") != number:
            pass
    except TimeoutError:
        return True
    return False
