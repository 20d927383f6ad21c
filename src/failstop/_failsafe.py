"""The FailSafe: joins the latch, the store, the alerts and the monitor.

A change of state goes memory first, then the store, both under one lock, which keeps their order;
then, with no lock held, the dependencies abort what is in flight, the alerts are woken and the
observers told, in the order of the changes. Never here: a driver, a framework, an HTTP word.
"""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

from failstop import _scope
from failstop._latch import IllegalSignalError, Latch, Signal, State
from failstop._store import Store
from failstop._watchdog import Watchdog
from failstop._watchdog import Watchdog
from failstop.alerts._alert import Alert, AlertSink
from failstop.alerts._dispatcher import Dispatcher
from failstop.alerts._page import alert_for
from failstop.errors import (
    ConfigurationError,
    CriticalError,
    ErrorCode,
    OperationsSuspendedError,
    Outcome,
    ResetRefusedError,
)
from failstop.events import (
    AlertDelivered,
    AlertFailed,
    Checked,
    Event,
    FailureCounted,
    Halted,
    Incident,
    Listener,
    Recovering,
    RecoveryFailed,
    Reset,
    Tripped,
    Verified,
)
from failstop.recovery._monitor import Check, Dependency, Monitor, Round, make_round, user_check
from failstop.recovery._settings import CheckFunction, Recovery
from failstop.status import ResetPlan, SystemStatus

__all__ = ["FailSafe"]

logger = logging.getLogger("failstop")

REASONS = {
    ErrorCode.DB_UNAVAILABLE: "Database unavailable",
    ErrorCode.CONNECTION_FAILED: "Database connection failed",
    ErrorCode.TRANSACTION_FAILED: "Database transaction failed",
    ErrorCode.GATEWAY_UNAVAILABLE: "Gateway unavailable",
    ErrorCode.SYSTEM_FAILURE: "System failure",
}
CLOSE_TIMEOUT = 5.0

F = TypeVar("F", bound=CheckFunction)


class FailSafe:
    """The latch of one service: NORMAL, or everything guarded is refused.

    Args:
        service: the service's name, as alerts and the status show it.
        store: the path of the file that keeps the state across restarts; None keeps it in memory
            and says so in the status.
        sinks: where alerts go; each has a unique name.
        recovery: how fail-safe mode is left.
        noun: what responses call the service.

    Raises:
        ConfigurationError: a name is empty or used twice, or a sink is none.
    """

    def __init__(
        self,
        service: str,
        *,
        store: str | os.PathLike[str] | None = None,
        sinks: Sequence[AlertSink] = (),
        recovery: Recovery | None = None,
        noun: str = "Trading system",
    ) -> None:
        self.service = _require_text("service", service)
        self.noun = _require_text("noun", noun)
        self.recovery = recovery if recovery is not None else Recovery()
        self._sinks = tuple(sinks)
        self._store = Store(store, _sink_names(self._sinks))
        saved = self._store.open()
        self._latch: Latch = saved.latch
        self._incident: Incident | None = saved.incident
        self._facts: dict[str, Any] = {}
        self._dependencies: dict[str, Dependency] = {}
        self._databases: list[str] = []
        self._checks = [user_check(function) for function in self.recovery.checks]
        self._listeners: tuple[Listener, ...] = ()
        self._refusals = itertools.count()
        self._passed = 0
        self._round: Round | None = None
        self._alerts_error: str | None = None
        self._events: deque[Event] = deque()
        self.watchdog = Watchdog()
        self._make_threads()
        self._is_started = False
        _living.add(self)

    def _make_threads(self) -> None:
        """Make the locks and the threads' owners, at first and again in a forked child."""
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._monitor = Monitor(
            self._step, self.recovery.probe_interval, self.recovery.round_timeout, self._trip_hung
        )
        self._dispatcher = Dispatcher(self._sinks, self._store, self._report_delivery)

    def __repr__(self) -> str:
        return f"<FailSafe {self.service!r} {self.state} epoch={self.epoch}>"

    # What it is

    @property
    def state(self) -> State:
        """The state of the service, now."""
        return self._latch.state

    @property
    def is_normal(self) -> bool:
        """True where guarded operations are sent."""
        return self._latch.state is State.NORMAL

    @property
    def epoch(self) -> int:
        """The number of trips so far; it only rises."""
        return self._latch.epoch

    @property
    def incident(self) -> Incident | None:
        """The open incident, None in NORMAL."""
        return self._incident

    @property
    def refusals(self) -> int:
        """The number of calls refused so far in this process."""
        return int(self._refusals.__reduce__()[1][0])

    def require(self) -> None:
        """Return in NORMAL.

        Raises:
            OperationsSuspendedError: the state is any other; nothing was sent.
        """
        if self._latch.state is not State.NORMAL:
            self._refuse()

    def _refuse(self) -> NoReturn:
        """Raise the refusal of this moment; its facts are made once a change, not once a call."""
        next(self._refusals)
        facts = self._facts
        if facts.get("latch") is not self._latch:
            facts = self._facts = self._refusal_facts(self._latch, self._incident)
        error = OperationsSuspendedError.__new__(OperationsSuspendedError, facts["message"])
        error.__dict__.update(facts["attributes"])
        error.occurred_at = datetime.now(UTC)
        _scope.mark(error)
        raise error

    def _refusal_facts(self, latch: Latch, incident: Incident | None) -> dict[str, Any]:
        if incident is None:
            message = f"failsafe {self.service!r} is {latch.state}; nothing is sent until NORMAL"
            template = OperationsSuspendedError(message, kind=latch.state.lower())
        else:
            message = (
                f"failsafe {self.service!r} is in fail-safe mode since "
                f"{incident.since:%H:%M:%SZ} ({incident.reason.lower()}); "
                f"operations resume after {self._way_out(incident)}"
            )
            template = OperationsSuspendedError(
                message,
                reason=incident.reason,
                cause_code=incident.error_code,
                incident_id=incident.incident_id,
            )
        return {"latch": latch, "message": message, "attributes": template.__dict__}

    def _way_out(self, incident: Incident) -> str:
        if incident.needs_person or not self.recovery.is_automatic:
            return "a reset by a person"
        return "verified recovery"

    # Beginning and end

    def start(self) -> None:
        """Start the threads and verify: ends in NORMAL where every check passed, else FAIL_SAFE.

        Until it has returned everything is refused. Calling it again does nothing.

        Raises:
            ConfigurationError: the FailSafe was closed.
        """
        with self._lock:
            if self.state is State.CLOSED:
                raise ConfigurationError(f"failsafe {self.service!r} is closed; make a new one")
            if self._is_started:
                return
            self._is_started = True
        self._dispatcher.start()
        self._monitor.start()
        if (
            self._monitor.round_now(self.recovery.round_timeout) is None
            and self.state is State.STARTING
        ):
            self._trip_hung()

    def close(self) -> None:
        """Refuse everything from now on, deliver what is waiting, and end the threads, bounded."""
        with self._lock:
            if self.state is not State.CLOSED:
                self._latch = self._latch.step(Signal.CLOSE)
            is_started, self._is_started = self._is_started, False
        if is_started:
            self._monitor.close(CLOSE_TIMEOUT)
            self._dispatcher.close(CLOSE_TIMEOUT)
        for dependency in tuple(self._dependencies.values()):
            _close(dependency)
        self.watchdog.close(CLOSE_TIMEOUT)
        self._store.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the alerts to arrive; say whether all have."""
        return self._dispatcher.flush(timeout)

    # Who is told and what is watched

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Tell `listener` every event from now on; return what ends that.

        A listener that raises is logged and stops neither the change nor the other listeners.
        """
        with self._lock:
            self._listeners = (*self._listeners, listener)
        return lambda: self._unsubscribe(listener)

    def _unsubscribe(self, listener: Listener) -> None:
        with self._lock:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

    def watch(self, dependency: Dependency, *, is_database: bool = False) -> None:
        """Probe `dependency` in every round; where the service runs already, verify it at once.

        Args:
            dependency: what is watched; its name is unique in this FailSafe.
            is_database: whether the status shows it as the database.

        Raises:
            ConfigurationError: the name is taken.
        """
        with self._lock:
            if dependency.name in self._dependencies:
                raise ConfigurationError(
                    f"failsafe {self.service!r} watches a {dependency.name!r} already; give name="
                )
            self._dependencies[dependency.name] = dependency
            if is_database:
                self._databases.append(dependency.name)
            must_verify = self._is_started and self.state is State.NORMAL
        if must_verify and self._monitor.round_now(self.recovery.round_timeout) is None:
            self._trip_hung()

    def check(self, function: F) -> F:
        """Add a recovery check: it passes by returning True and runs while not NORMAL."""
        if not callable(function):
            raise TypeError(f"a check must be callable, not {type(function).__name__}")
        self._checks.append(user_check(function))
        return function

    # Trip and halt

    def trip(self, error: CriticalError) -> Incident | None:
        """Enter fail-safe mode because of `error`, or count it with the open incident.

        Gives the error its incident and marks the current scope. An error that tripped before is
        not counted again. Returns the incident, None where the FailSafe is closed.
        """
        if not isinstance(error, CriticalError):
            raise TypeError(f"trip() takes a CriticalError, not {type(error).__name__}")
        _scope.mark(error)
        if error.incident_id is None and self.state is not State.CLOSED:
            self._trip(error)
        return self._incident

    def _trip(self, error: CriticalError) -> None:
        with self._lock:
            if self.state is State.CLOSED:
                return
            latch = self._latch.step(Signal.TRIP)
            opens = self._incident is None
            incident = self._counted() if self._incident else _incident(error, latch.epoch)
            error.incident_id = incident.incident_id
            facts = (self.service, latch.epoch, datetime.now(UTC))
            event = (
                Tripped(*facts, incident) if opens else FailureCounted(*facts, incident, error.kind)
            )
            was = self._latch.state
            self._enter(latch, incident, event)
        self._after_trip(incident, suspends=was is not State.FAIL_SAFE)

    def _counted(self) -> Incident:
        assert self._incident is not None
        return replace(self._incident, occurrences=self._incident.occurrences + 1)

    def halt(self, *, actor: str, reason: str) -> Incident:
        """Stop the service by hand: it stays in fail-safe mode until a person resets it.

        Args:
            actor: who stops it.
            reason: why.

        Raises:
            ConfigurationError: the actor or the reason is empty, or the FailSafe is closed.
        """
        _require_text("actor", actor)
        _require_text("reason", reason)
        with self._lock:
            if self.state is State.CLOSED:
                raise ConfigurationError(f"failsafe {self.service!r} is closed; nothing runs")
            latch = self._latch.step(Signal.HALT)
            incident = (
                replace(self._counted(), needs_person=True)
                if self._incident
                else _halt_incident(actor, reason, latch.epoch)
            )
            event = Halted(self.service, latch.epoch, datetime.now(UTC), incident, actor, reason)
            self._enter(latch, incident, event)
        self._after_trip(incident, suspends=True)
        return incident

    def _enter(self, latch: Latch, incident: Incident, event: Event) -> None:
        """Make a failure's change: memory first, then the store. Called with the lock held."""
        self._latch, self._incident, self._passed = latch, incident, 0
        self._save(latch, incident, event)

    def _after_trip(self, incident: Incident, *, suspends: bool) -> None:
        if suspends:
            for dependency in tuple(self._dependencies.values()):
                _tell(dependency.suspend, incident)
        self._tell_observers()

    def _save(self, latch: Latch, incident: Incident | None, event: Event) -> None:
        """Write a change with its alerts and queue it for the observers, with the lock held."""
        alert = alert_for(event, socket.gethostname())
        self._store.save(latch, incident, event, [alert] if alert else [])
        self._events.append(event)

    def _tell_observers(self) -> None:
        """Tell the queued events in order; one thread at a time does, the others leave theirs."""
        self._dispatcher.wake()
        while self._events and self._telling.acquire(blocking=False):
            try:
                while self._events:
                    event = self._events.popleft()
                    for listener in self._listeners:
                        _tell(listener, event)
            finally:
                self._telling.release()

    def _report_delivery(self, sink: str, alert: Alert, error: Exception | None) -> None:
        facts = (self.service, self.epoch, datetime.now(UTC), sink, alert.action, alert.incident_id)
        if error is None:
            event: Event = AlertDelivered(*facts)
            self._alerts_error = None
        else:
            name = type(error).__name__
            event = AlertFailed(*facts, name)
            self._alerts_error = f"{sink}: {name}"
        self._store.record(event)
        self._events.append(event)
        self._tell_observers()

    # Recovery

    def _step(self, is_full: bool) -> Round:
        """Make one check round and act on it; called by the monitor's thread."""
        latch = self._latch
        checks = [
            Check(name, each.probe, is_critical=True)
            for name, each in tuple(self._dependencies.items())
        ]
        if is_full or latch.state is not State.NORMAL:
            checks += self._checks
        done = make_round(checks, latch.revision)
        self._round = done
        self._events.append(Checked(self.service, latch.epoch, datetime.now(UTC), done.results))
        self._act_on(done)
        self._tell_observers()
        return done

    def _trip_hung(self) -> None:
        text = f"the checks did not end within {self.recovery.round_timeout:g} seconds"
        self.trip(CriticalError(text, kind="check_hung", outcome=Outcome.NOT_STARTED))

    def _act_on(self, done: Round) -> None:
        state = self.state
        if state is State.NORMAL or (state is State.STARTING and done.failed):
            if done.error is not None or state is State.STARTING:
                self.trip(done.error or _failed_round(done))
            return
        try:
            self._advance(done)
        except IllegalSignalError:
            logger.debug("a check round was overtaken by a failure, so it proves nothing")

    def _advance(self, done: Round) -> None:
        with self._lock:
            now = datetime.now(UTC)
            if self.state is State.STARTING:
                latch = self._latch.step(Signal.VERIFIED, revision=done.revision)
                self._leave(latch, Verified(self.service, latch.epoch, now))
            elif self._incident is not None and done.failed:
                self._fail_recovery(done, self._incident)
            elif self._incident is not None:
                self._count_passed(done, self._incident)

    def _fail_recovery(self, done: Round, incident: Incident) -> None:
        if self.state is State.RECOVERING:
            latch = self._latch.step(Signal.CHECK_FAILED)
            now = datetime.now(UTC)
            event = RecoveryFailed(self.service, latch.epoch, now, incident, done.failed)
            self._enter(latch, incident, event)
        self._passed = 0

    def _count_passed(self, done: Round, incident: Incident) -> None:
        now = datetime.now(UTC)
        if self.state is State.FAIL_SAFE:
            latch = self._latch.step(Signal.PASSED, revision=done.revision)
            self._latch = latch
            self._save(latch, incident, Recovering(self.service, latch.epoch, now, incident))
            self._passed = 0
        if done.revision != self._latch.revision:
            return
        self._passed += 1
        is_proven = self._passed >= self.recovery.consecutive
        if is_proven and self.recovery.is_automatic and not self._latch.is_held:
            latch = self._latch.step(Signal.PROVEN, revision=done.revision)
            reason = f"all checks passed in {self._passed} consecutive rounds"
            self._leave(latch, Reset(self.service, latch.epoch, now, incident, None, reason))

    def _leave(self, latch: Latch, event: Event) -> None:
        """Enter NORMAL: the store first, so that what is not written is not true."""
        self._save(latch, None, event)
        self._incident, self._latch, self._passed = None, latch, 0

    def plan_reset(self) -> ResetPlan:
        """Make every check now and say what a reset would check and release; change nothing.

        Raises:
            ConfigurationError: the FailSafe was not started.
        """
        latch, incident = self._latch, self._incident
        if not self._is_started:
            raise ConfigurationError(f"failsafe {self.service!r} is not started; call start()")
        done = self._monitor.round_now(self.recovery.round_timeout)
        if done is None:
            return ResetPlan(latch.epoch, latch.state, incident, (), ("monitor",))
        return ResetPlan(latch.epoch, latch.state, incident, done.results, done.failed)

    def reset(self, *, actor: str, reason: str, force: bool = False) -> None:
        """Leave fail-safe mode by hand, where every check passes or `force` overrules them.

        Args:
            actor: who resets.
            reason: why.
            force: whether failed checks are overruled; the alert and the event name them.

        Raises:
            ConfigurationError: the actor or the reason is empty, or it was not started.
            ResetRefusedError: a check failed, a newer trip came, or there is nothing to reset.
        """
        _require_text("actor", actor)
        _require_text("reason", reason)
        epoch = self.epoch
        plan = self.plan_reset()
        if plan.missing and not force:
            raise ResetRefusedError(
                f"recovery is not proven, these checks failed: {', '.join(plan.missing)}",
                plan.missing,
            )
        with self._lock:
            incident = self._incident
            if incident is None:
                raise ResetRefusedError(f"failsafe {self.service!r} is not in fail-safe mode")
            try:
                latch = self._latch.step(Signal.RESET, epoch=epoch)
            except IllegalSignalError as stale:
                raise ResetRefusedError(str(stale), ("epoch",)) from stale
            now = datetime.now(UTC)
            event = Reset(self.service, latch.epoch, now, incident, actor, reason, plan.missing)
            self._leave(latch, event)
        self._tell_observers()

    def status(self) -> SystemStatus:
        """Return what is known now, without asking any dependency."""
        done, latch = self._round, self._latch
        age = time.monotonic() - done.ended if done else None
        return SystemStatus(
            service=self.service,
            noun=self.noun,
            state=latch.state,
            epoch=latch.epoch,
            incident=self._incident,
            checks=done.results if done else (),
            databases=tuple(self._databases),
            is_automatic=self.recovery.is_automatic,
            is_durable=self._store.is_durable,
            alerts_pending=sum(len(self._store.due(sink.name)) for sink in self._sinks),
            alerts_error=self._alerts_error,
            age=age,
            is_fresh=age is not None and age <= self._freshness,
            observed_at=done.ended_at if done else None,
        )

    @property
    def _freshness(self) -> float:
        """Seconds after which an observation proves nothing: two intervals and a slow probe."""
        return 2 * self.recovery.probe_interval + 1.0

    def _after_fork_in_child(self) -> None:
        """Give a forked child threads and locks of its own."""
        self.watchdog.after_fork()
        self._store.after_fork()
        self.watchdog.after_fork()
        self._make_threads()
        if self._is_started:
            self._dispatcher.start()
            self._monitor.start()


def _require_text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{name} must be a text that is not empty")
    return value


def _sink_names(sinks: Sequence[AlertSink]) -> list[str]:
    names = []
    for sink in sinks:
        if not isinstance(sink, AlertSink):
            raise ConfigurationError(f"{type(sink).__name__} is no sink: it needs name and send()")
        names.append(_require_text("a sink's name", sink.name))
    if len(set(names)) < len(names):
        raise ConfigurationError("two sinks have the same name; give each its own")
    return names


def _incident(error: CriticalError, epoch: int) -> Incident:
    return Incident(
        incident_id=secrets.token_hex(8),
        epoch=epoch,
        error_code=error.error_code,
        kind=error.kind,
        reason=REASONS[error.error_code],
        cause=error.message,
        action=error.action,
        since=datetime.now(UTC),
    )


def _halt_incident(actor: str, reason: str, epoch: int) -> Incident:
    return Incident(
        incident_id=secrets.token_hex(8),
        epoch=epoch,
        error_code=ErrorCode.SYSTEM_FAILURE,
        kind="halt",
        reason="Halted by an operator",
        cause=f"halted by {actor}: {reason}",
        action="reset with actor and reason when the cause of the halt is gone",
        since=datetime.now(UTC),
        needs_person=True,
        actor=actor,
    )


def _failed_round(done: Round) -> CriticalError:
    text = f"these checks failed at start: {', '.join(done.failed)}"
    return CriticalError(text, kind="check_failed", outcome=Outcome.NOT_STARTED)


def _tell(function: Callable[[Any], object], fact: object) -> None:
    """Call foreign code that must stop neither the change nor the others; log what it raises."""
    try:
        function(fact)
    except Exception:  # an observer's failure is its own
        logger.exception("an observer of %s raised", type(fact).__name__)


def _close(dependency: Dependency) -> None:
    try:
        dependency.close()
    except Exception:  # it must not keep the others open
        logger.exception("a dependency could not close")


_living: weakref.WeakSet[FailSafe] = weakref.WeakSet()


def _restart_in_child() -> None:
    for failsafe in tuple(_living):
        failsafe._after_fork_in_child()  # noqa: SLF001 - the hook of this module's own class


os.register_at_fork(after_in_child=_restart_in_child)
