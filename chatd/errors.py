"""What can go wrong, said once: each error knows its code on the wire and whether trying again helps."""

from __future__ import annotations

from typing import ClassVar


class ChatError(Exception):
    """A request that chatd refuses. `str(error)` is one sentence for the person who made it.

    `code` is the error's name on the wire; `retry` is true where the same request, with the same id,
    may succeed later, and false where it never will.
    """

    code: ClassVar[str]
    retry: ClassVar[bool] = False


class BadRequest(ChatError):
    """The request is not one: not JSON, a field missing or of the wrong type."""

    code = "bad_request"


class UnknownType(ChatError):
    """The request's type is not one that chatd knows."""

    code = "unknown_type"


class HelloFirst(ChatError):
    """Something else than `hello` came first, or `hello` came twice."""

    code = "hello_first"


class WrongPassword(ChatError):
    """The server has a password, and this is not it."""

    code = "wrong_password"


class BadName(ChatError):
    """The name of a person breaks the rules of `chatd.names`."""

    code = "bad_name"


class NameInUse(ChatError):
    """Somebody else goes by that name now, or holds it for the grace time."""

    code = "name_in_use"


class TooManyConnections(ChatError):
    """The session, or the server, has as many connections as it may have."""

    code = "too_many_connections"
    retry = True


class BadRoom(ChatError):
    """The name of a room breaks the rules of `chatd.names`."""

    code = "bad_room"


class TooManyRooms(ChatError):
    """The connection is in as many rooms as it may be, or the server has as many as it may have."""

    code = "too_many_rooms"


class NotInRoom(ChatError):
    """Talking, reading and searching need membership of the room."""

    code = "not_in_room"


class BadText(ChatError):
    """The text of a message is empty or too long."""

    code = "bad_text"


class BadId(ChatError):
    """The id of a message is empty or too long, or it has been used for another text."""

    code = "bad_id"


class LineTooLong(ChatError):
    """A line was longer than 64 KiB and has been thrown away."""

    code = "line_too_long"


class BadSearch(ChatError):
    """There is no word to search for."""

    code = "bad_search"


class TooSlow(ChatError):
    """The search was cut short because it took too long."""

    code = "too_slow"
    retry = True


class NotKept(ChatError):
    """The message could not be stored, for certain: nobody has seen it."""

    code = "not_kept"
    retry = True


class TooFast(ChatError):
    """The connection is over its rate and is read more slowly from now on; nothing is lost."""

    code = "too_fast"
    retry = True


class Unavailable(ChatError):
    """The store does not answer now."""

    code = "unavailable"
    retry = True
