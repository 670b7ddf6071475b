"""The page when the connection is lost: nothing that was written is lost, and nothing is said twice."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import threading
from pathlib import Path

from playwright.sync_api import Page, WebSocketRoute

from tests.browser import Visits, WebDaemon, expect, join, say, shown, texts


def stored(daemon: WebDaemon, room: str = "lobby") -> list[str]:
    """The texts of all messages of a room, as a reader from the beginning gets them."""
    reader = daemon.json()
    reader.request("hello", name="reader", rooms={room: 0})
    found = [message["text"] for message in reader.messages(reader.until("room")["seq"])]
    reader.request("bye")
    reader.until("goodbye")
    return found


def waiting(page: Page, count: int) -> None:
    """Wait until so many messages wait."""
    expect(page.locator("#outbox li")).to_have_count(count)


def test_the_server_is_killed_and_restarted_while_somebody_types(daemon: WebDaemon, visits: Visits) -> None:
    ana, bo = visits.page(daemon.url, "ana"), visits.page(daemon.url, "bo")
    say(ana, "before")
    expect(texts(bo)).to_have_count(1)
    ana.type("#box", "half a sen")
    daemon.kill()
    ana.type("#box", "tence")
    expect(ana.locator("#line-text")).to_contain_text("The connection is lost")
    ana.press("#box", "Enter")
    say(ana, "another")
    say(bo, "me too")
    waiting(ana, 2)
    expect(ana.locator("#outbox .state").first).to_have_text("waiting for the connection")
    daemon.restart()
    for page in (ana, bo):
        expect(texts(page)).to_have_count(4)
        expect(page.locator("#outbox li")).to_have_count(0)
    assert sorted(stored(daemon)) == ["another", "before", "half a sentence", "me too"]
    assert shown(ana) == shown(bo) == stored(daemon)
    expect(ana.locator("#me")).to_have_text("ana")
    expect(ana.locator("#line-text")).to_be_empty()


def test_it_is_killed_again_and_again(daemon: WebDaemon, visits: Visits) -> None:
    """Some are killed between the commit and the receipt: those are sent again, and stored once."""
    ana = visits.page(daemon.url, "ana")
    ana.evaluate(
        """() => { const box = document.getElementById('box'); let n = 0; window.talk = setInterval(() => {
            if (n === 300) return clearInterval(window.talk);
            box.value = `message ${n++}`; box.form.requestSubmit(); }, 10) }"""
    )
    for number in (40, 100, 170):
        expect(texts(ana, re.compile(rf"^message {number}$"))).to_have_count(1)
        daemon.kill()
        daemon.restart()
    expect(texts(ana, re.compile("^message 299$"))).to_have_count(1)
    waiting(ana, 0)
    wanted = [f"message {number}" for number in range(300)]
    assert stored(daemon) == wanted
    assert shown(ana) == wanted


def test_what_is_written_offline_is_kept_over_a_reload(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana")
    join(ana, "garden")
    # A server that takes nothing more, but whose page can still be had from the browser's point of view:
    # stopped, it answers the reload when it goes on.
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        say(ana, "said offline")
        ana.fill("#box", "not sent yet")
        waiting(ana, 1)
        threading.Timer(2, os.kill, (daemon.process.pid, signal.SIGCONT)).start()
        ana.reload()
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)
    expect(ana.locator("#room-name")).to_have_text("garden")
    expect(ana.locator("#box")).to_have_value("not sent yet")
    expect(texts(ana)).to_have_text(["said offline"])
    waiting(ana, 0)
    assert stored(daemon, "garden") == ["said offline"]


def test_what_is_written_offline_outlives_the_tab(daemon: WebDaemon, visits: Visits) -> None:
    browser = visits.browser()
    ana = visits.page(daemon.url, "ana", browser)
    say(ana, "before")
    expect(texts(ana)).to_have_count(1)
    daemon.kill()
    say(ana, "the last words of this tab")
    waiting(ana, 1)
    ana.close()
    daemon.restart()
    again = visits.page(daemon.url, None, browser)
    expect(texts(again)).to_have_text(["before", "the last words of this tab"])
    assert stored(daemon) == ["before", "the last words of this tab"]


def test_two_tabs_work_side_by_side(daemon: WebDaemon, visits: Visits) -> None:
    browser = visits.browser()
    one = visits.page(daemon.url, "ana", browser)
    two = visits.page(daemon.url, None, browser)
    expect(two.locator("#me")).to_have_text("ana")
    bo = daemon.text("bo")
    say(one, "from one")
    say(two, "from two")
    for page in (one, two):
        expect(texts(page)).to_have_text(["from one", "from two"])
    join(one, "garden")
    expect(two.locator("#room-name")).to_have_text("lobby")
    expect(two.locator("#room-list li")).to_have_count(2)
    say(one, "in the garden")
    daemon.kill()
    say(one, "offline one")
    say(two, "offline two")
    daemon.restart()
    expect(texts(one, "offline one")).to_have_count(1)
    expect(texts(two, "offline two")).to_have_count(1)
    for page in (one, two):
        waiting(page, 0)
    assert stored(daemon) == ["from one", "from two", "offline two"]
    assert stored(daemon, "garden") == ["in the garden", "offline one"]
    assert not [line for line in bo.until("ana: from two") if "joined" in line], (
        "the second tab is the same person"
    )
    one.close()
    say(two, "still here")
    expect(texts(two, "still here")).to_have_count(1)


def test_a_second_tab_comes_in_by_itself(daemon: WebDaemon, visits: Visits) -> None:
    browser = visits.browser()
    one, two = visits.page(daemon.url, None, browser), visits.page(daemon.url, None, browser)
    one.bring_to_front()
    one.fill("#name", "ana")
    one.press("#name", "Enter")
    for page in (one, two):
        expect(page.locator("#me")).to_have_text("ana")
    two.click("#sign-out")
    expect(one.locator("#name")).to_be_visible()


def test_two_tabs_whose_session_is_gone_become_one_again(tmp_path: Path, visits: Visits) -> None:
    with WebDaemon(tmp_path, "--rate", "off") as daemon:
        browser = visits.browser()
        one = visits.page(daemon.url, "ana", browser)
        two = visits.page(daemon.url, None, browser)
        expect(two.locator("#edge")).not_to_be_empty()
        # Nothing was said, so the session was not written yet, and a new server does not know it.
        daemon.kill()
        daemon.restart()
        for page in (one, two):
            expect(page.locator("#line")).to_have_attribute("data-state", re.compile("back|online"))
            expect(page.locator("#me")).to_have_text("ana")
        say(one, "hola")
        expect(texts(two)).to_have_text(["hola"])


def test_a_server_that_stops_says_so(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana")
    daemon.stop()
    expect(ana.locator("#line-text")).to_contain_text("the server is stopping")
    expect(ana.locator("#line-now")).to_be_visible()
    daemon.restart()
    expect(ana.locator("#line-text")).to_have_text("Connected again.")
    expect(ana.locator("#line-text")).to_be_empty()


def test_a_server_that_stops_says_so_in_spanish(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana", locale="es-ES")
    daemon.stop()
    expect(ana.locator("#line-text")).to_contain_text("El servidor dice: se está parando.")


def test_it_stays_away_for_as_long_as_it_is_asked_to(tmp_path: Path, visits: Visits) -> None:
    with WebDaemon(tmp_path, "--max-clients", "1") as daemon:
        bo = daemon.json("bo")
        ana = visits.page(daemon.url)
        tried: list[str] = []
        ana.on("websocket", lambda socket: tried.append(socket.url))
        ana.fill("#name", "ana")
        ana.press("#name", "Enter")
        expect(ana.locator("#enter-error")).to_contain_text("the server is full")
        bo.request("bye")
        # retry_after is 15 s at the least.
        ana.evaluate("window.dispatchEvent(new Event('online'))")
        ana.wait_for_timeout(1000)
        assert len(tried) == 1


def test_online_again_means_trying_at_once(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana")
    daemon.kill()
    expect(ana.locator("#line-text")).not_to_be_empty()
    # All further tries would wait for an hour.
    ana.evaluate("Math.random = () => 360")
    ana.wait_for_timeout(1500)
    daemon.restart()
    ana.evaluate("window.dispatchEvent(new Event('online'))")
    expect(ana.locator("#line-text")).to_have_text("Connected again.")


def test_by_hand(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana")
    daemon.kill()
    ana.evaluate("Math.random = () => 360")
    ana.wait_for_timeout(1500)
    daemon.restart()
    ana.click("#line-now")
    expect(ana.locator("#line-text")).to_have_text("Connected again.")


def test_a_line_that_died_silently_is_noticed(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana")
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        say(ana, "is anybody there?")
        expect(ana.locator("#line-text")).to_contain_text("lost", timeout=60_000)
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)
    expect(texts(ana)).to_have_text(["is anybody there?"])
    assert stored(daemon) == ["is anybody there?"]


def test_another_database(daemon: WebDaemon, visits: Visits, tmp_path: Path) -> None:
    ana = visits.page(daemon.url, "ana")
    for number in range(3):
        say(ana, f"old {number}")
    expect(texts(ana)).to_have_count(3)
    daemon.kill()
    say(ana, "written for the old one")
    for file in tmp_path.glob("chat.db*"):
        file.unlink()
    daemon.restart()
    expect(ana.locator("#line-text")).to_contain_text("restored from an earlier state")
    expect(ana.locator(".refused")).to_contain_text("before the chat’s database was replaced")
    expect(texts(ana)).to_have_count(0)
    assert stored(daemon) == []
    ana.get_by_role("button", name="Write it again").click()
    expect(ana.locator("#box")).to_have_value("written for the old one")
    ana.press("#box", "Enter")
    expect(texts(ana)).to_have_text(["written for the old one"])


def test_what_the_server_refuses_for_good_can_be_written_anew(daemon: WebDaemon, visits: Visits) -> None:
    browser = visits.browser()
    ana = visits.page(daemon.url, "ana", browser)
    say(ana, "hola")
    expect(texts(ana)).to_have_count(1)
    # Another tab leaves the room that this one is offline in.
    daemon.kill()
    say(ana, "to a room that I am not in")
    ana.evaluate(
        """() => { for (const [key, value] of Object.entries(localStorage)) if (key.includes(' out '))
            localStorage.setItem(key, value.replace('"lobby"', '"nowhere"')) }"""
    )
    ana.close()
    daemon.restart()
    again = visits.page(daemon.url, None, browser)
    expect(texts(again)).to_have_count(1)
    expect(again.get_by_role("status").filter(has_text="Not sent: ")).to_be_visible()
    join(again, "nowhere")
    expect(again.locator(".refused .state")).to_contain_text("Not sent")
    again.get_by_role("button", name="Discard").click()
    expect(again.locator(".refused")).to_have_count(0)
    again.reload()
    expect(again.locator("#edge")).not_to_be_empty()
    expect(again.locator(".refused")).to_have_count(0)


def test_a_browser_that_stores_nothing_says_so(daemon: WebDaemon, visits: Visits) -> None:
    browser = visits.browser()
    browser.add_init_script(
        """for (const name of ['localStorage', 'sessionStorage'])
            Object.defineProperty(window, name, {get() { throw new DOMException('no', 'SecurityError') }})"""
    )
    ana = visits.page(daemon.url, "ana", browser)
    expect(ana.locator("#hint")).to_contain_text("This browser stores nothing")
    say(ana, "hola")
    expect(texts(ana)).to_have_count(1)
    daemon.kill()
    say(ana, "still in memory")
    waiting(ana, 1)
    daemon.restart()
    expect(texts(ana)).to_have_text(["hola", "still in memory"])


def test_storage_that_is_full_is_said(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana")
    daemon.kill()
    ana.evaluate("() => void (Storage.prototype.setItem = () => { throw Error() })")
    say(ana, "in memory only")
    waiting(ana, 1)
    expect(ana.locator("#hint")).to_contain_text("This browser stores nothing")


def test_a_message_waits_until_it_is_kept(tmp_path: Path, visits: Visits) -> None:
    """While the database cannot be written, messages wait; when it can be, they are stored once, in order."""
    with WebDaemon(tmp_path, "--rate", "off") as daemon:
        ana = visits.page(daemon.url, "ana")
        say(ana, "before")
        expect(texts(ana)).to_have_count(1)
        _limit_files(daemon, 0)
        try:
            say(ana, "while it fails")
            expect(ana.locator("#outbox .state")).to_have_text(re.compile("sending|waiting"))
            ana.wait_for_timeout(1500)
            waiting(ana, 1)
        finally:
            _limit_files(daemon, None)
        expect(texts(ana)).to_have_text(["before", "while it fails"])
        waiting(ana, 0)
        assert stored(daemon) == ["before", "while it fails"]


def test_what_is_refused_for_now_keeps_its_order(daemon: WebDaemon, visits: Visits) -> None:
    refused: set[str] = set()

    def between(page: WebSocketRoute) -> None:
        server = page.connect_to_server()

        def refuse_once(text: str | bytes) -> None:
            request = json.loads(text)
            if request["type"] != "say" or request["id"] in refused:
                return server.send(text)
            refused.add(request["id"])
            error = {"type": "error", "code": "not_kept", "text": "Not now.", "retry": True, "id": request["id"]}
            return page.send(json.dumps(error) + "\n")

        page.on_message(refuse_once)

    browser = visits.browser()
    browser.route_web_socket(re.compile("/ws$"), between)
    ana = visits.page(daemon.url, "ana", browser)
    # The first wait is the longest.
    ana.evaluate("() => { let first = true; Math.random = () => first ? (first = false, 1) : 0 }")
    ana.fill("#box", "one\ntwo\nthree")
    ana.press("#box", "Enter")
    expect(texts(ana)).to_have_text(["one", "two", "three"])
    waiting(ana, 0)
    assert stored(daemon) == ["one", "two", "three"]


def _limit_files(daemon: WebDaemon, size: int | None) -> None:
    """Let files of the daemon grow to so many bytes; None: as before."""
    _, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))
