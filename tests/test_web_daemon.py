"""The web door of the real daemon: over TLS, behind nginx, and against pages from elsewhere."""

from __future__ import annotations

import http.client
import http.server
import json
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.browser import Visits, WebDaemon, enter, expect, free_port, say, texts
from tests.certificate import make_certificate, trusting
from tests.daemon import Address, Closed, Daemon, wait_until
from tests.websockets import WebClient

ROOT = Path(__file__).parent.parent


class TlsDaemon(Daemon):
    """A daemon with a page over TLS alone, at `url`."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.certificate = make_certificate(folder / "certificate.pem")
        self.web_port = free_port()
        self.url = f"https://localhost:{self.web_port}/"
        endpoint = (
            f"ssl:{self.web_port}:interface=127.0.0.1:privateKey={self.certificate}:certKey={self.certificate}"
        )
        super().__init__(folder, "--web", endpoint, "--rate", "off", *options)

    def __enter__(self) -> TlsDaemon:
        super().__enter__()
        return self

    def web(self) -> WebClient:
        """A program on a WebSocket."""
        return self._made(WebClient(("127.0.0.1", self.web_port), trusting(self.certificate)))


def web(daemon: WebDaemon, **headers: str) -> WebClient:
    """A program on a WebSocket, which the daemon closes at its end."""
    return daemon._made(WebClient(("127.0.0.1", daemon.ports[1]), None, **headers))


def get(address: tuple[str, int], path: str, **headers: str) -> http.client.HTTPResponse:
    """The answer to a request."""
    connection = http.client.HTTPConnection(*address, timeout=20)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


# A WebSocket as it is


def test_it_is_the_same_chat(daemon: WebDaemon) -> None:
    ana, bo = web(daemon), daemon.text("bo")
    ana.hello("ana")
    ana.say("hola", "1")
    assert ana.until("kept")["seq"] == 1
    bo.until("ana: hola")
    assert re.search(r"connected connection=\d+ door=web peer=127\.0\.0\.1:\d+", daemon.log)


def test_a_session_survives_a_kill(daemon: WebDaemon) -> None:
    ana = web(daemon)
    ana.hello("ana")
    for number in range(100):
        ana.say(f"message {number}", str(number))
    ana.until("kept", id="50")
    daemon.kill()
    daemon.restart()
    again = web(daemon)
    again.request("hello", name="ana", token=ana.token, rooms={"lobby": 0})
    assert again.until("welcome")["resumed"]
    last = again.until("room")["seq"]
    assert last >= 51
    assert [message["text"] for message in again.messages(last)] == [f"message {number}" for number in range(last)]
    again.say("message 50", "50")
    assert again.until("kept") == {"type": "kept", "room": "lobby", "seq": 51, "id": "50"}


def test_a_slow_reader_gets_everything(daemon: WebDaemon) -> None:
    slow, writer = web(daemon), daemon.json("writer")
    slow.hello("slow")
    text = "x" * 3000
    for number in range(4000):
        writer.say(f"{number} {text}", str(number))
        if number % 500 == 499:
            writer.until("kept", id=str(number))
    assert [message["seq"] for message in slow.messages(4000)] == list(range(1, 4001))


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_stopping_says_goodbye_to_browsers(daemon: WebDaemon, end: signal.Signals) -> None:
    ana = web(daemon)
    ana.hello("ana")
    daemon.stop(end)
    assert ana.until("goodbye")["retry_after"] > 0
    with pytest.raises(Closed):
        ana.read()
    assert ana.code == 1001


# TLS


def test_over_tls(tmp_path: Path, visits: Visits) -> None:
    with TlsDaemon(tmp_path) as daemon:
        page = visits.page(daemon.url, "ana", ignore_https_errors=True)
        bo = daemon.web()
        bo.hello("bo")
        bo.say("hola", "1")
        expect(texts(page)).to_have_text(["hola"])
        say(page, "de vuelta")
        bo.until("message", text="de vuelta")


def test_over_tls_connections_are_closed_and_slow_readers_served(tmp_path: Path) -> None:
    with TlsDaemon(tmp_path) as daemon:
        ana, slow, writer = daemon.web(), daemon.web(), daemon.json("writer")
        ana.hello("ana")
        ana.request("bye")
        ana.until("goodbye")
        with pytest.raises(Closed):
            ana.read()
        ana.close()
        wait_until(lambda: "name=ana" in daemon.log.partition("disconnected")[2], "it is gone")
        slow.hello("slow")
        text = "x" * 3000
        for number in range(3000):
            writer.say(f"{number} {text}", str(number))
            if number % 500 == 499:
                writer.until("kept", id=str(number))
        assert [message["seq"] for message in slow.messages(3000)] == list(range(1, 3001))


# Pages from elsewhere


def test_a_page_from_elsewhere_cannot_connect(daemon: WebDaemon, visits: Visits) -> None:
    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title>")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        page = visits.page(f"http://127.0.0.1:{server.server_port}/")
        attempt = """(url) => new Promise((done) => { const socket = new WebSocket(url);
            socket.onopen = () => done('open'); socket.onclose = ({code}) => done(code) })"""
        there = daemon.url.replace("http", "ws") + "ws"
        assert page.evaluate(attempt, there) == 1006
        assert "connected" not in daemon.log.replace("disconnected", "")
        here = visits.page(daemon.url)
        assert here.evaluate(attempt, there) == "open"
    finally:
        server.shutdown()
        server.server_close()


def test_what_gets_into_the_page_cannot_run(daemon: WebDaemon, visits: Visits) -> None:
    page = visits.page(daemon.url, "ana")
    refused: list[str] = visits.complaints
    page.evaluate(
        """() => {
            const made = (tag, fields) => Object.assign(document.createElement(tag), fields);
            const attempts = [
                () => document.body.append(made('script', {text: 'window.ran = 1'})),
                () => document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.ran = 1">'),
                () => { document.body.setAttribute('onclick', 'window.ran = 1'); document.body.click() },
                () => document.head.append(made('base', {href: '//evil.example'})),
            ];
            for (const attempt of attempts) try { attempt() } catch { /* refused */ }
        }"""
    )
    page.wait_for_timeout(300)
    assert page.evaluate("window.ran") is None
    assert page.evaluate("document.baseURI") == daemon.url + "#lobby"
    assert refused, "the browser said so"
    refused.clear()


def test_the_page_cannot_be_framed(daemon: WebDaemon) -> None:
    answer = get(("127.0.0.1", daemon.ports[1]), "/")
    assert "frame-ancestors 'none'" in (answer.getheader("Content-Security-Policy") or "")
    assert answer.getheader("X-Frame-Options") == "DENY"


# Options


def test_without_the_option_there_is_no_page(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        assert len(daemon.ports) == 1


def test_several_places(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with Daemon(tmp_path, "--web", "tcp:0:interface=127.0.0.1", "--web", f"unix:{path}") as daemon:
        assert get(("127.0.0.1", daemon.ports[1]), "/").status == 200
        address: Address = str(path)
        ana = daemon._made(WebClient(address, X_Forwarded_For="203.0.113.9"))
        ana.hello("ana")
        assert "door=web peer=203.0.113.9\n" in daemon.log


def test_where_the_page_is_can_be_opened_as_it_is_said(tmp_path: Path, visits: Visits) -> None:
    certificate = make_certificate(tmp_path / "certificate.pem")
    keys = f"privateKey={certificate}:certKey={certificate}"
    places = ("0", "tcp:0:interface=127.0.0.1", "tcp:0:interface=\\:\\:1", f"ssl:0:interface=127.0.0.1:{keys}")
    options = [option for place in places for option in ("--web", place)]
    with Daemon(tmp_path, *options, "--port", "tcp:0:interface=127.0.0.1") as daemon:
        addresses = re.findall(r"https?://[^)]+", daemon.output)
        assert [address.rpartition(":")[0] for address in addresses] == [
            "http://localhost",
            "http://127.0.0.1",
            "http://[::1]",
            "https://127.0.0.1",
        ]
        for address in addresses:
            expect(visits.page(address, ignore_https_errors=True).locator("#name")).to_be_focused()


def test_a_port_that_is_taken_is_said_at_the_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        with pytest.raises(AssertionError, match=f"chatd: --web {place}: the port is in use"):
            Daemon(tmp_path, "--web", place).start()


def test_a_proxy_that_is_trusted_speaks_for_others(tmp_path: Path) -> None:
    with WebDaemon(tmp_path, "--trust-proxy", "198.51.100.0/24") as daemon:
        ana = web(daemon, X_Forwarded_For="6.6.6.6, 203.0.113.9, 198.51.100.7")
        ana.hello("ana")
        assert "door=web peer=203.0.113.9\n" in daemon.log


def test_health_of_a_database_that_cannot_be_written(daemon: WebDaemon) -> None:
    address = "127.0.0.1", daemon.ports[1]
    assert get(address, "/health").status == 200
    _, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (0, hard))
    wait_until(lambda: get(address, "/health").status == 503, "it says so")
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    wait_until(lambda: get(address, "/health").status == 200, "it is well again")


# nginx


@contextmanager
def nginx(folder: Path, upstream: int, path: str = "/") -> Iterator[tuple[int, Path]]:
    """nginx with the configuration of etc/, for that path; its port for https, and its certificate."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("there is no nginx")
    plain, secure = free_port(), free_port()
    certificate = make_certificate(folder / "nginx.pem")
    site = (ROOT / "etc" / "nginx.conf").read_text()
    for pattern, there in (
        (r"listen \[::\]:\d+.*;\n", ""),
        (r"listen 80;", f"listen 127.0.0.1:{plain};"),
        (r"listen 443 ssl;", f"listen 127.0.0.1:{secure} ssl;"),
        (r"ssl_certificate .*;", f"ssl_certificate {certificate};"),
        (r"ssl_certificate_key .*;", f"ssl_certificate_key {certificate};"),
        (r"chat\.example", "localhost"),
        (r"location /", f"location {path}"),
        (r"http://127\.0\.0\.1:8080", f"http://127.0.0.1:{upstream}{'' if path == '/' else '/'}"),
    ):
        site, count = re.subn(pattern, there, site)
        assert count, pattern
    (folder / "site.conf").write_text(site)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # The test comes from this machine: it says in a header of its own from where nginx is to believe it comes.
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; events {{}} "
        f"http {{ access_log off; {temporary} set_real_ip_from 127.0.0.1; real_ip_header X-Test-From; "
        f"include {folder}/site.conf; }}"
    )
    process = subprocess.Popen([program, "-p", str(folder), "-c", str(folder / "nginx.conf")])
    try:
        wait_until(lambda: _listens(secure) or process.poll() is not None, "nginx listens")
        assert process.poll() is None, (folder / "nginx.log").read_text()
        yield secure, certificate
    finally:
        process.terminate()
        process.wait(20)


def _listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def test_behind_nginx(daemon: WebDaemon, visits: Visits, tmp_path: Path) -> None:
    with nginx(tmp_path, daemon.ports[1]) as (port, certificate):
        page = visits.page(f"https://localhost:{port}/", "ana", ignore_https_errors=True)
        bo = daemon.text("bo")
        bo.say("hola")
        expect(texts(page)).to_have_text(["hola"])
        say(page, "from behind nginx")
        bo.until("ana: from behind nginx")

        # The address in the log is the browser's, and what a browser claims itself counts for nothing.
        forger = daemon._made(
            WebClient(
                ("127.0.0.1", port),
                trusting(certificate),
                Host=f"localhost:{port}",
                Origin=f"https://localhost:{port}",
                X_Forwarded_For="6.6.6.6",
                X_Test_From="203.0.113.9",
            )
        )
        forger.hello("forger")
        assert "door=web peer=203.0.113.9\n" in daemon.log
        assert "6.6.6.6" not in daemon.log

        stranger = daemon._made(
            WebClient(
                ("127.0.0.1", port), trusting(certificate), Host=f"localhost:{port}", Origin="https://evil.example"
            )
        )
        assert stranger.status == 403

        daemon.kill()
        expect(page.locator("#line-now")).to_be_visible()
        say(page, "while it was away")
        daemon.restart()
        expect(texts(page, "while it was away")).to_have_count(1)
        page.reload()
        expect(page.locator("#me")).to_have_text("ana")


def test_a_path_of_its_own(daemon: WebDaemon, visits: Visits, tmp_path: Path) -> None:
    with nginx(tmp_path, daemon.ports[1], "/chat/") as (port, _):
        page = visits.page(f"https://localhost:{port}/chat/", "ana", ignore_https_errors=True)
        say(page, "hola")
        expect(texts(page)).to_have_text(["hola"])


def test_what_the_page_sends_is_what_the_protocol_says(daemon: WebDaemon, visits: Visits) -> None:
    """Nothing between page and server that other clients could not say too."""
    sent: list[str | bytes] = []
    page = visits.page(daemon.url)
    page.on("websocket", lambda socket: socket.on("framesent", lambda text: sent.append(text)))
    enter(page, "ana")
    say(page, "hola")
    expect(texts(page)).to_have_count(1)
    requests = [json.loads(line) for text in sent for line in str(text).splitlines()]
    assert [request["type"] for request in requests] == ["hello", "say"]
    program = daemon.json()
    for request in requests:
        program.send(json.dumps({**request, "name": "bo"}).encode() + b"\n")
    assert program.until("kept")["seq"] == 2
