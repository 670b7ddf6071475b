"""What only the PostgreSQL store has: a server that comes and goes, and several nodes that share it."""

from __future__ import annotations

import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from zope.interface.verify import verifyObject

from chatd.interfaces import (
    Draft,
    Hint,
    ISharedStore,
    Kept,
    OutcomeUnknown,
    RoomRecord,
    SessionRecord,
    StoreError,
    StoreUnusable,
)
from chatd.stores.postgres import PostgresStore
from chatd.stores.schemas import schema
from tests.frozen import ANA, check_version_1
from tests.postgres import new_database, server

FROZEN = Path(__file__).parent / "postgres-frozen-1.sql"

GRACE = 90.0


@pytest.fixture
def url() -> Iterator[str]:
    with new_database() as url:
        yield url


@pytest.fixture
def start(url: str) -> Iterator[Callable[[], PostgresStore]]:
    """Starts one more node on the same database."""
    nodes: list[PostgresStore] = []

    def start() -> PostgresStore:
        node = PostgresStore(url)
        node.open()
        nodes.append(node)
        return node

    yield start
    for node in nodes:
        node.close()


@pytest.fixture
def store(start: Callable[[], PostgresStore]) -> PostgresStore:
    return start()


@pytest.fixture
def other(start: Callable[[], PostgresStore], store: PostgresStore) -> PostgresStore:
    return start()


@pytest.fixture
def admin(url: str) -> Iterator[psycopg.Connection]:
    """A connection for what is done to the server behind the stores' backs."""
    with psycopg.connect(url, autocommit=True) as link:
        yield link


def draft(text: str, room: str = "lobby", session: int = 1) -> Draft:
    return Draft(room, session, text, 1000, "ana", text)


def drafts(first: int, count: int, session: int = 1) -> list[Draft]:
    return [draft(f"{n}", session=session) for n in range(first, first + count)]


def log(store: PostgresStore, room: str = "lobby") -> list[str]:
    messages = store.page(room, 0, None, 1 << 30, 1 << 40)
    assert [message.seq for message in messages] == list(range(1, len(messages) + 1))
    return [message.text for message in messages]


def seqs(kept: list[Kept]) -> list[int]:
    return [one.seq for one in kept]


def session(number: int, token: bool = True, name: str | None = None) -> SessionRecord:
    return SessionRecord(number, bytes([number]) if token else None, name or f"name{number}", 1000, True)


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for what happens by the clock of the server."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def at_once(*works: Callable[[], object]) -> None:
    """Do them in a thread each; what one raises is raised here."""
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_is_a_shared_store(store: PostgresStore) -> None:
    assert verifyObject(ISharedStore, store)


def refusal(url: str) -> str:
    """What `open` says that is wrong, in one line."""
    with pytest.raises(StoreUnusable) as caught:
        PostgresStore(url).open()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_what_cannot_be_used_is_refused_in_one_line(url: str, admin: psycopg.Connection) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert "refused" in refusal(f"postgresql://127.0.0.1:{unused.getsockname()[1]}/chat")
    assert "cannot be used" in refusal("postgresql://user@:port/chat")
    assert "does not exist" in refusal(make_conninfo(server(), dbname="chatd_test_nowhere"))
    admin.execute("CREATE TABLE rooms (address text)")
    assert '"rooms" already exists' in refusal(url)


def test_a_newer_database_is_refused(store: PostgresStore, url: str, admin: psycopg.Connection) -> None:
    admin.execute("UPDATE meta SET value = '99' WHERE name = 'version'")
    text = refusal(url)
    assert "from a newer chatd" in text
    assert "99" in text


def frozen(admin: psycopg.Connection) -> None:
    admin.execute(FROZEN.read_text())


def test_a_database_of_version_1_opens_with_all_that_is_in_it(
    url: str, admin: psycopg.Connection, start: Callable[[], PostgresStore]
) -> None:
    frozen(admin)
    store = start()
    check_version_1(store)
    assert store.members("lobby") == [(11, "ana")]
    assert store.claim([(session(12, name="bob"), "ana"), (ANA, "ana")]) == [False, True]
    new = [Draft("gone", 12, "h", 0, "bob", "?"), Draft("new", 12, "h", 9, "bob", "?")]
    assert store.append(new, ()) == [Kept(3, 1_700_000_000_500), Kept(1, 9)]


def tables(link: psycopg.Connection) -> list[tuple[object, ...]]:
    """The columns, constraints and indexes of a schema."""
    here = "(SELECT oid FROM pg_namespace WHERE nspname = current_schema())"
    columns = link.execute(f"""
        SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull, attcollation, reloptions::text,
            pg_get_expr(adbin, adrelid)
        FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relnamespace = {here} AND attnum > 0 ORDER BY relname, attname
    """).fetchall()
    indexes = link.execute(f"""
        SELECT replace(pg_get_indexdef(indexrelid), current_schema(), '') FROM pg_index
        JOIN pg_class ON pg_class.oid = indexrelid WHERE relnamespace = {here} ORDER BY 1
    """).fetchall()
    return [*columns, *indexes]


def test_an_upgraded_database_has_the_same_tables_as_a_new_one(url: str, admin: psycopg.Connection) -> None:
    frozen(admin)
    with new_database() as fresh:
        for database in (url, fresh):
            store = PostgresStore(database)
            store.open()
            store.close()
        with psycopg.connect(fresh) as link:
            assert tables(link) == tables(admin)


def test_the_script_of_a_version_never_changes() -> None:
    assert schema("postgres")[0] in FROZEN.read_text()


def test_a_database_in_another_encoding_is_refused() -> None:
    name = f"chatd_test_{secrets.token_hex(6)}"
    with psycopg.connect(server(), autocommit=True) as link:
        link.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        try:
            assert "UTF8" in refusal(make_conninfo(server(), dbname=name))
        finally:
            link.execute(f"DROP DATABASE {name}")


def test_nodes_that_start_at_once_make_one_chat(url: str) -> None:
    nodes = [PostgresStore(url) for _ in range(5)]
    at_once(*[node.open for node in nodes])
    assert len({node.log_id for node in nodes}) == 1
    assert len({node.node for node in nodes}) == 5
    for number, node in enumerate(nodes):
        assert seqs(node.append([draft(f"{number}")], ())) == [number + 1]
        node.close()


def test_two_nodes_number_one_log(store: PostgresStore, other: PostgresStore) -> None:
    """Both say all of it, as clients do that resume on the other node, in batches of their own cutting."""
    said = [draft(f"{n}", room) for n in range(300) for room in ("lobby", "dev")]
    kept: dict[tuple[str, str], list[Kept]] = {}
    lock = threading.Lock()

    def say(node: PostgresStore, seed: int) -> None:
        chance = random.Random(seed)
        rest = list(said)
        while rest:
            size = chance.randint(1, 20)
            batch, rest = rest[:size], rest[size:]
            for one, answer in zip(batch, node.append(batch, ()), strict=True):
                with lock:
                    kept.setdefault((one.room, one.id), []).append(answer)

    at_once(lambda: say(store, 1), lambda: say(other, 2))
    for room in ("lobby", "dev"):
        texts = log(store, room)
        assert sorted(texts) == sorted(f"{n}" for n in range(300))
        assert log(other, room) == texts
        for seq, text in enumerate(texts, 1):
            answers = kept[room, text]
            assert [answer.seq for answer in answers] == [seq, seq]
            assert sorted(answer.new for answer in answers) == [False, True]


def test_batches_to_the_same_rooms_in_any_order_do_not_block_each_other(
    store: PostgresStore, other: PostgresStore
) -> None:
    rooms = [f"room{n}" for n in range(40)]

    def say(node: PostgresStore, number: int) -> None:
        chance = random.Random(number)
        for turn in range(30):
            # More and more of them are new.
            some = chance.sample(rooms[: turn + 10], 10)
            sessions = [session(n) for n in chance.sample(range(9), 4)]
            node.append([draft(f"{number} {turn}", room, number) for room in some], sessions)

    at_once(lambda: say(store, 1), lambda: say(other, 2))
    assert sum(len(log(store, room)) for room in rooms) == 600
    assert [(room.name, room.last) for room in store.rooms()] == [
        (room, len(log(other, room))) for room in sorted(rooms) if log(other, room)
    ]


Cut = Literal["before", "after"]


class Proxy:
    """Stands between a store and the server, and cuts the connection at a COMMIT: before the server sees it, or
    after it has done it and before the store hears of it."""

    def __init__(self) -> None:
        self.cut: Cut | None = None
        self._server = conninfo_to_dict(server())
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            ours = self._connect()
            for source, sink, cut in ((client, ours, "before"), (ours, client, "after")):
                threading.Thread(target=self._pump, args=(source, sink, cut), daemon=True).start()

    def _connect(self) -> socket.socket:
        host, port = str(self._server.get("host") or "127.0.0.1"), self._server.get("port") or 5432
        if not host.startswith("/"):
            return socket.create_connection((host, int(port)))
        ours = socket.socket(socket.AF_UNIX)
        ours.connect(f"{host}/.s.PGSQL.{port}")
        return ours

    def _pump(self, source: socket.socket, sink: socket.socket, cut: Cut) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self.cut == cut and b"COMMIT" in data:
                    self.cut = None
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    yield proxy
    proxy.close()


@pytest.fixture
def behind(proxy: Proxy, url: str) -> Iterator[PostgresStore]:
    """A store behind the proxy."""
    store = PostgresStore(
        make_conninfo(url, host="127.0.0.1", port=proxy.port, sslmode="disable", gssencmode="disable")
    )
    store.open()
    yield store
    store.close()


@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_connection_that_breaks_in_commit_leaves_the_outcome_unknown_until_it_is_repeated(
    behind: PostgresStore, proxy: Proxy, store: PostgresStore, cut: Cut
) -> None:
    behind.append(drafts(0, 3), ())
    proxy.cut = cut
    with pytest.raises(OutcomeUnknown):
        behind.append(drafts(3, 3), ())
    assert proxy.cut is None
    done = cut == "after"
    until(lambda: len(log(store)) == (6 if done else 3))
    behind.reopen()
    assert behind.append(drafts(3, 4), ()) == [
        *[Kept(seq, 1000, new=not done) for seq in (4, 5, 6)],
        Kept(7, 1000),
    ]
    assert log(store) == [f"{n}" for n in range(7)]


def backends(admin: psycopg.Connection, query: str = "pg_terminate_backend(pid)") -> int:
    """Do this to all connections of chatd to this database."""
    rows = admin.execute(f"SELECT {query} FROM pg_stat_activity WHERE application_name = 'chatd'")
    return len(rows.fetchall())


def test_after_the_server_closed_all_connections_it_goes_on(
    store: PostgresStore, admin: psycopg.Connection
) -> None:
    store.append(drafts(0, 3), ())
    assert log(store) == ["0", "1", "2"]
    assert backends(admin) >= 2
    assert log(store) == ["0", "1", "2"]
    with pytest.raises(StoreError):
        store.append(drafts(3, 1), ())
    store.reopen()
    assert seqs(store.append(drafts(3, 1), ())) == [4]


def test_connections_that_break_all_the_time_cost_nothing(
    store: PostgresStore, other: PostgresStore, admin: psycopg.Connection
) -> None:
    done = threading.Event()
    failures: list[StoreError] = []

    def say(node: PostgresStore, number: int) -> None:
        for first in range(0, 200, 5):
            batch = [draft(f"{number} {n}", session=number) for n in range(first, first + 5)]
            while True:
                try:
                    node.append(batch, ())
                    break
                except StoreError as error:
                    failures.append(error)
                    with suppress(StoreError):
                        node.reopen()

    def kill() -> None:
        chance = random.Random(7)
        while not done.wait(chance.random() * 0.05):
            backends(admin)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        at_once(lambda: say(store, 1), lambda: say(other, 2))
    finally:
        done.set()
        killer.join()
    assert failures
    texts = log(store)
    for number in (1, 2):
        assert [text for text in texts if text.startswith(f"{number} ")] == [f"{number} {n}" for n in range(200)]
    assert len(texts) == 400


def test_a_search_that_waits_is_cut(store: PostgresStore, admin: psycopg.Connection) -> None:
    store.append(drafts(0, 3), ())
    store.index(10)
    with admin.transaction():
        admin.execute("LOCK TABLE search IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(TimeoutError):
            store.search("lobby", "1", 1 << 40, 10, 0.2)
    assert [message.text for message in store.search("lobby", "1", 1 << 40, 10, 9.0)] == ["1"]


def test_search_goes_from_block_to_block(store: PostgresStore, admin: psycopg.Connection) -> None:
    """As with a long log: numbers that are far apart."""
    store.append([draft(f"word {n}") for n in range(10)], ())
    admin.execute("UPDATE messages SET seq = seq * 10000")
    admin.execute("UPDATE rooms SET last = last * 10000")
    while store.index(3):
        pass
    found = store.search("lobby", "word", 1 << 40, 100, 9.0)
    assert [message.seq for message in found] == list(range(100_000, 0, -10_000))
    assert [message.seq for message in store.search("lobby", "word", 50_000, 2, 9.0)] == [40_000, 30_000]
    assert [message.seq for message in store.search("lobby", "7 word", 1 << 40, 2, 9.0)] == [80_000]


def test_an_index_made_with_an_older_fold_is_made_anew(store: PostgresStore, admin: psycopg.Connection) -> None:
    store.append(drafts(0, 5), ())
    store.index(10)
    admin.execute("TRUNCATE search")
    admin.execute("UPDATE meta SET value = '0, of another time' WHERE name = 'fold'")
    store.close()
    store.open()
    for _ in range(2):
        assert [message.text for message in store.search("lobby", "3", 1 << 40, 10, 9.0)] == ["3"]
        store.index(10)


def test_upkeep_is_done_by_one_node_at_a_time(
    store: PostgresStore, other: PostgresStore, admin: psycopg.Connection
) -> None:
    store.append(drafts(0, 500), ())

    def work(node: PostgresStore) -> None:
        until(lambda: not node.index(7) and not admin_sees_lag())

    def admin_sees_lag() -> bool:
        with lock:
            return bool(admin.execute("SELECT 1 FROM upkeep WHERE indexed < 500").fetchone())

    lock = threading.Lock()
    at_once(lambda: work(store), lambda: work(other))
    assert len(store.search("lobby", "7", 1 << 40, 10, 9.0)) == 1
    removed = [0, 0]

    def remove(number: int, node: PostgresStore) -> None:
        while node.room("lobby") != RoomRecord("lobby", 500, 501):
            removed[number] += node.retain(10**9, 7)

    at_once(lambda: remove(0, store), lambda: remove(1, other))
    assert sum(removed) == 500


def test_news_are_what_others_wrote(store: PostgresStore, other: PostgresStore) -> None:
    other.append([draft(f"{n}", room) for n in range(5) for room in ("a", "b", "c")], ())
    after = {"a": 2, "b": 0, "c": 5, "nowhere": 0}
    news = [(message.room, message.seq, message.text) for message in store.news(after, 100)]
    assert news == [
        *[("a", seq, f"{seq - 1}") for seq in (3, 4, 5)],
        *[("b", seq, f"{seq - 1}") for seq in (1, 2, 3, 4, 5)],
    ]
    some = store.news(after, 4)
    assert [(message.room, message.seq) for message in some] == [("a", 3), ("a", 4), ("a", 5), ("b", 1)]
    assert store.news({"a": 5, "b": 9}, 100) == []
    assert store.news({}, 100) == []


def heard(store: PostgresStore) -> Hint:
    """What a store hears in a moment."""
    return store.wait(0.2)


EVERYTHING = Hint(None, None)
NOTHING = Hint(frozenset(), frozenset())


def test_hints_come_from_other_nodes_with_the_commit(store: PostgresStore, other: PostgresStore) -> None:
    assert heard(store) == EVERYTHING
    assert heard(other) == EVERYTHING
    store.append([draft("a"), draft("b", "dev")], ())
    assert other.wait(10) == Hint(frozenset({"lobby", "dev"}), frozenset())
    store.append([draft("a")], ())
    other.append([draft("a")], ())
    assert heard(other) == NOTHING
    store.append([draft("c")], ())
    store.append([draft("d", "news")], ())
    until(lambda: store.page("news", None, None, 1, 1) != [])
    assert other.wait(10) == Hint(frozenset({"lobby", "news"}), frozenset())


def test_a_hint_about_very_many_rooms_is_about_all(store: PostgresStore, other: PostgresStore) -> None:
    other.wait(0)
    store.append([draft("a", f"a-room-with-a-long-name-{n}") for n in range(400)], ())
    assert other.wait(10) == Hint(None, frozenset())


def test_after_a_lost_connection_all_may_have_changed(
    store: PostgresStore, other: PostgresStore, admin: psycopg.Connection
) -> None:
    store.wait(0)
    backends(admin)
    with pytest.raises(StoreError):
        store.wait(10)
    assert heard(store) == EVERYTHING
    other.reopen()
    other.append([draft("a")], ())
    assert store.wait(10) == Hint(frozenset({"lobby"}), frozenset())


def alive(*stores: PostgresStore, lease: float = 0.4) -> None:
    """Give the nodes a short lease, and have them live through one of it."""
    for store in stores:
        store.lease = lease
        assert store.renew() is False
    deadline = time.monotonic() + lease * 1.2
    while time.monotonic() < deadline:
        for store in stores:
            assert store.renew() is True
        time.sleep(lease / 10)


def test_a_name_belongs_to_one_session_on_all_nodes(store: PostgresStore, other: PostgresStore) -> None:
    ana, bob, eve = session(1, name="ana"), session(2, name="bob"), session(3, name="Ana")
    assert store.claim([(ana, "ana"), (bob, "bob"), (eve, "ana")]) == [True, True, False]
    assert other.claim([(eve, "ana"), (ana, "ana")]) == [False, True]
    assert other.session(b"\x01") == ana
    assert other.session(b"\x03") is None
    store.release([1])
    assert store.claim([(eve, "ana")]) == [False]
    other.release([1])
    assert store.claim([(eve, "ana")]) == [True]


def test_a_session_that_takes_another_name_gives_up_the_first(store: PostgresStore, other: PostgresStore) -> None:
    assert store.claim([(session(1), "ana")]) == [True]
    assert other.claim([(session(1, name="bea"), "bea")]) == [True]
    assert store.claim([(session(2), "ana"), (session(3), "bea")]) == [True, False]


def test_two_nodes_that_claim_at_once_agree(store: PostgresStore, other: PostgresStore) -> None:
    won: dict[int, list[bool]] = {}

    def claim(node: PostgresStore, base: int) -> None:
        chance = random.Random(base)
        keys = [f"name{n}" for n in range(50)]
        chance.shuffle(keys)
        claims = [(SessionRecord(base + int(key[4:]), None, key, 0, True), key) for key in keys]
        won[base] = [one for n in range(0, 50, 10) for one in node.claim(claims[n : n + 10])]

    at_once(lambda: claim(store, 100), lambda: claim(other, 200))
    assert sum(won[100]) + sum(won[200]) == 50


def test_a_session_that_moves_while_it_leaves_keeps_its_name(store: PostgresStore, other: PostgresStore) -> None:
    ana = session(1)
    store.claim([(ana, "ana")])
    here, there = store, other
    for _ in range(30):
        at_once(lambda here=here: here.release([1]), lambda there=there: there.claim([(ana, "ana")]))  # type: ignore[misc]
        assert here.claim([(session(2), "ana")]) == [False]
        here, there = there, here


def test_presence_is_that_of_all_nodes(store: PostgresStore, other: PostgresStore) -> None:
    for node in (store, other):
        node.wait(0)
    store.claim([(session(1), "name1"), (session(2), "name2")])
    other.claim([(session(2), "name2"), (session(3), "name3")])
    store.enter([(1, "lobby"), (2, "lobby"), (1, "dev")])
    other.enter([(2, "lobby"), (3, "lobby")])
    assert store.members("lobby") == [(1, "name1"), (2, "name2"), (3, "name3")]
    assert other.members("dev") == [(1, "name1")]
    assert store.counts() == {"dev": 1, "lobby": 3}
    assert store.wait(10) == Hint(frozenset(), frozenset({"lobby"}))
    assert other.wait(10) == Hint(frozenset(), frozenset({"lobby", "dev"}))
    store.leave([(2, "lobby"), (1, "dev")])
    assert other.members("lobby") == [(1, "name1"), (2, "name2"), (3, "name3")]
    assert other.members("dev") == []
    assert other.wait(10) == Hint(frozenset(), frozenset({"lobby", "dev"}))
    other.release([2, 3])
    assert store.members("lobby") == [(1, "name1")]
    assert store.wait(10) == Hint(frozenset(), frozenset({"lobby"}))


def test_whether_somebody_came_or_went_elsewhere(store: PostgresStore, other: PostgresStore) -> None:
    store.claim([(session(1), "name1")])
    other.claim([(session(2), "name2"), (session(3), "name3")])
    store.enter([(1, "lobby")])
    assert store.elsewhere() == {}
    other.enter([(2, "lobby"), (2, "dev")])
    before = store.elsewhere()
    assert before.keys() == {"lobby", "dev"}
    other.leave([(2, "lobby")])
    other.enter([(3, "lobby")])
    after = store.elsewhere()
    assert after["lobby"] != before["lobby"]
    assert after["dev"] == before["dev"]
    other.release([2])
    assert store.elsewhere() == {"lobby": after["lobby"]}


def test_what_a_dead_node_held_is_freed(store: PostgresStore, other: PostgresStore) -> None:
    """Sessions without a token at once; those with one after their grace, those on two nodes not at all."""
    alive(store, other)
    text, token, moved = session(1, token=False), session(2), session(3)
    other.claim([(text, "text"), (token, "token"), (moved, "moved")])
    other.enter([(1, "lobby"), (2, "lobby"), (3, "lobby")])
    store.claim([(moved, "moved")])
    store.enter([(3, "lobby")])
    store.wait(0)

    def reaped(left: list[int], grace: float) -> bool:
        store.renew()
        store.reap(grace)
        return [session for session, _ in store.members("lobby")] == left

    until(lambda: reaped([2, 3], 1.0))
    assert store.wait(10).presence == frozenset({"lobby"})
    assert store.claim([(session(4), "text"), (session(5), "token"), (session(6), "moved")]) == [
        True,
        False,
        False,
    ]
    until(lambda: reaped([3], 1.0))
    assert store.claim([(session(5), "token"), (session(6), "moved")]) == [True, False]
    # The node was only stopped: it learns that it has to claim what it had, and what it lost.
    assert other.renew() is False
    assert other.claim([(text, "text"), (token, "token"), (moved, "moved")]) == [False, False, True]


def test_a_session_on_hold_is_freed_when_it_said_if_its_node_dies(
    store: PostgresStore, other: PostgresStore
) -> None:
    alive(store, other)
    other.claim([(session(1), "ana"), (session(2), "bob")])
    other.hold([(1, 0.1), (2, 1000)])

    def ana_is_free() -> bool:
        store.renew()
        store.reap(GRACE)
        return store.claim([(session(9), "ana")]) == [True]

    until(ana_is_free)
    assert store.claim([(session(8), "bob")]) == [False]


def test_a_living_node_frees_nothing_of_its_own_or_of_others(store: PostgresStore, other: PostgresStore) -> None:
    alive(store, other)
    other.claim([(session(1, token=False), "ana")])
    other.hold([(1, 0.0)])
    store.claim([(session(2, token=False), "bob")])
    for _ in range(20):
        other.renew()
        store.renew()
        store.reap(0)
        time.sleep(0.02)
    assert store.claim([(session(9), "ana"), (session(8), "bob")]) == [False, False]


def test_nobody_is_reaped_after_an_outage_before_he_could_come_back(
    store: PostgresStore, other: PostgresStore
) -> None:
    lease = 0.6
    alive(store, other, lease=lease)
    other.claim([(session(1, token=False), "ana")])
    # Nobody reaches the database for longer than a lease; then one node does before the other.
    time.sleep(lease * 1.5)
    assert store.renew() is True
    store.reap(0)
    assert other.renew() is True
    assert store.claim([(session(9), "ana")]) == [False]


def test_a_node_that_closes_is_dead_for_the_others(store: PostgresStore, other: PostgresStore) -> None:
    alive(store, lease=0.3)
    other.renew()
    other.claim([(session(1, token=False), "ana")])
    other.close()
    store.renew()
    store.reap(GRACE)
    assert store.claim([(session(9), "ana")]) == [True]


def test_a_session_that_is_here_does_not_expire(store: PostgresStore) -> None:
    store.claim([(session(1), "ana")])
    assert store.expire_sessions(10**9, 100) == 0
    store.release([1])
    assert store.expire_sessions(10**9, 100) == 1


def test_who_is_here_is_settled_anew(store: PostgresStore, other: PostgresStore) -> None:
    store.claim([(session(1), "name1"), (session(2), "name2"), (session(3), "name3")])
    store.enter([(1, "lobby"), (1, "dev"), (2, "lobby"), (3, "lobby")])
    other.claim([(session(3), "name3"), (session(4), "name4")])
    other.enter([(3, "lobby"), (4, "lobby")])
    other.wait(0)
    store.settle([1, 5], [(1, "lobby"), (1, "den")])
    assert store.members("lobby") == [(1, "name1"), (3, "name3"), (4, "name4")]
    assert store.members("dev") == []
    assert store.members("den") == [(1, "name1")]
    assert other.wait(10) == Hint(frozenset(), frozenset({"lobby", "dev", "den"}))
    assert other.claim([(session(9), "name2"), (session(8), "name3"), (session(7), "name1")]) == [
        True,
        False,
        False,
    ]


def test_after_a_lost_connection_it_is_to_tell_all_anew(store: PostgresStore) -> None:
    assert store.renew() is False
    assert store.renew() is True
    store.reopen()
    assert store.renew() is False
    assert store.renew() is True


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_what_does_not_answer_is_cut_off(store: PostgresStore, url: str, seconds: float) -> None:
    """Somebody else holds the lock of a row: for the node that is a database that does not answer."""
    store.append([draft("one")], [session(1)])
    with psycopg.connect(url) as holder:
        holder.execute("SELECT 1 FROM rooms FOR UPDATE")
        failed: list[StoreError] = []

        def append() -> None:
            try:
                store.append([draft("two")], [])
            except StoreError as error:
                failed.append(error)

        writing = threading.Thread(target=append)
        began = time.monotonic()
        writing.start()
        while writing.is_alive():
            store.interrupt(seconds)
            time.sleep(0.01)
        assert failed and not isinstance(failed[0], OutcomeUnknown)
        assert seconds <= time.monotonic() - began < 4
    store.reopen()
    assert [kept.seq for kept in store.append([draft("two")], [])] == [2]
