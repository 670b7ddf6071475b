"""The JSON messages as typed structs: server, web page's socket and client read and write them with this module.

One object a line; `type` says which. `docs/protocol.md` explains them in wire order.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Annotated, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

#: A line from a client may have this many bytes at the most.
MAX_LINE = 64 * 1024
#: A line from the server may have this many.
MAX_ANSWER = 256 * 1024
#: At most so many names are in one `room`, `joined` or `left`.
MAX_NAMES = 50
#: At most so many messages are in one `history` or `results`.
MAX_MESSAGES = 100
#: At most so many names are in one `members`.
MAX_MEMBERS = 1000

T = TypeVar("T")
RequestId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
Seq: TypeAlias = Annotated[int, Meta(ge=-(2**53), le=2**53)]


# What a client sends.


class Request(Struct, omit_defaults=True, kw_only=True):
    """What all requests share: an `id` that the answer or the error repeats."""

    id: RequestId | None = None


class Hello(Request, tag="hello"):
    """The first request. `rooms` maps each room to the last number the client has; see `Join.after`."""

    name: str
    token: Annotated[str, Meta(max_length=128)] | None = None
    password: Annotated[str, Meta(max_length=1024)] | None = None
    rooms: dict[str, Seq | None] | None = None


class Say(Request, tag="say"):
    """A message. Its `id` is the client's own and unique in its session; a repeat is stored once."""

    id: RequestId
    room: str
    text: str
    action: bool = False


class Join(Request, tag="join"):
    """`after`: a number, all messages after it; negative, so many of the last; none, only what comes now."""

    room: str
    after: Seq | None = None


class Leave(Request, tag="leave"):
    """Leaves a room."""

    room: str


class HistoryRequest(Request, tag="history"):
    """A page of a room's log: the last before `before`, or the first after `after`."""

    room: str
    before: Seq | None = None
    after: Seq | None = None
    limit: Annotated[int, Meta(ge=1)] = MAX_MESSAGES


class SearchRequest(Request, tag="search"):
    """The newest messages with all the words, before the number `before`."""

    room: str
    words: Annotated[str, Meta(max_length=1000)]
    before: Seq | None = None


class MembersRequest(Request, tag="members"):
    """A page of the names in a room, in order, after the name `after`."""

    room: str
    after: str | None = None


class RoomsRequest(Request, tag="rooms"):
    """All rooms."""


class Ping(Request, tag="ping"):
    """Answered by `pong`."""


class Bye(Request, tag="bye"):
    """Leaves the chat: the name is free at once."""


AnyRequest: TypeAlias = (
    Hello | Say | Join | Leave | HistoryRequest | SearchRequest | MembersRequest | RoomsRequest | Ping | Bye
)


# What the server sends.


class Answer(Struct, omit_defaults=True, kw_only=True):
    """What answers share: the `id` of the request, where it had one."""

    id: str | None = None


class Welcome(Answer, tag="welcome"):
    """The answer to `hello`. `log` is the random id of the database, under which a client keeps its state."""

    name: str
    token: str
    server: str
    log: str
    resumed: bool
    motd: str | None = None


class RoomEntered(Answer, tag="room"):
    """The answer to `join`: the room's last number, the first one kept, how many are in it, up to 50 names.

    `reset` is true when the client's number lies beyond the end of the log (another database, or a restored
    one): its cursor is at the end now.
    """

    room: str
    seq: int
    first: int
    count: int
    names: list[str]
    reset: bool = False


class Message(Struct, omit_defaults=True, tag="message"):
    """A message: the same bytes for everybody in the room, the sender too."""

    room: str
    seq: int
    name: str
    at: str
    text: str
    action: bool = False


class Kept(Struct, tag="kept"):
    """The receipt: the message with this id is stored under this number."""

    room: str
    seq: int
    id: str


class Joined(Struct, tag="joined"):
    """People came into the room, in which there are `count` now. At most 50 names; `total` came."""

    room: str
    names: list[str]
    total: int
    count: int


class Left(Struct, tag="left"):
    """People left the room, in which there are `count` now. At most 50 names; `total` left."""

    room: str
    names: list[str]
    total: int
    count: int


class Presence(Struct, tag="presence"):
    """How many are in the room, after the connection fell behind and missed who came and left."""

    room: str
    count: int


class LeftRoom(Answer, tag="parted"):
    """The answer to `leave`."""

    room: str


class History(Answer, tag="history"):
    """A page of the log, ascending."""

    room: str
    messages: list[Message]


class Results(Answer, tag="results"):
    """What a search found, newest first."""

    room: str
    messages: list[Message]


class Members(Answer, omit_defaults=True, tag="members"):
    """A page of names; `next`, where there are more, goes into the next request's `after`."""

    room: str
    names: list[str]
    next: str | None = None


class RoomListed(Struct):
    """A room in the answer to `rooms`."""

    room: str
    seq: int
    count: int


class Rooms(Answer, tag="rooms"):
    """All rooms: those with most members first, 1,000 at the most."""

    rooms: list[RoomListed]


class Pong(Answer, tag="pong"):
    """The answer to `ping`."""


class Gap(Struct, tag="gap"):
    """The messages from `first` to `last` are no longer kept."""

    room: str
    first: int
    last: int


class Error(Struct, omit_defaults=True, tag="error"):
    """A request was refused. With `retry` true, sending it again with the same id may help."""

    code: str
    text: str
    retry: bool
    id: str | None = None

    # `retry` is always on the wire: it has no default.


class Waiting(Struct, tag="waiting"):
    """The message with this id is neither stored nor refused yet: the store is slow, or its answer got lost."""

    id: str


class Goodbye(Struct, omit_defaults=True, tag="goodbye"):
    """The server closes the connection; come back after `retry_after` seconds, where it is given."""

    reason: str
    retry_after: float | None = None


AnyAnswer: TypeAlias = (
    Welcome
    | RoomEntered
    | Message
    | Kept
    | Joined
    | Left
    | Presence
    | LeftRoom
    | History
    | Results
    | Members
    | Rooms
    | Pong
    | Gap
    | Error
    | Waiting
    | Goodbye
)

_encoder = msgspec.json.Encoder()
_requests: msgspec.json.Decoder[AnyRequest] = msgspec.json.Decoder(AnyRequest)
_answers: msgspec.json.Decoder[AnyAnswer] = msgspec.json.Decoder(AnyAnswer)

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_UNKNOWN_TYPE = re.compile(r"Invalid value '?(?P<type>.*?)'? - at `\$\.type`", re.DOTALL)


class UnknownType(ValueError):
    """The line's `type` is none that this module knows: of a later protocol, perhaps."""


def encode(message: Struct) -> bytes:
    """One line with its CRLF, so that a person on a plain terminal can read it too."""
    return _encoder.encode(message) + b"\r\n"


def decode_request(line: bytes) -> AnyRequest:
    """Raises ValueError, whose text says what is wrong, or UnknownType."""
    return _decode(_requests, line)


def decode_answer(line: bytes) -> AnyAnswer:
    """Raises ValueError, whose text says what is wrong, or UnknownType (which a client ignores)."""
    return _decode(_answers, line)


def _decode(decoder: msgspec.json.Decoder[T], line: bytes) -> T:
    try:
        return decoder.decode(line)
    except msgspec.ValidationError as error:
        if unknown := _UNKNOWN_TYPE.fullmatch(str(error)):
            raise UnknownType(unknown["type"]) from None
        raise ValueError(str(error)) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None


class _Identified(Struct):
    id: RequestId


_identified = msgspec.json.Decoder(_Identified)


def request_id(line: bytes) -> str | None:
    """The `id` of a request that is otherwise wrong, for the error that answers it."""
    try:
        return _identified.decode(line).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def timestamp(milliseconds: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_second(seconds)}.{rest:03d}Z"
