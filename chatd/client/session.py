"""The pure heart of the client: what is said, asked and shown, whatever happens to the connection.

No socket, no reactor, no terminal: the answers of the server go in (`received`), requests come out (the
function given to `connected`), and what people should see goes to a `Screen`.

A room is a log and the client has a cursor in it, the last number shown. Each connection begins with `hello`,
which carries the token and the cursors, so the server sends exactly what is missing; then goes whatever is in
the outbox, under the same ids as before, so the server stores it once.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Protocol, TypeVar

from twisted.internet.interfaces import IDelayedCall

from chatd import names, wire
from chatd.client.cursors import Cursors
from chatd.client.outbox import Outbox
from chatd.client.people import People
from chatd.client.show import Complaint, Notice, Shown
from chatd.client.state import Chat, State

#: A message that could not be stored is sent again after 1 s, 2 s, 4 s … and this many seconds at the most.
MAX_HOLD = 30.0


class Screen(Protocol):
    """What a session shows itself on."""

    def show(self, shown: Shown) -> None:
        """Something happened."""

    def changed(self) -> None:
        """What there is to remember changed, or what is pending, or the status."""

    def welcomed(self) -> None:
        """The server let us in."""

    def hello_refused(self, error: wire.Error) -> None:
        """The server did not let us in. With another name or password `greet` asks again."""

    def goodbye(self, goodbye: wire.Goodbye) -> None:
        """The server is about to close the connection."""


class Later(Protocol):
    """Calls a function after so many seconds, as `IReactorTime.callLater`."""

    def __call__(self, delay: float, function: Callable[[], object], /) -> IDelayedCall: ...


A = TypeVar("A", bound=wire.Answer)


def random_id() -> str:
    """An id that no message of this session, here or on another machine, has had."""
    return secrets.token_urlsafe(9)


class Session:
    """One person's conversation with one server, over as many connections as it takes.

    With `history` the first visit to a room begins so many messages before its end. `inside` is true while
    the server has let us in, `ever_inside` from the first time on; `refused` counts the lines that the server
    refused for good.
    """

    def __init__(
        self,
        state: State,
        screen: Screen,
        later: Later,
        *,
        history: int = 0,
        password: str | None = None,
        new_id: Callable[[], str] = random_id,
    ) -> None:
        self.password = password
        self.people = People()
        self.refused = 0
        self.inside = False
        self.ever_inside = False
        self._state = state
        self._screen = screen
        self._later = later
        self._history = history
        self._new_id = new_id
        self._send: Callable[[wire.Request], None] | None = None
        self._hello = ""
        self._entering: list[str] = []
        self._outbox = Outbox(state.chat.outbox)
        self._remembered = {say.id for say in state.chat.outbox}
        self._answered: dict[str, Callable[[wire.Answer], object]] = {}
        self._cursors = Cursors(state.chat.rooms, history)
        self._leaving: set[str] = set()
        self._held: IDelayedCall | None = None
        self._holds = 0
        self._motd: str | None = None

    # What it can be asked.

    @property
    def state(self) -> State:
        """What there is to remember now."""
        self._chat.outbox = self.unsent
        return self._state

    @property
    def name(self) -> str:
        """Ours; as the server writes it, once it let us in."""
        return self._state.name

    @property
    def room(self) -> str:
        """The room that is talked in; "" for none."""
        return self._chat.room

    @property
    def rooms(self) -> list[str]:
        """The rooms we are in, or will be as soon as we are connected."""
        return [room for room in self._chat.rooms if room not in self._leaving]

    @property
    def full(self) -> bool:
        """Whether so much is unanswered that nothing more should be said for now."""
        return self._outbox.full

    @property
    def answered(self) -> int:
        """How many requests have been answered."""
        return self._outbox.answered

    @property
    def held(self) -> bool:
        """Whether the server could not store a message, which is soon sent again."""
        return self._held is not None

    @property
    def unsent(self) -> list[wire.Say]:
        """The messages without a receipt."""
        return self._outbox.of(wire.Say)

    @property
    def pending(self) -> list[wire.Say]:
        """The messages that were said here and not shown yet."""
        return [*self._cursors.unseen, *self.unsent]

    @property
    def idle(self) -> bool:
        """Whether everything is answered and shown: the messages kept, the rooms at their ends."""
        return self.inside and not len(self._outbox) and self._cursors.at_the_ends

    # What it can be told to do.

    def rename(self, name: str) -> None:
        """Go by another name from the next `greet` on."""
        self._state.name = name

    def enter(self, room: str) -> None:
        """Be in `room` (a clean name) from the next connection on, and talk there."""
        self._chat.rooms.setdefault(room, None)
        self._chat.room = room

    def say(self, text: str, *, action: bool = False) -> None:
        """Say one line in the current room. Raises BadText; without a room it complains."""
        if not self.room:
            self._screen.show(Complaint("You are in no room: /join ROOM goes into one."))
            return
        text = names.message(text)
        self._outbox.put(wire.Say(id=self._new_id(), room=self.room, text=text, action=action))
        self._go_on()

    def ask(self, request: wire.Request, kind: type[A], answered: Callable[[A], None]) -> None:
        """Send a request that changes nothing, once more after a lost connection, until it is answered.

        `answered` is called with the answer, which is of that kind. A refusal is shown instead.
        """
        request.id = self._new_id()

        def if_it_fits(answer: wire.Answer) -> None:
            if isinstance(answer, kind):
                answered(answer)

        self._answered[request.id] = if_it_fits
        self._outbox.put(request)
        self._go_on()

    def join(self, room: str) -> None:
        """Go into `room`, a clean name, or only talk there where we are in it already."""
        new = room not in self.rooms
        self._leaving.discard(room)
        self.enter(room)
        if new and self.inside:
            self._join(room)
        self._go_on()

    def leave(self, room: str) -> None:
        """Leave `room`, which we are in, after what has been said there is kept; talk in another one."""
        self._leaving.add(room)
        if self.room == room:
            self._chat.room = next(iter(self.rooms), "")
        if self.inside or any(say.room == room for say in self.unsent):
            self._outbox.put(wire.Leave(id=self._new_id(), room=room))
        else:
            self._out_of(room)
        self._go_on()

    def bye(self) -> None:
        """Leave the chat: the server closes the connection."""
        if self._send is not None:
            self._send(wire.Bye())

    # What happens to the connection.

    def connected(self, send: Callable[[wire.Request], None]) -> None:
        """There is a connection, and `send` sends a request on it."""
        self._send = send
        self.greet()

    def greet(self) -> None:
        """Say hello; once more, after the name or the password was refused."""
        if self._send is None or self.inside:
            return
        self._hello = self._new_id()
        self._entering = list(self._chat.rooms)
        self._send(
            wire.Hello(
                id=self._hello,
                name=self.name,
                token=self._chat.token,
                password=self.password,
                rooms=self._cursors.hello(),
            )
        )

    def lost(self) -> None:
        """The connection is lost, before or after the server let us in."""
        self._send = None
        self.inside = False
        self._cursors.lost()
        self._outbox.cut()
        self._release()
        for request in self._outbox:
            if isinstance(request, (wire.Join, wire.Leave)) and request.room not in self._leaving:
                self._outbox.take(request.id)  # the next hello says it
        self._screen.changed()

    def received(self, answer: wire.AnyAnswer) -> None:
        """The server said this."""
        kind = type(answer).__struct_config__.tag
        if self.inside or kind in ("welcome", "error", "goodbye"):
            getattr(self, f"_on_{kind}")(answer)

    # What the server says, a method each.

    def _on_welcome(self, welcome: wire.Welcome) -> None:
        if self.inside or self._send is None:
            return
        if welcome.log != self._state.log and not self._moved(welcome):
            self.bye()
            return
        self.inside = True
        self._chat.token = welcome.token
        self._state.name = welcome.name
        self._screen.welcomed()
        self.ever_inside = True
        if welcome.motd and welcome.motd != self._motd:
            self._screen.show(Notice(welcome.motd))
        self._motd = welcome.motd
        self._go_on()

    def _on_room(self, entered: wire.RoomEntered) -> None:
        if self._outbox.take(entered.id) is None and entered.room in self._entering:
            self._entering.remove(entered.room)
        as_it_was = self._cursors.entered(entered)
        if as_it_was is None:
            return
        room = entered.room
        if not as_it_was:
            self._screen.show(Notice("the log is shorter than it was: it goes on from its end", room))
        if self.people.entered(room, entered.names, entered.count):
            self._screen.show(Notice(self.people.here(room)))
        self._go_on()

    def _on_message(self, message: wire.Message) -> None:
        missing = self._cursors.reach(message.room, message.seq)
        if missing is None:
            return
        if missing:
            numbers = f"{missing[0]} to {missing[-1]}"
            self._screen.show(Complaint(f"messages {numbers} of {message.room} did not arrive"))
        self.people.spoke(message.room, message.name)
        self._screen.show(message)
        self._screen.changed()

    def _on_gap(self, gap: wire.Gap) -> None:
        if self._cursors.reach(gap.room, gap.last) is not None:
            self._screen.show(Notice(f"messages {gap.first} to {gap.last} are no longer kept", gap.room))
            self._screen.changed()

    def _on_kept(self, kept: wire.Kept) -> None:
        say = self._outbox.take(kept.id)
        if not isinstance(say, wire.Say):
            return
        self._outbox.speed_up()
        self._holds = 0
        self._cursors.expect(say, kept.seq)
        self._go_on()

    def _on_joined(self, joined: wire.Joined) -> None:
        if joined.room in self.rooms:
            self._screen.show(Notice(self.people.joined(joined), joined.room))

    def _on_left(self, left: wire.Left) -> None:
        if left.room in self.rooms:
            self._screen.show(Notice(self.people.left(left), left.room))

    def _on_presence(self, presence: wire.Presence) -> None:
        if presence.room in self.rooms:
            self.people.counted(presence.room, presence.count)

    def _on_parted(self, parted: wire.LeftRoom) -> None:
        if self._outbox.take(parted.id) is not None:
            self._screen.show(Notice(f"you left {parted.room}"))
            if all(join.room != parted.room for join in self._outbox.of(wire.Join)):
                self._out_of(parted.room)
            self._go_on()

    def _on_history(self, answer: wire.Answer) -> None:
        if answer.id is not None and (answered := self._answered.pop(answer.id, None)):
            self._outbox.take(answer.id)
            answered(answer)
            self._go_on()

    _on_results = _on_members = _on_rooms = _on_history

    def _on_pong(self, pong: wire.Pong) -> None:
        """It was heard; that is all that a ping is for."""

    def _on_waiting(self, waiting: wire.Waiting) -> None:
        """The message is pending already."""

    def _on_goodbye(self, goodbye: wire.Goodbye) -> None:
        self._screen.goodbye(goodbye)

    def _on_error(self, error: wire.Error) -> None:
        if not self.inside:
            self._screen.hello_refused(error)
            return
        if error.code == "too_fast":  # nothing was dropped, so there is nothing to send again
            self._outbox.slow_down()
            return
        request = self._outbox.get(error.id)
        if error.id == self._hello and self._entering:
            request = self._join(self._entering.pop(0))  # rooms are answered in the order of the hello
        if isinstance(request, (wire.Say, wire.Join)) and error.retry:
            self._hold(request)
            return
        if request is not None:
            self._give_up(request)
        about = f"not sent: {shortened(request.text)}\n" if isinstance(request, wire.Say) else ""
        self._screen.show(Complaint(f"{about}{error.text}"))
        self._go_on()

    # How it does that.

    @property
    def _chat(self) -> Chat:
        return self._state.chat

    def _join(self, room: str) -> wire.Join:
        join = wire.Join(id=self._new_id(), room=room, after=self._cursors.after(room))
        self._outbox.put(join)
        return join

    def _go_on(self) -> None:
        """Something changed: send what is to be sent now."""
        if self._send is not None and self.inside and self._held is None:
            for request in self._outbox.due():
                self._send(request)
        self._screen.changed()

    def _give_up(self, request: wire.Request) -> None:
        self._outbox.take(request.id)
        self._answered.pop(request.id or "", None)
        if isinstance(request, (wire.Say, wire.Join)):
            self.refused += 1
        if isinstance(request, (wire.Join, wire.Leave)):
            self._out_of(request.room)

    def _out_of(self, room: str) -> None:
        self._leaving.discard(room)
        self._cursors.leave(room)
        self.people.forget(room)
        if self.room == room:
            self._chat.room = next(iter(self.rooms), "")

    def _hold(self, request: wire.Say | wire.Join) -> None:
        """It did not work this time: send it again in a while, and what comes after it then."""
        self._outbox.again(request.id or "")
        if self._held is None:
            self._held = self._later(min(MAX_HOLD, 2.0**self._holds), self._resume)
            self._holds = min(self._holds + 1, 16)
            self._screen.changed()

    def _resume(self) -> None:
        self._held = None
        self._go_on()

    def _release(self) -> None:
        if self._held is not None:
            self._held.cancel()
            self._held = None

    def _moved(self, welcome: wire.Welcome) -> bool:
        """This is another database than before: take its state, and with it what belongs here too.

        A session that goes on is the same chat, restored: all that is unsent goes there. Else it is another
        chat, and what was said to the one before, in an earlier run, stays with that one.

        False where we must come back with another token, the one that we have for this database.
        """
        old, first = self._chat, not self._state.log
        known = self._state.chats.pop(welcome.log, Chat())
        self._state.chats[welcome.log] = known
        self._move_outbox(old, known, all_of_it=welcome.resumed or first)
        self._state.log = welcome.log
        self._move_rooms(old, known)
        if first:
            self._state.chats.pop("", None)
        else:
            self._screen.show(Notice("the server has another database than before: its messages are others"))
        return welcome.resumed or known.token is None

    def _move_outbox(self, old: Chat, known: Chat, *, all_of_it: bool) -> None:
        old.outbox = [] if all_of_it else [say for say in self.unsent if say.id in self._remembered]
        for say in old.outbox:
            self._outbox.take(say.id)
        for say in known.outbox:
            self._outbox.put(say)
            self._remembered.add(say.id)
        if old.outbox:
            count = len(old.outbox)
            self._screen.show(Notice(f"unsent messages of the one before, which stay for it: {count}"))

    def _move_rooms(self, old: Chat, known: Chat) -> None:
        """Be in the same rooms of the other database, each at the place where we were in that one.

        The hello named the places in the one before. A join with an id moves us.
        """
        known.room = old.room
        known.rooms = {room: known.rooms.get(room) for room in old.rooms}
        self._cursors = Cursors(known.rooms, self._history)
        for room, cursor in known.rooms.items():
            if cursor != old.rooms[room]:
                self._cursors.move(room, self._join(room).id or "")


def shortened(text: str, most: int = 60) -> str:
    """The beginning of a text, where it is long."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
