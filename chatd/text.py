"""The dialect of people with nc or telnet: plain lines of text.

What a person says is shown as `ana: hola`. The server's notices begin with `* ` and its complaints with `! `:
nothing that a person says can begin so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import NamedTuple

from twisted.internet.defer import Deferred

from chatd import errors, wire
from chatd.events import Joined, Left, Message, Part, Presence
from chatd.interfaces import IDoor
from chatd.member import JOIN_WEIGHT, SEARCH_WEIGHT, Context, Member, Result
from chatd.room import Room

LOBBY = "lobby"
TRIES = 5
#: A notice names so many people; the rest are counted.
NAMES = 10
EOL = b"\r\n"

#: Telnet's commands (RFC 854): a subnegotiation, a negotiation with its option, any other.
_TELNET = re.compile(rb"\xff(?:\xfa.*?\xff\xf0|[\xfb-\xfe].?|[^\xff]|\xff|$)", re.DOTALL)


def notice(text: str) -> bytes:
    """A line of the server's own."""
    return f"* {text}".encode() + EOL


def complaint(text: str) -> bytes:
    """A line about something that went wrong."""
    return f"! {text}".encode() + EOL


def spoken(said: Message) -> str:
    """Who says what."""
    return f"{said.name} * {said.text}" if said.action else f"{said.name}: {said.text}"


def recorded(said: Message) -> bytes:
    """A line of the past: with its number and its time."""
    at = wire.timestamp(said.at)
    return f"#{said.seq} [{at[:10]} {at[11:16]}Z] {spoken(said)}".encode() + EOL


def listed(names: Sequence[str], total: int) -> str:
    """Some names, and how many more there are."""
    shown = ", ".join(names[:NAMES])
    return f"{shown} and {total - NAMES} more" if total > NAMES else shown


class Text:
    """What happens, as lines for people."""

    echoes = False

    def encode(self, messages: Sequence[Message]) -> list[Part]:
        return [said.encoded.get("text") or self._part(said) for said in messages]

    def announce(self, event: Joined | Left | Presence) -> bytes:
        if isinstance(event, Presence):
            return b""
        verb = "joined" if isinstance(event, Joined) else "left"
        here = f" ({event.count} here)" if event.total > 1 else ""
        return notice(f"{listed(event.names, event.total)} {verb}{here}")

    @staticmethod
    def _part(said: Message) -> Part:
        part = said.encoded["text"] = Part(spoken(said).encode() + EOL, said.seq)
        return part


class Command(NamedTuple):
    """A command: what does it, how it is written, and what it is for."""

    do: Callable[[TextMember, str], Result]
    usage: str
    help: str

    def accepts(self, argument: str) -> bool:
        """Whether the argument is there that it needs, and none that it does not know."""
        _, _, wanted = self.usage.partition(" ")
        if wanted.startswith("["):
            return True
        return bool(argument) == bool(wanted)


class TextMember(Member):
    """A person on a plain connection: first asked for the password, where there is one, and a name."""

    resumable = False
    dialect = Text()

    def __init__(self, context: Context, door: IDoor, transport: object, number: int) -> None:
        super().__init__(context, door, transport, number)
        self._ids = count(1)
        self._tries = 0
        self._password: str | None = None
        self._room = ""
        #: Up to this number, the room's log is shown as the past.
        self._past = 0
        self._told_encoding = False
        self._asking_password = context.hub.settings.password is not None

    def greet(self) -> None:
        """The first lines."""
        self._notice("Welcome to chatd.")
        self._ask()

    def line_received(self, line: bytes) -> Deferred[None] | None:
        self.weight = 1
        text = self._decode(line).strip()
        if self.session is None:
            return self.perform(lambda: self._introduce(text))
        if text == "exit":
            return self.perform(self.depart)
        if text.startswith("/") and not text.startswith("//"):
            return self.perform(lambda: self._command(text))
        if not text:
            return None
        text = text[1:] if text.startswith("//") else text
        return self.perform(lambda: self._say(text))

    def line_too_long(self) -> None:
        self.complain(errors.LineTooLong(f"A line has at most {wire.MAX_LINE} bytes: this one is lost."))

    def complain(self, error: errors.ChatError, id: str | None = None) -> None:
        self.outbox.answer(complaint(str(error)))

    def say_goodbye(self, reason: str, retry_after: float | None) -> None:
        again = "" if retry_after is None else f"; come back in {max(1, round(retry_after))} s"
        self._notice(f"Goodbye: {reason}{again}." if reason != "bye" else "Goodbye.")

    def render(self, room: Room, messages: Sequence[Message]) -> list[Part]:
        own = self.session.id if self.session else None
        past, new = [], []
        for said in messages:
            if said.seq <= self._past:
                past.append(Part(recorded(said), said.seq))
            elif said.session != own:
                new.append(said)
        return past + self.dialect.encode(new)

    def gap(self, room: Room, first: int, last: int) -> bytes:
        return notice(f"messages {first} to {last} are no longer kept")

    def waiting(self, id: str) -> None:
        self._notice("The database is slow: your message is not kept yet, and nobody has seen it.")

    def _notice(self, text: str) -> None:
        self.outbox.answer(notice(text))

    def _decode(self, line: bytes) -> str:
        if b"\xff" in line:
            line = _TELNET.sub(b"", line)
        # Telnet sends a lone CR as CR NUL.
        line = line.rstrip(b"\r\0")
        try:
            return line.decode()
        except UnicodeDecodeError:
            if not self._told_encoding:
                self._told_encoding = True
                self.outbox.answer(complaint("This was not UTF-8: what could not be read is shown as \ufffd."))
            return line.decode(errors="replace")

    # Before there is a name

    def _ask(self) -> None:
        self._notice("What is the password?" if self._asking_password else "What is your name?")

    async def _introduce(self, text: str) -> None:
        if text == "exit":
            await self.depart()
        elif self._asking_password:
            self._check_password(text)
        else:
            await self._hello(text)

    def _check_password(self, text: str) -> None:
        try:
            self.hub.check_password(text)
        except errors.WrongPassword as error:
            self._try_again(error)
        else:
            self._password = text
            self._asking_password = False
            self._ask()

    async def _hello(self, name: str) -> None:
        try:
            welcome = await self.hub.hello(self, name, password=self._password)
        except (errors.BadName, errors.NameInUse) as error:
            self._try_again(error)
            return
        self.session = welcome.session
        if self.gone:
            self.hub.lost(self, clean=True)
            return
        self.context.log.named(self.number, self.session.name, False)
        for line in (self.context.motd or "").splitlines():
            self._notice(line)
        self._notice(f"Hello {self.session.name}. /help lists what you can do, exit leaves.")
        await self._enter(LOBBY, _last(self.context.history))

    def _try_again(self, error: errors.ChatError) -> None:
        self.complain(error)
        self._tries += 1
        if self._tries < TRIES:
            self._ask()
        else:
            self.goodbye("too many tries", None)

    # Afterwards

    def _say(self, text: str, action: bool = False) -> Deferred[None] | None:
        return self.hub.say(self, self._place(), text, str(next(self._ids)), action)

    def _place(self) -> str:
        if not self._room:
            raise errors.NotInRoom("You are in no room: /rooms lists them, /join ROOM goes to one.")
        return self._room

    def _command(self, text: str) -> Result:
        name, _, argument = text[1:].partition(" ")
        command = COMMANDS.get(name.lower())
        if command is None:
            raise errors.BadRequest(f"There is no /{name[:32]}: /help lists what there is.")
        argument = argument.strip()
        if not command.accepts(argument):
            raise errors.BadRequest(f"Write it so: {command.usage}")
        return command.do(self, argument)

    async def _enter(self, name: str, after: int | None) -> None:
        # What it has said is part of the past by then.
        await self.hub.settled(self)
        entered = await self.hub.join(self, name, after)
        room = entered.room
        if room.name != self._room:
            if self._room:
                self._part(self._room)
            self._room = room.name
            self.context.log.joined(self.number, self.session.name, room.name)  # type: ignore[union-attr]
            here = listed(entered.names, entered.count)
            self._notice(f"You are in {room.name}, {entered.count} here: {here}. Last message: #{room.last}.")
        self._past = room.last
        await self.outbox.caught_up()

    def _part(self, room: str) -> None:
        self.hub.leave(self, room)
        self.context.log.parted(self.number, self.session.name, room)  # type: ignore[union-attr]

    def do_help(self, _: str) -> None:
        """/help: list what you can do."""
        for command in COMMANDS.values():
            self._notice(f"{command.usage:16} {command.help}")
        self._notice(f"{'exit':16} leave the chat.")
        self._notice(f"{'//TEXT':16} say something that begins with a slash.")

    def do_who(self, _: str) -> None:
        """/who: list who is here."""
        room = self.rooms[self._place()]
        names = room.names(wire.MAX_NAMES)
        more = f" and {room.count - len(names)} more" if room.count > len(names) else ""
        self._notice(f"{room.count} in {room.name}: {', '.join(names)}{more}.")

    async def do_rooms(self, _: str) -> None:
        """/rooms: list the rooms."""
        for room in await self.hub.rooms(self):
            self._notice(f"{room.name}: {room.count} here, last message #{room.last}.")

    async def do_join(self, room: str) -> None:
        """/join ROOM: go to another room, or make one."""
        self.weight = JOIN_WEIGHT
        await self._enter(room, _last(self.context.history))

    def do_me(self, text: str) -> Deferred[None] | None:
        """/me TEXT: say what you do: /me waves."""
        return self._say(text, action=True)

    async def do_history(self, argument: str) -> None:
        """/history [N]: show the last messages again."""
        await self._replay(_last(_number(argument or str(self.context.history or 20), "/history 50")))

    async def do_since(self, argument: str) -> None:
        """/since N: show all messages after number N."""
        await self._replay(_number(argument, "/since 120"))

    async def do_search(self, words: str) -> None:
        """/search WORDS: show the messages with all these words."""
        self.weight = SEARCH_WEIGHT
        await self.hub.settled(self)
        found = await self.hub.search(self, self._place(), words)
        for said in reversed(found):
            self.outbox.answer(recorded(said))
        self._notice(f"{len(found)} found.")

    def do_quit(self, _: str) -> Result:
        """/quit: leave the chat."""
        return self.depart()

    async def _replay(self, after: int | None) -> None:
        await self._enter(self._place(), after)
        self._notice(f"That was up to #{self._past}.")


def _last(count: int) -> int | None:
    """The cursor for so many of the last messages."""
    return -count or None


def _number(text: str, example: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise errors.BadRequest(f"This takes a number, so: {example}")
    return int(text)


def _commands() -> Iterable[tuple[str, Command]]:
    for attribute, method in vars(TextMember).items():
        if attribute.startswith("do_"):
            usage, _, purpose = (method.__doc__ or "").partition(": ")
            yield attribute[3:], Command(method, usage, purpose)


COMMANDS: dict[str, Command] = dict(_commands())
