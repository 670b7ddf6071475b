"""How things look: what happened → lines of styled fragments, for a terminal or for a pipe.

Whatever is not our own text is cleaned here, in one place: nothing that a server or a person sends reaches a
terminal as a control sequence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, timezone, tzinfo
from functools import singledispatchmethod
from typing import TypeAlias

from msgspec import Struct

from chatd import names, wire
from chatd.names import clean

#: A style's name ("" for none) and a piece of text.
Fragment: TypeAlias = tuple[str, str]
Line: TypeAlias = list[Fragment]


class Notice(Struct, frozen=True):
    """Something happened, in `room` where it belongs to one."""

    text: str
    room: str | None = None


class Complaint(Struct, frozen=True):
    """Something was refused, or is wrong."""

    text: str


class Page(Struct, frozen=True):
    """Messages that were asked for, oldest first, under a heading."""

    heading: str
    messages: Sequence[wire.Message]


Shown: TypeAlias = wire.Message | Notice | Complaint | Page

#: So many colours does `Look` give to names: the styles `name0`, `name1` …
NAME_COLOURS = 6


class Look:
    """Renders for one screen.

    `name` is one's own, `room` the one that is talked in: other rooms are named. For a `person` times are
    short, of the time `zone` (None: that of this machine), and a line says where another day begins than the
    one before, at first `today`; else they are whole and in UTC.
    """

    def __init__(self, *, person: bool, today: date | None = None, zone: tzinfo | None = None) -> None:
        self.name = ""
        self.room = ""
        self._person = person
        self._day = today
        self._zone = zone

    @singledispatchmethod
    def lines(self, shown: object) -> list[Line]:
        """The lines for something that happened."""
        raise TypeError(f"nobody knows how to show {shown!r}")

    @lines.register
    def _message(self, message: wire.Message) -> list[Line]:
        return [*self._new_day(message.at), self._said(message, self._time(message.at))]

    @lines.register
    def _notice(self, notice: Notice) -> list[Line]:
        return [[("notice", f"* {self._tag(notice.room)}{clean(text)}")] for text in notice.text.split("\n")]

    @lines.register
    def _complaint(self, complaint: Complaint) -> list[Line]:
        return [[("complaint", f"! {clean(text)}")] for text in complaint.text.split("\n")]

    @lines.register
    def _page(self, page: Page) -> list[Line]:
        found = [self._said(message, self._whole_time(message)) for message in page.messages]
        return [[("notice", f"* {clean(page.heading)}")], *found]

    def pending(self, say: wire.Say) -> Line:
        """A message that has no receipt yet."""
        text = f"{self.name} * {say.text}" if say.action else say.text
        return [("pending", f"… {self._tag(say.room)}{clean(text)}")]

    def _said(self, message: wire.Message, time: str) -> Line:
        mark = " * " if message.action else ": "
        head: Line = [("time", f"{time} ")]
        if tag := self._tag(message.room):
            head.append(("room", tag))
        head.append((self._name_style(message.name), clean(message.name)))
        return [*head, ("", mark), *self._text(clean(message.text))]

    def _name_style(self, name: str) -> str:
        if name == self.name:
            return "me"
        return f"name{sum(name.encode('utf-8', 'replace')) % NAME_COLOURS}"

    def _text(self, text: str) -> Line:
        pieces = mentions(text, self.name)
        return [("mention" if number % 2 else "", piece) for number, piece in enumerate(pieces) if piece]

    def _tag(self, room: str | None) -> str:
        return "" if room is None or room == self.room else f"[{clean(room)}] "

    def _time(self, at: str) -> str:
        when = moment(at)
        if not self._person:
            return f"[{when:%Y-%m-%d %H:%M:%S}Z]" if when else "[no time]"
        return f"{when.astimezone(self._zone):%H:%M}" if when else "--:--"

    def _whole_time(self, message: wire.Message) -> str:
        if not self._person:
            return f"#{message.seq} {self._time(message.at)}"
        when = moment(message.at)
        shown = f"{when.astimezone(self._zone):%Y-%m-%d %H:%M}" if when else "--:--"
        return f"#{message.seq} {shown}"

    def _new_day(self, at: str) -> list[Line]:
        when = moment(at)
        if not self._person or when is None:
            return []
        day = when.astimezone(self._zone).date()
        if day == self._day:
            return []
        self._day = day
        return [[("time", f"— {day:%Y-%m-%d} —")]]


def moment(at: str) -> datetime | None:
    """The moment, in UTC, that a message's `at` means; None where it means none."""
    try:
        found = datetime.fromisoformat(at.replace("Z", "+00:00"))
    except ValueError:
        return None
    # At the ends of the calendar there is no other time zone to go to.
    return found.astimezone(timezone.utc) if found.tzinfo and 1 < found.year < 9999 else None


def mentions(text: str, name: str) -> list[str]:
    """Cut `text` at the places where `name` is mentioned, as a whole word and whatever its case.

    Every second piece is a mention, the first and the last are none: joined, they are the text.
    """
    if not name or names.fold(name) not in names.fold(text):
        return [text]
    return re.split(rf"(?<!\w)(@?{re.escape(name)})(?!\w)", text, flags=re.IGNORECASE)
