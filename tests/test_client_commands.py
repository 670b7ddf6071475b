"""What a person types, against the real server in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chatd import wire
from chatd.client.commands import Commands
from chatd.client.show import Page
from chatd.server import Limits
from tests.harness import Chat
from tests.test_client_session import Person, settle


class Typist(Person):
    """A person with commands."""

    def __init__(self, chat: Chat, name: str) -> None:
        super().__init__(chat, name=name)
        self.commands = Commands(self.session, self)
        self.left = 0

    def leave(self) -> None:
        self.left += 1

    def type(self, text: str) -> list[str]:
        """Type it. Returns the notices and complaints that follow."""
        before = len(self.shown)
        self.commands.typed(text)
        settle(self)
        return [getattr(shown, "text", "") for shown in self.shown[before:] if not isinstance(shown, wire.Message)]

    def page(self) -> Page:
        """The page that was shown last."""
        return [shown for shown in self.shown if isinstance(shown, Page)][-1]


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Chat]:
    with Chat(tmp_path) as made:
        yield made


@pytest.fixture
def ana(chat: Chat) -> Typist:
    made = Typist(chat, "ana")
    made.connect()
    settle(made)
    return made


def test_lines_are_said(ana: Typist) -> None:
    assert ana.type("hola") == []
    ana.type("  indented")
    ana.type("//join me")
    ana.type("/")
    assert ana.texts() == ["hola", "  indented", "/join me"]
    assert ana.complaints() == ["There is no /: /help lists the commands, and // says /."]


def test_nothing_is_nothing(ana: Typist) -> None:
    for text in ("", "   ", "\n\n"):
        assert ana.type(text) == []
    assert ana.session.unsent == []


def test_a_pasted_text_holds_no_commands(ana: Typist) -> None:
    ana.type("/quit\n\nexit\n/join dev\n")
    assert (ana.texts(), ana.left) == (["/quit", "exit", "/join dev"], 0)


def test_actions(ana: Typist) -> None:
    ana.type("/me waves")
    assert [(message.text, message.action) for message in ana.messages()] == [("waves", True)]
    assert ana.type("/me") == ["/me TEXT: TEXT is missing."]


@pytest.mark.parametrize("text", ["exit", " exit ", "/quit", "/exit", "/QUIT", "/q"])
def test_leaving(ana: Typist, text: str) -> None:
    ana.type(text)
    assert ana.left == 1


def test_a_command_that_takes_nothing_gets_nothing(ana: Typist) -> None:
    assert ana.type("/quit now") == ["/quit takes nothing behind it."]
    assert ana.left == 0


def test_rooms(ana: Typist) -> None:
    assert ana.type("/join #Dev") == ["1 person in dev: ana"]
    ana.type("in dev")
    assert ana.type("/rooms") == ["dev: 1 person, 1 message\nlobby: 1 person, 0 messages"]
    assert ana.type("/leave nowhere") == ["You are not in nowhere."]
    assert ana.type("/leave") == ["you left dev"]
    assert ana.session.room == "lobby"
    assert ana.type("/part lobby") == ["you left lobby"]
    assert ana.type("hola") == ["You are in no room: /join ROOM goes into one."]
    assert ana.type("/who") == ["You are in no room: /join ROOM goes into one."]
    assert ana.type("/join a/b")[0].startswith("'/' cannot be in a room")
    assert ana.type("/join") == ["/join ROOM: ROOM is missing."]


def test_who_is_there_in_several_pages(tmp_path: Path) -> None:
    with Chat(tmp_path, limits=Limits(2_000, None)) as chat:
        ana = Typist(chat, "ana")
        ana.connect()
        for number in range(1_200):
            chat.json(f"p{number:04}")
        settle(ana)
        (answer,) = ana.type("/who")
    assert answer.startswith("1,201 people in lobby: ana, p0000, p0001, ")
    assert answer.endswith(", p1199")


def test_history(ana: Typist) -> None:
    for number in range(250):
        ana.commands.typed(f"text {number}")
    settle(ana)
    ana.type("/history")
    assert [message.text for message in ana.page().messages] == [f"text {number}" for number in range(230, 250)]
    ana.type("/history 230")
    assert ana.page().heading == "the last 230 messages of lobby"
    assert [message.seq for message in ana.page().messages] == list(range(21, 251))
    ana.type("/history 99999999999999999999")
    assert len(ana.page().messages) == 250
    assert ana.type("/history many") == ["/history [N]: N is a number, such as /history 50"]
    assert ana.type("/history ٣") == ["/history [N]: N is a number, such as /history 50"]


def test_history_of_nothing(ana: Typist) -> None:
    ana.type("/history")
    assert ana.page() == Page("no messages in lobby yet", [])


def test_search(ana: Typist) -> None:
    for text in ("a green tree", "a red tree", "a green car"):
        ana.type(text)
    ana.type("/search green")
    assert ana.page().heading == "2 messages found for green in lobby"
    assert [message.text for message in ana.page().messages] == ["a green tree", "a green car"]
    ana.type("/search nothing like it")
    assert ana.page().heading == "nothing found for nothing like it in lobby"


def test_help_has_all_of_them_and_each_has_help(ana: Typist) -> None:
    (text,) = ana.type("/help")
    commands = {name.removeprefix("do_") for name in dir(Commands) if name.startswith("do_")}
    assert {line.split()[0] for line in text.splitlines()} == {f"/{name}" for name in commands} | {"//x", "exit,"}


def test_a_text_that_is_too_long_is_refused_here(ana: Typist) -> None:
    (complaint,) = ana.type("x" * 4_001)
    assert complaint.startswith("The message has 4,001 characters")
    assert ana.session.refused == 1


def test_names_of_methods_are_no_commands(ana: Typist) -> None:
    assert ana.type("/_line x")[0].startswith("There is no /_line")
    assert ana.type("/typed x")[0].startswith("There is no /typed")


def test_completion(chat: Chat, ana: Typist) -> None:
    for name in ("bob", "Boris"):
        chat.json(name)
    chat.advance(1.0)
    settle(ana)
    complete = ana.commands.completions
    assert set(complete("bo")) == {"bob: ", "Boris: "}
    assert set(complete("hi @Bo")) == {"@bob ", "@Boris "}
    assert complete("an") == [], "nobody talks to themselves"
    assert complete("") == []
    assert complete("/h") == ["/help", "/history "]
    assert complete("/join lo") == ["lobby"]
    assert complete("hi /h") == []
