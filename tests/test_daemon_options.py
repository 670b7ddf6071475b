"""How the real daemon starts, and does not: each mistake is one line, on the terminal, whether it forks or not."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.daemon import PATIENCE, Daemon, TextClient, clean_environment, connected, twistd, wait_until

FREE = ["--port", "0"]
APPLICATION_ID = 0x63686174

#: Root without the right to write what it may only read, and to take ports below 1024.
UNPRIVILEGED = ["--bounding-set=-dac_override,-net_bind_service", "--inh-caps=-dac_override,-net_bind_service"]

foreground_and_daemon = pytest.mark.parametrize("daemonised", [False, True], ids=["foreground", "daemon"])


def start(
    folder: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    daemonised: bool = False,
    before: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run `twistd chat` until it ends or has become a daemon."""
    how = ["--pidfile=twistd.pid"] if daemonised else ["--nodaemon", "--pidfile="]
    return subprocess.run(
        [*before, twistd(), *how, "chat", *options],
        cwd=folder,
        env=clean_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def refusal(folder: Path, *options: str, daemonised: bool = False, **more: object) -> str:
    """The one line that says why it does not start."""
    ended = start(folder, *options, daemonised=daemonised, **more)  # type: ignore[arg-type]
    assert ended.returncode == 1, ended
    assert ended.stdout == ""
    assert re.fullmatch(r"chatd: .+\n", ended.stderr), ended.stderr
    assert not (folder / "twistd.pid").exists()
    return ended.stderr.removeprefix("chatd: ").rstrip()


@pytest.fixture
def unprivileged() -> list[str]:
    """What to put before a command, so that it has no rights but those of a user."""
    if os.geteuid():
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root may do everything, and there is no setpriv")
    return [setpriv, *UNPRIVILEGED]


# Values

# What is wrong on the command line, or in the environment, and what is said of it.
WRONG: list[tuple[tuple[str, ...], str]] = [
    (("--history", "x"), r"--history x: must be a whole number from 0 to 1000"),
    (("--history", "-1"), r"--history -1: must be a whole number from 0 to 1000"),
    (("--grace", "nan"), r"--grace nan: must be a number of seconds from 0 to 86400"),
    (("--session-days", "0"), r"--session-days 0: must be a number of days from 0\.01 to 36500"),
    (("--stall-timeout", "0"), r"--stall-timeout 0: must be a number of seconds from 1 to 86400"),
    (("--max-rooms", "0"), r"--max-rooms 0: must be a whole number from 1 to 1000000"),
    (("--max-clients", "many"), r"--max-clients many: must be a whole number from 1 to 10000000"),
    (("--rate", "5/0"), r"--rate 5/0: must be MESSAGES/SECONDS, such as 20/2, or off"),
    (("--retain", "never"), r"--retain never: must be a number of days from 0\.01 to 36500"),
    (("--log-format", "xml"), r"--log-format xml: must be text or json"),
    (("--motd", "x" * 4001), r"--motd: must have at most 4000 characters"),
    (("--motd", "@nowhere"), r"--motd @nowhere: No such file or directory"),
    (("--password-file", "nowhere"), r"--password-file nowhere: No such file or directory"),
    (("--db", ""), r"--db: must not be empty"),
    (("--colour", "red"), r"option --colour not recognized; see: twistd chat --help"),
    (("--history",), r"option --history requires argument; see: twistd chat --help"),
    (("--no-log-messages=yes",), r"option --no-log-messages must not have an argument; see: twistd chat --help"),
    (("5000",), r"'5000' is not an option; see: twistd chat --help"),
    (("--port", "70000"), r"--port 70000: a port is a number from 0 to 65535; give a number, or an endpoint .*"),
    (("--port", "http"), r"--port http: Unknown endpoint type: 'http'; give a number, or an endpoint .*"),
    (("--port", "stdio:"), r"--port stdio:: this kind of endpoint does not listen at once"),
    (("--port", "ssl:0:privateKey=no.pem"), r"--port .*no\.pem: No such file or directory; .*"),
    (("--port", "unix:nowhere/chat"), r"--port unix:nowhere/chat: No such file or directory"),
    (("--port", "tcp:0:interface=192.0.2.1"), r"--port .*: this machine has no such address"),
    (("CHATD_HISTROY=5",), r"the environment has CHATD_HISTROY, which is no option: known are CHATD_DB, .*"),
    (("CHATD_HISTORY=x",), r"CHATD_HISTORY=x: must be a whole number from 0 to 1000"),
    (("CHATD_NO_LOG_MESSAGES=maybe",), r"CHATD_NO_LOG_MESSAGES=maybe: must be yes or no"),
    (("CHATD_PORT=0 70000",), r"CHATD_PORT=70000: a port is a number from 0 to 65535; .*"),
    (("CHATD_PASSWORD_FILE=nowhere",), r"CHATD_PASSWORD_FILE=nowhere: No such file or directory"),
]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[tuple[str, ...]], str]]:
    """What is said of each of them. They are started several at a time, each with a database of its own."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        said = {words: pool.submit(_refused, tmp_path_factory.mktemp("wrong"), words) for words, _ in WRONG}
        yield lambda words: said[words].result()


def _refused(folder: Path, words: tuple[str, ...]) -> str:
    name, _, value = words[0].partition("=")
    if name.startswith("CHATD_"):
        return refusal(folder, environment={name: value})
    return refusal(folder, *words)


@pytest.mark.parametrize(("words", "reason"), WRONG, ids=[" ".join(words)[:30] for words, _ in WRONG])
def test_what_is_wrong_is_told_in_one_line(
    refusals: Callable[[tuple[str, ...]], str], words: tuple[str, ...], reason: str
) -> None:
    assert re.fullmatch(reason, refusals(words))


# Files


def test_a_password_file_that_will_not_do(tmp_path: Path) -> None:
    file = tmp_path / "password"
    assert (
        refusal(tmp_path, "--password-file", "password") == "--password-file password: No such file or directory"
    )
    file.write_text("\n")
    file.chmod(0o600)
    assert "must be the password, of 1 to 1024 characters" in refusal(tmp_path, "--password-file", "password")
    file.write_text("secret\n")
    file.chmod(0o604)
    assert "can be read by everybody on this machine: chmod o-r it" in refusal(
        tmp_path, "--password-file", "password"
    )


@foreground_and_daemon
def test_a_log_that_cannot_be_written(tmp_path: Path, daemonised: bool) -> None:
    (tmp_path / "folder").mkdir()
    said = refusal(tmp_path, *FREE, "--log", "folder", daemonised=daemonised)
    assert said == "the log folder cannot be written (Is a directory): name another place with --log"
    said = refusal(tmp_path, *FREE, "--log", "nowhere/log", daemonised=daemonised)
    assert (
        said == "the log nowhere/log cannot be written (No such file or directory): name another place with --log"
    )


# Databases


def _text(path: Path) -> None:
    path.write_text("This is not a database. " * 100)


def _folder(path: Path) -> None:
    path.mkdir()


def _other_program(path: Path) -> None:
    _database(path, application_id=5, version=1)


def _newer(path: Path) -> None:
    _database(path, application_id=APPLICATION_ID, version=999)


def _database(path: Path, application_id: int, version: int) -> None:
    db = sqlite3.connect(path)
    db.executescript(
        f"CREATE TABLE t (x); PRAGMA application_id = {application_id}; PRAGMA user_version = {version};"
    )
    db.close()


@pytest.mark.parametrize(
    ("make", "reason", "daemonised"),
    [
        (_text, "cannot be used as a database: file is not a database", False),
        (_folder, "is a folder: the database must be a file, such as ", True),
        (_other_program, "is the database of another program: choose another place", False),
        (_newer, "is from a newer chatd (version 999 of the tables, this one knows ", True),
    ],
)
def test_a_database_that_is_none_of_ours(
    tmp_path: Path, make: Callable[[Path], None], reason: str, daemonised: bool
) -> None:
    path = tmp_path / "chat.db"
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    assert refusal(tmp_path, *FREE, daemonised=daemonised).startswith(f"{path} {reason}")
    assert path.is_dir() or path.read_bytes() == before


@foreground_and_daemon
def test_a_database_in_a_folder_that_is_not_there(tmp_path: Path, daemonised: bool) -> None:
    said = refusal(tmp_path, *FREE, "--db", "nowhere/chat.db", daemonised=daemonised)
    assert said == f"{tmp_path}/nowhere is not a folder: make it, or choose another place for the database"


@foreground_and_daemon
def test_a_database_that_is_not_writable(tmp_path: Path, unprivileged: list[str], daemonised: bool) -> None:
    (tmp_path / "chat.db").touch(0o400)
    said = refusal(tmp_path, *FREE, before=unprivileged, daemonised=daemonised)
    assert said == f"{tmp_path}/chat.db is not writable: give chatd the file and its folder, or choose another"


@foreground_and_daemon
def test_a_database_in_a_folder_that_is_not_writable(
    tmp_path: Path, unprivileged: list[str], daemonised: bool
) -> None:
    (tmp_path / "locked").mkdir(0o500)
    said = refusal(tmp_path, *FREE, "--db", "locked/chat.db", before=unprivileged, daemonised=daemonised)
    assert (
        said == f"{tmp_path}/locked/chat.db is not writable: give chatd the file and its folder, or choose another"
    )


@foreground_and_daemon
def test_a_database_that_another_chatd_uses(tmp_path: Path, daemonised: bool) -> None:
    with Daemon(tmp_path) as daemon:
        said = refusal(tmp_path, *FREE, daemonised=daemonised)
        assert said == f"{tmp_path}/chat.db is in use by another chatd: stop it, or choose another file"
        assert daemon.text("ana").sync() == []


# Ports


@foreground_and_daemon
def test_a_port_that_is_in_use(tmp_path: Path, daemonised: bool) -> None:
    with Daemon(tmp_path) as daemon:
        port = str(daemon.port)
        said = refusal(tmp_path, "--port", port, "--db", "other.db", daemonised=daemonised)
        assert said == (
            f"--port {port}: the port is in use, by another chatd perhaps: stop that, or choose another port"
        )


def test_a_port_that_is_in_use_on_one_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        assert refusal(tmp_path, *FREE, "--port", place).startswith(f"--port {place}: the port is in use")


@foreground_and_daemon
def test_a_port_that_is_not_allowed(tmp_path: Path, unprivileged: list[str], daemonised: bool) -> None:
    free_from = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if int(free_from.read_text()) <= 1:
        pytest.skip("this machine gives everybody every port")
    said = refusal(tmp_path, "--port", "1", before=unprivileged, daemonised=daemonised)
    assert said == "--port 1: not allowed: ports below 1024 need more rights, choose one above"


# What is right


def test_a_flag_comes_before_the_environment_and_that_before_the_default(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        assert _history_shown(daemon, "ana") == 0
        ana = daemon.text("bo")
        ana.say("1\n2\n3")
        ana.sync()
        assert _history_shown(daemon, "cy") == 3
    environment = {"CHATD_HISTORY": "2", "CHATD_NO_LOG_MESSAGES": "yes", "CHATD_LOG": "other.log"}
    with Daemon(tmp_path, environment=environment) as daemon:
        assert _history_shown(daemon, "ana") == 2
    assert (tmp_path / "other.log").exists()
    with Daemon(tmp_path, "--history", "1", environment=environment) as daemon:
        assert _history_shown(daemon, "ana") == 1


def _history_shown(daemon: Daemon, name: str) -> int:
    """How many messages of the past somebody is shown who joins."""
    return len([line for line in daemon.text(name).sync() if line.startswith("#")])


def test_help_and_version(tmp_path: Path) -> None:
    text = start(tmp_path, "--help")
    assert text.returncode == 0
    for name in ("--port", "--db", "--log", "--password-file", "--motd", "--history", "--max-clients"):
        assert name in text.stdout
    version = start(tmp_path, "--version")
    assert (version.returncode, version.stderr) == (0, "")
    assert re.fullmatch(r"chatd [\d.]+\n", version.stdout)
    assert list(tmp_path.iterdir()) == []


class _Fork(NamedTuple):
    """A daemon that has forked away."""

    folder: Path
    pid: int
    port: int

    @property
    def gone(self) -> bool:
        """Whether the process has ended."""
        status = Path(f"/proc/{self.pid}/stat")
        # Where nobody waits for orphans, a zombie stays.
        return not status.exists() or ") Z " in status.read_text()

    def text(self, name: str) -> TextClient:
        """A person in the lobby."""
        return TextClient(connected(("127.0.0.1", self.port))).enter(name)


def _forked(folder: Path) -> _Fork:
    started = start(folder, *FREE, daemonised=True)
    assert (started.returncode, started.stdout, started.stderr) == (0, "", "")
    log = folder / "twistd.log"
    wait_until(lambda: log.exists() and "listens on" in log.read_text(), "it listens")
    found = re.search(r"listens on port (\d+)", log.read_text())
    assert found
    return _Fork(folder, int((folder / "twistd.pid").read_text()), int(found[1]))


def test_as_a_daemon_it_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    fork = _forked(tmp_path)
    try:
        ana, bo = fork.text("ana"), fork.text("bo")
        ana.say("hola")
        assert bo.until("ana: ")[-1] == "ana: hola"
        # A search runs in a thread: one that was made after the fork.
        bo.say("/search hola")
        bo.until(r"\* 1 found\.")
        os.kill(fork.pid, signal.SIGHUP)
        ana.say("adios")
        bo.until("ana: adios")
        os.kill(fork.pid, signal.SIGTERM)
        assert bo.until(r"\* Goodbye: ")
        bo.close()
        ana.close()
        wait_until(lambda: fork.gone, "it ends")
    finally:
        if not fork.gone:
            os.kill(fork.pid, signal.SIGKILL)
    assert not (tmp_path / "twistd.pid").exists()
    assert "Traceback" not in (tmp_path / "twistd.log").read_text()
    assert (tmp_path / "chat.db").stat().st_mode & 0o777 == 0o600
    with Daemon(tmp_path) as daemon:
        assert _history_shown(daemon, "cy") == 2
