"""What PostgreSQL and more nodes cost: `python -m benchmarks.nodes --postgres postgresql://postgres@127.0.0.1/x`.

Each run gets a schema of its own in that database, which is dropped afterwards. All is on one machine: where its
cores are busy, nodes and PostgreSQL take from each other what they would have had alone.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

import psycopg

from benchmarks.build import build
from benchmarks.generator import Load, generate
from benchmarks.servers import CHATD_TEXT, Running, Server, running

Row = dict[str, Any]

#: Members and messages in flight, as in the table of docs/performance.md.
CELLS = [(10, 64), (100, 64), (1000, 512)]
NODES = (1, 2, 4)
#: Messages a second that one node takes while the others deliver them too, and members on that node.
RATE, MEMBERS = 200, 100
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measures and prints tables in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nodes", description=__doc__)
    parser.add_argument("--postgres", required=True, help="the URL of a database in which schemas may be made")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each kind (default 5)")
    parser.add_argument("--seconds", type=float, default=4, help="measured in each run (default 4)")
    options = parser.parse_args()
    build()
    for scenario in (stores, spread_of_one, grown):
        print(f"{scenario.__doc__}\n", flush=True)
        print(scenario(options.postgres, options.rounds, options.seconds), flush=True)
        print(flush=True)


def stores(postgres: str, rounds: int, seconds: float) -> str:
    """One node: PostgreSQL against SQLite, medians of pairs of runs."""
    found: dict[tuple[int, int], list[tuple[Row, Row]]] = {cell: [] for cell in CELLS}
    rest: list[tuple[Row, Row]] = []
    for _ in range(rounds):
        for listeners, in_flight in CELLS:
            load = Load(listeners, in_flight, seconds=seconds)
            found[listeners, in_flight].append(_pair(postgres, load))
        rest.append(_pair(postgres, Load(100, rate=50, seconds=seconds)))
    lines = [
        [f"{listeners:,}, {in_flight}", *_compared(pairs, _rate), *_compared(pairs, _p50)]
        for (listeners, in_flight), pairs in found.items()
    ]
    lines.append(["100, 50 messages a second", *_compared(rest, _rate), *_compared(rest, _p50)])
    head = ["members, in flight", "SQLite: deliveries a second", "PostgreSQL", "ratio"]
    return _table([*head, "SQLite: p50 ms", "PostgreSQL", "ratio"], lines)


def _pair(postgres: str, load: Load) -> tuple[Row, Row]:
    with running(CHATD_TEXT) as one:
        sqlite = generate(one, load)
    with schema(postgres) as url, running(node(url)) as one:
        return sqlite, generate(one, load)


def _rate(result: Row) -> float:
    return float(result["deliveries_per_second"])


def _p50(result: Row) -> float:
    return float(result["latency_us"]["p50"]) / 1000


def _compared(pairs: Sequence[tuple[Row, Row]], value: Callable[[Row], float]) -> list[str]:
    sqlite, postgres = ([value(pair[side]) for pair in pairs] for side in (0, 1))
    ratio = median(one / other for one, other in zip(postgres, sqlite, strict=True))
    return [_short(median(sqlite)), _short(median(postgres)), f"{ratio:.2f}"]


def spread_of_one(postgres: str, rounds: int, seconds: float) -> str:
    """Latency of a message at rest, from a member's line to another's, in ms."""
    here: list[float] = []
    there: list[float] = []
    for _ in range(rounds):
        with schema(postgres) as url, ExitStack() as stack:
            ports = [stack.enter_context(running(node(url))).port for _ in range(2)]
            ana = stack.enter_context(Member(ports[0], "ana"))
            bob, eva = (
                stack.enter_context(Member(port, name)) for port, name in zip(ports, ("bob", "eva"), strict=True)
            )
            for number in range(round(seconds * 20)):
                begin = time.perf_counter()
                ana.say(f"number {number}")
                for member, found in ((bob, here), (eva, there)):
                    member.wait_for(f"number {number}")
                    found.append((time.perf_counter() - begin) * 1000)
                time.sleep(0.05)
    lines = [
        [title, *(f"{_quantile(found, part):.1f}" for part in (0.5, 0.9, 0.99))]
        for title, found in (("the same node", here), ("another node", there))
    ]
    return _table(["to a member on", "p50", "p90", "p99"], lines)


def grown(postgres: str, rounds: int, seconds: float) -> str:
    """1, 2 and 4 nodes: one has the senders and 100 members, each other one a member in the same room."""
    found: dict[int, list[Row]] = {count: [] for count in NODES}
    for _ in range(rounds):
        for count in NODES:
            found[count].append(_grown(postgres, count, seconds))
    columns = ["p50 ms", "first node, CPU %", "each other, CPU %", "PostgreSQL, CPU %", "most deliveries a second"]
    lines = [
        [f"{count}", *(_short(median(row[column] for row in rows)) for column in columns)]
        for count, rows in found.items()
    ]
    return _table(["nodes", *(f"{column}" for column in columns)], lines)


def _grown(postgres: str, count: int, seconds: float) -> Row:
    with schema(postgres) as url, ExitStack() as stack:
        nodes = [stack.enter_context(running(node(url))) for _ in range(count)]
        for number, one in enumerate(nodes[1:]):
            member = stack.enter_context(Member(one.port, f"far{number}"))
            threading.Thread(target=member.drain, daemon=True).start()
        before, begin = _cpu(url, nodes), time.monotonic()
        paced = generate(nodes[0], Load(MEMBERS, rate=RATE, seconds=seconds))
        share = 100 / TICKS / (time.monotonic() - begin)
        first, others, database = (
            (after - then) * share for after, then in zip(_cpu(url, nodes), before, strict=True)
        )
        most = generate(nodes[0], Load(MEMBERS, 64, seconds=seconds))
    return {
        "p50 ms": _p50(paced),
        "first node, CPU %": first,
        "each other, CPU %": others / max(1, count - 1),
        "PostgreSQL, CPU %": database,
        "most deliveries a second": _rate(most),
    }


def _cpu(url: str, nodes: Sequence[Running]) -> tuple[int, int, int]:
    """Ticks of the first node, of the others, and of the processes that PostgreSQL has for them all."""
    with psycopg.connect(url) as link:
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = current_setting('application_name')"
        backends = link.execute(query).fetchall()
        own = link.info.backend_pid
    others = sum(_ticks(one.pid) for one in nodes[1:])
    return _ticks(nodes[0].pid), others, sum(_ticks(pid) for (pid,) in backends if pid != own)


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


class Member:
    """A program that is in the lobby."""

    def __init__(self, port: int, name: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self._socket.makefile("rb")
        self._send(type="hello", name=name)
        self._until(b'"type":"room"')

    def __enter__(self) -> Member:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _send(self, **fields: str) -> None:
        self._socket.sendall(json.dumps(fields).encode() + b"\n")

    def say(self, text: str) -> None:
        """Say it in the lobby."""
        self._send(type="say", room="lobby", text=text, id=text)

    def wait_for(self, text: str) -> None:
        """Return when a message with this text has come."""
        self._until(f'"{text}"'.encode())

    def drain(self) -> None:
        """Read until the other side is gone."""
        while self._lines.read1(65536):
            pass

    def _until(self, part: bytes) -> None:
        for line in self._lines:
            if part in line.replace(b": ", b":"):
                return
        raise RuntimeError("the server closed the connection")


@contextmanager
def schema(postgres: str) -> Iterator[str]:
    """The URL of an empty place in the database."""
    name = f"chatd_bench_{secrets.token_hex(6)}"
    with psycopg.connect(postgres, autocommit=True) as link:
        link.execute(f"CREATE SCHEMA {name}")
    try:
        sign = "&" if "?" in postgres else "?"
        yield f"{postgres}{sign}options={quote(f'-csearch_path={name}')}&application_name={name}"
    finally:
        with psycopg.connect(postgres, autocommit=True) as link:
            link.execute("SET client_min_messages = warning")
            link.execute(f"DROP SCHEMA {name} CASCADE")


def node(url: str) -> Server:
    """A node of the chat at this URL. The options that it is started with name a file: the environment goes before
    what they leave out."""

    def command(port: int, folder: Path) -> list[str]:
        words = CHATD_TEXT.command(port, folder)
        place = words.index("--db")
        return words[:place] + words[place + 2 :]

    return Server("chatd-postgres", "chatd on PostgreSQL", "text", command, "twistd", {"CHATD_DB": url})


def _quantile(values: Sequence[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def _short(value: float) -> str:
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {letter}"
    return f"{value:.3g}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main()
