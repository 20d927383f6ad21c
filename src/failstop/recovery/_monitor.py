"""The monitor: one thread that makes check rounds, in every state.

Never here: what a round means for the latch, which is the FailSafe's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

from failstop._redaction import redact
from failstop._watchdog import Watchdog
from failstop.errors import CriticalError, ErrorCode, Outcome
from failstop.events import CheckResult, Incident, InDoubt
from failstop.recovery._pulse import Pulse

__all__ = [
    "Bounded",
    "Check",
    "Configured",
    "Dependency",
    "Monitor",
    "Questioned",
    "Recalled",
    "Round",
    "UnprovenError",
    "make_round",
]

logger = logging.getLogger("failstop")

SLACK = 2.0
"""Seconds that a round may lose to a busy machine or a slow disk before it counts as silence."""


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


@runtime_checkable
class Configured(Protocol):
    """A dependency whose settings may void a claim; it judges them in its probe too."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What weakens a claim, as far as was seen: sentences for the status."""

    def verify_settings(self) -> None:
        """Return where no setting voids a claim; called before the service starts.

        Raises:
            ConfigurationError: one does; names it with its mend.
            CriticalError: the dependency cannot be used now.
        """


@runtime_checkable
class Questioned(Protocol):
    """A dependency that can say what became of a transaction in doubt."""

    def resolve(self, doubt: InDoubt) -> Outcome:
        """Return COMMITTED or ROLLED_BACK, which is for good, or UNKNOWN; called by the monitor.

        The same doubt may be asked again, and by several processes at a time.

        Raises:
            CriticalError: it cannot be asked now.
        """


@runtime_checkable
class Bounded(Protocol):
    """A dependency whose probe ends by its own deadlines."""

    @property
    def probe_seconds(self) -> float:
        """What a probe takes at most, in seconds."""


@runtime_checkable
class Recalled(Protocol):
    """A dependency that knows what this process was told, which no other process can prove.

    Its probe proves it too.
    """

    def recall(self) -> str:
        """Return one sentence of evidence that what this process was told is true still.

        Raises:
            CriticalError: it is not, or the dependency does not answer.
        """


class UnprovenError(Exception):
    """A check proves nothing; its text is this library's own and says why.

    `needs_person` is true of one that a person's reset mends, and nothing else.
    """

    def __init__(self, text: str, *, needs_person: bool = False) -> None:
        super().__init__(text)
        self.needs_person = needs_person


@dataclass(frozen=True, slots=True)
class Check:
    """A named piece of evidence: `run` returns a sentence or raises.

    Whatever a critical check raises is a critical failure; another's only proves nothing. A shared
    one finds the same in every process of the host.
    """

    name: str
    run: Callable[[], str]
    is_critical: bool = False
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class Round:
    """What one check round found; `revision` is the latch's when it began.

    `error` is the gravest critical failure among the checks, `barring` the first that is no
    gateway's. The round ended at `ended` (seconds, `time.monotonic()`) and took `took` seconds.
    """

    revision: int
    results: tuple[CheckResult, ...]
    error: CriticalError | None
    ended: float
    ended_at: datetime
    took: float = 0.0
    barring: CriticalError | None = None

    @property
    def began(self) -> float:
        """When it began (seconds, `time.monotonic()`)."""
        return self.ended - self.took

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that failed."""
        return tuple(result.name for result in self.results if not result.is_passed)

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of those among them that no person may accept."""
        found = (each for each in self.results if not each.is_passed and not each.needs_person)
        return tuple(result.name for result in found)


def make_round(checks: Sequence[Check], revision: int) -> Round:
    """Make every check once, in order; one that fails does not spare the others."""
    began = time.monotonic()
    results: list[CheckResult] = []
    errors: list[CriticalError] = []
    for check in checks:
        result, error = _make(check)
        results.append(result)
        errors += [] if error is None else [error]
    ended = time.monotonic()
    gravest = max(errors, key=_gravity, default=None)  # the first one of equals
    barring = (each for each in errors if each.error_code is not ErrorCode.GATEWAY_UNAVAILABLE)
    facts = (gravest, ended, datetime.now(UTC), ended - began, next(barring, None))
    return Round(revision, tuple(results), *facts)


def _gravity(error: CriticalError) -> int:
    """Rank what a person must force before what one must accept, and both before all else."""
    return error.needs_person + (error.needs_person and not error.is_acceptable)


def _make(check: Check) -> tuple[CheckResult, CriticalError | None]:
    started = time.monotonic()
    error: CriticalError | None = None
    needs_person = False
    try:
        detail, is_passed = redact(check.run()), True
    except CriticalError as failure:
        detail, is_passed, error = redact(failure.message), False, failure
        needs_person = failure.needs_person and failure.is_acceptable
    except UnprovenError as failure:
        detail, is_passed, needs_person = redact(str(failure)), False, failure.needs_person
    except BaseException as failure:  # noqa: BLE001 - a cancelled check must not end the thread
        detail, is_passed = f"raised {type(failure).__name__}", False
        error = _unknown(check, failure) if check.is_critical else None
    took = time.monotonic() - started
    done = CheckResult(check.name, is_passed, detail, datetime.now(UTC), took, needs_person)
    return done, error


def _unknown(check: Check, failure: BaseException) -> CriticalError:
    text = f"the probe of {check.name!r} raised {type(failure).__name__}"
    error = CriticalError(text, kind="probe_failed", outcome=Outcome.NOT_STARTED)
    error.__cause__ = failure
    return error


class Monitor:
    """Call `step` every `interval` seconds, and at once when asked; say when it hangs or is silent.

    Args:
        step: makes a round and acts on it; `True` asks for every check, the user's too.
        interval: seconds from the end of one round to the start of the next.
        patience: seconds after which a round that has not ended is hung.
        hung: called once for each hung round, by a thread of its own.
        watchdog: what sees that a round hangs.
        bound: the seconds that a plain round may take, where they are fewer than `patience`.
        silent: called, by a thread of its own, when no round has ended for two intervals and the
            time that one may take, or the thread has died.
        tick: called by the watchdog's thread four times a second; must not wait.
    """

    def __init__(
        self,
        step: Callable[[bool], Round],
        interval: float,
        patience: float,
        hung: Callable[[], object],
        watchdog: Watchdog,
        *,
        bound: Callable[[], float | None] = lambda: None,
        silent: Callable[[], object] = lambda: None,
        tick: Callable[[], object] = lambda: None,
    ) -> None:
        self._step = step
        self._interval = interval
        self._patience = patience
        self._hung = hung
        self._bound = bound
        self._silent = silent
        self._tick = tick
        self._pulse = Pulse(watchdog, self._beat)
        self._changed = threading.Condition()
        self._asked = 0
        self._answered = 0
        self._is_woken = False
        self._is_full = False
        self._last: Round | None = None
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; the first round begins when asked, or after an interval."""
        self._start_thread()
        self._pulse.start()

    def _start_thread(self) -> None:
        self._thread = threading.Thread(target=self._run, name="failstop-monitor", daemon=True)
        self._thread.start()

    def round_now(self, timeout: float) -> Round | None:
        """Return a full round that began after this call, or None where it took too long.

        None at once for a call from within a round, which can not wait for the next one.
        """
        if threading.current_thread() is self._thread:
            return None
        with self._changed:
            self._asked += 1
            ticket = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answered >= ticket or self._is_closed, timeout)
            return self._last if self._answered >= ticket else None

    def wake(self) -> None:
        """Have the next round begin now, and wait for nothing."""
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()

    def close(self, timeout: float) -> None:
        """End the thread, waiting up to `timeout` seconds for the round that is under way."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        self._pulse.stop()

    def _run(self) -> None:
        while (ticket := self._next()) is not None:
            self._is_full = ticket > self._answered
            self._pulse.begin()
            done = self._make_round(self._is_full)
            self._pulse.end()
            self._is_full = False
            with self._changed:
                self._last, self._answered = done, ticket
                self._changed.notify_all()

    def _make_round(self, is_full: bool) -> Round | None:
        """Make a round; one that cannot be made proves nothing, which is as bad as one that hangs.

        Without this the thread would end, and nobody would look any more.
        """
        try:
            return self._step(is_full)
        except Exception as error:  # noqa: BLE001 - a thread that ends looks no more
            logger.error("a check round could not be made: %s", type(error).__name__)
            self._hung()
            return None

    def _next(self) -> int | None:
        """Wait for the time or a request; return the last request, None where it is over."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_closed or self._is_woken or self._asked > self._answered,
                self._interval,
            )
            self._is_woken = False
            return None if self._is_closed else self._asked

    @property
    def _has_died(self) -> bool:
        thread = self._thread
        return thread is not None and not thread.is_alive() and not self._is_closed

    def _beat(self, under_way: float | None, silence: float) -> None:
        """Look after the rounds: one has been `under_way`, and none has ended for `silence`."""
        self._tick()
        if self._has_died:
            self._start_thread()  # so that the recovery can be proven
            self._tell("silent-monitor", self._silent)
            return
        if (under_way or 0.0) <= self._patience and silence <= 2 * self._interval:
            return
        bound = None if self._is_full else self._bound()
        limit = self._patience if bound is None else bound + SLACK
        if bound is None and under_way is not None:
            if under_way > self._patience:
                self._tell("hung-round", self._hung)
        elif silence > 2 * self._interval + limit:
            self._tell("silent-monitor", self._silent)

    def _tell(self, name: str, what: Callable[[], object]) -> None:
        """Tell a failure of the monitor once; the next round that ends makes it another one."""
        if not self._pulse.is_new():
            return
        try:
            threading.Thread(target=what, name=f"failstop-{name}", daemon=True).start()
        except RuntimeError:  # there are no more threads; better late than never
            what()
