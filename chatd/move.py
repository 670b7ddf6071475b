"""Moves a chat to another database: `python -m chatd.move FROM TO`.

All goes into one transaction of TO, which is read back and compared with FROM, row by row, before it is committed:
whatever happens on the way, TO is empty or whole. The log stays the same, so that clients go on where they were.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import zip_longest
from time import monotonic
from typing import TextIO

from chatd.interfaces import StoreError, StoreUnusable
from chatd.stores import source_of, target_of
from chatd.stores.copies import TABLES, ISource, ITarget, Row, Rows

#: Seconds between two words on how far it is: on a terminal, and elsewhere.
_OFTEN, _SELDOM = 0.2, 10.0

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


class Differs(Exception):
    """What was read back is not what was written, or the source is not whole. The text says where."""


class Progress:
    """Tells how far it is: on a terminal in one line that changes, elsewhere in a few lines."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = monotonic) -> None:
        self._out = out
        self._clock = clock
        self._terminal = out.isatty()
        self._every = _OFTEN if self._terminal else _SELDOM
        self._next = clock() + self._every

    def count(self, doing: str, table: str, total: int, pages: Iterable[list[Row]]) -> Rows:
        """The same pages, counted on their way."""
        done = 0
        if self._terminal:
            self._next = self._clock()
        for page in pages:
            yield page
            done += len(page)
            if self._clock() >= self._next:
                self._next = self._clock() + self._every
                self._show(f"{doing} {table}: {done:,} of {total:,} ({done * 100 // max(total, 1)} %)")

    def _show(self, text: str) -> None:
        self._out.write(f"\r{text}\x1b[K" if self._terminal else f"{text}\n")
        self._out.flush()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._out.write(f"\r{text}\x1b[K\n" if self._terminal else f"{text}\n")
        self._out.flush()


def move(source: ISource, target: ITarget, progress: Progress) -> dict[str, int]:
    """Move all from one to the other, both open. Returns how many rows each table has.

    When all has been compared, it cannot be interrupted any more. Raises Differs, StoreError or StoreUnusable:
    nothing has been moved then.
    """
    counts = {table: source.count(table) for table in TABLES}
    progress.say(f"{source.name}: {_told(counts)}")
    for table, count in counts.items():
        target.fill(table, progress.count("copying", table, count, source.read(table)))
    for table, count in counts.items():
        compare(table, progress.count("comparing", table, count, _whole(table, source)), target.read(table))
    source.check_unused()
    for number in _INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    target.keep(source.log_id)
    source.retire()
    return counts


def compare(table: str, ones: Iterable[list[Row]], others: Iterable[list[Row]]) -> None:
    """Raises Differs at the first row that is not the same in both."""
    done = 0
    nothing: list[Row] = []
    for one, other in zip_longest(ones, others, fillvalue=nothing):
        if one != other:
            number, pair = _first_difference(one, other)
            raise Differs(
                f"{table}, row {done + number}, is {_shown(pair[0])} and was read back as {_shown(pair[1])}"
            )
        done += len(one)


def _first_difference(one: list[Row], other: list[Row]) -> tuple[int, tuple[Row | None, Row | None]]:
    pairs = enumerate(zip_longest(one, other), 1)
    return next((number, pair) for number, pair in pairs if pair[0] != pair[1])


def _whole(table: str, source: ISource) -> Rows:
    """The rows of the source. Raises Differs where a room lacks one of its numbers."""
    return _numbered(source) if table == "messages" else source.read(table)


def _numbered(source: ISource) -> Rows:
    rooms = {row[0]: row for page in source.read("rooms") for row in page}
    seqs = {place: first for place, (_, _, _, first, _) in rooms.items()}
    for page in source.read("messages"):
        for room, seq, *_ in page:
            if seqs[room] != seq:
                raise Differs(_lacking(rooms, room, seqs))
            seqs[room] = seq + 1
        yield page
    for place, (_, _, last, _, _) in rooms.items():
        if seqs[place] != last + 1:
            raise Differs(_lacking(rooms, place, seqs))


def _lacking(rooms: dict[int, Row], place: int, seqs: dict[int, int]) -> str:
    return f"the room {rooms[place][1]} has no number {seqs[place]}, or one that it should not have"


def _shown(row: Row | None) -> str:
    return "none" if row is None else f"{row!r:.200}"


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {table}" for table, count in counts.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Returns its exit code: 0 where all was moved, else 1, or 130 after an interruption."""
    options = _parser().parse_args(arguments)
    try:
        with _interruptible():
            _move(options.source, options.target, Progress(sys.stdout))
    except (StoreUnusable, StoreError, Differs) as failed:
        return _fail(f"{failed}; nothing was moved", 1)
    except KeyboardInterrupt:
        return _fail("interrupted; nothing was moved: TO is empty, drop it or begin anew", 130)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m chatd.move",
        description="Moves a chat that nobody uses to another database, which must be empty: rooms, messages with "
        "their numbers, sessions. All is read back and compared.",
        epilog="FROM and TO are as for twistd chat --db: a path, or postgresql://user@host/name. A password is "
        "better kept in the file that PGPASSFILE names: arguments can be seen by everybody on the machine. "
        "FROM is not changed.",
    )
    parser.add_argument("source", metavar="FROM", help="where the chat is")
    parser.add_argument("target", metavar="TO", help="where it is to be")
    return parser


def _fail(text: str, code: int) -> int:
    start = "\n" if sys.stdout.isatty() else ""
    print(f"{start}chatd.move: {text}", file=sys.stderr)
    return code


@contextmanager
def _interruptible() -> Iterator[None]:
    """Being asked to end is a KeyboardInterrupt."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in _INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _move(from_url: str, to_url: str, progress: Progress) -> None:
    begin = monotonic()
    with closing(source_of(from_url)) as source, closing(target_of(to_url)) as target:
        source.open()
        if source.identity != target.identity:
            target.open()
        if source.identity == target.identity:
            raise StoreUnusable(f"FROM and TO are both {source.name}")
        target.begin()
        counts = move(source, target, progress)
    seconds = monotonic() - begin
    rate = counts["messages"] / seconds
    progress.say(f"moved, and compared, in {seconds:,.1f} s: {rate:,.0f} messages a second")
    progress.say(f"start chatd on {target.name} now; {source.name} is as it was, and not to be used any more")


if __name__ == "__main__":
    raise SystemExit(main())
