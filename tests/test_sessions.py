"""Who is who: each name and each token belongs to one session."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.task import Clock

from chatd.errors import NameInUse, TooManyConnections
from chatd.interfaces import IMember, SessionRecord
from chatd.sessions import MAX_CONNECTIONS, Session, Sessions, hashed, new_token

NAMES = ("ana", "bo", "cy")


def connection() -> IMember:
    """Sessions only count them."""
    return cast(IMember, object())


def test_a_new_session_has_its_name_and_its_token() -> None:
    sessions = Sessions()
    token = new_token()
    session = sessions.new("Ana", "ana", token)
    assert (session.name, session.key) == ("Ana", "ana")
    assert sessions.with_token(hashed(token)) is session
    assert sessions.with_token(hashed("another")) is None
    assert list(sessions) == [session]
    assert len(sessions) == 1


def test_a_name_belongs_to_one() -> None:
    sessions = Sessions()
    sessions.new("Ana", "ana", None)
    with pytest.raises(NameInUse, match="Ana"):
        sessions.new("ANA", "ana", new_token())
    with pytest.raises(NameInUse):
        sessions.check("ana")
    sessions.check("bo")
    assert len(sessions) == 1


def test_another_name_frees_the_old_one() -> None:
    sessions = Sessions()
    ana, bo = sessions.new("ana", "ana", new_token()), sessions.new("bo", "bo", None)
    with pytest.raises(NameInUse):
        sessions.rename(ana, "Bo", "bo")
    assert ana.name == "ana"
    sessions.rename(ana, "Ana", "ana")
    assert ana.name == "Ana"
    sessions.rename(ana, "cy", "cy")
    assert sessions.new("ana", "ana", None).name == "ana"
    sessions.remove(bo)
    sessions.rename(ana, "bo", "bo")
    assert sessions.with_token(cast(bytes, ana.token)) is ana


def test_what_is_removed_is_forgotten() -> None:
    sessions = Sessions()
    token = new_token()
    session = sessions.new("ana", "ana", token)
    sessions.remove(session)
    assert sessions.with_token(hashed(token)) is None
    assert len(sessions) == 0
    sessions.new("ana", "ana", None)


def test_a_session_has_so_many_connections_and_no_more() -> None:
    sessions = Sessions()
    session = sessions.new("ana", "ana", new_token())
    members = [connection() for _ in range(MAX_CONNECTIONS)]
    for member in members:
        sessions.connect(session, member)
    with pytest.raises(TooManyConnections):
        sessions.connect(session, connection())
    assert session.members == set(members)
    session.members.remove(members[0])
    sessions.connect(session, connection())


def test_the_record_holds_no_token_but_its_hash() -> None:
    token = new_token()
    session = Sessions().new("ana", "ana", token)
    record = session.record(5, held=True)
    assert record == SessionRecord(session.id, hashed(token), "ana", 5, True)
    assert token.encode() not in hashed(token)
    assert 0 < session.id < 2**63


def test_a_text_session_has_no_token() -> None:
    assert Sessions().new("ana", "ana", None).record(5, held=False).token is None


def test_any_text_can_be_asked_for_as_a_token() -> None:
    assert len(hashed("\ud800 \U0001f600")) == 32


def test_tokens_and_ids_do_not_repeat() -> None:
    assert len({new_token() for _ in range(1000)}) == 1000
    assert len({Sessions().new("ana", "ana", None).id for _ in range(1000)}) == 1000


def test_cancelling_stops_the_timers_also_those_that_have_rung() -> None:
    clock = Clock()
    session = Session(1, None, "ana", "ana")
    session.grace = clock.callLater(1, int)
    session.establishing = clock.callLater(2, int)
    clock.advance(1)
    session.cancel()
    assert clock.getDelayedCalls() == []


class AnyOrder(RuleBasedStateMachine):
    """Sessions beside a dict of names: new, renamed and removed in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = Sessions()
        self.by_name: dict[str, Session] = {}

    @rule(name=st.sampled_from(NAMES))
    def new(self, name: str) -> None:
        if name in self.by_name:
            with pytest.raises(NameInUse):
                self.sessions.new(name, name, new_token())
        else:
            self.by_name[name] = self.sessions.new(name, name, new_token())

    @rule(old=st.sampled_from(NAMES), name=st.sampled_from(NAMES))
    def rename(self, old: str, name: str) -> None:
        session = self.by_name.get(old)
        if session is None:
            return
        if name in self.by_name and name != old:
            with pytest.raises(NameInUse):
                self.sessions.rename(session, name, name)
        else:
            self.sessions.rename(session, name, name)
            self.by_name[name] = self.by_name.pop(old)

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        if name in self.by_name:
            self.sessions.remove(self.by_name.pop(name))

    @invariant()
    def each_is_found(self) -> None:
        assert {session.name: session for session in self.sessions} == self.by_name
        for session in self.by_name.values():
            assert self.sessions.with_token(cast(bytes, session.token)) is session


test_any_order = AnyOrder.TestCase
