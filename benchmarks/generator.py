"""Runs the load generator against a server, and reads what it found."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.build import BUILD
from benchmarks.servers import Running

#: What the generator prints; its fields are named in `loadgen.c`.
Result = dict[str, Any]


@dataclass(frozen=True)
class Load:
    """What the generator is to do: a closed loop (`in_flight`), an open one (`rate`), or neither."""

    listeners: int
    in_flight: int = 0
    rate: float = 0
    rooms: int = 1
    warm_up: float = 1
    seconds: float = 3
    count: int = 0
    slow: int = 0
    stopped: int = 0
    storm: int = 0
    comeback: bool = False
    pings: float = 0
    drain: float = 10
    timeout: int = 120

    def options(self) -> list[str]:
        values = {name.replace("_", "-"): value for name, value in vars(self).items() if value}
        flags = ["--comeback"] if values.pop("comeback", False) else []
        return flags + [word for name, value in values.items() for word in (f"--{name}", str(value))]


def generate(running: Running, load: Load, restart: Callable[[], None] | None = None) -> Result:
    """One run. `restart` is called when the generator is ready for the server to go and come back."""
    server = running.server
    command = [
        str(BUILD / "loadgen"),
        *("--port", str(running.port), "--pid", str(running.pid), "--dialect", server.dialect),
        *("--joins-at-once", str(server.joins_at_once)),
        *load.options(),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            found: Result = json.loads(line)
            if found.get("ready") and restart:
                restart()
            else:
                return found
    raise RuntimeError(f"the load generator ended with {process.returncode}: {' '.join(load.options())}")


@dataclass(frozen=True)
class Spread:
    """A median and the lowest and highest of several runs."""

    middle: float
    low: float
    high: float


def spread(values: Iterable[float]) -> Spread:
    known = list(values)
    return Spread(median(known), min(known), max(known)) if known else Spread(0, 0, 0)
