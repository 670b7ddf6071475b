"""What happens between the connection, the session and the face it shows: coming, waiting, leaving."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import date
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.python.failure import Failure

from chatd import names, wire
from chatd.client import connection, trouble
from chatd.client.commands import Commands
from chatd.client.face import Face
from chatd.client.options import Settings
from chatd.client.session import Session
from chatd.client.show import Complaint, Line, Look, Notice, Shown
from chatd.client.state import State, StateFile
from chatd.errors import BadName

#: The room of those who name none.
LOBBY = "lobby"
#: What happens within so many seconds is shown and saved together.
TOGETHER = 0.05
#: So long a person who leaves waits for receipts.
PATIENCE = 3.0
#: The server closes the connection so soon after a bye, or we do.
FAREWELL = 3.0
#: A name that was ours, and may still be held by our lost connection, is asked for again so often.
NAME_AGAIN = 5.0
#: How much of the past is shown to a person on the first visit to a room.
HISTORY = 20


class Client:
    """One run of the client. `run` gives the exit code.

    With a `person` in front of it the client asks for a name, goes on trying when there is no server, and
    waits a moment with its farewell; without one it says why and ends.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        endpoint: IStreamClientEndpoint,
        face: Face,
        file: StateFile | None,
        *,
        person: bool,
    ) -> None:
        self.person = person
        self.settings = settings
        self.face = face
        self.look = Look(person=person, today=date.today())
        history = settings.history if settings.history is not None else HISTORY if person else 0
        state = file.state if file else State()
        self.session = Session(state, self, reactor.callLater, history=history, password=settings.password)
        self.commands = Commands(self.session, self)
        self._reactor = reactor
        self._file = file
        self._backoff = connection.Backoff(reactor)
        self._service = connection.service(reactor, endpoint, self, self._backoff)
        self._link: connection.Link | None = None
        self._lines: list[Line] = []
        self._flushing: IDelayedCall | None = None
        self._flushed = 0.0
        self._why = ""
        self._told: set[str] = set()
        self._asking = False
        self._name_again: IDelayedCall | None = None
        self._leaving = False
        self._answered = 0
        self._deadline: IDelayedCall | None = None
        self._farewell = False
        self._going = ""
        self._ended = False
        self._done: Deferred[int] = Deferred()

    def run(self) -> Deferred[int]:
        """Come, stay until there is nothing more to do, and go. Fires with the exit code."""
        if self.settings.room or not self.session.room:
            self.session.enter(self.settings.room or LOBBY)
        self.face.start(self)
        if self._file and self._file.note:
            self._say(self._file.note)
        if name := self.settings.name or self.session.name:
            self._named(name)
        elif self.person:
            self._ask_name("Your name: ", _suggestion())
        else:
            self._end(2, "Without a terminal the name must be given: --name NAME.")
        return self._done

    @property
    def address(self) -> str:
        """How the server is called."""
        return trouble.address(self.settings.host, self.settings.port)

    @property
    def status(self) -> str:
        """What is not as usual; "" where all is."""
        if not self.session.inside:
            if not self.session.name:
                return ""
            return f"offline: {self._why or 'connecting to ' + self.address}"
        return "the server cannot store messages now; trying again" if self.session.held else ""

    # What the person does.

    def typed(self, text: str) -> None:
        """A line, or a pasted text of several."""
        if self.person and self.session.full:
            self.show(Complaint("Too much is waiting to be sent; this line was not taken."))
            return
        self.commands.typed(text)
        self.changed()
        if self.person and self._flushing is not None:
            # What a person sees waiting must be on disk by then.
            self._flushing.cancel()
            self._flush()

    def too_long(self) -> None:
        """A line that was too long to be taken."""
        self.session.refused += 1
        self.show(Complaint("A line was too long, and was not sent."))

    def leave(self) -> None:
        """Go, as soon as everything is kept and answered, or too late."""
        if self._leaving or self._ended:
            return
        self._leaving = True
        seconds = PATIENCE if self.person else self.settings.wait
        self._deadline = self._reactor.callLater(seconds, self._too_late)
        self._answered = self.session.answered
        self._go_if_done()

    def stop(self) -> Deferred[int]:
        """Go now: the process has been told to end."""
        if not self._ended:
            self.session.bye()
            self._end(self._code())
        return self._done

    # What the session shows, and tells.

    def show(self, shown: Shown) -> None:
        """Something happened."""
        self.look.name, self.look.room = self.session.name, self.session.room
        self._lines += self.look.lines(shown)
        self.changed()

    def changed(self) -> None:
        """There is something to print or to save."""
        if self._flushing is None and not self._ended:
            wait = self._flushed + TOGETHER - self._reactor.seconds()
            self._flushing = self._reactor.callLater(min(max(wait, 0.0), TOGETHER), self._flush)
        if self._leaving and not self._ended:
            self._wait_on()
            self._go_if_done()

    def welcomed(self) -> None:
        """The server let us in."""
        self._backoff.welcomed()
        self._why = self._going = ""
        self._told.clear()
        self._asking = False
        self.face.withdraw()
        again = "again " if self.session.ever_inside else ""
        self._say(f"connected {again}to {self.address} as {self.session.name}")

    def hello_refused(self, error: wire.Error) -> None:
        """The server did not let us in."""
        if error.code == "name_in_use" and self.session.ever_inside:
            self._name_again = self._name_again or self._reactor.callLater(NAME_AGAIN, self._greet_again)
            if not self.person:
                self._complain_once(error.text)
                return
        if error.code in ("bad_name", "name_in_use"):
            self._refused(error, lambda: self._ask_name("Another name: ", ""))
        elif error.code == "wrong_password":
            self._refused(error, self._ask_password)
        elif error.retry or self.session.ever_inside:
            self._why = error.text
            self._complain_once(error.text)
            self._drop()
        else:
            self._end(1, error.text)

    def goodbye(self, goodbye: wire.Goodbye) -> None:
        """The server is about to close the connection."""
        if not self._farewell:
            self._going = goodbye.reason
            self._backoff.retry_after(goodbye.retry_after or 0.0)

    # What happens to the connection.

    def link_made(self, link: connection.Link) -> None:
        """There is a connection."""
        self._link = link
        self.session.connected(link.send)

    def received(self, answer: wire.AnyAnswer) -> None:
        """The server said this."""
        self.session.received(answer)

    def not_understood(self) -> None:
        """The server said what no chatd says."""
        self.show(Complaint("The server said something that this client does not understand."))

    def link_lost(self, link: connection.Link, reason: Failure) -> None:
        """The connection is lost."""
        was_inside = self.session.inside
        self._link = None
        self.session.lost()
        self._backoff.lost()
        if self._ended:
            return
        if self._farewell:
            self._end(self._code())
        elif was_inside:
            self._why = f"{self._going or 'the connection was lost'}; trying again"
            self._say(f"{self._going or 'connection lost'}; trying again")
        elif self._going:
            self._why = f"{self._going}; trying again"
            self._complain_once(self._going)
        elif sentence := trouble.not_welcomed(link, reason, self.settings.host, self.settings.port):
            self._no_server(sentence, hopeless=True)

    def not_connected(self, reason: Failure) -> None:
        """There is none: an attempt failed."""
        if not self._ended:
            self._no_server(trouble.not_connected(reason, self.settings.host, self.settings.port), hopeless=False)

    # What the face tells about itself.

    def pause(self) -> None:
        """What is shown does not go out: read no more from the server."""
        if self._link is not None:
            self._link.pauseProducing()

    def resume(self) -> None:
        """It went out."""
        if self._link is not None:
            self._link.resumeProducing()

    # How it does that.

    def _named(self, name: str) -> None:
        self.session.rename(name)
        self._service.startService()

    def _ask_name(self, question: str, hint: str) -> None:
        self._asking = True
        self.face.ask(question, self._name_given, hint=hint, secret=False)

    def _name_given(self, text: str) -> None:
        if not text.strip() or text.strip() == "exit":
            self._end(self._code())
            return
        try:
            name = names.person(text)[0]
        except BadName as error:
            self.show(Complaint(str(error)))
            self._ask_name("Another name: ", "")
            return
        self._asking = False
        if self._service.running:
            self.session.rename(name)
            self.session.greet()
        else:
            self._named(name)

    def _greet_again(self) -> None:
        self._name_again = None
        self.session.greet()

    def _ask_password(self) -> None:
        self._asking = True
        self.face.ask("Password: ", self._password_given, hint="", secret=True)

    def _password_given(self, text: str) -> None:
        self._asking = False
        self.session.password = text
        self.session.greet()

    def _refused(self, error: wire.Error, ask: Callable[[], None]) -> None:
        """The hello was refused for what a person can change."""
        if not self.person:
            self._end(2, error.text)
        elif not self._asking:
            self.show(Complaint(error.text))
            ask()

    def _no_server(self, sentence: str, *, hopeless: bool) -> None:
        """There is no chatd to talk to, for now; or, where it is `hopeless`, there never was one."""
        known = self.session.ever_inside or bool(self.session.state.log)
        if not self.session.ever_inside and (not self.person or (hopeless and not known)):
            self._end(1, sentence)
            return
        self._why = f"{sentence.rstrip('.').partition(': ')[0]}; trying again"
        if not self.session.ever_inside:
            self._complain_once(sentence)
        self.changed()

    def _complain_once(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            how_long = "; exit or Ctrl-D leaves" if self.person else ""
            self.show(Complaint(f"{sentence}\nTrying again until it works{how_long}."))

    def _say(self, text: str) -> None:
        self.show(Notice(text))

    def _drop(self) -> None:
        if self._link is not None:
            self._link.close()

    def _flush(self) -> None:
        self._flushing = None
        self._flushed = self._reactor.seconds()
        lines, self._lines = self._lines, []
        if lines:
            self.face.show(lines)
        self.face.refresh()
        if self._file is not None and self.session.name:
            self._file.note_down(self.session.state)
        if self.face.settled:
            self.written()

    def written(self) -> None:
        """All that was shown has left the process: what is shown and not saved would be shown twice."""
        if self._file is None:
            return
        try:
            self._file.save()
        except OSError as error:
            self._file.close()
            self._file = None
            self.show(Complaint(f"Nothing can be remembered from now on: {error.strerror}."))

    def _wait_on(self) -> None:
        """A pipe waits anew after each receipt: a server reads so many lines a second."""
        if self._answered != self.session.answered and not (self.person or self._farewell):
            self._answered = self.session.answered
            if self._deadline is not None:
                self._deadline.reset(self.settings.wait)

    def _go_if_done(self) -> None:
        if self._farewell:
            return
        if self.person and not self.session.inside:
            self._end(self._code())
            return
        if not (self.session.idle or (self.person and not self.session.unsent)):
            return
        self._farewell = True
        self.session.bye()
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._reactor.callLater(FAREWELL, self._too_late)

    def _too_late(self) -> None:
        self._deadline = None
        if not self._farewell:
            self.session.bye()
        self._end(self._code())

    def _code(self) -> int:
        return 1 if self.session.refused or self.session.unsent or not self._came() else 0

    def _came(self) -> bool:
        return self.session.ever_inside or self.person

    def _end(self, code: int, sentence: str = "") -> None:
        """Stop everything, and let `run` give the code."""
        if self._ended:
            return
        self._ended = True
        if sentence:
            self.show(Complaint(sentence))
        if count := len(self.session.unsent):
            self.show(self._left_over(count))
        for call in (self._deadline, self._flushing, self._name_again):
            if call is not None and call.active():
                call.cancel()
        self._flush()
        abort = self._reactor.callLater(FAREWELL, self._drop)
        # Whatever a broken terminal raises, the process must end.
        closed = maybeDeferred(self.face.close)
        closed.addBoth(lambda _: self._service.stopService() if self._service.running else None)
        closed.addBoth(lambda _: self._last(code, abort))

    def _left_over(self, count: int) -> Shown:
        what = "1 message is" if count == 1 else f"{count:,} messages are"
        if self._file is None:
            return Complaint(f"{what} not sent.")
        return Notice(f"{what} not sent yet, and will be the next time you are here.")

    def _last(self, code: int, abort: IDelayedCall) -> None:
        if abort.active():
            abort.cancel()
        self.session.lost()
        self.written()
        if self._file is not None:
            self._file.close()
        self._done.callback(code)


def _suggestion() -> str:
    """The name that somebody has on this machine, where it would do as one in the chat."""
    try:
        return names.person(os.environ.get("USER", ""))[0]
    except BadName:
        return ""
