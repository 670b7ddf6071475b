"""What the client remembers when it is not running: a file for each name at each server.

The folder of a server (`$XDG_STATE_HOME/chatd/HOST:PORT`) holds `1.json`, `2.json` …, each with a lock beside
it, so that two clients at a time have two states. A file is replaced as a whole: whenever the client dies,
there is the state before or the state after.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from urllib.parse import quote

import msgspec
from msgspec import Struct, field

from chatd import names, wire
from chatd.errors import BadName

#: So many databases are remembered for an address; the ones with unsent messages do not count.
MAX_CHATS = 8


class Chat(Struct, omit_defaults=True):
    """What is known of one database, which the server names by its `log`.

    `rooms` maps each room the client is in to the last number it has shown, None before the first; `room` is
    the one that is talked in. `outbox` holds what was said and has no receipt yet.
    """

    token: str | None = None
    rooms: dict[str, int | None] = field(default_factory=dict)
    room: str = ""
    outbox: list[wire.Say] = field(default_factory=list)


class State(Struct, omit_defaults=True):
    """What is known of one address: our name, the database seen last ("" for none), and each database."""

    name: str = ""
    log: str = ""
    chats: dict[str, Chat] = field(default_factory=dict)

    @property
    def chat(self) -> Chat:
        """What is known of the database seen last."""
        return self.chats.setdefault(self.log, Chat())

    def forget(self) -> None:
        """Keep only the databases used last, and those that messages wait for."""
        idle = [log for log, chat in self.chats.items() if log != self.log and not chat.outbox]
        for log in idle[: -MAX_CHATS + 1]:
            del self.chats[log]


class StateUnusable(Exception):
    """The state cannot be kept there; the text is one sentence that says why."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(State)


def folder(environ: Mapping[str, str], address: str) -> Path:
    """Where the states for the server at `address` are, by the XDG base directory specification."""
    home = Path(environ.get("XDG_STATE_HOME") or "")
    if not home.is_absolute():  # the specification: relative paths are to be ignored
        home = Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    return home / "chatd" / quote(address.lower(), safe="[]:")


class StateFile:
    """A state on disk that belongs to this process until `close`.

    `state` is what was read. `note` is a sentence for the person where something is not as usual, else "".
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.note = ""
        self._lock = lock
        self._saved = self._next = b""
        self._sync = False
        self._outbox: list[wire.Say] = []
        self.state = self._read()

    @classmethod
    def open(cls, folder: Path, name: str | None) -> StateFile:
        """The state that was used last in this folder, with `name` where given, and by nobody else now.

        Where there is none, a new one. Raises StateUnusable.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return cls._existing(folder, name) or cls._new(folder)
        except OSError as error:
            where = error.filename or folder
            raise StateUnusable(f"nothing can be remembered: {where}: {error.strerror}") from None

    @classmethod
    def _existing(cls, folder: Path, name: str | None) -> StateFile | None:
        note = ""
        for path in sorted(folder.glob("[0-9]*.json"), key=_used, reverse=True):
            if (lock := _locked(path)) is None:
                if _meant(_peek(path), name):
                    note = f"another client of yours runs as {_peek(path).name}: this one has its own memory"
                continue
            found = cls(path, lock)
            if _meant(found.state, name) or found.note:
                found.note = found.note or note
                return found
            found.close()
        if note:
            new = cls._new(folder)
            new.note = note
            return new
        return None

    @classmethod
    def _new(cls, folder: Path) -> StateFile:
        for number in count(1):
            path = folder / f"{number}.json"
            if path.exists() or (lock := _locked(path)) is None:
                continue
            if not path.exists():
                return cls(path, lock)
            os.close(lock)
        raise AssertionError("numbers do not end")

    def note_down(self, state: State) -> None:
        """Take `state` as it is now; `save` writes it."""
        state.forget()
        self._next = _encoder.encode(state)
        unsent = state.chat.outbox
        self._sync = self._sync or (len(unsent) > 0 and unsent != self._outbox)
        self._outbox = list(unsent)

    def save(self) -> None:
        """Write what was noted down last, if it has changed. Raises OSError: the one before is still there then.

        It is synced to the disk when messages were added, so that they outlive a power cut too.
        """
        if self._next != self._saved:
            _replace(self.path, self._next, sync=self._sync)
            self._saved, self._sync = self._next, False

    def close(self) -> None:
        """Let other clients have it."""
        os.close(self._lock)

    def _read(self) -> State:
        try:
            return _decoder.decode(self.path.read_bytes())
        except FileNotFoundError:
            return State()
        except (msgspec.DecodeError, RecursionError):
            broken = self.path.with_suffix(".broken")
            self.path.replace(broken)
            self.note = f"what was remembered is not readable and has been put aside as {broken}"
            return State()


def _meant(state: State, name: str | None) -> bool:
    return name is None or _key(state.name) == _key(name)


def _key(name: str) -> str:
    try:
        return names.person(name)[1]
    except BadName:
        return name


def _peek(path: Path) -> State:
    """The state that another process holds; an empty one where it has written none yet."""
    try:
        return _decoder.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return State()


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock beside `path`; None while another process does."""
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError:
        os.close(lock)
        raise
    return lock


def _replace(path: Path, data: bytes, *, sync: bool) -> None:
    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if sync:
            os.fsync(file.fileno())
    os.replace(new, path)
    if sync:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
