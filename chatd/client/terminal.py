"""The screen of a person, by prompt_toolkit: a line to type on, and the chat above it.

A message is printed above the line that is being typed, which is drawn again below it. What has been typed
and is not in the chat yet stands, dimmed, just above that line; it goes away when the message itself is printed
in its place among the others, so it is seen once.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import FormattedText, StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.styles import Style
from twisted.internet.defer import Deferred, succeed

from chatd.client.app import Client
from chatd.client.completion import Cycle
from chatd.client.show import Line
from chatd.names import clean

#: So many unsent messages are shown; of more, the number.
MAX_PENDING = 5

STYLE = Style.from_dict(
    {
        "time": "dim",
        "notice": "dim",
        "pending": "dim",
        "status": "ansiyellow",
        "complaint": "ansired",
        "room": "ansicyan",
        "me": "bold",
        "mention": "bold ansiyellow",
        "name0": "ansigreen",
        "name1": "ansicyan",
        "name2": "ansimagenta",
        "name3": "ansiblue",
        "name4": "ansibrightgreen",
        "name5": "ansibrightmagenta",
        "prompt": "",
    }
)


class Terminal:
    """The face on a terminal. It needs the asyncio reactor."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._question = ""
        self._secret = False
        self._answered: Callable[[str], None] | None = None
        self._stashed = Document()
        self._warned = False
        self._cycle = Cycle(self._completions)
        self._output = _output()
        self._prompt: PromptSession[str] = PromptSession(
            self._above_and_prompt,
            output=self._output,
            style=STYLE,
            is_password=Condition(lambda: self._secret),
            key_bindings=self._keys(),
            enable_suspend=True,
            erase_when_done=True,
        )
        self._prompt.default_buffer.accept_handler = self._accept
        self._running: asyncio.Task[Any] | None = None

    @property
    def settled(self) -> bool:
        """What is shown is written at once."""
        return True

    def start(self, client: Client) -> None:
        """Begin to read."""
        self._client = client
        self._running = asyncio.ensure_future(self._run())
        self._running.add_done_callback(lambda _: client.leave())

    def show(self, lines: list[Line]) -> None:
        """Print lines above the one that is being typed."""
        drawn = self._prompt.app.is_running
        if drawn:
            self._prompt.app.renderer.erase()
        fragments: StyleAndTextTuples = []
        for line in lines:
            fragments += [(f"class:{style}" if style else "", text) for style, text in line]
            fragments.append(("", "\n"))
        print_formatted_text(self._output, FormattedText(fragments), STYLE)
        self._output.flush()
        if drawn:
            self._prompt.app.invalidate()

    def refresh(self) -> None:
        """Draw what stands below the chat."""
        if self._prompt.app.is_running:
            self._prompt.app.invalidate()

    def ask(self, question: str, answered: Callable[[str], None], *, hint: str, secret: bool) -> None:
        """Take the next line as the answer; what was being typed comes back after it."""
        buffer = self._prompt.default_buffer
        if self._answered is None:
            self._stashed = buffer.document
        self._question, self._answered, self._secret = question, answered, secret
        buffer.set_document(Document(hint), bypass_readonly=True)
        self.refresh()

    def withdraw(self) -> None:
        """There is nothing to answer any more."""
        if self._answered is not None:
            self._question, self._answered, self._secret = "", None, False
            self._prompt.default_buffer.set_document(self._stashed, bypass_readonly=True)
            self._stashed = Document()

    def close(self) -> Deferred[None]:
        """Give the terminal back."""
        if self._running is None:
            return succeed(None)
        if self._prompt.app.is_running:
            self._prompt.app.exit(result="")
        running, self._running = self._running, None
        running.add_done_callback(_looked_at)
        done: Deferred[None] = Deferred()
        running.add_done_callback(lambda _: done.callback(None))
        return done

    async def _run(self) -> None:
        # A question may have been asked already.
        await self._prompt.prompt_async(default=self._prompt.default_buffer.document, handle_sigint=False)

    def _accept(self, buffer: Buffer) -> bool:
        """Enter was pressed. False: the line is empty from now on."""
        text, self._warned = buffer.text, False
        if self._answered is not None:
            buffer.reset()  # before it gets into the history
            answered = self._answered
            self.withdraw()
            answered(text)
            return True
        if self._client is not None and text.strip():
            self._client.typed(text)
        return False

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("c-c")
        @keys.add("<sigint>")
        def interrupted(event: KeyPressEvent) -> None:
            self._interrupted(event.current_buffer)

        @keys.add("c-d", filter=Condition(lambda: not self._prompt.default_buffer.text))
        def ended(event: KeyPressEvent) -> None:
            if self._client is not None:
                self._client.leave()

        @keys.add("tab")
        def forward(event: KeyPressEvent) -> None:
            self._complete(event.current_buffer, 1)

        @keys.add("s-tab")
        def backward(event: KeyPressEvent) -> None:
            self._complete(event.current_buffer, -1)

        return keys

    def _complete(self, buffer: Buffer, step: int) -> None:
        document = buffer.document
        before = self._cycle.turn(document.text_before_cursor, step)
        buffer.document = Document(before + document.text_after_cursor, len(before))

    def _interrupted(self, buffer: Buffer) -> None:
        """Ctrl-C takes back what was typed; with nothing typed, and twice, it leaves."""
        if self._client is None:
            return
        if buffer.text and not self._question:
            self._warned = False
            buffer.reset()
        elif self._warned or self._question:
            self._client.leave()
        else:
            self._warned = True
            self.show([[("notice", "* Ctrl-C once more leaves, as exit and Ctrl-D do")]])

    def _completions(self, before: str) -> list[str]:
        if self._client is None or self._question:
            return []
        return self._client.commands.completions(before)

    def _above_and_prompt(self) -> StyleAndTextTuples:
        """What is not in the chat yet, what is not as usual, and the prompt itself."""
        if self._client is None:
            return []
        if self._question:
            return [("class:prompt", self._question)]
        room = self._client.session.room
        return [*self._pending(self._client), *self._status(self._client), ("class:prompt", f"{room}> ")]

    def _pending(self, client: Client) -> StyleAndTextTuples:
        pending = client.session.pending
        shown: StyleAndTextTuples = []
        for say in pending[:MAX_PENDING]:
            shown += [(f"class:{style}", text) for style, text in client.look.pending(say)]
            shown.append(("", "\n"))
        if more := len(pending[MAX_PENDING:]):
            shown.append(("class:pending", f"… and {more:,} more\n"))
        return shown

    def _status(self, client: Client) -> StyleAndTextTuples:
        return [("class:status", f"{clean(client.status)}\n")] if client.status else []


def _output() -> Vt100_Output:
    output = Vt100_Output.from_pty(
        sys.stdout, term=os.environ.get("TERM"), default_color_depth=ColorDepth.from_env()
    )
    # Not every terminal answers where its cursor is, and a late answer is typed text in the shell.
    output.enable_cpr = False
    return output


def _looked_at(task: asyncio.Task[Any]) -> None:
    """The prompt ends with an exception where its terminal is gone; there is nobody to tell."""
    if not task.cancelled():
        task.exception()
