"""docs/protocol.md: its transcripts happen so, its tables are complete, its bot runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, get_args

import pytest
from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from chatd import errors, framing, hub, journal, names, outbox, pacing, server, sessions, settings, text, wire
from chatd.member import JOIN_WEIGHT, SEARCH_WEIGHT
from tests.daemon import PATIENCE, Daemon, Peer

DOCUMENT = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text()
#: What stands in for what is another each time.
PLACEHOLDERS = {
    r"<([a-z]+)>": None,
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
    r"\[\d{4}-\d\d-\d\d \d\d:\d\dZ\]": r"\[\d{4}-\d\d-\d\d \d\d:\d\dZ\]",
    r"chatd \d+\.\d+\.\d+": r"chatd \d+\.\d+\.\d+",
}


class Step(NamedTuple):
    """A line of a transcript; `who` is empty where the server itself does something."""

    who: str
    what: str
    line: str


class Transcript(NamedTuple):
    """What happens at a daemon with these options."""

    options: list[str]
    steps: list[Step]


def blocks(kind: str) -> Iterator[tuple[str, str]]:
    """What stands behind the kind of each fenced block, and its text."""
    for found in re.finditer(rf"^```{kind}(.*?)\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL):
        yield found[1].strip(), found[2]


def transcripts() -> Iterator[Transcript]:
    for options, block in blocks("transcript"):
        steps = [re.fullmatch(r"(\w*) ?(->|<-|--) (.*)", line) for line in block.splitlines()]
        assert all(steps), block
        yield Transcript(shlex.split(options), [Step(*step.groups()) for step in steps if step])


class Replay:
    """The clients of a transcript, at a real daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.values: dict[str, str] = {}
        self._peers: dict[str, Peer] = {}
        self._lines: dict[str, deque[str]] = {}
        self._json: dict[str, bool] = {}
        self._happenings: dict[str, Callable[[], None]] = {
            "the server is killed and started again": self._restart,
            "the server is told to stop": daemon.stop,
        }

    def run(self, steps: list[Step]) -> None:
        for step, following in zip(steps, [*steps[1:], None], strict=True):
            if step.what == "->":
                self._send(step)
                if following is not None and following.what != "<-" and following.who != step.who:
                    self._settle(step.who)
            elif step.what == "<-":
                line = self._read(step.who)
                assert self._fits(step.line, line), f"{step} came as {line}"
            else:
                self._happen(step)
        for who in list(self._peers):
            self._check_rest(who)

    def _peer(self, who: str) -> Peer:
        if who not in self._peers:
            self._peers[who] = self.daemon.peer()
            self._lines[who] = deque()
        return self._peers[who]

    def _send(self, step: Step) -> None:
        line = re.sub("<([a-z]+)>", lambda found: self.values[found[1]], step.line)
        self._json.setdefault(step.who, line.startswith("{"))
        self._peer(step.who).send(line.encode() + b"\n")

    def _read(self, who: str) -> str:
        lines = self._lines[who]
        return lines.popleft() if lines else self._peer(who).read_line().decode()

    def _fits(self, documented: str, line: str) -> bool:
        """Whether the line is the documented one, but for what is another each time."""
        pattern, at = "", 0
        for found in re.finditer("|".join(PLACEHOLDERS), documented):
            pattern += re.escape(documented[at : found.start()])
            name = found[1]
            if name is None:
                pattern += next(
                    value for key, value in PLACEHOLDERS.items() if value and re.fullmatch(key, found[0])
                )
            elif name in self.values:
                pattern += re.escape(self.values[name])
            else:
                pattern += f'(?P<{name}>[^"{{}}]+)'
            at = found.end()
        matched = re.fullmatch(pattern + re.escape(documented[at:]), line)
        if matched:
            new = matched.groupdict()
            assert not set(new.values()) & set(self.values.values()), f"{new} has been seen under another name"
            self.values |= new
        return matched is not None

    def _settle(self, who: str) -> None:
        """Wait until what a person said is kept."""
        self._until(who, "/since 999999999", r"\* That was up to .*")

    def _check_rest(self, who: str) -> None:
        """Nothing has come that is not in the transcript."""
        if self._json.get(who, True):
            self._until(who, '{"type":"ping","id":"rest"}', re.escape('{"type":"pong","id":"rest"}'))
        else:
            self._until(who, "/who", r"\* \d+ in .*")
        assert not self._lines[who]

    def _until(self, who: str, question: str, answer: str) -> None:
        self._peers[who].send(question.encode() + b"\n")
        while not re.fullmatch(answer, line := self._peers[who].read_line().decode()):
            self._lines[who].append(line)

    def _happen(self, step: Step) -> None:
        if not step.who:
            self._happenings[step.line]()
            return
        peer = self._peer(step.who)
        match step.line:
            case "connects":
                pass
            case "closes its side":
                peer.finish()
            case "loses the connection":
                peer.reset()
                del self._peers[step.who]
            case "is disconnected":
                assert not self._lines[step.who]
                assert peer.read_to_end() == b""
                del self._peers[step.who]
            case _:
                raise AssertionError(f"what does this mean: {step.line}")

    def _restart(self) -> None:
        self.daemon.kill()
        self._peers.clear()
        self.daemon.restart()


@pytest.mark.parametrize("transcript", list(transcripts()), ids=lambda transcript: transcript.steps[-1].line[:50])
def test_each_transcript_happens_so(tmp_path: Path, transcript: Transcript) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sesame\n")
    secret.chmod(0o600)
    # A reader takes more time than a replay.
    with Daemon(tmp_path, "--rate", "off", *transcript.options) as daemon:
        Replay(daemon).run(transcript.steps)


def test_there_are_transcripts_of_both_dialects() -> None:
    first = [next(step.line for step in transcript.steps if step.what == "->") for transcript in transcripts()]
    assert sum(line.startswith("{") for line in first) >= 5
    assert sum(not line.startswith("{") for line in first) >= 4


def test_a_replay_can_fail() -> None:
    replay = Replay.__new__(Replay)
    replay.values = {}
    assert replay._fits('{"token":"<token>"}', '{"token":"abc"}')
    assert replay._fits('{"token":"<token>"}', '{"token":"abc"}')
    assert not replay._fits('{"token":"<token>"}', '{"token":"abd"}')
    assert not replay._fits('{"token":"<other>"}', '{"token":"x","more":1}')
    assert replay._fits("#1 [2026-11-22 14:05Z] ana: a.c", "#1 [2030-01-01 00:00Z] ana: a.c")
    assert not replay._fits("#1 [2026-11-22 14:05Z] ana: a.c", "#1 [2030-01-01 00:00Z] ana: abc")


# The tables


def rows(heading: str, columns: int) -> list[list[str]]:
    """The cells of the table under a heading, but for its first line."""
    section = DOCUMENT.split(f"\n{heading}\n")[1].split("\n#")[0]
    cells = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    assert all(len(row) == columns for row in cells)
    return [[cell.strip() for cell in row] for row in cells[2:]]


@pytest.mark.parametrize(
    ("heading", "kinds"),
    [
        ("### What a client sends", get_args(wire.AnyRequest)),
        ("### What the server sends", get_args(wire.AnyAnswer)),
    ],
)
def test_every_message_and_every_field_is_in_its_table(heading: str, kinds: tuple[type[Struct], ...]) -> None:
    documented = {row[0]: sorted(re.findall(r"`(\w+\??)`", row[1])) for row in rows(heading, 3)}
    assert documented == {f"`{kind.__struct_config__.tag}`": sorted(written(kind)) for kind in kinds}


def written(kind: type[Struct]) -> list[str]:
    """The fields of a message as the tables write them."""
    return [
        field.encode_name + ("" if field.default is NODEFAULT and field.default_factory is NODEFAULT else "?")
        for field in fields(kind)
    ]


def test_every_error_is_in_its_table() -> None:
    kinds: list[type[errors.ChatError]] = errors.ChatError.__subclasses__()
    documented = {row[0].strip("`"): row[1] for row in rows("### Errors", 3)}
    assert documented == {kind.code: "true" if kind.retry else "false" for kind in kinds}


@pytest.mark.parametrize(
    "phrase",
    [
        f"at most {framing.BoundedLineReceiver.MAX_LENGTH:,} bytes",
        f"after {server.GREET_AFTER * 1000:g} ms",
        f"within {server.NAME_WITHIN:g} seconds",
        f"1 to {names.MAX_NAME} characters",
        f"1 to {names.MAX_TEXT:,} characters",
        f"more than {names.MAX_TEXT:,} characters",
        f"more than {wire.MAX_LINE:,} bytes",
        f"No line has more than {wire.MAX_ANSWER // 1024} KiB",
        f"At most {wire.MAX_MESSAGES} messages",
        f"At most {wire.MAX_MEMBERS:,} names",
        f"At most {hub.ANSWER_ROOMS:,} objects",
        f"at most {wire.MAX_NAMES} names",
        f"The connection is in {hub.MAX_ROOMS_EACH} rooms",
        f"The session has {sessions.MAX_CONNECTIONS} connections",
        f"refused after {journal.WAITING_AFTER:g} seconds",
        f"in a room for {hub.ESTABLISHED_AFTER:g} seconds",
        f"more than {hub.SEARCH_SECONDS:g} seconds",
        f"{outbox.MAX_WAITING // 1024} KiB of answers",
        f"`join` counts as {JOIN_WEIGHT}, `search` as {SEARCH_WEIGHT}",
        f"`--rate {settings.DEFAULTS['rate']}`",
        f"`--grace` seconds ({settings.DEFAULTS['grace']})",
        f"`--session-days` ({settings.DEFAULTS['session-days']})",
        f"`--stall-timeout` seconds ({settings.DEFAULTS['stall-timeout']})",
        f"`{text.LOBBY}` at first",
    ],
)
def test_the_numbers_are_those_of_the_server(phrase: str) -> None:
    assert phrase in " ".join(DOCUMENT.split())


def test_the_rate_in_words() -> None:
    rate = server.Limits().rate
    assert rate == pacing.Rate(20, 2)
    assert "20 at once, then 10 a second" in DOCUMENT
    assert text.TRIES == 5
    assert "five times in all" in DOCUMENT


# The bot


def test_the_bot_of_ten_lines(tmp_path: Path) -> None:
    ((_, code),) = blocks("python")
    assert len(code.splitlines()) == 10
    (tmp_path / "parrot.py").write_text(code)
    with Daemon(tmp_path) as daemon:
        ana = daemon.text("ana")
        bot = subprocess.Popen([sys.executable, "parrot.py", "127.0.0.1", str(daemon.port)], cwd=tmp_path)
        try:
            ana.until(r"\* parrot joined")
            ana.say("hola")
            ana.say("!say ¿qué tal?")
            assert ana.read() == "parrot: ¿qué tal?"
            ana.say("!say adiós")
            assert ana.read() == "parrot: adiós"
        finally:
            bot.kill()
            bot.wait(PATIENCE)
