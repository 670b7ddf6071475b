"""What the frozen databases of each schema version hold: the same in every store."""

from __future__ import annotations

from chatd.interfaces import Draft, IStore, Kept, SessionRecord

#: Who has said most of it.
ANA = SessionRecord(11, bytes(32), "ana", 1_700_000_004_000, True)


def check_version_1(store: IStore) -> None:
    """All that was in a database of version 1 is in the store, and can be found; what is said again is known."""
    assert store.log_id == "0123456789abcdef"
    assert [(room.name, room.last, room.first) for room in store.rooms()] == [("gone", 2, 3), ("lobby", 4, 2)]
    page = store.page("lobby", 0, None, 100, 1 << 20)
    assert [(m.seq, m.at, m.session, m.name, m.text, m.action) for m in page] == [
        (2, 1_700_000_002_000, 11, "ana", "¿Qué tal la mañana?", False),
        (3, 1_700_000_003_000, 12, "bob", "saluda", True),
        (4, 1_700_000_004_000, 11, "ana", "sin índice aún, mañana", False),
    ]
    index = True
    while index:
        assert [m.seq for m in store.search("lobby", "MANANA", 100, 10, 9.0)] == [4, 2]
        index = store.index(1)
    assert store.session(bytes(32)) == ANA
    assert store.held_sessions() == [ANA]
    repeats = [Draft("lobby", 11, "c1", 0, "ana", "¿Qué tal la mañana?"), Draft("gone", 12, "g", 0, "bob", "?")]
    assert store.append(repeats, ()) == [Kept(2, 1_700_000_002_000, new=False), Kept(2, 0, new=False)]
