"""What can happen in a room: what the hub tells the doors, each of which says it in its own words."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct, field


class Part(NamedTuple):
    """Bytes that are sent whole or not begun, and the number of the last message in them."""

    data: bytes
    seq: int


class Message(Struct, eq=False):
    """One entry of a room's log.

    `seq` counts from 1 without holes in its room; `at` is in milliseconds since 1970, the moment the server
    accepted the message; `session` is the number of the session that said it; `action` is true for `/me`.
    `encoded` holds what each dialect made of the message, so that it is encoded once.
    """

    room: str
    seq: int
    at: int
    session: int
    name: str
    text: str
    action: bool = False
    encoded: dict[str, Part] = field(default_factory=dict)


class Joined(Struct, frozen=True):
    """People came into a room: at most 50 of their `names`, and the `count` of those who are in it now.

    `total` is how many came; it is more than `len(names)` only when many came at once.
    """

    room: str
    names: tuple[str, ...]
    total: int
    count: int


class Left(Struct, frozen=True):
    """People left a room; the fields are those of `Joined`."""

    room: str
    names: tuple[str, ...]
    total: int
    count: int


class Presence(Struct, frozen=True):
    """How many are in a room, told to a member that comes back from behind instead of all it missed."""

    room: str
    count: int
