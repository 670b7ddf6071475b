"""Who is where: nodes, the names that sessions have, and the rooms that they are in.

A row of `here` says that a session is on a node, a row of `names` that it has a name. Whoever changes either has
locked the row of the name first, so that a session which leaves one node while it comes to another keeps its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chatd.interfaces import Hint, SessionRecord
from chatd.stores.postgreslink import Link, arrays

# What PostgreSQL lets a notification hold is 8,000 bytes.
_PAYLOAD_BYTES = 7000

_RENEW = """
    UPDATE nodes SET since = CASE WHEN until < now() THEN now() ELSE since END, until = now() + %s * interval '1 s'
    WHERE id = %s RETURNING 1
"""
_BEGIN = "INSERT INTO nodes (id, since, until) VALUES (%s, now(), now() + %s * interval '1 s')"
_MAY_REAP = "SELECT 1 FROM nodes WHERE id = %s AND until > now() AND since <= now() - %s * interval '1 s'"
_DEAD = "DELETE FROM nodes WHERE until < now() RETURNING id, until"
# A session's grace begins when the lease of its node ended.
_BURY = """
    UPDATE here SET until = CASE WHEN resumable THEN %s ELSE 0 END * interval '1 s' + coalesce((
        SELECT ended FROM unnest(%s::text[], %s::timestamptz[]) AS dead (node, ended)
        WHERE dead.node = here.node), now())
    WHERE until IS NULL AND node NOT IN (SELECT id FROM nodes)
"""
_OVER = "SELECT session, node FROM here WHERE until <= now() AND node NOT IN (SELECT id FROM nodes)"

_TAKE_NAMES = """
    INSERT INTO names (key, session)
    SELECT key, session FROM unnest(%s::bigint[], %s::text[]) AS claim (session, key) ORDER BY key
    ON CONFLICT (key) DO UPDATE SET session = names.session
    RETURNING key, session
"""
_COME = """
    INSERT INTO here (session, node, resumable)
    SELECT session, %s, resumable FROM unnest(%s::bigint[], %s::boolean[]) AS new (session, resumable)
    ON CONFLICT (session, node) DO UPDATE SET until = NULL, resumable = excluded.resumable
"""
_DROP_OTHER_NAMES = "DELETE FROM names WHERE session = ANY(%s::bigint[]) AND key <> ALL(%s::text[])"
_LOCK_NAMES = "SELECT 1 FROM names WHERE session = ANY(%s::bigint[]) ORDER BY key FOR UPDATE"
_HOLD = """
    UPDATE here SET until = now() + held.seconds * interval '1 s'
    FROM unnest(%s::bigint[], %s::float[]) AS held (session, seconds)
    WHERE here.session = held.session AND here.node = %s
"""
_GO = """
    DELETE FROM here USING unnest(%s::bigint[], %s::text[]) AS gone (session, node)
    WHERE here.session = gone.session AND here.node = gone.node
"""
_GO_FROM_ROOMS = """
    DELETE FROM presence USING unnest(%s::bigint[], %s::text[]) AS gone (session, node)
    WHERE presence.session = gone.session AND presence.node = gone.node RETURNING room
"""
_FREE_NAMES = """
    DELETE FROM names WHERE session = ANY(%s::bigint[])
    AND NOT EXISTS (SELECT 1 FROM here WHERE here.session = names.session)
"""
_ENTER = """
    INSERT INTO presence (room, session, node)
    SELECT room, session, %s FROM unnest(%s::bigint[], %s::text[]) AS new (session, room)
    ON CONFLICT DO NOTHING RETURNING room
"""
_OTHERS_HERE = "SELECT session, node FROM here WHERE node = %s AND session <> ALL(%s::bigint[])"
_LEAVE_OTHERS = """
    DELETE FROM presence WHERE node = %s AND NOT EXISTS (
        SELECT 1 FROM unnest(%s::bigint[], %s::text[]) AS known (session, room)
        WHERE known.session = presence.session AND known.room = presence.room) RETURNING room
"""
_LEAVE = """
    DELETE FROM presence USING unnest(%s::bigint[], %s::text[]) AS gone (session, room)
    WHERE presence.node = %s AND presence.session = gone.session AND presence.room = gone.room
"""
MEMBERS = """
    SELECT DISTINCT sessions.id, sessions.name FROM presence JOIN sessions ON sessions.id = presence.session
    WHERE room = %s ORDER BY sessions.name, sessions.id
"""

COUNTS = "SELECT room, count(DISTINCT session) FROM presence GROUP BY room"
ELSEWHERE = """
    SELECT room, count(*), sum(session), sum(hashtext(sessions.name)::bigint)
    FROM presence JOIN sessions ON sessions.id = presence.session WHERE node <> %s GROUP BY room
"""


def channel(log_id: str) -> str:
    """Where the nodes of a chat are notified: several chats may share a database."""
    return f"chatd_{log_id}"


def notify(link: Link, log_id: str, node: str, kind: str, rooms: Iterable[str]) -> None:
    """Tell the other nodes, when the transaction is committed, what is new: `messages` or `presence` of rooms."""
    names = " ".join(sorted(set(rooms)))
    if names:
        payload = names if len(names.encode()) <= _PAYLOAD_BYTES else "*"
        link.execute("SELECT pg_notify(%s, %s)", (channel(log_id), f"{node} {kind} {payload}"))


def hint(payloads: Iterable[str], node: str) -> Hint:
    """What the notifications of other nodes than this one say together."""
    changed: dict[str, set[str]] = {"messages": set(), "presence": set()}
    for payload in payloads:
        sender, _, said = payload.partition(" ")
        kind, _, rooms = said.partition(" ")
        if sender != node and kind in changed:
            changed[kind].update(rooms.split())
    return Hint(**{kind: None if "*" in rooms else frozenset(rooms) for kind, rooms in changed.items()})


def renew(link: Link, node: str, lease: float, reaping: tuple[int, int]) -> bool:
    """Whether the node was known as alive. It is now. `reaping` is the lock of whoever reaps."""
    if link.execute(_RENEW, (lease, node)).fetchone():
        return True
    # Not between what a reaper reads and what it removes: it could be what this node brings next.
    link.execute("SELECT pg_advisory_xact_lock(%s, %s)", reaping)
    link.execute(_BEGIN, (node, lease))
    return False


def leave_for_good(link: Link, node: str) -> None:
    """The node is dead from now on."""
    link.execute("DELETE FROM nodes WHERE id = %s", (node,))


def reap(link: Link, node: str, lease: float, grace: float) -> list[str]:
    """Remove what is over of nodes that are dead. Returns the rooms that somebody left."""
    if not link.execute(_MAY_REAP, (node, lease)).fetchone():
        return []
    dead = link.execute(_DEAD).fetchall()
    link.execute(_BURY, (grace, [id for id, _ in dead], [until for _, until in dead]))
    return depart(link, link.execute(_OVER).fetchall())


def claim(link: Link, node: str, claims: Sequence[tuple[SessionRecord, str]]) -> list[SessionRecord]:
    """Who of them has the name now, and is here."""
    first = {key: session for session, key in reversed(claims)}
    taken = link.execute(_TAKE_NAMES, arrays([(session.id, key) for key, session in first.items()], 2))
    holders: dict[str, int] = dict(taken.fetchall())
    winners = {session.id: (session, key) for session, key in claims if holders[key] == session.id}
    ids = list(winners)
    link.execute(_COME, (node, ids, [session.token is not None for session, _ in winners.values()]))
    link.execute(_DROP_OTHER_NAMES, (ids, [key for _, key in winners.values()]))
    return [session for session, _ in winners.values()]


def hold(link: Link, node: str, holds: Sequence[tuple[int, float]]) -> None:
    """The sessions stay for so many seconds, should the node die."""
    link.execute(_HOLD, ([session for session, _ in holds], [float(seconds) for _, seconds in holds], node))


def depart(link: Link, gone: Sequence[tuple[int, str]]) -> list[str]:
    """Remove sessions from nodes, and their names where they are on no other. Returns the rooms they left."""
    if not gone:
        return []
    sessions = [session for session, _ in gone]
    link.execute(_LOCK_NAMES, (sessions,))
    link.execute(_GO, arrays(gone, 2))
    left = link.execute(_GO_FROM_ROOMS, arrays(gone, 2)).fetchall()
    link.execute(_FREE_NAMES, (sessions,))
    return [room for (room,) in left]


def settle(link: Link, node: str, sessions: Sequence[int], places: Sequence[tuple[int, str]]) -> list[str]:
    """These sessions are here, and in these rooms, and no others. Returns the rooms where that changed things."""
    gone = link.execute(_OTHERS_HERE, (node, list(sessions))).fetchall()
    left = depart(link, gone)
    left += [room for (room,) in link.execute(_LEAVE_OTHERS, (node, *arrays(places, 2))).fetchall()]
    return left + [room for (room,) in link.execute(_ENTER, (node, *arrays(places, 2))).fetchall()]


def enter(link: Link, node: str, places: Sequence[tuple[int, str]]) -> None:
    """The sessions are in these rooms."""
    link.execute(_ENTER, (node, *arrays(places, 2)))


def leave(link: Link, node: str, places: Sequence[tuple[int, str]]) -> None:
    """The sessions are no longer in these rooms."""
    link.execute(_LEAVE, (*arrays(places, 2), node))
