"""The rehearsal: a marked test alert through every sink, at once, and what came of it."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from failstop.alerts._alert import AlertAction
from failstop.alerts._dispatcher import said_by
from failstop.alerts._page import rehearsal
from failstop.alerts._route import Route

__all__ = ["Arrival", "rehearse"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """What came of the test alert at one sink, in `seconds`; `error` is None where it arrived."""

    sink: str
    error: str | None
    seconds: float

    @property
    def is_arrived(self) -> bool:
        """True where the sink took the alert."""
        return self.error is None


def rehearse(service: str, routes: Sequence[Route]) -> tuple[Arrival, ...]:
    """Send a test alert and its resolution to every sink; return when each answered or hung."""
    test_id = f"test-{secrets.token_hex(8)}"
    attempts = [_Attempt(service, route, test_id) for route in routes]
    for attempt in attempts:
        attempt.start()
    return tuple(attempt.wait() for attempt in attempts)


class _Attempt(threading.Thread):
    def __init__(self, service: str, route: Route, test_id: str) -> None:
        super().__init__(name=f"failstop-test-{route.name}", daemon=True)
        self._facts = (service, socket.gethostname(), datetime.now(UTC), test_id)
        self._route = route
        self._error: str | None = None
        self._began = time.monotonic()

    def run(self) -> None:
        try:
            self._route.send(rehearsal(*self._facts, AlertAction.TRIGGER))
            self._route.send(rehearsal(*self._facts, AlertAction.RESOLVE))
        except BaseException as error:  # noqa: BLE001 - whatever a sink raises means: not arrived
            self._error = said_by(error)

    def wait(self) -> Arrival:
        limit = self._began + self._route.timeout
        self.join(max(0.0, limit - time.monotonic()))
        seconds = time.monotonic() - self._began
        if self.is_alive():
            return Arrival(self._route.name, f"no answer in {self._route.timeout:g} s", seconds)
        return Arrival(self._route.name, self._error, seconds)
