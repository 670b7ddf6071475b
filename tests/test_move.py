"""A chat that moves from one database to another, by the program, between real stores."""

from __future__ import annotations

import hashlib
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from chatd import move
from chatd.interfaces import Draft, IStore, SessionRecord, StoreError, StoreUnusable
from chatd.stores import open_store, source_of, target_of
from chatd.stores.copies import PAGE_ROWS, TABLES, ISource, ITarget
from chatd.stores.postgres import PostgresStore
from tests.daemon import PATIENCE, Daemon
from tests.postgres import new_database

ROOT = Path(move.__file__).parent.parent

WAYS = [("sqlite", "postgres"), ("postgres", "sqlite"), ("sqlite", "sqlite"), ("postgres", "postgres")]
BOTH_WAYS = WAYS[:2]

TOKEN = hashlib.sha256(b"token").digest()


@contextmanager
def place(kind: str, folder: Path) -> Iterator[str]:
    """A URL or path where nothing is yet."""
    if kind == "sqlite":
        folder.mkdir()
        yield str(folder / "chat.db")
    else:
        with new_database() as url:
            yield url


@pytest.fixture(params=BOTH_WAYS, ids="-".join)
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """FROM and TO."""
    with place(request.param[0], tmp_path / "from") as source, place(request.param[1], tmp_path / "to") as target:
        yield source, target


@contextmanager
def opened(url: str) -> Iterator[IStore]:
    with closing(open_store(url)) as store:
        store.open()
        yield store


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The program, as people run it."""
    command = [sys.executable, "-m", "chatd.move", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def moved(*arguments: str) -> str:
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def refused(*arguments: str) -> str:
    """What the program says in one line when it moves nothing."""
    done = run(*arguments)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("chatd.move: ")
    assert done.stderr.endswith("; nothing was moved\n")
    return done.stderr


def draft(text: str, room: str = "lobby", session: int = 1, action: bool = False) -> Draft:
    return Draft(room, session, f"id of {text}", 1000, f"name{session}", text, action)


def talk(url: str, count: int = 5) -> str:
    """Some messages in two rooms, of a session with a token. Returns the id of the log."""
    with opened(url) as store:
        ana = SessionRecord(1, TOKEN, "name1", 5000, True)
        store.append([draft(f"{n}", room) for n in range(count) for room in ("lobby", "dev")], [ana])
        return store.log_id


def whole(store: IStore) -> tuple[object, ...]:
    """All that can be read of a chat."""
    messages = [
        (m.room, m.seq, m.at, m.session, m.name, m.text, m.action)
        for room in store.rooms()
        for m in store.page(room.name, 0, None, 1 << 30, 1 << 40)
    ]
    return store.log_id, store.rooms(), messages, sorted(store.held_sessions(), key=lambda session: session.id)


def is_empty(url: str) -> bool:
    with opened(url) as store:
        return not store.rooms() and not store.held_sessions()


words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
says = st.tuples(
    st.sampled_from(["lobby", "dev", "日本", "ñandú", "0"]), st.integers(1, 1 << 62), words, words, st.booleans()
)


@pytest.fixture
def temporary(tmp_path: Path) -> Callable[[], Path]:
    numbers = iter(range(1_000_000))
    return lambda: tmp_path / f"{next(numbers)}"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    way=st.sampled_from(WAYS),
    batches=st.lists(st.lists(says, max_size=20), max_size=6),
    names=st.lists(words, max_size=6),
    removed=st.integers(0, 60),
    data=st.data(),
)
def test_any_chat_is_the_same_afterwards(
    temporary: Callable[[], Path],
    way: tuple[str, str],
    batches: list[list[tuple[str, int, str, str, bool]]],
    names: list[str],
    removed: int,
    data: st.DataObject,
) -> None:
    with place(way[0], temporary()) as source, place(way[1], temporary()) as target:
        drafts = []
        sessions = []
        with opened(source) as store:
            for number, batch in enumerate(batches):
                said = [Draft(room, who, id, number, "ana", text, action) for room, who, id, text, action in batch]
                store.append(said, ())
                drafts += said
            for number, name in enumerate(names, 1):
                token = hashlib.sha256(b"%d" % number).digest() if number % 3 else None
                sessions.append(SessionRecord(number, token, name, number * 1000, bool(number % 2)))
            store.save(sessions)
            store.retain(data.draw(st.integers(0, 7)), removed)
            before = whole(store)
            kept = store.append(drafts, ())
            assert whole(store) == before, "repeats change nothing"
        moved(source, target)
        with opened(target) as store:
            assert whole(store) == before
            for session in sessions:
                assert session.token is None or store.session(session.token) == session
            assert store.append(drafts, ()) == kept
            assert whole(store) == before
            while store.index(100):
                pass
            for room in store.rooms():
                after = store.append([Draft(room.name, 1, "one that is new", 99, "ana", "x")], ())
                assert [one.seq for one in after] == [room.last + 1]
        with opened(source) as store:
            assert whole(store)[1:] == before[1:], "the source is what it was"


def test_sources_and_targets_are_such(places: tuple[str, str]) -> None:
    for place in places:
        assert verifyObject(ISource, source_of(place))
        assert verifyObject(ITarget, target_of(place))


def test_there_and_back_is_the_same_log(places: tuple[str, str], tmp_path: Path) -> None:
    log = talk(places[0])
    back = str(tmp_path / "back.db")
    moved(*places)
    moved(places[1], back)
    with opened(back) as store:
        assert store.log_id == log
        assert store.append([draft("3", "dev")], ())[0].new is False
    with opened(back) as store:
        assert store.log_id == log, "its witness knows it"


def test_search_goes_on(places: tuple[str, str]) -> None:
    with opened(places[0]) as store:
        store.append([draft("uno"), draft("dos"), draft("tres")], ())
        while store.index(100):
            pass
    moved(*places)
    with opened(places[1]) as store:
        assert [m.text for m in store.search("lobby", "DOS", 100, 10, 20.0)] == ["dos"]
        while store.index(100):
            pass
        assert [m.text for m in store.search("lobby", "DOS", 100, 10, 20.0)] == ["dos"]


def test_a_removed_front_stays_removed_and_retention_goes_on(places: tuple[str, str]) -> None:
    with opened(places[0]) as store:
        for n in range(10):
            store.append([Draft("lobby", 1, f"{n}", n * 1000, "ana", f"{n}")], ())
        assert store.retain(4000, 100) == 4
    moved(*places)
    with opened(places[1]) as store:
        assert [(room.first, room.last) for room in store.rooms()] == [(5, 10)]
        assert store.retain(6000, 100) == 2
        assert [(room.first, room.last) for room in store.rooms()] == [(7, 10)]


def test_what_it_says(places: tuple[str, str]) -> None:
    talk(places[0], PAGE_ROWS * 2)
    lines = moved(*places).splitlines()
    assert lines[0].endswith(": 2 rooms, 1 sessions, 4,000 messages, 4,000 ids")
    assert "moved, and compared, in " in lines[-2]
    assert "start chatd on " in lines[-1]


def test_a_source_that_is_used_again_is_another_log(tmp_path: Path) -> None:
    source, target = str(tmp_path / "chat.db"), str(tmp_path / "new.db")
    log = talk(source)
    moved(source, target)
    with opened(source) as store:
        assert store.log_id != log, "what it numbers now has other numbers in the new one"
    with opened(target) as store:
        assert store.log_id == log


def test_a_source_that_was_put_back_is_another_log(tmp_path: Path) -> None:
    source, target = tmp_path / "chat.db", str(tmp_path / "new.db")
    talk(str(source))
    copy = source.read_bytes()
    with opened(str(source)) as store:
        log = store.log_id
        store.append([draft("more")], ())
    source.write_bytes(copy)
    moved(str(source), target)
    with opened(target) as store:
        assert store.log_id not in ("", log)


def test_a_restored_database_without_its_id_is_another_log(places: tuple[str, str]) -> None:
    log = talk(places[0])
    if places[0].startswith("postgres"):
        with psycopg.connect(places[0]) as link:
            link.execute("DELETE FROM meta WHERE name = 'log'")
    else:
        with closing(sqlite3.connect(places[0])) as db:
            db.execute("DELETE FROM meta WHERE name = 'log'")
            db.commit()
    moved(*places)
    with opened(places[1]) as store:
        assert store.log_id not in ("", log)


def test_the_files_of_the_source_are_not_written_to(tmp_path: Path) -> None:
    """Not even by what SQLite does with a log that a killed chatd left."""
    source, killed = tmp_path / "chat.db", tmp_path / "killed"
    killed.mkdir()
    with opened(str(source)) as store:
        store.append([draft("hola")], ())
        for name in ("chat.db", "chat.db-wal"):
            (killed / name).write_bytes((tmp_path / name).read_bytes())
    before = [(killed / name).read_bytes() for name in ("chat.db", "chat.db-wal")]
    assert all(before)
    moved(str(killed / "chat.db"), str(tmp_path / "new.db"))
    assert [(killed / name).read_bytes() for name in ("chat.db", "chat.db-wal")] == before
    with opened(str(tmp_path / "new.db")) as store:
        assert [m.text for m in store.page("lobby", 0, None, 10, 1000)] == ["hola"]


def test_an_empty_chat_moves(places: tuple[str, str]) -> None:
    with opened(places[0]) as store:
        log = store.log_id
    moved(*places)
    with opened(places[1]) as store:
        assert store.log_id == log
        assert store.append([draft("hola")], ())[0].seq == 1


def test_a_chat_that_only_a_health_check_has_written_to_is_empty(places: tuple[str, str]) -> None:
    talk(places[0])
    for place in places:
        with opened(place) as store:
            store.save([SessionRecord(0, None, "health", 1, False)])
    moved(*places)
    with opened(places[1]) as store:
        assert len(store.rooms()) == 2


def test_a_room_that_never_got_its_message_is_none(tmp_path: Path) -> None:
    """A node makes the row before the transaction; it may die between the two."""
    with new_database() as source, new_database() as target:
        for url in (source, target):
            with opened(url), psycopg.connect(url) as link:
                link.execute("INSERT INTO rooms (name) VALUES ('nobody')")
                link.execute("INSERT INTO upkeep (room) SELECT id FROM rooms")
        talk(source)
        moved(source, target)
        moved(target, str(tmp_path / "chat.db"))
        for url in (target, str(tmp_path / "chat.db")):
            with opened(url) as store:
                assert [room.name for room in store.rooms()] == ["dev", "lobby"]
                assert [kept.seq for kept in store.append([draft("x", "nobody"), draft("y", "dev")], ())] == [1, 6]


def test_what_is_refused(places: tuple[str, str], tmp_path: Path) -> None:
    source, target = places
    talk(source)
    assert "FROM and TO are both" in refused(source, source)
    assert "is not there" in refused(str(tmp_path / "nothing.db"), target)
    assert "is not a folder" in refused(source, str(tmp_path / "nowhere" / "chat.db"))
    assert "holds no chat" in refused_empty(tmp_path, target)
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as db:
        db.execute("CREATE TABLE addresses (name)")
    assert "another program" in refused(source, str(other))
    assert "another program" in refused(str(other), target)
    assert is_empty(target)


def refused_empty(folder: Path, target: str) -> str:
    (folder / "empty.db").touch()
    return refused(str(folder / "empty.db"), target)


def test_a_target_that_is_not_empty_is_refused(places: tuple[str, str]) -> None:
    talk(places[0])
    with opened(places[1]) as store:
        store.append([draft("mine")], ())
        before = whole(store)
    assert "is not empty" in refused(*places)
    with opened(places[1]) as store:
        assert whole(store) == before


def test_a_target_with_sessions_alone_is_refused(places: tuple[str, str]) -> None:
    talk(places[0])
    with opened(places[1]) as store:
        store.save([SessionRecord(7, TOKEN, "eva", 1, True)])
    assert "is not empty: it holds sessions" in refused(*places)


@pytest.mark.parametrize("which", [0, 1], ids=["source", "target"])
def test_what_a_running_chatd_uses_is_refused(places: tuple[str, str], tmp_path: Path, which: int) -> None:
    talk(places[0])
    folder = tmp_path / "daemon"
    folder.mkdir()
    with Daemon(folder, "--db", places[which]):
        assert "in use by" in refused(*places)
    moved(*places)


def test_nodes_that_come_while_a_chat_is_read(tmp_path: Path) -> None:
    with new_database() as url:
        talk(url)
        with closing(source_of(url)) as source, closing(target_of(str(tmp_path / "chat.db"))) as target:
            source.open()
            target.open()
            target.begin()
            with opened(url) as store:
                store.append([draft("late")], ())
            with pytest.raises(StoreUnusable, match="was used while it was moved"):
                move.move(source, target, move.Progress(sys.stdout))
        assert is_empty(str(tmp_path / "chat.db"))


def test_a_node_that_comes_while_a_chat_is_filled_waits() -> None:
    with new_database() as url, closing(target_of(url)) as target:
        target.open()
        target.begin()
        with closing(PostgresStore(f"{url}%20-clock_timeout%3D200")) as store:
            store.open()
            with pytest.raises(StoreError, match="lock timeout"):
                store.renew()


def change_version(url: str, version: int) -> None:
    if url.startswith("postgres"):
        with psycopg.connect(url) as link:
            link.execute("UPDATE meta SET value = %s WHERE name = 'version'", (f"{version}",))
    else:
        with closing(sqlite3.connect(url)) as db:
            db.execute(f"PRAGMA user_version = {version}")


def test_databases_of_a_newer_chatd_are_refused(places: tuple[str, str]) -> None:
    for url in places:
        talk(url)
        change_version(url, 99)
        assert "from a newer chatd" in refused(*places)
        change_version(url, 1)


SPOIL_SQLITE = """
    CREATE TRIGGER spoil AFTER INSERT ON {0} WHEN new.{1} = {2} BEGIN
        UPDATE {0} SET {3} WHERE rowid = new.rowid;
    END
"""
SPOIL_POSTGRES = """
    CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF new.{1} = {2} THEN UPDATE {0} SET {3} WHERE {1} = {2}; END IF;
            RETURN new;
        END
    $$;
    CREATE TRIGGER spoil AFTER INSERT ON {0} FOR EACH ROW EXECUTE FUNCTION spoil();
"""


@pytest.mark.parametrize(
    ("table", "row", "change"),
    [
        ("messages", "'7'", "text = 'seven'"),
        ("messages", "'7'", "name = 'eva'"),
        ("messages", "'7'", "at = 1001"),
        ("messages", "'7'", "flags = 1"),
        ("messages", "'7'", "session = 2"),
        ("rooms", "'dev'", "last = 11"),
        ("sessions", "'name1'", "token = NULL"),
        ("sessions", "'name1'", "seen = 5001"),
    ],
)
def test_a_row_that_is_not_what_was_written_is_found(
    places: tuple[str, str], table: str, row: str, change: str
) -> None:
    talk(places[0], 10)
    with opened(places[1]):
        pass
    column = "text" if table == "messages" else "name"
    if places[1].startswith("postgres"):
        with psycopg.connect(places[1]) as link:
            link.execute(SPOIL_POSTGRES.format(table, column, row, change))
    else:
        with closing(sqlite3.connect(places[1])) as db:
            db.execute(SPOIL_SQLITE.format(table, column, row, change))
    said = refused(*places)
    assert f"{table}, row " in said
    assert "was read back as" in said
    assert is_empty(places[1])


@pytest.mark.parametrize("change", ["DELETE FROM {} WHERE seq = 4", "UPDATE {} SET seq = 44 WHERE seq = 4"])
def test_ids_that_are_not_what_was_written_are_found(places: tuple[str, str], change: str) -> None:
    """Changed in the target's own transaction, when all has been written and before it is compared."""
    talk(places[0], 10)
    with closing(source_of(places[0])) as source, closing(target_of(places[1])) as target:
        source.open()
        target.open()
        target.begin()
        for table in TABLES:
            target.fill(table, source.read(table))
        for table in TABLES:
            move.compare(table, source.read(table), target.read(table))
        target._db.execute(change.format("ids"))  # type: ignore[attr-defined]
        with pytest.raises(move.Differs, match="ids, row "):
            move.compare("ids", source.read("ids"), target.read("ids"))


def test_a_source_that_lacks_a_number_is_refused(places: tuple[str, str]) -> None:
    talk(places[0], 10)
    if places[0].startswith("postgres"):
        with psycopg.connect(places[0]) as link:
            link.execute("DELETE FROM messages WHERE seq = 4 AND room = (SELECT id FROM rooms WHERE name = 'dev')")
    else:
        with closing(sqlite3.connect(places[0])) as db:
            db.execute("DELETE FROM messages WHERE text = '3' AND key >> 40 = 2")
            db.commit()
    assert "the room dev has no number 4" in refused(*places)
    assert is_empty(places[1])


def test_a_source_that_lacks_its_last_number_is_refused(tmp_path: Path) -> None:
    talk(str(tmp_path / "chat.db"), 10)
    with closing(sqlite3.connect(tmp_path / "chat.db")) as db:
        db.execute("UPDATE rooms SET last = 11 WHERE name = 'lobby'")
        db.commit()
    assert "the room lobby has no number 11" in refused(str(tmp_path / "chat.db"), str(tmp_path / "new.db"))


class OnTerminal:
    """The program on a terminal."""

    def __init__(self, *arguments: str) -> None:
        self._terminal, program = pty.openpty()
        command = [sys.executable, "-m", "chatd.move", *arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=program, stderr=subprocess.PIPE, text=True
        )
        os.close(program)
        self.shown = ""

    def until(self, text: str) -> None:
        """Wait until it has shown the text."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            assert self._read(), self.shown

    def _read(self) -> bool:
        try:
            data = os.read(self._terminal, 4096)
        except OSError:  # what Linux says when the other side is closed
            return False
        self.shown += data.decode()
        return True

    def end(self) -> tuple[int, str]:
        """Wait until it ends. Returns its exit code, and its complaints."""
        while self._read():
            pass
        os.close(self._terminal)
        _, said = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said


def test_interrupted_at_any_moment_it_moves_nothing(places: tuple[str, str]) -> None:
    with opened(places[0]) as store:
        for n in range(60):
            store.append([draft(f"{n} {m}") for m in range(1000)], ())
        before = whole(store)
    for number, moment in [
        (signal.SIGINT, "copying messages"),
        (signal.SIGTERM, "comparing messages"),
        (signal.SIGKILL, "copying ids"),
        (signal.SIGKILL, "comparing messages"),
    ]:
        program = OnTerminal(*places)
        program.until(f"\r{moment}: ")
        program.process.send_signal(number)
        code, said = program.end()
        if number == signal.SIGKILL:
            assert code == -number
        else:
            assert code == 130
            assert "interrupted; nothing was moved: TO is empty, drop it or begin anew" in said
            assert "Traceback" not in said
        assert is_empty(places[1])
    moved(*places)
    for place in places:
        with opened(place) as store:
            assert whole(store)[1:] == before[1:]


def test_on_a_terminal_one_line_tells_how_far_it_is(tmp_path: Path) -> None:
    source = str(tmp_path / "chat.db")
    with opened(source) as store:
        for n in range(30):
            store.append([draft(f"{n} {m}") for m in range(1000)], ())
    program = OnTerminal(source, str(tmp_path / "new.db"))
    assert program.end() == (0, "")
    # What is seen of each line is what comes after its last return to the begin.
    lines = [line.rpartition("\r")[2].removesuffix("\x1b[K") for line in program.shown.split("\r\n")]
    assert [line.partition(" in ")[0] for line in lines] == [
        f"{source}: 1 rooms, 0 sessions, 30,000 messages, 30,000 ids",
        "moved, and compared,",
        f"start chatd on {tmp_path}/new.db now; {source} is as it was, and not to be used any more",
        "",
    ]
    for text in ("copying messages: ", "copying ids: ", "comparing messages: ", "comparing ids: "):
        assert f"\r{text}" in program.shown
