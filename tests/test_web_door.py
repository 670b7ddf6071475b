"""The door for browsers: the same messages, in frames."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.protocols.policies import WrappingFactory
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong
from zope.interface.verify import verifyObject

from chatd.interfaces import IDoor
from chatd.pacing import Rate
from chatd.server import Limits
from chatd.web.door import FRAME, PING_EVERY
from tests.harness import Chat
from tests.web import HANDSHAKE, PATIENCE, Web, WebLine, request


@pytest.fixture(params=["socket", "wrapped"])
def chat(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Chat]:
    """A chat on plain sockets, or on transports like those of TLS."""
    with Chat(tmp_path) as made:
        made.wrapped = request.param == "wrapped"  # type: ignore[attr-defined]
        yield made


@pytest.fixture
def web(chat: Chat) -> Web:
    """Its web door."""
    web = Web(chat)
    if chat.wrapped:  # type: ignore[attr-defined]
        web.site = WrappingFactory(web.site)  # type: ignore[assignment]
    return web


def test_it_is_a_door(web: Web) -> None:
    assert verifyObject(IDoor, web.door)


def test_the_answers_are_those_of_the_other_door(chat: Chat, web: Web) -> None:
    for number in range(3):
        chat.json(f"guest{number}").say(f"hola {number}", "1")
    json, browser = chat.line(), web.socket()
    lines = [
        b'{"type":"hello","name":"ana","id":"h","rooms":{"lobby":0}}',
        b'{"type":"history","room":"lobby","before":3,"id":"1"}',
        b'{"type":"rooms","id":"2"}',
        b'{"type":"nonsense","id":"3"}',
        b'{"type":"say","room":"nowhere","text":"x","id":"4"}',
        b"not JSON",
    ]
    replies = []
    for line in lines:
        json.send(line + b"\n")
        replies.append(json.read_bytes())
    json.send(b'{"type":"bye"}\n')
    json.read_bytes()
    for line, reply in zip(lines, replies, strict=True):
        browser.say_lines(line.decode())
        assert _without_token("".join(browser.texts()).encode()) == _without_token(reply)


def _without_token(reply: bytes) -> bytes:
    before, found, rest = reply.partition(b'"token":"')
    return before + rest.partition(b'"')[2] if found else reply


def test_all_doors_see_the_same_numbers(chat: Chat, web: Web) -> None:
    ana, bo, carla = web.enter("ana"), chat.json("bo"), chat.text("carla")
    ana.say("from a browser", "1")
    bo.say("from a program", "1")
    carla.say("from a person")
    assert [(m["seq"], m["text"]) for m in ana.read() if m["type"] == "message"] == [
        (1, "from a browser"),
        (2, "from a program"),
        (3, "from a person"),
    ]
    assert next(m for m in bo.read() if m["type"] == "message")["text"] == "from a browser"
    assert "ana: from a browser" in carla.read()


def test_the_receipt_comes_before_the_message(web: Web) -> None:
    ana = web.enter("ana")
    ana.say("hola", "1")
    assert [answer["type"] for answer in ana.read()] == ["kept", "message"]


def test_a_message_of_the_socket_holds_one_or_more_lines(web: Web) -> None:
    ana = web.socket()
    ana.say_lines('{"type":"hello","name":"ana"}\r\n\n{"type":"ping","id":"1"}\n{"type":"ping","id":"2"}\n')
    assert [answer.get("id") for answer in ana.read()] == [None, None, "1", "2"]


def test_a_batch_is_one_frame_for_all(chat: Chat, web: Web) -> None:
    ana, bo = web.enter("ana"), web.enter("bo")
    bo.read_bytes()
    ana.say_lines("\n".join(f'{{"type":"say","room":"lobby","text":"{n}","id":"{n}"}}' for n in range(20)))
    texts = bo.texts()
    assert len(texts) == 1
    assert texts[0].count("\n") == 20


def test_a_large_batch_is_frames_of_a_bounded_size(chat: Chat, web: Web) -> None:
    ana, bo = web.enter("ana"), web.enter("bo")
    bo.read()
    text = "x" * 1000
    ana.say_lines("\n".join(f'{{"type":"say","room":"lobby","text":"{text}","id":"{n}"}}' for n in range(50)))
    texts = bo.texts()
    assert 1 < len(texts) < 10
    assert max(map(len, texts)) <= FRAME
    assert sum(text.count("\n") for text in texts) == 50


def test_a_message_larger_than_a_frame_should_be_is_one_all_the_same(web: Web) -> None:
    ana = web.enter("ana")
    ana.say("日" * 4000, "1")
    ana.say("日" * 4000, "2")
    assert [len(m["text"]) for m in ana.read() if m["type"] == "message"] == [4000, 4000]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(st.integers(1, 6000), min_size=1, max_size=30), st.integers(1, 40))
def test_a_slow_browser_gets_everything_in_order(
    tmp_path_factory: pytest.TempPathFactory, takes: list[int], count: int
) -> None:
    with Chat(tmp_path_factory.mktemp("chat")) as chat:
        web = Web(chat)
        ana, slow = web.enter("ana"), web.enter("slow")
        slow.read()
        slow.socket.window = 0
        for number in range(count):
            ana.say(f"{number} " + "x" * (number * 37 % 900), str(number))
            slow.take(takes[number % len(takes)])
            assert slow.socket.buffered <= FRAME + 1000
        slow.take(None)
        seqs = [m["seq"] for m in slow.read() if m["type"] == "message"]
        assert seqs == list(range(1, count + 1))


# The frames beside text


def test_a_ping_is_answered(web: Web) -> None:
    ana = web.socket()
    ana.ping(b"are you there?")
    ana.texts()
    assert ana.events == [Pong(b"are you there?")]


def test_who_pings_without_end_and_reads_nothing_is_not_read(web: Web) -> None:
    ana = web.socket()
    ana.socket.window = 0
    for _ in range(2000):
        ana.ping(b"x" * 100)
        if not ana.being_read:
            break
    assert not ana.being_read
    assert ana.socket.buffered < 100_000
    ana.take(None)
    assert ana.being_read


def test_a_close_is_answered_and_the_name_is_held(chat: Chat, web: Web) -> None:
    ana, bo = web.enter("ana"), web.enter("bo")
    ana.say("hola", "1")
    bo.read()
    ana.send(ana.wire.send(CloseConnection(1001)))
    ana.texts()
    assert ana.code == 1000
    chat.advance(1)
    assert ana.closed
    assert bo.read() == []
    chat.advance(91)
    assert [answer["type"] for answer in bo.read()] == ["left"]
    assert any("disconnected" in line and "reason=closed" in line for line in chat.logged)


def test_bytes_are_refused(chat: Chat, web: Web) -> None:
    ana = web.enter("ana")
    ana.send(ana.wire.send(BytesMessage(b"hola")))
    ana.texts()
    assert ana.code == 1003
    chat.advance(1)
    assert ana.closed


def test_a_message_over_64_kib_closes_the_socket_and_nothing_else(chat: Chat, web: Web) -> None:
    ana, bo = web.enter("ana"), web.enter("bo")
    ana.say_lines("x" * (64 * 1024 + 1))
    ana.texts()
    assert ana.code == 1009
    chat.advance(1)
    assert ana.closed
    bo.say("still here", "1")
    assert bo.read()[-1]["text"] == "still here"


def test_a_message_of_64_kib_is_taken(web: Web) -> None:
    ana = web.enter("ana")
    ana.say_lines('{"type":"ping","id":"1","x":"' + "x" * (64 * 1024 - 31) + '"}')
    assert ana.read() == [{"type": "pong", "id": "1"}]


def test_pieces_that_never_end_take_no_memory(web: Web) -> None:
    ana = web.enter("ana")
    ana.send(b"\x01\xfe\x40\x00" + bytes(4) + b"x" * 0x4000)
    for _ in range(10):
        ana.send(b"\x00\xfe\x40\x00" + bytes(4) + b"x" * 0x4000)
    ana.texts()
    assert ana.code == 1009


@pytest.mark.parametrize(
    "last", [b"\x81\xff" + bytes(7) + b"\xff", b"\x88\x80" + bytes(4)], ids=["broken", "closed"]
)
def test_what_comes_after_the_end_takes_no_memory(web: Web, last: bytes) -> None:
    ana = web.enter("ana")
    ana.socket.window = 0
    ana.say("the answer to this fills the line", "1")
    tracemalloc.start()
    try:
        ana.send(last)
        for _ in range(200):
            ana.send(b"\x81\x80" + bytes(4) + b"x" * 0x10000)
            ana.socket.incoming.clear()  # what it does not even read
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 1 << 20


def test_bad_utf8_closes_the_socket(web: Web) -> None:
    ana = web.enter("ana")
    ana.send(b"\x81\x81" + bytes(4) + b"\xff")
    ana.texts()
    assert ana.code == 1007


# Who is there


def test_a_silent_browser_is_asked_whether_it_is_there(chat: Chat, web: Web) -> None:
    ana = web.enter("ana")
    for _ in range(100):
        chat.advance(PING_EVERY)
        ana.texts()
        assert ana.events.pop() == Ping(b"")
        ana.pong()
    assert not ana.closed


def test_who_answers_no_ping_is_dropped(chat: Chat, web: Web) -> None:
    ana = web.enter("ana")
    chat.advance(PING_EVERY + PATIENCE - 1)
    assert not ana.closed
    chat.advance(2)
    assert ana.closed
    assert any("did not answer for 600 s" in line for line in chat.logged)


def test_who_is_not_read_is_not_counted_silent(chat: Chat, tmp_path: Path) -> None:
    web = Web(chat, Limits(rate=Rate(1, 1000)))
    ana = web.enter("ana")
    ana.say("one", "1")
    ana.say("two", "2")
    assert not ana.being_read
    chat.advance(PATIENCE + 2 * PING_EVERY)
    assert not ana.closed


def test_who_says_no_name_is_sent_away(chat: Chat, web: Web) -> None:
    ana = web.socket()
    chat.advance(60)
    assert ana.read() == [{"type": "goodbye", "reason": "no name within a minute"}]
    assert ana.code == 1001
    chat.advance(1)
    assert ana.closed


def test_one_more_than_there_may_be(chat: Chat) -> None:
    web = Web(chat, Limits(clients=1, rate=None))
    ana, bo = web.enter("ana"), web.socket()
    (goodbye,) = bo.read()
    assert (goodbye["type"], goodbye["reason"]) == ("goodbye", "the server is full")
    assert 15 <= goodbye["retry_after"] <= 45
    chat.advance(1)
    assert bo.closed
    assert not ana.closed


def test_the_limit_is_for_all_doors_together(chat: Chat) -> None:
    web = Web(chat, Limits(clients=1, rate=None))
    chat.json("ana")
    assert web.socket().read()[0]["reason"] == "the server is full"


def test_a_farewell(chat: Chat, web: Web) -> None:
    ana = web.enter("ana")
    done = web.door.farewell("the server is stopping")
    chat.settle()
    (goodbye,) = ana.read()
    assert goodbye["reason"] == "the server is stopping"
    assert 0.5 <= goodbye["retry_after"] <= 3
    assert ana.code == 1001
    chat.advance(1)
    assert ana.closed
    assert done.called


def test_who_does_not_let_go_is_cut_off(chat: Chat, web: Web) -> None:
    ana = web.enter("ana")
    ana.socket.window = 0
    ana.request("bye")
    chat.advance(PING_EVERY - 1)
    assert not ana.closed
    chat.advance(PING_EVERY + 1)
    assert ana.closed


def test_who_sends_too_fast_is_read_more_slowly(chat: Chat) -> None:
    web = Web(chat, Limits(rate=Rate(2, 2)))
    ana = web.enter("ana")
    for number in range(4):
        ana.say(str(number), str(number))
    answers = ana.read()
    assert [a["code"] for a in answers if a["type"] == "error"] == ["too_fast"]
    chat.advance(10)
    assert [m["text"] for m in answers + ana.read() if m["type"] == "message"] == ["0", "1", "2", "3"]


def test_the_log_says_where_it_came_from(chat: Chat, web: Web) -> None:
    web.enter("ana").lose()
    assert "connected connection=1 door=web peer=203.0.113.7:50007" in chat.logged


# Where it may come from


@pytest.mark.parametrize(
    "origin", ["http://chat.example", "https://chat.example", "http://CHAT.EXAMPLE", "HTTP://chat.example"]
)
def test_the_page_of_this_host_may_connect(web: Web, origin: str) -> None:
    ana = web.socket(origin=origin)
    ana.request("hello", name="ana")
    assert ana.read()[0]["type"] == "welcome"


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://chat.example:8080",
        "http://chat.example.evil.example",
        "null",
        "",
        "chat.example",
    ],
)
def test_other_pages_may_not(web: Web, origin: str) -> None:
    answer = web.get("/ws", origin=origin, **HANDSHAKE)
    assert answer.status == 403


def test_a_port_is_part_of_an_origin(web: Web) -> None:
    line = web.http()
    line.send(
        request("/ws", origin="http://chat.example:8080", **HANDSHAKE).replace(
            b"chat.example\r\n", b"chat.example:8080\r\n", 1
        )
    )
    assert line.read_bytes().startswith(b"HTTP/1.1 101 ")


def test_a_session_goes_from_door_to_door(chat: Chat, web: Web) -> None:
    bo = chat.json("bo")
    bo.say("from a program", "1")
    token = bo.token
    bo.lose()
    browser = web.socket()
    welcome = browser.ask("hello", name="bo", token=token, rooms={"lobby": 0})[0]
    assert welcome["resumed"]
    assert [a["type"] for a in browser.ask("say", room="lobby", text="from a program", id="1")] == ["kept"]


def test_many_browsers_share_the_bytes_of_a_batch(chat: Chat, web: Web) -> None:
    lines: list[WebLine] = [web.enter(f"guest{number}") for number in range(5)]
    for line in lines:
        line.read()
    chat.json("ana").say("hola", "1")
    frames = {line.read_bytes()[-1000:] for line in lines[1:]}
    assert len(frames) == 1
