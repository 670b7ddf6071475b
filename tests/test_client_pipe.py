"""The real client in pipes, with the real server."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.daemon import PATIENCE, Daemon, clean_environment, wait_until

CLIENT = [sys.executable, "-m", "chatd.client"]
AT = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ\]"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    (tmp_path / "server").mkdir()
    with Daemon(tmp_path / "server") as made:
        yield made


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that takes messages as fast as they come."""
    (tmp_path / "server").mkdir()
    with Daemon(tmp_path / "server", "--rate", "off") as made:
        yield made


class Run:
    """The client with these arguments, in pipes, until the end of the block."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        environment = clean_environment({"XDG_STATE_HOME": str(folder / "state")})
        self.process = subprocess.Popen(
            [*CLIENT, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def type(self, text: str) -> None:
        """Lines of standard input."""
        assert self.process.stdin
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def read_until(self, pattern: str) -> list[str]:
        """The lines of standard output up to the first that is, as a whole, what the regular expression says."""
        assert self.process.stdout
        lines: list[str] = []
        while True:
            line = self.process.stdout.readline().decode()
            assert line, f"it ended before {pattern}: {lines}"
            lines.append(line.rstrip("\n"))
            if re.fullmatch(pattern, lines[-1]):
                return lines

    def end(self, text: str = "") -> tuple[int, str, str]:
        """The end of the input, after that text. Returns the exit code, the rest of the output, and the errors."""
        assert self.process.stdin
        assert self.process.stderr
        with contextlib.suppress(BrokenPipeError), self.process.stdin as stdin:
            stdin.write(text.encode())
        out = self.rest()
        err = self.process.stderr.read().decode()
        return self.process.wait(PATIENCE), out, err

    def rest(self) -> str:
        """All output that is left, until there is no more. A client that does not end is killed."""
        assert self.process.stdout
        impatient = threading.Timer(PATIENCE, self.process.kill)
        impatient.start()
        try:
            return self.process.stdout.read().decode()
        finally:
            impatient.cancel()


def run(folder: Path, text: str, *arguments: str) -> tuple[int, str, str]:
    """Run the client with that input: the exit code, the output, the errors."""
    with Run(folder, *arguments) as client:
        return client.end(text)


def here(daemon: Daemon) -> str:
    return f"127.0.0.1:{daemon.port}"


def log(daemon: Daemon, room: str = "lobby") -> list[str]:
    """The texts of a room, as somebody else reads them."""
    reader = daemon.json()
    reader.hello(f"reader-of-{room}", rooms={room: 0})
    texts: list[str] = []
    while True:
        reader.request("history", room=room, after=len(texts), id="page")
        page = reader.until("history", id="page")["messages"]
        if not page:
            return texts
        texts += [message["text"] for message in page]


def test_it_prints_what_came_back(tmp_path: Path, daemon: Daemon) -> None:
    code, out, err = run(tmp_path, "hola\n/who\n", here(daemon), "--name", "ana")
    assert (code, err) == (0, "")
    assert re.search(rf"^{AT} ana: hola$", out, re.MULTILINE)
    assert "* 1 person in lobby: ana\n" in out
    assert log(daemon) == ["hola"]


def test_several_lines_commands_and_a_last_one_without_an_end(tmp_path: Path, daemon: Daemon) -> None:
    text = "one\r\n/me waves\n//x\n\n/history 2\n/join dev\ntwo\n/nothing\nlast"
    code, out, err = run(tmp_path, text, here(daemon), "--name", "ana")
    assert code == 0
    assert err == "! There is no /nothing: /help lists the commands, and //nothing says /nothing.\n"
    assert re.search(rf"^#2 {AT} (\[lobby\] )?ana \* waves\n#3 {AT} (\[lobby\] )?ana: /x$", out, re.MULTILINE)
    assert log(daemon) == ["one", "waves", "/x"]
    assert log(daemon, "dev") == ["two", "last"]


def test_nothing_at_all(tmp_path: Path, daemon: Daemon) -> None:
    assert run(tmp_path, "", here(daemon), "--name", "ana")[0] == 0


def test_it_can_read_only(tmp_path: Path, quick: Daemon) -> None:
    daemon, bob = quick, quick.json("bob")
    for number in range(30):
        bob.say(f"text {number}", str(number))
    bob.sync()
    code, out, _ = run(tmp_path, "", here(daemon), "--name", "ana", "--history", "25")
    assert code == 0
    assert re.findall(rf"^{AT} bob: text (\d+)$", out, re.MULTILINE) == [str(number) for number in range(5, 30)]


def test_many_lines_in_order(tmp_path: Path, quick: Daemon) -> None:
    daemon, texts = quick, [f"text {number}" for number in range(12_000)]
    code, out, err = run(tmp_path, "\n".join(texts), here(daemon), "--name", "ana")
    assert (code, err) == (0, "")
    assert re.findall(rf"^{AT} ana: (.*)$", out, re.MULTILINE) == texts
    assert log(daemon) == texts


def test_a_server_that_takes_few_lines_a_second(tmp_path: Path, daemon: Daemon) -> None:
    """It takes 10 a second by default; waiting ends when no receipt comes, not after a time for all of them."""
    texts = [f"text {number}" for number in range(60)]
    code, _, err = run(tmp_path, "\n".join(texts), here(daemon), "--name", "ana", "--wait", "3")
    assert (code, err) == (0, "")
    assert log(daemon) == texts


def test_what_others_say_comes_out(tmp_path: Path, daemon: Daemon) -> None:
    bob = daemon.json("bob")
    with Run(tmp_path, here(daemon), "--name", "ana") as ana:
        ana.read_until(r"\* 2 people in lobby: .*")
        bob.say("hola\x1b[2J", "1")
        ana.read_until(rf"{AT} bob: hola\ufffd\[2J")
        assert ana.end()[0] == 0


def test_exit_is_the_end(tmp_path: Path, daemon: Daemon) -> None:
    with Run(tmp_path, here(daemon), "--name", "ana") as ana:
        ana.type("last words\nexit\n")
        ana.read_until(rf"{AT} ana: last words")
        assert ana.process.wait(PATIENCE) == 0


def test_what_is_refused_is_told(tmp_path: Path, daemon: Daemon) -> None:
    text = f"fine\n{'x' * 4001}\n{'y' * 100_000}\nfine too\n"
    code, _, err = run(tmp_path, text, here(daemon), "--name", "ana")
    assert code == 1
    assert "! The message has 4,001 characters, and 4,000 are the most: send it in parts.\n" in err
    assert "! A line was too long, and was not sent.\n" in err
    assert log(daemon) == ["fine", "fine too"]


def test_a_name_that_is_taken(tmp_path: Path, daemon: Daemon) -> None:
    daemon.json("ana")
    code, _, err = run(tmp_path, "hola\n", here(daemon), "--name", "Ana")
    assert code == 2
    assert "in use" in err
    assert log(daemon) == []


def test_a_password(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    for name, text in (("right", "sesame\n"), ("wrong", "poppy\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    with Daemon(tmp_path / "server", "--password-file", str(tmp_path / "right")) as daemon:
        for options in ((), ("--password-file", str(tmp_path / "wrong"))):
            code, _, err = run(tmp_path, "hola\n", here(daemon), "--name", "ana", *options)
            assert code == 2
            assert "password" in err
        ana = ("--name", "ana", "--password-file", str(tmp_path / "right"))
        assert run(tmp_path, "hola\n", here(daemon), *ana)[0] == 0


def test_nobody_listens(tmp_path: Path, daemon: Daemon) -> None:
    daemon.kill()
    code, out, err = run(tmp_path, "hola\n", here(daemon), "--name", "ana")
    assert (code, out) == (1, "")
    assert err == (
        f"! {here(daemon)} refuses connections: nothing listens on that port.\n! 1 message is not sent.\n"
    )


def test_an_unknown_host(tmp_path: Path) -> None:
    code, _, err = run(tmp_path, "", "no-such-host.invalid", "--name", "ana")
    assert code == 1
    assert err == "! There is no host called no-such-host.invalid, or no network to ask about it.\n"


def test_the_server_goes_and_comes_back(tmp_path: Path, daemon: Daemon) -> None:
    with Run(tmp_path, here(daemon), "--name", "ana") as ana:
        ana.type("before\n")
        ana.read_until(rf"{AT} ana: before")
        daemon.kill()
        ana.read_until(r"\* connection lost; trying again")
        ana.type("while it is away\n")
        daemon.restart()
        ana.read_until(r"\* connected again to .* as ana")
        ana.read_until(rf"{AT} ana: while it is away")
        ana.type("after\n")
        code, out, err = ana.end()
        assert (code, err) == (0, "")
        assert re.fullmatch(rf"{AT} ana: after\n", out)
    assert log(daemon) == ["before", "while it is away", "after"]


def test_a_server_that_stops_says_goodbye(tmp_path: Path, daemon: Daemon) -> None:
    with Run(tmp_path, here(daemon), "--name", "ana") as ana:
        ana.read_until(r"\* 1 person in lobby: ana")
        daemon.stop()
        ana.read_until(r"\* .*stopping.*; trying again")
        daemon.restart()
        ana.read_until(r"\* connected again to .* as ana")
        assert ana.end()[0] == 0


def test_the_server_does_not_come_back(tmp_path: Path, daemon: Daemon) -> None:
    with Run(tmp_path, here(daemon), "--name", "ana", "--wait", "0.5") as ana:
        ana.read_until(r"\* 1 person in lobby: ana")
        daemon.kill()
        ana.read_until(r"\* connection lost; trying again")
        code, _, err = ana.end("never\n")
        assert (code, err) == (1, "! 1 message is not sent.\n")


def test_state_is_kept_where_it_is_asked_for(tmp_path: Path, daemon: Daemon) -> None:
    bob = daemon.json("bob")
    arguments = (here(daemon), "--name", "ana", "--state")
    with Run(tmp_path, *arguments, "--wait", "0.5") as ana:
        ana.read_until(r"\* 2 people in lobby: .*")
        bob.say("seen", "1")
        ana.read_until(rf"{AT} bob: seen")
        daemon.kill()
        ana.read_until(r"\* connection lost; trying again")
        code, out, _ = ana.end("for later\n")
        assert code == 1
        assert out == "* 1 message is not sent yet, and will be the next time you are here.\n"
    daemon.restart()
    daemon.json("cy").say("missed", "2")
    code, out, _ = run(tmp_path, "", *arguments)
    assert code == 0
    assert sorted(re.findall(rf"^{AT} \w+: (.*)$", out, re.MULTILINE)) == ["for later", "missed"]
    assert not any((tmp_path / "state").rglob("2.json"))


def test_killed_with_state_loses_nothing(tmp_path: Path, quick: Daemon) -> None:
    """Whatever was not written before kill -9 is written by the next run."""
    daemon, bob = quick, quick.json("bob")
    arguments = (here(daemon), "--name", "ana", "--state")
    with Run(tmp_path, *arguments) as ana:
        ana.read_until(r"\* 2 people in lobby: .*")
        ana.type("here I am\n")
        ana.read_until(rf"{AT} ana: here I am")
        # Killed before anything is saved, ana would be a stranger whose name is held by a ghost.
        wait_until(lambda: saved(tmp_path).get("lobby") == 1, "the first state")
        for number in range(3_000):
            bob.say(f"text {number}", str(number))
        ana.read_until(rf"{AT} bob: text 100")
        ana.process.kill()
        before = texts(ana.rest())
    bob.until("kept", id="2999")
    code, out, err = run(tmp_path, "", *arguments)
    assert (code, err) == (0, "")
    after = texts(out)
    assert after == list(range(3_000 - len(after), 3_000))
    assert before == list(range(101, 101 + len(before)))
    assert 101 + len(before) >= 3_000 - len(after), "nothing in between is missing"


def test_killed_with_state_shows_nothing_twice(tmp_path: Path, quick: Daemon) -> None:
    daemon, bob = quick, quick.json("bob")
    arguments = (here(daemon), "--name", "ana", "--state")
    with Run(tmp_path, *arguments) as ana:
        ana.read_until(r"\* 2 people in lobby: .*")
        for number in range(100):
            bob.say(f"text {number}", str(number))
        ana.read_until(rf"{AT} bob: text 99")
        wait_until(lambda: saved(tmp_path).get("lobby") == 100, "the state")
        ana.process.kill()
    bob.say("text 100", "100")
    bob.until("kept", id="100")
    assert texts(run(tmp_path, "", *arguments)[1]) == [100]


def saved(folder: Path) -> dict[str, int]:
    """The cursors that the client has saved, by room."""
    for path in folder.glob("state/chatd/*/1.json"):
        state = json.loads(path.read_text())
        rooms: dict[str, int] = state["chats"][state["log"]].get("rooms", {}) if "log" in state else {}
        return rooms
    return {}


def texts(output: str) -> list[int]:
    """The numbers of the texts that bob said."""
    return [int(number) for number in re.findall(rf"^{AT} bob: text (\d+)$", output, re.MULTILINE)]


def test_nothing_is_kept_where_it_is_not(tmp_path: Path, daemon: Daemon) -> None:
    run(tmp_path, "hola\n", here(daemon), "--name", "ana")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "Without a terminal the name must be given: --name NAME."),
        (("--name", "1st"), "argument -n/--name: A name begins with a letter or '_', not with '1'."),
        (("--name", "ana", "--room", "a b"), "argument -r/--room: A space cannot be in a room"),
        (("host:99999",), "a port is a number from 1 to 65535, not '99999'"),
        (("host:1", "--port", "2"), "there are two ports, 1 and 2: give one"),
        (("--history", "-1"), "this is a number, 0 or more, not '-1'"),
        (("--wait", "soon"), "this is a number of seconds, 0 or more, not 'soon'"),
        (("--password-file", "/nowhere"), "argument --password-file: /nowhere: No such file or directory"),
        (("--tls", "--ca", "/dev/null"), "/dev/null: there is no certificate in it"),
        (("--ca", "/dev/null"), "there is no certificate in it"),
        (("--state", "--ephemeral"), "--ephemeral and --state exclude each other"),
        (("--nonsense",), "unrecognized arguments: --nonsense"),
        (("[::1", "--name", "ana"), "an IPv6 address with a port is written [::1]:5000, not '[::1'"),
    ],
)
def test_a_wrong_command_line(tmp_path: Path, arguments: tuple[str, ...], complaint: str) -> None:
    code, out, err = run(tmp_path, "", *arguments)
    assert (code, out) == (2, "")
    assert complaint in err
    assert err.count("\n") == 1


def test_help_has_an_example_for_each_option(tmp_path: Path) -> None:
    code, out, _ = run(tmp_path, "", "--help")
    assert code == 0
    _, _, options = out.partition("options:\n")
    words = " ".join(options.split())
    for option in set(re.findall(r"^  (?:-\w, |-\w \w+, )?(--[a-z-]+)", options, re.MULTILINE)) - {"--help"}:
        assert re.search(rf"\([^()]*{option}[^()]*\)", words), option


def test_version(tmp_path: Path) -> None:
    code, out, _ = run(tmp_path, "", "--version")
    assert code == 0
    assert re.fullmatch(r"chatd \S+( installed\))?\n", out)


def shell(command: str, *, within: float = PATIENCE) -> subprocess.CompletedProcess[bytes]:
    client = " ".join(CLIENT)
    return subprocess.run(
        ["sh", "-c", command.replace("CLIENT", client)],
        capture_output=True,
        timeout=within,
        env=clean_environment(),
        check=False,
    )


def test_nobody_takes_the_output(tmp_path: Path, daemon: Daemon) -> None:
    lines = "".join(f"text {number}\\n" for number in range(100))
    done = shell(f"printf '{lines}' | CLIENT {here(daemon)} --name ana | head -1")
    assert done.stdout.startswith(b"* connected to")
    assert done.stderr == b""
    assert log(daemon) == [f"text {number}" for number in range(100)]


def test_files_instead_of_pipes(tmp_path: Path, daemon: Daemon) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_text("from a file\n")
    done = shell(f"CLIENT {here(daemon)} --name ana < {source} > {target}")
    assert (done.returncode, done.stderr) == (0, b"")
    assert re.search(rf"^{AT} ana: from a file$", target.read_text(), re.MULTILINE)
    assert shell(f"CLIENT {here(daemon)} --name ana < /dev/null > /dev/null").returncode == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_descriptors_that_are_closed(tmp_path: Path, daemon: Daemon, closed: str) -> None:
    done = shell(f"CLIENT {here(daemon)} --name ana < /dev/null {closed}")
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_descriptors_are_left_as_they_were(tmp_path: Path, daemon: Daemon) -> None:
    """A shell that shares them must not find them not to block."""
    reader, writer = os.pipe()
    with open(reader, "rb"), open(writer, "wb"):
        done = subprocess.run(
            [*CLIENT, here(daemon), "--name", "ana"],
            stdin=subprocess.DEVNULL,
            stdout=writer,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0
        assert os.get_blocking(writer)


def test_slow_readers_of_the_output_cost_no_memory(tmp_path: Path, quick: Daemon) -> None:
    daemon, bob = quick, quick.json("bob")
    with Run(tmp_path, here(daemon), "--name", "ana") as ana:
        ana.read_until(r"\* 2 people in lobby: .*")
        text = "x" * 3_900
        for number in range(10_000):
            bob.say(f"{number} {text}", str(number))
            if number % 100 == 99:
                bob.until("kept", id=str(number))
        status = Path(f"/proc/{ana.process.pid}/status").read_text()
        assert int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) < 150_000
        bob.say("the end", "end")
        lines = ana.read_until(rf"{AT} bob: the end")
        assert re.findall(r"bob: (\d+) x", "\n".join(lines)) == [str(number) for number in range(10_000)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end(tmp_path: Path, daemon: Daemon, number: signal.Signals) -> None:
    with Run(tmp_path, here(daemon), "--name", "ana") as ana:
        ana.read_until(r"\* 1 person in lobby: ana")
        ana.process.send_signal(number)
        assert ana.process.wait(PATIENCE) == 0
    assert daemon.json("ana"), "the name is free"


# Servers that are none


@contextlib.contextmanager
def server(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that talks so to each who comes; where it is."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    with peer, contextlib.suppress(OSError):
                        talk(peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


def banner(peer: socket.socket) -> None:
    peer.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
    peer.recv(1000)


def http(peer: socket.socket) -> None:
    peer.recv(1000)
    peer.sendall(b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n")


def silent(peer: socket.socket) -> None:
    peer.recv(1000)


def alert(peer: socket.socket) -> None:
    peer.recv(1000)
    peer.sendall(b"\x15\x03\x01\x00\x02\x02\x46")


@pytest.mark.parametrize(
    ("talk", "sentence"),
    [
        (banner, "What answers at .* is not a chatd: it says “SSH-2.0-OpenSSH_9.2p1”."),
        (http, "What answers at .* is not a chatd: it says “HTTP/1.1 400 Bad Request”."),
        (silent, r".* closes the connection without a word: it is not a chatd, or speaks TLS \(--tls\)."),
        (alert, ".* speaks TLS: try again with --tls."),
    ],
)
def test_not_a_chatd(tmp_path: Path, talk: Callable[[socket.socket], None], sentence: str) -> None:
    with server(talk) as address:
        code, out, err = run(tmp_path, "", address, "--name", "ana")
    assert (code, out) == (1, "")
    assert re.fullmatch(f"! {sentence}\n", err)


WELCOME = (
    b'{"type":"welcome","name":"ana","token":"t","server":"x","log":"l","resumed":false,"motd":"\\u001b[2Jm"}\n'
)
ROOM = b'{"type":"room","room":"lobby","seq":0,"first":1,"count":1,"names":["\\u001b]0;x\\u0007"]}\n'


def hostile(peer: socket.socket) -> None:
    peer.recv(10_000)
    peer.sendall(b"# a greeting that came too early\r\n\x00\xff\xfe\r\n")
    peer.sendall(WELCOME + ROOM)
    for junk in (
        b"\x00\xff\xfe\n",
        b"{\n",
        b"[" * 100_000 + b"\n",
        b'{"type":"nonsense","x":1}\n',
        b'{"type":"message","room":"lobby"}\n',
        b'{"type":"message","room":"lobby","seq":1e400,"name":"x","at":"","text":""}\n',
        b'{"type":"message","room":"lobby","seq":9007199254740993,"name":"x","at":"","text":"beyond"}\n',
        b'{"type":"message","room":"lobby","seq":1,"name":"\\u001b[31mx","at":"\\u001b[2J","text":"\\r\\nfake\\u202e"}\n',
        b'{"type":"message","room":"lobby","seq":2,"name":"","at":"0001-01-01T00:00:00Z","text":"\\ud800"}\n',
        b'{"type":"kept","room":"lobby","seq":-5,"id":"nobody"}\n',
        b'{"type":"joined","room":"lobby","names":[],"total":-1,"count":-7}\n',
        b'{"type":"left","room":"elsewhere","names":["\\u009b2J"],"total":1,"count":0}\n',
        b'{"type":"gap","room":"lobby","first":9,"last":-9}\n',
        b'{"type":"history","room":"lobby","messages":[],"id":"none"}\n',
        b'{"type":"error","code":"\\u001b","text":"\\u001b[2J\\nsecond","retry":true}\n',
        b'{"type":"waiting","id":"x"}\n',
        b'{"type":"room","room":"lobby","seq":-9,"first":-9,"count":-9,"names":[],"reset":true}\n',
        b'{"type":"message","room":"lobby","seq":3,"name":"x","at":"2026-11-22T14:05:31.250Z","text":"the end"}\n',
        b"x" * 1_000_000 + b"\n",
    ):
        peer.sendall(junk)
    peer.recv(10_000)
    peer.sendall(b'{"type":"goodbye","reason":"\\u001b[2Jbye","retry_after":1e300}\n')


def test_hostile_bytes(tmp_path: Path) -> None:
    with server(hostile) as address:
        code, out, err = run(tmp_path, "", address, "--name", "ana")
    assert code == 0, err
    assert "Traceback" not in err
    assert out.endswith("x: the end\n")
    assert "beyond" not in out
    for text in (out, err):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", text), text
    assert err.count("something that this client does not understand") == 1


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of its own for localhost, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "chatd test")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def encrypted(tmp_path: Path, certificate: Path) -> Iterator[Daemon]:
    (tmp_path / "server").mkdir()
    port = f"ssl:0:privateKey={certificate}:certKey={certificate}:interface=127.0.0.1"
    with Daemon(tmp_path / "server", "--port", port) as made:
        yield made


def test_tls(tmp_path: Path, encrypted: Daemon, certificate: Path) -> None:
    for host in ("localhost", "127.0.0.1"):
        arguments = (f"{host}:{encrypted.port}", "--name", "ana", "--tls", "--ca", str(certificate))
        code, out, err = run(tmp_path, "hola\n", *arguments)
        assert (code, err) == (0, "")
        assert "ana: hola" in out


def test_a_certificate_that_nobody_trusts(tmp_path: Path, encrypted: Daemon) -> None:
    code, _, err = run(tmp_path, "hola\n", f"localhost:{encrypted.port}", "--name", "ana", "--tls")
    assert code == 1
    assert "is not signed by anybody whom this machine trusts (--ca FILE)." in err


def test_a_certificate_for_another_name(tmp_path: Path, encrypted: Daemon, certificate: Path) -> None:
    arguments = (f"127.0.0.2:{encrypted.port}", "--name", "ana", "--tls", "--ca", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.2", 0)) as listener:
        secure = context.wrap_socket(listener, server_side=True)

        def refuse() -> None:
            with contextlib.suppress(OSError):
                secure.accept()[0].recv(1000)

        thread = threading.Thread(target=refuse)
        thread.start()
        arguments = (f"127.0.0.2:{secure.getsockname()[1]}", *arguments[1:])
        code, _, err = run(tmp_path, "hola\n", *arguments)
        thread.join(PATIENCE)
        secure.close()
    assert code == 1
    assert "is for another name: it may not be the server that you mean." in err


def test_no_tls_where_there_should_be(tmp_path: Path, encrypted: Daemon) -> None:
    code, _, err = run(tmp_path, "", here(encrypted), "--name", "ana")
    assert code == 1
    assert re.fullmatch("! .* speaks TLS.*\n", err)


def test_tls_where_there_is_none(tmp_path: Path, daemon: Daemon) -> None:
    code, _, err = run(tmp_path, "", here(daemon), "--name", "ana", "--tls")
    assert code == 1
    assert re.fullmatch("! .* does not speak TLS: try again without --tls.\n", err)
