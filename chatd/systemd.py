"""Tells systemd when the server is ready and when it stops, for units of `Type=notify`."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from twisted.application.service import Service
from twisted.logger import Logger


class Readiness(Service):
    """Says READY=1 when it is started and STOPPING=1 when it is stopped: add it behind all other services.

    Elsewhere than under systemd it does nothing; `environment` says whether this is one.
    """

    name = "systemd"
    _log = Logger()

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")

    def startService(self) -> None:
        super().startService()
        self._tell("READY=1")

    def stopService(self) -> None:
        super().stopService()
        self._tell("STOPPING=1")

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        # A name that begins with "@" stands for an abstract socket, whose first byte is a zero.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.sendto(state.encode(), address)
        except OSError as error:
            self._log.error("systemd could not be told {state}: {error}", state=state, error=error)
