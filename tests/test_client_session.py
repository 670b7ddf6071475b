"""The client's session: against answers made by hand, and against the real server in memory."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from twisted.internet.task import Clock

from chatd import wire
from chatd.client.session import Session
from chatd.client.show import Complaint, Notice, Shown
from chatd.client.state import Chat as Remembered
from chatd.client.state import State
from chatd.errors import BadText
from tests.harness import Chat, Line, clock

#: No two lives of a client make the same ids.
LIVES = itertools.count()


class Watched:
    """A session, and whatever it shows and tells."""

    def __init__(self, clock: Clock, state: State | None = None, *, name: str = "ana", history: int = 0) -> None:
        state = state or State()
        state.name = state.name or name
        self.shown: list[Shown] = []
        self.welcomes = 0
        self.refusals: list[wire.Error] = []
        self.goodbyes: list[wire.Goodbye] = []
        life = next(LIVES)
        ids = (f"{life}-{number}" for number in itertools.count())
        self.session = Session(state, self, clock.callLater, history=history, new_id=ids.__next__)

    def show(self, shown: Shown) -> None:
        self.shown.append(shown)

    def changed(self) -> None:
        """Nothing is kept while it runs."""

    def welcomed(self) -> None:
        self.welcomes += 1

    def hello_refused(self, error: wire.Error) -> None:
        self.refusals.append(error)

    def goodbye(self, goodbye: wire.Goodbye) -> None:
        self.goodbyes.append(goodbye)

    def messages(self, room: str = "lobby") -> list[wire.Message]:
        """The messages shown in a room."""
        return [shown for shown in self.shown if isinstance(shown, wire.Message) and shown.room == room]

    def texts(self, room: str = "lobby") -> list[str]:
        """Their texts."""
        return [message.text for message in self.messages(room)]

    def notices(self) -> list[str]:
        """The notices shown."""
        return [shown.text for shown in self.shown if isinstance(shown, Notice)]

    def complaints(self) -> list[str]:
        """The complaints shown."""
        return [shown.text for shown in self.shown if isinstance(shown, Complaint)]

    def remembered(self) -> State:
        """What a process that is killed now leaves behind."""
        return msgspec.json.decode(msgspec.json.encode(self.session.state), type=State)


class Played(Watched):
    """A session to which the test plays the server. `sent` is what it has sent and the test has not taken."""

    def __init__(
        self, *, state: State | None = None, history: int = 0, rooms: tuple[str, ...] = ("lobby",)
    ) -> None:
        self.clock = Clock()
        super().__init__(self.clock, state, history=history)
        self.sent: list[wire.Request] = []
        for room in rooms:
            self.session.enter(room)

    def connect(self) -> wire.Hello:
        """There is a connection. Returns the hello."""
        self.session.connected(self.sent.append)
        (hello,) = self.take()
        assert isinstance(hello, wire.Hello)
        return hello

    def take(self) -> list[wire.Request]:
        """What it sent."""
        sent, self.sent[:] = self.sent[:], []
        return sent

    def answer(self, *answers: wire.AnyAnswer) -> None:
        """The server says this."""
        for answer in answers:
            self.session.received(answer)

    def come_in(self, log: str = "log", *, resumed: bool = False, token: str = "token", **ends: int) -> None:
        """Connect, be welcome, and enter the rooms, whose last numbers are `ends`, 0 where not said."""
        hello = self.connect()
        self.answer(welcome(log, resumed=resumed, token=token, id=hello.id))
        for room in hello.rooms or {}:
            self.answer(entered(room, ends.get(room, 0)))


def welcome(log: str = "log", **fields: object) -> wire.Welcome:
    values = {"name": "ana", "token": "token", "resumed": False, **fields}
    return wire.Welcome(server="chatd", log=log, **values)  # type: ignore[arg-type]


def entered(room: str, seq: int, join: str | None = None, **fields: bool) -> wire.RoomEntered:
    return wire.RoomEntered(id=join, room=room, seq=seq, first=1, count=1, names=["ana"], **fields)


def message(seq: int, text: str = "hola", room: str = "lobby", name: str = "bob") -> wire.Message:
    return wire.Message(room=room, seq=seq, name=name, at="2026-11-22T14:05:31.250Z", text=text)


def refused(request: wire.Request, code: str, *, retry: bool) -> wire.Error:
    return wire.Error(code=code, text=f"because of {code}", retry=retry, id=request.id)


def says(requests: list[wire.Request]) -> list[str]:
    return [request.text for request in requests if isinstance(request, wire.Say)]


# The hello


def test_the_first_hello_has_no_token_and_a_little_history() -> None:
    played = Played(history=20)
    hello = played.connect()
    assert (hello.name, hello.token, hello.rooms) == ("ana", None, {"lobby": -20})


def test_the_next_hello_resumes() -> None:
    played = Played(history=20)
    played.come_in(lobby=57)
    played.answer(*(message(seq) for seq in range(38, 59)))
    played.session.lost()
    hello = played.connect()
    assert (hello.token, hello.rooms) == ("token", {"lobby": 58})


def test_a_password_goes_along() -> None:
    played = Played()
    played.session.password = "secret"
    assert played.connect().password == "secret"


def test_a_refused_name_is_followed_by_another() -> None:
    played = Played()
    hello = played.connect()
    played.answer(refused(hello, "name_in_use", retry=False))
    assert [error.code for error in played.refusals] == ["name_in_use"]
    played.session.rename("anna")
    played.session.greet()
    (again,) = played.take()
    assert isinstance(again, wire.Hello)
    assert again.name == "anna"
    played.answer(welcome(name="Anna"))
    assert played.session.name == "Anna"
    assert played.session.state.name == "Anna"


def test_a_second_welcome_changes_nothing() -> None:
    played = Played()
    played.come_in()
    played.answer(welcome("other", token="other"))
    assert (played.session.state.log, played.session.state.chat.token, played.welcomes) == ("log", "token", 1)


def test_nothing_counts_before_the_welcome() -> None:
    played = Played()
    played.connect()
    played.answer(entered("lobby", 5), message(6), wire.Pong())
    assert played.shown == []


def test_the_motd_is_shown_when_it_is_new() -> None:
    played = Played()
    for motd in ("be nice", "be nice", "be nicer"):
        played.connect()
        played.answer(welcome(motd=motd))
        played.session.lost()
    assert played.notices() == ["be nice", "be nicer"]


def test_a_room_of_the_hello_that_is_refused_is_left() -> None:
    played = Played(rooms=("one", "two", "three"))
    hello = played.connect()
    played.answer(welcome(), entered("one", 0), refused(hello, "too_many_rooms", retry=False), entered("three", 0))
    assert played.session.rooms == ["one", "three"]
    assert played.complaints() == ["because of too_many_rooms"]


def test_a_room_of_the_hello_that_fails_for_now_is_joined_later() -> None:
    played = Played(rooms=("one", "two"))
    hello = played.connect()
    played.answer(welcome(), entered("one", 0), refused(hello, "unavailable", retry=True))
    assert played.take() == []
    played.clock.advance(1)
    (join,) = played.take()
    assert isinstance(join, wire.Join)
    assert join.room == "two"
    assert not played.session.idle
    played.answer(entered("two", 7, join.id))
    assert played.session.idle


# What is said


def test_said_kept_and_shown() -> None:
    played = Played()
    played.come_in()
    played.session.say("hola")
    (say,) = played.take()
    assert isinstance(say, wire.Say)
    assert (say.room, say.text, say.action) == ("lobby", "hola", False)
    assert [pending.text for pending in played.session.pending] == ["hola"]
    played.answer(wire.Kept("lobby", 1, say.id))
    assert played.session.unsent == []
    assert [pending.text for pending in played.session.pending] == ["hola"]
    assert not played.session.idle
    played.answer(message(1, "hola", name="ana"))
    assert played.session.pending == []
    assert played.texts() == ["hola"]
    assert played.session.idle


def test_said_while_offline_is_sent_when_back_once() -> None:
    played = Played()
    played.session.say("one")
    played.session.say("two", action=True)
    played.come_in()
    sent = played.take()
    assert says(sent) == ["one", "two"]
    played.answer(wire.Kept("lobby", 1, sent[0].id or ""))
    played.session.lost()
    played.come_in(resumed=True, lobby=2)
    again = played.take()
    assert [(request.id, request) for request in again] == [(sent[1].id, sent[1])]


def test_a_receipt_after_the_message_itself() -> None:
    """The receipt was lost with the connection: the message came back first, as everybody's."""
    played = Played()
    played.come_in()
    played.session.say("hola")
    (say,) = played.take()
    played.session.lost()
    played.come_in(resumed=True, lobby=1)
    played.answer(message(1, "hola", name="ana"))
    played.answer(wire.Kept("lobby", 1, say.id or ""))
    assert played.session.pending == []
    assert played.texts() == ["hola"]


def test_text_is_cleaned_and_bounded_before_it_waits() -> None:
    played = Played()
    played.session.say("tab\there\x1b[2J")
    assert [say.text for say in played.session.unsent] == ["tab here\ufffd[2J"]
    with pytest.raises(BadText):
        played.session.say("x" * 4001)
    assert len(played.session.unsent) == 1


def test_without_a_room_nothing_is_said() -> None:
    played = Played(rooms=())
    played.session.say("hola")
    assert played.session.unsent == []
    assert played.complaints() == ["You are in no room: /join ROOM goes into one."]


def test_what_is_refused_for_good_is_told_and_leaves_the_outbox() -> None:
    played = Played()
    played.come_in()
    played.session.say("hola")
    (say,) = played.take()
    played.answer(refused(say, "bad_text", retry=False))
    assert played.complaints() == ["not sent: hola\nbecause of bad_text"]
    assert (played.session.unsent, played.session.refused) == ([], 1)


def test_what_was_not_kept_is_sent_again_with_the_same_id_later_and_later() -> None:
    played = Played()
    played.come_in()
    played.session.say("one")
    played.session.say("two")
    one, two = played.take()
    for pause in (1, 2, 4, 8, 16, 30, 30):
        played.answer(refused(one, "not_kept", retry=True), refused(two, "not_kept", retry=True))
        assert played.session.held
        played.clock.advance(pause - 0.1)
        assert played.take() == []
        played.clock.advance(0.1)
        assert played.take() == [one, two]
    assert not played.session.held
    played.answer(wire.Kept("lobby", 1, one.id or ""), refused(two, "not_kept", retry=True))
    played.clock.advance(1)
    assert played.take() == [two]
    assert played.complaints() == []


def test_a_lost_connection_ends_the_wait() -> None:
    played = Played()
    played.come_in()
    played.session.say("one")
    (one,) = played.take()
    played.answer(refused(one, "not_kept", retry=True))
    played.session.lost()
    assert played.clock.getDelayedCalls() == []
    played.come_in(resumed=True)
    assert played.take() == [one]


def test_too_fast_is_no_loss() -> None:
    played = Played()
    played.come_in()
    for number in range(200):
        played.session.say(f"text {number}")
    sent = played.take()
    played.answer(wire.Error(code="too_fast", text="too fast", retry=True))
    assert played.complaints() == []
    played.answer(*(wire.Kept("lobby", number + 1, say.id or "") for number, say in enumerate(sent)))
    assert says(played.take())[0] == f"text {len(sent)}"
    assert len(played.session.unsent) == 200 - len(sent)


def test_an_error_about_nothing_is_shown() -> None:
    played = Played()
    played.come_in()
    played.answer(wire.Error(code="bad_request", text="what?", retry=False))
    assert played.complaints() == ["what?"]


def test_waiting_changes_nothing() -> None:
    played = Played()
    played.come_in()
    played.session.say("hola")
    (say,) = played.take()
    played.answer(wire.Waiting(say.id or ""))
    assert [waiting.text for waiting in played.session.pending] == ["hola"]
    assert played.complaints() == []


# What comes


def test_each_message_is_shown_once_and_in_order() -> None:
    played = Played()
    played.come_in(lobby=5)
    played.answer(message(6, "six"), message(6, "six"), message(5, "five"), message(7, "seven"))
    assert played.texts() == ["six", "seven"]


def test_a_hole_is_told() -> None:
    played = Played()
    played.come_in(lobby=5)
    played.answer(message(8))
    assert played.complaints() == ["messages 6 to 7 of lobby did not arrive"]
    assert played.session.state.chat.rooms == {"lobby": 8}


def test_a_gap_is_told_and_passed() -> None:
    played = Played(
        state=State(name="ana", log="log", chats={"log": Remembered(rooms={"lobby": 5}, room="lobby")})
    )
    played.come_in(lobby=10)
    played.answer(wire.Gap("lobby", 6, 8), message(9))
    assert "messages 6 to 8 are no longer kept" in played.notices()
    assert played.complaints() == []
    assert played.texts() == ["hola"]


def test_a_shorter_log_is_told() -> None:
    played = Played(
        state=State(name="ana", log="log", chats={"log": Remembered(rooms={"lobby": 50}, room="lobby")})
    )
    played.connect()
    played.answer(welcome(resumed=True), entered("lobby", 10, reset=True), message(11))
    assert "the log is shorter than it was: it goes on from its end" in played.notices()
    assert played.texts() == ["hola"]


def test_who_comes_and_goes_is_told() -> None:
    played = Played()
    played.come_in()
    played.answer(
        wire.Joined("lobby", ["bob"], 1, 2), wire.Left("lobby", ["bob"], 1, 1), wire.Presence("lobby", 9)
    )
    played.answer(wire.Joined("elsewhere", ["bob"], 1, 2), wire.Left("elsewhere", ["bob"], 1, 2))
    assert played.notices()[-2:] == ["bob joined", "bob left"]


def test_a_goodbye_is_passed_on() -> None:
    played = Played()
    played.connect()
    played.answer(wire.Goodbye("full", 3.0))
    played.answer(welcome(), wire.Goodbye("stopping"))
    assert [goodbye.reason for goodbye in played.goodbyes] == ["full", "stopping"]


# Rooms


def test_joining_talks_there_at_once() -> None:
    played = Played()
    played.come_in()
    played.session.join("dev")
    played.session.say("hola")
    join, say = played.take()
    assert isinstance(join, wire.Join)
    assert isinstance(say, wire.Say)
    assert (join.room, say.room, played.session.rooms) == ("dev", "dev", ["lobby", "dev"])
    played.answer(entered("dev", 0, join.id), wire.Kept("dev", 1, say.id), message(1, room="dev"))
    assert played.session.idle


def test_joining_where_one_is_only_talks_there() -> None:
    played = Played(rooms=("dev", "lobby"))
    played.come_in()
    played.session.join("dev")
    assert (played.take(), played.session.room) == ([], "dev")


def test_a_refused_join_is_taken_back() -> None:
    played = Played()
    played.come_in()
    played.session.join("dev")
    (join,) = played.take()
    played.answer(refused(join, "too_many_rooms", retry=False))
    assert (played.session.room, played.session.rooms, played.session.refused) == ("lobby", ["lobby"], 1)


def test_joining_while_offline_goes_with_the_hello() -> None:
    played = Played()
    played.session.join("dev")
    assert played.connect().rooms == {"lobby": None, "dev": None}


def test_a_join_cut_off_goes_with_the_next_hello_alone() -> None:
    played = Played()
    played.come_in()
    played.session.join("dev")
    assert len(played.take()) == 1
    played.session.lost()
    assert played.connect().rooms == {"lobby": 0, "dev": None}
    played.answer(welcome(resumed=True), entered("lobby", 0), entered("dev", 0))
    assert played.take() == []
    assert played.session.idle


def test_leaving_waits_for_what_was_said() -> None:
    played = Played(rooms=("lobby", "dev"))
    played.come_in()
    played.session.say("last words")
    played.session.leave("dev")
    (say,) = played.take()
    assert played.session.room == "lobby"
    played.session.lost()
    hello = played.connect()
    assert set(hello.rooms or {}) == {"lobby", "dev"}
    played.answer(welcome(resumed=True), entered("lobby", 0), entered("dev", 0))
    assert played.take() == [say]
    played.answer(wire.Kept("dev", 1, say.id or ""), message(1, "last words", "dev"))
    (leave,) = played.take()
    assert isinstance(leave, wire.Leave)
    played.answer(wire.LeftRoom(id=leave.id, room="dev"))
    assert (played.session.rooms, played.texts("dev")) == (["lobby"], ["last words"])
    assert set(played.session.state.chat.rooms) == {"lobby"}


def test_leaving_while_offline_is_done_at_once() -> None:
    played = Played(rooms=("lobby", "dev"))
    played.session.leave("dev")
    assert played.connect().rooms == {"lobby": None}


def test_coming_back_before_the_leave_is_answered() -> None:
    played = Played(rooms=("lobby", "dev"))
    played.come_in()
    played.session.leave("dev")
    played.session.join("dev")
    leave, join = played.take()
    played.answer(wire.LeftRoom(id=leave.id, room="dev"), entered("dev", 3, join.id), message(4, room="dev"))
    assert (played.session.room, set(played.session.rooms)) == ("dev", {"lobby", "dev"})
    assert played.session.state.chat.rooms["dev"] == 4


def test_the_last_room_can_be_left() -> None:
    played = Played()
    played.come_in()
    played.session.leave("lobby")
    (leave,) = played.take()
    played.answer(wire.LeftRoom(id=leave.id, room="lobby"))
    assert (played.session.room, played.session.idle) == ("", True)
    played.session.lost()
    assert played.connect().rooms == {}


# What is asked


def test_a_question_is_asked_until_it_is_answered() -> None:
    played = Played()
    found: list[wire.Rooms] = []
    played.session.ask(wire.RoomsRequest(), wire.Rooms, found.append)
    played.come_in()
    (asked,) = played.take()
    played.session.lost()
    played.come_in(resumed=True)
    assert played.take() == [asked]
    answer = wire.Rooms(id=asked.id, rooms=[])
    played.answer(answer, answer)
    assert found == [answer]
    assert played.session.idle


def test_an_answer_of_another_kind_is_no_answer() -> None:
    played = Played()
    found: list[wire.Rooms] = []
    played.come_in()
    played.session.ask(wire.RoomsRequest(), wire.Rooms, found.append)
    (asked,) = played.take()
    played.answer(wire.Members(id=asked.id, room="lobby", names=[]), wire.Rooms(id="other", rooms=[]))
    assert found == []


def test_a_refused_question_is_told() -> None:
    played = Played()
    played.come_in()
    played.session.ask(wire.RoomsRequest(), wire.Rooms, lambda _: pytest.fail("it was refused"))
    (asked,) = played.take()
    played.answer(refused(asked, "too_slow", retry=True))
    assert played.complaints() == ["because of too_slow"]
    assert (played.session.refused, played.session.idle) == (0, True)


# Other databases


def old_state(**fields: Remembered) -> State:
    """What was remembered of the database `old`: number 50 of the lobby, and one unsent message."""
    outbox = [wire.Say(id="old-1", room="lobby", text="unsent")]
    old = Remembered(token="old-token", rooms={"lobby": 50}, room="lobby", outbox=outbox)
    return State(name="ana", log="old", chats={"old": old, **fields})


def test_a_restored_database_takes_all_and_numbers_begin_anew() -> None:
    played = Played(state=old_state(), history=20)
    assert played.connect().rooms == {"lobby": 50}
    played.answer(welcome("new", resumed=True), entered("lobby", 60), message(61, "not yet"))
    say, join = played.take()
    assert isinstance(join, wire.Join)
    assert (join.room, join.after, say.id) == ("lobby", -20, "old-1")
    played.answer(entered("lobby", 60, join.id), message(41, "forty-one"))
    assert played.texts() == ["forty-one"]
    assert played.session.state.log == "new"
    assert played.session.state.chats["old"].outbox == []


def test_another_database_gets_what_was_said_in_this_run_only() -> None:
    played = Played(state=old_state())
    played.session.say("typed now")
    played.connect()
    played.answer(welcome("new"), entered("lobby", 60))
    assert says(played.take()) == ["typed now"]
    assert [say.text for say in played.session.state.chats["old"].outbox] == ["unsent"]
    assert any("stay for it: 1" in notice for notice in played.notices())


def test_a_database_known_from_before_is_met_again_with_its_own_token() -> None:
    other = Remembered(
        token="other-token",
        rooms={"lobby": 7},
        room="lobby",
        outbox=[wire.Say(id="other-1", room="lobby", text="unsent there")],
    )
    played = Played(state=old_state(other=other))
    played.connect()
    played.answer(welcome("other"))
    assert [type(request) for request in played.take()] == [wire.Bye]
    assert played.welcomes == 0
    played.session.lost()
    hello = played.connect()
    assert (hello.token, hello.rooms) == ("other-token", {"lobby": 7})
    played.answer(welcome("other", resumed=True, token="other-token"), entered("lobby", 9), message(8))
    assert says(played.take()) == ["unsent there"]
    assert [say.text for say in played.session.state.chats["old"].outbox] == ["unsent"]
    assert played.texts() == ["hola"]


def test_the_first_database_ever_gets_everything() -> None:
    played = Played()
    played.session.say("typed before")
    played.come_in()
    assert says(played.take()) == ["typed before"]
    assert set(played.session.state.chats) == {"log"}


# Against the real server, in memory


class Person(Watched):
    """A session with a line to a chat in memory, that can be cut anywhere."""

    def __init__(self, chat: Chat, state: State | None = None, *, name: str, history: int = 0) -> None:
        super().__init__(chat.clock, state, name=name, history=history)
        self.chat = chat
        self.line: Line | None = None
        self.unsent: list[bytes] = []
        self.unread: list[bytes] = []
        if not self.session.room:
            self.session.enter("lobby")

    def connect(self) -> None:
        if self.line is None or self.line.closed:
            self.cut()
            self.line = self.chat.line()
            self.session.connected(lambda request: self.unsent.append(wire.encode(request)))

    def cut(self) -> None:
        """The connection is lost, with all that is under way."""
        if self.line is not None:
            self.line.lose()
            self.line = None
            self.unsent.clear()
            self.unread.clear()
            self.session.lost()

    def send(self, count: int) -> bool:
        """So many of the requests under way arrive."""
        pieces, self.unsent[:count] = self.unsent[:count], []
        if self.line is not None and pieces:
            self.line.send(*pieces)
        return bool(pieces)

    def read(self, count: int) -> bool:
        """So many of the answers under way arrive."""
        if self.line is not None:
            self.unread += self.line.read_lines()
        lines, self.unread[:count] = self.unread[:count], []
        for line in lines:
            if line.startswith(b"{"):
                self.session.received(wire.decode_answer(line))
        return bool(lines)

    def settle(self) -> None:
        while self.send(1000) or self.read(1000):
            pass


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Chat]:
    with Chat(tmp_path) as made:
        yield made


def settle(*people: Person) -> None:
    """Until nothing moves any more."""
    people[0].chat.settle()
    while [person for person in people if person.send(1000) or person.read(1000)]:
        people[0].chat.settle()


def test_two_people_talk(chat: Chat) -> None:
    ana, bob = Person(chat, name="ana"), Person(chat, name="bob")
    ana.connect()
    settle(ana)
    bob.connect()
    settle(ana, bob)
    chat.advance(1.0)
    ana.session.say("hola")
    bob.session.say("hi")
    settle(ana, bob)
    assert sorted(ana.texts()) == ["hi", "hola"]
    assert ana.messages() == bob.messages()
    assert "bob joined" in ana.notices()
    assert ana.session.idle
    assert bob.session.idle


def test_history_on_the_first_visit(chat: Chat) -> None:
    ana = Person(chat, name="ana")
    ana.connect()
    for number in range(30):
        ana.session.say(f"text {number}")
    settle(ana)
    bob = Person(chat, name="bob", history=20)
    bob.connect()
    settle(bob)
    assert bob.texts() == [f"text {number}" for number in range(10, 30)]
    assert bob.complaints() == []


def test_the_same_name_twice(chat: Chat) -> None:
    first, second = Person(chat, name="ana"), Person(chat, name="Ana")
    first.connect()
    settle(first)
    second.connect()
    settle(second)
    assert [error.code for error in second.refusals] == ["name_in_use"]
    second.session.rename("anna")
    second.session.greet()
    settle(second)
    assert second.welcomes == 1


def test_killed_with_messages_under_way_and_back(chat: Chat) -> None:
    """The server kept one and the receipt was lost; the other never arrived. Both are there once."""
    ana = Person(chat, name="ana")
    ana.connect()
    settle(ana)
    ana.session.say("arrives")
    ana.send(1)
    ana.session.say("does not")
    left = ana.remembered()
    ana.cut()
    again = Person(chat, left, name="")
    again.connect()
    settle(again)
    assert again.texts() == ["arrives", "does not"]
    assert again.session.pending == []
    assert chat.hub.log_id == again.session.state.log


class AnyOrder(RuleBasedStateMachine):
    """Say, cut anywhere, come back, be killed, restart the server: each message once, in one order, no holes."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = clock()
        self.numbers = itertools.count()
        self.said: list[tuple[int, str, str]] = []
        self.seen: list[dict[str, list[wire.Message]]] = [{}, {}]

    @initialize()
    def begin(self) -> None:
        self.chat = Chat(self.folder, clock=self.clock).__enter__()
        self.people = [Person(self.chat, name=name) for name in ("ana", "bob")]
        for person in self.people:
            person.session.enter("dev")
            person.session.enter("lobby")
            person.connect()
            person.settle()
            assert person.welcomes == 1

    @rule(who=st.integers(0, 1), room=st.sampled_from(["lobby", "dev"]), times=st.integers(1, 4))
    def say(self, who: int, room: str, times: int) -> None:
        for _ in range(times):
            text = f"text {next(self.numbers)}"
            self.people[who].session.join(room)
            self.people[who].session.say(text)
            self.said.append((who, room, text))

    @rule(who=st.integers(0, 1), count=st.integers(1, 5))
    def send(self, who: int, count: int) -> None:
        self.people[who].send(count)

    @rule(who=st.integers(0, 1), count=st.integers(1, 9))
    def read(self, who: int, count: int) -> None:
        self.people[who].read(count)

    @rule(who=st.integers(0, 1))
    def cut(self, who: int) -> None:
        self.people[who].cut()

    @rule(who=st.integers(0, 1))
    def connect(self, who: int) -> None:
        self.people[who].connect()

    @rule(who=st.integers(0, 1))
    def kill(self, who: int) -> None:
        """The process of one is killed, and started again."""
        person = self.people[who]
        left = person.remembered()
        self.harvest(who)
        person.cut()
        self.people[who] = Person(self.chat, left, name="")

    @rule(seconds=st.sampled_from([0.5, 3.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.chat.advance(seconds)

    @precondition(lambda self: self.said)
    @rule()
    def restart(self) -> None:
        for person in self.people:
            person.cut()
        self.chat.__exit__(None, None, None)
        self.chat = Chat(self.folder, clock=self.clock).__enter__()
        for person in self.people:
            person.chat = self.chat

    def harvest(self, who: int) -> None:
        for room in ("lobby", "dev"):
            self.seen[who].setdefault(room, []).extend(self.people[who].messages(room))

    def teardown(self) -> None:
        try:
            if hasattr(self, "people"):
                self.check()
                self.chat.__exit__(None, None, None)
        finally:
            shutil.rmtree(self.folder)

    def check(self) -> None:
        # Who never read its welcome holds its own name, for a session that it does not know, until the grace ends.
        for person in self.people:
            person.cut()
        self.chat.advance(100)
        for person in self.people:
            person.connect()
        settle(*self.people)
        for who, person in enumerate(self.people):
            self.harvest(who)
            assert person.complaints() == []
            assert person.session.idle
            assert person.session.pending == []
        for room in ("lobby", "dev"):
            self.check_room(room)

    def check_room(self, room: str) -> None:
        log = self.seen[0].get(room, [])
        assert log == self.seen[1].get(room, [])
        assert [message.seq for message in log] == list(range(1, len(log) + 1))
        for who, name in enumerate(("ana", "bob")):
            texts = [message.text for message in log if message.name == name]
            assert texts == [text for by, where, text in self.said if (by, where) == (who, room)]


AnyOrder.TestCase.settings = settings(
    deadline=None, max_examples=100, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow]
)
TestAnyOrder = AnyOrder.TestCase
