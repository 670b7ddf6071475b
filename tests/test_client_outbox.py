"""The client's outbox: order, window, receipts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatd import wire
from chatd.client.outbox import FULL, WINDOW, Outbox


def say(number: int) -> wire.Say:
    return wire.Say(id=f"s{number}", room="lobby", text=f"text {number}")


def ids(requests: list[wire.Request]) -> list[str | None]:
    return [request.id for request in requests]


def test_hands_out_each_request_once_in_order() -> None:
    box = Outbox([say(1), say(2)])
    box.put(say(3))
    assert ids(box.due()) == ["s1", "s2", "s3"]
    assert box.due() == []


def test_a_lost_connection_makes_all_of_it_due_again() -> None:
    box = Outbox([say(1), say(2)])
    box.due()
    box.take("s1")
    box.cut()
    assert ids(box.due()) == ["s2"]


def test_what_was_not_carried_out_keeps_its_place() -> None:
    box = Outbox([say(1), say(2)])
    box.due()
    box.again("s1")
    box.put(say(3))
    assert ids(box.due()) == ["s1", "s3"]
    assert ids(list(box)) == ["s1", "s2", "s3"]


def test_a_question_waits_for_what_was_said_before_it() -> None:
    box = Outbox([say(1)])
    box.put(wire.MembersRequest(id="who", room="lobby"))
    box.put(say(2))
    assert ids(box.due()) == ["s1"]
    box.take("s1")
    assert ids(box.due()) == ["who", "s2"]


def test_slowing_down_and_speeding_up() -> None:
    box = Outbox(say(number) for number in range(WINDOW * 2))
    for _ in range(20):
        box.slow_down()
    assert ids(box.due()) == ["s0"]
    box.take("s0")
    box.speed_up()
    assert ids(box.due()) == ["s1", "s2"]


def test_full_is_when_too_much_waits() -> None:
    box = Outbox(say(number) for number in range(FULL - 1))
    assert not box.full
    box.put(say(FULL))
    assert box.full


def test_a_receipt_for_nothing_is_nothing() -> None:
    box = Outbox([say(1)])
    assert box.take("other") is None
    assert box.take(None) is None
    assert box.get(None) is None
    assert len(box) == 1


@given(st.lists(st.sampled_from(["put", "due", "kept", "again", "cut", "slow", "fast"]), max_size=60))
def test_nothing_is_lost_and_nothing_overtakes(steps: list[str]) -> None:
    """A model: the requests that have no receipt, and those under way since the last cut."""
    box, waiting, under_way, number = Outbox(), list[str](), set[str](), 0
    for step in steps:
        if step == "put":
            number += 1
            box.put(say(number))
            waiting.append(f"s{number}")
        elif step == "due":
            due = [request.id or "" for request in box.due()]
            unsent = [key for key in waiting if key not in under_way]
            assert due == unsent[: len(due)]
            under_way.update(due)
            assert len(under_way) <= WINDOW
            assert due or not unsent or under_way
        elif step == "kept" and under_way:
            key = min(under_way, key=waiting.index)
            assert box.take(key) is not None
            assert box.take(key) is None
            under_way.discard(key)
            waiting.remove(key)
        elif step == "again" and under_way:
            key = min(under_way, key=waiting.index)
            box.again(key)
            under_way.discard(key)
        elif step == "cut":
            box.cut()
            under_way.clear()
        elif step == "slow":
            box.slow_down()
        elif step == "fast":
            box.speed_up()
        assert ids(list(box)) == waiting
