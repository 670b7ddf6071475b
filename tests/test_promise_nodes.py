"""The promise with two nodes on one database, under any order of what can go wrong: no loss, no duplicates, no
holes, and one order for everybody on all nodes."""

from __future__ import annotations

from functools import partial
from typing import cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from tests.chat_nodes import NODES, SharedWorld
from tests.chat_rules import Talk, people, slots
from tests.postgres import new_database

nodes = st.integers(0, NODES - 1)


class NodesInAnyOrder(Talk):
    """Connect here and resume there; nodes die and come back, or are taken for dead; commits and claims that fail
    or whose answer is lost, reads that are late, hints that are late or lost.

    No rule depends on what a node has to do: hints come when the database sends them.
    """

    world: SharedWorld

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    @initialize()
    def begin(self) -> None:
        self.world = SharedWorld(self.folder, self._url)
        for number, client in enumerate(self.world.clients):
            client.connect(0, number % NODES)
        self.world.bring_in()

    @rule(who=people, slot=slots, node=nodes, arrive=st.booleans())
    def connect(self, who: int, slot: int, node: int, arrive: bool) -> None:
        self.world.clients[who].connect(slot, node)
        if arrive:
            self.world.bring_in()

    @rule(who=people, slot=slots, node=nodes, noticed=st.booleans())
    def move(self, who: int, slot: int, node: int, noticed: bool) -> None:
        self.world.clients[who].cut(slot, noticed)
        self.world.clients[who].connect(slot, node)
        self.world.bring_in()

    @rule(node=nodes, outcome=st.sampled_from(["ok", "fail", "lost", "unknown"]))
    def plan(self, node: int, outcome: str) -> None:
        self.world.servers[node].store.outcomes.append(outcome)

    @rule(node=nodes, times=st.integers(1, 3))
    def write(self, node: int, times: int) -> None:
        for _ in range(times):
            if self.world.servers[node].alive:
                self.world.servers[node].write()
                self.world.servers[node].turn()

    @rule(node=nodes)
    def write_unheard(self, node: int) -> None:
        """The commit is on the disk, and the node does not know it yet."""
        if writes := self.world.servers[node].workers.writes:
            writes[0].make()

    @rule(node=nodes, heard=st.booleans())
    def fetch(self, node: int, heard: bool) -> None:
        if reads := self.world.servers[node].workers.reads:
            reads[0].make()
            if heard:
                reads.pop(0).tell()

    @rule(node=nodes, lost=st.booleans())
    def hear(self, node: int, lost: bool) -> None:
        server = self.world.servers[node]
        if server.alive:
            server.store.hints.append(not lost)
            server.hear()

    @rule(node=nodes)
    def catch_up(self, node: int) -> None:
        if self.world.servers[node].alive:
            self.world.servers[node].settle()

    @rule(node=nodes)
    def end_lease(self, node: int) -> None:
        self.world.end_lease(node)

    @rule()
    def expire(self) -> None:
        self.world.expire()

    @rule(node=nodes)
    def kill(self, node: int) -> None:
        if self.world.servers[node].alive:
            self.world.kill(node)

    @rule(node=nodes)
    def revive(self, node: int) -> None:
        if not self.world.servers[node].alive:
            self.world.revive(node)

    def teardown(self) -> None:
        for node in range(NODES):
            if hasattr(self, "world"):
                self.revive(node)
        super().teardown()


def test_two_nodes_in_any_order() -> None:
    with new_database() as url:
        run_state_machine_as_test(
            cast("type[NodesInAnyOrder]", partial(NodesInAnyOrder, url)),
            settings=settings(
                max_examples=25,
                stateful_step_count=50,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            ),
        )
