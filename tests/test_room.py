"""A room's window beside a naive list, the bound on all windows, and who is live."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from chatd.events import Message
from chatd.interfaces import IMember
from chatd.room import Room, Window, WindowBudget, cost
from chatd.sessions import Session

#: How far behind the next number, or beyond it.
backs = st.integers(-9, 40)
limits = st.integers(1, 12)
sizes = st.integers(1, 2000)


def messages(first: int, *texts: str) -> list[Message]:
    return [Message("lobby", seq, 0, 1, "ana", text) for seq, text in enumerate(texts, first)]


def seqs(page: list[Message] | None) -> list[int] | None:
    return None if page is None else [message.seq for message in page]


def fit(page: list[Message], max_bytes: int) -> list[Message]:
    """The first ones, up to and with the one that is too much."""
    taken: list[Message] = []
    for message in page:
        if max_bytes <= 0:
            break
        taken.append(message)
        max_bytes -= len(message.text) + 100
    return taken


class WindowBesideAList(RuleBasedStateMachine):
    """Whatever is added and forgotten, a window answers as the list of its messages would, or not at all."""

    @initialize(first=st.integers(1, 50))
    def begin(self, first: int) -> None:
        self.window = Window()
        self.log: list[Message] = []
        self.next = first

    @rule(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=8))
    def extend(self, lengths: list[int]) -> None:
        new = messages(self.next, *("x" * length for length in lengths))
        assert self.window.extend(new) == sum(map(cost, new))
        self.log += new
        self.next += len(new)

    @rule(count=st.integers(0, 10))
    def forget(self, count: int) -> None:
        self.window.forget(count)
        del self.log[:count]

    @rule(back=backs, limit=limits, max_bytes=sizes)
    def after(self, back: int, limit: int, max_bytes: int) -> None:
        seq = max(self.next - back, 0)
        page = self.window.after(seq, limit, max_bytes)
        if not self.log or seq + 1 < self.log[0].seq:
            assert page is None
        else:
            assert page == fit([message for message in self.log if message.seq > seq][:limit], max_bytes)

    @rule(back=backs, limit=limits, max_bytes=sizes)
    def before(self, back: int, limit: int, max_bytes: int) -> None:
        seq = self.next - back
        page = self.window.before(seq, limit, max_bytes)
        wanted = [message for message in self.log if message.seq < seq][-limit:]
        if page is None:
            assert len(wanted) < limit
        else:
            assert page == fit(wanted[::-1], max_bytes)[::-1]

    @rule(limit=limits)
    def the_end(self, limit: int) -> None:
        page = self.window.before(self.next, limit, 10**6)
        assert page == (self.log[-limit:] if len(self.log) >= limit else None)

    @invariant()
    def sizes_agree(self) -> None:
        assert len(self.window) == len(self.log)
        assert self.window.first == (self.log[0].seq if self.log else None)
        assert self.window.bytes == sum(map(cost, self.log))


test_window_beside_a_list = WindowBesideAList.TestCase


def test_a_window_holds_on_to_nothing_that_it_forgot() -> None:
    window = Window()
    for first in range(1, 10_000, 10):
        window.extend(messages(first, *"abcdefghij"))
        window.forget(10)
    assert len(window._messages) <= 20


def test_a_page_has_one_message_at_least() -> None:
    window = Window()
    window.extend(messages(1, "x" * 4000, "y"))
    assert seqs(window.after(0, 10, 1)) == [1]
    assert seqs(window.before(3, 2, 1)) == [2]


added = st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(1, 400), min_size=1, max_size=6)))


@given(added, st.integers(1, 20_000))
def test_all_windows_together_are_bounded(batches: list[tuple[int, list[int]]], limit: int) -> None:
    budget = WindowBudget(limit)
    windows = [Window() for _ in range(4)]
    logs: list[list[Message]] = [[] for _ in windows]
    order: list[tuple[int, list[Message]]] = []
    for room, lengths in batches:
        batch = messages(len(logs[room]) + 1, *("x" * length for length in lengths))
        logs[room] += batch
        order.append((room, batch))
        budget.added(windows[room], len(batch), windows[room].extend(batch))
        while sum(sum(map(cost, old)) for _, old in order) > limit:
            order.pop(0)
        kept: list[list[Message]] = [[] for _ in windows]
        for where, old in order:
            kept[where] += old
        assert sum(window.bytes for window in windows) <= limit
        assert [len(window) for window in windows] == list(map(len, kept))
        assert [window.first for window in windows] == [old[0].seq if old else None for old in kept]


def test_a_window_that_retention_has_cut_is_bounded_too() -> None:
    budget, window = WindowBudget(100 * cost(messages(1, "x")[0])), Window()
    for first in range(1, 2001, 50):
        batch = messages(first, *("x" * 50))
        budget.added(window, len(batch), window.extend(batch))
        window.forget(30)
        assert len(window) <= 100


class Door:
    """A door is a key here."""


class Connection:
    """As much of a member as a room knows of it."""

    def __init__(self, door: Door) -> None:
        self.door = door


def member(door: Door) -> IMember:
    return cast(IMember, Connection(door))


def test_who_is_live_by_door() -> None:
    room, tcp, web = Room("lobby", 0, 1), Door(), Door()
    one, two, three = member(tcp), member(tcp), member(web)
    for connection in (one, two, three, one):
        room.go_live(connection)
    live = cast("dict[Door, dict[IMember, None]]", room.live)
    assert {door: list(members) for door, members in live.items()} == {tcp: [one, two], web: [three]}
    room.fall_behind(three)
    room.fall_behind(three)
    room.fall_behind(member(web))
    assert list(live) == [tcp]
    room.fall_behind(one)
    assert list(live[tcp]) == [two]


def test_the_last_number_moves_with_each_batch() -> None:
    room = Room("lobby", 7, 3)
    batch = messages(8, "a", "bc")
    assert room.extend(batch) == sum(map(cost, batch))
    assert room.last == 9
    assert seqs(room.window.after(7, 10, 1000)) == [8, 9]


@pytest.mark.parametrize(("first", "left"), [(3, [5, 6, 7]), (6, [6, 7]), (8, []), (20, [])])
def test_what_retention_removed_leaves_memory_too(first: int, left: list[int]) -> None:
    room = Room("lobby", 4, 3)
    room.extend(messages(5, "a", "b", "c"))
    room.forget(first)
    assert room.first == first
    assert room.window.first == (left[0] if left else None)
    assert len(room.window) == len(left)
    room.forget(1)
    assert room.first == first


def test_names_come_in_the_order_of_arrival() -> None:
    room = Room("lobby", 0, 1)
    for id, name in enumerate(["cy", "ana", "bo"]):
        room.here[Session(id, None, name, name)] = set()
    assert room.names(2) == ["cy", "ana"]
    assert room.names(50) == ["cy", "ana", "bo"]


def test_a_room_is_in_use_while_somebody_is_in_it_or_has_said_something() -> None:
    room, session = Room("lobby", 0, 1), Session(1, None, "ana", "ana")
    assert room.unused
    room.here[session] = set()
    assert not room.unused
    room.drafts[session] += 1
    del room.here[session]
    assert not room.unused
    del room.drafts[session]
    assert room.unused


@given(
    removed=st.integers(0, 8),
    kept=st.integers(0, 8),
    forgotten=st.integers(0, 8),
    after=st.none() | st.integers(0, 20),
    before=st.integers(0, 20),
    limit=st.integers(1, 10),
)
def test_a_page_from_memory_is_that_of_the_log(
    removed: int, kept: int, forgotten: int, after: int | None, before: int, limit: int
) -> None:
    room = Room("lobby", removed, removed + 1)
    log = messages(removed + 1, *["x"] * kept)
    if log:
        room.extend(log)
    room.window.forget(forgotten)
    page = room.page(after, before, limit, 10**6)
    below = [message for message in log if message.seq < before]
    if page is not None:
        behind = below[-limit:] if after is None else [one for one in below if one.seq > after][:limit]
        assert page == behind
    else:
        assert forgotten
    # What is all in memory needs no store.
    assert page is not None or room.window.first != room.first
