"""The dialect of people with nc: what they read, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from chatd.hub import Settings
from chatd.interfaces import IMember
from chatd.text import COMMANDS, TRIES, TextMember
from chatd.wire import MAX_LINE
from tests.harness import Chat, Later, TextLine

WELCOME = ["* Welcome to chatd.", "* What is your name?"]
HELP = "/help lists what you can do, exit leaves."

shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["socket", "wrapped"])
def chat(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Chat]:
    """A chat on plain sockets, or on transports like those of TLS."""
    with Chat(tmp_path, wrapped=request.param == "wrapped") as made:
        yield made


def come(chat: Chat) -> TextLine:
    """A person who has been greeted and asked for a name."""
    line = TextLine(chat)
    chat.advance(0.3)
    assert line.read() == WELCOME
    return line


def pair(chat: Chat) -> tuple[TextLine, TextLine]:
    """Two people who have been in the lobby for a while."""
    ana, bo = chat.text("ana"), chat.text("bo")
    chat.advance(5)
    assert (ana.read(), bo.read()) == (["* bo joined"], [])
    return ana, bo


# The name


def test_a_newcomer_is_greeted_and_put_into_the_lobby(chat: Chat) -> None:
    ana = come(chat)
    assert ana.ask("ana") == [f"* Hello ana. {HELP}", "* You are in lobby, 1 here: ana. Last message: #0."]


def test_a_bad_name_is_explained_and_asked_for_again(chat: Chat) -> None:
    ana = come(chat)
    assert ana.ask("a b") == [
        "! A space cannot be in a name: letters, digits, '_', '-' and '.' can.",
        "* What is your name?",
    ]
    assert ana.ask("")[-1] == "* What is your name?"
    assert ana.ask("ana")[0] == f"* Hello ana. {HELP}"


def test_a_name_in_use_is_asked_for_again(chat: Chat) -> None:
    chat.text("ana")
    other = come(chat)
    assert other.ask("ANA") == ["! The name ana is in use: choose another one.", "* What is your name?"]
    assert other.ask("bo")[1] == "* You are in lobby, 2 here: ana, bo. Last message: #0."


def test_five_tries(chat: Chat) -> None:
    line = come(chat)
    for _ in range(TRIES - 1):
        assert line.ask("5")[-1] == "* What is your name?"
        assert not line.closed
    assert line.ask("5")[1:] == ["* Goodbye: too many tries."]
    assert line.closed


def test_who_leaves_without_a_name(chat: Chat) -> None:
    line = come(chat)
    assert line.ask("exit") == ["* Goodbye."]
    assert line.closed


def test_the_name_of_who_left_is_free_at_once(chat: Chat) -> None:
    chat.text("ana").lose()
    assert come(chat).ask("ana")[0] == f"* Hello ana. {HELP}"


def test_the_password_comes_first(tmp_path: Path) -> None:
    with Chat(tmp_path, Settings(password="sésame")) as chat:
        line = TextLine(chat)
        chat.advance(0.3)
        assert line.read() == ["* Welcome to chatd.", "* What is the password?"]
        assert line.ask("ana") == ["! This is not the password.", "* What is the password?"]
        assert line.ask("sésame") == ["* What is your name?"]
        assert line.ask("ana")[0] == f"* Hello ana. {HELP}"


def test_five_passwords(tmp_path: Path) -> None:
    with Chat(tmp_path, Settings(password="sesame")) as chat:
        line = TextLine(chat)
        line.say(*["guess"] * TRIES)
        assert line.read()[-1] == "* Goodbye: too many tries."
        assert line.closed


def test_the_message_of_the_day(tmp_path: Path) -> None:
    with Chat(tmp_path, motd="Be kind.\nNo ads.") as chat:
        line = come(chat)
        assert line.ask("ana")[:3] == ["* Be kind.", "* No ads.", f"* Hello ana. {HELP}"]


# Talking


def test_a_line_is_a_message_to_the_others(chat: Chat) -> None:
    ana, bo = pair(chat)
    ana.say("hola")
    assert (ana.read(), bo.read()) == ([], ["ana: hola"])


def test_what_one_does(chat: Chat) -> None:
    ana, bo = chat.text("ana"), chat.text("bo")
    ana.say("/me waves", "/me  twice  ")
    assert bo.read() == ["ana * waves", "ana * twice"]


def test_a_slash_can_be_said(chat: Chat) -> None:
    ana, bo = chat.text("ana"), chat.text("bo")
    ana.say("//etc/motd", "///", "not /a command", " ", "")
    assert bo.read() == ["ana: /etc/motd", "ana: //", "ana: not /a command"]


def test_crlf_and_what_telnet_sends(chat: Chat) -> None:
    ana, bo = chat.text("ana"), chat.text("bo")
    ana.send(b"one\r\ntwo\r\0\n\xff\xfd\x01three\xff\xfa\x18\x00VT\xff\xf0!\xff\xf1\n")
    assert bo.read() == ["ana: one", "ana: two", "ana: three!"]


def test_what_telnet_says_first_is_no_name(chat: Chat) -> None:
    line = TextLine(chat)
    line.send(b"\xff\xfb\x1f\xff\xfd\x03", b"ana\r\n")
    assert line.read()[2] == f"* Hello ana. {HELP}"


def test_what_is_not_utf_8_is_replaced_and_said_once(chat: Chat) -> None:
    ana, bo = pair(chat)
    ana.send(b"caf\xe9\n", b"ma\xf1ana\n", "né\n".encode())
    assert bo.read() == ["ana: caf\ufffd", "ana: ma\ufffdana", "ana: né"]
    assert ana.read() == ["! This was not UTF-8: what could not be read is shown as \ufffd."]


def test_a_line_too_long_is_complained_of_once(chat: Chat) -> None:
    ana, bo = pair(chat)
    ana.send(*[b"x" * 50_000] * 3, b"\nhola\n")
    assert ana.read() == [f"! A line has at most {MAX_LINE} bytes: this one is lost."]
    assert bo.read() == ["ana: hola"]


def test_a_message_too_long_is_refused(chat: Chat) -> None:
    ana, bo = pair(chat)
    assert ana.ask("x" * 4001)[0].startswith("! The message has 4,001 characters")
    assert bo.read() == []


@given(said=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=80))
@example("* ana joined")
@example("! beware")
@example("\r* ana joined")
@example("/me \u2028* forged")
@example("//* forged")
@shared
def test_nobody_can_forge_a_line_of_the_server(tmp_path: Path, said: str) -> None:
    assume(not said.strip().lower().startswith(("exit", "/quit", "/join")))
    with Chat(tmp_path, history=0) as chat:
        ana, bo = pair(chat)
        ana.say(said)
        for line in bo.read():
            assert line.startswith(("ana: ", "ana * "))
            assert not set(line) & set("\r\n\0\x1b\x85\u2028\u2029\u202e")


@given(data=st.lists(st.binary(min_size=1), max_size=5))
@shared
def test_no_bytes_close_the_connection(tmp_path: Path, data: list[bytes]) -> None:
    with Chat(tmp_path) as chat:
        ana = chat.text("ana")
        ana.send(*data, b"\n")
        ana.read()
        assert not ana.closed
        assert ana.ask("/who") == ["* 1 in lobby: ana."]


# Coming and going


def test_who_comes_and_goes_is_told(chat: Chat) -> None:
    ana = chat.text("ana")
    bo = chat.text("bo")
    chat.advance(1)
    assert ana.read() == ["* bo joined"]
    assert bo.read() == []
    bo.say("exit")
    assert bo.read() == ["* Goodbye."]
    assert bo.closed
    chat.advance(1)
    assert ana.read() == ["* bo left"]


def test_many_are_named_ten_at_a_time(chat: Chat) -> None:
    ana = chat.text("ana")
    others = [chat.text(f"n{number}") for number in range(14)]
    chat.advance(1)
    told = [f"* {', '.join(f'n{n}' for n in range(10))} and 4 more joined (15 here)"]
    assert ana.read() == others[0].read() == told
    assert others[0].ask("/who") == [f"* 15 in lobby: ana, {', '.join(f'n{n}' for n in range(14))}."]


@pytest.mark.parametrize("words", ["exit", "/quit", " exit ", "/QUIT"])
def test_leaving(chat: Chat, words: str) -> None:
    ana, bo = pair(chat)
    ana.say("bye all", words, "not said any more")
    assert ana.read()[-1] == "* Goodbye."
    assert ana.closed
    chat.advance(1)
    assert bo.read() == ["ana: bye all", "* ana left"]


def test_half_a_close_is_an_exit_after_all_that_came_before(tmp_path: Path) -> None:
    with Chat(tmp_path) as chat:
        bo = chat.text("bo")
        chat.advance(2)
        ana = TextLine(chat)
        ana.socket.incoming.append(b"ana\nhola\n/who")
        ana.finish()
        assert ana.read()[-2:] == ["* 2 in lobby: bo, ana.", "* Goodbye."]
        assert ana.closed
        chat.advance(1)
        assert bo.read() == ["* ana joined", "ana: hola", "* ana left"]


def test_nothing_is_said_before_the_last_words_are_kept(tmp_path: Path) -> None:
    later = Later()
    with Chat(tmp_path, workers=later, in_place=False) as chat:
        ana, bo = pair(chat)
        ana.say("last words", "exit")
        assert (ana.read(), bo.read()) == ([], [])
        later.work()
        chat.settle()
        assert ana.read() == ["* Goodbye."]
        assert bo.read() == ["ana: last words", "* ana left"]


def test_the_past_holds_what_one_has_said(tmp_path: Path) -> None:
    later = Later()
    with Chat(tmp_path, workers=later, in_place=False) as chat:
        ana = chat.text("ana")
        for command in ("/history 1", "/since 0", "/search hola"):
            ana.say("hola", command)
            assert ana.read() == []
            later.work()
            chat.settle()
            while later:
                later.work()
                chat.settle()
            assert ana.read()[-2].endswith("ana: hola")


def test_a_message_that_takes_long_is_told_of(tmp_path: Path) -> None:
    later = Later()
    with Chat(tmp_path, workers=later, in_place=False) as chat:
        ana = chat.text("ana")
        ana.say("hola")
        chat.advance(1.9)
        assert ana.read() == []
        chat.advance(0.1)
        assert ana.read() == ["* The database is slow: your message is not kept yet, and nobody has seen it."]
        later.work()
        chat.settle()
        assert ana.ask("/history 1")[0] == "#1 [2026-11-22 14:05Z] ana: hola"


# Commands


def test_help_lists_every_command(chat: Chat) -> None:
    ana = chat.text("ana")
    lines = ana.ask("/help")
    assert len(lines) == len(COMMANDS) + 2
    for command in COMMANDS.values():
        assert f"* {command.usage:16} {command.help}" in lines
        assert command.usage.startswith("/")
        assert command.help.endswith(".") or command.help.endswith("waves.")
    assert "* exit             leave the chat." in lines


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("/dance", "! There is no /dance: /help lists what there is."),
        ("/", "! There is no /: /help lists what there is."),
        ("/" + "x" * 100, f"! There is no /{'x' * 32}: /help lists what there is."),
        ("/join", "! Write it so: /join ROOM"),
        ("/me", "! Write it so: /me TEXT"),
        ("/since", "! Write it so: /since N"),
        ("/search", "! Write it so: /search WORDS"),
        ("/who else", "! Write it so: /who"),
        ("/since ten", "! This takes a number, so: /since 120"),
        ("/history -5", "! This takes a number, so: /history 50"),
        ("/history " + "9" * 30, "! This takes a number, so: /history 50"),
        ("/join a/b", "! '/' cannot be in a room: letters, digits, '_', '-' and '.' can."),
        ("/search !?", "! There is no word to search for."),
    ],
)
def test_what_is_wrong_with_a_command_is_said(chat: Chat, line: str, complaint: str) -> None:
    assert chat.text("ana").ask(line) == [complaint]


def test_rooms(chat: Chat) -> None:
    ana, bo = pair(chat)
    ana.say("hola")
    assert ana.ask("/join #Den") == ["* You are in den, 1 here: ana. Last message: #0."]
    ana.say("alone")
    assert ana.ask("/rooms") == ["* den: 1 here, last message #1.", "* lobby: 1 here, last message #1."]
    assert ana.ask("/who") == ["* 1 in den: ana."]
    assert bo.read() == ["ana: hola", "* ana left"]
    assert bo.ask("/join den") == [
        "* You are in den, 2 here: ana, bo. Last message: #1.",
        "#1 [2026-11-22 14:05Z] ana: alone",
    ]


def test_joining_shows_the_last_messages_with_number_and_time(tmp_path: Path) -> None:
    with Chat(tmp_path, history=3) as chat:
        ana = chat.text("ana")
        ana.say("1", "2", "3", "4", "/me waves")
        assert come(chat).ask("bo")[1:] == [
            "* You are in lobby, 2 here: ana, bo. Last message: #5.",
            "#3 [2026-11-22 14:05Z] ana: 3",
            "#4 [2026-11-22 14:05Z] ana: 4",
            "#5 [2026-11-22 14:05Z] ana * waves",
        ]
        chat.advance(5)
        assert ana.read() == ["* bo joined"]
        assert ana.ask("/history") == [
            "#3 [2026-11-22 14:05Z] ana: 3",
            "#4 [2026-11-22 14:05Z] ana: 4",
            "#5 [2026-11-22 14:05Z] ana * waves",
            "* That was up to #5.",
        ]


def test_no_history_where_none_is_wanted(tmp_path: Path) -> None:
    with Chat(tmp_path, history=0) as chat:
        ana = chat.text("ana")
        ana.say("1", "2")
        bo = come(chat)
        assert bo.ask("bo")[1:] == ["* You are in lobby, 2 here: ana, bo. Last message: #2."]
        assert bo.ask("/history 0") == ["* That was up to #2."]
        assert len(bo.ask("/history")) == 3


def test_history_and_since(chat: Chat) -> None:
    ana = chat.text("ana")
    ana.say(*"abcde")
    past = [f"#{n} [2026-11-22 14:05Z] ana: {text}" for n, text in enumerate("abcde", 1)]
    end = ["* That was up to #5."]
    assert ana.ask("/history 2") == past[3:] + end
    assert ana.ask("/history 900") == past + end
    assert ana.ask("/since 3") == past[3:] + end
    assert ana.ask("/since 0") == past + end
    assert ana.ask("/since 5") == end
    assert ana.ask("/since 999") == end


def test_search_shows_the_newest_last(chat: Chat) -> None:
    ana = chat.text("ana")
    ana.say("red apple", "green pear", "red pear")
    assert ana.ask("/search RED") == [
        "#1 [2026-11-22 14:05Z] ana: red apple",
        "#3 [2026-11-22 14:05Z] ana: red pear",
        "* 2 found.",
    ]
    assert ana.ask("/search red green") == ["* 0 found."]


def test_what_came_in_one_piece_is_answered_in_order(chat: Chat) -> None:
    line = TextLine(chat)
    line.send(b"ana\nhola\n/search hola\n/who\nexit\n")
    assert line.read()[4:] == [
        "#1 [2026-11-22 14:05Z] ana: hola",
        "* 1 found.",
        "* 1 in lobby: ana.",
        "* Goodbye.",
    ]


# Slow lines


def test_who_was_behind_gets_bare_lines_and_not_its_own(chat: Chat) -> None:
    ana, bo = pair(chat)
    bo.socket.window = 0
    ana.say(*(f"{n} {'x' * 3000}" for n in range(100)))
    bo.say("mine")
    ana.say("end")
    assert bo.socket.buffered < 200_000
    bo.take(None)
    got = bo.read()
    assert got == [*(f"ana: {n} {'x' * 3000}" for n in range(100)), "ana: end"]
    assert ana.read() == ["bo: mine"]


def test_what_retention_removed_is_told(chat: Chat) -> None:
    ana = chat.text("ana")
    ana.say("old")
    chat.advance(100)
    ana.say("new")
    chat.store.retain(int(chat.clock.seconds() - 50) * 1000, 10)
    Deferred.fromCoroutine(chat.hub.retained())
    assert ana.ask("/since 0") == [
        "* messages 1 to 1 are no longer kept",
        "#2 [2026-11-22 14:06Z] ana: new",
        "* That was up to #2.",
    ]


# A server without room


def test_without_a_room_one_can_still_find_one(tmp_path: Path) -> None:
    with Chat(tmp_path, Settings(max_rooms=1)) as chat:
        chat.json("bo", rooms={"den": None})
        line = come(chat)
        assert line.ask("ana")[1].startswith("! The server has as many rooms as it may have")
        for words in ("hola", "/who", "/history", "/since 1", "/search hola", "/me waves"):
            assert line.ask(words) == ["! You are in no room: /rooms lists them, /join ROOM goes to one."]
        assert line.ask("/join den") == ["* You are in den, 2 here: bo, ana. Last message: #0."]
        assert line.ask("/who") == ["* 2 in den: bo, ana."]


def test_a_text_member_is_a_member(tmp_path: Path) -> None:
    with Chat(tmp_path) as chat:
        chat.text("ana")
        (client,) = chat.factory.clients.values()
        assert isinstance(client.member, TextMember)
        assert verifyObject(IMember, client.member)
