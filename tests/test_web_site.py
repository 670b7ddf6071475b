"""What is served over HTTP: the page, the health check, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatd.server import Limits
from chatd.web.site import BESIDE, IDLE, MAX_BODY
from tests.harness import Chat, Later
from tests.web import HANDSHAKE, Web, request

STATIC = Path(__file__).parent.parent / "chatd" / "web" / "static"


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Chat]:
    """A chat in memory."""
    with Chat(tmp_path) as made:
        yield made


@pytest.fixture
def web(chat: Chat) -> Web:
    """Its web door."""
    return Web(chat)


def test_the_page(web: Web) -> None:
    answer = web.get("/")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.body == (STATIC / "index.html").read_bytes()


@pytest.mark.parametrize("name", sorted(file.name for file in STATIC.iterdir() if file.name != "index.html"))
def test_each_file_of_the_page(web: Web, name: str) -> None:
    answer = web.get(f"/{name}")
    assert answer.status == 200
    assert answer.body == (STATIC / name).read_bytes()


def test_the_page_names_nothing_that_is_not_there(web: Web) -> None:
    files = [STATIC / "index.html", *STATIC.glob("*.js"), *STATIC.glob("*.css")]
    named = {
        name
        for file in files
        for name in re.findall(r"""(?:href|src)="([^"#]+)"|from '\./([^']+)'|url\(([^)]+)\)""", file.read_text())
        for name in name
        if name
    }
    assert {"app.js", "style.css", "icon.svg", "chat.js", "socket.js"} <= named
    for name in named:
        assert web.get(f"/{name}").status == 200, name


def test_the_page_comes_from_one_host_and_has_nothing_inline(web: Web) -> None:
    page = web.get("/").body.decode()
    assert "http:" not in page
    assert "https:" not in page
    assert "//" not in page.replace("</", "")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=", page)


@pytest.mark.parametrize("path", ["/", "/app.js", "/health", "/ws", "/nothing", "/%00", "/../site.py"])
def test_every_answer_is_guarded(web: Web, path: str) -> None:
    headers = web.get(path).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["img-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["server"] == "chatd"


def test_what_has_not_changed_is_not_sent_again(web: Web) -> None:
    tag = web.get("/app.js").headers["etag"]
    again = web.get("/app.js", if_none_match=tag)
    assert (again.status, again.body) == (304, b"")
    assert web.get("/app.js", if_none_match='"another"').status == 200


def test_only_the_head(web: Web) -> None:
    for path in ("/", "/health", "/nothing"):
        whole, head = web.get(path), web.get(path, "HEAD")
        assert (head.status, head.body) == (whole.status, b"")
        assert head.headers["content-length"] == str(len(whole.body))


@pytest.mark.parametrize(
    "path", ["/nothing", "/index.html", "/static/app.js", "/%2e%2e/site.py", "/app.js/", "//"]
)
def test_there_is_nothing_else(web: Web, path: str) -> None:
    assert web.get(path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_sent(web: Web, method: str) -> None:
    answer = web.get("/", method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert web.get("/ws", method, **HANDSHAKE).status == 405


def test_several_requests_on_a_connection(web: Web) -> None:
    line = web.http()
    assert [line.ask(path).status for path in ("/", "/nothing", "/style.css")] == [200, 404, 200]
    assert not line.closed


def test_a_body_is_thrown_away(web: Web) -> None:
    line = web.http()
    line.send(request("/", "POST", content_length=str(MAX_BODY)), *[b"x" * 1024] * (MAX_BODY // 1024))
    assert line.answer().status == 405
    assert not line.closed


def test_a_body_that_does_not_end_closes_the_connection(web: Web) -> None:
    line = web.http()
    line.send(request("/", "POST", content_length=str(1 << 40)), *[b"x" * 1024] * (MAX_BODY // 1024))
    assert not line.closed
    line.send(b"x")
    assert line.closed


def test_who_asks_for_nothing_is_closed(chat: Chat, web: Web) -> None:
    line = web.http()
    chat.advance(IDLE - 1)
    assert not line.closed
    chat.advance(2)
    assert line.closed


def test_a_websocket_may_be_idle(chat: Chat, web: Web) -> None:
    ana = web.enter("ana")
    chat.advance(5 * IDLE)
    assert not ana.closed


def test_what_is_no_handshake(web: Web) -> None:
    answer = web.get("/ws")
    assert answer.status == 426
    assert answer.headers["upgrade"] == "websocket"
    assert web.get("/ws", **{**HANDSHAKE, "sec_websocket_version": "8"}).headers["sec-websocket-version"] == "13"
    assert web.get("/ws", "HEAD", **HANDSHAKE).status == 403


def test_connections_that_ask_for_nothing_do_not_take_all_the_places(chat: Chat) -> None:
    web = Web(chat, Limits(clients=3, rate=None))
    lines = [web.http() for _ in range(BESIDE + 3)]
    assert not any(line.closed for line in lines)
    surplus = web.http()
    assert surplus.closed
    lines[0].lose()
    assert web.get("/").status == 200


def test_connections_of_other_doors_count_too(chat: Chat) -> None:
    web = Web(chat, Limits(clients=1, rate=None))
    chat.json("ana")
    for _ in range(BESIDE):
        web.http()
    assert web.http().closed


# Health


def test_all_is_well(web: Web) -> None:
    answer = web.get("/health")
    assert (answer.status, answer.body) == (200, b"ok\n")
    assert answer.headers["cache-control"] == "no-store"


def test_messages_cannot_be_kept(chat: Chat, web: Web) -> None:
    chat.store.close()
    answer = web.get("/health")
    assert (answer.status, answer.body) == (503, b"messages cannot be kept now\n")
    chat.store.open()
    chat.advance(1)
    assert web.get("/health").status == 200


def test_who_asks_and_goes_is_not_missed(tmp_path: Path) -> None:
    workers = Later()
    with Chat(tmp_path, workers=workers) as chat:
        web = Web(chat)
        line = web.http()
        line.send(request("/health"))
        assert line.read_bytes() == b""
        line.lose()
        workers.work()
        chat.settle()
