"""Runs the benchmarks: `python -m benchmarks.run`, or `make bench`. Results are kept in benchmarks/build/."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from benchmarks import machine, report, servers
from benchmarks.build import BUILD, build
from benchmarks.scenarios import SCENARIOS, Plan

RESULTS = BUILD / "results.json"


def main() -> None:
    """Measures, prints, and writes docs/performance.md."""
    options = _options()
    build()
    plan = _plan(options)
    results: dict[str, list[dict[str, Any]]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in options.only or SCENARIOS:
        print(f"{name}: {SCENARIOS[name].__doc__}", flush=True)
        results[name] = SCENARIOS[name](plan)
        RESULTS.write_text(json.dumps(results))
        print(f"\n{report.render(name, results[name])}\n", flush=True)
        if not options.no_docs:
            report.publish(name, report.render(name, results[name]))
    if not options.no_docs:
        report.publish("machine", machine.describe())
        report.plot(results.get("table", []))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    names = [server.name for server in servers.ALL]
    parser.add_argument("--only", action="append", choices=list(SCENARIOS), help="this scenario; may be repeated")
    parser.add_argument("--server", action="append", choices=names, help="this server; may be repeated")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each kind (default 5)")
    parser.add_argument("--seconds", type=float, default=4, help="measured in each run (default 4)")
    parser.add_argument("--quick", action="store_true", help="one round of one second, a tenth of the clients")
    parser.add_argument("--no-docs", action="store_true", help="leave docs/ alone")
    return parser.parse_args()


def _plan(options: argparse.Namespace) -> Plan:
    wanted = [server for server in servers.ALL if server.name in (options.server or [server.name])]
    for server in wanted:
        if not server.installed:
            print(f"{server.title} is not installed: left out")
    installed = [server for server in wanted if server.installed]
    if options.quick:
        return Plan(installed, rounds=1, seconds=1, scale=0.1, say=_say)
    return Plan(installed, rounds=options.rounds, seconds=options.seconds, say=_say)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    main()
