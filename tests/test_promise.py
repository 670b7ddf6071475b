"""The promise, under any order of what can go wrong: no loss, no duplicates, no holes, one order for everybody."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from tests.chat_model import World
from tests.chat_rules import Talk, people, slots


class AnyOrder(Talk):
    """Connect, cut, resume, say, resend, restart, restore; commits that fail, or whose answer is lost or late."""

    @initialize(in_place=st.booleans())
    def begin(self, in_place: bool) -> None:
        self.world = World(self.folder, in_place)
        self.backup: Path | None = None
        for client in self.world.clients:
            client.connect(0)
        self.world.bring_in()

    @rule(who=people, slot=slots, arrive=st.booleans())
    def connect(self, who: int, slot: int, arrive: bool) -> None:
        self.world.clients[who].connect(slot)
        if arrive:
            self.world.bring_in()

    @rule()
    def wait_long(self) -> None:
        self.world.advance(40 * 86400)

    @rule(outcome=st.sampled_from(["ok", "fail", "lost", "unknown"]))
    def plan(self, outcome: str) -> None:
        self.world.server.store.outcomes.append(outcome)

    @rule(seconds=st.sampled_from([0.0, 0.2]))
    def flush(self, seconds: float) -> None:
        self.world.server.store.flush_seconds = seconds

    @precondition(lambda self: self.world.server.workers.writes)
    @rule()
    def write(self) -> None:
        self.world.server.write()

    @precondition(lambda self: self.world.server.workers.writes)
    @rule()
    def write_unheard(self) -> None:
        """The commit is on the disk, and the reactor does not know it yet."""
        self.world.server.workers.writes[0].make()

    @precondition(lambda self: self.world.server.workers.reads)
    @rule(heard=st.booleans())
    def fetch(self, heard: bool) -> None:
        job = self.world.server.workers.reads[0]
        job.make()
        if heard:
            self.world.server.workers.reads.pop(0).tell()

    @rule()
    def expire(self) -> None:
        server = self.world.server
        # As maintenance does: who is connected is seen today.
        server.settle()
        server.hub.refresh()
        server.clock.advance(1)
        server.settle()
        before = int((server.clock.seconds() - 30 * 86400) * 1000)
        # By way of the journal: not while it repeats what may be stored, for whose ids it asks.
        server.hub.journal.maintain(lambda: server.store.expire_sessions(before, 100))

    @rule()
    def restart(self) -> None:
        self.world.restart()

    @rule()
    def back_up(self) -> None:
        self.backup = self.folder / "backup.db"
        self.backup.unlink(missing_ok=True)
        with sqlite3.connect(self.folder / "chat.db") as db:
            db.execute("VACUUM INTO ?", (str(self.backup),))
        db.close()

    @precondition(lambda self: self.backup is not None)
    @rule()
    def restore(self) -> None:
        assert self.backup is not None
        self.world.kill()
        for name in ("chat.db-wal", "chat.db-shm"):
            (self.folder / name).unlink(missing_ok=True)
        shutil.copyfile(self.backup, self.folder / "chat.db")
        self.world.revive()


AnyOrder.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TestAnyOrder = AnyOrder.TestCase
