"""What a node that shares its store does while the store does not answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from chatd.interfaces import StoreError
from tests.chat_model import Connection
from tests.chat_nodes import SharedWorld
from tests.postgres import new_database


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SharedWorld]:
    with new_database() as url:
        world = SharedWorld(tmp_path, url)
        yield world
        world.close()


def test_who_tries_in_vain_leaves_nothing_to_be_told(world: SharedWorld) -> None:
    """An hour of clients that come again and again must not become an hour of work, nor of memory."""
    node = world.servers[0]
    released: list[int] = []
    release = node.store.real.release

    def count(sessions: Sequence[int]) -> None:
        released.extend(sessions)
        release(sessions)

    node.store.real.release = count
    for client in world.clients * 20:
        one = Connection(client, {}, node)
        for _ in range(7):
            # The writer does nothing of what it is asked.
            world.advance(1)
        one.read()
        assert one.turned_away
        assert "does not answer" in client.complaints[-1]
        one.lose()
    world.settle()
    # The first claim was under way, so nobody knows of it.
    assert len(released) <= 1
    ana = Connection(world.clients[0], {}, node)
    world.settle()
    ana.read()
    assert ana.welcome


def test_who_comes_and_goes_all_the_time_is_told_once(world: SharedWorld) -> None:
    node = world.servers[0]
    entered: list[tuple[int, str]] = []
    enter = node.store.real.enter

    def count(places: Sequence[tuple[int, str]]) -> None:
        entered.extend(places)
        enter(places)

    ana = Connection(world.clients[0], {}, node)
    world.settle()
    ana.read()
    world.settle()
    node.store.real.enter = count
    for _ in range(50):
        ana.send(type="leave", room="den")
        ana.send(type="join", room="den")
        for _ in range(3):
            world.advance(1)
            while node.workers.reads:
                node.workers.reads.pop(0).tell()
    world.settle()
    # What was under way at first, and what came of it all.
    assert len(entered) <= 2
    assert node.store.real.counts()["den"] == 1


def test_who_leaves_while_all_are_told_anew_leaves_no_ghost(world: SharedWorld) -> None:
    """After a lost connection a node tells the store who is here. Somebody may go before that is done."""
    node, other = world.servers
    ana = Connection(world.clients[0], {}, node)
    world.settle()
    ana.read()
    world.settle()
    settle = node.store.real.settle
    settled: list[list[int]] = []

    def leave_meanwhile(sessions: list[int], places: Sequence[tuple[int, str]]) -> None:
        if not settled:
            ana.send(type="bye")
            ana.lose()
        settled.append(sessions)
        settle(sessions, places)

    node.store.real.settle = leave_meanwhile
    node.store.reopen()
    world.advance(4)
    for _ in range(3):
        world.settle()
    assert len(settled[0]) == 1
    world.clients[0].token = None
    late = Connection(world.clients[0], {}, other)
    world.settle()
    late.read()
    assert late.welcome


def test_what_fails_all_the_time_is_logged_once(world: SharedWorld) -> None:
    node = world.servers[0]
    said: list[str] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == "chatd.nodes.Nodes":
            said.append(formatEvent(event))

    def fail(*args: object) -> None:
        raise StoreError("gone")

    for call in ("renew", "reap", "elsewhere", "wait"):
        setattr(node.store.real, call, fail)
    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]  # any function of an event is one
    for _ in range(60):
        world.advance(0.5)
        world.settle()
    globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]
    assert len(said) == len(set(said)) == 4
    assert not any(line.startswith("over") for line in said)


def test_a_new_name_is_heard_of_on_the_other_nodes(world: SharedWorld) -> None:
    node, other = world.servers
    bo = Connection(world.clients[1], {}, other)
    ana = Connection(world.clients[0], {}, node)
    for _ in range(3):
        world.settle()
        ana.read()
        bo.read()
    ana.lose()
    world.settle()
    world.clients[0].name = "anna"
    anna = Connection(world.clients[0], {}, node)
    for _ in range(3):
        world.settle()
        anna.read()
    bo.send(type="members", room="lobby")
    world.settle()
    bo.read()
    assert bo.members["lobby"] == ["anna", "bo"]
