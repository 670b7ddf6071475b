"""The connection log: who came, from where, what was said, who left and why.

Every entry is one event of Twisted's logger, published to a publisher of its own, with what people wrote in
its fields. An observer makes a line of it, which no field can forge a part of.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from typing import Literal, Protocol

from msgspec import json
from twisted.application.service import Service
from twisted.logger import ILogObserver, LogEvent, Logger, LogPublisher
from zope.interface import implementer

from chatd.events import Message
from chatd.logfile import LogFile
from chatd.names import UNSAFE, clean

_QUOTED = re.compile(r'[\s"\\=]')
"""What makes quotes necessary around a value of the text format."""


class Format(Protocol):
    """What an entry looks like in the file."""

    def line(self, at: int, kind: str, fields: dict[str, object]) -> bytes:
        """Return the line of one entry; `at` is in milliseconds since 1970."""

    def messages(self, messages: Sequence[Message]) -> bytes:
        """Return a line for each message."""


class ConnectionLog(Service):
    """Writes the connection log to the file at `path`.

    `format` is "text" (`key=value`) or "json" (an object a line). Without `messages`, what people say is left
    out. `max_bytes` and `keep` say when the file is rotated and how many old ones stay. `clock` returns
    seconds and never goes back.

    What comes before `startService` or after `stopService`, such as the farewells of connections that take
    their time to close, is written too; the file is closed between such entries, so that a fork does no harm.
    """

    name = "connection log"

    def __init__(
        self,
        path: str,
        format: Literal["text", "json"] = "text",  # the name of the option
        messages: bool = True,
        max_bytes: int = 10 * 1024 * 1024,
        keep: int = 5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        observer = _FileObserver(path, _FORMATS[format](), max_bytes, keep, clock)
        self._file = observer.file
        self._messages = messages
        self.publisher = LogPublisher(observer)
        self._log = Logger(namespace="chatd.connections", observer=self.publisher)

    def stopService(self) -> None:
        super().stopService()
        self._file.close()

    def reopen(self) -> None:
        """Open the file anew, after something else has moved it away."""
        self._file.reopen()

    def started(self, version: str, doors: Sequence[str]) -> None:
        """The server of this version listens; `doors` describes where, one text a door."""
        self._entry("chatd {version} started on {doors}", "started", version=version, doors=", ".join(doors))

    def stopped(self, seconds: float) -> None:
        """The server has stopped, after so long."""
        self._entry("chatd stopped after {seconds} s", "stopped", seconds=round(seconds, 3))

    def connected(self, connection: int, door: str, peer: str) -> None:
        """A connection with this number came in by `door`, from the address `peer`."""
        self._entry(
            "#{connection} connected to {door} from {peer}",
            "connected",
            connection=connection,
            door=door,
            peer=peer,
        )

    def named(self, connection: int, name: str, resumed: bool) -> None:
        """A connection said its name, or came back to a session that it had."""
        self._entry("#{connection} is {name}", "named", connection=connection, name=name, resumed=resumed)

    def joined(self, connection: int, name: str, room: str) -> None:
        """A connection went into a room."""
        self._entry("#{connection} {name} joined {room}", "joined", connection=connection, name=name, room=room)

    def parted(self, connection: int, name: str, room: str) -> None:
        """A connection went out of a room and stays connected."""
        self._entry("#{connection} {name} left {room}", "parted", connection=connection, name=name, room=room)

    def said(self, messages: Sequence[Message]) -> None:
        """A batch was delivered. It is one event, and one write to the file."""
        if self._messages and messages:
            self._log.info("{count} messages", event="said", count=len(messages), messages=messages)
            self._settle()

    def disconnected(self, connection: int, name: str | None, reason: str, seconds: float) -> None:
        """A connection is gone, after so many seconds; `name` is None where it never said one."""
        self._entry(
            "#{connection} {name} disconnected after {seconds} s: {reason}",
            "disconnected",
            connection=connection,
            name=name,
            seconds=round(seconds, 3),
            reason=reason,
        )

    def _entry(self, template: str, event: str, **fields: object) -> None:
        self._log.info(template, event=event, **fields)
        self._settle()

    def _settle(self) -> None:
        if not self.running:
            self._file.close()


@implementer(ILogObserver)
class _FileObserver:
    """Writes each event as lines of one format, with one write."""

    def __init__(self, path: str, style: Format, max_bytes: int, keep: int, clock: Callable[[], float]) -> None:
        self._style = style
        self.file = LogFile(path, self._lost, max_bytes, keep, clock)

    def __call__(self, event: LogEvent) -> None:
        if event["event"] == "said":
            self.file.write(self._style.messages(event["messages"]))
            return
        fields = {
            key: value
            for key, value in event.items()
            if key != "event" and value is not None and not key.startswith("log_")
        }
        self.file.write(self._style.line(int(event["log_time"] * 1_000), event["event"], fields))

    def _lost(self, lines: int) -> bytes:
        return self._style.line(int(time.time() * 1_000), "lost", {"lines": lines})


class _Times:
    """Milliseconds since 1970 as RFC 3339, quick where many are the same, or fall in the same second."""

    def __init__(self) -> None:
        self._second = self._at = -1
        self._prefix = self._shown = ""

    def __call__(self, at: int) -> str:
        if at != self._at:
            self._at = at
            self._shown = self._show(at)
        return self._shown

    def _show(self, at: int) -> str:
        second, thousandths = divmod(at, 1_000)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._prefix}.{thousandths:03d}Z"


class _Text:
    """`2026-11-22T14:05:03.123Z joined connection=7 name=ana room=lobby`"""

    def __init__(self) -> None:
        self._time = _Times()

    def line(self, at: int, kind: str, fields: dict[str, object]) -> bytes:
        pairs = " ".join(f"{key}={_value(value)}" for key, value in fields.items())
        return f"{self._time(at)} {kind} {pairs}\n".encode()

    def messages(self, messages: Sequence[Message]) -> bytes:
        return "".join([self._message(message) for message in messages]).encode()

    def _message(self, message: Message) -> str:
        words = "action" if message.action else "text"
        return (
            f"{self._time(message.at)} said room={_word(message.room)} seq={message.seq}"
            f" name={_word(message.name)} {words}={_quoted(message.text)}\n"
        )


class _Json:
    """`{"at":"2026-11-22T14:05:03.123Z","event":"joined","connection":7,"name":"ana","room":"lobby"}`"""

    def __init__(self) -> None:
        self._time = _Times()
        self._encoder = json.Encoder()

    def line(self, at: int, kind: str, fields: dict[str, object]) -> bytes:
        safe = {key: clean(value) if isinstance(value, str) else value for key, value in fields.items()}
        return self._encoder.encode({"at": self._time(at), "event": kind, **safe}) + b"\n"

    def messages(self, messages: Sequence[Message]) -> bytes:
        return self._encoder.encode_lines(
            [
                {
                    "at": self._time(message.at),
                    "event": "said",
                    "room": clean(message.room),
                    "seq": message.seq,
                    "name": clean(message.name),
                    "action" if message.action else "text": clean(message.text),
                }
                for message in messages
            ]
        )


_FORMATS: dict[str, Callable[[], Format]] = {"text": _Text, "json": _Json}


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return text if text and text.isprintable() and not _QUOTED.search(text) else _quoted(text)


# The same rooms and names come again and again.
_word = lru_cache(4096)(_value)


def _quoted(text: str) -> str:
    """Return `text` in double quotes, which it cannot end."""
    if '"' in text or "\\" in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    if not text.isprintable():
        text = UNSAFE.sub(_escape, text)
    return f'"{text}"'


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
