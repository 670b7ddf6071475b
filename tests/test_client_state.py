"""What the client remembers on disk."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from chatd import wire
from chatd.client.state import MAX_CHATS, Chat, State, StateFile, StateUnusable, folder

#: Saves states without end: their outboxes have 1, 2, 3 … messages.
SAVES = """
import sys
from pathlib import Path
from chatd import wire
from chatd.client.state import StateFile
file = StateFile.open(Path(sys.argv[1]), None)
file.state.name = "ana"
print("here", flush=True)
while True:
    file.state.chat.outbox.append(wire.Say(id=str(len(file.state.chat.outbox)), room="lobby", text="x" * 200))
    file.note_down(file.state)
    file.save()
"""


def saved(where: Path, name: str, **fields: object) -> Path:
    """A state of that name, which nobody uses now."""
    file = StateFile.open(where, name)
    file.state.name = name
    file.state.chats["log"] = Chat(**fields)  # type: ignore[arg-type]
    file.state.log = "log"
    file.note_down(file.state)
    file.save()
    file.close()
    return file.path


def test_where_it_is() -> None:
    assert folder({"XDG_STATE_HOME": "/x"}, "Chat.Example:5000") == Path("/x/chatd/chat.example:5000")
    assert folder({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "h:1") == Path("/h/.local/state/chatd/h:1")
    assert folder({"HOME": "/h"}, "../..:1") == Path("/h/.local/state/chatd/..%2F..:1")


def test_what_was_saved_is_there(tmp_path: Path) -> None:
    outbox = [wire.Say(id="1", room="lobby", text="hola", action=True)]
    saved(tmp_path, "ana", token="t", rooms={"lobby": 7, "dev": None}, room="dev", outbox=outbox)
    file = StateFile.open(tmp_path, None)
    assert (file.state.name, file.state.log, file.note) == ("ana", "log", "")
    assert file.state.chat == Chat(token="t", rooms={"lobby": 7, "dev": None}, room="dev", outbox=outbox)
    file.close()


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    where = tmp_path / "state" / "server"
    path = saved(where, "ana")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(where.stat().st_mode) == 0o700


def test_two_clients_at_a_time_have_two_states(tmp_path: Path) -> None:
    saved(tmp_path, "ana", token="t")
    first = StateFile.open(tmp_path, None)
    second = StateFile.open(tmp_path, None)
    assert first.state.chat.token == "t"
    assert second.state == State()
    assert first.path != second.path
    assert "another client of yours runs as ana" in second.note
    assert first.note == ""
    first.close()
    again = StateFile.open(tmp_path, None)
    assert again.path == first.path
    again.close()
    second.close()


def test_each_name_has_its_own(tmp_path: Path) -> None:
    ana, bob = saved(tmp_path, "ana", token="a"), saved(tmp_path, "bob", token="b")
    for name, path in (("ana", ana), ("bob", bob), ("ANA", ana)):
        file = StateFile.open(tmp_path, name)
        assert file.path == path
        file.close()
    new = StateFile.open(tmp_path, "cy")
    assert new.path not in (ana, bob)
    new.close()


def test_without_a_name_it_is_the_one_used_last(tmp_path: Path) -> None:
    ana, bob = saved(tmp_path, "ana"), saved(tmp_path, "bob")
    os.utime(bob, (1, 1))
    file = StateFile.open(tmp_path, None)
    assert file.path == ana
    file.close()


def test_another_name_is_nobodys_business(tmp_path: Path) -> None:
    saved(tmp_path, "ana")
    first = StateFile.open(tmp_path, "ana")
    second = StateFile.open(tmp_path, "bob")
    assert second.note == ""
    first.close()
    second.close()


def test_what_cannot_be_read_is_put_aside(tmp_path: Path) -> None:
    path = saved(tmp_path, "ana")
    path.write_text("{")
    file = StateFile.open(tmp_path, "ana")
    assert file.state == State()
    assert str(path.with_suffix(".broken")) in file.note
    assert path.with_suffix(".broken").read_text() == "{"
    file.close()


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateUnusable, match=r"file.*: Not a directory"):
        StateFile.open(tmp_path / "file" / "server", None)


def test_a_failed_save_leaves_the_one_before(tmp_path: Path) -> None:
    path = saved(tmp_path, "ana", token="before")
    file = StateFile.open(tmp_path, "ana")
    path.with_suffix(".new").mkdir()
    file.state.chat.token = "after"
    with pytest.raises(OSError, match="Is a directory"):
        file.note_down(file.state)
        file.save()
    assert json.loads(path.read_text())["chats"]["log"]["token"] == "before"
    path.with_suffix(".new").rmdir()
    file.note_down(file.state)
    file.save()
    assert json.loads(path.read_text())["chats"]["log"]["token"] == "after"
    file.close()


def test_what_did_not_change_is_not_written(tmp_path: Path) -> None:
    path = saved(tmp_path, "ana")
    file = StateFile.open(tmp_path, "ana")
    file.note_down(file.state)
    file.save()
    written = path.stat().st_ino
    file.note_down(file.state)
    file.save()
    assert path.stat().st_ino == written
    file.close()


def test_databases_that_nothing_waits_for_are_forgotten() -> None:
    state = State(log="now", chats={f"l{number}": Chat() for number in range(MAX_CHATS * 2)})
    state.chats["waiting"] = Chat(outbox=[wire.Say(id="1", room="lobby", text="hola")])
    state.chats["now"] = Chat()
    state.forget()
    assert len(state.chats) == MAX_CHATS + 1
    assert {"waiting", "now", f"l{MAX_CHATS * 2 - 1}"} <= set(state.chats)


@pytest.mark.parametrize("kilobytes", [1, 30, 300])
def test_killed_while_it_saves(tmp_path: Path, kilobytes: int) -> None:
    """Whenever the client dies, there is a whole state, no older than the last one that was saved."""
    with subprocess.Popen(
        [sys.executable, "-c", SAVES, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        path = tmp_path / "1.json"
        while not path.exists() or path.stat().st_size < kilobytes * 1000:
            assert process.poll() is None
        before = len(json.loads(path.read_bytes())["chats"][""]["outbox"])
        other = StateFile.open(tmp_path, None)
        assert other.path != path
        other.close()
        process.kill()
    file = StateFile.open(tmp_path, "ana")
    assert file.path == path
    assert [say.id for say in file.state.chat.outbox] == [str(n) for n in range(len(file.state.chat.outbox))]
    assert len(file.state.chat.outbox) >= before
    file.close()
