"""The options: flag before environment before default, and one line about what is wrong."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatd import __version__
from chatd.pacing import Rate
from chatd.settings import DEFAULTS, MAX_MOTD, PARSERS, RESERVED_DESCRIPTORS, TEST_PREFIX, Options

Environment = Callable[..., None]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Environment:
    """Sets variables, in an environment without others of chatd."""
    for name in [name for name in os.environ if name.startswith("CHATD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def set_variables(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(f"CHATD_{name}", value)

    return set_variables


@pytest.fixture
def most_files() -> Iterator[int]:
    """A process that may open few files now, and this many if it asks for it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (500, before[1]))
    yield 1_000_000 if before[1] == resource.RLIM_INFINITY else before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def parsed(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(list(arguments))
    return options


def refusal(*arguments: str) -> str:
    """The line that ends the start."""
    with pytest.raises(SystemExit) as ended:
        parsed(*arguments)
    line = ended.value.code
    assert isinstance(line, str), "the exit code would be 0"
    assert line.startswith("chatd: ")
    assert len(line.splitlines()) == 1
    return line.removeprefix("chatd: ")


def test_it_runs_bare() -> None:
    options = parsed()
    most = options.pop("max-clients")
    assert most > RESERVED_DESCRIPTORS
    assert options == {
        "port": ["5000"],
        "web": [],
        "trust-proxy": [],
        "db": "chat.db",
        "log": "chat_server.log",
        "log-format": "text",
        "no-log-messages": 0,
        "password-file": None,
        "motd": None,
        "history": 20,
        "grace": 90.0,
        "session-days": 30.0,
        "stall-timeout": 600.0,
        "max-rooms": 10000,
        "rate": Rate(20, 2),
        "retain": None,
    }


GOOD = [
    ("db", "/srv/chat.db", "/srv/chat.db"),
    ("db", "postgresql://localhost/chat", "postgresql://localhost/chat"),
    ("log", "/var/log/chat.log", "/var/log/chat.log"),
    ("log-format", "json", "json"),
    ("motd", "Be kind", "Be kind"),
    ("history", "0", 0),
    ("history", "1000", 1000),
    ("grace", "0", 0.0),
    ("grace", "2.5", 2.5),
    ("session-days", "0.01", 0.01),
    ("stall-timeout", "60", 60.0),
    ("max-rooms", "1", 1),
    ("max-clients", "7", 7),
    ("rate", "5/1", Rate(5, 1)),
    ("rate", "off", None),
    ("retain", "365", 365.0),
]


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_each_option(name: str, text: str, value: Any) -> None:
    assert parsed(f"--{name}", text)[name] == value
    assert parsed(f"--{name}={text}")[name] == value


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_each_variable(environment: Environment, name: str, text: str, value: Any) -> None:
    environment(**{name.upper().replace("-", "_"): text})
    assert parsed()[name] == value


def test_a_flag_comes_before_the_environment(environment: Environment) -> None:
    environment(HISTORY="5", PORT="6000", LOG_FORMAT="nonsense")
    options = parsed("--history", "7", "--port", "7000", "--log-format", "json")
    assert (options["history"], options["port"], options["log-format"]) == (7, ["7000"], "json")


def test_all_that_is_parsed_is_tested() -> None:
    assert {name for name, _, _ in GOOD} | {"password-file"} == set(PARSERS)


BAD = [
    (("--history", "many"), "--history many: must be a whole number from 0 to 1000"),
    (("--history", "-1"), "--history -1: must be a whole number from 0 to 1000"),
    (("--history", "1001"), "--history 1001: must be a whole number from 0 to 1000"),
    (("--history", "\u0663"), "--history \u0663: must be a whole number from 0 to 1000"),
    (("--max-rooms", "0"), "--max-rooms 0: must be a whole number from 1 to 1000000"),
    (("--max-clients", "1.5"), "--max-clients 1.5: must be a whole number from 1 to 10000000"),
    (("--grace", "nan"), "--grace nan: must be a number of seconds from 0 to 86400"),
    (("--grace", "-1"), "--grace -1: must be a number of seconds from 0 to 86400"),
    (("--stall-timeout", "0"), "--stall-timeout 0: must be a number of seconds from 1 to 86400"),
    (("--session-days", "inf"), "--session-days inf: must be a number of days from 0.01 to 36500"),
    (("--retain", "0"), "--retain 0: must be a number of days from 0.01 to 36500"),
    (("--retain", ""), "--retain: must be a number of days from 0.01 to 36500"),
    (("--log-format", "xml"), "--log-format xml: must be text or json"),
    (("--rate", "fast"), "--rate fast: must be MESSAGES/SECONDS, such as 20/2, or off"),
    (("--rate", "20"), "--rate 20: must be MESSAGES/SECONDS, such as 20/2, or off"),
    (("--rate", "20/0"), "--rate 20/0: must be MESSAGES/SECONDS, such as 20/2, or off"),
    (("--rate", "0/1"), "--rate 0/1: must be MESSAGES/SECONDS, such as 20/2, or off"),
    (("--rate", "1/2/3"), "--rate 1/2/3: must be MESSAGES/SECONDS, such as 20/2, or off"),
    (("--db", ""), "--db: must not be empty"),
    (("--log", ""), "--log: must not be empty"),
    (("--motd", "@missing"), "--motd @missing: No such file or directory"),
    (("--motd", "x" * (MAX_MOTD + 1)), f"--motd: must have at most {MAX_MOTD} characters"),
    (("--password-file", "missing"), "--password-file missing: No such file or directory"),
    (("--password-file", "."), "--password-file .: Is a directory"),
    (("--colour", "red"), "option --colour not recognized; see: twistd chat --help"),
    (("--history",), "option --history requires argument; see: twistd chat --help"),
    (("5000",), "'5000' is not an option; see: twistd chat --help"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD)
def test_what_is_wrong_is_said_in_one_line(arguments: tuple[str, ...], said: str) -> None:
    assert refusal(*arguments) == said


def test_what_is_wrong_in_the_environment(environment: Environment) -> None:
    environment(HISTORY="many")
    assert refusal() == "CHATD_HISTORY=many: must be a whole number from 0 to 1000"


def test_a_variable_that_is_no_option(environment: Environment) -> None:
    environment(HISTROY="5")
    line = refusal()
    assert line.startswith("the environment has CHATD_HISTROY, which is no option: known are CHATD_DB, ")
    assert "CHATD_HISTORY" in line


def test_variables_of_the_tests_are_passed_over(environment: Environment) -> None:
    environment(**{TEST_PREFIX.removeprefix("CHATD_") + "ANYTHING": "5"})
    assert parsed()["history"] == 20


def test_several_ports(environment: Environment) -> None:
    environment(PORT="6000 unix:/run/chatd.sock")
    assert parsed()["port"] == ["6000", "unix:/run/chatd.sock"]
    assert parsed("--port", "1", "-p", "tcp:2")["port"] == ["1", "tcp:2"]
    environment(PORT=" ")
    assert parsed()["port"] == ["5000"]


@pytest.mark.parametrize(
    ("value", "quiet"), [("1", True), ("yes", True), ("TRUE", True), ("0", False), ("no", False), ("", False)]
)
def test_the_flag_in_the_environment(environment: Environment, value: str, quiet: bool) -> None:
    environment(NO_LOG_MESSAGES=value)
    assert bool(parsed()["no-log-messages"]) is quiet
    assert parsed("--no-log-messages")["no-log-messages"]


def test_the_flag_is_yes_or_no(environment: Environment) -> None:
    environment(NO_LOG_MESSAGES="maybe")
    assert refusal() == "CHATD_NO_LOG_MESSAGES=maybe: must be yes or no"


# Files


def secret(text: bytes, mode: int = 0o600) -> str:
    path = Path("secret")
    path.write_bytes(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize("text", [b"s\xc3\xa9same\n", b"s\xc3\xa9same", b"s\xc3\xa9same\r\nmore\n"])
def test_the_password_is_the_first_line(text: bytes) -> None:
    assert parsed("--password-file", secret(text))["password-file"] == "sésame"


@pytest.mark.parametrize("text", [b"", b"\nsesame\n", b"x" * 1025, b"se\tsame\n", b"se\x00same\n"])
def test_what_is_no_password(text: bytes) -> None:
    assert refusal("--password-file", secret(text)) == (
        "--password-file secret: the first line of secret must be the password, of 1 to 1024 characters"
    )


def test_a_password_that_is_not_utf_8() -> None:
    assert refusal("--password-file", secret(b"s\xe9same\n")).startswith("--password-file secret: 'utf-8' codec")


def test_a_password_that_everybody_can_read() -> None:
    assert refusal("--password-file", secret(b"sesame\n", 0o644)) == (
        "--password-file secret: secret can be read by everybody on this machine: chmod o-r it"
    )
    assert parsed("--password-file", secret(b"sesame\n", 0o640))["password-file"] == "sesame"


def test_the_message_of_the_day_in_a_file() -> None:
    Path("motd").write_text("\nBe kind.\r\nNo\x07 ads.\n\n")
    assert parsed("--motd", "@motd")["motd"] == "Be kind.\nNo\ufffd ads."
    Path("motd").write_text("x" * (MAX_MOTD + 1))
    assert refusal("--motd", "@motd") == f"--motd @motd: must have at most {MAX_MOTD} characters"


# Descriptors


def test_as_many_clients_as_there_may_be_descriptors(most_files: int) -> None:
    assert parsed()["max-clients"] == most_files - RESERVED_DESCRIPTORS
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == most_files


def test_the_limit_of_descriptors_is_raised_for_a_number_too(most_files: int) -> None:
    assert parsed("--max-clients", "700")["max-clients"] == 700
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == most_files


def test_more_clients_than_there_may_be_descriptors(most_files: int) -> None:
    most = most_files - RESERVED_DESCRIPTORS
    assert parsed("--max-clients", str(most))["max-clients"] == most
    assert refusal("--max-clients", str(most + 1)) == (
        f"--max-clients {most + 1}: there can be {most} of them, because of the limit on open files; "
        "raise that (ulimit -n), or choose fewer"
    )


# Help


def test_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed("--help")
    assert not ended.value.code
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    for name in (*PARSERS, "port", "no-log-messages", "version"):
        assert f"--{name}" in text
    for name, default in DEFAULTS.items():
        assert re.search(rf"--{name}=.*?\[default: {re.escape(default)}\]", text), name


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed("--version")
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"chatd {__version__}\n"
