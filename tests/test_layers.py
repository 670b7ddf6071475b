"""The law of layers, as the docstring of `chatd` states it: who may import whom."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import chatd

ROOT = Path(chatd.__file__).parent
#: The parts in the order of the docstring, from the bottom up; a folder is one part.
PARTS: list[str] = re.findall(r"^    ([a-z]+)/? +\S", chatd.__doc__ or "", re.MULTILINE)
CORE = PARTS[: PARTS.index("hub") + 1]
#: What the doors are made of, and the doors.
DOORS = ["pipes", "outbox", "member", "jsonlines", "text", "framing", "pacing", "server", "web"]
#: What the core may have of Twisted: promises of results, time, threads, and the log.
TOOLS = {
    "twisted.internet.defer",
    "twisted.internet.interfaces",
    "twisted.internet.task",
    "twisted.internet.threads",
    "twisted.logger",
    "twisted.python.failure",
    "twisted.python.threadpool",
    "twisted.application.service",
}
REACTOR = re.compile(r"twisted\.internet\.(reactor|\w*reactor(\.|$))")
MODULES = {
    ".".join(["chatd", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}


def part(module: str) -> str:
    """Which part of chatd a module belongs to; "" for the package itself."""
    return [*module.split("."), ""][1]


def imports(module: str) -> set[str]:
    """The modules that a module imports when it runs, anywhere in it."""
    return set(_imported(ast.parse(MODULES[module].read_text())))


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        assert not node.level, "chatd writes its imports whole"
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            yield whole if whole in MODULES or REACTOR.match(whole) else str(node.module)
    for child in ast.iter_child_nodes(node):
        yield from _imported(child)


def parts_of_chatd(module: str) -> set[str]:
    """The other parts of chatd that a module imports."""
    return {part(name) for name in imports(module) if name.startswith("chatd.")} - {part(module)}


def modules_of(*parts: str) -> list[str]:
    return [module for module in MODULES if part(module) in parts]


def test_every_module_is_in_the_map_and_nothing_else() -> None:
    assert sorted(PARTS) == sorted({part(module) for module in MODULES} - {""})
    assert len(PARTS) == len(set(PARTS))
    folders = re.findall(r"^    ([a-z]+)/ ", chatd.__doc__ or "", re.MULTILINE)
    assert sorted(folders) == sorted(path.name for path in ROOT.iterdir() if (path / "__init__.py").exists())
    assert set(DOORS) < set(PARTS)


@pytest.mark.parametrize("module", [module for module in MODULES if part(module)])
def test_each_part_stands_on_those_before_it(module: str) -> None:
    below = PARTS[: PARTS.index(part(module))]
    assert parts_of_chatd(module) <= set(below)


@pytest.mark.parametrize("module", modules_of(*CORE))
def test_the_core_knows_no_door_no_store_and_no_transport(module: str) -> None:
    names = imports(module)
    assert {name for name in names if name.startswith("twisted")} <= TOOLS
    assert not names & {"sqlite3", "psycopg", "socket", "ssl", "asyncio"}
    assert parts_of_chatd(module) <= set(CORE)


@pytest.mark.parametrize("module", modules_of(*DOORS))
def test_doors_know_no_store(module: str) -> None:
    parts = parts_of_chatd(module)
    assert not parts & {"stores", "tap", "service", "settings", "maintenance", "client"}
    assert not imports(module) & {"sqlite3", "psycopg"}


def test_dialects_do_not_know_each_other() -> None:
    assert "jsonlines" not in parts_of_chatd("chatd.text")
    assert "text" not in parts_of_chatd("chatd.jsonlines")
    assert not [module for module in modules_of("web") if "text" in parts_of_chatd(module)]


@pytest.mark.parametrize("module", modules_of("stores"))
def test_stores_are_blocking_code_without_twisted(module: str) -> None:
    assert not {name for name in imports(module) if name.split(".")[0] in {"twisted", "asyncio"}}
    assert parts_of_chatd(module) <= {"errors", "events", "interfaces", "names"}


def test_only_programs_open_stores() -> None:
    assert {part(module) for module in MODULES if "stores" in parts_of_chatd(module)} == {"move", "tap"}


@pytest.mark.parametrize("module", modules_of("client"))
def test_the_client_shares_the_formats_and_nothing_else(module: str) -> None:
    assert parts_of_chatd(module) <= {"", "errors", "framing", "names", "wire"}


def test_the_reactor_is_imported_where_programs_begin() -> None:
    importers = {module for module in MODULES if any(map(REACTOR.match, imports(module)))}
    assert importers == {"chatd.tap", "chatd.client.__main__"}


def loaded(*modules: str) -> set[str]:
    """All that is loaded in a new Python that imports these modules."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_what_is_loaded_with_the_core() -> None:
    names = loaded(*modules_of(*CORE))
    assert {module for module in names if module.startswith("chatd.")} == set(modules_of(*CORE))
    assert not names & {"twisted.internet.reactor", "twisted.internet.tcp", "sqlite3", "psycopg"}


def test_nobody_loads_the_reactor_by_the_way() -> None:
    names = loaded(*(module for module in MODULES if module not in {"chatd.tap", "chatd.client.__main__"}))
    assert "twisted.internet.reactor" not in names


def test_what_is_loaded_with_the_stores() -> None:
    assert not {name for name in loaded(*modules_of("stores")) if name.split(".")[0] == "twisted"}
