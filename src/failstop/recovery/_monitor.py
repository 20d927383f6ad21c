"""The monitor: one thread that makes check rounds, in every state, and one that watches it.

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

from failstop.errors import CriticalError, Outcome
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

    def close(self) -> None:
        """Give back what the probe holds; called when the FailSafe has closed."""


@dataclass(frozen=True, slots=True)
class Check:
    """A named piece of evidence: `run` returns a sentence or raises.

    Whatever a critical check raises is a critical failure; another's only proves nothing.
    """

    name: str
    run: Callable[[], str]
    is_critical: bool = False


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
    except BaseException as failure:  # noqa: BLE001 - a cancelled check must not end the thread
        detail, is_passed = type(failure).__name__, False
        error = _unknown(check, failure) if check.is_critical else None
    took = time.monotonic() - started
    return CheckResult(check.name, is_passed, detail, datetime.now(UTC), took), error


def _unknown(check: Check, failure: BaseException) -> CriticalError:
    text = f"the probe of {check.name!r} raised {type(failure).__name__}"
    error = CriticalError(text, kind="probe_failed", outcome=Outcome.NOT_STARTED)
    error.__cause__ = failure
    return error


class Monitor:
    """Call `step` every `interval` seconds, and at once when asked; say when it hangs.

    Args:
        step: makes a round and acts on it; `True` asks for every check, the user's too.
        interval: seconds from the end of one round to the start of the next.
        patience: seconds after which a round that has not ended is hung.
        hung: called once for each hung round, by a thread that no check can stop.
    """

    def __init__(
        self,
        step: Callable[[bool], Round],
        interval: float,
        patience: float,
        hung: Callable[[], object],
    ) -> None:
        self._step = step
        self._interval = interval
        self._patience = patience
        self._hung = hung
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._asked = 0
        self._answered = 0
        self._last: Round | None = None
        self._began: float | None = None
        self._is_closed = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads; the first round begins at once."""
        for name, target in (("monitor", self._run), ("monitor-watch", self._watch)):
            thread = threading.Thread(target=target, name=f"failstop-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def round_now(self, timeout: float) -> Round | None:
        """Return a full round that began after this call, or None where it took too long.

        None at once for a call from within a round, which can not wait for the next one.
        """
        if threading.current_thread() in self._threads:
            return None
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
        self._closing.set()
        limit = time.monotonic() + timeout
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, limit - time.monotonic()))

    def _run(self) -> None:
        while (ticket := self._next()) is not None:
            self._began = time.monotonic()
            done = self._step(ticket > self._answered)
            self._began = None
            with self._changed:
                self._last, self._answered = done, ticket
                self._changed.notify_all()

    def _watch(self) -> None:
        """Sleep until the round under way would be hung: a wake-up each `patience`, no more."""
        told: float | None = None
        left = self._patience
        while not self._closing.wait(left):
            began, left = self._began, self._patience
            if began is None or began == told:
                continue
            left = began + self._patience - time.monotonic()
            if left <= 0:
                told, left = began, self._patience
                self._hung()

    def _next(self) -> int | None:
        """Wait for the time or a request; return the last request, None where it is over."""
        with self._changed:
            if self._last is not None:
                self._changed.wait_for(
                    lambda: self._is_closed or self._asked > self._answered, self._interval
                )
            return None if self._is_closed else self._asked
