"""Who is where, and how that is said."""

from __future__ import annotations

from chatd import wire
from chatd.client.people import MAX_KNOWN, People, listed, people


def test_entering_is_new_once() -> None:
    crowd = People()
    assert crowd.entered("lobby", ["ana", "bob"], 2) is True
    assert crowd.here("lobby") == "2 people in lobby: ana, bob"
    assert crowd.entered("lobby", ["ana"], 1) is False
    assert crowd.here("lobby") == "1 person in lobby: ana"


def test_who_comes_and_goes() -> None:
    crowd = People()
    crowd.entered("lobby", ["ana"], 1)
    assert crowd.joined(wire.Joined("lobby", ["bob"], 1, 2)) == "bob joined"
    assert crowd.known("lobby") == ["bob", "ana"]
    assert crowd.left(wire.Left("lobby", ["ana"], 1, 1)) == "ana left"
    assert crowd.known("lobby") == ["bob"]


def test_a_crowd_is_a_number() -> None:
    crowd = People()
    joined = wire.Joined("lobby", ["ana", "bob"], 4_952, 5_003)
    assert crowd.joined(joined) == "ana, bob and 4,950 more joined; 5,003 people now"


def test_who_spoke_last_comes_first() -> None:
    crowd = People()
    crowd.entered("lobby", ["ana", "bob", "cy"], 3)
    crowd.spoke("lobby", "ana")
    assert crowd.known("lobby") == ["ana", "cy", "bob"]


def test_a_crowd_does_not_fill_the_memory() -> None:
    crowd = People()
    for number in range(MAX_KNOWN * 2):
        crowd.spoke("lobby", f"p{number}")
    assert len(crowd.known("lobby")) == MAX_KNOWN
    assert crowd.known("lobby")[0] == f"p{MAX_KNOWN * 2 - 1}"


def test_a_room_that_was_left_is_forgotten() -> None:
    crowd = People()
    crowd.entered("dev", ["ana"], 1)
    crowd.counted("dev", 7)
    crowd.forget("dev")
    assert crowd.known("dev") == []
    assert crowd.entered("dev", [], 0) is True


def test_numbers_and_lists() -> None:
    assert people(1) == "1 person"
    assert people(5003) == "5,003 people"
    assert listed([], 0) == "nobody"
    assert listed([], 3) == "3 people"
    assert listed(["ana"], 3) == "ana and 2 more"
