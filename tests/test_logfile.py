"""The log's file: rotation, re-opening, and what happens where it cannot be written."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from chatd.logfile import RETRY_SECONDS, LogFile, check


def notice(lines: int) -> bytes:
    return b"lost %d\n" % lines


def log_file(path: Path, clock: Clock | None = None, max_bytes: int = 1_000, keep: int = 3) -> LogFile:
    return LogFile(str(path), notice, max_bytes=max_bytes, keep=keep, clock=(clock or Clock()).seconds)


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What the ordinary log has said about the file since the test began."""
    said: list[str] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == "chatd.logfile.LogFile":
            said.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]  # any function of an event is one
    yield said
    globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]


@contextmanager
def full_disk_at(size: int) -> Iterator[None]:
    """Let the kernel refuse every byte of a file behind its first `size`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_lines_are_in_the_file_at_once_and_behind_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old\n")
    file = log_file(path)
    file.write(b"one\n")
    assert path.read_bytes() == b"old\none\n"
    file.write(b"two\nthree\n")
    assert path.read_bytes() == b"old\none\ntwo\nthree\n"
    file.close()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_mode_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        file = log_file(tmp_path / "log")
        file.write(b"x\n")
        file.close()
    finally:
        os.umask(before)
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o640


def test_the_mode_of_a_file_that_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch(0o600)
    file = log_file(path)
    file.write(b"x\n")
    file.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_rotation(tmp_path: Path) -> None:
    file = log_file(tmp_path / "log", max_bytes=10, keep=3)
    for number in range(9):
        file.write(b"%03d\n" % number)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "log": b"008\n",
        "log.1": b"006\n007\n",
        "log.2": b"004\n005\n",
        "log.3": b"002\n003\n",
    }
    file.close()


def test_a_batch_larger_than_a_file_is_written_whole(tmp_path: Path) -> None:
    file = log_file(tmp_path / "log", max_bytes=10)
    file.write(b"a long line indeed\n")
    file.write(b"another one\n")
    assert (tmp_path / "log").read_bytes() == b"another one\n"
    assert (tmp_path / "log.1").read_bytes() == b"a long line indeed\n"
    file.close()


def test_a_file_that_something_else_has_cut_is_not_rotated_early(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = log_file(path, max_bytes=10)
    file.write(b"12345678\n")
    os.truncate(path, 0)
    file.write(b"abc\n")
    assert path.read_bytes() == b"abc\n"
    assert not (tmp_path / "log.1").exists()
    file.close()


def test_a_rotation_that_fails_lets_the_file_grow(tmp_path: Path, complaints: list[str]) -> None:
    path = tmp_path / "log"
    (tmp_path / "log.1" / "in the way").mkdir(parents=True)
    file = log_file(path, max_bytes=10, keep=1)
    for number in range(6):
        file.write(b"%03d\n" % number)
    assert path.read_bytes() == b"000\n001\n002\n003\n004\n005\n"
    assert len(complaints) == 2, "once each 10 bytes, not once a line"
    assert "cannot be rotated (Is a directory)" in complaints[0]
    file.close()


def test_reopen_follows_the_path(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = log_file(path)
    file.write(b"one\n")
    path.rename(tmp_path / "moved")
    file.write(b"two\n")
    file.reopen()
    file.write(b"three\n")
    assert (tmp_path / "moved").read_bytes() == b"one\ntwo\n"
    assert path.read_bytes() == b"three\n"
    file.close()


def test_full_disk(tmp_path: Path, complaints: list[str]) -> None:
    """/dev/full refuses every write as a full disk does."""
    path, clock = tmp_path / "log", Clock()
    path.symlink_to("/dev/full")
    file = log_file(path, clock)
    for _ in range(5):
        file.write(b"one\ntwo\n")
    clock.advance(RETRY_SECONDS)
    file.write(b"three\n")
    assert complaints == [
        f"The log {path} cannot be written (No space left on device). The chat goes on without it."
    ]
    path.unlink()
    file.write(b"too early\n")
    assert not path.exists()
    clock.advance(RETRY_SECONDS)
    file.write(b"back\n")
    file.write(b"again\n")
    assert path.read_bytes() == b"lost 12\nback\nagain\n"
    assert complaints[1:] == [f"The log {path} can be written again; 12 of its lines are lost."]
    file.close()


def test_a_disk_that_is_full_in_the_middle_of_a_line(tmp_path: Path, complaints: list[str]) -> None:
    path, clock = tmp_path / "log", Clock()
    file = log_file(path, clock)
    file.write(b"before\n")
    with full_disk_at(20):
        file.write(b"one\ntwo\nthree\nfour\n")
    assert path.read_bytes() == b"before\none\ntwo\n", "the torn line is gone, the whole ones stay"
    assert complaints == [f"The log {path} cannot be written (File too large). The chat goes on without it."]
    clock.advance(RETRY_SECONDS)
    with full_disk_at(20):
        file.write(b"five\n")
    assert path.read_bytes() == b"before\none\ntwo\n"
    clock.advance(RETRY_SECONDS)
    file.write(b"six\n")
    assert path.read_bytes() == b"before\none\ntwo\nlost 3\nsix\n"
    file.close()


def test_a_folder_that_is_removed(tmp_path: Path, complaints: list[str]) -> None:
    folder, clock = tmp_path / "logs", Clock()
    folder.mkdir()
    file = log_file(folder / "log", clock)
    file.write(b"one\n")
    (folder / "log").unlink()
    folder.rmdir()
    file.reopen()
    file.write(b"two\n")
    file.reopen()
    file.write(b"three\n")
    folder.mkdir()
    file.reopen()
    file.write(b"four\n")
    assert (folder / "log").read_bytes() == b"lost 2\nfour\n"
    assert [line.partition(" (")[2] for line in complaints] == [
        "No such file or directory). The chat goes on without it.",
        "",
    ]
    file.close()


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path, complaints: list[str]) -> None:
    path, clock = tmp_path / "log", Clock()
    os.mkfifo(path)
    file = log_file(path, clock)
    file.write(b"one\n")
    assert "No such device or address" in complaints[0]
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    clock.advance(RETRY_SECONDS)
    file.write(b"two\n")
    assert os.read(reader, 100) == b"lost 1\ntwo\n"
    os.close(reader)
    file.close()


def test_check(tmp_path: Path) -> None:
    check(str(tmp_path / "log"))
    assert (tmp_path / "log").read_bytes() == b""
    (tmp_path / "log").write_bytes(b"kept\n")
    check(str(tmp_path / "log"))
    assert (tmp_path / "log").read_bytes() == b"kept\n"


@pytest.mark.parametrize(
    ("path", "reason"),
    [("missing/log", "No such file or directory"), (".", "Is a directory"), ("file/log", "Not a directory")],
)
def test_check_says_what_is_wrong_in_one_line(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=reason) as caught:
        check(str(tmp_path / path))
    assert (
        str(caught.value)
        == f"the log {tmp_path / path} cannot be written ({reason}): name another place with --log"
    )
