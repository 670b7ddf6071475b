"""The options: flag before environment before default, each value checked, each mistake told in one line."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from twisted.python import usage

from chatd import __version__, names
from chatd.pacing import Rate

PREFIX = "CHATD_"
#: Variables of this prefix are the tests' own.
TEST_PREFIX = "CHATD_TEST_"
#: Descriptors that are not connections: files, databases, threads, and some to spare.
RESERVED_DESCRIPTORS = 100
MAX_MOTD = 4000


def fail(message: str) -> SystemExit:
    """What ends the start: one line and exit code 1, where twistd would print the whole help first."""
    return SystemExit(f"chatd: {message}")


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number between two, both included."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return parse


def number(least: float, most: float, unit: str) -> Callable[[str], float]:
    """A number between two, both included."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise ValueError(f"must be a number of {unit} from {least:g} to {most:g}")
        return value

    return parse


def choice(*allowed: str) -> Callable[[str], str]:
    """One of these words."""

    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be {' or '.join(allowed)}")
        return text

    return parse


def network(text: str) -> IPv4Network | IPv6Network:
    """An address, or a network such as 10.0.0.0/8."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise ValueError("must be an address or a network, such as 10.0.0.7 or 10.0.0.0/8") from None


def rate(text: str) -> Rate | None:
    """MESSAGES/SECONDS, or off."""
    if text == "off":
        return None
    messages, _, seconds = text.partition("/")
    try:
        return Rate(number(1, 1e6, "")(messages), number(0.001, 86400, "")(seconds))
    except ValueError:
        raise ValueError("must be MESSAGES/SECONDS, such as 20/2, or off") from None


def password(path: str) -> str:
    """The first line of a file."""
    with open(path, encoding="utf-8") as file:
        line = file.readline(1025).rstrip("\r\n")
        mode = os.fstat(file.fileno()).st_mode
    if mode & stat.S_IROTH:
        raise ValueError(f"{path} can be read by everybody on this machine: chmod o-r it")
    if not line or len(line) > 1024 or names.clean(line) != line:
        raise ValueError(f"the first line of {path} must be the password, of 1 to 1024 characters")
    return line


def motd(text: str) -> str:
    """The text itself, or with an @ in front the file that holds it."""
    if text.startswith("@"):
        with open(text[1:], encoding="utf-8") as file:
            text = file.read(MAX_MOTD + 1)
    text = "\n".join(names.clean(line) for line in text.strip().splitlines())
    if len(text) > MAX_MOTD:
        raise ValueError(f"must have at most {MAX_MOTD} characters")
    return text


def descriptors() -> int:
    """Raise the limit of open files to the hard one. Returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 1_000_000 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def _text(value: str) -> str:
    if not value:
        raise ValueError("must not be empty")
    return value


#: How the value of each option is read.
PARSERS: dict[str, Callable[[str], Any]] = {
    "db": _text,
    "log": _text,
    "log-format": choice("text", "json"),
    "password-file": password,
    "motd": motd,
    "history": whole(0, 1000),
    "grace": number(0, 86400, "seconds"),
    "session-days": number(0.01, 36500, "days"),
    "stall-timeout": number(1, 86400, "seconds"),
    "max-rooms": whole(1, 1_000_000),
    "max-clients": whole(1, 10_000_000),
    "rate": rate,
    "retain": number(0.01, 36500, "days"),
}


#: Options that may be given several times; in the environment, spaces stand between.
SEVERAL = ("port", "web", "trust-proxy")


class Options(usage.Options):
    """The options of `twistd chat`. After parsing, each key holds its value; those of SEVERAL a list."""

    synopsis = "[options]"
    longdesc = (
        "Runs a chat server. People join with: nc HOST 5000, or: python -m chatd.client HOST. "
        "Each option can also be set in the environment: --log-format json as CHATD_LOG_FORMAT=json; "
        "a flag comes before the environment. Example: "
        "twistd -n chat --port 5000 --db /var/lib/chatd/chat.db --history 50"
    )
    optParameters = [  # noqa: RUF012
        [
            "db",
            None,
            None,
            "the database: a file, made when it is not there, or a PostgreSQL, which several nodes may share; a "
            "password for that is better in CHATD_DB or in the file that PGPASSFILE names, as everybody on the "
            "machine can see what is given here; --db /srv/chat.db, --db postgresql://chatd@10.0.0.5/chat "
            "[default: chat.db]",
        ],
        ["log", None, None, "the connection log; --log /var/log/chat.log [default: chat_server.log]"],
        ["log-format", None, None, "text or json; --log-format json [default: text]"],
        ["password-file", None, None, "a file whose first line all must say; --password-file /etc/chatd.pw"],
        ["motd", None, None, "what all are told who join; --motd 'Be kind' or --motd @/etc/chatd.motd"],
        ["history", None, None, "how many messages who joins by nc is shown; --history 50 [default: 20]"],
        ["grace", None, None, "seconds for which a lost connection keeps its name; --grace 300 [default: 90]"],
        ["session-days", None, None, "days after which a session is forgotten; --session-days 7 [default: 30]"],
        [
            "stall-timeout",
            None,
            None,
            "seconds after which who takes nothing is cut off; --stall-timeout 60 [default: 600]",
        ],
        ["max-rooms", None, None, "how many rooms there may be; --max-rooms 50 [default: 10000]"],
        ["max-clients", None, None, "how many connections; --max-clients 200 [default: the descriptors less 100]"],
        [
            "rate",
            None,
            None,
            "how many messages in how many seconds a connection may send before it is slowed down; "
            "--rate 5/1, --rate off [default: 20/2]",
        ],
        ["retain", None, None, "days after which messages are removed; --retain 365 [default: never]"],
    ]
    optFlags = [  # noqa: RUF012
        ["no-log-messages", None, "log connections and departures only, not what is said"],
    ]
    compData = usage.Completions(
        optActions={name: usage.CompleteFiles() for name in ("db", "log", "password-file")}
    )

    def __init__(self) -> None:
        super().__init__()
        self.update({name: [] for name in SEVERAL})
        self._variables: dict[str, str] = {}

    def opt_port(self, value: str) -> None:
        """a number, on all addresses, or an endpoint, such as tcp:5000:interface=127.0.0.1; several times for
        several; --port 5000 --port unix:/run/chatd.sock [default: 5000]"""
        self["port"].append(value)

    opt_p = opt_port

    def opt_web(self, value: str) -> None:
        """where the page for browsers is: a number or an endpoint, as for --port; several times for several;
        --web 8080 --web ssl:8443:privateKey=key.pem:certKey=cert.pem [default: nowhere]"""
        self["web"].append(value)

    def opt_trust_proxy(self, value: str) -> None:
        """the address or network of a reverse proxy, which says by X-Forwarded-For whom it speaks for; several
        times for several; --trust-proxy 10.0.0.7 [default: those on this machine]"""
        self["trust-proxy"].append(value)

    def opt_version(self) -> None:
        """print the version of chatd"""
        print(f"chatd {__version__}")
        raise SystemExit(0)

    def parseOptions(self, options: list[str] | None = None) -> None:
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise fail(f"{error}; see: twistd chat --help") from None

    def parseArgs(self, *args: str) -> None:
        if args:
            raise fail(f"{args[0]!r} is not an option; see: twistd chat --help")

    def origin(self, name: str) -> str:
        """What comes before the value of an option where it was given: `--port ` or `CHATD_PORT=`."""
        return f"{self._variables[name]}=" if name in self._variables else f"--{name} "

    def postOptions(self) -> None:
        self._read_environment(os.environ)
        self["port"] = self["port"] or ["5000"]
        most = max(1, descriptors() - RESERVED_DESCRIPTORS)
        if self["max-clients"] is None:
            self["max-clients"] = str(most)
        for name, default in DEFAULTS.items():
            if self[name] is None:
                self[name] = default
        for name, parse in PARSERS.items():
            if self[name] is not None:
                self[name] = self._parsed(name, parse, self[name])
        self["trust-proxy"] = [self._parsed("trust-proxy", network, value) for value in self["trust-proxy"]]
        if self["max-clients"] > most:
            given = f"{self.origin('max-clients')}{self['max-clients']}"
            raise fail(
                f"{given}: there can be {most} of them, because of the limit on open files; "
                "raise that (ulimit -n), or choose fewer"
            )

    def _read_environment(self, environment: Mapping[str, str]) -> None:
        known = {PREFIX + name.upper().replace("-", "_"): name for name in (*PARSERS, *SEVERAL, "no-log-messages")}
        for variable, value in environment.items():
            if not variable.startswith(PREFIX) or variable.startswith(TEST_PREFIX):
                continue
            if variable not in known:
                raise fail(f"the environment has {variable}, which is no option: known are {', '.join(known)}")
            self._from_environment(known[variable], variable, value)

    def _from_environment(self, name: str, variable: str, value: str) -> None:
        if self[name] not in (None, [], 0):  # a flag goes before
            return
        if name in SEVERAL:
            self[name] = value.split()
        elif name == "no-log-messages":
            if value.lower() not in {"0", "1", "no", "yes", "false", "true", ""}:
                raise fail(f"{variable}={value}: must be yes or no")
            self[name] = value.lower() in {"1", "yes", "true"}
        else:
            self[name] = value
        if self[name]:
            self._variables[name] = variable

    def _parsed(self, name: str, parse: Callable[[str], Any], value: str) -> Any:
        try:
            return parse(value)
        except (ValueError, OSError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            shown = self.origin(name) + (value if len(value) < 200 else "")
            raise fail(f"{shown.rstrip(' =')}: {said}") from None


DEFAULTS = {
    "db": "chat.db",
    "log": "chat_server.log",
    "log-format": "text",
    "history": "20",
    "grace": "90",
    "session-days": "30",
    "stall-timeout": "600",
    "max-rooms": "10000",
    "rate": "20/2",
}
