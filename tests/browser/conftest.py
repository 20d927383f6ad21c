"""A real browser, Debian's chromium, and a service to look at; without one these tests skip."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from playwright.sync_api import sync_playwright
from tests.serving import serving_asgi

import failstop.fastapi
from failstop import FailSafe, Recovery
from failstop.testing import CapturingSink

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
TOKEN = "a-token-that-is-long-enough-for-a-browser"
EXPECTED = "the server responded with a status of"
"""What a browser writes to its console for each answer of 400 or above, its own page's too."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Give chromium; for one module alone, as it keeps an event loop running meanwhile."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed: there is no browser to look with")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=program, args=sandbox)


class Look:
    """One window of the browser, and what its console said."""

    def __init__(self, browser: Any, url: str, **settings: Any) -> None:
        self.context = browser.new_context(base_url=url, **settings)
        self.context.set_default_timeout(20_000)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._hear)

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning") and EXPECTED not in message.text:
            self.complaints.append(message.text)

    def status(self, query: str = "") -> Any:
        """Open the status page."""
        self.page.goto(f"/api/system/status{query}")
        return self.page


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., FailSafe]]:
    """Make a started FailSafe with a store."""
    with ExitStack() as stack:

        def made(recovery: Recovery | None = None) -> FailSafe:
            slow = recovery or Recovery(probe_interval=60.0)
            store = tmp_path / "failstop.db"
            failsafe = FailSafe("trading-api", store=store, sinks=[CapturingSink()], recovery=slow)
            return stack.enter_context(failsafe)

        yield made


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Serve the status of a FailSafe; give its address."""
    with ExitStack() as stack:

        def served(failsafe: FailSafe, token: Any = TOKEN) -> str:
            app = FastAPI()
            failstop.fastapi.install(app, failsafe=failsafe, admin_token=token)
            return str(stack.enter_context(serving_asgi(app)).base_url)

        yield served


@pytest.fixture
def look(browser: Any) -> Iterator[Callable[..., Look]]:
    """Open a window; at the end nothing may have complained."""
    windows: list[Look] = []

    def opened(url: str, **settings: Any) -> Look:
        windows.append(Look(browser, url, **settings))
        return windows[-1]

    yield opened
    complaints = [each for window in windows for each in window.complaints]
    for window in windows:
        window.context.close()
    assert complaints == []
