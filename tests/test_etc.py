"""What is in etc/: checked by the tools that read it, and run as far as a test can."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater

from chatd.settings import PARSERS

ROOT = Path(__file__).resolve().parent.parent
ETC = ROOT / "etc"
UNIT = (ETC / "chatd.service").read_text()
CLOUD_INIT = (ETC / "cloud-init.yaml").read_text()

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
needs_cloud_init = pytest.mark.skipif(not shutil.which("cloud-init"), reason="needs cloud-init")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def settings_in(text: str) -> dict[str, str]:
    """Return the CHATD_ variables that a unit or a file of variables sets, commented out or not."""
    return dict(re.findall(r"^(?:Environment=|#)?(CHATD_\w+)=(.*)$", text, re.MULTILINE))


def written_file(path: str) -> str:
    """Return what cloud-init writes to `path`."""
    block = re.search(
        rf"  - path: {re.escape(path)}\n(?:    permissions: .*\n)?    content: \|\n((?:      .*\n|\n)+)",
        CLOUD_INIT,
    )
    assert block
    return textwrap.dedent(block[1]).rstrip("\n") + "\n"


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a program that is there."""
    assert "ExecStart=/opt/chatd/bin/twistd " in UNIT
    path = tmp_path / "chatd.service"
    path.write_text(UNIT.replace("/opt/chatd/bin/twistd", sys.executable))
    return path


@needs_systemd
def test_systemd_has_nothing_to_say_against_the_unit(unit: Path) -> None:
    verified = run("systemd-analyze", "verify", "--man=no", str(unit))
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


@needs_systemd
def test_systemd_finds_a_mistake_in_the_unit(unit: Path) -> None:
    unit.write_text(UNIT.replace("ProtectHome=", "ProtectHouse="))
    assert "ProtectHouse" in run("systemd-analyze", "verify", "--man=no", str(unit)).stderr


@needs_systemd
def test_the_unit_is_hardened(unit: Path) -> None:
    """systemd counts the exposure from 0 to 100 here; a service that says nothing about it has 96."""
    checked = run("systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit))
    assert checked.returncode == 0, checked.stdout


@needs_cloud_init
def test_cloud_init_accepts_its_file() -> None:
    checked = run("cloud-init", "schema", "--config-file", str(ETC / "cloud-init.yaml"))
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.startswith("Valid")


@needs_cloud_init
def test_cloud_init_finds_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "cloud-init.yaml"
    path.write_text(CLOUD_INIT.replace("package_update: true", "package_update: perhaps"))
    checked = run("cloud-init", "schema", "--config-file", str(path))
    assert checked.returncode == 1
    assert "package_update" in checked.stdout + checked.stderr


def test_cloud_init_writes_the_same_unit() -> None:
    assert written_file("/etc/systemd/system/chatd.service") == UNIT


def test_the_installer_is_a_shell_script_that_wants_its_source_set(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text(written_file("/etc/chatd/source"))
    script = tmp_path / "chatd-install"
    script.write_text(written_file("/usr/local/sbin/chatd-install").replace("/etc/chatd/source", str(source)))
    assert run("sh", "-n", str(script)).returncode == 0
    ran = run("sh", str(script))
    assert (ran.returncode, ran.stderr) == (1, f"Set CHATD_SOURCE in {source} first.\n")


@pytest.mark.parametrize("text", [UNIT, written_file("/etc/chatd/chatd.env")])
def test_what_is_set_are_options(text: str) -> None:
    options = settings_in(text)
    assert options
    known = {option.replace("-", "_").upper() for option in [*PARSERS, "port"]}
    assert {name.removeprefix("CHATD_") for name in options} <= known


async def test_the_command_of_the_unit_tells_systemd_and_obeys_it(tmp_path: Path) -> None:
    """What the unit starts says when it is ready, opens its log anew on reload, and stops."""
    for folder in ("/var/lib/chatd", "/var/log/chatd"):
        (tmp_path / folder[1:]).mkdir(parents=True)
    unit = UNIT.replace("/opt/chatd/bin", str(Path(sys.executable).parent)).replace("=/var", f"={tmp_path}/var")
    command, reload = (re.findall(rf"^Exec{what}=(.*)$", unit, re.MULTILINE)[0] for what in ("Start", "Reload"))
    log = tmp_path / "var/log/chatd/chat_server.log"
    with notify_socket(tmp_path / "notify") as systemd:
        chat = subprocess.Popen(
            shlex.split(command),
            cwd=tmp_path / "var/lib/chatd",
            env={
                **os.environ,
                **settings_in(unit),
                "PYTHONPATH": str(ROOT),
                "CHATD_PORT": f"unix:{tmp_path}/chat.sock",
                "NOTIFY_SOCKET": str(tmp_path / "notify"),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            assert systemd.recv(100) == b"READY=1"
            log.rename(log.with_suffix(".1"))
            subprocess.run(["sh", "-c", reload], env={**os.environ, "MAINPID": str(chat.pid)}, check=True)
            await until(log.exists)
            chat.terminate()
            assert systemd.recv(100) == b"STOPPING=1"
            output, _ = chat.communicate(timeout=20)
        finally:
            chat.kill()
            chat.wait()
    # Twisted ends by the signal that stopped it, which systemd takes for a clean end.
    assert chat.returncode == -signal.SIGTERM, output
    assert (tmp_path / "var/lib/chatd/chat.db").exists()
    assert " stopped " in log.read_text()
    assert " started " in log.with_suffix(".1").read_text()


@contextmanager
def notify_socket(path: Path) -> Iterator[socket.socket]:
    """Listen as systemd does where a service of Type=notify is to report."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(path))
        bound.settimeout(30)
        yield bound


async def until(condition: Callable[[], bool]) -> None:
    """Wait up to 20 s for what another process does."""
    for _ in range(2_000):
        if condition():
            return
        await deferLater(reactor, 0.01)
    raise TimeoutError
