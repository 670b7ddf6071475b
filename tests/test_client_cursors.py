"""Where the client is in each log."""

from __future__ import annotations

from chatd import wire
from chatd.client.cursors import BEYOND, Cursors


def entered(seq: int, *, first: int = 1, room: str = "lobby", **fields: bool) -> wire.RoomEntered:
    return wire.RoomEntered(
        room=room, seq=seq, first=first, count=1, names=["ana"], reset=fields.get("reset", False)
    )


def test_a_first_visit_begins_a_little_before_the_end() -> None:
    cursors = Cursors({"lobby": None}, 20)
    assert cursors.hello() == {"lobby": -20}
    assert cursors.entered(entered(100)) is True
    assert cursors.rooms == {"lobby": 80}
    assert not cursors.at_the_ends


def test_a_first_visit_without_history_begins_at_the_end() -> None:
    cursors = Cursors({"lobby": None}, 0)
    assert cursors.hello() == {"lobby": None}
    cursors.entered(entered(100))
    assert cursors.rooms == {"lobby": 100}
    assert cursors.at_the_ends


def test_a_first_visit_to_a_short_or_shortened_log() -> None:
    for seq, first, cursor in [(3, 1, 0), (0, 1, 0), (100, 95, 94), (100, 101, 100)]:
        cursors = Cursors({"lobby": None}, 20)
        cursors.entered(entered(seq, first=first))
        assert cursors.rooms == {"lobby": cursor}


def test_coming_back_goes_on_after_the_last_one() -> None:
    cursors = Cursors({"lobby": 57}, 20)
    assert cursors.hello() == {"lobby": 57}
    assert cursors.entered(entered(60)) is True
    assert cursors.rooms == {"lobby": 57}
    assert [cursors.reach("lobby", seq) for seq in (58, 59, 60)] == [range(58, 58), range(59, 59), range(60, 60)]
    assert cursors.at_the_ends


def test_what_came_before_does_not_count_again() -> None:
    cursors = Cursors({"lobby": 57}, 0)
    cursors.entered(entered(60))
    assert cursors.reach("lobby", 57) is None
    assert cursors.reach("lobby", 1) is None
    assert cursors.rooms == {"lobby": 57}


def test_a_hole_is_noticed() -> None:
    cursors = Cursors({"lobby": 57}, 0)
    cursors.entered(entered(60))
    assert cursors.reach("lobby", 60) == range(58, 60)


def test_numbers_that_no_log_has_are_not_believed() -> None:
    cursors = Cursors({"lobby": 57}, 0)
    cursors.entered(entered(60))
    for seq in (BEYOND, 2**62, -1, 0):
        assert cursors.reach("lobby", seq) is None
    assert cursors.rooms == {"lobby": 57}


def test_a_log_that_is_shorter_goes_on_from_its_end() -> None:
    for answer in (entered(10, reset=True), entered(10)):
        cursors = Cursors({"lobby": 57}, 20)
        assert cursors.entered(answer) is False
        assert cursors.rooms == {"lobby": 10}
        assert cursors.at_the_ends


def test_other_rooms_are_not_for_us() -> None:
    cursors = Cursors({"lobby": 57}, 20)
    assert cursors.entered(entered(10, room="dev")) is None
    assert cursors.reach("dev", 11) is None
    assert cursors.rooms == {"lobby": 57}


def test_what_has_a_receipt_is_unseen_until_it_comes() -> None:
    cursors = Cursors({"lobby": 57}, 0)
    cursors.entered(entered(57))
    say = wire.Say(id="1", room="lobby", text="hola")
    cursors.expect(say, 59)
    cursors.expect(wire.Say(id="0", room="lobby", text="shown before"), 57)
    assert cursors.unseen == [say]
    cursors.reach("lobby", 58)
    assert not cursors.at_the_ends
    cursors.reach("lobby", 59)
    assert cursors.unseen == []
    assert cursors.at_the_ends


def test_leaving_forgets() -> None:
    cursors = Cursors({"lobby": 57}, 0)
    cursors.entered(entered(57))
    cursors.expect(wire.Say(id="1", room="lobby", text="hola"), 59)
    cursors.leave("lobby")
    cursors.leave("lobby")
    assert (cursors.unseen, cursors.rooms, cursors.at_the_ends) == ([], {}, True)


def test_while_it_moves_nothing_of_the_room_counts() -> None:
    cursors = Cursors({"lobby": 5}, 0)
    cursors.move("lobby", "j1")
    assert cursors.entered(entered(60)) is None
    assert cursors.reach("lobby", 61) is None
    moved = entered(60)
    moved.id = "j1"
    assert cursors.entered(moved) is True
    assert cursors.reach("lobby", 6) == range(6, 6)
