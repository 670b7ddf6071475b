"""What the options of the real daemon do: passwords, greetings, limits, logs, and where it listens."""

from __future__ import annotations

import json
import re
import stat
import time
from pathlib import Path

import pytest

from tests.certificate import make_certificate, trusting
from tests.daemon import Closed, Daemon, JsonClient, TextClient, connected, wait_until


@pytest.fixture
def password_file(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_text("open sesame\nthe rest is a comment\n")
    path.chmod(0o600)
    return str(path)


# The password


def test_people_are_asked_for_the_password(tmp_path: Path, password_file: str) -> None:
    with Daemon(tmp_path, "--password-file", password_file) as daemon:
        ana = daemon.text()
        ana.say("please")
        assert [ana.read() for _ in range(2)] == ["* Welcome to chatd.", "* What is the password?"]
        assert [ana.read() for _ in range(2)] == ["! This is not the password.", "* What is the password?"]
        ana.say("open sesame")
        assert ana.read() == "* What is your name?"
        ana.enter("ana")
        eve = daemon.text()
        eve.say("1\n2\n3\n4\n5\nopen sesame\neve\nit is me")
        assert eve.read_to_end().decode().splitlines()[-1] == "* Goodbye: too many tries."
        assert ana.sync() == []
    assert "sesame" not in daemon.log + daemon.output


def test_programs_say_the_password_in_their_hello(tmp_path: Path, password_file: str) -> None:
    with Daemon(tmp_path, "--password-file", password_file) as daemon:
        bot = daemon.json()
        for password in (None, "", "please", "open sesame "):
            bot.request("hello", name="bot", id="h", password=password)
            error = bot.read()
            assert (error["code"], error["retry"], error["id"]) == ("wrong_password", False, "h")
        bot.hello("bot", password="open sesame")
        # A token alone does not do.
        other = daemon.json()
        other.request("hello", name="bot", token=bot.token)
        assert other.read()["code"] == "wrong_password"
        other.hello("bot", token=bot.token, password="open sesame")


# What who joins is told


def test_the_message_of_the_day(tmp_path: Path) -> None:
    with Daemon(tmp_path, "--motd", "Be kind.\n* No shouting\x1b[2J") as daemon:
        ana = daemon.text()
        ana.say("ana")
        ana.until(r"\* What is your name\?")
        assert [ana.read() for _ in range(2)] == ["* Be kind.", "* * No shouting\ufffd[2J"]
        assert daemon.json().hello("bot")["motd"] == "Be kind.\n* No shouting\ufffd[2J"


def test_the_message_of_the_day_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "motd").write_text("Sé amable.\r\n\r\nUntil Friday.\n\n")
    with Daemon(tmp_path, environment={"CHATD_MOTD": "@motd"}) as daemon:
        assert daemon.json().hello("bot")["motd"] == "Sé amable.\n\nUntil Friday."


@pytest.mark.parametrize(("count", "shown"), [(0, []), (2, ["2", "3"]), (1000, ["1", "2", "3"])])
def test_how_much_of_the_past_people_are_shown(tmp_path: Path, count: int, shown: list[str]) -> None:
    with Daemon(tmp_path, "--history", str(count)) as daemon:
        ana = daemon.text("ana")
        ana.say("1\n2\n3")
        ana.sync()
        assert [line.rpartition(" ")[2] for line in daemon.text("bo").sync()] == shown


# Limits


def test_one_connection_too_many_is_told_so_in_its_own_kind(tmp_path: Path) -> None:
    with Daemon(tmp_path, "--max-clients", "2") as daemon:
        ana, bo = daemon.text("ana"), daemon.json("bo")
        person, bot, silent = daemon.text(), daemon.json(), daemon.text()
        person.say("cy")
        bot.request("hello", name="cy")
        for client in (person, silent):
            assert re.fullmatch(r"\* Goodbye: the server is full; come back in \d+ s\.", client.read())
            assert client.read_to_end() == b""
        goodbye = bot.read()
        assert (goodbye["type"], goodbye["reason"]) == ("goodbye", "the server is full")
        assert 1 <= goodbye["retry_after"] <= 300
        assert bot.read_to_end() == b""
        bo.say("still here", "1")
        ana.until("bo: still here")
        bo.close()
        wait_until(lambda: _comes_in(daemon), "there is a place again")


def _comes_in(daemon: Daemon) -> bool:
    try:
        daemon.text("cy")
    except Closed:
        return False
    return True


def test_the_limit_of_descriptors_is_raised_and_says_how_many_may_come(tmp_path: Path) -> None:
    limited = ["sh", "-c", 'ulimit -Sn 80 && ulimit -Hn 250 && exec "$@"', "sh"]
    with Daemon(tmp_path, before=limited) as daemon:
        crowd = [daemon.json(f"client{number}") for number in range(150)]
        assert re.fullmatch(r"\* Goodbye: the server is full; come back in \d+ s\.", daemon.text().read())
        crowd[0].say("we are all here", "1")
        for client in crowd:
            assert client.until("message")["text"] == "we are all here"


def test_a_flood_is_slowed_down_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
    with Daemon(tmp_path, "--rate", "20/2") as daemon:
        eve, ana, bo = daemon.json("eve"), daemon.json("ana"), daemon.json("bo")
        flood = [f"spam {number}" for number in range(45)]
        begun = time.monotonic()
        for number, text in enumerate(flood):
            eve.say(text, str(number))
        ana.say("may I?", "1")
        heard = [bo.until("message")["text"] for _ in range(46)]
        # At 10 a second, what is beyond the first 20 takes its time, and Ana does not wait for it.
        assert time.monotonic() - begun > 1.5
        assert heard.index("may I?") < 40
        heard.remove("may I?")
        assert heard == flood
        answers = eve.sync()
        assert [answer["code"] for answer in answers if answer["type"] == "error"] == ["too_fast"]
        assert [answer["id"] for answer in answers if answer["type"] == "kept"] == [str(n) for n in range(45)]
        assert not [answer for answer in ana.sync() if answer["type"] == "error"]


def test_there_are_no_more_rooms_than_allowed(tmp_path: Path) -> None:
    with Daemon(tmp_path, "--max-rooms", "2") as daemon:
        ana = daemon.json("ana")
        ana.request("join", room="tea")
        ana.until("room")
        ana.request("join", room="coffee", id="j")
        assert ana.until("error", id="j")["code"] == "too_many_rooms"


# The connection log


def test_the_log_in_json(tmp_path: Path) -> None:
    with Daemon(tmp_path, "--log-format", "json") as daemon:
        ana = daemon.text("ana")
        ana.say('"}\n{"event":"said"}')
        ana.say("/join tea")
        ana.say("exit")
        ana.read_to_end()
    entries = [json.loads(line) for line in daemon.log.splitlines()]
    kinds = [entry["event"] for entry in entries]
    assert kinds == [
        *("started", "connected", "named", "joined", "said", "said", "parted", "joined", "disconnected", "stopped")
    ]
    assert re.fullmatch(r"127\.0\.0\.1:\d+", entries[1]["peer"])
    assert [entry.get("text") for entry in entries[4:6]] == ['"}', '{"event":"said"}']
    assert entries[8].items() >= {"name": "ana"}.items()
    assert entries[8]["seconds"] >= 0


def test_the_log_in_text_has_no_forged_lines(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        ana = daemon.json("ana")
        ana.say('hola\n2026-01-01T00:00:00.000Z stopped seconds=1 "x"', "1")
        ana.until("kept")
    lines = daemon.log.splitlines()
    assert [line.split()[1] for line in lines] == [
        *("started", "connected", "named", "joined", "said", "disconnected", "stopped")
    ]
    assert stat.S_IMODE((tmp_path / "chat_server.log").stat().st_mode) == 0o640


def test_the_log_without_what_is_said(tmp_path: Path) -> None:
    with Daemon(tmp_path, "--no-log-messages") as daemon:
        ana = daemon.text("ana")
        ana.say("a secret")
        ana.sync()
    assert "secret" not in daemon.log + daemon.output
    assert "name=ana" in daemon.log


# Where it listens


def test_several_ports_are_one_chat(tmp_path: Path) -> None:
    path = str(tmp_path / "chat.sock")
    with Daemon(
        tmp_path, "--port", "0", "--port", "tcp:0:interface=127.0.0.1", "--port", f"unix:{path}"
    ) as daemon:
        assert len(set(daemon.ports)) == 2
        ana = daemon.text("ana")
        bo = TextClient(connected(("127.0.0.1", daemon.ports[1]))).enter("bo")
        cy = JsonClient(connected(path))
        cy.hello("cy")
        cy.say("hola", "1")
        for client in (ana, bo):
            client.until("cy: hola$")
        ana.say("hola, cy")
        assert cy.until("message", name="ana")["seq"] == 2
        bo.close()
        cy.close()
    assert "peer=unix" in daemon.log
    assert not Path(path).exists()


def test_a_socket_that_was_left_behind_is_taken_over(tmp_path: Path) -> None:
    path = str(tmp_path / "chat.sock")
    with Daemon(tmp_path, "--port", f"unix:{path}") as daemon:
        daemon.kill()
        assert Path(path).exists()
        daemon.start()
        ana = TextClient(connected(path)).enter("ana")
        ana.close()


def test_ports_from_the_environment(tmp_path: Path) -> None:
    path = str(tmp_path / "chat.sock")
    with Daemon(tmp_path, environment={"CHATD_PORT": f"0 unix:{path}"}) as daemon:
        daemon.text("ana")
        bo = TextClient(connected(path)).enter("bo")
        bo.close()


def test_both_kinds_of_addresses(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        daemon.text("ana")
        try:
            bo = TextClient(connected(("::1", daemon.port))).enter("bo")
        except OSError as error:
            pytest.skip(f"this machine has no IPv6: {error}")
        bo.close()
    assert re.search(r'peer="?127\.0\.0\.1:', daemon.log)
    assert re.search(r'peer="?\[::1\]:', daemon.log)


def test_tls(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "chat.pem")
    place = f"ssl:0:privateKey={certificate}:certKey={certificate}"
    with Daemon(tmp_path, "--port", place, "--port", "0", "--rate", "off") as daemon:
        trust = trusting(certificate)
        ana, bot = daemon.text("ana", tls=trust), daemon.json("bot", tls=trust)
        plain = TextClient(connected(("127.0.0.1", daemon.ports[1]))).enter("plain")
        bot.say("hola " * 500, "1")
        for client in (ana, plain):
            client.until("bot: hola hola ")
        ana.say("exit")
        assert ana.until(r"\* Goodbye")
        assert ana.read_to_end() == b""
        # What is no TLS harms nobody.
        stranger = daemon.peer()
        stranger.send(b"hello?\n" * 10)
        stranger.read_to_end()
        assert bot.sync()
        plain.close()
