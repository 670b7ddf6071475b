"""The page in a real browser, with a real daemon: what people do with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser import Visits, WebDaemon, enter, expect, join, say, shown, texts


def test_two_browsers_and_a_netcat_in_one_room(daemon: WebDaemon, visits: Visits) -> None:
    ana, bo = visits.page(daemon.url, "ana"), visits.page(daemon.url, "bo")
    carla = daemon.text("carla")
    said = [(ana, "from ana"), (bo, "from bo"), (None, "from carla"), (ana, "ana again")]
    for number, (page, text) in enumerate(said, 1):
        if page is None:
            carla.say(text)
        else:
            say(page, text)
        for each in (ana, bo):
            expect(texts(each)).to_have_count(number)
    assert shown(ana) == shown(bo) == [text for _, text in said]
    seqs = "Array.from(document.querySelectorAll('#messages li[data-seq]'), (item) => item.dataset.seq)"
    assert ana.evaluate(seqs) == bo.evaluate(seqs) == ["1", "2", "3", "4"]
    read = [line for line in carla.until("ana: ana again") if not line.startswith("*")]
    assert read == ["ana: from ana", "bo: from bo", "ana: ana again"]
    expect(ana.locator("#outbox li")).to_have_count(0)


def test_the_structure_that_others_build_on(daemon: WebDaemon, visits: Visits) -> None:
    page = visits.page(daemon.url, "ana")
    say(page, "hola")
    expect(page.locator("[role=log] ol li", has_text="hola")).to_have_count(1)
    assert page.locator("textarea").count() == 1
    assert page.get_by_role("log").count() == 1
    # Safari takes a list whose marks are `none` for no list.
    styles = page.evaluate(
        "[...document.querySelectorAll('ol, ul')].map((e) => getComputedStyle(e).listStyleType)"
    )
    assert set(styles) == {'""'}
    expect(page.get_by_role("textbox", name="Write to #lobby")).to_be_focused()


def test_who_comes_and_goes(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana")
    guests = [daemon.text(f"guest{number}") for number in range(3)]
    members = ana.locator("#member-list bdi")
    expect(members).to_have_text(["ana", "guest0", "guest1", "guest2"])
    expect(ana.locator("#count")).to_have_text("4")
    expect(ana.locator(".notice", has_text="guest2")).to_be_visible()
    assert ana.locator(".notice").count() == 1, "one line between two messages"
    for guest in guests[:2]:
        guest.say("exit")
    expect(members).to_have_text(["ana", "guest2"])
    expect(ana.locator(".notice", has_text="guest0")).to_have_count(2)


def test_more_members_than_one_answer_names(daemon: WebDaemon, visits: Visits) -> None:
    guests = [daemon.json(f"guest{number:03}") for number in range(70)]
    ana = visits.page(daemon.url, "ana")
    expect(ana.locator("#count")).to_have_text("71")
    expect(ana.locator("#member-list li")).to_have_count(71)
    for guest in guests[:60]:
        guest.request("bye")
    expect(ana.locator("#count")).to_have_text("11")
    expect(ana.locator("#member-list li")).to_have_count(11)


# Rooms, unread messages, mentions


def test_rooms_and_what_is_unread_in_them(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana")
    join(ana, "garden")
    expect(ana).to_have_url(re.compile("#garden$"))
    bo = daemon.text("bo")
    for number in range(3):
        bo.say(f"news {number}")
    lobby = ana.locator("[data-room=lobby]")
    expect(lobby.locator(".badge")).to_have_text(re.compile("3"))
    expect(ana).to_have_title("• #garden · chatd")
    bo.say("Ana, are you there?")
    expect(lobby.locator(".badge.mentions")).to_have_text(re.compile("@1"))
    expect(ana).to_have_title("(1) #garden · chatd")
    lobby.get_by_role("link").click()
    expect(ana.locator(".divider + .entry, .divider ~ .entry")).to_contain_text("news 0")
    expect(ana.locator(".mention mark")).to_have_text("Ana")
    expect(lobby.locator(".badge")).to_have_count(0)
    expect(ana).to_have_title("#lobby · chatd")
    ana.go_back()
    expect(ana.locator("#room-name")).to_have_text("garden")


def test_mentions_are_whole_words(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana")
    bo = daemon.text("bo")
    for text in ("banana", "ana-maria", "foo@ana.com", "@ana!", "(ana)", "ANA.", "ana's"):
        bo.say(text)
    expect(texts(ana)).to_have_count(7)
    assert ana.locator(".mention .text").all_text_contents() == ["@ana!", "(ana)", "ANA.", "ana's"]


def test_a_room_of_ones_own_and_the_list_of_all(daemon: WebDaemon, visits: Visits) -> None:
    other = daemon.json()
    other.hello("other", rooms={"lobby": None, "garden": None})
    other.say("here", "1", room="garden")
    other.until("kept")
    ana = visits.page(daemon.url, "ana")
    ana.click("#join-open")
    expect(ana.locator("#join-name")).to_be_focused()
    ana.locator("#all-rooms button", has_text="garden").click()
    expect(ana.locator("#room-name")).to_have_text("garden")
    expect(texts(ana)).to_have_text(["here"])
    ana.click("#join-open")
    ana.fill("#join-name", "#Äpfel")
    ana.press("#join-name", "Enter")
    expect(ana.locator("#room-name")).to_have_text("äpfel")
    expect(ana.locator("#room-list li")).to_have_count(3)
    ana.hover("[data-room=garden]")
    ana.click("[data-room=garden] button")
    expect(ana.locator("#room-list li")).to_have_count(2)
    ana.reload()
    expect(ana.locator("#room-list li")).to_have_count(2)
    expect(ana.locator("#room-name")).to_have_text("äpfel")


def test_an_address_names_a_room(daemon: WebDaemon, visits: Visits) -> None:
    page = visits.page(f"{daemon.url}#garden", "ana")
    expect(page.locator("#room-name")).to_have_text("garden")
    expect(page.locator("#room-list li")).to_have_count(2)


def test_a_room_that_cannot_be(daemon: WebDaemon, visits: Visits) -> None:
    page = visits.page(daemon.url, "ana")
    say(page, "/join what is this?")
    expect(page.locator("#hint")).not_to_be_empty()
    expect(page.locator("#room-name")).to_have_text("lobby")


def test_what_is_unread_stays_so_over_a_reload(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana")
    join(ana, "garden")
    ana.goto("about:blank")
    bo = daemon.text("bo")
    for number in range(60):
        bo.say(f"news {number}")
    bo.say("psst, ana")
    bo.sync()
    ana.goto(f"{daemon.url}#garden")
    expect(ana.locator("[data-room=lobby] .badge")).to_have_text(re.compile("@1"))
    ana.click("[data-room=lobby] a")
    expect(ana.locator("#latest")).to_have_text("61 new messages")
    expect(texts(ana, "news 0").first).to_be_in_viewport()
    ana.click("#latest")
    expect(texts(ana, "psst")).to_be_in_viewport()
    expect(ana.locator("[data-room=lobby] .badge")).to_have_count(0)


# What one writes


def test_commands_and_several_lines(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana")
    say(ana, "/me waves")
    expect(ana.locator(".action")).to_have_text(re.compile("^.?ana waves"))
    say(ana, "//etc/passwd")
    expect(texts(ana).last).to_have_text("/etc/passwd")
    ana.fill("#box", "one\n\n  two  \r\nthree")
    ana.press("#box", "Enter")
    expect(texts(ana)).to_have_text([re.compile("ana waves"), "/etc/passwd", "one", "  two", "three"])
    say(ana, "/nonsense")
    expect(ana.locator("#hint")).to_contain_text("There is no /nonsense")
    expect(ana.locator("#box")).to_have_value("/nonsense")
    say(ana, "x" * 4001)
    expect(ana.locator("#hint")).to_contain_text("4,001")
    say(ana, "🌻" * 4000)
    expect(ana.locator("#hint")).to_be_empty()
    expect(texts(ana)).to_have_count(6)


def test_shift_enter_makes_a_line_and_ime_keys_do_not_send(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana")
    ana.type("#box", "one")
    ana.keyboard.press("Shift+Enter")
    ana.keyboard.type("two")
    expect(ana.locator("#box")).to_have_value("one\ntwo")
    ana.evaluate(
        "document.getElementById('box').dispatchEvent(new KeyboardEvent('keydown', "
        "{key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))"
    )
    expect(ana.locator("#box")).to_have_value("one\ntwo")


def test_links(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana")
    bo = daemon.text("bo")
    bo.say(
        "see https://chat.example/a_(b)?q=1#x, or (http://x.example/). javascript:alert(1) data:text/html,x ftp://y"
    )
    links = texts(ana).locator("a")
    expect(links).to_have_text(["https://chat.example/a_(b)?q=1#x", "http://x.example/"])
    for link in links.all():
        assert link.get_attribute("rel") == "noopener noreferrer"
        assert link.get_attribute("target") == "_blank"
    bo.say("https://www.аррӏе.com/ https://[oops")
    expect(texts(ana)).to_have_count(2)
    expect(texts(ana).last.locator("a")).to_have_attribute("title", "https://www.xn--80ak6aa92e.com/")


HOSTILE = [
    '<img src=x onerror="document.title=1">',
    "</li></ol><script>document.title = 1</script>",
    "&lt;b&gt; &amp; &#x202e;",
    "x" * 4000,
    "https://chat.example/" + "y" * 3900,
    "\u202egnp.exe \u2066a\u2069",
    "Z" + "\u0337\u0321\u0325\u032c" * 400,
    "מרחבא שלום ana",
    "{{7*7}} ${7*7} %s %n",
]


@pytest.mark.parametrize("width", [1280, 360])
def test_hostile_messages_are_text(daemon: WebDaemon, visits: Visits, width: int) -> None:
    page = visits.page(daemon.url, "ana", viewport={"width": width, "height": 740})
    bo = daemon.json("bo")
    for number, text in enumerate(HOSTILE):
        bo.say(text, str(number))
    expect(texts(page)).to_have_count(len(HOSTILE))
    assert shown(page)[:5] == HOSTILE[:5]
    assert shown(page)[5] == "\ufffdgnp.exe \ufffda\ufffd"
    allowed = {"LI", "P", "DIV", "SPAN", "BDI", "TIME", "A", "MARK"}
    tags = page.evaluate("Array.from(document.querySelectorAll('#messages *'), (each) => each.tagName)")
    assert set(tags) <= allowed
    expect(page).to_have_title("#lobby · chatd")
    assert_nothing_sticks_out(page)


def assert_nothing_sticks_out(page: Page) -> None:
    assert page.evaluate(
        "[document.documentElement, document.body, document.getElementById('log')]"
        ".every((each) => each.scrollWidth <= each.clientWidth)"
    )


def test_hostile_names(daemon: WebDaemon, visits: Visits) -> None:
    page = visits.page(daemon.url)
    for name in ("<img onerror=alert(1)>", "ana\u202e", "a b", "ana\u0430", "-"):
        page.fill("#name", name)
        page.press("#name", "Enter")
        expect(page.locator("#enter-error")).not_to_be_empty()
        expect(page.locator("#enter button")).to_be_enabled()
    enter(page, "Ünïcødé_" + "x" * 24)
    long = daemon.json("W" * 32)
    long.say("hello", "1")
    expect(texts(page)).to_have_text(["hello"])
    assert_nothing_sticks_out(page)


# Coming in


def test_a_name_that_is_taken(daemon: WebDaemon, visits: Visits) -> None:
    daemon.json("ana")
    page = visits.page(daemon.url)
    page.fill("#name", "Ana")
    page.press("#name", "Enter")
    expect(page.locator("#enter-error")).not_to_be_empty()
    expect(page.locator("#name")).to_be_focused()
    enter(page, "ana2")
    expect(page.locator("#me")).to_have_text("ana2")


def test_the_password_is_asked_for(tmp_path: Path, visits: Visits) -> None:
    (tmp_path / "password").touch(0o600)
    (tmp_path / "password").write_text("open sesame\n")
    with WebDaemon(tmp_path, "--password-file", str(tmp_path / "password")) as daemon:
        page = visits.page(daemon.url)
        expect(page.locator("#password")).to_be_hidden()
        page.fill("#name", "ana")
        page.press("#name", "Enter")
        expect(page.locator("#password")).to_be_focused()
        page.keyboard.type("sesame")
        page.keyboard.press("Enter")
        expect(page.locator("#enter-error")).to_have_text("This is not the password.")
        page.fill("#password", "open sesame")
        page.keyboard.press("Enter")
        expect(page.locator("#box")).to_be_focused()
        page.reload()
        expect(page.locator("#edge")).not_to_be_empty()
        page.click("#sign-out")
        page.fill("#name", "bo")
        page.press("#name", "Enter")
        expect(page.locator("#enter-error")).to_have_text("This chat has a password.")
        expect(page.locator("#password")).to_have_value("")


def test_leaving(daemon: WebDaemon, visits: Visits) -> None:
    bo = daemon.text("bo")
    ana = visits.page(daemon.url, "ana")
    say(ana, "bye all")
    expect(texts(ana)).to_have_count(1)
    ana.click("#sign-out")
    expect(ana.locator("#name")).to_be_visible()
    bo.until(r"\* ana left")
    assert ana.evaluate("Object.keys(localStorage)") == []
    enter(ana, "anna")
    expect(ana.locator("#me")).to_have_text("anna")


def test_who_comes_in_after_somebody_finds_nothing_of_theirs(daemon: WebDaemon, visits: Visits) -> None:
    browser = visits.browser()
    one, two = visits.page(daemon.url, "ana", browser), visits.page(daemon.url, None, browser)
    for page in (one, two):
        page.fill("#box", "a secret")
    one.click("#sign-out")
    for page in (one, two):
        expect(page.locator("#name")).to_be_visible()
        assert page.evaluate("Object.keys(sessionStorage)") == []
    enter(one, "bo")
    expect(one.locator("#box")).to_have_value("")


def test_what_the_operator_says(tmp_path: Path, visits: Visits) -> None:
    with WebDaemon(tmp_path, "--motd", "Be kind.\n<b>Really.</b>") as daemon:
        page = visits.page(daemon.url, "ana")
        expect(page.locator("#motd p")).to_have_text("Be kind.\n<b>Really.</b>")
        page.click("#motd button")
        expect(page.locator("#motd")).to_be_hidden()
        page.reload()
        expect(page.locator("#edge")).not_to_be_empty()
        expect(page.locator("#motd")).to_be_hidden()


# Words and times


def test_in_spanish(daemon: WebDaemon, visits: Visits) -> None:
    page = visits.page(daemon.url, locale="es-MX")
    expect(page.locator("html")).to_have_attribute("lang", "es-MX")
    expect(page.get_by_role("button", name="Entrar al chat")).to_be_visible()
    page.fill("#name", "a b")
    page.press("#name", "Enter")
    expect(page.locator("#enter-error")).to_contain_text("Ese nombre no vale")
    enter(page, "ana")
    expect(page.get_by_role("textbox", name="Escribe en #lobby")).to_be_visible()
    say(page, "hola")
    expect(page.locator(".day")).to_have_text("Hoy")
    page.click("#search-open")
    page.fill("#words", "nada")
    page.press("#words", "Enter")
    expect(page.locator("#found")).to_have_text("No se encontró nada.")


def test_another_language_gets_english(daemon: WebDaemon, visits: Visits) -> None:
    page = visits.page(daemon.url, locale="fr-FR")
    expect(page.get_by_role("button", name="Join the chat")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_both_languages_say_the_same_things(daemon: WebDaemon, visits: Visits) -> None:
    source = (Path(__file__).parent.parent / "chatd" / "web" / "static" / "i18n.js").read_text()
    english, spanish = (
        set(re.findall(r"^  (\w+):", source.split(f"const {language} = {{")[1].split("\n};")[0], re.MULTILINE))
        for language in ("english", "spanish")
    )
    assert english == spanish


def test_times_and_days_are_those_of_the_reader(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana", timezone_id="Asia/Tokyo")
    bo = visits.page(daemon.url, "bo", timezone_id="America/New_York")
    say(ana, "hola")
    expect(texts(bo)).to_have_count(1)
    expect(ana.locator(".day")).to_have_text("Today")
    times = [page.locator("#messages .by time") for page in (ana, bo)]
    there, here = (int(time.inner_text().split(":")[0]) for time in times)
    assert (there - here) % 24 in (13, 14)
    stamps = {time.get_attribute("datetime") for time in times}
    assert len(stamps) == 1
    assert re.fullmatch(r"[-0-9]{10}T[0-9:.]{12}Z", stamps.pop() or "")


def test_today_becomes_yesterday_at_midnight(daemon: WebDaemon, visits: Visits) -> None:
    ana = visits.page(daemon.url, "ana")
    ana.clock.install()
    ana.reload()
    say(ana, "hola")
    day = ana.locator("#messages .day")
    expect(day).to_have_text("Today")
    ana.clock.fast_forward("24:00:00")
    expect(day).to_have_text("Yesterday")


def test_search(daemon: WebDaemon, visits: Visits) -> None:
    bo = daemon.json("bo")
    for number in range(300):
        bo.say(f"message {number}" + (" with a café" if number in (7, 250) else ""), str(number))
    bo.sync()
    ana = visits.page(daemon.url, "ana")
    say(ana, "/search CAFE")
    expect(ana.locator("#found")).to_have_text("2 found, newest first.")
    expect(ana.locator("#results .text")).to_have_text(["message 250 with a café", "message 7 with a café"])
    ana.locator("#results button").last.click()
    expect(texts(ana, "message 7 with a café")).to_be_in_viewport()
    expect(ana.locator("#latest")).to_be_visible()
    ana.click("#latest")
    expect(texts(ana).last).to_have_text("message 299")
    expect(texts(ana).last).to_be_in_viewport()
