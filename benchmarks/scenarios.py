"""What is measured. Each scenario returns rows; `report` makes tables of them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import servers
from benchmarks.build import BUILD
from benchmarks.generator import Load, Result, generate, spread
from benchmarks.history import measure_history
from benchmarks.servers import Running, Server, running

Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How long and how often, and which servers."""

    servers: list[Server]
    rounds: int = 5
    seconds: float = 4
    scale: float = 1  #: of the numbers of clients and messages in the scenarios that are about numbers
    say: Callable[[str], None] = print

    def chosen(self, *wanted: Server) -> list[Server]:
        return [server for server in self.servers if server in wanted]

    def scaled(self, number: int) -> int:
        return max(20, int(number * self.scale))


#: The cells of the table: members, messages in flight, rooms.
CELLS = [(10, 64, 1), (100, 64, 1), (1000, 64, 1), (1000, 512, 1), (1000, 64, 100), (1000, 512, 100)]
CHATD = (servers.CHATD_TEXT, servers.CHATD_JSON)
INSPIRCD = (servers.INSPIRCD, servers.INSPIRCD_NODELAY)
WITH_ROOMS = (*CHATD, servers.CHATD_WEB, servers.NGIRCD, *INSPIRCD)


def table(plan: Plan) -> list[Row]:
    """The highest rate: closed loop, every server, every cell, interleaved."""
    rows = []
    for turn in range(plan.rounds):
        for listeners, in_flight, rooms in CELLS:
            able = plan.servers if rooms == 1 else plan.chosen(*WITH_ROOMS)
            for server in _rotated(able, turn):
                load = Load(listeners, in_flight, rooms=rooms, seconds=plan.seconds)
                rows.append(_row(plan, server, load, round=turn))
    return rows


def rest(plan: Plan) -> list[Row]:
    """At rest: 50 messages a second to 100 members."""
    load = Load(100, rate=50, seconds=max(plan.seconds, 5))
    return [
        _row(plan, server, load, round=turn)
        for turn in range(plan.rounds)
        for server in _rotated(plan.servers, turn)
    ]


def half(plan: Plan) -> list[Row]:
    """Open loop, at half of the most that InspIRCd can do."""
    rows = []
    for listeners in (100, 1000):
        best = max((_highest(plan, server, listeners) for server in plan.chosen(*INSPIRCD)), default=0)
        load = Load(listeners, rate=round(best / 2), seconds=plan.seconds)
        for turn in range(plan.rounds if best else 0):
            able = plan.chosen(*CHATD, servers.BARE, *INSPIRCD)
            rows += [_row(plan, server, load, round=turn) for server in _rotated(able, turn)]
    return rows


def shares(plan: Plan) -> list[Row]:
    """Open loop, at 10, 50 and 90 % of each server's own highest rate."""
    rows = []
    for server in plan.chosen(*CHATD, servers.BARE, *INSPIRCD):
        for listeners in (100, 1000):
            highest = _highest(plan, server, listeners)
            for turn in range(plan.rounds):
                for share in (10, 50, 90):
                    load = Load(listeners, rate=max(1, round(highest * share / 100)), seconds=plan.seconds)
                    rows.append(_row(plan, server, load, share=share, round=turn))
    return rows


def slow(plan: Plan) -> list[Row]:
    """100 members, of which 10 read 1 KiB a second and 10 nothing; and without those."""
    usual = Load(80, rate=4000, count=plan.scaled(100_000), drain=60, timeout=240)
    stuck = replace(usual, listeners=100, slow=10, stopped=10)
    return [
        _row(plan, server, load, round=turn)
        for turn in range(min(plan.rounds, 3))
        for server in plan.chosen(*CHATD, servers.BARE, servers.THREADS, servers.NGIRCD, servers.INSPIRCD)
        for load in (usual, stuck)
    ]


def storm(plan: Plan) -> list[Row]:
    """5,000 join one room at once, and 5,000 come back at once after the server was killed."""
    number = plan.scaled(5000)
    joining = Load(10, rate=50, storm=number, seconds=120, timeout=240)
    returning = Load(number, rate=50, comeback=True, seconds=120, timeout=240)
    able = plan.chosen(*CHATD, servers.BARE, servers.THREADS, servers.NGIRCD, servers.INSPIRCD)
    return [
        *(_row(plan, server, joining, what="join") for server in able),
        *(_row(plan, server, returning, what="come back") for server in plan.chosen(servers.CHATD_JSON)),
    ]


def idle(plan: Plan) -> list[Row]:
    """10,000 connected, nobody says anything."""
    load = Load(plan.scaled(10_000), seconds=10, timeout=240)
    able = plan.chosen(*CHATD, servers.BARE, servers.THREADS, servers.NGIRCD, servers.INSPIRCD)
    return [_row(plan, server, load) for server in able]


def disk(plan: Plan) -> list[Row]:
    """The same with a disk whose flushes take 5 ms longer; pings tell whether anything else waits for it."""
    slow_disk = {"LD_PRELOAD": str(BUILD / "slow_disk.so"), "SLOW_DISK_MS": "5"}
    loads = [
        Load(100, rate=50, seconds=max(plan.seconds, 5)),
        Load(100, 64, seconds=plan.seconds),
        Load(1000, 512, seconds=plan.seconds),
    ]
    rows = []
    for server in plan.chosen(*CHATD):
        for load in loads:
            load = replace(load, pings=50 if server.dialect == "json" else 0)
            for milliseconds, environment in ((0, {}), (5, slow_disk)):
                rows.append(_row(plan, server, load, environment, flush_ms=milliseconds))
    return rows


def history(plan: Plan) -> list[Row]:
    """What requests cost with 10,000 and with 1,000,000 messages in the database."""
    if not plan.chosen(servers.CHATD_JSON):
        return []
    with running(servers.CHATD_JSON) as started:
        return list(measure_history(started, [plan.scaled(10_000), plan.scaled(1_000_000)], plan.say))


SCENARIOS: dict[str, Callable[[Plan], list[Row]]] = {
    scenario.__name__: scenario for scenario in (table, rest, half, shares, slow, storm, idle, history, disk)
}


def _rotated(able: list[Server], turn: int) -> Iterator[Server]:
    """Each round begins with another server, so that none is always first or always after the same."""
    for i in range(len(able)):
        yield able[(i + turn) % len(able)]


def _highest(plan: Plan, server: Server, listeners: int) -> float:
    """Messages a second, closed loop, 64 in flight; the median of three."""
    load = Load(listeners, 64, seconds=plan.seconds)
    results = [_row(plan, server, load)["result"] for _ in range(min(plan.rounds, 3))]
    return spread(result.get("messages_per_second", 0) for result in results).middle


def _row(plan: Plan, server: Server, load: Load, environment: dict[str, str] | None = None, **more: Any) -> Row:
    row: Row = {"server": server.name, "listeners": load.listeners, "in_flight": load.in_flight}
    row |= {"rooms": load.rooms, "rate": load.rate, **more}
    try:
        with running(server, environment) as started:
            row["result"] = generate(started, load, lambda: _restart(started))
            row["result"]["server_peak_kib"] = started.peak_kib
    except RuntimeError as error:
        row["result"] = {"failed": str(error)}
    plan.say(_summary(row))
    return row


def _restart(started: Running) -> None:
    started.stop(signal.SIGKILL)
    started.start_again()


def _summary(row: Row) -> str:
    result: Result = row["result"]
    shown = {name: value for name, value in row.items() if value and name not in ("server", "result")}
    settings = " ".join(f"{name} {value}" for name, value in shown.items())
    if "failed" in result:
        return f"{row['server']:>16}  {settings}: {result['failed']}"
    latency = result["latency_us"]
    return (
        f"{row['server']:>16}  {settings}: {result['deliveries_per_second'] / 1e6:.3f} M/s,"
        f" p50 {latency['p50'] / 1000:.2f} ms, p99 {latency['p99'] / 1000:.2f} ms,"
        f" CPU {result['server_cpu_percent']:.0f} % + generator {result['generator_cpu_percent']:.0f} %"
        + ("" if result["verified"] else f"  NOT VERIFIED {result['errors']}")
    )
