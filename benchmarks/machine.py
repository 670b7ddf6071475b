"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import time
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from benchmarks.build import BUILD


def describe() -> str:
    """One paragraph: processor, kernel, versions, and how long a flush of this disk takes."""
    return (
        f"Measured on {datetime.now(timezone.utc):%Y-%m-%d}: {os.cpu_count()} cores of {_processor()}, "
        f"Linux {platform.release()} (congestion control {_congestion_control()}), "
        f"Python {platform.python_version()}, Twisted {_version('twisted')}, msgspec {_version('msgspec')}. "
        f"A flush of this disk takes {flush_ms():.2f} ms (median of 100)."
    )


def flush_ms() -> float:
    """The median time of an fdatasync after 4 KiB were appended to a file."""
    path = BUILD / "flush"
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(100):
            file.write(os.urandom(4096))
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - begin) * 1000)
    path.unlink()
    return median(times)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _congestion_control() -> str:
    return Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
