"""What can happen to those who talk, whatever the server does: the rules of all tests in any order."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.chat_model import ROOMS, World

people = st.integers(0, 2)
slots = st.integers(0, 1)


class Talk(RuleBasedStateMachine):
    """Cut, say, resend, read slowly; time passes. Subclasses make the world, and say what happens to servers."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.world: World

    @rule(who=people, slot=slots, noticed=st.booleans())
    def cut(self, who: int, slot: int, noticed: bool) -> None:
        self.world.clients[who].cut(slot, noticed)

    @rule()
    def notice(self) -> None:
        if self.world.half_dead:
            self.world.half_dead.pop(0).lose()

    @rule(who=people, room=st.sampled_from(ROOMS), times=st.integers(1, 6), commit=st.booleans())
    def say(self, who: int, room: str, times: int, commit: bool) -> None:
        for _ in range(times):
            self.world.clients[who].say(room)
        if commit:
            self.turn()
            for server in self.world.alive:
                server.write()

    @rule(who=people, data=st.data())
    def resend(self, who: int, data: st.DataObject) -> None:
        client = self.world.clients[who]
        if client.said:
            client.resend(data.draw(st.sampled_from(sorted(client.said))))

    @rule()
    def read(self) -> None:
        for client in self.world.clients:
            client.read()

    @rule(who=people, slot=slots, size=st.integers(0, 400))
    def narrow(self, who: int, slot: int, size: int) -> None:
        connection = self.world.clients[who].slots[slot]
        if connection is not None:
            connection.transport.window = size

    @rule(who=people, slot=slots, size=st.integers(1, 1000))
    def drain(self, who: int, slot: int, size: int) -> None:
        connection = self.world.clients[who].slots[slot]
        if connection is not None:
            connection.transport.drain(size)
            self.turn()

    @rule()
    def turn(self) -> None:
        self.world.turn()

    @rule(seconds=st.sampled_from([0.01, 0.1, 2.5, 12.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.world.heal()
                self.world.check()
        finally:
            if hasattr(self, "world"):
                self.world.close()
            shutil.rmtree(self.folder)
