"""The dialect of programs: JSON lines, over TCP and in the messages of a WebSocket alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct
from twisted.internet.defer import Deferred

from chatd import __version__, errors, names, wire
from chatd.events import Joined, Left, Message, Part, Presence
from chatd.hub import Entered
from chatd.member import JOIN_WEIGHT, SEARCH_WEIGHT, Member, Result
from chatd.room import Room

LOBBY = "lobby"


def message(said: Message) -> wire.Message:
    """The message as it goes over the wire."""
    return wire.Message(said.room, said.seq, said.name, wire.timestamp(said.at), said.text, said.action)


def part(said: Message) -> Part:
    """The line of a message, encoded once."""
    encoded = said.encoded.get("json")
    if encoded is None:
        encoded = said.encoded["json"] = Part(wire.encode(message(said)), said.seq)
    return encoded


class JsonLines:
    """What happens, as JSON lines."""

    echoes = True

    def encode(self, messages: Sequence[Message]) -> list[Part]:
        return [said.encoded.get("json") or part(said) for said in messages]

    def announce(self, event: Joined | Left | Presence) -> bytes:
        if isinstance(event, Presence):
            return wire.encode(wire.Presence(event.room, event.count))
        kind = wire.Joined if isinstance(event, Joined) else wire.Left
        return wire.encode(kind(event.room, list(event.names), event.total, event.count))


class JsonMember(Member):
    """A program on a connection."""

    dialect = JsonLines()

    def line_received(self, line: bytes) -> Deferred[None] | None:
        self.weight = 1
        if not line.strip():
            return None
        try:
            request = wire.decode_request(line)
        except wire.UnknownType as unknown:
            known = ", ".join(TYPES)
            self.complain(
                errors.UnknownType(f"The type {str(unknown)!r:.80} is not one of: {known}."), wire.request_id(line)
            )
            return None
        except ValueError as error:
            self.complain(errors.BadRequest(f"{error}."), wire.request_id(line))
            return None
        handler = HANDLERS[type(request)]
        return self.perform(lambda: handler(self, request), request.id)

    def line_too_long(self) -> None:
        self.complain(errors.LineTooLong(f"A line has at most {wire.MAX_LINE} bytes: this one is lost."))

    def complain(self, error: errors.ChatError, id: str | None = None) -> None:
        self.answer(wire.Error(error.code, str(error), error.retry, id))

    def say_goodbye(self, reason: str, retry_after: float | None) -> None:
        self.answer(wire.Goodbye(reason, retry_after))

    def encode(self, message: Struct) -> bytes:
        """The bytes of a message that is for this member alone."""
        return wire.encode(message)

    def gap(self, room: Room, first: int, last: int) -> bytes:
        return self.encode(wire.Gap(room.name, first, last))

    def kept(self, room: str, seq: int, id: str) -> None:
        self.outbox.hold(self.encode(wire.Kept(room, seq, id)))

    def waiting(self, id: str) -> None:
        self.answer(wire.Waiting(id))

    def answer(self, answer: Struct) -> None:
        """Send one message."""
        self.outbox.answer(self.encode(answer))

    async def _hello(self, request: wire.Hello) -> None:
        if self.session is not None:
            raise errors.HelloFirst("Hello has been said on this connection.")
        welcome = await self.hub.hello(self, request.name, request.token, request.password)
        assert welcome.token is not None
        self.session = welcome.session
        if self.gone:
            self.hub.lost(self, clean=False)
            return
        self.context.log.named(self.number, self.session.name, welcome.resumed)
        self.answer(
            wire.Welcome(
                id=request.id,
                name=self.session.name,
                token=welcome.token,
                server=f"chatd {__version__}",
                log=self.hub.log_id,
                resumed=welcome.resumed,
                motd=self.context.motd,
            )
        )
        for room, after in ({LOBBY: None} if request.rooms is None else request.rooms).items():
            try:
                await self._enter(room, after, None)
            except errors.ChatError as error:
                self.complain(error, request.id)

    def _say(self, request: wire.Say) -> Deferred[None] | None:
        return self.hub.say(self, request.room, request.text, request.id, request.action)

    async def _join(self, request: wire.Join) -> None:
        self.weight = JOIN_WEIGHT
        await self._enter(request.room, request.after, request.id)

    async def _enter(self, room: str, after: int | None, id: str | None) -> None:
        entered: Entered = await self.hub.join(self, room, after)
        place = entered.room
        self.context.log.joined(self.number, self.session.name, place.name)  # type: ignore[union-attr]
        self.answer(
            wire.RoomEntered(
                id=id,
                room=place.name,
                seq=place.last,
                first=place.first,
                count=entered.count,
                names=entered.names,
                reset=entered.reset,
            )
        )

    def _leave(self, request: wire.Leave) -> None:
        room = self.hub.leave(self, request.room)
        self.context.log.parted(self.number, self.session.name, room)  # type: ignore[union-attr]
        self.answer(wire.LeftRoom(id=request.id, room=room))

    async def _history(self, request: wire.HistoryRequest) -> None:
        page = await self.hub.history(self, request.room, request.before, request.after, request.limit)
        self.answer(
            wire.History(id=request.id, room=names.room(request.room), messages=[message(said) for said in page])
        )

    async def _search(self, request: wire.SearchRequest) -> None:
        self.weight = SEARCH_WEIGHT
        found = await self.hub.search(self, request.room, request.words, request.before)
        self.answer(
            wire.Results(id=request.id, room=names.room(request.room), messages=[message(said) for said in found])
        )

    def _members(self, request: wire.MembersRequest) -> None:
        page = self.hub.members(self, request.room, request.after)
        room = names.room(request.room)
        self.answer(wire.Members(id=request.id, room=room, names=page.names, next=page.next))

    async def _rooms(self, request: wire.RoomsRequest) -> None:
        listed = await self.hub.rooms(self)
        self.answer(wire.Rooms(id=request.id, rooms=[wire.RoomListed(r.name, r.last, r.count) for r in listed]))

    def _ping(self, request: wire.Ping) -> None:
        self.answer(wire.Pong(id=request.id))

    def _bye(self, request: wire.Bye) -> Result:
        return self.depart()


HANDLERS: dict[type[wire.Request], Callable[[JsonMember, Any], Result]] = {
    wire.Hello: JsonMember._hello,
    wire.Say: JsonMember._say,
    wire.Join: JsonMember._join,
    wire.Leave: JsonMember._leave,
    wire.HistoryRequest: JsonMember._history,
    wire.SearchRequest: JsonMember._search,
    wire.MembersRequest: JsonMember._members,
    wire.RoomsRequest: JsonMember._rooms,
    wire.Ping: JsonMember._ping,
    wire.Bye: JsonMember._bye,
}
TYPES = sorted(str(kind.__struct_config__.tag) for kind in HANDLERS)
