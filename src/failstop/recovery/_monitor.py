"""The monitor: one thread that makes check rounds, in every state.

Never here: what a round means for the latch, which is the FailSafe's.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from failstop.errors import CriticalError
from failstop.events import CheckResult, Incident
from failstop.recovery._settings import CheckFunction

__all__ = ["Check", "Dependency", "Monitor", "Round", "make_round", "user_check"]

USER_CHECK_TIMEOUT = 10.0


class Dependency(Protocol):
    """What a FailSafe watches."""

    @property
    def name(self) -> str:
        """The dependency's name, unique in its FailSafe."""

    def probe(self) -> str:
        """Return one sentence of evidence that the dependency is well; called by the monitor.

        Raises:
            CriticalError: it is not.
        """

    def suspend(self, incident: Incident) -> None:
        """Abort what is in flight; called on every trip, by whichever thread tripped."""


@dataclass(frozen=True, slots=True)
class Check:
    """A named piece of evidence: `run` returns a sentence or raises."""

    name: str
    run: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Round:
    """What one check round found; `revision` is the latch's when it began.

    `error` is the first critical failure among the checks.
    """

    revision: int
    results: tuple[CheckResult, ...]
    error: CriticalError | None
    ended: float
    ended_at: datetime

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that failed."""
        return tuple(result.name for result in self.results if not result.is_passed)


def user_check(function: CheckFunction) -> Check:
    """Make a user's function a check that passes by returning True."""

    def run() -> str:
        answer = function()
        if inspect.isawaitable(answer):
            return _require_true(asyncio.run(_bounded(answer)))
        return _require_true(answer)

    return Check(getattr(function, "__name__", type(function).__name__), run)


def _require_true(answer: object) -> str:
    if answer is not True:
        raise ValueError("the check did not return True")
    return "passed"


async def _bounded(answer: Awaitable[object]) -> object:
    return await asyncio.wait_for(answer, USER_CHECK_TIMEOUT)


def make_round(checks: Sequence[Check], revision: int) -> Round:
    """Make every check once, in order; one that fails does not spare the others."""
    results: list[CheckResult] = []
    first: CriticalError | None = None
    for check in checks:
        result, error = _make(check)
        results.append(result)
        first = first or error
    return Round(revision, tuple(results), first, time.monotonic(), datetime.now(UTC))


def _make(check: Check) -> tuple[CheckResult, CriticalError | None]:
    started = time.monotonic()
    error: CriticalError | None = None
    try:
        detail, is_passed = check.run(), True
    except CriticalError as failure:
        detail, is_passed, error = failure.message, False, failure
    except Exception as failure:  # noqa: BLE001 - whatever a check raises means: not proven
        detail, is_passed = type(failure).__name__, False
    took = time.monotonic() - started
    return CheckResult(check.name, is_passed, detail, datetime.now(UTC), took), error


class Monitor:
    """Call `step` every `interval` seconds, and at once when asked.

    Args:
        step: makes a round and acts on it; `True` asks for every check, the user's too.
        interval: seconds from the end of one round to the start of the next.
    """

    def __init__(self, step: Callable[[bool], Round], interval: float) -> None:
        self._step = step
        self._interval = interval
        self._changed = threading.Condition()
        self._asked = 0
        self._answered = 0
        self._last: Round | None = None
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; the first round begins at once."""
        self._thread = threading.Thread(target=self._run, name="failstop-monitor", daemon=True)
        self._thread.start()

    def round_now(self, timeout: float) -> Round | None:
        """Return a full round that began after this call, or None where it took too long."""
        with self._changed:
            self._asked += 1
            ticket = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answered >= ticket or self._is_closed, timeout)
            return self._last if self._answered >= ticket else None

    def close(self, timeout: float) -> None:
        """End the thread, waiting up to `timeout` seconds for the round that is under way."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _run(self) -> None:
        while (ticket := self._next()) is not None:
            done = self._step(ticket > self._answered)
            with self._changed:
                self._last, self._answered = done, ticket
                self._changed.notify_all()

    def _next(self) -> int | None:
        """Wait for the time or a request; return the last request, None where it is over."""
        with self._changed:
            if self._last is not None:
                self._changed.wait_for(
                    lambda: self._is_closed or self._asked > self._answered, self._interval
                )
            return None if self._is_closed else self._asked
