"""Makes tables and a plot of what was measured, and puts them into docs/performance.md between its markers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks import servers
from benchmarks.build import HERE
from benchmarks.generator import Result, Spread, spread

Row = dict[str, Any]
Key = tuple[Any, ...]

DOCS = HERE.parent / "docs"
PAGE = DOCS / "performance.md"
TITLES = {server.name: server.title for server in servers.ALL}

#: From here on the generator may have been the slower one, and the figure is a lower bound.
GENERATOR_FULL = 95.0

#: What was wanted of chatd: (members, in flight, rooms) to the ratio to each other server.
WANTED = {
    (1000, 512, 1): {"bare": 1.0, "inspircd": 4.0},
    (1000, 64, 1): {"inspircd": 2.5, "threads": 4.0},
    (100, 64, 1): {"inspircd": 2.0, "threads": 2.5},
    (10, 64, 1): {"inspircd": 1.3, "threads": 1.0},
}


def publish(name: str, text: str) -> None:
    """Puts `text` between the markers of that name; a page without them gets them at its end."""
    page = PAGE.read_text() if PAGE.exists() else "# Performance\n"
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    block = f"{begin}\n{text.strip()}\n{end}"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    page = pattern.sub(lambda _: block, page) if pattern.search(page) else f"{page.rstrip()}\n\n{block}\n"
    DOCS.mkdir(exist_ok=True)
    PAGE.write_text(page)


def render(name: str, rows: list[Row]) -> str:
    """The tables of a scenario, in Markdown."""
    good = [row for row in rows if "failed" not in row["result"]]
    failed = sorted({f"{TITLES[row['server']]}: {row['result']['failed']}" for row in rows if row not in good})
    notes = "".join(f"\n\nFailed: {text.splitlines()[0][:200]}" for text in failed)
    return RENDERERS[name](good) + notes


# Pieces


def _markdown(head: list[str], lines: Iterable[list[str]]) -> str:
    table = [head, ["---", *["---:"] * (len(head) - 1)], *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in table)


def _groups(rows: list[Row], key: Callable[[Row], Key]) -> dict[Key, list[Result]]:
    found: dict[Key, list[Result]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row["result"])
    return found


def _server_names(rows: list[Row]) -> list[str]:
    present = {row["server"] for row in rows}
    return [name for name in TITLES if name in present]


def _rate(values: Spread) -> str:
    return f"{_short(values.middle)} ({_short(values.low)}–{_short(values.high)})"


def _short(value: float) -> str:
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {letter}"
    return _number(value)


def _number(value: float) -> str:
    """Three digits, or all that stand before the point."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _ms(microseconds: float) -> str:
    return _number(microseconds / 1000)


def _mib(kib: float) -> str:
    return f"{kib / 1024:.1f}"


def _middle(results: list[Result], *path: str) -> float:
    return _spread(results, *path).middle


def _spread(results: list[Result], *path: str) -> Spread:
    return spread(_get(result, path) for result in results)


def _get(result: Result, path: tuple[str, ...]) -> float:
    value: Any = result
    for name in path:
        value = value[name]
    return float(value)


def _mark(results: list[Result]) -> str:
    """A dagger where a run was not delivered in full and in order to everybody."""
    return "" if all(result["verified"] for result in results) else " †"


def _latencies(results: list[Result]) -> list[str]:
    return [_ms(_middle(results, "latency_us", name)) for name in ("p50", "p99")]


def _cell_title(listeners: int, in_flight: int, rooms: int) -> str:
    return f"{listeners:,}, {in_flight}" + (f", {rooms} rooms" if rooms > 1 else "")


# The table


def _cell(row: Row) -> Key:
    return row["listeners"], row["in_flight"], row["rooms"]


def _table(rows: list[Row]) -> str:
    groups = _groups(rows, lambda row: (_cell(row), row["server"]))
    cells = list(dict.fromkeys(_cell(row) for row in rows))
    names = _server_names(rows)
    head = ["members, in flight", *(TITLES[name] for name in names)]

    def grid(show: Callable[[list[Result]], str]) -> str:
        lines = (
            [_cell_title(*cell), *(_shown(groups.get((cell, name)), show) for name in names)] for cell in cells
        )
        return _markdown(head, lines)

    return "\n\n".join(
        [
            "Deliveries a second: median (lowest–highest)",
            grid(_deliveries),
            "Latency in ms: p50 / p99",
            grid(lambda results: " / ".join(_latencies(results))),
            "CPU in percent of one core, server / generator; and the server's CPU time per message",
            grid(_cpu),
            "Times as fast: chatd's text door over the others, ratios of medians",
            _ratios(groups, cells, names),
        ]
    )


def _shown(results: list[Result] | None, show: Callable[[list[Result]], str]) -> str:
    return show(results) if results else ""


def _deliveries(results: list[Result]) -> str:
    bound = "≥ " if _middle(results, "generator_cpu_percent") >= GENERATOR_FULL else ""
    return bound + _rate(_spread(results, "deliveries_per_second")) + _mark(results)


def _cpu(results: list[Result]) -> str:
    server, own = (_middle(results, f"{part}_cpu_percent") for part in ("server", "generator"))
    rate = _middle(results, "messages_per_second")
    each = f", {_number(server / 100 / rate * 1e6)} µs" if rate else ""
    return f"{server:.0f} / {own:.0f}{each}"


def _ratios(groups: dict[Key, list[Result]], cells: list[Key], names: list[str]) -> str:
    others = [name for name in names if not name.startswith("chatd")]
    lines = []
    for cell in cells:
        ours = groups.get((cell, "chatd-text"))
        ratios = [_ratio(ours, groups.get((cell, name)), WANTED.get(cell, {}).get(name)) for name in others]
        lines.append([_cell_title(*cell), *ratios])
    return _markdown(["members, in flight", *(TITLES[name] for name in others)], lines)


def _ratio(ours: list[Result] | None, theirs: list[Result] | None, wanted: float | None) -> str:
    if not ours or not theirs:
        return ""
    lower = _middle(theirs, "deliveries_per_second")
    ratio = _middle(ours, "deliveries_per_second") / lower if lower else 0
    return f"{ratio:.2f}" + (f" (wanted {wanted:g})" if wanted else "")


# The other scenarios


def _lines(rows: list[Row], key: list[str], show: Callable[[list[Result]], list[str]]) -> Iterable[list[str]]:
    """A line for each server and each value of the fields in `key`, which become its first columns."""
    for (name, *values), results in _groups(rows, lambda row: (row["server"], *(row[k] for k in key))).items():
        yield [TITLES[name] + _mark(results), *(f"{value:,}" for value in values), *show(results)]


def _open_loop(rows: list[Row]) -> str:
    def show(results: list[Result]) -> list[str]:
        rate = _middle(results, "deliveries_per_second")
        return [_short(rate), *_latencies(results), f"{_middle(results, 'server_cpu_percent'):.0f}"]

    head = ["server", "members", "messages a second", "deliveries a second", "p50 ms", "p99 ms", "server CPU %"]
    return _markdown(head, _lines(sorted(rows, key=lambda row: row["listeners"]), ["listeners", "rate"], show))


def _shares(rows: list[Row]) -> str:
    groups = _groups(rows, lambda row: (row["server"], row["listeners"], row["share"]))
    lines = []
    for name, listeners in dict.fromkeys((row["server"], row["listeners"]) for row in rows):
        found = [groups.get((name, listeners, share), []) for share in (10, 50, 90)]
        shown = [f"{' / '.join(_latencies(results))}{_mark(results)}" if results else "" for results in found]
        lines.append([TITLES[name], f"{listeners:,}", *shown])
    return _markdown(["p50 / p99 in ms", "members", "at 10 %", "at 50 %", "at 90 %"], lines)


def _slow(rows: list[Row]) -> str:
    def show(results: list[Result]) -> list[str]:
        slow = results[0].get("slow", {})
        grown = spread(_get(r, ("server_rss_kib", "peak")) - _get(r, ("server_rss_kib", "begin")) for r in results)
        complete = f"{slow['complete']} of {slow['readers']}" if slow else ""
        return [
            *_latencies(results),
            _mib(_middle(results, "server_rss_kib", "begin")),
            _mib(grown.middle),
            complete,
        ]

    head = ["server", "members", "p50 ms", "p99 ms", "memory MiB", "grew by MiB", "slow readers that got all"]
    return _markdown(head, _lines(rows, ["listeners"], show))


def _storm(rows: list[Row]) -> str:
    join = [row for row in rows if row["what"] == "join"]
    back = [row for row in rows if row["what"] == "come back"]
    return "\n\n".join([_storm_joins(join), _storm_returns(back)])


def _storm_joins(rows: list[Row]) -> str:
    def show(results: list[Result]) -> list[str]:
        storm = results[0]["storm"]
        times = [f"{storm[name]:.2f}" for name in ("seconds_until_in", "seconds_until_live")]
        seen = [f"{storm['observer_notices']:,}", f"{storm['observer_bytes']:,}"]
        peak = _middle(results, "server_peak_kib")
        return [f"{storm['live']:,} of {storm['clients']:,}", *times, *seen, _latencies(results)[1], _mib(peak)]

    head = ["server", "came in", "s until all are in", "s until all are live", "lines each member saw"]
    return _markdown([*head, "bytes", "p99 ms meanwhile", "memory MiB"], _lines(rows, [], show))


def _storm_returns(rows: list[Row]) -> str:
    def show(results: list[Result]) -> list[str]:
        back = results[0]["comeback"]
        times = [f"{back[name]:.2f}" for name in ("seconds_until_in", "seconds_until_live")]
        errors = results[0]["errors"]
        peak = _middle(results, "server_peak_kib")
        return [f"{back['live']:,}", *times, f"{errors['missing']:,}", f"{errors['repeated']:,}", _mib(peak)]

    head = ["server, killed and started", "came back", "s until all are in", "s until all are live"]
    return _markdown([*head, "missed", "seen twice", "memory MiB"], _lines(rows, [], show))


def _idle(rows: list[Row]) -> str:
    def show(results: list[Result]) -> list[str]:
        memory = [_middle(results, "server_rss_kib", name) for name in ("before", "end")]
        connected = int(_middle(results, "in"))
        each = (memory[1] - memory[0]) / max(connected, 1)
        return [
            f"{connected:,}",
            _mib(memory[0]),
            _mib(memory[1]),
            f"{each:.1f}",
            f"{_middle(results, 'server_cpu_percent'):.1f}",
        ]

    head = ["server", "wanted", "connected", "MiB before", "MiB then", "KiB a connection", "CPU %"]
    return _markdown(head, _lines(rows, ["listeners"], show))


def _disk(rows: list[Row]) -> str:
    def show(results: list[Result]) -> list[str]:
        ping = _ms(_middle(results, "ping_us", "p99")) if "ping_us" in results[0] else ""
        return [_short(_middle(results, "deliveries_per_second")), *_latencies(results), ping]

    head = ["server", "members", "in flight", "messages a second", "flush slowed by ms"]
    keys = ["listeners", "in_flight", "rate", "flush_ms"]
    return _markdown([*head, "deliveries a second", "p50 ms", "p99 ms", "p99 of a ping"], _lines(rows, keys, show))


def _history(rows: list[Row]) -> str:
    sizes = [row["messages"] for row in rows]
    names = list(rows[0]["result"]) if rows else []
    lines = [[name.replace("_", " "), *(f"{row['result'][name]:.2f}" for row in rows)] for name in names]
    return _markdown(["", *(f"{size:,} messages" for size in sizes)], lines)


RENDERERS: dict[str, Callable[[list[Row]], str]] = {
    "table": _table,
    "rest": _open_loop,
    "half": _open_loop,
    "shares": _shares,
    "slow": _slow,
    "storm": _storm,
    "idle": _idle,
    "history": _history,
    "disk": _disk,
}


# The plot


def plot(rows: list[Row], folder: Path = DOCS) -> None:
    """performance.png and performance.svg: deliveries a second and p99 against members, at 64 in flight."""
    try:
        import matplotlib  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "chatd"
    from matplotlib import pyplot

    chosen = [
        row for row in rows if row["in_flight"] == 64 and row["rooms"] == 1 and "failed" not in row["result"]
    ]
    figure, (rates, delays) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    _draw(rates, chosen, ("deliveries_per_second",), 1, "deliveries a second")
    _draw(delays, chosen, ("latency_us", "p99"), 1e-3, "latency p99, ms")
    handles, labels = rates.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    figure.savefig(folder / "performance.png", dpi=110)
    figure.savefig(folder / "performance.svg", metadata={"Date": None})
    pyplot.close(figure)


def _draw(axes: Any, rows: list[Row], path: tuple[str, ...], factor: float, title: str) -> None:
    groups = _groups(rows, lambda row: (row["server"], row["listeners"]))
    for name in _server_names(rows):
        members = sorted(listeners for server, listeners in groups if server == name)
        found = [_spread(groups[name, listeners], *path) for listeners in members]
        middle = [values.middle * factor for values in found]
        errors = [[(v.middle - v.low) * factor for v in found], [(v.high - v.middle) * factor for v in found]]
        colour = f"C{list(TITLES).index(name)}"
        axes.errorbar(
            members, middle, errors, label=TITLES[name], color=colour, marker="o", markersize=4, capsize=2
        )
    axes.set(xscale="log", yscale="log", xlabel="members", title=title)
    axes.set_xticks(sorted({listeners for _, listeners in groups}))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter(lambda value, _: _short(value))
    axes.minorticks_off()
    axes.grid(visible=True, which="major", alpha=0.3)
