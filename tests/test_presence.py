"""Who came and left: at once, then once a second, and never a word about who left and came back."""

from __future__ import annotations

from itertools import pairwise
from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from chatd.events import Joined, Left
from chatd.presence import INTERVAL, MAX_NAMES, Presence
from chatd.room import Room
from chatd.sessions import Session

PEOPLE = ("ana", "bo", "cy")
Steps: TypeAlias = list[tuple[str, str]]

steps = st.lists(st.tuples(st.sampled_from(["move", "move", "talk", "wait"]), st.sampled_from(PEOPLE)))


class Told:
    """A room, who is in it, and what has been told about that."""

    def __init__(self, name: str = "lobby") -> None:
        self.clock = Clock()
        self.room = Room(name, 0, 1)
        self.presence = Presence(self.clock, self._told)
        self.events: list[Joined | Left] = []
        self.times: list[float] = []
        self._sessions: dict[str, Session] = {}

    def _told(self, room: Room, event: Joined | Left) -> None:
        assert room is self.room
        self.events.append(event)
        self.times.append(self.clock.seconds())

    def join(self, *names: str) -> None:
        for name in names:
            session = self._sessions[name] = Session(1, None, name, name)
            self.room.here[session] = set()
            self.presence.joined(self.room, name)

    def leave(self, *names: str) -> None:
        for name in names:
            del self.room.here[self._sessions.pop(name)]
            self.presence.left(self.room, name)

    @property
    def here(self) -> set[str]:
        return set(self._sessions)

    @property
    def believed(self) -> set[str]:
        """Who is in the room, for one who believes what is told."""
        names: set[str] = set()
        for event in self.events:
            if isinstance(event, Joined):
                assert not names & set(event.names)
                names |= set(event.names)
            else:
                assert names >= set(event.names)
                names -= set(event.names)
        return names

    def take(self) -> list[Joined | Left]:
        events, self.events = self.events, []
        return events


def test_the_first_news_is_told_at_once() -> None:
    told = Told()
    told.join("ana")
    assert told.take() == [Joined("lobby", ("ana",), 1, 1)]
    told.clock.advance(INTERVAL)
    told.clock.advance(INTERVAL)
    told.leave("ana")
    assert told.take() == [Left("lobby", ("ana",), 1, 0)]


def test_then_it_is_gathered_for_a_second() -> None:
    told = Told()
    told.join("ana", "bo", "cy")
    told.leave("ana")
    assert told.take() == [Joined("lobby", ("ana",), 1, 1)]
    told.clock.advance(0.99)
    assert not told.events
    told.clock.advance(0.01)
    assert told.take() == [Joined("lobby", ("bo", "cy"), 2, 2), Left("lobby", ("ana",), 1, 2)]


def test_who_came_back_is_no_news() -> None:
    told = Told()
    told.join("ana", "bo")
    told.take()
    told.leave("ana", "bo")
    told.join("ana")
    told.clock.advance(INTERVAL)
    assert told.take() == []


def test_five_thousand_are_two_lines() -> None:
    told = Told()
    told.join(*(f"n{number}" for number in range(5000)))
    told.clock.advance(INTERVAL)
    first, second = told.take()
    assert first == Joined("lobby", ("n0",), 1, 1)
    assert second == Joined("lobby", tuple(f"n{n}" for n in range(1, MAX_NAMES + 1)), 4999, 5000)


def test_who_talks_is_told_of_before() -> None:
    told = Told()
    told.join("ana", "bo", "cy")
    told.take()
    told.presence.before(told.room, ["cy", "nobody", "cy"])
    assert told.take() == [Joined("lobby", ("cy",), 1, 3)]
    told.presence.before(told.room, ["cy", "ana"])
    assert told.take() == []
    told.clock.advance(INTERVAL)
    assert told.take() == [Joined("lobby", ("bo",), 1, 3)]


def test_rooms_do_not_wait_for_each_other() -> None:
    clock = Clock()
    told: list[tuple[str, Joined | Left]] = []
    presence = Presence(clock, lambda room, event: told.append((room.name, event)))
    for name in ("one", "two"):
        presence.joined(Room(name, 0, 1), "ana")
    assert [name for name, _ in told] == ["one", "two"]
    presence.close()


def test_a_quiet_room_leaves_nothing_behind() -> None:
    told = Told()
    told.join("ana")
    told.clock.advance(INTERVAL)
    assert told.clock.getDelayedCalls() == []


def test_closing_stops_the_timers() -> None:
    told = Told()
    told.join("ana", "bo")
    told.presence.close()
    assert told.clock.getDelayedCalls() == []
    told.clock.advance(INTERVAL)
    assert len(told.take()) == 1


@given(steps)
def test_who_believes_it_knows_who_is_here(taken: Steps) -> None:
    told = Told()
    for step, name in taken:
        if step == "wait":
            told.clock.advance(0.4)
        elif step == "talk" and name in told.here:
            told.presence.before(told.room, [name])
            assert name in told.believed
        elif step == "move":
            (told.leave if name in told.here else told.join)(name)
    told.clock.advance(INTERVAL)
    assert told.believed == told.here
    told.presence.close()


@given(steps)
def test_it_is_told_once_a_second_at_most(taken: Steps) -> None:
    told = Told()
    for step, name in taken:
        if step == "wait":
            told.clock.advance(0.4)
        elif step == "move":
            (told.leave if name in told.here else told.join)(name)
    # Joined and Left go together.
    moments = sorted(set(told.times))
    assert all(later - earlier >= INTERVAL - 1e-9 for earlier, later in pairwise(moments))
    told.presence.close()
