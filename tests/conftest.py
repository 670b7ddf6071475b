"""What every test gets: a clean reactor before and after, and no silent skips where none are allowed."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

import pytest
import pytest_twisted
from hypothesis import settings
from twisted.internet import reactor, task
from twisted.internet.error import ConnectionAborted
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

pytest_plugins = ["tests.browser"]

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

# A busy machine must not fail a property because one example took long.
settings.register_profile("chatd", deadline=None)
settings.load_profile("chatd")

_TURNS = 50
"""Turns of the reactor that a connection which is being closed may take to be gone."""


@implementer(ILogObserver)
class LoggedFailures:
    """The events with a failure that were logged since the test began."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_failure"):
            self.events.append(event)

    def take(self, *kinds: type[BaseException]) -> list[Failure]:
        """Return the failures of these kinds; what a test has taken does not fail it."""
        taken = [event for event in self.events if event["log_failure"].check(*kinds)]
        self.events = [event for event in self.events if event not in taken]
        return [event["log_failure"] for event in taken]


@pytest.fixture
def logged_failures() -> Iterator[LoggedFailures]:
    """The failures in the log; a test that expects one takes it."""
    failures = LoggedFailures()
    globalLogPublisher.addObserver(failures)
    yield failures
    globalLogPublisher.removeObserver(failures)


@pytest.fixture(autouse=True)
def clean_reactor(logged_failures: LoggedFailures) -> Iterator[None]:
    """Fail a test that leaves calls, ports or connections in the reactor, or a failure in the log."""
    _turn()
    before = _descriptors()
    # What is there already need not be looked through again: a thousand examples of hypothesis, for one.
    gc.freeze()
    yield
    left = _left_behind(before)
    # A Deferred reports a failure that nobody handled when it is collected.
    gc.collect()
    assert not left, f"the test left in the reactor: {left}"
    assert not logged_failures.events, [event["log_failure"].getTraceback() for event in logged_failures.events]


def _turn() -> None:
    """Let the reactor turn once."""
    pytest_twisted.blockon(task.deferLater(reactor, 0))


def _descriptors() -> set[Any]:
    return {*reactor.getReaders(), *reactor.getWriters()}


def _left_behind(before: set[Any]) -> list[Any]:
    """Return, and remove, what is in the reactor now and was not there `before`."""
    for _ in range(_TURNS):
        if _descriptors() <= before:
            break
        _turn()
    calls = reactor.getDelayedCalls()
    for call in calls:
        call.cancel()
    descriptors = _descriptors() - before
    for descriptor in descriptors:
        reactor.removeReader(descriptor)
        reactor.removeWriter(descriptor)
        descriptor.connectionLost(Failure(ConnectionAborted()))
    return [*calls, *descriptors]


def pytest_collection_finish() -> None:
    """Take what has been imported out of the collections that each test ends with: they cost 1 ms, not 15."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _without_skips((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _without_skips((yield))


def _without_skips(report: Report) -> Report:
    """Return `report`, a failure where it is a skip and CHATD_TEST_NO_SKIP is set."""
    if os.environ.get("CHATD_TEST_NO_SKIP") and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"CHATD_TEST_NO_SKIP is set, and the test was skipped: {report.longrepr}"
    return report
