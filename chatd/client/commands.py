"""What a line that begins with a slash does. The docstrings of the commands are what /help shows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from chatd import names, wire
from chatd.client.people import listed, people
from chatd.client.session import Session
from chatd.client.show import Complaint, Notice, Page, Shown
from chatd.errors import ChatError

#: /history shows so many messages where it is not told how many, and at most so many where it is.
HISTORY = 20
MAX_HISTORY = 1_000
_MAX_PEOPLE = 5_000
#: What people know from other chats.
_ALIASES = {"exit": "quit", "q": "quit", "part": "leave", "names": "who", "list": "rooms", "j": "join"}


class User(Protocol):
    """Who types the commands."""

    def show(self, shown: Shown) -> None:
        """Show them something."""

    def leave(self) -> None:
        """They leave the chat."""


class Commands:
    """The lines that one person types.

    A command is a method named `do_` and its name; the first line of its docstring begins with its usage, in
    which capitals are an argument and brackets one that may be missing.
    """

    def __init__(self, session: Session, user: User) -> None:
        self._session = session
        self._user = user

    def typed(self, text: str) -> None:
        """Do what somebody typed: one line, or a pasted text, which is said a line a message."""
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            if len(lines) == 1:
                self._line(lines[0])
            else:
                for line in lines:
                    self._session.say(line)
        except ChatError as error:
            self._session.refused += 1
            self._user.show(Complaint(str(error)))

    def _line(self, line: str) -> None:
        if line.strip() == "exit":
            self._user.leave()
        elif line.startswith("//") or not line.startswith("/"):
            self._session.say(line.removeprefix("/"))
        else:
            word, _, argument = line[1:].partition(" ")
            self._command(word.casefold(), argument.strip())

    def _command(self, word: str, argument: str) -> None:
        method = getattr(self, f"do_{_ALIASES.get(word, word)}", None)
        if method is None:
            self._user.show(
                Complaint(f"There is no /{word}: /help lists the commands, and //{word} says /{word}.")
            )
        elif wrong := misused(usage(method), argument):
            self._user.show(Complaint(wrong))
        else:
            method(argument)

    def do_help(self, argument: str) -> None:
        """/help: this list"""
        commands = (getattr(self, name).__doc__ for name in sorted(dir(self)) if name.startswith("do_"))
        lines = [line for line in commands if line]
        lines += ["//x: says /x", "exit, Ctrl-D: leaves, too"]
        width = max(line.index(": ") for line in lines)
        rows = (line.partition(": ") for line in lines)
        self._notice("\n".join(f"{used:<{width}}  {meaning}" for used, _, meaning in rows))

    def do_who(self, argument: str) -> None:
        """/who [ROOM]: who is in the room"""
        if room := self._here(argument):
            self._ask_members(room, None, [])

    def do_rooms(self, argument: str) -> None:
        """/rooms: all rooms, how many people are in each, and how many messages"""
        self._session.ask(wire.RoomsRequest(), wire.Rooms, self._show_rooms)

    def do_join(self, argument: str) -> None:
        """/join ROOM: goes into the room, and talks there"""
        self._session.join(names.room(argument))

    def do_leave(self, argument: str) -> None:
        """/leave [ROOM]: leaves the room"""
        if room := self._here(argument):
            if room in self._session.rooms:
                self._session.leave(room)
            else:
                self._user.show(Complaint(f"You are not in {room}."))

    def do_me(self, argument: str) -> None:
        """/me TEXT: says what you do"""
        self._session.say(argument, action=True)

    def do_history(self, argument: str) -> None:
        """/history [N]: the last N messages of the room, 20 where N is missing"""
        room = self._here("")
        if not argument.isascii() or not (argument.isdigit() or not argument):
            self._user.show(Complaint("/history [N]: N is a number, such as /history 50"))
        elif room:
            wanted = min(int(argument or HISTORY), MAX_HISTORY) if len(argument) < 9 else MAX_HISTORY
            self._ask_history(room, wanted, None, [])

    def do_search(self, argument: str) -> None:
        """/search WORDS: the messages of the room with all these words"""
        if room := self._here(""):
            heading = f"found for {argument} in {room}"
            request = wire.SearchRequest(room=room, words=argument)
            self._session.ask(request, wire.Results, partial(self._show_found, heading))

    def do_quit(self, argument: str) -> None:
        """/quit: leaves the chat"""
        self._user.leave()

    def _notice(self, text: str) -> None:
        self._user.show(Notice(text))

    def _here(self, argument: str) -> str:
        """The room that a command is about; "" after a complaint where there is none."""
        room = names.room(argument) if argument else self._session.room
        if not room:
            self._user.show(Complaint("You are in no room: /join ROOM goes into one."))
        return room

    def _ask_members(self, room: str, after: str | None, found: list[str]) -> None:
        request = wire.MembersRequest(room=room, after=after)
        self._session.ask(request, wire.Members, partial(self._show_members, room, found))

    def _show_members(self, room: str, found: list[str], answer: wire.Members) -> None:
        found = found + answer.names
        if answer.next is not None and answer.names and len(found) < _MAX_PEOPLE:
            self._ask_members(room, answer.next, found)
        else:
            more = " and more" if answer.next is not None else ""
            self._notice(f"{people(len(found))} in {room}: {listed(found, len(found))}{more}")

    def _show_rooms(self, answer: wire.Rooms) -> None:
        lines = [f"{listed.room}: {people(listed.count)}, {counted(listed.seq)}" for listed in answer.rooms]
        self._notice("\n".join(lines) or "there is no room yet")

    def _ask_history(self, room: str, wanted: int, before: int | None, found: list[wire.Message]) -> None:
        if wanted < 1:
            return
        request = wire.HistoryRequest(room=room, before=before, limit=min(wanted, wire.MAX_MESSAGES))
        self._session.ask(request, wire.History, partial(self._show_history, room, wanted, found))

    def _show_history(self, room: str, wanted: int, found: list[wire.Message], answer: wire.History) -> None:
        found = answer.messages + found
        missing = wanted - len(answer.messages)
        if answer.messages and missing > 0 and answer.messages[0].seq > 1:
            self._ask_history(room, missing, answer.messages[0].seq, found)
        else:
            last = "the last message" if len(found) == 1 else f"the last {counted(len(found))}"
            self._user.show(Page(f"{last} of {room}" if found else f"no messages in {room} yet", found))

    def _show_found(self, heading: str, answer: wire.Results) -> None:
        count = counted(len(answer.messages)) if answer.messages else "nothing"
        self._user.show(Page(f"{count} {heading}", answer.messages[::-1]))

    def completions(self, before: str) -> list[str]:
        """What Tab makes of the word that ends the text `before` the cursor, best first."""
        word = before.split(" ")[-1]
        first = word == before
        if first and word.startswith("/"):
            return [name for name in self._commands() if name.startswith(word)]
        if before.startswith(("/join ", "/leave ")):
            return [room for room in self._session.rooms if room.startswith(word)]
        return self._people(word, ": " if first else " ")

    def _commands(self) -> list[str]:
        methods = (getattr(self, name) for name in sorted(dir(self)) if name.startswith("do_"))
        used = (usage(method).partition(" ") for method in methods)
        return [f"{word}{space}" for word, space, _ in used]

    def _people(self, word: str, end: str) -> list[str]:
        at, start = ("@", word[1:]) if word.startswith("@") else ("", word)
        if not word:
            return []
        known = self._session.people.known(self._session.room)
        own = self._session.name
        return [
            f"{at}{name}{end}" for name in known if name != own and name.casefold().startswith(start.casefold())
        ]


def usage(command: Callable[[str], None]) -> str:
    """The part of a command's docstring that says how it is used."""
    return (command.__doc__ or "").partition(":")[0]


def misused(used: str, argument: str) -> str:
    """What is wrong with a command's argument; "" where nothing is."""
    _, _, wanted = used.partition(" ")
    if argument and not wanted and used.startswith("/"):
        return f"{used} takes nothing behind it."
    if not argument and wanted and not wanted.startswith("["):
        return f"{used}: {wanted} is missing."
    return ""


def counted(messages: int) -> str:
    """How many messages."""
    return "1 message" if messages == 1 else f"{messages:,} messages"
