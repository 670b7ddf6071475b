"""The connection log's entries, in both formats."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.application.service import IService
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer
from zope.interface.verify import verifyObject

from chatd.connectionlog import ConnectionLog
from chatd.events import Message
from chatd.names import clean

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
AT = 1_795_356_303_007
"""2026-11-22T14:05:03.007Z"""

Make = Callable[..., ConnectionLog]


def message(text: str, seq: int = 1, name: str = "ana", action: bool = False) -> Message:
    return Message("lobby", seq, AT + seq, 77, name, text, action)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat_server.log"


@pytest.fixture
def make(path: Path) -> Iterator[Make]:
    """Makes a running log, which is stopped at the end of the test."""
    made: list[ConnectionLog] = []

    def make(format: Literal["text", "json"] = "text", messages: bool = True) -> ConnectionLog:
        log = ConnectionLog(str(path), format, messages)
        log.startService()
        made.append(log)
        return log

    yield make
    for log in made:
        log.stopService()


def fill(log: ConnectionLog) -> None:
    """Log one entry of each kind."""
    log.started("0.1.0", ["tcp:5000", "unix:/run/chat"])
    log.connected(7, "text", "127.0.0.1:51234")
    log.named(7, "ana", resumed=False)
    log.joined(7, "ana", "lobby")
    log.said([message("hola"), message("waves", 2, "bob", action=True)])
    log.parted(7, "ana", "lobby")
    log.disconnected(7, "ana", "the connection was lost", 61.23456)
    log.disconnected(8, None, "no name was said", 60.0)
    log.stopped(3.5)


def test_text(make: Make, path: Path) -> None:
    fill(make())
    lines = path.read_text().splitlines()
    assert all(re.match(STAMP + " ", line) for line in lines)
    assert [line.partition(" ")[2] for line in lines] == [
        'started version=0.1.0 doors="tcp:5000, unix:/run/chat"',
        "connected connection=7 door=text peer=127.0.0.1:51234",
        "named connection=7 name=ana resumed=false",
        "joined connection=7 name=ana room=lobby",
        'said room=lobby seq=1 name=ana text="hola"',
        'said room=lobby seq=2 name=bob action="waves"',
        "parted connection=7 name=ana room=lobby",
        'disconnected connection=7 name=ana seconds=61.235 reason="the connection was lost"',
        'disconnected connection=8 seconds=60.0 reason="no name was said"',
        "stopped seconds=3.5",
    ]


def test_json(make: Make, path: Path) -> None:
    fill(make("json"))
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(re.fullmatch(STAMP, entry.pop("at")) for entry in entries)
    assert entries == [
        {"event": "started", "version": "0.1.0", "doors": "tcp:5000, unix:/run/chat"},
        {"event": "connected", "connection": 7, "door": "text", "peer": "127.0.0.1:51234"},
        {"event": "named", "connection": 7, "name": "ana", "resumed": False},
        {"event": "joined", "connection": 7, "name": "ana", "room": "lobby"},
        {"event": "said", "room": "lobby", "seq": 1, "name": "ana", "text": "hola"},
        {"event": "said", "room": "lobby", "seq": 2, "name": "bob", "action": "waves"},
        {"event": "parted", "connection": 7, "name": "ana", "room": "lobby"},
        {
            "event": "disconnected",
            "connection": 7,
            "name": "ana",
            "seconds": 61.235,
            "reason": "the connection was lost",
        },
        {"event": "disconnected", "connection": 8, "seconds": 60.0, "reason": "no name was said"},
        {"event": "stopped", "seconds": 3.5},
    ]


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_message_has_the_time_of_its_acceptance(make: Make, path: Path, format: str) -> None:
    make(format).said([message("a"), message("b", 992), message("c", 993)])
    assert re.findall(STAMP, path.read_text()) == [
        "2026-11-22T14:05:03.008Z",
        "2026-11-22T14:05:03.999Z",
        "2026-11-22T14:05:04.000Z",
    ]


def test_without_messages(make: Make, path: Path) -> None:
    fill(make(messages=False))
    text = path.read_text()
    assert " said " not in text
    assert text.count("\n") == 8


def test_nothing_said_is_nothing_written(make: Make, path: Path) -> None:
    make().said([])
    assert not path.exists()


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ('say "hi" \\ bye', r'text="say \"hi\" \\ bye"'),
        ("a\nb\r\tc", r'text="a\u000ab\u000d\u0009c"'),
        ("\x1b[2J\x9b", r'text="\u001b[2J\u009b"'),
        ("\u202eevil\u2028", r'text="\u202eevil\u2028"'),
        ("👩\u200d👧 日本\u3000語", 'text="👩\u200d👧 日本\u3000語"'),
        ("\ud800", r'text="\ud800"'),
        ('" seq=9 name=root text="', r'text="\" seq=9 name=root text=\""'),
    ],
)
def test_quotes(make: Make, path: Path, text: str, written: str) -> None:
    make().said([message(text)])
    assert path.read_text().endswith(f"said room=lobby seq=1 name=ana {written}\n")


any_text = st.text(st.characters())
PAIR = r'[a-z]+=(?:"(?:[^"\\]|\\.)*"|[^\s"\\=]+)'


@given(name=any_text, text=any_text, reason=any_text)
def test_no_field_forges_a_line_or_a_field(
    tmp_path_factory: pytest.TempPathFactory, name: str, text: str, reason: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "forged.log"
    path.unlink(missing_ok=True)
    log = ConnectionLog(str(path))
    log.said([message(text, name=name)])
    log.disconnected(1, name, reason, 1.0)
    lines = path.read_text().split("\n")
    assert len(lines) == 3
    assert re.fullmatch(f"{STAMP} said room=lobby seq=1 {PAIR} {PAIR}", lines[0])
    assert re.fullmatch(f"{STAMP} disconnected connection=1 {PAIR} seconds=1.0 {PAIR}", lines[1])
    assert "".join(lines) == clean("".join(lines))


@given(name=any_text, text=any_text, reason=any_text)
def test_json_is_one_safe_line_whatever_the_fields(
    tmp_path_factory: pytest.TempPathFactory, name: str, text: str, reason: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "forged.json"
    path.unlink(missing_ok=True)
    log = ConnectionLog(str(path), "json")
    log.said([message(text, name=name)])
    log.disconnected(1, name, reason, 1.0)
    lines = path.read_text().split("\n")
    assert len(lines) == 3
    said, disconnected = (json.loads(line) for line in lines[:2])
    assert (said["name"], said["text"]) == (clean(name), clean(text))
    assert (disconnected["name"], disconnected["reason"]) == (clean(name), clean(reason))
    assert "".join(lines) == clean("".join(lines))


@implementer(ILogObserver)
class Events:
    """Collects events."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        self.events.append(event)


def test_each_entry_and_each_batch_is_one_event_of_the_publisher(make: Make) -> None:
    events = Events()
    log = make()
    log.publisher.addObserver(events)
    log.named(7, "{evil!r} {", resumed=True)
    log.said([message("{connection}"), message("two", 2)])
    log.disconnected(7, "{evil!r} {", "{}", 1.0)
    assert [formatEvent(event) for event in events.events] == [
        "#7 is {evil!r} {",
        "2 messages",
        "#7 {evil!r} { disconnected after 1.0 s: {}",
    ]


def test_nothing_goes_to_the_ordinary_log(make: Make) -> None:
    events = Events()
    globalLogPublisher.addObserver(events)
    fill(make())
    globalLogPublisher.removeObserver(events)
    assert not events.events


def test_entries_before_the_start_and_after_the_stop_are_kept(path: Path) -> None:
    log = ConnectionLog(str(path))
    log.started("0.1.0", [])
    log.startService()
    log.connected(1, "text", "here")
    log.stopService()
    log.disconnected(1, None, "bye", 0.5)
    assert [line.split()[1] for line in path.read_text().splitlines()] == [
        "started",
        "connected",
        "disconnected",
    ]


def test_it_is_a_service(make: Make) -> None:
    assert verifyObject(IService, make())


@pytest.mark.parametrize(
    ("format", "notice"),
    [("text", STAMP + " lost lines=3"), ("json", f'{{"at":"{STAMP}","event":"lost","lines":3}}')],
)
def test_lines_lost_to_a_full_disk_are_counted_in_the_file(
    path: Path,
    format: Literal["text", "json"],
    notice: str,
) -> None:
    clock = Clock()
    path.symlink_to("/dev/full")
    log = ConnectionLog(str(path), format, clock=clock.seconds)
    log.startService()
    log.said([message("a"), message("b", 2)])
    log.connected(1, "text", "here")
    path.unlink()
    clock.advance(1)
    log.connected(2, "text", "here")
    log.stopService()
    first, second = path.read_text().splitlines()
    assert re.fullmatch(notice, first)
    assert "connected" in second


def test_reopen(make: Make, path: Path) -> None:
    log = make()
    log.connected(1, "text", "here")
    path.rename(path.with_suffix(".moved"))
    log.reopen()
    log.connected(2, "text", "here")
    assert "connection=2 " in path.read_text()
    assert "connection=1 " in path.with_suffix(".moved").read_text()
