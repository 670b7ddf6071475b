"""What is done beside the chat: the search index, retention, old sessions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from zope.interface.verify import verifyObject

from chatd.interfaces import IStore, StoreError
from chatd.maintenance import INDEX_EVERY, INDEX_STEP, RETAIN_EVERY, RETAIN_STEP, Maintenance
from chatd.sessions import hashed
from tests.harness import Chat, JsonLine, P, T, clock

DAY = 24 * 60 * 60.0


class Troubled:
    """The real store, whose maintenance fails as long as `trouble` says."""

    def __init__(self, store: IStore) -> None:
        self._store = store
        self.trouble: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        if self.trouble is not None and name in {"index", "retain", "expire_sessions"}:
            raise self.trouble
        return getattr(self._store, name)


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Chat]:
    with Chat(tmp_path) as made:
        yield made


def maintain(chat: Chat, retain_days: float | None = None, store: IStore | None = None) -> Maintenance:
    """Maintenance that has begun."""
    maintenance = Maintenance(chat.hub, store or chat.store, chat.clock, retain_days)
    maintenance.startService()
    return maintenance


def sleep(chat: Chat, days: float) -> None:
    """Days go by at once: each loop of maintenance comes round once, and what it saves is written."""
    chat.clock.advance(days * DAY)
    chat.advance(2)


def say(line: JsonLine, count: int, prefix: str = "") -> None:
    for number in range(count):
        line.say(f"text {number}", f"{prefix}{number}")
    line.read()


def test_the_index_follows_the_messages(chat: Chat) -> None:
    maintenance = maintain(chat)
    ana = chat.json("ana")
    say(ana, 3 * INDEX_STEP)
    assert chat.store.index(1)
    chat.advance(INDEX_EVERY)
    assert not chat.store.index(1)
    say(ana, 5, "more")
    chat.advance(INDEX_EVERY)
    assert not chat.store.index(1)
    (results,) = ana.ask("search", room="lobby", words="299")
    assert [said["seq"] for said in results["messages"]] == [300]
    maintenance.stopService()


def test_messages_are_kept_for_so_many_days(chat: Chat) -> None:
    ana = chat.json("ana")
    say(ana, 2 * RETAIN_STEP + 50)
    sleep(chat, 2)
    say(ana, 10, "new")
    maintenance = maintain(chat, retain_days=1)
    chat.advance(RETAIN_EVERY)
    room, gap, *messages = ana.ask("join", room="lobby", after=0)
    assert (room["first"], room["seq"]) == (451, 460)
    assert (gap["type"], gap["first"], gap["last"]) == ("gap", 1, 450)
    assert [said["seq"] for said in messages] == list(range(451, 461))
    sleep(chat, 2)
    assert ana.ask("join", room="lobby", after=0)[0]["first"] == 461
    say(ana, 1, "last")
    assert chat.store.page("lobby", 0, None, 10, 10_000)[0].seq == 461
    maintenance.stopService()


def test_without_a_number_of_days_all_is_kept(chat: Chat) -> None:
    say(chat.json("ana"), 1)
    maintenance = maintain(chat)
    sleep(chat, 400)
    assert len(chat.store.page("lobby", 0, None, 10, 10_000)) == 1
    maintenance.stopService()


def test_a_session_is_forgotten_after_its_days(chat: Chat) -> None:
    maintenance = maintain(chat)
    gone, here = chat.json("ana"), chat.json("bo")
    say(gone, 1)
    say(here, 1)
    gone.lose()
    for _ in range(29):
        sleep(chat, 1)
    assert chat.store.session(hashed(cast(str, gone.token))) is not None
    for _ in range(2):
        sleep(chat, 1)
    assert chat.store.session(hashed(cast(str, gone.token))) is None
    assert not JsonLine(chat).hello("ana", token=gone.token)["resumed"]
    assert chat.store.session(hashed(cast(str, here.token))) is not None
    maintenance.stopService()


def test_trouble_ends_with_its_cause(chat: Chat) -> None:
    said: list[str] = []

    def observe(event: LogEvent) -> None:
        said.append(formatEvent(event))

    store = Troubled(chat.store)
    maintenance = maintain(chat, store=cast(IStore, store))
    say(chat.json("ana"), 5)
    store.trouble = StoreError("the disk is full")
    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]  # any function of an event is one
    chat.advance(INDEX_EVERY)
    chat.advance(INDEX_EVERY)
    trouble = "the search index has to wait"
    assert said == [f"{trouble}: the disk is full; this is said once, and tried again"]
    assert chat.store.index(1)
    store.trouble = None
    chat.advance(INDEX_EVERY)
    globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]
    assert said[1:] == [f"over: {trouble}"]
    assert not chat.store.index(1)
    maintenance.stopService()


def test_what_should_not_happen_is_logged_and_stops_nothing(chat: Chat, logged_failures: Any) -> None:
    store = Troubled(chat.store)
    maintenance = maintain(chat, store=cast(IStore, store))
    say(chat.json("ana"), 5)
    store.trouble = ZeroDivisionError()
    chat.advance(INDEX_EVERY)
    assert len(logged_failures.take(ZeroDivisionError)) == 1
    store.trouble = None
    chat.advance(INDEX_EVERY)
    assert not chat.store.index(1)
    maintenance.stopService()


class Slow:
    """Workers for which a second passes in each call."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def write(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return deferLater(self._clock, 1, call, *args, **kwargs)

    read = wait = write


def test_it_takes_a_rest_after_each_step(tmp_path: Path) -> None:
    time = clock()
    with Chat(tmp_path, clock=time) as chat:
        say(chat.json("ana"), 250)
    with Chat(tmp_path, clock=time, workers=Slow(time)) as chat:
        maintenance = maintain(chat)
        steps = [at for at in range(60) if _indexed_in(chat, 1.0)]
        # The first begins after a second and takes one; then one in ten seconds, of which it rests nine.
        assert steps[:3] == [1, 11, 21]
        maintenance.stopService()


def _indexed_in(chat: Chat, seconds: float) -> bool:
    before = _indexed(chat)
    chat.advance(seconds)
    return _indexed(chat) > before


def _indexed(chat: Chat) -> int:
    """How many messages the index has, which only the database itself says."""
    with closing(sqlite3.connect(chat.folder / "chat.db")) as db:
        (count,) = db.execute("SELECT sum(indexed) FROM rooms").fetchone()
    return int(count or 0)


def test_stopping_leaves_nothing_behind(chat: Chat) -> None:
    maintenance = maintain(chat, retain_days=1)
    sleep(chat, 1)
    maintenance.stopService()
    assert chat.clock.getDelayedCalls() == []


def test_it_is_a_service(chat: Chat) -> None:
    assert verifyObject(IService, Maintenance(chat.hub, chat.store, chat.clock, None))
