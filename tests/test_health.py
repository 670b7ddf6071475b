"""Whether a message could be kept now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chatd.health import FRESH, WITHIN, Health
from chatd.interfaces import SessionRecord
from tests.harness import Chat, Later


class Counting:
    """The chat's store; `writes` counts the sessions that are saved."""

    def __init__(self, chat: Chat) -> None:
        self.writes = 0
        self._store = chat.store

    def save(self, sessions: list[SessionRecord]) -> None:
        self.writes += 1
        self._store.save(sessions)

    def reopen(self) -> None:
        self._store.reopen()


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Chat]:
    """A chat in memory."""
    with Chat(tmp_path) as made:
        yield made


def ask(chat: Chat, health: Health) -> list[bool]:
    """Ask. What is found, now or later, is in the list."""
    found: list[bool] = []
    health.ask().addCallback(found.append)
    chat.settle()
    return found


def test_it_is_found_out_by_writing(chat: Chat) -> None:
    store = Counting(chat)
    health = Health(chat.hub.journal, store, chat.clock)  # type: ignore[arg-type]
    assert store.writes == 0
    assert ask(chat, health) == [True]
    assert store.writes == 1


def test_at_most_once_a_second(chat: Chat) -> None:
    store = Counting(chat)
    health = Health(chat.hub.journal, store, chat.clock)  # type: ignore[arg-type]
    assert [ask(chat, health) for _ in range(10)] == [[True]] * 10
    assert store.writes == 1
    chat.advance(FRESH - 0.01)
    assert ask(chat, health) == [True]
    assert store.writes == 1
    chat.advance(0.02)
    assert ask(chat, health) == [True]
    assert store.writes == 2


def test_what_fails_is_said_and_what_is_mended_too(chat: Chat) -> None:
    health = Health(chat.hub.journal, chat.store, chat.clock)
    chat.store.close()
    assert ask(chat, health) == [False]
    chat.store.open()
    assert ask(chat, health) == [False], "not a second has passed"
    chat.advance(FRESH)
    assert ask(chat, health) == [True]


def test_a_writer_that_was_lost_is_opened_anew(chat: Chat) -> None:
    health = Health(chat.hub.journal, chat.store, chat.clock)
    chat.store._writer.close()  # type: ignore[attr-defined]
    assert ask(chat, health) == [True]
    ana = chat.json("ana")
    ana.say("hola", "1")
    assert ana.read()[-1]["text"] == "hola"


def test_a_write_that_takes_too_long(tmp_path: Path) -> None:
    workers = Later()
    with Chat(tmp_path, workers=workers) as chat:
        health = Health(chat.hub.journal, chat.store, chat.clock)
        first = ask(chat, health)
        assert first == []
        chat.advance(WITHIN)
        assert first == [False]
        assert len(workers) == 1
        second = ask(chat, health)
        chat.advance(WITHIN)
        assert second == [False]
        assert len(workers) == 1, "the first one is still under way"
        third = ask(chat, health)
        workers.work()
        assert third == [True]


def test_it_leaves_nobody_behind(chat: Chat) -> None:
    assert ask(chat, Health(chat.hub.journal, chat.store, chat.clock)) == [True]
    assert chat.store.held_sessions() == []
    # What was written is a session that nobody can have, and that goes as old ones do.
    assert chat.store.expire_sessions(int(chat.clock.seconds() * 1000) + 1, 10) == 1
