"""The page and long logs: scrolling, jumping, floods."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Page, WebSocketRoute

from tests.browser import PHONE, WIDE, Visits, WebDaemon, expect, join, say, texts

COUNT = 10_000

#: Scrolls up, and tells how far what the reader looks at has moved, and how far it could.
STEP = """async (by) => {
    const log = document.getElementById('log');
    const top = log.getBoundingClientRect().top + 2;
    const bottom = (item) => item.getBoundingClientRect().bottom;
    const items = [...document.querySelectorAll('#messages [data-seq]')];
    const {seq} = items.find((item) => bottom(item) > top).dataset;
    const item = () => document.querySelector(`[data-seq="${seq}"]`);
    const before = bottom(item());
    const could = Math.min(by, log.scrollTop);
    log.scrollBy(0, -by);
    for (let frame = 0; frame < 3; frame += 1) await new Promise(requestAnimationFrame);
    return {seq: Number(seq), moved: bottom(item()) - before, could, drawn: items.length};
}"""
NUMBERS = "Array.from(document.querySelectorAll('#messages [data-seq]'), (item) => Number(item.dataset.seq))"


def fill(daemon: WebDaemon, count: int, room: str = "lobby") -> None:
    """Have so many messages said, of one line and of several."""
    writer = daemon.json()
    writer.hello("writer", rooms={room: None})
    for begin in range(0, count, 500):
        end = min(begin + 500, count)
        for number in range(begin, end):
            writer.say(f"message {number + 1}" + " and some more words" * (number * 7 % 23), str(number), room)
        writer.until("kept", id=str(end - 1))
    writer.request("bye")
    writer.until("goodbye")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDaemon]:
    """A daemon with a long log."""
    with WebDaemon(tmp_path_factory.mktemp("full"), "--rate", "off") as daemon:
        fill(daemon, COUNT)
        yield daemon


def gapless(page: Page) -> list[int]:
    """The numbers of the messages that are drawn, which have no holes."""
    numbers: list[int] = page.evaluate(NUMBERS)
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    return numbers


def test_the_end_is_there_at_once(full: WebDaemon, visits: Visits) -> None:
    page = visits.page(full.url, "ana")
    expect(texts(page).last).to_contain_text(f"message {COUNT}")
    expect(texts(page).last).to_be_in_viewport()
    assert len(gapless(page)) <= 200


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_scrolling_up_loads_older_messages_without_jumping(
    full: WebDaemon, visits: Visits, viewport: dict[str, int]
) -> None:
    page = visits.page(full.url, f"bo{viewport['width']}", viewport=viewport)
    expect(texts(page).last).to_be_in_viewport()
    seq = COUNT
    for _ in range(1000):
        step = page.evaluate(STEP, viewport["height"] * 0.9)
        assert abs(step["moved"] - step["could"]) <= 1.5, step
        assert step["drawn"] <= 1100
        seq = step["seq"]
        if seq < COUNT - 1500:
            break
    assert seq < COUNT - 1500, "it went through many pages, and the window moved"
    gapless(page)


def test_the_beginning_can_be_reached_and_left(full: WebDaemon, visits: Visits) -> None:
    page = visits.page(full.url, "carla")
    expect(texts(page).last).to_be_in_viewport()
    for _ in range(300):
        page.evaluate("document.getElementById('log').scrollTop = 0")
        page.evaluate("new Promise((done) => setTimeout(done, 20))")
        if page.evaluate(NUMBERS)[0] == 1:
            break
    expect(page.locator("#edge")).to_have_text("The beginning of the room.")
    assert gapless(page)[0] == 1
    assert len(gapless(page)) <= 1000
    page.click("#latest")
    expect(texts(page).last).to_contain_text(f"message {COUNT}")
    expect(texts(page).last).to_be_in_viewport()
    gapless(page)


def test_a_search_leads_into_the_middle_and_one_can_scroll_on_from_there(full: WebDaemon, visits: Visits) -> None:
    page = visits.page(full.url, "dora")
    say(page, "/search message 4321")
    page.locator("#results button").click()
    found = texts(page, re.compile(r"^message 4321\b"))
    expect(found).to_be_in_viewport()
    numbers = gapless(page)
    assert numbers[0] < 4321 < numbers[-1] < 5000
    for _ in range(200):
        page.evaluate("document.getElementById('log').scrollBy(0, 4000)")
        page.evaluate("new Promise((done) => setTimeout(done, 20))")
        if page.evaluate(NUMBERS)[-1] > 5500:
            break
    assert gapless(page)[-1] > 5500
    # What is said meanwhile does not tear a hole into the window.
    say(page, "from the middle")
    expect(texts(page).last).to_have_text("from the middle")
    expect(texts(page).last).to_be_in_viewport()
    gapless(page)


def test_who_reads_above_is_not_moved_by_what_comes_below(daemon: WebDaemon, visits: Visits) -> None:
    fill(daemon, 200)
    ana = visits.page(daemon.url, "ana")
    expect(texts(ana).last).to_be_in_viewport()
    ana.evaluate("document.getElementById('log').scrollTop -= 700")
    expect(ana.locator("#latest")).to_be_visible()
    where = "document.getElementById('log').scrollTop"
    before = ana.evaluate(where)
    bo = daemon.json("bo")
    for number in range(20):
        bo.say(f"news {number}", str(number))
    expect(ana.locator("#latest")).to_have_text("20 new messages")
    assert ana.evaluate(where) == before
    expect(ana.locator(".divider")).to_have_count(1)
    ana.click("#latest")
    expect(texts(ana).last).to_be_in_viewport()
    expect(ana.locator("#latest")).to_be_hidden()


def test_a_flood_is_drawn_to_its_end(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana")
    fill(daemon, COUNT)
    expect(texts(ana).last).to_contain_text(f"message {COUNT}", timeout=60_000)
    expect(texts(ana).last).to_be_in_viewport()
    assert len(gapless(ana)) <= 2000


def test_who_comes_back_after_very_many_messages_is_at_the_end(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana")
    join(ana, "garden")
    ana.goto("about:blank")
    fill(daemon, 5000)
    ana.goto(f"{daemon.url}#garden")
    # Some of them come before the page goes to the end.
    expect(ana.locator("#rooms-open")).to_have_attribute("aria-label", re.compile(r"\b5,000\b"))
    expect(ana.locator("[data-room=lobby] .badge")).to_have_text(re.compile("999"))
    ana.click("[data-room=lobby] a")
    expect(ana.locator("#latest")).to_have_text("5,000 new messages")
    ana.click("#latest")
    expect(texts(ana).last).to_contain_text("message 5000")
    ana.evaluate("document.getElementById('log').scrollTop = 0")
    expect(texts(ana, re.compile(r"^message 4900\b"))).to_have_count(1)
    gapless(ana)


def test_a_page_that_was_too_slow_to_say_that_it_skips(daemon: WebDaemon, visits: Visits) -> None:
    """All comes before the server hears that the end would do."""
    ana = visits.page(daemon.url, "ana")
    join(ana, "garden")
    ana.goto("about:blank")
    fill(daemon, 2500)

    def delay(line: WebSocketRoute) -> None:
        server = line.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            if '"join"' in str(message):
                time.sleep(1)
            server.send(message)

        line.on_message(pass_on)

    ana.route_web_socket(re.compile("."), delay)
    ana.goto(f"{daemon.url}#garden")
    expect(ana.locator("#rooms-open")).to_have_attribute("aria-label", re.compile(r"\b2,500\b"))
    ana.wait_for_timeout(500)
    ana.click("[data-room=lobby] a")
    expect(ana.locator("#latest")).to_have_text("2,500 new messages")
    ana.click("#latest")
    expect(texts(ana).last).to_contain_text("message 2500")
    gapless(ana)


def test_a_room_with_more_unread_than_it_keeps_is_not_read_at_once(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana")
    join(ana, "garden")
    fill(daemon, 1000)
    expect(ana.locator("#rooms-open")).to_have_attribute("aria-label", re.compile(r"\b1,000\b"))
    ana.click("[data-room=lobby] a")
    expect(ana.locator("#latest")).to_have_text("1,000 new messages")
    ana.click("#latest")
    expect(texts(ana).last).to_contain_text("message 1000")
    expect(ana.locator("#latest")).to_be_hidden()


def test_what_retention_removed_is_said(daemon: WebDaemon, visits: Visits, tmp_path: Path) -> None:
    fill(daemon, 10)
    browser = visits.browser()
    ana = visits.page(daemon.url, "ana", browser)
    expect(texts(ana)).to_have_count(10)
    ana.close()
    fill(daemon, 60)
    daemon.stop()
    # As retention leaves it, which takes its time.
    with closing(sqlite3.connect(tmp_path / "chat.db")) as db, db:
        db.execute("DELETE FROM messages WHERE key & ? <= 40", ((1 << 40) - 1,))
        db.execute("UPDATE rooms SET first = 41")
    daemon.restart()
    again = visits.page(daemon.url, None, browser)
    expect(texts(again).last).to_be_in_viewport()
    expect(again.locator(".notice", has_text="30 messages are no longer kept.")).to_have_count(1)
    bo = visits.page(daemon.url, "bo")
    expect(bo.locator("#edge")).to_have_text("Older messages are no longer kept.")
    expect(texts(bo)).to_have_count(30)
    assert gapless(bo)[0] == 41
