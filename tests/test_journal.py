"""Group commit: what is one batch, where it is committed, and what becomes of it when the store fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from chatd import journal
from chatd.errors import NotKept
from chatd.interfaces import Draft, IMember, Kept, SessionRecord, StoreError
from chatd.journal import Journal, Pace, Pending
from tests.chat_model import ManualWorkers, UnreliableStore
from tests.harness import clock


class Author:
    """A member, as far as the journal knows one."""

    def __init__(self) -> None:
        self.waits: list[str] = []

    def waiting(self, id: str) -> None:
        self.waits.append(id)


class Desk:
    """A journal on the real store, and what it told."""

    def __init__(self, folder: Path, in_place: bool) -> None:
        self.clock = clock()
        self.store = UnreliableStore(str(folder / "chat.db"), in_place)
        self.store.open()
        self.workers = ManualWorkers()
        self.journal = Journal(self.store, self.clock, self.workers, self)  # type: ignore[arg-type]
        self.author = Author()
        self.batches: list[list[str]] = []
        self.kept: dict[str, int] = {}
        self.lost: list[str] = []

    def committed(self, batch: Sequence[Pending], kept: Sequence[Kept]) -> None:
        self.batches.append([pending.draft.id for pending in batch])
        self.kept.update({pending.draft.id: one.seq for pending, one in zip(batch, kept, strict=True)})

    def refused(self, pending: Pending, error: NotKept) -> None:
        assert error.retry
        self.lost.append(pending.draft.id)

    def add(self, *ids: str, text: str = "hola") -> Deferred[None] | None:
        full = None
        for id in ids:
            draft = Draft("lobby", 1, id, 1, "ana", text)
            member: IMember = self.author  # type: ignore[assignment]
            full = self.journal.add(draft, member)
        return full

    def turn(self) -> None:
        self.clock.advance(0)

    def work(self) -> None:
        """Let the workers do all they are asked for, and all that follows, for two seconds at most."""
        for _ in range(200):
            while self.workers.writes:
                self.workers.writes.popleft().tell()
            self.clock.advance(0.01)

    def close(self) -> None:
        self.journal.close()
        self.store.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A journal that commits in the writer's thread."""
    made = Desk(tmp_path, in_place=False)
    yield made
    made.close()


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Desk]:
    """A journal that commits in place."""
    made = Desk(tmp_path, in_place=True)
    yield made
    made.close()


# Batches


def test_what_comes_in_one_turn_is_one_batch(quick: Desk) -> None:
    quick.add("1", "2", "3")
    assert quick.batches == []
    quick.turn()
    assert quick.batches == [["1", "2", "3"]]


def test_the_next_batch_gathers_while_one_is_committed(desk: Desk) -> None:
    desk.add("1")
    desk.turn()
    desk.add("2")
    desk.turn()
    desk.add("3")
    assert desk.batches == []
    desk.work()
    assert desk.batches == [["1"], ["2", "3"]]


def test_nobody_hears_before_the_commit(desk: Desk) -> None:
    desk.add("1")
    desk.turn()
    desk.workers.writes[0].make()
    assert desk.store.room("lobby").last == 1
    assert desk.batches == []


def test_a_full_journal_says_when_it_is_no_longer_full(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_DRAFTS", 3)
    desk.add("0")
    desk.turn()
    assert desk.add("1", "2") is None
    full = desk.add("3")
    assert full is not None
    assert not full.called
    desk.work()
    assert full.called
    assert desk.batches == [["0"], ["1", "2", "3"]]


def test_a_journal_is_full_by_bytes_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_BYTES", 1000)
    assert desk.add("1", text="x" * 999) is None
    assert desk.add("2", text="x") is not None
    desk.work()


def test_maintenance_is_done_between_batches_whatever_the_load(desk: Desk) -> None:
    done = desk.journal.maintain(lambda: len(desk.batches))
    for number in range(5):
        desk.add(str(number))
        desk.turn()
        if desk.workers.writes:
            desk.workers.writes.popleft().tell()
    assert done.called
    desk.work()


def test_what_maintenance_raises_comes_back(desk: Desk) -> None:
    failures: list[Any] = []
    desk.journal.maintain(lambda: 1 // 0).addBoth(failures.append)
    desk.work()
    assert failures[0].check(ZeroDivisionError)


# Failure


def test_one_try_more_draft_by_draft(desk: Desk) -> None:
    desk.store.outcomes.extend(["fail", "ok", "fail", "ok"])
    desk.add("1", "2", "3")
    desk.work()
    assert desk.kept == {"1": 1, "3": 2}
    assert desk.lost == ["2"]


def test_a_draft_by_itself_gets_a_second_try(desk: Desk) -> None:
    desk.store.outcomes.append("fail")
    desk.add("1")
    desk.work()
    assert desk.kept == {"1": 1}
    assert desk.lost == []


def test_a_store_that_fails_them_all_is_not_tried_for_each(desk: Desk) -> None:
    tries = 1 + journal.HOPELESS
    desk.store.outcomes.extend(["fail"] * tries)
    desk.add(*map(str, range(50)))
    desk.work()
    assert desk.lost == [str(number) for number in range(50)]
    assert not desk.store.outcomes
    desk.add("later")
    desk.work()
    assert desk.kept == {"later": 1}


@pytest.mark.parametrize("outcome", ["lost", "unknown"])
def test_an_unknown_outcome_is_repeated_until_it_is_known(desk: Desk, outcome: str) -> None:
    desk.store.outcomes.extend([outcome, "unknown", "fail", "unknown"])
    desk.add("1", "2")
    desk.work()
    assert desk.kept == {"1": 1, "2": 2}
    assert desk.lost == []
    assert [message.seq for message in desk.store.page("lobby", 0, None, 10, 1000)] == [1, 2]


def test_an_unknown_outcome_of_one_by_one_is_repeated_too(desk: Desk) -> None:
    desk.store.outcomes.extend(["fail", "lost", "unknown"])
    desk.add("1", "2")
    desk.work()
    assert desk.kept == {"1": 1, "2": 2}


def test_who_waits_is_told_once_after_two_seconds(desk: Desk) -> None:
    desk.add("1")
    desk.turn()
    desk.clock.advance(1.9)
    assert desk.author.waits == []
    desk.clock.advance(0.2)
    assert desk.author.waits == ["1"]
    desk.clock.advance(10)
    assert desk.author.waits == ["1"]
    desk.work()
    assert desk.kept == {"1": 1}


def test_sessions_are_written_with_the_batch(desk: Desk) -> None:
    desk.journal.save(SessionRecord(1, b"t", "ana", 5, True))
    desk.add("1")
    desk.work()
    assert desk.store.session(b"t") == SessionRecord(1, b"t", "ana", 5, True)


def test_sessions_are_written_without_a_batch_within_a_second(desk: Desk) -> None:
    desk.journal.save(SessionRecord(1, b"t", "ana", 5, True))
    desk.clock.advance(1)
    desk.work()
    assert desk.store.session(b"t") is not None


def test_sessions_that_change_all_the_time_are_written_within_a_second_too(quick: Desk) -> None:
    def change() -> None:
        # As late as it can be before what was due is done.
        quick.journal.save(SessionRecord(1, b"t", "ana", int(quick.clock.seconds()), True))

    change()
    quick.clock.callLater(journal.SESSIONS_AFTER, change)
    quick.clock.advance(journal.SESSIONS_AFTER)
    assert quick.store.session(b"t") is not None


def test_sessions_survive_a_failure_and_the_newest_state_wins(desk: Desk) -> None:
    desk.journal.save(SessionRecord(1, b"t", "ana", 5, True))
    desk.clock.advance(1)
    desk.store.outcomes.append("fail")
    desk.turn()
    desk.journal.save(SessionRecord(1, b"t", "ana", 9, False))
    desk.work()
    assert desk.store.session(b"t") == SessionRecord(1, b"t", "ana", 9, False)


def test_idle_comes_when_all_is_settled(desk: Desk) -> None:
    assert desk.journal.idle().called
    desk.journal.save(SessionRecord(1, b"t", "ana", 5, True))
    desk.add("1")
    idle = desk.journal.idle()
    assert not idle.called
    desk.work()
    assert idle.called
    assert desk.kept == {"1": 1}


def test_the_last_failure_is_known_until_something_is_kept(desk: Desk) -> None:
    desk.store.outcomes.extend(["fail", "fail"])
    desk.add("1")
    desk.work()
    assert isinstance(desk.journal.failure, StoreError)
    desk.add("2")
    desk.work()
    assert desk.journal.failure is None


# Where


def test_a_slow_disk_sends_commits_to_the_thread_and_a_quick_one_brings_them_back() -> None:
    pace = Pace(in_place=True)
    for _ in range(50):
        pace.flushed(0.0002)
    pace.flushed(0.005)
    assert pace.in_place, "one slow flush in ten is nothing"
    pace.flushed(0.005)
    assert not pace.in_place
    for _ in range(99):
        pace.flushed(0.0002)
    assert not pace.in_place, "it comes back later than it went"
    pace.flushed(0.0002)
    assert pace.in_place


def test_one_stalled_flush_is_enough() -> None:
    pace = Pace(in_place=True)
    pace.flushed(0.5)
    assert not pace.in_place


def test_a_store_that_must_not_block_never_commits_in_place() -> None:
    pace = Pace(in_place=False)
    for _ in range(1000):
        pace.flushed(0.0)
    assert not pace.in_place
