"""The page for everybody: by keyboard, by screen reader, in the dark, on a phone."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser import PHONE, WIDE, Visits, WebDaemon, enter, expect, join, say, texts

SCHEMES = ("light", "dark")


def check_with_axe(page: Page) -> None:
    """Fail on what axe-core finds, and on what it could not decide."""
    # Half drawn, things have half their contrast.
    page.evaluate("Promise.all(document.getAnimations().map((each) => each.finished.catch(() => null)))")
    page.evaluate(f"{resources.files('axe_playwright_python').joinpath('axe.min.js').read_text()};0")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations', 'incomplete', 'passes']})")
    assert len(found["passes"]) > 20, "axe has looked at the page"
    wrong = [
        (rule["id"], rule["help"], [node["target"] for node in rule["nodes"]])
        for rule in found["violations"] + found["incomplete"]
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing(daemon: WebDaemon, visits: Visits, scheme: Any, viewport: dict[str, int]) -> None:
    page = visits.page(daemon.url, color_scheme=scheme, viewport=viewport)
    check_with_axe(page)
    page.fill("#name", "not a name")
    page.press("#name", "Enter")
    expect(page.locator("#enter-error")).not_to_be_empty()
    check_with_axe(page)
    enter(page, "ana")
    bo = daemon.text("bo")
    for line in ("hola ana, see https://chat.example/", "/me waves", "more", "even more"):
        bo.say(line)
    say(page, "hola")
    expect(texts(page)).to_have_count(5)
    say(page, "/nonsense")
    check_with_axe(page)
    join(page, "garden")
    bo.say("ana?")
    narrow = viewport is PHONE
    if narrow:
        expect(page.locator("#rooms-open")).to_have_accessible_name("Rooms, 1 unread")
        page.click("#rooms-open")
    expect(page.locator(".badge.mentions")).to_be_visible()
    check_with_axe(page)
    page.click("#join-open")
    expect(page.locator("#all-rooms button").first).to_be_visible()
    check_with_axe(page)
    page.keyboard.press("Escape")
    if narrow:
        page.keyboard.press("Escape")
    say(page, "/search hola")
    expect(page.locator("#found")).not_to_be_empty()
    check_with_axe(page)
    page.keyboard.press("Escape")
    daemon.kill()
    say(page, "offline")
    expect(page.locator("#line-now")).to_be_visible()
    check_with_axe(page)


def focused(page: Page) -> str:
    """What has the focus: its id, its label or its text."""
    name: str = page.evaluate(
        "(({id, ariaLabel, textContent}) => id || ariaLabel || textContent)(document.activeElement)"
    )
    return name


def test_with_the_keyboard_alone(daemon: WebDaemon, visits: Visits) -> None:
    daemon.json("other").say("hola ana", "1")
    page = visits.page(daemon.url)
    keys = page.keyboard
    keys.type("ana")
    keys.press("Enter")
    expect(page.locator("#box")).to_be_focused()
    keys.type("one")
    keys.press("Enter")
    expect(texts(page).last).to_have_text("one")
    keys.type("/join garden")
    keys.press("Enter")
    expect(page.locator("#room-name")).to_have_text("garden")
    keys.press("Alt+ArrowDown")
    expect(page.locator("#room-name")).to_have_text("lobby")
    keys.press("Alt+ArrowUp")
    expect(page.locator("#room-name")).to_have_text("garden")
    expect(page.locator("#box")).to_be_focused()

    # Round the page, and everything that can be clicked is on the way.
    met = []
    for _ in range(60):
        keys.press("Tab")
        met.append(focused(page))
        if met[-1] == "box":
            break
    assert met[-1] == "box", met
    clickable = page.evaluate(
        "Array.from(document.querySelectorAll('#chat button, #chat a, #chat input'))"
        ".filter((e) => e.offsetParent && getComputedStyle(e).visibility === 'visible')"
        ".map((e) => e.id || e.getAttribute('aria-label') || e.textContent)"
    )
    assert set(clickable) <= set(met), set(clickable) - set(met)
    assert "log" in met

    page.focus("#join-open")
    keys.press("Enter")
    expect(page.locator("#join-name")).to_be_focused()
    keys.type("attic")
    keys.press("Enter")
    expect(page.locator("#room-name")).to_have_text("attic")
    expect(page.locator("#box")).to_be_focused()

    page.focus("#search-open")
    keys.press("Enter")
    expect(page.locator("#words")).to_be_focused()
    keys.press("Escape")
    expect(page.locator("#search-open")).to_be_focused()
    page.focus("[data-room=attic] button")
    keys.press("Enter")
    expect(page.locator("[data-room=attic]")).to_have_count(0)


@pytest.mark.parametrize("forced", ["none", "active"])
def test_what_has_the_focus_can_be_seen(daemon: WebDaemon, visits: Visits, forced: Any) -> None:
    page = visits.page(daemon.url, "ana", forced_colors=forced)
    expect(page.locator("#box")).to_be_focused()
    for _ in range(9):
        seen = page.evaluate(
            """(forced) => {
                const focused = document.activeElement;
                if (focused === document.body) return true;
                const [own, around] = [focused, focused.parentNode].map((each) => getComputedStyle(each));
                // Where colours are forced, no shadow is drawn, and no outline is transparent.
                return own.outlineStyle !== 'none' || (forced ? around.outlineStyle : around.boxShadow) !== 'none';
            }""",
            forced == "active",
        )
        assert seen, focused(page)
        page.keyboard.press("Tab")


def test_the_log_is_read_while_one_writes(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana")
    bo = daemon.text("bo")
    log = ana.get_by_role("log")
    expect(log).not_to_have_attribute("aria-live", "off")
    bo.say("one")
    expect(texts(ana)).to_have_count(1)
    # The role alone makes it a polite live region, and nobody has silenced it.
    assert log.get_attribute("aria-live") is None
    bo.say("two")
    expect(texts(ana)).to_have_count(2)
    # A message that goes on says who says it too, to those who do not see it stand below the first.
    assert "bo" in (ana.locator("#messages li .by").last.text_content() or "")
    assert ana.locator("#messages li").last.evaluate("(item) => item.querySelector('.name').offsetParent !== null")


def test_what_one_says_oneself_is_read_once(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana")
    expect(ana.get_by_role("log")).not_to_have_attribute("aria-live", "off")
    ana.evaluate(
        """() => { window.heard = [];
            new MutationObserver((all) => { for (const {target, addedNodes} of all) for (const added of addedNodes)
                if (!target.closest('[aria-live=off]')) window.heard.push(added.textContent) })
            .observe(document.getElementById('log'), {childList: true, subtree: true}) }"""
    )
    say(ana, "hola")
    expect(texts(ana)).to_have_text(["hola"])
    expect(ana.locator("#outbox li")).to_have_count(0)
    assert len(ana.evaluate("window.heard")) == 1


def test_pages_of_the_past_are_not_read_out(daemon: WebDaemon, visits: Visits) -> None:
    bo = daemon.json("bo")
    for number in range(300):
        bo.say(f"message {number}", str(number))
    bo.until("kept", id="299")
    ana = visits.page(daemon.url, "ana")
    expect(texts(ana).last).to_have_text("message 299")
    log = ana.get_by_role("log")
    expect(log).not_to_have_attribute("aria-live", "off")
    ana.evaluate(
        """() => { window.states = []; const log = document.getElementById('log');
            new MutationObserver((all) => { for (const each of all) if (each.addedNodes.length)
                window.states.push([each.addedNodes.length, log.getAttribute('aria-live')]) })
            .observe(document.getElementById('messages'), {childList: true}) }"""
    )
    ana.evaluate("document.getElementById('log').scrollTop = 0")
    expect(texts(ana, "message 100")).to_have_count(1)
    states = ana.evaluate("window.states")
    assert sum(count for count, _ in states) >= 100
    assert {live for _, live in states} == {"off"}
    expect(log).not_to_have_attribute("aria-live", "off")


def test_changes_of_the_connection_are_told(daemon: WebDaemon, visits: Visits) -> None:
    page = visits.page(daemon.url, "ana")
    status = page.get_by_role("status").filter(has_text="The connection is lost")
    daemon.kill()
    expect(status).to_be_visible()


@pytest.mark.parametrize("locale", ["en-GB", "es-ES"])
def test_on_a_phone(daemon: WebDaemon, visits: Visits, locale: str) -> None:
    page = visits.page(daemon.url, "ana", viewport=PHONE, has_touch=True, is_mobile=True, locale=locale)
    expect(page.locator("#box")).not_to_be_focused()
    bo = daemon.text("bo")
    bo.say("hola")
    expect(texts(page)).to_be_visible()
    say(page, "x" * 500)
    expect(texts(page)).to_have_count(2)
    for part in ("#box", "#send", "#rooms-open", "#members-open", "#search-open"):
        place = page.locator(part).bounding_box()
        assert place is not None
        assert place["x"] >= 0 and place["x"] + place["width"] <= PHONE["width"], part
        assert place["y"] >= 0 and place["y"] + place["height"] <= PHONE["height"], part
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    # Smaller letters make a phone zoom in.
    assert float(page.locator("#box").evaluate("(box) => getComputedStyle(box).fontSize")[:-2]) >= 16
    for part in ("#send", "#rooms-open", "#members-open", "#search-open"):
        place = page.locator(part).bounding_box()
        assert place is not None
        assert min(place["width"], place["height"]) >= 40, part

    expect(page.locator("#join-open")).not_to_be_visible()
    page.tap("#rooms-open")
    expect(page.locator("#join-open")).to_be_visible()
    assert page.locator("#room").evaluate("(room) => room.inert")
    page.tap("[data-room=lobby] a")
    expect(page.locator("#join-open")).not_to_be_visible()
    assert not page.locator("#room").evaluate("(room) => room.inert")
    page.tap("#members-open")
    expect(page.locator("#member-list")).to_be_visible()
    page.tap("#side [data-close]")
    expect(page.locator("#member-list")).not_to_be_visible()

    # A tap beside what lies over the page closes it.
    page.tap("#rooms-open")
    page.touchscreen.tap(350, 400)
    expect(page.locator("#join-open")).not_to_be_visible()
    page.tap("#members-open")
    page.touchscreen.tap(10, 400)
    expect(page.locator("#member-list")).not_to_be_visible()


def test_a_keyboard_that_covers_half_the_screen(daemon: WebDaemon, visits: Visits) -> None:
    page = visits.page(daemon.url, "ana", viewport=PHONE, has_touch=True)
    for number in range(30):
        say(page, f"line {number}")
    expect(texts(page)).to_have_count(30)
    page.set_viewport_size({"width": 360, "height": 380})
    expect(texts(page).last).to_be_in_viewport()
    expect(page.locator("#box")).to_be_in_viewport()


def test_a_screen_that_shrinks_while_the_page_scrolls(daemon: WebDaemon, visits: Visits) -> None:
    page = visits.page(daemon.url, "ana", viewport=PHONE, has_touch=True)
    for number in range(30):
        say(page, f"line {number}")
    expect(texts(page)).to_have_count(30)
    # Both in one frame: the scroll event comes first, and finds the new size.
    page.locator("#log").evaluate("(log) => { log.scrollTop -= 1; log.style.maxHeight = '200px'; }")
    expect(texts(page).last).to_be_in_viewport()


def test_who_wants_no_motion_gets_none(daemon: WebDaemon, visits: Visits) -> None:
    page = visits.page(daemon.url, "ana", viewport=PHONE, reduced_motion="reduce")
    page.click("#rooms-open")
    assert (
        page.evaluate("document.getAnimations().filter((each) => each.effect.getTiming().duration > 10).length")
        == 0
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_dark(daemon: WebDaemon, visits: Visits, scheme: Any) -> None:
    page = visits.page(daemon.url, "ana", color_scheme=scheme)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    is_dark = sum(map(int, re.findall(r"\d+", background))) < 150
    assert is_dark == (scheme == "dark")
