"""Where the client is in each room's log."""

from __future__ import annotations

from chatd import wire

#: Numbers from here on are no message's.
BEYOND = 2**53


class Cursors:
    """The last number shown of each room, None where none was: `rooms`, which is changed in place.

    With `history` the first visit to a room begins so many messages before its end.
    """

    def __init__(self, rooms: dict[str, int | None], history: int) -> None:
        self.rooms = rooms
        self._history = history
        self._ends: dict[str, int] = {}
        self._moving: dict[str, str] = {}
        self._unseen: dict[tuple[str, int], wire.Say] = {}

    @property
    def unseen(self) -> list[wire.Say]:
        """The messages that have a receipt and are not shown yet."""
        return list(self._unseen.values())

    @property
    def at_the_ends(self) -> bool:
        """Whether all is shown that was there when we came."""
        return not self._unseen and all(self._caught_up(room) for room in self.rooms)

    def after(self, room: str) -> int | None:
        """What a request to join the room says for `after`."""
        cursor = self.rooms.get(room)
        return (-self._history or None) if cursor is None else cursor

    def hello(self) -> dict[str, int | None]:
        """What a hello says for `rooms`."""
        return {room: self.after(room) for room in self.rooms}

    def move(self, room: str, join: str) -> None:
        """Until the join with this id is answered, what comes of this room is not for us."""
        self._moving[room] = join

    def lost(self) -> None:
        """The connection is lost."""
        self._moving.clear()
        self._ends.clear()

    def entered(self, answer: wire.RoomEntered) -> bool | None:
        """We are in a room now.

        False where its log is shorter than it was, and we are at its end; None where it is not for us.
        """
        room = answer.room
        if room not in self.rooms or self._moving.get(room, answer.id) != answer.id:
            return None
        self._moving.pop(room, None)
        cursor = self.rooms[room]
        shorter = answer.reset or (cursor is not None and cursor > answer.seq)
        if shorter:
            cursor = answer.seq
            self._see(room, BEYOND)
        elif cursor is None:
            begin = answer.seq - min(self._history, answer.seq)
            cursor = max(begin, min(answer.first - 1, answer.seq))
        self.rooms[room] = cursor
        self._ends[room] = answer.seq
        return not shorter

    def reach(self, room: str, seq: int) -> range | None:
        """A message came, or all up to it are gone: the numbers in between, which did not come.

        None where it is behind us or not for us.
        """
        cursor = self._at(room)
        if cursor is None or not cursor < seq < BEYOND:
            return None
        self.rooms[room] = seq
        self._see(room, seq)
        return range(cursor + 1, seq)

    def expect(self, say: wire.Say, seq: int) -> None:
        """Our message has this number, and may not have come yet."""
        cursor = self._at(say.room)
        if cursor is not None and cursor < seq < BEYOND:
            self._unseen[say.room, seq] = say

    def leave(self, room: str) -> None:
        """We are not in the room any more."""
        self.rooms.pop(room, None)
        self._ends.pop(room, None)
        self._moving.pop(room, None)
        self._see(room, BEYOND)

    def _at(self, room: str) -> int | None:
        return None if room in self._moving else self.rooms.get(room)

    def _caught_up(self, room: str) -> bool:
        cursor = self._at(room)
        return cursor is not None and room in self._ends and cursor >= self._ends[room]

    def _see(self, room: str, seq: int) -> None:
        """The messages up to `seq` are shown, or never will be."""
        for key in [(there, number) for there, number in self._unseen if there == room and number <= seq]:
            del self._unseen[key]
