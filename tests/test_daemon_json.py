"""The JSON door of the real daemon: what programs ask for and get, and what they are told when it is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon, JsonClient

HELLO = b'{"type":"hello","name":"ana"}'
SAY = b'{"type":"say","room":"lobby","text":"x","id":"7"}'

# What is sent, the code of the error, and what its text must name.
WRONG_BEFORE_HELLO = [
    (SAY, "hello_first", "hello"),
    (b'{"type":"rooms"}', "hello_first", "hello"),
    (b'{"type":"join","room":"lobby"}', "hello_first", "hello"),
    (b'{"type":"hello"}', "bad_request", "`name`"),
    (b'{"type":"hello","name":5}', "bad_request", "`$.name`"),
    (b'{"type":"hello","name":"bo","token":5}', "bad_request", "`$.token`"),
    (b'{"type":"hello","name":"bo","rooms":["lobby"]}', "bad_request", "`$.rooms`"),
    (b'{"type":"hello","name":"bo","rooms":{"lobby":"x"}}', "bad_request", "`$.rooms[...]`"),
    (b'{"type":"hello","name":""}', "bad_name", "at least one letter"),
    (b'{"type":"hello","name":"* ana"}', "bad_name", "'*'"),
    (b'{"type":"hello","name":"TAKEN"}', "name_in_use", "taken"),
]
WRONG_AFTER_HELLO = [
    (HELLO, "hello_first", "Hello has been said"),
    (b"nonsense", "bad_request", "not JSON"),
    (b'{"type":"ping"', "bad_request", "not JSON"),
    (b'{"type":"ping"}{"type":"ping"}', "bad_request", "not JSON"),
    (b"[" * 60_000, "bad_request", "`object`"),
    (b"[]", "bad_request", "`object`"),
    (b"{}", "bad_request", "`type`"),
    (b'{"type":5}', "bad_request", "`$.type`"),
    (b'{"type":"dance"}', "unknown_type", "'dance'"),
    (b'{"type":"say"}', "bad_request", "`id`"),
    (b'{"type":"say","id":"7"}', "bad_request", "`room`"),
    (b'{"type":"say","id":"7","room":"lobby"}', "bad_request", "`text`"),
    (b'{"type":"say","id":"7","room":"lobby","text":5}', "bad_request", "`$.text`"),
    (b'{"type":"say","id":"7","room":"lobby","text":"\xff"}', "bad_request", "UTF-8"),
    (b'{"type":"say","id":"7","room":"lobby","text":"\\ud800"}', "bad_request", "not JSON"),
    (b'{"type":"say","id":"7","room":"lobby","text":""}', "bad_text", "empty"),
    (b'{"type":"say","id":"7","room":"lobby","text":"' + 4001 * b"x" + b'"}', "bad_text", "4,001"),
    (b'{"type":"say","id":"7","room":"lobby","text":"x","action":"no"}', "bad_request", "`$.action`"),
    (b'{"type":"say","id":7,"room":"lobby","text":"x"}', "bad_request", "`$.id`"),
    (b'{"type":"say","id":"","room":"lobby","text":"x"}', "bad_request", "`$.id`"),
    (b'{"type":"say","id":"' + 65 * b"x" + b'","room":"lobby","text":"x"}', "bad_request", "`$.id`"),
    (b'{"type":"say","id":"a\\u0000","room":"lobby","text":"x"}', "bad_id", "control characters"),
    (b'{"type":"say","id":"7","room":"tea","text":"x"}', "not_in_room", "tea"),
    (b'{"type":"say","id":"7","room":"?","text":"x"}', "bad_room", "'?'"),
    (b'{"type":"join","room":""}', "bad_room", "at least one letter"),
    (b'{"type":"join","room":"lobby","after":"x"}', "bad_request", "`$.after`"),
    (b'{"type":"join","room":"lobby","after":1.5}', "bad_request", "`$.after`"),
    (b'{"type":"join","room":"lobby","after":99999999999999999999}', "bad_request", "`$.after`"),
    (b'{"type":"leave","room":"tea"}', "not_in_room", "tea"),
    (b'{"type":"history","room":"tea"}', "not_in_room", "tea"),
    (b'{"type":"history","room":"lobby","limit":0}', "bad_request", "`$.limit`"),
    (b'{"type":"members","room":"tea"}', "not_in_room", "tea"),
    (b'{"type":"search","room":"tea","words":"x"}', "not_in_room", "tea"),
    (b'{"type":"search","room":"lobby","words":"?!"}', "bad_search", "no word"),
    (b'{"type":"ping","id":"7","text":"' + 65_536 * b"x" + b'"}', "line_too_long", "65536"),
]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, "--rate", "off") as running:
        yield running


def test_what_is_wrong_is_named_and_the_connection_stays(daemon: Daemon) -> None:
    daemon.json("taken")
    client = daemon.json()
    for line, code, named in WRONG_BEFORE_HELLO:
        _check_error(client, line, code, named)
    client.hello("ana")
    for line, code, named in WRONG_AFTER_HELLO:
        _check_error(client, line, code, named)
    client.say("all is well", "7")
    assert client.until("kept", id="7")["seq"] == 1


def _check_error(client: JsonClient, line: bytes, code: str, named: str) -> None:
    client.send(line + b"\n")
    answers = client.sync()
    assert [(answer["type"], answer.get("code")) for answer in answers] == [("error", code)], (line[:100], answers)
    assert named in answers[0]["text"], (line[:100], answers)
    assert answers[0]["retry"] is False
    if b'"id":"7"' in line and code != "line_too_long" and named != "not JSON":
        assert answers[0]["id"] == "7"


def test_a_line_that_is_too_long_is_lost_alone(daemon: Daemon) -> None:
    client = daemon.json("ana")
    client.send(b'{"type":"ping","id":"' + b"x" * 1_000_000)
    assert client.until("error")["code"] == "line_too_long"
    client.send(b'"}\n{"type":"ping","id":"1"}\n')
    assert client.read() == {"type": "pong", "id": "1"}


def test_unknown_fields_and_empty_lines_are_ignored(daemon: Daemon) -> None:
    client = daemon.json("ana")
    client.send(b'\r\n\n{"colour":"red","type":"ping","id":"1","more":[{"a":1}]}\r\n')
    assert client.read() == {"type": "pong", "id": "1"}


def test_all_at_once_and_half_closed(daemon: Daemon) -> None:
    client = daemon.json()
    client.send(HELLO + b"\n" + SAY + b"\n" + b'{"type":"history","room":"lobby","id":"h"}\n')
    client.finish()
    answers = [json.loads(line) for line in client.read_to_end().splitlines()]
    assert [answer["type"] for answer in answers if answer["type"] != "history"] == [
        *("welcome", "room", "kept", "message", "goodbye")
    ]


def test_a_byte_at_a_time(daemon: Daemon) -> None:
    client = daemon.json()
    for byte in HELLO + b"\r\n" + SAY + b"\r\n":
        client.send(bytes([byte]))
    assert client.until("kept")["seq"] == 1


def test_everybody_gets_the_same_bytes_and_the_sender_its_receipt_first(daemon: Daemon) -> None:
    ana, bo = daemon.json("ana"), daemon.json("bo")
    ana.until("joined")
    ana.request("say", room="LOBBY", text="señor 🙂\t\x1b[2J", id="1", action=True)
    assert ana.read() == {"type": "kept", "room": "lobby", "seq": 1, "id": "1"}
    line = ana.read_line()
    assert line == bo.read_line()
    said = json.loads(line)
    assert said.pop("at").endswith("Z")
    assert said == {
        "type": "message",
        "room": "lobby",
        "seq": 1,
        "name": "ana",
        "text": "señor 🙂 \ufffd[2J",
        "action": True,
    }


def test_who_comes_and_who_goes(daemon: Daemon) -> None:
    ana = daemon.json()
    ana.request("hello", name="ana", id="h")
    welcome = ana.read()
    assert welcome.keys() == {"type", "id", "name", "token", "server", "log", "resumed"}
    assert (welcome["id"], welcome["name"], welcome["resumed"]) == ("h", "ana", False)
    entered = {"type": "room", "room": "lobby", "seq": 0, "first": 1, "count": 1, "names": ["ana"]}
    assert ana.read() == entered
    bo = daemon.json("bo")
    assert ana.read() == {"type": "joined", "room": "lobby", "names": ["bo"], "total": 1, "count": 2}
    bo.request("bye")
    assert bo.until("goodbye") == {"type": "goodbye", "reason": "bye"}
    assert bo.read_to_end() == b""
    assert ana.read() == {"type": "left", "room": "lobby", "names": ["bo"], "total": 1, "count": 1}


def test_rooms(daemon: Daemon) -> None:
    ana, bo = daemon.json("ana"), daemon.json()
    bo.hello("bo", rooms={"#Tea": None, "lobby": -5})
    ana.until("joined")
    bo.say("here", "1")
    bo.say("there", "1", room="tea")
    assert (bo.until("kept", room="tea")["seq"], ana.until("message")["text"]) == (1, "here")
    assert ana.sync() == []
    ana.request("rooms", id="r")
    lobby, tea = {"room": "lobby", "seq": 1, "count": 2}, {"room": "tea", "seq": 1, "count": 1}
    assert ana.read() == {"type": "rooms", "id": "r", "rooms": [lobby, tea]}
    ana.request("join", room="tea", after=0, id="j")
    assert ana.read()["id"] == "j"
    assert ana.until("message", room="tea")["text"] == "there"
    ana.request("members", room="tea", id="m")
    assert ana.read() == {"type": "members", "id": "m", "room": "tea", "names": ["ana", "bo"]}
    ana.request("leave", room="tea", id="l")
    assert ana.read() == {"type": "parted", "id": "l", "room": "tea"}
    bo.say("alone", "2", room="tea")
    bo.until("kept", id="2")
    assert ana.sync() == []


def test_the_past_in_pages(daemon: Daemon) -> None:
    ana = daemon.json("ana")
    for number in range(1, 251):
        ana.say(f"number {number}", str(number))
    ana.until("kept", id="250")
    ana.sync()
    assert _history(ana) == list(range(151, 251))
    assert _history(ana, before=151) == list(range(51, 151))
    assert _history(ana, after=240) == list(range(241, 251))
    assert _history(ana, after=10, before=15) == [11, 12, 13, 14]
    assert _history(ana, before=5, limit=2) == [3, 4]
    assert _history(ana, before=-5) == []
    assert _history(ana, after=10**15) == []
    ana.request("search", room="lobby", words="NUMBER 17", id="s")
    assert [found["seq"] for found in ana.until("results", id="s")["messages"]] == [17]


def _history(client: JsonClient, **bounds: int) -> list[int]:
    client.request("history", room="lobby", id="h", **bounds)
    return [message["seq"] for message in client.until("history", id="h")["messages"]]


def test_a_cursor_anywhere(daemon: Daemon) -> None:
    ana = daemon.json("ana")
    for number in ("1", "2", "3"):
        ana.say(number, number)
    ana.until("kept", id="3")
    cursors = [(0, [1, 2, 3]), (2, [3]), (3, []), (None, []), (-2, [2, 3]), (-9, [1, 2, 3])]
    readers = [daemon.json() for _ in cursors]
    for reader, (after, _) in zip(readers, cursors, strict=True):
        reader.hello(f"reader{after}".replace("-", "_"), rooms={"lobby": after})
    ana.say("4", "4")
    for reader, (_, numbers) in zip(readers, cursors, strict=True):
        assert [message["seq"] for message in reader.messages(len(numbers) + 1)] == [*numbers, 4]


def test_a_cursor_beyond_the_end_is_reset(daemon: Daemon) -> None:
    ana = daemon.json()
    ana.request("hello", name="ana", rooms={"lobby": 12})
    assert ana.until("room")["reset"] is True
    ana.say("first", "1")
    assert ana.messages(1)[0]["seq"] == 1


# Sessions


def test_a_repeated_id_is_stored_once(daemon: Daemon) -> None:
    ana, bo = daemon.json("ana"), daemon.json("bo")
    for _ in range(3):
        ana.say("hola", "1")
        assert ana.until("kept", id="1")["seq"] == 1
    ana.say("another text", "1")
    assert ana.until("error", id="1")["code"] == "bad_id"
    bo.say("hola", "1")
    assert bo.until("kept", id="1")["seq"] == 2
    assert [message["seq"] for message in _all(daemon)] == [1, 2]


def test_a_lost_connection_comes_back_as_the_same(daemon: Daemon) -> None:
    ana, bo = daemon.json("ana"), daemon.json("bo")
    ana.until("joined")
    ana.say("before", "1")
    bo.until("message", seq=1)
    ana.reset()
    bo.say("meanwhile", "1")
    bo.until("kept", id="1")
    eve = daemon.json()
    eve.request("hello", name="Ana")
    assert eve.until("error")["code"] == "name_in_use"
    again = daemon.json()
    assert again.hello("ana", token=ana.token, rooms={"lobby": 1})["resumed"] is True
    assert [message["text"] for message in again.messages(1)] == ["meanwhile"]
    again.say("before", "1")
    assert again.until("kept", id="1")["seq"] == 1
    again.say("after", "2")
    # Nobody was told that she left, or came.
    answers = [bo.read()]
    while answers[-1].get("text") != "after":
        answers.append(bo.read())
    assert {answer["type"] for answer in answers} <= {"kept", "message"}


def test_two_connections_of_a_session(daemon: Daemon) -> None:
    laptop, bo, phone = daemon.json("ana"), daemon.json("bo"), daemon.json()
    laptop.until("joined")
    assert phone.hello("ana", token=laptop.token)["resumed"] is True
    laptop.say("from the laptop", "1")
    assert phone.read()["text"] == "from the laptop"
    phone.say("from the phone", "2")
    assert laptop.until("message", seq=2)["name"] == "ana"
    assert [phone.read()["type"] for _ in range(2)] == ["kept", "message"]
    # An id belongs to the session, whatever connection it comes by.
    phone.say("from the laptop", "1")
    assert phone.read() == {"type": "kept", "room": "lobby", "seq": 1, "id": "1"}
    laptop.request("bye")
    laptop.read_to_end()
    assert [message["seq"] for message in bo.messages(2)] == [1, 2]
    phone.say("still here", "3")
    assert bo.read()["text"] == "still here"


def test_a_session_has_sixteen_connections_at_the_most(daemon: Daemon) -> None:
    first = daemon.json("ana")
    for _ in range(15):
        daemon.json().hello("ana", token=first.token)
    surplus = daemon.json()
    surplus.request("hello", name="ana", token=first.token)
    error = surplus.until("error")
    assert (error["code"], error["retry"]) == ("too_many_connections", True)


def test_an_unknown_token_is_a_new_session(daemon: Daemon) -> None:
    assert daemon.json().hello("ana", token="no such token")["resumed"] is False


def test_text_and_json_see_the_same_messages_under_the_same_numbers(daemon: Daemon) -> None:
    ana, bot = daemon.text("ana"), daemon.json("bot")
    ana.say("one")
    assert bot.until("message", seq=1)["text"] == "one"
    bot.say("two", "1")
    ana.until("bot: two$")
    ana.say("/history")
    assert [line.split(" [")[0] for line in ana.until(r"\* That was")[:-1]] == ["#1", "#2"]


def _all(daemon: Daemon) -> list[dict[str, Any]]:
    """All messages of the lobby, as one sees them who reads it from the beginning."""
    reader = daemon.json()
    reader.request("hello", name="reader", rooms={"lobby": 0})
    return reader.messages(reader.until("room")["seq"])
