"""What requests cost as the log grows: a start, a join, a page, a search, a return from far behind."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from benchmarks.client import Client, Line
from benchmarks.generator import spread
from benchmarks.servers import Running

BATCH = 500
BEHIND = 10_000
REPEATS = 15
VOCABULARY = 5000
QUIET_SECONDS = 4
INDEX_SECONDS = 3600

Row = dict[str, Any]


def measure_history(running: Running, sizes: list[int], say: Callable[[str], None]) -> Iterator[Row]:
    """Fills the one database to each size in turn, and measures at each."""
    numbers = random.Random(1)
    kept = 0
    for size in sizes:
        begin = time.monotonic()
        kept = _fill(running.port, kept, size, numbers)
        say(f"{size} messages after {time.monotonic() - begin:.1f} s")
        early = {"search_before_indexed_ms": _search(running.port, "nowhere")}
        early["indexed_after_s"] = _wait_until_quiet(running.pid)
        running.stop()
        running.start_again()
        row = {"server": running.server.name, "messages": size, "result": early | _measure(running, size)}
        say(str(row))
        yield row


def _text(number: int, numbers: random.Random) -> str:
    """Ten words, some frequent and most rare, as in a language; and one that is in every 100,000th message."""
    words = [f"w{int(VOCABULARY ** numbers.random())}" for _ in range(10)]
    if number % 100_000 == 1:
        words.append("needle")
    return " ".join(words)


def _fill(port: int, kept: int, size: int, numbers: random.Random) -> int:
    with Client(port, f"filler{size}") as client:
        sent = kept
        while kept < size:
            while sent < size and sent - kept < 2 * BATCH:
                more = range(sent, min(sent + BATCH, size))
                client.send(_say(number, _text(number, numbers)) for number in more)
                sent = more.stop
            kept = int(client.wait_for("kept")["seq"])
    return kept


def _say(number: int, text: str) -> Line:
    return {"type": "say", "room": "lobby", "id": f"m{number}", "text": text}


def _search(port: int, words: str) -> float:
    """Milliseconds until there are results, or the search is cut off, as one is that takes two seconds."""
    with Client(port, "seeker") as client:
        begin = time.perf_counter()
        client.send([{"type": "search", "room": "lobby", "words": words}])
        try:
            client.wait_for("results")
        except RuntimeError as error:
            if '"too_slow"' not in str(error):
                raise
        return (time.perf_counter() - begin) * 1000


def _wait_until_quiet(pid: int) -> float:
    """The seconds until the search index has caught up: then the server takes no CPU time to speak of."""
    begin = time.monotonic()
    quiet = 0
    while quiet < QUIET_SECONDS and time.monotonic() - begin < INDEX_SECONDS:
        before = _cpu_ticks(pid)
        time.sleep(1)
        quiet = quiet + 1 if _cpu_ticks(pid) - before < 3 else 0
    return time.monotonic() - begin - quiet


def _cpu_ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _measure(running: Running, size: int) -> dict[str, float]:
    starts = [running.seconds_to_start]
    for _ in range(2):
        running.stop()
        running.start_again()
        starts.append(running.seconds_to_start)
    return {
        "start_ms": spread(starts).middle * 1000,
        "join_ms": median(_join(running.port, -20, size) for _ in range(REPEATS)),
        "behind_ms": median(_join(running.port, size - min(BEHIND, size // 2), size) for _ in range(3)),
        "rss_mib": _rss_mib(running.pid),
        **_requests(running.port, size),
    }


def _join(port: int, after: int, size: int) -> float:
    """Milliseconds from the connection to the last message."""
    begin = time.perf_counter()
    with Client(port, "reader", after) as client:
        client.wait_for_number(size)
    return (time.perf_counter() - begin) * 1000


def _requests(port: int, size: int) -> dict[str, float]:
    requests: dict[str, tuple[Line, str]] = {
        "newest_page_ms": ({"type": "history", "limit": 100}, "history"),
        "middle_page_ms": ({"type": "history", "before": size // 2, "limit": 100}, "history"),
        "oldest_page_ms": ({"type": "history", "after": 0, "limit": 100}, "history"),
        "frequent_word_ms": ({"type": "search", "words": "w1"}, "results"),
        "two_words_ms": ({"type": "search", "words": "w1 w2"}, "results"),
        "rare_word_ms": ({"type": "search", "words": "needle"}, "results"),
        "no_such_word_ms": ({"type": "search", "words": "nowhere"}, "results"),
    }
    with Client(port, "asker") as client:
        return {
            name: median(client.timed({"room": "lobby", **request}, kind) for _ in range(REPEATS))
            for name, (request, kind) in requests.items()
        }


def _rss_mib(pid: int) -> float:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20
