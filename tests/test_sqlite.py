"""What only the SQLite store has: a file, its lock, its disk."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import random
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chatd.interfaces import Draft, Kept, OutcomeUnknown, StoreError, StoreUnusable
from chatd.stores import open_store
from chatd.stores.schemas import schema
from chatd.stores.sqlite import SqliteStore
from tests.frozen import check_version_1

FROZEN = Path(__file__).parent / "sqlite-frozen-1.sql"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(str(path))
    store.open()
    yield store
    store.close()


def drafts(first: int, count: int, text: str = "hola") -> list[Draft]:
    return [Draft("lobby", 1, f"{n}", 1000, "ana", f"{text} {n}") for n in range(first, first + count)]


def texts(store: SqliteStore) -> list[str]:
    messages = store.page("lobby", 0, None, 1 << 30, 1 << 40)
    assert [message.seq for message in messages] == list(range(1, len(messages) + 1))
    return [message.text for message in messages]


def said(count: int, text: str = "hola") -> list[str]:
    return [f"{text} {n}" for n in range(count)]


def refusal(path: Path | str) -> str:
    """What `open` says that is wrong, and that it says it in one line and leaves nothing open."""
    with pytest.raises(StoreUnusable) as caught:
        open_store(str(path)).open()
    text = str(caught.value)
    assert "\n" not in text
    return text


def child(code: str, *args: object) -> subprocess.Popen[str]:
    """Another Python with this code and these arguments."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert err == ""
    assert process.returncode == 0
    return out


def test_all_files_are_for_their_owner_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqliteStore(str(path))
        store.open()
        store.append(drafts(0, 1), ())
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("chat.db", "chat.db-wal", "chat.db-shm", "chat.db.lock"), 0o600)
    # All is in one file afterwards: who copies that has everything.
    assert {file.name for file in path.parent.iterdir()} == {"chat.db", "chat.db.lock"}


def test_one_chatd_a_file(store: SqliteStore, path: Path) -> None:
    (path.parent / "link.db").symlink_to(path)
    for name in (path, path.parent / "link.db"):
        assert "in use by another chatd" in refusal(name)
    code = """
        import sys
        from chatd.stores import open_store
        try:
            open_store(sys.argv[1]).open()
        except Exception as error:
            print(error)
    """
    assert "in use by another chatd" in answer(child(code, path))
    store.append(drafts(0, 1), ())
    store.close()
    assert answer(child(code, path)) == ""


def test_who_is_refused_does_not_drop_the_locks_of_who_has_it(store: SqliteStore, path: Path) -> None:
    def locks() -> int:
        inodes = [f":{file.stat().st_ino} " for file in path.parent.iterdir()]
        return sum(any(inode in line for inode in inodes) for line in Path("/proc/locks").read_text().splitlines())

    store.append(drafts(0, 1), ())
    held = locks()
    assert held > 1
    refusal(path)
    assert locks() == held


def test_what_is_no_chat_is_refused_in_one_line_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("This is no database, but it is long enough for one. " * 100)
    os.mkfifo(tmp_path / "pipe")
    with sqlite3.connect(tmp_path / "foreign") as db:
        db.execute("CREATE TABLE bookmarks (url)")
    db.close()
    foreign = (tmp_path / "foreign").read_bytes()
    assert "is a folder" in refusal(tmp_path / "folder")
    assert f"{tmp_path}/nowhere is not a folder" in refusal(tmp_path / "nowhere" / "chat.db")
    assert f"{tmp_path}/text is not a folder" in refusal(tmp_path / "text" / "chat.db")
    assert "file is not a database" in refusal(tmp_path / "text")
    assert "another program" in refusal(tmp_path / "foreign")
    assert "is not a file" in refusal(tmp_path / "pipe")
    assert (tmp_path / "foreign").read_bytes() == foreign
    assert (tmp_path / "text").read_text().startswith("This is no database")


def test_a_newer_database_is_refused(path: Path) -> None:
    store = SqliteStore(str(path))
    store.open()
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    text = refusal(path)
    assert "from a newer chatd" in text
    assert "99" in text


def test_a_damaged_database_is_refused(path: Path) -> None:
    store = SqliteStore(str(path))
    store.open()
    store.append(drafts(0, 5000), ())
    store.close()
    with path.open("r+b") as file:
        file.seek(200)
        file.write(b"\xff" * 200_000)
    assert "cannot be used as a database" in refusal(path)


OPEN_AS_NOBODY = """
    import os, sys
    from chatd.stores import open_store
    if os.getuid() == 0:  # who may write everywhere
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    try:
        open_store(sys.argv[1]).open()
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize(("file", "folder"), [(0o444, 0o777), (0o666, 0o555), (0o400, 0o777), (0o666, 0o000)])
def test_what_may_not_be_written_is_refused(file: int, folder: int) -> None:
    # pytest's own folder is closed to others.
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "chat.db"
        store = SqliteStore(str(path))
        store.open()
        store.close()
        Path(f"{path}.lock").chmod(0o666)
        path.chmod(file)
        path.parent.chmod(folder)
        try:
            text = answer(child(OPEN_AS_NOBODY, path))
        finally:
            path.parent.chmod(0o700)
    assert text.startswith("StoreUnusable")
    assert text.count("\n") == 1
    assert "not writable" in text


def test_an_empty_file_becomes_a_database(path: Path) -> None:
    path.touch()
    store = SqliteStore(str(path))
    store.open()
    assert store.append(drafts(0, 1), ()) == [Kept(1, 1000)]
    store.close()


def test_a_relative_path_is_the_same_file_wherever_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SqliteStore("a %?#.db")
    monkeypatch.chdir("/")
    store.open()
    store.append(drafts(0, 1), ())
    assert texts(store) == said(1)
    store.close()
    assert (tmp_path / "a %?#.db").exists()


def frozen(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.executescript(FROZEN.read_text())
    db.close()


def tables(path: Path) -> list[tuple[str, ...]]:
    db = sqlite3.connect(path)
    rows = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name").fetchall()
    db.close()
    return rows


def test_a_database_of_version_1_opens_with_all_that_is_in_it(path: Path) -> None:
    frozen(path)
    Path(f"{path}.lock").write_text("0123456789abcdef 00000000000000000006\n")
    store = SqliteStore(str(path))
    store.open()
    check_version_1(store)
    assert store.append([Draft("gone", 12, "h", 0, "bob", "?")], ()) == [Kept(3, 1_700_000_000_500)]
    store.close()


def test_an_upgraded_database_has_the_same_tables_as_a_new_one(path: Path, tmp_path: Path) -> None:
    frozen(path)
    for name in (path, tmp_path / "new.db"):
        store = SqliteStore(str(name))
        store.open()
        store.close()
    assert tables(path) == tables(tmp_path / "new.db")


def test_the_script_of_a_version_never_changes() -> None:
    assert schema("sqlite")[0] in FROZEN.read_text()


def test_an_index_made_with_another_fold_is_made_anew(path: Path) -> None:
    store = SqliteStore(str(path))
    store.open()
    store.append(drafts(0, 20), ())
    while store.index(100):
        pass
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO search (search) VALUES ('delete-all')")
        db.execute("UPDATE meta SET value = 'of another time' WHERE name = 'fold'")
    db.close()
    store.open()
    for _ in range(2):
        assert [m.text for m in store.search("lobby", "hola", 3, 9, 9.0)] == ["hola 1", "hola 0"]
        while store.index(100):
            pass
    store.close()


def log_id(path: Path) -> str:
    """The id that the log has when it is opened."""
    store = SqliteStore(str(path))
    store.open()
    store.close()
    return store.log_id


def test_a_database_that_was_put_back_is_a_new_log(store: SqliteStore, path: Path) -> None:
    store.append(drafts(0, 3), ())
    store.close()
    before = path.read_bytes()
    store.open()
    store.append(drafts(0, 4), ())
    assert store.append(drafts(0, 4), ())[3].new is False
    store.close()
    assert log_id(path) == store.log_id
    path.write_bytes(before)
    put_back = log_id(path)
    assert put_back != store.log_id
    assert log_id(path) == put_back


def test_a_copy_without_what_knows_its_age_is_a_new_log(store: SqliteStore, path: Path) -> None:
    store.append(drafts(0, 3), ())
    store.close()
    copy = path.parent / "copy.db"
    copy.write_bytes(path.read_bytes())
    assert log_id(copy) != store.log_id
    assert log_id(path) == store.log_id


def test_a_log_whose_messages_are_gone_is_the_same_log(store: SqliteStore, path: Path) -> None:
    store.append(drafts(0, 3), ())
    assert store.retain(10**9, 10) == 3
    store.close()
    assert log_id(path) == store.log_id


def test_an_append_of_unknown_outcome_raises_no_doubt(store: SqliteStore, path: Path) -> None:
    store.append(drafts(0, 3), ())
    assert isinstance(in_trouble(SYNCS, errno.EIO, lambda: store.append(drafts(3, 3), ())), OutcomeUnknown)
    store.close()
    assert log_id(path) == store.log_id


def test_the_file_shrinks_when_messages_go(store: SqliteStore, path: Path) -> None:
    for n in range(0, 60_000, 1000):
        store.append(drafts(n, 1000, "x" * 500), ())
    store.reopen()
    full = path.stat().st_size
    removed = 0
    while step := store.retain(10**9, 1000):
        removed += step
    assert removed == 60_000
    store.close()
    # What stays is the ids, and some pages for the messages to come.
    assert path.stat().st_size < full / 2


def test_another_program_that_holds_the_database_costs_only_that_batch(store: SqliteStore, path: Path) -> None:
    store.append(drafts(0, 1), ())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked") as caught:
        store.append(drafts(1, 1), ())
    assert not isinstance(caught.value, OutcomeUnknown)
    other.execute("ROLLBACK")
    other.close()
    assert store.append(drafts(1, 1), ()) == [Kept(2, 1000)]


def test_flush_seconds_is_that_of_the_last_synced_commit(store: SqliteStore) -> None:
    store.append(drafts(0, 1), ())
    flush = store.flush_seconds
    assert 0 < flush < 10
    store.index(10)
    assert store.flush_seconds == flush


CALLS = {
    "x86_64": {"fsync": 74, "fdatasync": 75, "pwrite64": 18},
    "aarch64": {"fsync": 82, "fdatasync": 83, "pwrite64": 68},
}


def in_trouble(calls: tuple[str, ...], error: int, work: Callable[[], object]) -> object:
    """Do the work in a thread in which the kernel answers these system calls with this error.

    Returns what the work returned or raised.
    """
    numbers = CALLS.get(platform.machine())
    if sys.platform != "linux" or numbers is None:
        pytest.skip(f"the numbers of the system calls of {platform.machine()} are not known here")
    results: list[object] = []

    def run() -> None:
        refuse([numbers[call] for call in calls], error)
        try:
            results.append(work())
        except Exception as caught:
            results.append(caught)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


def refuse(calls: list[int], error: int) -> None:
    """Have the kernel answer these calls of this thread with this error, by a seccomp filter."""
    load_number, allow, answer_error = (0x20, 0, 0, 0), (0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | error)
    jumps = [(0x15, len(calls) - n, 0, call) for n, call in enumerate(calls)]
    program = b"".join(struct.pack("HBBI", *step) for step in (load_number, *jumps, allow, answer_error))
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HP", len(program) // 8, ctypes.addressof(code))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(38, 1, 0, 0, 0) == 0  # no new privileges, which a filter wants
    assert prctl(22, 2, ctypes.c_char_p(header), 0, 0) == 0, os.strerror(ctypes.get_errno())


SYNCS = ("fsync", "fdatasync")


@pytest.mark.parametrize("reopen", [False, True])
def test_a_sync_that_fails_leaves_the_outcome_unknown_until_it_is_repeated(
    store: SqliteStore, reopen: bool
) -> None:
    store.append(drafts(0, 3), ())
    error = in_trouble(SYNCS, errno.EIO, lambda: store.append(drafts(3, 3), ()))
    assert isinstance(error, OutcomeUnknown)
    if reopen:
        store.reopen()
    assert [kept.seq for kept in store.append(drafts(3, 3), ())] == [4, 5, 6]
    assert [kept.seq for kept in store.append(drafts(6, 3), ())] == [7, 8, 9]
    assert texts(store) == said(9)


@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, OutcomeUnknown), (errno.ENOSPC, StoreError)])
def test_a_write_that_fails_can_be_repeated(store: SqliteStore, number: int, kind: type[Exception]) -> None:
    store.append(drafts(0, 3), ())
    error = in_trouble(("pwrite64",), number, lambda: store.append(drafts(3, 3), ()))
    assert type(error) is kind
    assert texts(store) == said(3)
    assert [kept.seq for kept in store.append(drafts(3, 3), ())] == [4, 5, 6]
    assert texts(store) == said(6)


def test_every_append_is_synced_and_the_index_is_not(store: SqliteStore) -> None:
    store.append(drafts(0, 30), ())
    assert in_trouble(SYNCS, errno.EIO, lambda: store.index(20)) is True
    assert in_trouble(SYNCS, errno.EIO, lambda: store.index(20)) is False
    assert isinstance(in_trouble(SYNCS, errno.EIO, lambda: store.append(drafts(30, 1), ())), OutcomeUnknown)
    assert in_trouble(SYNCS, errno.EIO, lambda: store.retain(10**9, 5)) == 5
    assert isinstance(in_trouble(SYNCS, errno.EIO, lambda: store.append(drafts(30, 1), ())), OutcomeUnknown)


def test_a_failed_index_and_retention_can_be_repeated(store: SqliteStore) -> None:
    store.append(drafts(0, 30), ())
    for work in (lambda: store.index(20), lambda: store.retain(10**9, 10)):
        assert isinstance(in_trouble(("pwrite64",), errno.EIO, work), StoreError)
    assert store.index(20) is True
    assert store.index(20) is False
    assert store.retain(10**9, 10) == 10
    found = store.search("lobby", "hola", 1 << 30, 100, 9.0)
    assert [message.seq for message in found] == list(range(30, 10, -1))


FULL_DISK = """
    import pathlib, subprocess, sys
    from chatd.interfaces import Draft, OutcomeUnknown, StoreError
    from chatd.stores import open_store
    folder = pathlib.Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=True)
    filler = folder / "filler"
    filler.write_bytes(bytes(512 * 1024))
    store = open_store(str(folder / "chat.db"))
    store.open()
    kept = []
    for round in range(2):
        while True:
            batch = [Draft("lobby", 1, f"{len(kept) + n}", 0, "ana", "x" * 500) for n in range(8)]
            try:
                kept += [one.seq for one in store.append(batch, ())]
            except StoreError as error:
                assert not isinstance(error, OutcomeUnknown), error
                break
        assert len(kept) > 100, len(kept)
        assert kept == list(range(1, len(kept) + 1))
        assert [m.seq for m in store.page("lobby", 0, None, 9999, 1 << 30)] == kept
        if round == 0:
            filler.unlink()
            kept += [one.seq for one in store.append(batch, ())]
    before = len(kept)
    store.close()
    print(before)
"""


def test_a_full_disk_refuses_for_certain_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    mount = tmp_path / "disk"
    mount.mkdir()
    alone = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"])]
    try:
        subprocess.run([*alone, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk cannot be made here: {error}")
    result = subprocess.run(
        [*alone, sys.executable, "-c", textwrap.dedent(FULL_DISK), str(mount)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stderr == ""
    assert int(result.stdout) > 200


APPEND_FOR_EVER = """
    import sys
    from itertools import count
    from chatd.interfaces import Draft
    from chatd.stores import open_store
    store = open_store(sys.argv[1])
    store.open()
    first = int(sys.argv[2])
    for n in count(first, 7):
        batch = [Draft("lobby", 1, f"{m}", 0, "ana", f"hola {m}") for m in range(n, n + 7)]
        kept = store.append(batch, ())
        print(kept[-1].seq, flush=True)
        if n % 3 == 0:
            store.index(10)
"""


def test_what_was_acknowledged_is_there_after_kill_9(path: Path) -> None:
    chance = random.Random(5)
    acknowledged = 0
    logs = set()
    for _ in range(8):
        process = child(APPEND_FOR_EVER, path, acknowledged)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate(timeout=60)
        assert err == ""
        acknowledged = max([acknowledged, *(int(line) for line in out.splitlines() if line)])
        store = SqliteStore(str(path))
        store.open()
        stored = texts(store)
        logs.add(store.log_id)
        store.close()
        assert len(stored) >= acknowledged
        # Whoever had no answer sends again: nothing is stored twice. The child of the next round does.
        assert stored == said(len(stored))
    assert acknowledged > 100
    assert len(logs) == 1
