"""The Tab key."""

from __future__ import annotations

from chatd.client.completion import Cycle

FITTING = {"an": ["ana: ", "anton: "], "hi an": ["ana ", "anton "], "x": []}


def cycle() -> Cycle:
    return Cycle(lambda before: FITTING[before])


def test_each_tab_gives_the_next_and_around() -> None:
    tab = cycle()
    shown = ["an"]
    for _ in range(3):
        shown.append(tab.turn(shown[-1], 1))
    assert shown == ["an", "ana: ", "anton: ", "ana: "]


def test_backwards() -> None:
    tab = cycle()
    assert tab.turn("an", -1) == "anton: "
    assert tab.turn("anton: ", -1) == "ana: "


def test_only_the_last_word() -> None:
    tab = cycle()
    assert tab.turn("hi an", 1) == "hi ana "
    assert tab.turn("hi ana ", 1) == "hi anton "


def test_nothing_fits() -> None:
    tab = cycle()
    assert tab.turn("x", 1) == "x"
    assert tab.turn("x", -1) == "x"


def test_after_typing_on_it_begins_anew() -> None:
    tab = cycle()
    tab.turn("an", 1)
    assert tab.turn("hi an", 1) == "hi ana "
