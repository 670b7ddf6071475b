"""The real client on a pseudo-terminal, with the real server."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client_pty import ClientTerminal, Emulator
from tests.daemon import Daemon

TIME = r"\d\d:\d\d"
PASTE = "\x1b[200~{}\x1b[201~"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    (tmp_path / "server").mkdir()
    with Daemon(tmp_path / "server") as made:
        yield made


def client(tmp_path: Path, daemon: Daemon, *arguments: str, **options: object) -> ClientTerminal:
    return ClientTerminal(tmp_path / "state", f"127.0.0.1:{daemon.port}", *arguments, **options)  # type: ignore[arg-type]


def come(terminal: ClientTerminal, name: str) -> None:
    """Until it is there, and has a prompt."""
    terminal.see(rf"\* connected to 127.0.0.1:\d+ as {name}")
    terminal.see(r"lobby>.*")


def test_a_conversation(tmp_path: Path, daemon: Daemon) -> None:
    bob = daemon.json("bob")
    with client(tmp_path, daemon, "--name", "ana") as ana:
        come(ana, "ana")
        ana.see(r"\* 2 people in lobby: (ana, bob|bob, ana)")
        ana.enter("hola")
        assert bob.until("message")["text"] == "hola"
        ana.see(f"{TIME} ana: hola")
        ana.type("half a li")
        ana.see("lobby> half a li")
        bob.say("hi Ana, there is something", "1")
        ana.see(f"{TIME} bob: hi Ana, there is something\nlobby> half a li")
        ana.enter("ne, žluť 日本")
        ana.see(f"{TIME} ana: half a line, žluť 日本")
        assert ana.count("hola") == 1
        assert ana.count("half a li") == 1
        assert "1" in ana.screen.styles("ana: hola")[0], "one's own name is bold"
        assert ana.screen.styles("Ana, there")[0] >= {"1", "33"}, "a mention stands out"
        assert not ana.screen.styles(", there")[0]
        ana.type("\x04")
        assert ana.wait() == 0
        assert ana.cooked
    assert bob.until("left")["names"] == ["ana"]


@pytest.mark.parametrize("farewell", ["exit\r", "/quit\r", "\x04", "\x03\x03"])
def test_leaving(tmp_path: Path, daemon: Daemon, farewell: str) -> None:
    with client(tmp_path, daemon, "--name", "ana") as ana:
        come(ana, "ana")
        ana.type(farewell)
        assert ana.wait() == 0
        assert ana.cooked
        assert ana.count("lobby>") == 0, "the prompt is gone"
    assert daemon.json("ana"), "the name is free"


def test_ctrl_c_takes_a_line_back(tmp_path: Path, daemon: Daemon) -> None:
    with client(tmp_path, daemon, "--name", "ana") as ana:
        come(ana, "ana")
        ana.type("not this\x03")
        ana.see("lobby>")
        ana.enter("but that")
        ana.see(f"{TIME} ana: but that")
        ana.type("\x03")
        ana.see(r"\* Ctrl-C once more leaves, as exit and Ctrl-D do")


def test_the_name_is_asked_for_and_remembered(tmp_path: Path, daemon: Daemon) -> None:
    with client(tmp_path, daemon, environment={"USER": "ana"}) as ana:
        ana.see("Your name: ana")
        ana.type("\x15")
        ana.enter("ana ana")
        ana.see(r"! A space cannot be in a name.*")
        ana.see("Another name:")
        ana.enter("bela")
        come(ana, "bela")
        ana.type("\x04")
        assert ana.wait() == 0
    with client(tmp_path, daemon) as again:
        come(again, "bela")
    with client(tmp_path, daemon, "--ephemeral") as other:
        other.see("Your name:.*")
        other.type("\x04")
        assert other.wait() == 0


def test_a_taken_name_is_asked_for_again(tmp_path: Path, daemon: Daemon) -> None:
    daemon.json("ana")
    with client(tmp_path, daemon, "--name", "Ana") as ana:
        ana.see("! .*in use.*")
        ana.see("Another name:")
        ana.enter("anna")
        come(ana, "anna")


def test_a_password_is_asked_for_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "password").write_text("sesame\n")
    (tmp_path / "password").chmod(0o600)
    with Daemon(tmp_path / "server", "--password-file", str(tmp_path / "password")) as daemon:
        with client(tmp_path, daemon, "--name", "ana") as ana:
            ana.see("Password:")
            ana.enter("wrong")
            ana.until(lambda text: text.count("!") == 2, "the second complaint")
            ana.enter("sesame")
            come(ana, "ana")
            assert b"sesame" not in ana.written
        with client(tmp_path, daemon, "--name", "bob", "--password-file", str(tmp_path / "password")) as bob:
            come(bob, "bob")


def test_the_server_is_killed_and_comes_back(tmp_path: Path, daemon: Daemon) -> None:
    bob = daemon.json("bob")
    with client(tmp_path, daemon, "--name", "ana") as ana:
        come(ana, "ana")
        bob.say("before", "1")
        ana.see(f"{TIME} bob: before")
        daemon.kill()
        ana.see(r"\* connection lost; trying again")
        ana.enter("typed while offline")
        ana.enter("/me waits")
        ana.see("… typed while offline\n… ana \\* waits\noffline: .*\nlobby>")
        daemon.restart()
        ana.see(r"\* connected again to .* as ana")
        ana.see(f"{TIME} ana: typed while offline\n{TIME} ana \\* waits\n(.*\n)*lobby>")
        ana.until(lambda text: "…" not in text and "offline:" not in text, "nothing is pending")
        assert [ana.count(text) for text in ("before", "typed while offline", "waits")] == [1, 1, 1]
    assert [message["text"] for message in log(daemon)] == ["before", "typed while offline", "waits"]


def test_the_client_is_killed_with_messages_that_wait(tmp_path: Path, daemon: Daemon) -> None:
    bob = daemon.json("bob")
    with client(tmp_path, daemon, "--name", "ana") as ana:
        come(ana, "ana")
        ana.enter("seen before")
        ana.see(f"{TIME} ana: seen before")
        daemon.kill()
        ana.see("offline: .*")
        ana.enter("waits on disk")
        ana.see("… waits on disk\n(.*\n)*lobby>")
        ana.kill()
    bob.close()
    daemon.restart()
    daemon.json("bob").say("said meanwhile", "1")
    with client(tmp_path, daemon) as again:
        come(again, "ana")
        again.see(f"{TIME} ana: waits on disk")
        again.see(f"{TIME} bob: said meanwhile")
        assert again.count("waits on disk") == 1
        assert again.count("seen before") == 0, "nothing is shown twice"
    assert sorted(message["text"] for message in log(daemon)) == ["said meanwhile", "seen before", "waits on disk"]


def test_ones_name_was_taken_while_one_was_away(tmp_path: Path, daemon: Daemon) -> None:
    """It is asked for, and tried again: a ghost of one's own may have it. What was being typed comes back."""
    with client(tmp_path, daemon, "--name", "ana") as ana:
        come(ana, "ana")
        ana.type("half a line")
        ana.see("lobby> half a line")
        ana.signal(signal.SIGSTOP)
        daemon.kill()
        for path in daemon.folder.glob("chat.db*"):
            path.unlink()
        daemon.restart()
        other = daemon.json("ana")
        ana.signal(signal.SIGCONT)
        ana.see("! .*in use.*")
        ana.see("Another name:")
        other.request("bye")
        ana.see(r"\* the server has another database than before: its messages are others")
        ana.see(r"\* connected again to .* as ana")
        ana.see("lobby> half a line")


def log(daemon: Daemon) -> list[dict[str, str]]:
    """All messages of the lobby, as somebody else reads them."""
    reader = daemon.json()
    reader.hello("reader", rooms={"lobby": 0})
    reader.request("history", room="lobby", after=0, id="all")
    messages: list[dict[str, str]] = reader.until("history", id="all")["messages"]
    return messages


def test_two_clients_at_a_time(tmp_path: Path, daemon: Daemon) -> None:
    with client(tmp_path, daemon, "--name", "ana") as first:
        come(first, "ana")
        with client(tmp_path, daemon) as second:
            second.see(r"\* another client of yours runs as ana: this one has its own memory")
            second.see("Your name:.*")
            second.enter("anna")
            come(second, "anna")
            second.enter("hola")
            first.see(f"{TIME} anna: hola")


def test_a_pasted_text_is_a_message_a_line(tmp_path: Path, daemon: Daemon) -> None:
    with client(tmp_path, daemon, "--name", "ana") as ana:
        come(ana, "ana")
        ana.type(PASTE.format("one\n/etc/passwd\n\nexit"))
        ana.see("lobby> one\n/etc/passwd\n\nexit")
        ana.type("\r")
        ana.see(f"{TIME} ana: one\n{TIME} ana: /etc/passwd\n{TIME} ana: exit")


def test_commands(tmp_path: Path, daemon: Daemon) -> None:
    with client(tmp_path, daemon, "--name", "ana") as ana:
        come(ana, "ana")
        ana.enter("/help")
        ana.see(r"\* /join ROOM +goes into the room, and talks there")
        ana.enter("//join is a command")
        ana.see(f"{TIME} ana: /join is a command")
        ana.enter("/nothing")
        ana.see("! There is no /nothing: .*")
        ana.enter("/who")
        ana.see(r"\* 1 person in lobby: ana")
        ana.enter("/history 5")
        ana.see(rf"\* the last message of lobby\n#1 \d{{4}}-\d\d-\d\d {TIME} ana: /join is a command")
        ana.enter("/search command")
        ana.see(r"\* 1 message found for command in lobby")
        ana.enter("/rooms")
        ana.see(r"\* lobby: 1 person, 1 message")


def test_several_rooms(tmp_path: Path, daemon: Daemon) -> None:
    bob = daemon.json("bob")
    with client(tmp_path, daemon, "--name", "ana") as ana:
        come(ana, "ana")
        ana.enter("/join dev")
        ana.see("dev>")
        ana.enter("in dev")
        ana.see(f"{TIME} ana: in dev")
        bob.say("to the lobby", "1")
        ana.see(rf"{TIME} \[lobby\] bob: to the lobby")
        ana.enter("/leave")
        ana.see(r"\* you left dev")
        ana.see("lobby>")
        bob.say("to the lobby again", "2")
        ana.see(f"{TIME} bob: to the lobby again")


def test_tab_and_history(tmp_path: Path, daemon: Daemon) -> None:
    daemon.json("bob")
    with client(tmp_path, daemon, "--name", "ana") as ana:
        come(ana, "ana")
        ana.type("bo\t")
        ana.see("lobby> bob:")
        ana.enter("hi")
        ana.see(f"{TIME} ana: bob: hi")
        ana.type("/his\t")
        ana.see("lobby> /history")
        ana.type("\x15\x1b[A")
        ana.see("lobby> bob: hi")
        assert ana.count("bob: hi") == 2


def test_a_long_line_and_a_narrower_window(tmp_path: Path, daemon: Daemon) -> None:
    bob = daemon.json("bob")
    with client(tmp_path, daemon, "--name", "ana", columns=40) as ana:
        come(ana, "ana")
        words = " ".join(f"word{number}" for number in range(12))
        ana.type(words)
        ana.until(lambda text: words in text.replace("\n", ""), "the long line")
        bob.say("interrupting", "1")
        ana.see(f"{TIME} bob: interrupting")
        ana.until(lambda text: f"lobby> {words}" in text.replace("\n", ""), "the long line, once more")
        assert ana.text.replace("\n", "").count("word11") == 1
        ana.enter("")
        ana.until(lambda text: f"ana: {words}" in text.replace("\n", ""), "the message")


def test_without_colours(tmp_path: Path, daemon: Daemon) -> None:
    bob = daemon.json("bob")
    with client(tmp_path, daemon, "--name", "ana", environment={"NO_COLOR": "1"}) as ana:
        come(ana, "ana")
        bob.say("hi ana", "1")
        ana.see(f"{TIME} bob: hi ana")
        ana.enter("/nothing")
        ana.see("! There is no /nothing.*")
        numbers = {n for found in re.findall(rb"\x1b\[([\d;]*)m", ana.written) for n in found.split(b";")}
        assert numbers <= {b"", b"0", b"1", b"2"}, numbers
        assert "1" in ana.screen.styles("ana")[0]


def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path, daemon: Daemon) -> None:
    bob = daemon.json("bob")
    with client(tmp_path, daemon, environment={"TERM": "dumb", "USER": "ana"}) as ana:
        ana.see(r"Your name: \[ana\]")
        ana.enter("")
        ana.see(r"\* connected to .* as ana")
        bob.say("hi", "1")
        ana.see(f"{TIME} bob: hi")
        ana.type("\x04")
        assert ana.wait() == 0
        assert b"\x1b" not in ana.written


def test_nobody_listens_yet(tmp_path: Path, daemon: Daemon) -> None:
    daemon.kill()
    with client(tmp_path, daemon, "--name", "ana") as ana:
        ana.see(r"! 127.0.0.1:\d+ refuses connections: nothing listens on that port\.")
        ana.see("! Trying again until it works; exit or Ctrl-D leaves.")
        ana.enter("typed before there was a server")
        daemon.restart()
        come(ana, "ana")
        ana.see(f"{TIME} ana: typed before there was a server")


def test_leaving_with_messages_that_wait(tmp_path: Path, daemon: Daemon) -> None:
    with client(tmp_path, daemon, "--name", "ana") as ana:
        come(ana, "ana")
        daemon.kill()
        ana.see("offline: .*")
        ana.enter("for later")
        ana.see("… for later\n(.*\n)*lobby>")
        ana.type("\x04")
        assert ana.wait() == 1
        assert "* 1 message is not sent yet, and will be the next time you are here." in ana.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end(tmp_path: Path, daemon: Daemon, number: signal.Signals) -> None:
    bob = daemon.json("bob")
    with client(tmp_path, daemon, "--name", "ana") as ana:
        come(ana, "ana")
        bob.until("joined")  # who comes and goes within a second is no news
        ana.signal(number)
        assert ana.wait() == 0
        assert ana.cooked
    assert bob.until("left")["names"] == ["ana"]


def test_the_window_is_closed(tmp_path: Path, daemon: Daemon) -> None:
    with client(tmp_path, daemon, "--name", "ana") as ana:
        come(ana, "ana")
        ana.hang_up()
        assert ana.wait() != 0


def test_not_a_chatd(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        ClientTerminal(tmp_path, f"127.0.0.1:{listener.getsockname()[1]}", "--name", "ana") as ana,
    ):
        peer, _ = listener.accept()
        peer.sendall(b"SSH-2.0-OpenSSH_9.2\x1b[2J\r\n")
        peer.close()
        assert ana.wait() == 1
        assert re.search(
            r"! What answers at .* is not a chatd: it says “SSH-2.0-OpenSSH_9.2\ufffd\[2J”",
            ana.text.replace("\n", ""),
        )


def test_the_emulator_knows_what_it_does_not_know() -> None:
    screen = Emulator(10, 3)
    screen.feed(b"abc\x1b[2D\x1b[Kx\r\n\x1b[1mbold\x1b[0m \xe6\x97\xa5x")
    assert screen.lines == ["ax", "bold 日x"]
    assert screen.styles("bold") == [frozenset("1")] * 4
    screen.feed(b"\r\n0123456789ab")
    assert screen.lines[2:] == ["0123456789", "ab"]
    for unknown in (b"\x1b[2J", b"\x1b]0;title\x07", b"\x9b", "\x9b".encode(), b"\x1b[6n", b"\x00"):
        with pytest.raises((AssertionError, UnicodeDecodeError)):
            Emulator(10, 3).feed(unknown + b" " * 20)
