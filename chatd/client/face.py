"""What the client needs of a terminal, or of standard input and output."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred

from chatd.client.show import Line

if TYPE_CHECKING:
    from chatd.client.app import Client


class Face(Protocol):
    """What people see and type on: a terminal, or standard input and output."""

    @property
    def settled(self) -> bool:
        """Whether nothing that was shown is still in this process."""

    def start(self, client: Client) -> None:
        """Begin to read. What is typed goes to `client.typed`, the end of it to `client.leave`."""

    def show(self, lines: list[Line]) -> None:
        """Print lines; where they do not go out at once, call `client.written` when they did."""

    def refresh(self) -> None:
        """The room, the status or what is pending may have changed."""

    def ask(self, question: str, answered: Callable[[str], None], *, hint: str, secret: bool) -> None:
        """Call `answered` with the next line. `hint` is an answer that may be meant."""

    def withdraw(self) -> None:
        """The question is moot, if there is one."""

    def close(self) -> Deferred[None]:
        """Show what is left to be shown, and give the terminal back."""
