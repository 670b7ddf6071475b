"""The contract of a store: one body of tests, run against each of them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from chatd.events import Message
from chatd.interfaces import (
    Draft,
    IStore,
    Kept,
    OutcomeUnknown,
    RoomRecord,
    SessionRecord,
    StoreError,
    StoreUnusable,
)
from chatd.stores import fold, open_store
from tests.postgres import new_database

# Each example of a property gets the same stores, and rooms of its own in them.
on_one_store = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)

FOREVER = 60.0


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a new database is."""
    if request.param == "sqlite":
        yield str(tmp_path / "chat.db")
    else:
        with new_database() as url:
            yield url


@pytest.fixture
def store(url: str) -> Iterator[IStore]:
    store = open_store(url)
    store.open()
    yield store
    store.close()


@pytest.fixture
def each_store(tmp_path: Path) -> Iterator[list[IStore]]:
    """One of each kind, for properties: pytest-twisted cannot run one with several parameters."""
    with new_database() as url:
        stores = [open_store(str(tmp_path / "chat.db")), open_store(url)]
        for store in stores:
            store.open()
        yield stores
        for store in stores:
            store.close()


@pytest.fixture
def new_room() -> Callable[[], str]:
    """Names of rooms that no other example has used."""
    numbers = iter(range(1_000_000))
    return lambda: f"room{next(numbers)}"


def draft(
    text: str = "hola",
    room: str = "lobby",
    *,
    id: str | None = None,
    session: int = 1,
    at: int = 1000,
    action: bool = False,
) -> Draft:
    return Draft(room, session, text if id is None else id, at, f"name{session}", text, action)


def drafts(texts: Sequence[str], room: str = "lobby") -> list[Draft]:
    return [draft(text, room, id=f"{number}") for number, text in enumerate(texts)]


def page(
    store: IStore,
    room: str = "lobby",
    after: int | None = None,
    before: int | None = None,
    limit: int = 1000,
    size: int = 1 << 30,
) -> list[Message]:
    return store.page(room, after, before, limit, size)


def seqs(messages: Sequence[Message]) -> list[int]:
    return [message.seq for message in messages]


def texts(messages: Sequence[Message]) -> list[str]:
    return [message.text for message in messages]


def found(store: IStore, words: str, room: str = "lobby", before: int = 1 << 30, limit: int = 1000) -> list[str]:
    return texts(store.search(room, words, before, limit, FOREVER))


def index_all(store: IStore, step: int = 100) -> None:
    while store.index(step):
        pass


def reopened(store: IStore) -> IStore:
    store.close()
    store.open()
    return store


def fields(message: Message) -> tuple[object, ...]:
    return message.room, message.seq, message.at, message.session, message.name, message.text, message.action


def test_is_a_store(store: IStore) -> None:
    assert verifyObject(IStore, store)


def test_numbers_count_from_one_in_each_room(store: IStore) -> None:
    batch = [draft("a", "one"), draft("b", "two"), draft("c", "one")]
    assert store.append(batch, ()) == [Kept(1, 1000), Kept(1, 1000), Kept(2, 1000)]
    assert store.append([draft("d", "two"), draft("e", "one")], ()) == [Kept(2, 1000), Kept(3, 1000)]


def test_a_page_holds_what_was_appended(store: IStore) -> None:
    store.append(
        [Draft("lobby", 7, "x", 5000, "ana", "hola"), Draft("lobby", 8, "y", 6000, "bob", "se va", True)], ()
    )
    assert [fields(message) for message in page(store)] == [
        ("lobby", 1, 5000, 7, "ana", "hola", False),
        ("lobby", 2, 6000, 8, "bob", "se va", True),
    ]


def test_the_moment_never_runs_back_in_a_room(store: IStore) -> None:
    assert [kept.at for kept in store.append([draft("a", at=500), draft("b", at=300)], ())] == [500, 500]
    assert [kept.at for kept in store.append([draft("c", at=400), draft("d", "other", at=200)], ())] == [500, 200]
    assert [kept.at for kept in reopened(store).append([draft("e", at=499), draft("f", at=501)], ())] == [500, 501]
    assert [message.at for message in page(store)] == [500, 500, 500, 500, 501]


def test_a_repeat_gets_its_first_number_and_stores_nothing(store: IStore) -> None:
    store.append([draft("a"), draft("b")], ())
    assert store.append([draft("b", at=9000)], ()) == [Kept(2, 1000, new=False)]
    assert store.append([draft("c"), draft("a"), draft("d")], ()) == [
        Kept(3, 1000),
        Kept(1, 1000, new=False),
        Kept(4, 1000),
    ]
    assert texts(page(store)) == ["a", "b", "c", "d"]


def test_a_repeat_within_a_batch_is_one_message(store: IStore) -> None:
    batch = [draft("a"), draft("b"), draft("a", at=9000), draft("c"), draft("b")]
    assert [(kept.seq, kept.new) for kept in store.append(batch, ())] == [
        (1, True),
        (2, True),
        (1, False),
        (3, True),
        (2, False),
    ]
    assert texts(page(store)) == ["a", "b", "c"]


def test_an_id_used_for_another_text_is_not_the_same(store: IStore) -> None:
    batch = [draft("a", id="1"), draft("b", id="1"), draft("a", id="1", action=True), draft("a", id="1")]
    assert [kept.same for kept in store.append(batch, ())] == [True, False, False, True]
    assert [kept.same for kept in store.append(batch, ())] == [True, False, False, True]
    assert texts(page(store)) == ["a"]


def test_an_id_is_unique_in_its_session_and_room_alone(store: IStore) -> None:
    batch = [draft("a", id="1"), draft("b", id="1", session=2), draft("c", "other", id="1")]
    assert [(kept.seq, kept.new) for kept in store.append(batch, ())] == [(1, True), (2, True), (1, True)]


def test_a_batch_may_be_empty(store: IStore) -> None:
    assert store.append([], ()) == []
    assert store.append([], [SessionRecord(1, b"t", "ana", 0, False)]) == []
    assert store.session(b"t") is not None


# Few rooms, sessions and ids, so that repeats of stored drafts, and within a batch, come often.
some_drafts = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(1, 2), st.sampled_from("abcd"), st.sampled_from("xy"), st.integers(0, 9)
    ),
    max_size=12,
)


@on_one_store
@given(batches=st.lists(some_drafts, max_size=5))
def test_any_mix_of_repeats_leaves_no_holes(
    each_store: list[IStore],
    new_room: Callable[[], str],
    batches: list[list[tuple[int, int, str, str, int]]],
) -> None:
    rooms = [new_room() for _ in range(3)]
    for store in each_store:
        check_repeats(
            store,
            rooms,
            [
                [draft(text, rooms[n], id=id, session=session, at=at) for n, session, id, text, at in batch]
                for batch in batches
            ],
        )


def check_repeats(store: IStore, rooms: list[str], batches: list[list[Draft]]) -> None:
    """Append the batches, and compare with a model: a list for each room, and what each id got first."""
    logs: dict[str, list[tuple[int, Draft]]] = {room: [] for room in rooms}
    first: dict[tuple[str, int, str], tuple[int, int, Draft]] = {}
    for batch in batches:
        for one, kept in zip(batch, store.append(batch, ()), strict=True):
            log = logs[one.room]
            key = one.room, one.session, one.id
            if key in first:
                seq, at, original = first[key]
                assert kept == Kept(seq, at, new=False, same=original.text == one.text)
            else:
                at = max([one.at, *(at for at, _ in log[-1:])])
                assert kept == Kept(len(log) + 1, at)
                log.append((at, one))
                first[key] = len(log), at, one
    for room, log in logs.items():
        assert [fields(message) for message in page(store, room)] == [
            (room, seq, at, one.session, one.name, one.text, False) for seq, (at, one) in enumerate(log, 1)
        ]
        assert store.room(room) == (RoomRecord(room, len(log), 1) if log else None)


def test_all_is_there_after_closing_and_opening(store: IStore) -> None:
    log_id = store.log_id
    ana = SessionRecord(1, b"t", "ana", 5, True)
    store.append(drafts("abc"), [ana])
    store.index(2)
    reopened(store)
    assert store.log_id == log_id
    assert store.append(drafts("abcd"), ())[-2:] == [Kept(3, 1000, new=False), Kept(4, 1000)]
    assert texts(page(store)) == ["a", "b", "c", "d"]
    assert found(store, "a") == ["a"]
    assert found(store, "d") == ["d"]
    assert store.session(b"t") == ana
    assert store.rooms() == [RoomRecord("lobby", 4, 1)]


def test_log_ids_differ(store: IStore, tmp_path: Path) -> None:
    other = open_store(str(tmp_path / "other.db"))
    other.open()
    assert len(store.log_id) >= 16
    assert other.log_id != store.log_id
    other.close()


def test_after_a_reopened_connection_it_goes_on(store: IStore) -> None:
    store.append(drafts("a"), ())
    store.reopen()
    assert store.append(drafts("ab"), ()) == [Kept(1, 1000, new=False), Kept(2, 1000)]


def test_a_closed_store_says_so(store: IStore) -> None:
    store.close()
    for call in (lambda: store.append(drafts("a"), ()), store.rooms, store.reopen, lambda: store.save([])):
        with pytest.raises(StoreError):
            call()


def test_long_and_foreign_texts_come_back_as_they_are(store: IStore) -> None:
    odd = ["\U0001f600" * 4000, "a\u0301 \u202e \ufffd", "'; DROP TABLE messages; --", "%s {} \\ \" ' $1", " "]
    last = Draft("日本", 2**63 - 1, "\U0001f600" * 64, 2**53, "Ünï", "x")
    store.append([*drafts(odd), last], [SessionRecord(2**63 - 1, bytes(range(32)), "Ünï", 2**53, True)])
    assert texts(page(store)) == odd
    assert [fields(message) for message in page(store, "日本")] == [
        ("日本", 1, 2**53, 2**63 - 1, "Ünï", "x", False)
    ]
    assert store.append([last], ()) == [Kept(1, 2**53, new=False)]


def test_pages_after_and_before_a_number(store: IStore) -> None:
    store.append(drafts("abcdefgh"), ())
    assert seqs(page(store, limit=3)) == [6, 7, 8]
    assert seqs(page(store, before=6, limit=3)) == [3, 4, 5]
    assert seqs(page(store, before=3, limit=3)) == [1, 2]
    assert seqs(page(store, before=1)) == []
    assert seqs(page(store, after=0, limit=3)) == [1, 2, 3]
    assert seqs(page(store, after=3, limit=3)) == [4, 5, 6]
    assert seqs(page(store, after=3, before=6)) == [4, 5]
    assert seqs(page(store, after=8)) == []
    assert seqs(page(store, after=6, before=3)) == []
    assert seqs(page(store, limit=0)) == []
    assert page(store, "nowhere") == []


@pytest.mark.parametrize("far", [2**40 - 1, 2**40, 2**40 + 5, 2**63, 2**80])
def test_numbers_out_of_all_bounds_do_not_reach_other_rooms(store: IStore, far: int) -> None:
    store.append([draft(text, room) for room in ("one", "two", "three") for text in "ab"], ())
    for room in ("one", "two", "three"):
        assert page(store, room, after=far) == []
        assert page(store, room, before=-far) == []
        assert seqs(page(store, room, before=far)) == [1, 2]
        assert seqs(page(store, room, after=-far)) == [1, 2]
        assert found(store, "a", room, before=far) == ["a"]
        assert found(store, "a", room, before=-far) == []


def test_a_page_is_bounded_by_bytes_but_holds_one(store: IStore) -> None:
    store.append(drafts(["a" * 100, "é" * 50, "b" * 100, "c" * 1000, "d"]), ())
    assert seqs(page(store, after=0, size=200)) == [1, 2]
    assert seqs(page(store, after=0, size=199)) == [1]
    assert seqs(page(store, after=0, size=0)) == [1]
    assert seqs(page(store, after=3, size=10)) == [4]
    assert seqs(page(store, size=1000)) == [5]
    assert seqs(page(store, size=1001)) == [4, 5]


def test_rooms_by_name(store: IStore) -> None:
    assert store.rooms() == []
    assert store.room("b") is None
    store.append([draft("1", "b"), draft("2", "a"), draft("3", "ñ"), draft("4", "b")], ())
    assert store.rooms() == [RoomRecord("a", 1, 1), RoomRecord("b", 2, 1), RoomRecord("ñ", 1, 1)]
    assert store.room("b") == RoomRecord("b", 2, 1)


def test_search_finds_whole_words_without_case_and_accents(store: IStore) -> None:
    store.append(drafts(["Mañana, en la PLAZA", "manana", "la plaza mayor", "plazas", "STRASSE"]), ())
    for _ in range(2):
        assert found(store, "mañana") == ["manana", "Mañana, en la PLAZA"]
        assert found(store, "Plaza LA") == ["la plaza mayor", "Mañana, en la PLAZA"]
        assert found(store, "plaz") == []
        assert found(store, "straße") == ["STRASSE"]
        assert found(store, "plaza playa") == []
        assert found(store, " ,!") == []
        index_all(store)


def test_search_keeps_to_its_room_and_newest_first(store: IStore) -> None:
    store.append([draft(f"{n} word", room) for n in range(9) for room in ("one", "two", "three")], ())
    for _ in range(2):
        assert found(store, "word", "two", limit=3) == ["8 word", "7 word", "6 word"]
        assert found(store, "word", "two", before=3) == ["1 word", "0 word"]
        assert found(store, "word", "two", before=1) == []
        assert found(store, "word", "nowhere") == []
        assert len(found(store, "word", "three")) == 9
        index_all(store)


@pytest.mark.parametrize(
    "words", ['"', "a AND", "NEAR(a b)", "a*", "words:a", "-a", "a OR b", "(", "^a", "'", "a:*", "!a & |"]
)
def test_what_is_searched_is_no_language(store: IStore, words: str) -> None:
    said = ["a", "b", "a b", "and a", "or a b", "near a b", "words a"]
    store.append(drafts(said), ())
    for _ in range(2):
        wanted = set(fold(words))
        naive = [text for text in reversed(said) if wanted and wanted <= set(fold(text))]
        assert found(store, words) == naive
        index_all(store)


# Words that fold into others, that a tokenizer might cut elsewhere, and that mean something in a query.
some_words = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "a",
                "A",
                "Á",
                "a\u0301",
                "ß",
                "ss",
                "ﬁ",
                "fi",
                "x_y",
                "x",
                "y",
                "かが",
                "かか",
                "हि",
                "हा",
                "AND",
                '"',
                "❤️",
                "²",
            ]
        ),
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=4,
).map(" ".join)


@on_one_store
@given(
    said=st.lists(some_words, max_size=20),
    sought=some_words,
    indexed=st.integers(1, 25),
    removed=st.integers(0, 20),
)
@example(said=["w" * 40000 + "1", "w" * 40000 + "2"], sought="w" * 40000 + "1", indexed=9, removed=0)
@example(
    said=[" ".join(f"w{n}" for n in range(300))],
    sought=" ".join(f"w{n}" for n in range(300)),
    indexed=9,
    removed=0,
)
def test_search_finds_what_reading_all_finds(
    each_store: list[IStore],
    new_room: Callable[[], str],
    said: list[str],
    sought: str,
    indexed: int,
    removed: int,
) -> None:
    room, other = new_room(), new_room()
    wanted = set(fold(sought))
    naive = [text for text in reversed(said[removed:]) if wanted and wanted <= set(fold(text))]
    for store in each_store:
        index_all(store)
        store.append([draft(text, room, id=f"{n}", at=n) for n, text in enumerate(said)], ())
        store.append([draft(sought, other, at=10**9)], ())
        store.index(indexed)
        store.retain(removed, 1000)
        assert found(store, sought, room) == naive


def test_a_search_that_takes_too_long_is_cut(store: IStore) -> None:
    store.append(drafts(["some words"] * 3000), ())
    with pytest.raises(TimeoutError):
        store.search("lobby", "other", 1 << 30, 10, 0.0)
    assert found(store, "words", limit=1) == ["some words"]


def test_the_index_goes_on_in_steps(store: IStore) -> None:
    assert store.index(10) is False
    store.append([draft(f"{n}", room) for n in range(25) for room in ("one", "two")], ())
    assert [store.index(20) for _ in range(4)] == [True, True, False, False]
    store.append([draft("more", "two")], ())
    assert store.index(20) is False
    assert found(store, "more", "two") == ["more"]
    assert found(store, "24", "one") == ["24"]


def test_retention_removes_what_is_older_from_the_front(store: IStore) -> None:
    store.append([draft(f"{n}", id=f"{n}", at=1000 + n) for n in range(10)], ())
    store.append([draft("young", "other", at=1005), draft("old", "gone", at=1)], ())
    index_all(store)
    assert store.retain(1004, 2) == 2
    assert store.retain(1004, 100) == 3
    assert store.retain(1004, 100) == 0
    assert store.rooms() == [RoomRecord("gone", 1, 2), RoomRecord("lobby", 10, 5), RoomRecord("other", 1, 1)]
    assert seqs(page(store, after=0, limit=2)) == [5, 6]
    assert seqs(page(store, before=6)) == [5]
    assert page(store, "gone") == []
    assert found(store, "3") == []
    assert found(store, "4") == ["4"]
    assert found(store, "old", "gone") == []


def test_numbers_never_come_again(store: IStore) -> None:
    store.append(drafts("abc"), ())
    assert store.retain(10**9, 100) == 3
    assert store.room("lobby") == RoomRecord("lobby", 3, 4)
    assert store.append([draft("d", at=5), draft("e", at=2000)], ()) == [Kept(4, 1000), Kept(5, 2000)]
    assert store.room("lobby") == RoomRecord("lobby", 5, 4)
    assert reopened(store).retain(1500, 100) == 1
    assert texts(page(store)) == ["e"]
    assert store.retain(10**9, 100) == 1
    assert reopened(store).append([draft("f")], ()) == [Kept(6, 2000)]
    assert found(store, "f") == ["f"]


def test_a_repeat_is_known_after_its_text_is_gone(store: IStore) -> None:
    store.append(drafts("abc"), ())
    store.retain(10**9, 2)
    assert store.append(drafts("abcd"), ()) == [
        Kept(1, 1000, new=False),
        Kept(2, 1000, new=False),
        Kept(3, 1000, new=False),
        Kept(4, 1000),
    ]


def test_sessions_are_saved_changed_and_found(store: IStore) -> None:
    ana = SessionRecord(1, b"a" * 32, "ana", 1000, True)
    bob = SessionRecord(2, None, "bob", 1000, True)
    eve = SessionRecord(3, None, "eve", 1000, False)
    store.append(drafts("a"), [ana])
    store.save([bob, eve])
    assert store.session(b"a" * 32) == ana
    assert store.session(b"b" * 32) is None
    assert sorted(store.held_sessions(), key=lambda session: session.id) == [ana, bob]
    changed = SessionRecord(1, b"c" * 32, "ana2", 2000, False)
    store.append([], [changed])
    assert store.session(b"a" * 32) is None
    assert store.session(b"c" * 32) == changed
    assert store.held_sessions() == [bob]


def test_a_session_and_its_drafts_are_stored_together_or_not_at_all(store: IStore) -> None:
    ana = SessionRecord(1, b"t", "ana", 1000, True)
    store.append(drafts("a"), [ana])
    with pytest.raises(StoreError) as caught:
        store.append(drafts("ab"), [SessionRecord(2, b"t", "same token", 1000, True)])
    assert not isinstance(caught.value, OutcomeUnknown)
    assert texts(page(store)) == ["a"]
    assert store.append(drafts("ab"), [ana]) == [Kept(1, 1000, new=False), Kept(2, 1000)]


def test_old_sessions_are_forgotten_with_their_ids(store: IStore) -> None:
    old = [SessionRecord(n, bytes([n]), f"old{n}", n, False) for n in range(1, 6)]
    store.append(
        [draft(id="1", session=n) for n in range(1, 8)], [*old, SessionRecord(7, b"new", "new", 1000, True)]
    )
    assert store.expire_sessions(6, 2) == 2
    assert store.session(bytes([2])) is None
    assert store.session(bytes([3])) == old[2]
    assert store.expire_sessions(6, 100) == 3
    assert store.expire_sessions(6, 100) == 0
    assert store.session(b"new") is not None
    # The ids went with the sessions: what was a repeat is a new message now.
    again = store.append([draft(id="1", session=n) for n in (1, 5, 7)], ())
    assert [(kept.seq, kept.new) for kept in again] == [(8, True), (9, True), (7, False)]
    assert seqs(page(store)) == list(range(1, 10))


def test_a_session_with_very_many_ids_goes_in_steps(store: IStore) -> None:
    many = 5000
    store.append([draft(id=f"{n}") for n in range(many)], [SessionRecord(1, b"t", "ana", 1, False)])
    calls = 0
    while store.expire_sessions(2, 100):
        calls += 1
    assert calls > 1
    assert store.session(b"t") is None
    assert [kept.new for kept in store.append([draft(id=f"{n}") for n in range(many)], ())] == [True] * many


def test_threads_read_beside_the_one_that_writes(store: IStore) -> None:
    problems: list[object] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            room = store.room("lobby")
            last = room.last if room else 0
            got = page(store, after=max(0, last - 20), limit=100)
            if seqs(got) != list(range(max(0, last - 20) + 1, max(0, last - 20) + 1 + len(got))) or len(got) < min(
                last, 20
            ):
                problems.append((last, seqs(got)))
            if len(found(store, "word", limit=20)) < min(last, 20):
                problems.append(("search", last))

    def guarded() -> None:
        try:
            read()
        except BaseException as error:
            problems.append(error)

    readers = [threading.Thread(target=guarded) for _ in range(3)]
    for reader in readers:
        reader.start()
    for n in range(60):
        store.append([draft("word", id=f"{n} {m}") for m in range(10)], ())
        store.index(7)
    done.set()
    for reader in readers:
        reader.join()
    assert problems == []
    assert seqs(page(store, after=0)) == list(range(1, 601))


def test_writes_may_come_from_different_threads(store: IStore) -> None:
    for n in range(5):
        thread = threading.Thread(target=lambda n=n: store.append([draft(f"{n}")], ()))
        thread.start()
        thread.join()
    assert texts(page(store)) == ["0", "1", "2", "3", "4"]


def test_a_batch_may_go_to_many_rooms(store: IStore) -> None:
    batch = [draft(f"{n}", f"room{n % 300}") for n in range(900)]
    kept = store.append(batch, ())
    assert [one.seq for one in kept] == [1] * 300 + [2] * 300 + [3] * 300
    assert texts(page(store, "room7")) == ["7", "307", "607"]


def test_a_store_without_its_library_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith(("psycopg", "chatd.stores.postgres"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for url in ("postgresql://user@host/name", "postgres://host"):
        with pytest.raises(StoreUnusable, match=r"^[^\n]*pip install 'chatd\[postgres\]'$"):
            open_store(url)
