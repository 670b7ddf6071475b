"""The dialect of programs: requests and their answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from chatd import __version__
from chatd.hub import Settings
from chatd.interfaces import IMember
from chatd.jsonlines import HANDLERS, TYPES, JsonMember
from chatd.outbox import MAX_WAITING
from chatd.server import Limits
from chatd.sessions import MAX_CONNECTIONS
from chatd.wire import MAX_ANSWER, MAX_LINE
from tests.harness import Chat, JsonLine, Later
from tests.test_wire import REQUESTS, lines

AT = "2026-11-22T14:05:00.000Z"
#: Of everything that takes four bytes, a letter that may be in a name.
WIDE = "\U00010400"

shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["socket", "wrapped"])
def chat(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Chat]:
    """A chat on plain sockets, or on transports like those of TLS."""
    with Chat(tmp_path, wrapped=request.param == "wrapped") as made:
        yield made


def pair(chat: Chat) -> tuple[JsonLine, JsonLine]:
    """Two programs that have been in the lobby for a while."""
    ana, bo = chat.json("ana"), chat.json("bo")
    chat.advance(15)
    ana.read()
    bo.read()
    return ana, bo


def error(code: str, retry: bool = False, id: str | None = None) -> dict[str, Any]:
    """An error, as `short` shows it."""
    return {"type": "error", "code": code, "retry": retry} | ({} if id is None else {"id": id})


def short(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answers without what errors say to people, which must be a sentence."""
    for answer in answers:
        if answer["type"] == "error":
            assert answer.pop("text").endswith(".")
    return answers


def message(seq: int, text: str, name: str = "ana", room: str = "lobby") -> dict[str, Any]:
    return {"type": "message", "room": room, "seq": seq, "name": name, "at": AT, "text": text}


def entered(room: str, seq: int, *names: str, **more: Any) -> dict[str, Any]:
    return {"type": "room", "room": room, "seq": seq, "first": 1, "count": len(names), "names": [*names], **more}


def kept(seq: int, id: str, room: str = "lobby") -> dict[str, Any]:
    return {"type": "kept", "room": room, "seq": seq, "id": id}


# Hello


def test_hello_is_answered_by_welcome_and_the_lobby(chat: Chat) -> None:
    ana = JsonLine(chat)
    welcome, lobby = ana.ask("hello", name=" Ana ", id="h")
    token = welcome.pop("token")
    assert len(token) == 43
    assert welcome == {
        "type": "welcome",
        "id": "h",
        "name": "Ana",
        "server": f"chatd {__version__}",
        "log": chat.store.log_id,
        "resumed": False,
    }
    assert lobby == entered("lobby", 0, "Ana")


def test_the_message_of_the_day(tmp_path: Path) -> None:
    with Chat(tmp_path, motd="Be kind.\nNo ads.") as chat:
        assert JsonLine(chat).ask("hello", name="ana")[0]["motd"] == "Be kind.\nNo ads."


def test_hello_names_its_rooms(chat: Chat) -> None:
    ana = chat.json("ana")
    ana.say("one", "1")
    bo = JsonLine(chat)
    assert bo.ask("hello", name="bo", rooms={"#LOBBY": 0, "den": None})[1:] == [
        entered("lobby", 1, "ana", "bo"),
        entered("den", 0, "bo"),
        message(1, "one"),
    ]


def test_hello_without_rooms(chat: Chat) -> None:
    assert len(JsonLine(chat).ask("hello", name="ana", rooms={})) == 1


def test_a_room_that_cannot_be_entered_does_not_undo_the_others(chat: Chat) -> None:
    answers = JsonLine(chat).ask("hello", name="ana", rooms={"a b": 0, "den": 0}, id="h")
    assert short(answers[1:]) == [error("bad_room", id="h"), entered("den", 0, "ana")]


@pytest.mark.parametrize(
    "request_", [kind for kind in REQUESTS if kind.__struct_config__.tag not in {"hello", "bye"}]
)
def test_hello_comes_first(chat: Chat, request_: Any) -> None:
    line = JsonLine(chat)
    type = request_.__struct_config__.tag
    answers = line.ask(type, id="1", room="lobby", text="x", words="x")
    assert short(answers) == [{"type": "pong", "id": "1"} if type == "ping" else error("hello_first", id="1")]


def test_hello_comes_once(chat: Chat) -> None:
    assert short(chat.json("ana").ask("hello", name="bo", id="2")) == [error("hello_first", id="2")]


@pytest.mark.parametrize(
    ("name", "code"),
    [("", "bad_name"), ("a b", "bad_name"), ("5", "bad_name"), ("x" * 33, "bad_name"), ("ANA", "name_in_use")],
)
def test_a_name_that_is_refused_can_be_followed_by_another(chat: Chat, name: str, code: str) -> None:
    chat.json("ana")
    line = JsonLine(chat)
    assert short(line.ask("hello", name=name, id="h")) == [error(code, id="h")]
    assert line.hello("bo")["name"] == "bo"


def test_the_password(tmp_path: Path) -> None:
    with Chat(tmp_path, Settings(password="sésame")) as chat:
        line = JsonLine(chat)
        for wrong in ({}, {"password": "sesame"}, {"password": ""}):
            assert short(line.ask("hello", name="ana", **wrong)) == [error("wrong_password")]
        assert line.hello("ana", password="sésame")["name"] == "ana"


# Sessions


def test_the_token_brings_the_session_back(chat: Chat) -> None:
    ana, bo = pair(chat)
    ana.say("mine", "1")
    ana.lose()
    bo.say("yours", "1")
    chat.advance(2)
    assert bo.read() == [message(1, "mine") | LATER, kept(2, "1"), message(2, "yours", "bo") | LATER]
    again = JsonLine(chat)
    welcome, *answers = again.ask("hello", name="ana", token=ana.token, rooms={"lobby": 1})
    assert (welcome["resumed"], welcome["token"], welcome["name"]) == (True, ana.token, "ana")
    assert answers == [entered("lobby", 2, "ana", "bo"), message(2, "yours", "bo") | LATER]
    again.say("mine", "1")
    assert again.read() == [kept(1, "1")]
    assert bo.read() == []


LATER = {"at": "2026-11-22T14:05:15.000Z"}


def test_an_unknown_token_is_a_new_session(chat: Chat) -> None:
    welcome = JsonLine(chat).ask("hello", name="ana", token="guess")[0]
    assert welcome["resumed"] is False
    assert welcome["token"] != "guess"


def test_a_session_may_have_several_connections(chat: Chat) -> None:
    ana, bo = pair(chat)
    again = JsonLine(chat)
    assert again.hello("whatever", token=ana.token)["name"] == "ana"
    again.say("from here", "1")
    assert ana.read() == [message(1, "from here") | LATER]
    assert again.read() == [kept(1, "1"), message(1, "from here") | LATER]
    again.request("bye")
    chat.advance(2)
    assert bo.read() == [message(1, "from here") | LATER]
    ana.request("bye")
    chat.advance(2)
    assert bo.read() == [{"type": "left", "room": "lobby", "names": ["ana"], "total": 1, "count": 1}]


def test_a_session_has_sixteen_connections_at_most(chat: Chat) -> None:
    ana = chat.json("ana")
    for _ in range(MAX_CONNECTIONS - 1):
        JsonLine(chat).hello("ana", token=ana.token)
    line = JsonLine(chat)
    answers = line.ask("hello", name="ana", token=ana.token)
    assert short(answers) == [error("too_many_connections", retry=True)]
    ana.lose()
    assert line.hello("ana", token=ana.token)["resumed"] is True


def test_a_lost_connection_holds_its_name_and_bye_does_not(chat: Chat) -> None:
    ana, bo = pair(chat)
    ana.lose()
    assert bo.ask("bye", id="b") == [{"type": "goodbye", "reason": "bye"}]
    assert bo.closed
    line = JsonLine(chat)
    assert short(line.ask("hello", name="ana")) == [error("name_in_use")]
    assert line.hello("bo")["resumed"] is False
    chat.advance(chat.hub.settings.grace)
    assert JsonLine(chat).hello("ana")["resumed"] is False


def test_a_name_that_was_taken_meanwhile(tmp_path: Path) -> None:
    with Chat(tmp_path) as chat:
        ana, _ = pair(chat)
        ana.request("bye")
        other = chat.json("ana")
        line = JsonLine(chat)
        assert short(line.ask("hello", name="ana", token=ana.token)) == [error("name_in_use")]
        welcome = line.hello("anna", token=ana.token)
        assert (welcome["resumed"], welcome["name"]) == (True, "anna")
        other.lose()


def test_a_connection_that_is_lost_while_its_session_is_read_leaves_nothing(tmp_path: Path) -> None:
    later = Later()
    with Chat(tmp_path, Settings(grace=1), workers=later) as chat:
        ana, _ = pair(chat)
        later.work()
        ana.lose()
        chat.advance(5)
        later.work()
        line = JsonLine(chat)
        line.request("hello", name="ana", token=ana.token)
        line.lose()
        later.work()
        chat.advance(5)
        later.work()
        assert JsonLine(chat).hello("ana")["resumed"] is False


# Messages


def test_the_receipt_comes_before_the_message_and_all_get_the_same_bytes(chat: Chat) -> None:
    ana, bo = pair(chat)
    ana.say("hola", "1")
    receipt, *line = ana.read_lines()
    assert receipt == b'{"type":"kept","room":"lobby","seq":1,"id":"1"}'
    assert bo.read_lines() == line
    assert len(line) == 1


def test_the_receipt_takes_no_write_of_its_own(tmp_path: Path) -> None:
    with Chat(tmp_path) as chat:
        ana, bo = pair(chat)
        before = ana.socket.sends, bo.socket.sends
        ana.socket.incoming.append(
            b'{"type":"say","room":"lobby","text":"hola","id":"1"}\n{"type":"say","room":"lobby","text":"hey","id":"2"}\n'
        )
        chat.settle()
        assert (ana.socket.sends, bo.socket.sends) == (before[0] + 1, before[1] + 1)
        assert [answer["type"] for answer in ana.read()] == ["kept", "kept", "message", "message"]


def test_what_one_does(chat: Chat) -> None:
    ana, bo = pair(chat)
    ana.request("say", room="lobby", text="waves", id="1", action=True)
    assert bo.read() == [message(1, "waves") | {"action": True} | LATER]


def test_a_message_is_cleaned(chat: Chat) -> None:
    ana, _ = pair(chat)
    ana.say("a\tb\x07c\nd\u202ee", "1", room="#LOBBY")
    assert ana.read()[1] == message(1, "a b\ufffdc\ufffdd\ufffde") | LATER


def test_a_repeat_is_stored_once(chat: Chat) -> None:
    ana, bo = pair(chat)
    ana.say("hola", "1")
    bo.say("hey", "1")
    ana.say("hola", "1")
    ana.say("que tal", "2")
    assert [answer for answer in ana.read() if answer["type"] == "kept"] == [
        kept(1, "1"),
        kept(1, "1"),
        kept(3, "2"),
    ]
    assert [answer["text"] for answer in bo.read() if answer["type"] == "message"] == ["hola", "hey", "que tal"]


def test_an_id_belongs_to_one_message(chat: Chat) -> None:
    ana, bo = pair(chat)
    ana.say("hola", "1")
    bo.read()
    ana.read()
    ana.say("adios", "1")
    ana.request("say", room="lobby", text="hola", id="1", action=True)
    assert short(ana.read()) == [error("bad_id", id="1")] * 2
    assert bo.read() == []


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"text": ""}, "bad_text"),
        ({"text": "x" * 4001}, "bad_text"),
        ({"id": "a\nb"}, "bad_id"),
        ({"room": "den"}, "not_in_room"),
        ({"room": "a b"}, "bad_room"),
        ({"room": ""}, "bad_room"),
    ],
)
def test_what_cannot_be_said(chat: Chat, fields: dict[str, str], code: str) -> None:
    ana, bo = pair(chat)
    request = {"room": "lobby", "text": "hola", "id": "1"} | fields
    assert short(ana.ask("say", **request)) == [error(code, id=request["id"])]
    assert bo.read() == []


def test_a_message_that_takes_long(tmp_path: Path) -> None:
    later = Later()
    with Chat(tmp_path, workers=later, in_place=False) as chat:
        ana = chat.json("ana")
        ana.say("hola", "1")
        chat.advance(2)
        assert ana.read() == [{"type": "waiting", "id": "1"}]
        chat.advance(60)
        assert ana.read() == []
        later.work()
        chat.settle()
        assert ana.read()[0] == kept(1, "1")


# Rooms


def test_joining_with_a_number(chat: Chat) -> None:
    ana = chat.json("ana", rooms={"den": None})
    for id in "12345":
        ana.say(id, id, "den")
    bo = chat.json("bo", rooms={})

    def joined(after: int | None) -> list[int]:
        room, *messages = bo.ask("join", room="den", after=after, id="j")
        assert room == entered("den", 5, "ana", "bo", id="j") | ({"reset": True} if after == 99 else {})
        return [answer["seq"] for answer in messages if answer["type"] == "message"]

    assert joined(None) == []
    assert joined(0) == [1, 2, 3, 4, 5]
    assert joined(3) == [4, 5]
    assert joined(5) == []
    assert joined(-2) == [4, 5]
    assert joined(-99) == [1, 2, 3, 4, 5]
    assert joined(99) == []
    ana.say("6", "6", "den")
    assert [answer["seq"] for answer in bo.read() if answer["type"] == "message"] == [6]


def test_leaving_a_room(chat: Chat) -> None:
    ana, bo = pair(chat)
    assert ana.ask("leave", room="#Lobby", id="1") == [{"type": "parted", "id": "1", "room": "lobby"}]
    assert short(ana.ask("leave", room="lobby", id="2")) == [error("not_in_room", id="2")]
    bo.say("hola", "1")
    assert ana.read() == []
    assert bo.read()[0] == {"type": "left", "room": "lobby", "names": ["ana"], "total": 1, "count": 1}


def test_a_hundred_rooms_at_most(chat: Chat) -> None:
    ana = chat.json("ana", rooms={f"r{number}": None for number in range(100)})
    assert short(ana.ask("join", room="lobby", id="1")) == [error("too_many_rooms", id="1")]
    ana.request("leave", room="r5")
    assert ana.ask("join", room="lobby")[-1]["type"] == "room"


def test_who_comes_and_goes(chat: Chat) -> None:
    ana, _ = pair(chat)
    cy = chat.json("cy")
    assert ana.read() == [{"type": "joined", "room": "lobby", "names": ["cy"], "total": 1, "count": 3}]
    cy.request("bye")
    chat.advance(2)
    assert ana.read() == [{"type": "left", "room": "lobby", "names": ["cy"], "total": 1, "count": 2}]


# Reading


@pytest.fixture
def reader(chat: Chat) -> JsonLine:
    """A program in a room with five messages, none of which it has been sent."""
    ana = chat.json("ana")
    for id, text in enumerate(["red apple", "green pear", "Réd pear", "blue", "red"], 1):
        ana.say(text, str(id))
    return chat.json("bo")


@pytest.mark.parametrize(
    ("fields", "numbers"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"limit": 2}, [4, 5]),
        ({"limit": 1000}, [1, 2, 3, 4, 5]),
        ({"before": 4}, [1, 2, 3]),
        ({"before": 4, "limit": 2}, [2, 3]),
        ({"before": 99, "limit": 1}, [5]),
        ({"before": 1}, []),
        ({"before": -5}, []),
        ({"after": 3}, [4, 5]),
        ({"after": 0, "limit": 2}, [1, 2]),
        ({"after": 1, "before": 4}, [2, 3]),
        ({"after": 99}, []),
        ({"after": -3}, [1, 2, 3, 4, 5]),
    ],
)
def test_history(reader: JsonLine, fields: dict[str, int], numbers: list[int]) -> None:
    (answer,) = reader.ask("history", room="#Lobby", id="1", **fields)
    assert (answer["type"], answer["room"], answer["id"]) == ("history", "lobby", "1")
    assert [said["seq"] for said in answer["messages"]] == numbers
    assert all(said["type"] == "message" for said in answer["messages"])


def test_search_finds_the_newest_first(reader: JsonLine) -> None:
    def found(words: str, **fields: Any) -> list[int]:
        (answer,) = reader.ask("search", room="LOBBY", words=words, id="1", **fields)
        assert (answer["type"], answer["room"], answer["id"]) == ("results", "lobby", "1")
        return [said["seq"] for said in answer["messages"]]

    assert found("red") == [5, 3, 1]
    assert found("RED pear") == [3]
    assert found("red", before=5) == [3, 1]
    assert found("re") == []
    assert short(reader.ask("search", room="lobby", words="-!", id="2")) == [error("bad_search", id="2")]


@pytest.mark.parametrize(
    ("type", "fields"), [("history", {}), ("search", {"words": "x"}), ("members", {}), ("leave", {})]
)
def test_reading_needs_membership(reader: JsonLine, type: str, fields: dict[str, str]) -> None:
    assert short(reader.ask(type, room="den", id="1", **fields)) == [error("not_in_room", id="1")]


def test_members_come_in_pages(tmp_path: Path) -> None:
    with Chat(tmp_path, limits=Limits(2000, None)) as chat:
        names = [f"{WIDE * 28}{number:04}" for number in range(1001)]
        for name in names:
            chat.json(name)
        ana = chat.json("ana")
        folded = [name.casefold() for name in names]
        ana.request("members", room="#LOBBY", id="1")
        (line,) = ana.read_lines()
        assert len(line) < MAX_ANSWER
        ana.socket.arrived += line + b"\r\n"
        (page,) = ana.read()
        assert (page["type"], page["room"], page["id"]) == ("members", "lobby", "1")
        assert [name.casefold() for name in page["names"]] == ["ana", *folded[:999]]
        (rest,) = ana.ask("members", room="lobby", after=page["next"])
        assert "next" not in rest
        assert [name.casefold() for name in rest["names"]] == folded[999:]


def test_rooms_are_listed_with_most_members_first(chat: Chat) -> None:
    ana = chat.json("ana", rooms={"empty": None, "den": None, "lobby": None})
    chat.json("bo", rooms={"den": None})
    ana.say("hola", "1", "empty")
    ana.request("leave", room="empty")
    ana.read()
    assert ana.ask("rooms", id="1") == [
        {
            "type": "rooms",
            "id": "1",
            "rooms": [
                {"room": "den", "seq": 0, "count": 2},
                {"room": "lobby", "seq": 0, "count": 1},
                {"room": "empty", "seq": 1, "count": 0},
            ],
        }
    ]


@pytest.mark.parametrize("text", ["\U0001f600" * 4000, '"' * 4000, "\\" * 4000, "é" * 4000, "word " * 800, "a"])
def test_no_page_is_longer_than_it_may_be(tmp_path: Path, text: str) -> None:
    with Chat(tmp_path) as chat:
        ana = chat.json(WIDE * 32, rooms={WIDE * 32: None})
        for id in range(120):
            ana.say(f"find {text}"[:4000], str(id), WIDE * 32)
        ana.read()
        for type, more in (("history", {}), ("history", {"after": 0}), ("search", {"words": "find"})):
            ana.request(type, room=WIDE * 32, id="1" * 64, **more)
            (line,) = ana.read_lines()
            assert len(line) < MAX_ANSWER
            assert 3 <= line.count(b'"type":"message"') <= 100


# What is wrong


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"{", error("bad_request")),
        (b"[]", error("bad_request")),
        (b"hola", error("bad_request")),
        (b'{"type":"say","id":"1"}', error("bad_request", id="1")),
        (b'{"type":"join","id":"1","room":5}', error("bad_request", id="1")),
        (b'{"type":"say","id":"\xff","room":"lobby","text":"hola"}', error("bad_request")),
        (b'{"type":"say","id":"1","room":"lobby","text":"\xff"}', error("bad_request", id="1")),
        (b'{"type":"dance","id":"1"}', error("unknown_type", id="1")),
        (b'{"type":"message"}', error("unknown_type")),
    ],
)
def test_a_bad_request_is_named_and_the_connection_stays(chat: Chat, line: bytes, answer: dict[str, Any]) -> None:
    ana = chat.json("ana")
    ana.send(line + b"\n")
    assert short(ana.read()) == [answer]
    assert ana.ask("ping") == [{"type": "pong"}]


def test_an_unknown_type_is_answered_by_those_that_there_are(chat: Chat) -> None:
    (answer,) = chat.json("ana").ask("dance")
    assert answer["text"] == (
        "The type 'dance' is not one of: bye, hello, history, join, leave, members, ping, rooms, say, search."
    )
    assert set(TYPES) == {str(kind.__struct_config__.tag) for kind in REQUESTS}
    assert set(HANDLERS) == set(REQUESTS)


def test_a_line_too_long_is_reported_once(chat: Chat) -> None:
    ana = chat.json("ana")
    ana.send(b'{"type":"ping","x":"', b"x" * MAX_LINE, b"x" * MAX_LINE, b'"}\n{"type":"ping"}\n')
    assert short(ana.read()) == [error("line_too_long"), {"type": "pong"}]


def test_empty_lines_are_nothing(chat: Chat) -> None:
    ana = chat.json("ana")
    ana.send(b"\r\n\n  \n")
    assert ana.read() == []


@given(
    st.lists(
        lines.filter(lambda line: b'"bye"' not in line and b"\n" not in line.removesuffix(b"\r\n")), max_size=8
    )
)
@example([b'{"type":"say","id":"\xff"}'])
@shared
def test_no_lines_close_the_connection(tmp_path: Path, sent: list[bytes]) -> None:
    with Chat(tmp_path) as chat:
        ana, bo = chat.json("ana"), chat.json("bo")
        ana.send(*(line.removesuffix(b"\r\n") + b"\n" for line in sent))
        for answer in ana.read():
            assert answer["type"] in ANSWERED
        assert not ana.closed
        assert ana.ask("ping", id="end") == [{"type": "pong", "id": "end"}]
        assert not bo.closed


#: What may come when anything is sent but bye.
ANSWERED = {"error", "kept", "message", "room", "parted", "history", "results", "members", "rooms", "pong"}


# Slow lines


def test_what_waits_for_a_connection_is_bounded(chat: Chat) -> None:
    ana = chat.json("ana")
    ana.socket.window = 0
    count = 0
    while ana.being_read:
        ana.request("ping", id=f"{count:060}")
        count += 1
    assert count * 80 < MAX_WAITING + 70_000
    ana.request("ping", id="last")
    ana.take(None)
    assert ana.being_read
    assert [answer["id"] for answer in ana.read()] == [*(f"{n:060}" for n in range(count)), "last"]


def test_a_receipt_reaches_who_is_behind(chat: Chat) -> None:
    ana, bo = pair(chat)
    ana.socket.window = 10
    for id in range(300):
        bo.say("x" * 3000, str(id))
    ana.say("mine", "a")
    assert bo.read()[-1] == message(301, "mine") | LATER
    ana.take(None)
    answers = ana.read()
    assert [answer["seq"] for answer in answers if answer["type"] == "message"] == list(range(1, 302))
    assert [answer for answer in answers if answer["type"] == "kept"] == [kept(301, "a")]


def test_who_comes_back_from_behind_hears_how_many_are_here(chat: Chat) -> None:
    ana, bo = pair(chat)
    ana.socket.window = 0
    for id in range(50):
        bo.say("x" * 3000, str(id))
    chat.json("cy")
    chat.advance(2)
    ana.take(None)
    answers = ana.read()
    assert answers[-1] == {"type": "presence", "room": "lobby", "count": 3}
    assert [answer["seq"] for answer in answers[:-1]] == list(range(1, 51))


def test_what_retention_removed(chat: Chat) -> None:
    ana = chat.json("ana")
    ana.say("old", "1")
    chat.advance(100)
    ana.say("new", "2")
    chat.store.retain(int(chat.clock.seconds() - 50) * 1000, 10)
    Deferred.fromCoroutine(chat.hub.retained())
    ana.read()
    room, gap, new = ana.ask("join", room="lobby", after=0)
    assert (room["first"], room["seq"]) == (2, 2)
    assert gap == {"type": "gap", "room": "lobby", "first": 1, "last": 1}
    assert new["seq"] == 2


def test_a_json_member_is_a_member(tmp_path: Path) -> None:
    with Chat(tmp_path) as chat:
        chat.json("ana")
        (client,) = chat.factory.clients.values()
        assert isinstance(client.member, JsonMember)
        assert verifyObject(IMember, client.member)
