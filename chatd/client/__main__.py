"""`python -m chatd.client`: puts the parts together, with the reactor that fits."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.python.failure import Failure

from chatd.client import connection, state, trouble
from chatd.client.app import Client
from chatd.client.face import Face
from chatd.client.options import Settings, parse
from chatd.client.show import Complaint


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the client; the exit code comes back."""
    _fill_standard_descriptors()
    settings = parse(sys.argv[1:] if arguments is None else arguments)
    person = os.isatty(0) and os.isatty(1)
    # A dumb terminal cannot be drawn on; its person is still there.
    face = _terminal() if person and os.environ.get("TERM", "dumb") != "dumb" else _plain()
    from twisted.internet import reactor  # the one that `_terminal` installed, or the default

    file, complaint = _file(settings, person)
    endpoint = connection.endpoint(reactor, settings.host, settings.port, tls=settings.tls, ca=settings.ca)
    client = Client(reactor, settings, endpoint, face, file, person=person)
    if complaint:
        client.show(Complaint(complaint))
    return _run(reactor, client)


def _fill_standard_descriptors() -> None:
    """Where one of them is closed, the next file to be opened would become it: a socket as standard output."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(descriptor)


def _terminal() -> Face:
    from twisted.internet import asyncioreactor

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # else tasks made before the reactor runs are another loop's, and never run
    asyncioreactor.install(loop)
    from chatd.client.terminal import Terminal

    return Terminal()


def _plain() -> Face:
    from twisted.internet import reactor

    from chatd.client.plain import Plain

    return Plain(reactor)


def _file(settings: Settings, person: bool) -> tuple[state.StateFile | None, str]:
    """What is remembered on disk, if anything is to be, and what is wrong with it."""
    if settings.ephemeral or not (person or settings.keep_state):
        return None, ""
    folder = state.folder(os.environ, trouble.address(settings.host, settings.port))
    try:
        return state.StateFile.open(folder, settings.name), ""
    except state.StateUnusable as error:
        return None, str(error)


def _run(reactor: Any, client: Client) -> int:
    codes: list[int] = []

    def ended(result: int | Failure) -> None:
        if isinstance(result, Failure):
            result.printTraceback()
        codes.append(result if isinstance(result, int) else 1)
        if not stopping:
            reactor.stop()

    def stop() -> Any:
        stopping.append(True)
        return client.stop()

    stopping: list[bool] = []
    reactor.addSystemEventTrigger("before", "shutdown", stop)
    # Not `callWhenRunning`, which is before asyncio's loop runs.
    reactor.callLater(0, lambda: maybeDeferred(client.run).addBoth(ended))
    reactor.run()
    return codes[0] if codes else 1


if __name__ == "__main__":
    sys.exit(main())
