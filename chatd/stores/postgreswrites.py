"""What is written into a PostgreSQL store: batches of messages, sessions."""

from __future__ import annotations

from collections.abc import Sequence

from chatd.interfaces import Draft, Kept, SessionRecord
from chatd.stores.batches import Ident, Stored, keep_new
from chatd.stores.postgreslink import Link, arrays
from chatd.stores.postgrespages import ACTION

_LOCK_ROOMS = "SELECT id, last, at FROM rooms WHERE id = ANY(%s::integer[]) ORDER BY id FOR UPDATE"
_FIND_IDS = """
    SELECT draft.room, draft.session, draft.id, known.seq, first.at, first.text, first.flags
    FROM unnest(%s::integer[], %s::bigint[], %s::text[]) AS draft (room, session, id)
    CROSS JOIN LATERAL (
        SELECT seq FROM ids WHERE (session, room, id) = (draft.session, draft.room, draft.id) LIMIT 1) AS known
    LEFT JOIN LATERAL (
        SELECT at, text, flags FROM messages WHERE (room, seq) = (draft.room, known.seq) LIMIT 1) AS first ON true
"""
_INSERT = """
    WITH new AS (
        SELECT * FROM unnest(
            %s::integer[], %s::bigint[], %s::bigint[], %s::bigint[],
            %s::text[], %s::text[], %s::integer[], %s::text[]
        ) AS new (room, seq, at, session, name, text, flags, id)),
    numbered AS (INSERT INTO ids (session, room, id, seq) SELECT session, room, id, seq FROM new)
    INSERT INTO messages (room, seq, at, session, name, text, flags)
    SELECT room, seq, at, session, name, text, flags FROM new
"""
_UPDATE_ROOMS = """
    UPDATE rooms SET last = new.last, at = new.at
    FROM unnest(%s::integer[], %s::bigint[], %s::bigint[]) AS new (id, last, at) WHERE rooms.id = new.id
"""
_MAKE_ROOMS = """
    WITH made AS (
        INSERT INTO rooms (name) SELECT name FROM unnest(%s::text[]) AS name ORDER BY name
        ON CONFLICT (name) DO NOTHING RETURNING id)
    INSERT INTO upkeep (room) SELECT id FROM made
"""
_SAVE_SESSIONS = """
    INSERT INTO sessions (id, token, name, seen, held)
    SELECT * FROM unnest(%s::bigint[], %s::bytea[], %s::text[], %s::bigint[], %s::boolean[]) AS new (id)
    ORDER BY new.id
    ON CONFLICT (id) DO UPDATE
    SET token = excluded.token, name = excluded.name, seen = excluded.seen, held = excluded.held
"""


def make_rooms(link: Link, names: Sequence[str]) -> None:
    """Give each room a row that has none."""
    link.execute(_MAKE_ROOMS, (names,))


def append(link: Link, rooms: dict[str, int], drafts: Sequence[Draft]) -> list[Kept]:
    """Number and insert the drafts; `rooms` has the ids of their rooms."""
    # The order is what keeps the promise. With the rooms locked, nobody else numbers in them until this is
    # committed. What was stored before that is looked for in a statement after the one that locks, because
    # each sees what was committed when it began.
    locked = link.execute(_LOCK_ROOMS, (list(rooms.values()),))
    found = link.execute(_FIND_IDS, arrays([(rooms[d.room], d.session, d.id) for d in drafts], 3))
    counters = {id: (last, at) for id, last, at in locked}
    names = {id: name for name, id in rooms.items()}
    stored: dict[Ident, Stored] = {
        (names[room], session, id): Stored(seq, at, text, flags == ACTION)
        for room, session, id, seq, at, text, flags in found
    }
    return keep_new(drafts, stored, lambda new: _insert(link, rooms, counters, new))


def _insert(
    link: Link, rooms: dict[str, int], counters: dict[int, tuple[int, int]], drafts: Sequence[Draft]
) -> list[Kept]:
    """Number and insert drafts that are no repeats. `counters` holds the last number and moment of each room."""
    rows: list[tuple[int | str, ...]] = []
    kept = []
    for draft in drafts:
        room = rooms[draft.room]
        last, at = counters[room]
        seq, at = last + 1, max(at, draft.at)
        counters[room] = seq, at
        flags = ACTION if draft.action else 0
        rows.append((room, seq, at, draft.session, draft.name, draft.text, flags, draft.id))
        kept.append(Kept(seq, at))
    if rows:
        link.execute(_INSERT, arrays(rows, 8))
        link.execute(_UPDATE_ROOMS, arrays([(room, *counter) for room, counter in counters.items()], 3))
    return kept


def save(link: Link, sessions: Sequence[SessionRecord]) -> None:
    """Insert or update sessions."""
    if sessions:
        rows = [(s.id, s.token, s.name, s.seen, s.held) for s in sessions]
        link.execute(_SAVE_SESSIONS, [list(column) for column in zip(*rows, strict=True)])
