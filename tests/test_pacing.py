"""A bucket of tokens that may go below zero."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from chatd.pacing import Pacer, Rate

weights = st.sampled_from([1, 5, 10])
requests = st.lists(st.tuples(weights, st.floats(0, 5)), max_size=60)


def test_a_burst_is_free_and_then_it_takes_its_time() -> None:
    pacer = Pacer(Rate(20, 2))
    assert [pacer.take(1, 100.0) for _ in range(20)] == [0.0] * 20
    assert pacer.take(1, 100.0) == approx(0.1)


def test_a_heavy_request_takes_longer() -> None:
    pacer = Pacer(Rate(20, 2))
    assert pacer.take(30, 100.0) == approx(1.0)


def test_a_rest_gives_the_burst_back_and_no_more() -> None:
    pacer = Pacer(Rate(20, 2))
    for _ in range(20):
        pacer.take(1, 100.0)
    assert pacer.take(1, 101.0) == 0.0
    for _ in range(9):
        assert pacer.take(1, 101.0) == 0.0
    assert pacer.take(1, 101.0) == approx(0.1)
    assert [pacer.take(1, 10_000.0) for _ in range(20)] == [0.0] * 20
    assert pacer.take(1, 10_000.0) == approx(0.1)


def test_without_a_rate_there_is_no_wait() -> None:
    pacer = Pacer(None)
    assert [pacer.take(10, 0.0) for _ in range(1000)] == [0.0] * 1000


def test_a_clock_that_is_set_back_stops_nobody() -> None:
    pacer = Pacer(Rate(20, 2))
    pacer.take(1, 10_000.0)
    assert pacer.take(1, 5_000.0) == 0.0
    assert pacer.take(30, 5_000.0) < 5.0


@given(requests)
def test_who_waits_as_told_never_has_more_than_the_rate(asked: list[tuple[int, float]]) -> None:
    rate = Rate(20, 2)
    pacer = Pacer(rate)
    now, used = 1000.0, 0.0
    for weight, pause in asked:
        # What is read once the bucket is above zero may take it below, but by that one request only.
        assert used <= rate.messages + (now - 1000.0) * rate.messages / rate.seconds + 1e-6
        used += weight
        wait = pacer.take(weight, now)
        assert 0.0 <= wait <= weight * rate.seconds / rate.messages + 1e-6
        now += wait + pause
