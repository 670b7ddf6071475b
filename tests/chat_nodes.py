"""The chat of `chat_model`, with two nodes on one PostgreSQL."""

from __future__ import annotations

import secrets
from functools import partial
from pathlib import Path

import psycopg

from tests.chat_model import ROOMS, Server, World
from tests.daemon import wait_until

NODES = 2
TABLES = ("messages", "ids", "search", "upkeep", "rooms", "sessions", "names", "here", "presence", "nodes")
AGE = """
    UPDATE nodes SET since = since - %(seconds)s * interval '1 s', until = until - %(seconds)s * interval '1 s';
    UPDATE here SET until = until - %(seconds)s * interval '1 s';
"""
END_LEASE = """
    UPDATE nodes SET until = now() - interval '1 s' WHERE id = %(node)s;
    UPDATE nodes SET since = now() - interval '1 h', until = now() + interval '10 s' WHERE id <> %(node)s;
"""


class SharedWorld(World):
    """Two nodes. The clock of their database, which leases and graces go by, is in the test's hand too."""

    def __init__(self, folder: Path, url: str) -> None:
        self._mark = secrets.token_hex(8)
        self._admin = psycopg.ClientCursor(psycopg.connect(url, autocommit=True))
        super().__init__(folder, False, *[f"{url}&application_name={self._mark}-{node}" for node in range(NODES)])

    def settle(self) -> None:
        """Everything that can happen without a failure happens; what a node tells the other is heard."""
        for _ in range(2):
            super().settle()

    def advance(self, seconds: float) -> None:
        """Time passes, for all nodes and for what they have written."""
        super().advance(seconds)
        if seconds >= 1:
            self._admin.execute(AGE, {"seconds": seconds})

    def kill(self, node: int = 0) -> None:
        """kill -9: its connections end, and it says nothing more."""
        name = f"{self._mark}-{node}"
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
        wait_until(lambda: not self._admin.execute(query, [name]).fetchall(), "its connections have ended")
        super().kill(node)

    def end_lease(self, node: int) -> None:
        """The node was not heard of for so long that the other one takes it for dead."""
        self._admin.execute(END_LEASE, {"node": self.servers[node].store.node})
        for server in self.alive:
            if server is not self.servers[node]:
                server.clock.advance(2)
                server.settle()

    def refresh(self) -> None:
        """Who is connected is seen today, as maintenance notes."""
        for server in self.alive:
            server.hub.refresh()
            server.clock.advance(1)
        self.settle()

    def expire(self) -> None:
        """Old sessions are forgotten, as maintenance does."""
        self.settle()
        self.advance(40 * 86400)
        self.refresh()
        for server in self.alive:
            if not any(one.workers.writes for one in self.alive):
                before = _days_ago(server, 30)
                server.hub.journal.maintain(partial(server.store.expire_sessions, before, 100))

    def heal(self) -> None:
        """Nothing fails any more, everybody comes back and reads on."""
        for server in self.servers:
            server.store.outcomes.clear()
        self.refresh()
        super().heal()

    def pass_time(self) -> None:
        """So much that no name is held any more, and nodes that are dead are buried."""
        self.advance(100)
        for _ in range(5):
            self.settle()
            self.advance(3)

    def check(self) -> None:
        """After `heal`: what the promise says, and that all nodes know who is there."""
        super().check()
        connections = [connection for client in self.clients for connection in client.slots]
        for room in ROOMS:
            for connection in connections:
                assert connection is not None
                connection.send(type="members", room=room)
        self.settle()
        for client in self.clients:
            client.read()
        for connection in connections:
            assert connection is not None
            assert connection.members == {room: ["ana", "bo", "cy"] for room in ROOMS}

    def close(self) -> None:
        for server in self.alive:
            server.kill()
        # There is little in them: that is quicker than to truncate them.
        self._admin.execute("".join(f"DELETE FROM {table};" for table in TABLES))
        self._admin.connection.close()


def _days_ago(server: Server, days: float) -> int:
    return int((server.clock.seconds() - days * 86400) * 1000)
