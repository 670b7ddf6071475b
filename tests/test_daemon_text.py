"""The text door of the real daemon, as people with nc and telnet meet it, and as it meets hostile bytes."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from tests.daemon import PATIENCE, Closed, Daemon, JsonClient, TextClient

TOO_MANY = "! The message has 65,536 characters, and 4,000 are the most: send it in parts."
TOO_LONG = "! A line has at most 65536 bytes: this one is lost."

needs_nc = pytest.mark.skipif(shutil.which("nc") is None, reason="there is no nc (netcat-openbsd)")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, "--rate", "off") as running:
        yield running


@pytest.fixture
def netcat(daemon: Daemon) -> Iterator[Callable[[], Netcat]]:
    """Makes people with nc."""
    made: list[Netcat] = []

    def make() -> Netcat:
        made.append(Netcat(daemon))
        return made[-1]

    yield make
    for one in made:
        one.close()


class Netcat(TextClient):
    """A person who types into a process of nc."""

    def __init__(self, daemon: Daemon) -> None:
        ours, theirs = socket.socketpair()
        super().__init__(ours)
        with theirs:
            end = theirs.fileno()
            self._process = subprocess.Popen(["nc", "127.0.0.1", str(daemon.port)], stdin=end, stdout=end)

    def ended(self) -> None:
        """Nothing more comes, the connection is closed, and nc ends: it waits for its input to end, too."""
        self.finish()
        assert self.read_to_end() == b""
        assert self._process.wait(PATIENCE) == 0

    def close(self) -> None:
        super().close()
        self._process.kill()
        self._process.wait()


def piped(daemon: Daemon, typed: bytes) -> list[str]:
    """What `printf TYPED | nc -N` prints."""
    command = ["nc", "-N", "127.0.0.1", str(daemon.port)]
    ended = subprocess.run(command, input=typed, capture_output=True, timeout=PATIENCE, check=True)
    assert ended.stdout.endswith(b"\r\n")
    return ended.stdout.decode().split("\r\n")[:-1]


def reads(client: TextClient, *lines: str) -> None:
    """These lines come next."""
    assert [client.read() for _ in lines] == list(lines)


# People with nc


@needs_nc
def test_two_people_talk(netcat: Callable[[], Netcat]) -> None:
    ana, bo = netcat(), netcat()
    reads(ana, "* Welcome to chatd.", "* What is your name?")
    ana.say("ana")
    reads(ana, "* Hello ana. /help lists what you can do, exit leaves.")
    reads(ana, "* You are in lobby, 1 here: ana. Last message: #0.")
    ana.say("is anybody here?")
    ana.sync()
    bo.say("Bo")
    reads(bo, "* Welcome to chatd.", "* What is your name?")
    reads(bo, "* Hello Bo. /help lists what you can do, exit leaves.")
    reads(bo, "* You are in lobby, 2 here: ana, Bo. Last message: #1.")
    assert re.fullmatch(r"#1 \[\d{4}-\d\d-\d\d \d\d:\d\dZ\] ana: is anybody here\?", bo.read())
    reads(ana, "* Bo joined")
    bo.say("yes, Grüße 🙂")
    reads(ana, "Bo: yes, Grüße 🙂")
    ana.say("/me waves")
    reads(bo, "ana * waves")
    bo.say("exit")
    reads(bo, "* Goodbye.")
    bo.ended()
    reads(ana, "* Bo left")
    ana.say("/quit")
    reads(ana, "* Goodbye.")
    ana.ended()


@needs_nc
def test_a_half_close_prints_all_answers(daemon: Daemon) -> None:
    lines = piped(daemon, b"ana\nhola\n/who\n")
    assert lines == [
        "* Welcome to chatd.",
        "* What is your name?",
        "* Hello ana. /help lists what you can do, exit leaves.",
        "* You are in lobby, 1 here: ana. Last message: #0.",
        "* 1 in lobby: ana.",
        "* Goodbye.",
    ]
    assert re.fullmatch(r"#1 \[.*\] ana: hola", piped(daemon, b"bo\n")[-2])


@needs_nc
def test_a_last_line_needs_no_end(daemon: Daemon) -> None:
    piped(daemon, b"ana\nhola\nadios")
    assert [line.partition("] ")[2] for line in piped(daemon, b"bo\n")[-3:-1]] == ["ana: hola", "ana: adios"]


@needs_nc
def test_who_says_no_name_is_let_go(daemon: Daemon) -> None:
    for typed in (b"", b"\n", b"exit\n", b"exit"):
        lines = piped(daemon, typed)
        assert lines[:2] == ["* Welcome to chatd.", "* What is your name?"]
        assert lines[-1] == "* Goodbye."


@needs_nc
def test_a_half_close_waits_for_what_is_read_slowly(tmp_path: Path) -> None:
    said = [f"line {number}" for number in range(30)]
    with Daemon(tmp_path, "--rate", "10/0.5", "--history", "100") as daemon:
        lines = piped(daemon, "\n".join(["ana", *said, "/history"]).encode())
        assert [line.partition("ana: ")[2] for line in lines if "ana: " in line] == said
        assert sum(line.startswith("! You are too fast") for line in lines) == 1
        assert lines[-1] == "* Goodbye."


def test_the_greeting_comes_without_a_word(daemon: Daemon) -> None:
    reads(daemon.text(), "* Welcome to chatd.", "* What is your name?")


# Names


def test_a_name_that_is_wrong_or_taken_is_asked_for_again(daemon: Daemon) -> None:
    daemon.text("ana")
    eve = daemon.text()
    eve.say("ANA")
    reads(eve, "* Welcome to chatd.", "* What is your name?")
    reads(eve, "! The name ana is in use: choose another one.", "* What is your name?")
    eve.say("* ana")
    assert eve.read().startswith("! ")
    reads(eve, "* What is your name?")
    eve.enter("eve")


def test_after_five_tries_one_is_sent_away(daemon: Daemon) -> None:
    eve = daemon.text()
    eve.say("1\n2\n3\n4\n5\neve\nit is me")
    lines = eve.read_to_end().decode().splitlines()
    assert [line[0] for line in lines] == list("**!*!*!*!*!*")
    assert lines[-1] == "* Goodbye: too many tries."
    assert daemon.text("ana").sync() == []


def test_the_name_of_who_leaves_is_free_at_once(daemon: Daemon) -> None:
    for goodbye in ("exit", "/quit"):
        ana = daemon.text("ana")
        ana.say(f"hola\n{goodbye}")
        ana.read_to_end()
    bo = daemon.text("bo")
    ana = daemon.text("ana")
    ana.say("adios")
    bo.until("ana: adios")
    ana.reset()
    bo.until(r"\* ana left$")
    daemon.text("ana")


# Commands


def test_help_lists_every_command(daemon: Daemon) -> None:
    ana = daemon.text("ana")
    ana.say("/help")
    commands = [line.split()[1] for line in ana.sync()]
    assert commands == [
        *("/help", "/who", "/rooms", "/join", "/me", "/history", "/since", "/search", "/quit", "exit", "//TEXT")
    ]


def test_rooms(daemon: Daemon) -> None:
    ana, bo = daemon.text("ana"), daemon.text("bo")
    ana.until(r"\* bo joined")
    bo.say("/join #Tea_Room")
    reads(bo, "* You are in tea_room, 1 here: bo. Last message: #0.")
    reads(ana, "* bo left")
    bo.say("nobody hears this")
    bo.sync()
    ana.say("/rooms")
    reads(ana, "* lobby: 1 here, last message #0.", "* tea_room: 1 here, last message #1.")
    ana.say("/join tea_room")
    reads(ana, "* You are in tea_room, 2 here: bo, ana. Last message: #1.")
    assert ana.read().endswith("bo: nobody hears this")
    bo.until(r"\* ana joined")
    ana.say("now somebody does")
    reads(bo, "ana: now somebody does")


def test_the_past(daemon: Daemon) -> None:
    ana = daemon.text("ana")
    for text in ("one", "two", "three", "a café"):
        ana.say(text)
    ana.say("/history 2")
    assert _past(ana) == ["#3 ana: three", "#4 ana: a café"]
    ana.say("/since 1")
    assert _past(ana) == ["#2 ana: two", "#3 ana: three", "#4 ana: a café"]
    ana.say("/search CAFE")
    assert _past(ana) == ["#4 ana: a café"]
    ana.say("/search tea")
    reads(ana, "* 0 found.")


def test_a_command_that_is_wrong_is_explained(daemon: Daemon) -> None:
    ana = daemon.text("ana")
    ana.say("/nothing")
    reads(ana, "! There is no /nothing: /help lists what there is.")
    ana.say("/join")
    reads(ana, "! Write it so: /join ROOM")
    ana.say("/who is it")
    reads(ana, "! Write it so: /who")
    ana.say("/since yesterday")
    reads(ana, "! This takes a number, so: /since 120")
    ana.say("/join ???")
    assert ana.read().startswith("! ")
    ana.say("/me")
    reads(ana, "! Write it so: /me TEXT")
    assert ana.sync() == []


def test_two_slashes_say_one(daemon: Daemon) -> None:
    ana, bo = daemon.text("ana"), daemon.text("bo")
    bo.say("//who is there")
    ana.until("bo: /who is there$")


# Bytes


def test_telnet_negotiation_is_dropped(daemon: Daemon) -> None:
    bo = daemon.text("bo")
    ana = daemon.text()
    ana.send(
        b"\xff\xfd\x03\xff\xfb\x18\xff\xfa\x18\x00xterm\xff\xf0ana\r\nho\xff\xf1la\r\0\n\xff\xfb\x1fadios\r\n"
    )
    reads(ana, "* Welcome to chatd.", "* What is your name?", *_hello("ana", "bo, ana"))
    bo.until(r"\* ana joined")
    reads(bo, "ana: hola", "ana: adios")
    assert ana.sync() == []


def test_lines_may_end_with_crlf_and_be_cut_anywhere(daemon: Daemon) -> None:
    bo = daemon.text("bo")
    ana = daemon.text("ana")
    bo.until(r"\* ana joined")
    for byte in "ein Gruß\r\nnoch 🙂 einer\r\n".encode():
        ana.send(bytes([byte]))
    reads(bo, "ana: ein Gruß", "ana: noch 🙂 einer")


def test_bytes_that_are_not_utf8_are_replaced_and_said_so_once(daemon: Daemon) -> None:
    bo, ana = daemon.text("bo"), daemon.text("ana")
    bo.until(r"\* ana joined")
    ana.send("señor\n".encode("latin-1") + "año\n".encode("latin-1"))
    reads(bo, "ana: se\ufffdor", "ana: a\ufffdo")
    assert ana.sync() == ["! This was not UTF-8: what could not be read is shown as \ufffd."]


def test_nobody_can_forge_a_line(daemon: Daemon) -> None:
    bo, ana = daemon.text("bo"), daemon.text("ana")
    bo.until(r"\* ana joined")
    for hostile in ("\x1b[2J", "a\r* bo left", "a\u2028* bo left", "a\x85* bo left", "\u202eevil", "\0"):
        ana.say(f"x{hostile}x")
        line = bo.read()
        assert line.startswith("ana: x") and line.isprintable() and "\ufffd" in line
    ana.say("* bo left")
    reads(bo, "ana: * bo left")
    ana.say("! This is no complaint")
    reads(bo, "ana: ! This is no complaint")


def test_a_line_over_64_kib_is_lost_with_one_complaint(daemon: Daemon) -> None:
    bo, ana = daemon.text("bo"), daemon.text("ana")
    bo.until(r"\* ana joined")
    ana.send(b"x" * 65536 + b"\n" + b"y" * 65537 + b"\nstill here\n")
    reads(ana, TOO_MANY, TOO_LONG)
    reads(bo, "ana: still here")


def test_a_line_that_never_ends_costs_no_memory(daemon: Daemon) -> None:
    ana = daemon.text("ana")
    before = daemon.memory
    for _ in range(64):
        ana.send(b"x" * 1024 * 1024)
    reads(ana, TOO_LONG)
    ana.send(b"x\n")
    assert ana.sync() == []
    assert daemon.memory - before < 8 * 1024 * 1024


def test_random_bytes_close_nobody_elses_connection(daemon: Daemon) -> None:
    ana = daemon.text("ana")
    noise = bytes((7 * n * n + n // 3) % 256 for n in range(100_000))
    eve = daemon.peer()
    eve.send(noise)
    eve.finish()
    eve.read_to_end()
    bo = daemon.text("bo")
    bo.send(noise + b"\n")
    bo.say("/who")
    bo.until(r"\* 2 in lobby: ana, bo\.$")
    ana.sync()


# Programs on the same port


def test_json_is_told_by_its_first_byte_after_the_greeting_too(daemon: Daemon) -> None:
    late = JsonClient(daemon.text().socket)
    assert late.read_line() == b"* Welcome to chatd."
    assert late.read_line() == b"* What is your name?"
    late.hello("bot")
    ana = daemon.text("ana")
    late.say("hola", "1")
    ana.until("bot: hola$")
    ana.say("hola, bot")
    assert late.until("message", name="ana")["text"] == "hola, bot"


def test_who_has_begun_as_a_person_stays_one(daemon: Daemon) -> None:
    ana = daemon.text("ana")
    bo = daemon.text("bo")
    bo.say('{"type":"hello","name":"bot"}')
    ana.until('bo: {"type":"hello","name":"bot"}$')


# Web pages


def test_a_web_page_cannot_post(daemon: Daemon) -> None:
    ana = daemon.text("ana")
    body = '{"type":"hello","name":"eve"}\n{"type":"say","room":"lobby","text":"spam","id":"1"}\neve\nspam\n'
    connection = HTTPConnection("127.0.0.1", daemon.port, timeout=PATIENCE)
    with pytest.raises((HTTPException, ConnectionError)):
        connection.request("POST", "/", body, {"Content-Type": "text/plain"})
        connection.getresponse()
    connection.close()
    _nobody_came(daemon, ana)


def test_an_http_request_is_dropped_at_once(daemon: Daemon) -> None:
    ana = daemon.text("ana")
    for head in (b"GET / HTTP/1.1", b"POST /x HTTP/1.0", b"OPTIONS * HTTP/1.1", b"PRI * HTTP/2.0"):
        eve = daemon.peer()
        eve.send(head + b"\r\n")
        assert eve.read_to_end() == b""
    _nobody_came(daemon, ana)


def test_an_http_request_in_pieces_is_dropped_too(daemon: Daemon) -> None:
    ana = daemon.text("ana")
    eve = daemon.text()
    reads(eve, "* Welcome to chatd.", "* What is your name?")
    with pytest.raises(Closed):
        for byte in b"POST / HTTP/1.1\r\n\r\neve\r\nspam\r\n":
            eve.send(bytes([byte]))
        eve.read()
    _nobody_came(daemon, ana)


def _hello(name: str, here: str) -> list[str]:
    count = here.count(",") + 1
    return [
        f"* Hello {name}. /help lists what you can do, exit leaves.",
        f"* You are in lobby, {count} here: {here}. Last message: #0.",
    ]


def _past(client: TextClient) -> list[str]:
    """What a command shows of the past, without the times."""
    lines = client.until(r"\* (That was up to #4|1 found)\.$")[:-1]
    return [re.sub(r" \[.*?\]", "", line) for line in lines]


def _nobody_came(daemon: Daemon, ana: TextClient) -> None:
    """Ana, who was there all the time, has seen nothing."""
    assert ana.sync() == []
    bo = daemon.text()
    bo.say("bo")
    assert bo.until(r"\* You are in ")[-1] == "* You are in lobby, 2 here: ana, bo. Last message: #0."
    assert "sent an HTTP request" in daemon.log
