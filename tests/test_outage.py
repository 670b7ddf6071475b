"""What a node that shares its store does while the store does not answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

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
