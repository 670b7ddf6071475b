"""Compiles the C sources, where one is newer than what was made of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"

_TARGETS = {
    "loadgen": (["loadgen.c", "dialects.c", "measure.c"], []),
    "bare_epoll": (["bare_epoll.c"], []),
    "threads": (["threads.c"], ["-pthread"]),
    "slow_disk.so": (["slow_disk.c"], ["-shared", "-fPIC", "-ldl"]),
    "nodelay.so": (["nodelay.c"], ["-shared", "-fPIC", "-ldl"]),
}


def build() -> None:
    """Raises SystemExit where there is no C compiler, and CalledProcessError where it finds a mistake."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        raise SystemExit("benchmarks: a C compiler is needed (gcc or cc)")
    BUILD.mkdir(exist_ok=True)
    for name, (sources, options) in _TARGETS.items():
        _compile(compiler, BUILD / name, [HERE / source for source in sources], options)


def _compile(compiler: str, target: Path, sources: list[Path], options: list[str]) -> None:
    newest = max(file.stat().st_mtime for file in [*sources, HERE / "loadgen.h"])
    if target.exists() and target.stat().st_mtime > newest:
        return
    command = [compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-o", str(target), *map(str, sources), *options]
    subprocess.run(command, check=True)
