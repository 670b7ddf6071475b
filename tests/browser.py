"""A real Chromium, and people who visit the page of a real daemon with it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Locator, Page, expect, sync_playwright

from tests.daemon import PATIENCE, Daemon

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}
#: What Chromium says on its own account of a server that is away.
AWAY = ("ERR_CONNECTION", "WebSocket connection to", "Failed to load resource")

expect.set_options(timeout=PATIENCE * 1000)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser: the system's, or one that playwright has or can get."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        if found is None and not Path(playwright.chromium.executable_path).exists():
            try:
                subprocess.run(
                    [sys.executable, "-m", "playwright", "install", "chromium"], check=True, timeout=600
                )
            except (subprocess.SubprocessError, OSError):
                pytest.skip("there is no Chromium, and none can be installed: try apt install chromium")
        # Chromium's sandbox does not work for root.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=found, args=options)
        yield browser
        browser.close()


class Visits:
    """People with browsers, and what their consoles complained of."""

    def __init__(self, browser: Browser) -> None:
        self.complaints: list[str] = []
        self._browser = browser
        self._contexts: list[BrowserContext] = []

    def browser(self, **options: Any) -> BrowserContext:
        """A browser with a storage of its own. The options are playwright's."""
        context = self._browser.new_context(**{"viewport": WIDE, "locale": "en-GB", **options})
        context.set_default_timeout(PATIENCE * 1000)
        self._contexts.append(context)
        return context

    def page(
        self, url: str, name: str | None = None, browser: BrowserContext | None = None, **options: Any
    ) -> Page:
        """The page at that address, in a new browser or another tab of one; with a name, in the chat."""
        page = (browser or self.browser(**options)).new_page()
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self._heard(message.type, message.text))
        page.goto(url)
        if name is not None:
            enter(page, name)
        return page

    def _heard(self, type: str, text: str) -> None:
        if type in ("error", "warning") and not any(known in text for known in AWAY):
            self.complaints.append(text)

    def end(self) -> None:
        """Close all browsers."""
        for context in self._contexts:
            context.close()


@pytest.fixture
def visits(chromium: Browser) -> Iterator[Visits]:
    """People with browsers, whose consoles must have nothing to complain of."""
    made = Visits(chromium)
    yield made
    made.end()
    assert not made.complaints, made.complaints


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


class WebDaemon(Daemon):
    """A daemon with a page, at `url`, which is the same after a restart."""

    def __init__(self, folder: Path, *options: str, **more: Any) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/"
        super().__init__(folder, "--web", f"tcp:{port}:interface=127.0.0.1", *options, **more)

    def __enter__(self) -> WebDaemon:
        super().__enter__()
        return self


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[WebDaemon]:
    """A daemon that serves the page."""
    with WebDaemon(tmp_path, "--rate", "off") as made:
        yield made


def enter(page: Page, name: str) -> None:
    """Say a name, and wait until the chat is there."""
    page.fill("#name", name)
    page.press("#name", "Enter")
    expect(page.locator("#box")).to_be_visible()
    expect(page.locator("#edge")).not_to_be_empty()


def say(page: Page, text: str) -> None:
    """Write something and send it."""
    page.fill("#box", text)
    page.press("#box", "Enter")


def texts(page: Page, holding: str | re.Pattern[str] | None = None) -> Locator:
    """The texts of the messages; those that hold something."""
    return page.locator("#messages .text", has_text=holding)


def shown(page: Page) -> list[str]:
    """The texts of the messages, in order."""
    return page.locator("#messages .text").all_text_contents()


def join(page: Page, room: str) -> None:
    """Go into a room, and wait until it is shown."""
    say(page, f"/join {room}")
    expect(page.locator("#room-name")).to_have_text(room)


__all__ = [
    "PHONE",
    "WIDE",
    "Error",
    "Visits",
    "WebDaemon",
    "enter",
    "expect",
    "free_port",
    "join",
    "say",
    "shown",
    "texts",
]
