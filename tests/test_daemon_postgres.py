"""The real daemon on PostgreSQL: how it starts, what it says when it cannot, and that no password is shown."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.daemon import PATIENCE, Daemon, clean_environment, twistd, wait_until
from tests.postgres import new_database, server

PASSWORD = "s3cr3t"


def url(database: str, **changes: str) -> str:
    """The URL of a database as it is, but for these parts."""
    parts = {key: str(value) for key, value in conninfo_to_dict(database).items()} | changes
    return "postgresql://?" + "&".join(f"{key}={_quoted(value)}" for key, value in parts.items())


def _quoted(value: str) -> str:
    return "".join(char if char.isalnum() else f"%{ord(char):02X}" for char in value)


@pytest.fixture
def database() -> Iterator[str]:
    with new_database() as made:
        yield made


def refusal(folder: Path, db: str, path: str = "") -> str:
    """What it says in one line, when it does not start on this database. `path` is where Python looks first."""
    environment = clean_environment({"CHATD_DB": db})
    if path:
        environment["PYTHONPATH"] = f"{path}:{environment.get('PYTHONPATH', '')}"
    ended = subprocess.run(
        [twistd(), "--nodaemon", "--pidfile=", "chat", "--port", "0"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert re.fullmatch(r"chatd: .+\n", ended.stderr), ended.stderr
    assert not list(folder.glob("*.log"))
    return ended.stderr


@contextmanager
def asking_for_a_password() -> Iterator[int]:
    """A server of PostgreSQL's protocol that asks for a password, and takes none. Yields its port."""
    said = b'SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user "ana"\0\0'
    answers = [b"R" + struct.pack("!ii", 8, 3), b"E" + struct.pack("!i", len(said) + 4) + said]

    def serve() -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            with link:
                begin = link.recv(4096)
                while begin[4:8] in (struct.pack("!i", 80877103), struct.pack("!i", 80877104)):
                    link.sendall(b"N")  # no encryption
                    begin = link.recv(4096)
                link.sendall(answers[0])
                passwords.append(link.recv(4096))
                link.sendall(answers[1])

    passwords: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert all(PASSWORD.encode() in one for one in passwords)
    assert passwords


def test_a_wrong_password(tmp_path: Path) -> None:
    with asking_for_a_password() as port:
        said = refusal(tmp_path, f"postgresql://ana:{PASSWORD}@127.0.0.1:{port}/chat")
    assert 'password authentication failed for user "ana"' in said
    assert PASSWORD not in said


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        said = refusal(tmp_path, f"postgresql://ana:{PASSWORD}@127.0.0.1:{unused.getsockname()[1]}/chat")
    assert "refused" in said
    assert PASSWORD not in said


def test_no_such_database(tmp_path: Path) -> None:
    said = refusal(tmp_path, url(server(), dbname="chatd_test_nowhere", password=PASSWORD))
    assert 'database "chatd_test_nowhere" does not exist' in said
    assert PASSWORD not in said


def test_no_rights(tmp_path: Path, database: str) -> None:
    role = "chatd_test_nobody"
    with psycopg.connect(server(), autocommit=True) as link:
        link.execute(f"DROP ROLE IF EXISTS {role}")
        link.execute(f"CREATE ROLE {role} LOGIN")
        try:
            (schema,) = re.findall(r"chatd_test_\w+", str(conninfo_to_dict(database)["options"]))
            link.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
            assert f"permission denied for schema {schema}" in refusal(tmp_path, url(database, user=role))
            link.execute(f"REVOKE USAGE ON SCHEMA {schema} FROM {role}")
        finally:
            link.execute(f"DROP OWNED BY {role}")
            link.execute(f"DROP ROLE {role}")


def test_a_newer_chatd_was_there(tmp_path: Path, database: str) -> None:
    with Daemon(tmp_path, "--db", database):
        pass
    with psycopg.connect(database) as link:
        link.execute("UPDATE meta SET value = '99' WHERE name = 'version'")
    for log in tmp_path.glob("*.log"):
        log.unlink()
    assert "from a newer chatd (version 99 of the tables" in refusal(tmp_path, database)


def test_without_the_library(tmp_path: Path, database: str) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "psycopg.py").write_text('raise ImportError("no pq wrapper available.\\nTried:\\n- c")')
    said = refusal(tmp_path, database, path=str(tmp_path / "hidden"))
    assert said.endswith("(no pq wrapper available. Tried: - c): pip install 'chatd[postgres]'\n")


@pytest.mark.parametrize(
    "db",
    [
        "postgresql://ana:{}/more@127.0.0.1:5432/chat",
        "postgresql://ana:12/{}@127.0.0.1:5432/chat",
        "postgresql://ana:x@{}@127.0.0.1:5432/chat",
        "postgresql://ana:{}%zz@127.0.0.1:5432/chat",
        "postgresql://ana@127.0.0.1:{}/chat",
        "postgresql://ana@127.0.0.1/chat?pasword={}",
        "postgress://ana:{}@127.0.0.1/chat",
        "mysql://ana:{}@127.0.0.1/chat",
    ],
)
def test_a_url_that_is_none_is_not_shown(tmp_path: Path, db: str) -> None:
    said = refusal(tmp_path, db.format(PASSWORD))
    assert PASSWORD not in said
    assert "postgresql://" in said


def test_a_password_is_not_shown_while_it_runs(tmp_path: Path, database: str) -> None:
    """Nor when all connections to the database break, and new ones are refused for a while."""
    environment = {"CHATD_DB": url(database, password=PASSWORD, application_name="chatd_test_shown")}
    kill = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'chatd_test_shown'"
    )
    with Daemon(tmp_path, environment=environment) as daemon, psycopg.connect(server(), autocommit=True) as link:
        ana = daemon.text("ana")
        command = Path(f"/proc/{daemon.process.pid}/cmdline").read_bytes()
        assert PASSWORD.encode() not in command
        for number in range(3):
            killed = link.execute(kill).fetchone()
            assert killed is not None
            assert killed[0] > 0
            ana.say(f"{number}")
            count = number + 1
            wait_until(lambda count=count: f"seq={count} " in daemon.log, "it is kept")  # type: ignore[misc]
        assert PASSWORD not in daemon.output
        assert PASSWORD not in daemon.log
    assert PASSWORD not in daemon.output
