"""Sessions at the real daemon, when connections are lost and when it is started anew: who keeps which name."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.daemon import Daemon, JsonClient, wait_until


def _is_free(daemon: Daemon, name: str) -> bool:
    """Whether a newcomer gets the name, which is free again afterwards."""
    client = daemon.json()
    client.request("hello", name=name)
    answer = client.read()
    if answer["type"] == "error":
        assert answer["code"] == "name_in_use"
    else:
        client.request("bye")
        client.until("goodbye")
    client.close()
    return bool(answer["type"] == "welcome")


def _said(client: JsonClient, text: str, id: str) -> int:
    """Say something. Returns its number."""
    client.say(text, id)
    seq = client.until("kept", id=id)["seq"]
    assert isinstance(seq, int)
    return seq


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_names_are_held_over_a_restart(tmp_path: Path, killed: bool) -> None:
    with Daemon(tmp_path, "--grace", "3") as daemon:
        ana, bo, person = daemon.json("ana"), daemon.json("bo"), daemon.text("cy")
        assert _said(ana, "before", "1") == 1
        assert _said(bo, "hola", "1") == 2
        person.say("I have no token")
        person.sync()
        daemon.kill() if killed else daemon.stop()
        daemon.restart()
        begun = time.monotonic()
        assert not _is_free(daemon, "ana")
        assert _is_free(daemon, "cy")
        again = daemon.json()
        assert again.hello("bo", token=bo.token, rooms={"lobby": 1})["resumed"] is True
        assert again.messages(1)[0]["text"] == "hola"
        wait_until(lambda: _is_free(daemon, "ana"), "the grace time is over")
        assert time.monotonic() - begun > 1
        # Bo came back in time.
        assert not _is_free(daemon, "bo")


def test_what_is_sent_again_long_after_is_stored_once(tmp_path: Path) -> None:
    with Daemon(tmp_path, "--grace", "0") as daemon:
        ana = daemon.json("ana")
        assert _said(ana, "was this kept?", "1") == 1
        daemon.kill()
        daemon.restart()
        other = daemon.json("ana")
        back = daemon.json()
        back.request("hello", name="ana", token=ana.token)
        assert back.until("error")["code"] == "name_in_use"
        welcome = back.hello("ana2", token=ana.token, rooms={"lobby": 0})
        assert (welcome["name"], welcome["resumed"]) == ("ana2", True)
        assert _said(back, "was this kept?", "1") == 1
        assert _said(back, "and this?", "2") == 2
        reader = daemon.json()
        reader.request("hello", name="reader", rooms={"lobby": 0})
        said = [(message["name"], message["text"]) for message in reader.messages(2)]
        assert said == [("ana", "was this kept?"), ("ana2", "and this?")]
        assert other.until("message", seq=2)["name"] == "ana2"


def test_who_is_lost_is_told_of_after_the_grace_time_only(tmp_path: Path) -> None:
    with Daemon(tmp_path, "--grace", "1.5") as daemon:
        bo, ana = daemon.json("bo"), daemon.json("ana")
        bo.until("joined")
        _said(ana, "hola", "1")
        ana.reset()
        begun = time.monotonic()
        assert bo.until("left")["names"] == ["ana"]
        assert time.monotonic() - begun > 1


def test_who_says_bye_or_nothing_at_all_frees_the_name_at_once(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        ana = daemon.json("ana")
        _said(ana, "hola", "1")
        ana.request("bye")
        ana.read_to_end()
        assert _is_free(daemon, "ana")
        silent = daemon.json("cy")
        silent.reset()
        wait_until(lambda: _is_free(daemon, "cy"), "a name that was never heard is free", within=5)


def test_the_log_has_one_id_for_good(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        first = daemon.json().hello("ana")["log"]
        daemon.kill()
        daemon.restart()
        assert daemon.json().hello("bo")["log"] == first
