"""The command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

from msgspec import Struct

from chatd import names
from chatd.client.connection import certificates
from chatd.errors import BadName, BadRoom

PORT = 5000

_DESCRIPTION = """\
Talk on a chatd. On a terminal: type, and press Enter; /help lists the commands, exit or Ctrl-D leaves.
Elsewhere the lines of standard input are said, and standard output has what was said:

    printf 'good morning\\n/who\\n' | python -m chatd.client chat.example --name ana
"""

_CODES = """\
Exit codes: 0, all that was said is kept by the server; 1, something is not, or there was no connection;
2, the command line is wrong, or the name or the password.
"""


class Settings(Struct):
    """What the command line says; None where it says nothing and the default depends."""

    host: str
    port: int
    name: str | None
    room: str | None
    tls: bool
    ca: str
    password: str | None
    history: int | None
    wait: float
    ephemeral: bool
    keep_state: bool


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def parse(arguments: Sequence[str]) -> Settings:
    """Raises SystemExit: 2 after one line that says what is wrong, 0 after --help and --version."""
    parser = _parser()
    given = parser.parse_args(arguments)
    host, port = given.server
    if given.port is not None:
        if port is not None and port != given.port:
            parser.error(f"there are two ports, {port} and {given.port}: give one")
        port = given.port
    if given.ca and not given.tls:
        parser.error("--ca says whom to trust with --tls, which is missing")
    if given.ephemeral and given.state:
        parser.error("--ephemeral and --state exclude each other")
    return Settings(
        host=host,
        port=PORT if port is None else port,
        name=given.name,
        room=given.room,
        tls=given.tls,
        ca=given.ca or "",
        password=given.password_file,
        history=given.history,
        wait=given.wait,
        ephemeral=given.ephemeral,
        keep_state=given.state,
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m chatd.client",
        usage="%(prog)s [HOST[:PORT]] [options]",
        description=_DESCRIPTION,
        epilog=_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "server",
        metavar="HOST[:PORT]",
        nargs="?",
        type=_server,
        default=("localhost", None),
        help="where the server is (chat.example, chat.example:5001, [::1]:5000); default localhost:5000",
    )
    add("-p", "--port", type=_port, metavar="N", help="the port, where it is not 5000 (--port 5001)")
    add("-n", "--name", type=_name, help="what you are called there (--name ana)")
    add("-r", "--room", type=_room, help="the room to talk in (--room dev); default lobby, or the last one")
    add("--tls", action="store_true", help="encrypt, and check who the server is (chat.example:5001 --tls)")
    add("--ca", type=_ca, metavar="FILE", help="trust these certificates only (--tls --ca own.pem)")
    add(
        "--password-file",
        type=_password,
        metavar="FILE",
        help="the server's password is the first line of FILE (--password-file ~/.chat-password)",
    )
    add(
        "--history",
        type=_count,
        metavar="N",
        help="begin so many messages back on the first visit (--history 100); default 20 on a terminal, else 0",
    )
    add(
        "--wait",
        type=_seconds,
        default=30.0,
        metavar="S",
        help="without a terminal, wait so many seconds for the next receipt at the end (--wait 120); default 30",
    )
    add("--ephemeral", action="store_true", help="remember nothing on disk (--ephemeral)")
    add("--state", action="store_true", help="remember on disk without a terminal, too (--name bot --state)")
    add("--version", action="version", version=f"chatd {_version()}", help="which chatd this is (--version)")
    return parser


def _server(text: str) -> tuple[str, int | None]:
    host, colon, port = text.strip(), "", ""
    if host.startswith("["):
        host, closed, rest = host[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        if not closed or colon not in ("", ":"):
            raise _wrong("an IPv6 address with a port is written [::1]:5000", text)
    elif host.count(":") == 1:
        host, colon, port = host.partition(":")
    if not host or any(char.isspace() for char in host):
        raise _wrong("HOST[:PORT] is a host's name or address, such as chat.example:5000", text)
    return host, _port(port) if colon else None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
        raise _wrong("a port is a number from 1 to 65535", text)
    return int(text)


def _name(text: str) -> str:
    try:
        return names.person(text)[0]
    except BadName as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _room(text: str) -> str:
    try:
        return names.room(text)
    except BadRoom as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise _wrong("this is a number, 0 or more", text)
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 1e6:
        raise _wrong("this is a number of seconds, 0 or more", text)
    return seconds


def _ca(path: str) -> str:
    text = _read(path)
    try:
        certificates(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from None
    return text


def _password(path: str) -> str:
    lines = _read(path).splitlines()
    if not lines or not lines[0]:
        raise argparse.ArgumentTypeError(f"{path}: the first line is empty, and should be the password")
    return lines[0]


def _read(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise argparse.ArgumentTypeError(f"{path}: not a text in UTF-8") from None


def _wrong(rule: str, text: str) -> Any:
    return argparse.ArgumentTypeError(f"{rule}, not {text!r}")


def _version() -> str:
    try:
        return version("chatd")
    except PackageNotFoundError:
        return "(not installed)"
