"""Two nodes behind HAProxy, with the configuration that docs/scale.md gives."""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from tests.browser import free_port
from tests.daemon import PATIENCE, Closed, Daemon, JsonClient, TextClient, clean_environment, connected, wait_until
from tests.postgres import new_database
from tests.test_nodes import OwnServer, Program, check, starting

SCALE = (Path(__file__).parent.parent / "docs" / "scale.md").read_text()
#: Where the documented servers are here: this machine has all addresses that begin with 127.
ADDRESSES = ("127.0.0.11", "127.0.0.12")
#: What a system's configuration may hold before, such as Debian's.
BEFORE = """\
global
    log stdout format raw local0
defaults
    log global
    mode http
    option httplog
"""


class Line(JsonClient):
    """A program's connection. It is over with the goodbye, which says when to come back."""

    retry_after = 0.05

    def read(self, within: float = PATIENCE) -> dict[str, Any]:
        answer = super().read(within)
        if answer["type"] == "goodbye":
            self.retry_after = answer["retry_after"]
            raise Closed("goodbye")
        return answer


class Haproxy:
    """HAProxy as documented, and the two nodes behind it, each with the port that is asked for its health."""

    def __init__(self, folder: Path, nodes: list[Daemon]) -> None:
        self.nodes = nodes
        self.port = free_port()
        self._folder = folder
        self._clients: list[JsonClient | TextClient] = []
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, program: str, chat: int, web: int) -> None:
        """Start it in front of nodes that listen on these ports."""
        found = re.search(r"```\n(listen chat\n.*?)```", SCALE, re.DOTALL)
        assert found
        configuration = found[1]
        for documented, here in (
            ("bind :5000", f"bind 127.0.0.1:{self.port}"),
            ("check port 8080", f"check port {web}"),
            *[(f"{address.replace('127', '10', 1)}:5000", f"{address}:{chat}") for address in ADDRESSES],
        ):
            assert configuration.count(documented) == 1, documented
            configuration = configuration.replace(documented, here)
        file = self._folder / "haproxy.cfg"
        file.write_text(BEFORE + configuration)
        checked = subprocess.run([program, "-c", "-f", file], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        assert "WARNING" not in checked.stderr, checked.stderr
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([program, "-db", "-f", file], stdout=log, stderr=log)
        wait_until(self._answers, "HAProxy listens")

    @property
    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text()

    def json(self) -> Line:
        """A program that connects to it."""
        client = Line(connected(("127.0.0.1", self.port)))
        self._clients.append(client)
        return client

    def text(self, name: str) -> TextClient:
        """A person of that name who connects to it."""
        client = TextClient(connected(("127.0.0.1", self.port)))
        self._clients.append(client)
        return client.enter(name)

    def node_of(self, name: str) -> int:
        """To which node it has sent the one with that name."""
        said = f"name={name}\\b"
        (number,) = (number for number, node in enumerate(self.nodes) if re.search(said, node.log))
        return number

    def health(self, number: int) -> int:
        """What a node says to one who asks for its health."""
        connection = http.client.HTTPConnection(ADDRESSES[number], self.nodes[number].ports[1], timeout=PATIENCE)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status
        finally:
            connection.close()

    def end(self) -> None:
        """Stop it."""
        for client in self._clients:
            client.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)

    @property
    def _log(self) -> Path:
        return self._folder / "haproxy.log"

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        try:
            connected(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True


@contextmanager
def behind_haproxy(folder: Path, url: str) -> Iterator[Haproxy]:
    """Two nodes on that database, behind HAProxy."""
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        pytest.skip("there is no haproxy")
    chat, web = free_port(), free_port()
    with starting(folder, url) as start:
        places = [
            ("--port", f"tcp:{chat}:interface={address}", "--web", f"tcp:{web}:interface={address}")
            for address in ADDRESSES
        ]
        haproxy = Haproxy(folder, [start(*place) for place in places])
        try:
            haproxy.start(program, chat, web)
            yield haproxy
        finally:
            haproxy.end()


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[Haproxy]:
    with new_database() as url, behind_haproxy(tmp_path, url) as haproxy:
        yield haproxy


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    folder = tempfile.mkdtemp(prefix="chatd-postgres-")
    server = OwnServer(folder)
    yield server
    server.close()
    shutil.rmtree(folder, ignore_errors=True)


def come(program: Program, haproxy: Haproxy) -> None:
    """Come by way of HAProxy, to whichever node."""
    program.come(cast("Daemon", haproxy))


def come_all(haproxy: Haproxy) -> list[Program]:
    """Four programs, two on each node, as the one with the fewest connections gets the next."""
    programs = [Program(name) for name in ("ana", "bo", "cy", "di")]
    for program in programs:
        come(program, haproxy)
    return programs


def talk(program: Program, haproxy: Haproxy, enough: Callable[[], bool]) -> int:
    """Talk until it is enough; come back whenever the connection ends. Returns how often that was."""
    for times in range(50):
        try:
            program.talk(enough)
        except Closed:
            time.sleep(cast("Line", program.client).retry_after)
            with suppress(Closed):
                come(program, haproxy)
        else:
            return times
    raise AssertionError("it cannot stay")


def under_load(programs: list[Program], haproxy: Haproxy, happens: Callable[[], None]) -> list[int]:
    """All talk while it happens, and for a while after that. Returns how often each had to come back."""
    over = threading.Event()
    before = [len(program.kept) for program in programs]

    def happen() -> None:
        try:
            wait_until(lambda: _went_on(programs, before), "there is a load")
            happens()
        finally:
            over.set()

    with ThreadPoolExecutor(len(programs)) as pool:
        talking = [pool.submit(talk, program, haproxy, over.is_set) for program in programs]
        happen()
        return [one.result() for one in talking]


def _went_on(programs: list[Program], before: list[int]) -> bool:
    return all(len(one.kept) > count + 50 for one, count in zip(programs, before, strict=True))


def go_on(programs: list[Program]) -> None:
    """Wait until all have said more."""
    before = [len(program.kept) for program in programs]
    wait_until(lambda: _went_on(programs, before), "all go on")


def test_netcat_and_the_client_talk_through_it(haproxy: Haproxy) -> None:
    watcher = haproxy.text("watcher")
    address = f"127.0.0.1:{haproxy.port}"
    nc = subprocess.run(
        ["nc", "-N", *address.split(":")],
        input="ana\nfrom netcat\n/who\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    who, goodbye = nc.stdout.splitlines()[-2:]
    assert who.startswith("* 2 in lobby: ")
    assert goodbye == "* Goodbye."
    watcher.until("ana: from netcat")
    client = subprocess.run(
        [sys.executable, "-m", "chatd.client", address, "--name", "bo"],
        input="from the client\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
        env=clean_environment(),
    )
    assert "bo: from the client" in client.stdout
    watcher.until("bo: from the client")


def test_who_is_on_a_node_that_dies_comes_back_on_the_other_at_once(haproxy: Haproxy) -> None:
    programs = come_all(haproxy)
    assert [haproxy.node_of(program.name) for program in programs].count(0) == 2
    on_first = [haproxy.node_of(program.name) == 0 for program in programs]

    def kill() -> None:
        haproxy.nodes[0].kill()
        go_on(programs)

    # Also before HAProxy has found out: the connection that it cannot make goes to the other node.
    assert under_load(programs, haproxy, kill) == [int(one) for one in on_first]
    check(programs, cast("Daemon", haproxy))


def test_lines_stay_open_while_the_database_is_away(tmp_path: Path, own_server: OwnServer) -> None:
    with behind_haproxy(tmp_path, own_server.url) as haproxy:
        programs = come_all(haproxy)
        eve = haproxy.text("eve")

        def outage() -> None:
            own_server.stop()
            wait_until(lambda: [haproxy.health(node) for node in (0, 1)] == [503, 503], "both are unwell")
            # HAProxy has found out, and whoever comes now is turned away.
            wait_until(lambda: "proxy 'chat' has no server available!" in haproxy.log, "HAProxy knows")
            late = haproxy.json()
            with pytest.raises(Closed):
                late.hello("late")
            own_server.start()
            go_on(programs)

        assert under_load(programs, haproxy, outage) == [0, 0, 0, 0]
        eve.sync()
        wait_until(lambda: [haproxy.health(node) for node in (0, 1)] == [200, 200], "both are well")
        wait_until(lambda: haproxy.log.count(" is UP, ") == 2, "HAProxy knows")
        haproxy.json().hello("late")
        check(programs, cast("Daemon", haproxy))


def test_nodes_are_upgraded_one_after_the_other(haproxy: Haproxy) -> None:
    programs = come_all(haproxy)

    def upgrade() -> None:
        for number, node in enumerate(haproxy.nodes):
            node.stop()
            node.restart()
            wait_until(lambda number=number: haproxy.health(number) == 200, "it is well")  # type: ignore[misc]
            go_on(programs)

    # Twice at the most: who was on the first node may be on the second one then.
    assert set(under_load(programs, haproxy, upgrade)) <= {1, 2}
    check(programs, cast("Daemon", haproxy))
