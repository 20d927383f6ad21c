"""The FailSafe: joins the standing, the alerts and the monitor, and is what users hold.

A failure goes memory first, then the store; then, with no lock held, the dependencies abort what is
in flight, the safety actions begin, the alerts are woken and the observers told, in the order of
the changes. Never here: a driver, a framework, an HTTP word.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from failstop import _scope
from failstop._actions import ACTION_TIMEOUT, Action, ActionFunction, Actions, action_of
from failstop._attendance import Attendance
from failstop._commits import Commits
from failstop._departure import Departure
from failstop._doorbell import Doorbell
from failstop._fence import WHOLE, FencedHalt, FenceRow, HaltReport
from failstop._historian import Historian
from failstop._keeper import Keeper
from failstop._latch import IllegalSignalError, State
from failstop._observers import Observers, call
from failstop._redaction import redact
from failstop._reduction import Permission, Reduction
from failstop._refusals import Refusals
from failstop._settings import require_seconds, require_text
from failstop._standing import REASONS, Change
from failstop._storefile import StoreError
from failstop._watchdog import Watchdog
from failstop.alerts._dispatcher import Dispatcher
from failstop.alerts._rehearsal import Arrival, rehearse
from failstop.alerts._route import Route, Sink, routes_of
from failstop.counts import Counted, Counts, Tally
from failstop.errors import ConfigurationError, CriticalError, Outcome, ResetRefusedError
from failstop.events import (
    AlertDelivered,
    AlertFailed,
    FenceHalted,
    Halted,
    Incident,
    InDoubt,
    Listener,
    Tripped,
)
from failstop.recovery._baselines import Baselines
from failstop.recovery._checks import verify_settings
from failstop.recovery._doubts import Doubts, OnResolved
from failstop.recovery._fleet import Fleet
from failstop.recovery._monitor import Check, Configured, Dependency
from failstop.recovery._notes import Notes
from failstop.recovery._rounds import Reactions, Rounds
from failstop.recovery._settings import CheckFunction, Recovery
from failstop.status import ResetPlan, SinkStatus, SystemStatus

__all__ = ["REASONS", "FailSafe"]

CLOSE_TIMEOUT = 5.0
OPENED = (
    "; the fence is open by now, so the service goes on by itself when its checks have passed: "
    "halt again to keep it stopped"
)
FORCE_PATIENCE = 5.0
"""Seconds that a forced reset waits for the checks that it overrules."""

F = TypeVar("F", bound=CheckFunction)
R = TypeVar("R", bound=OnResolved)
A = TypeVar("A", bound=ActionFunction)


class FailSafe:
    """The latch of one service: NORMAL, or everything guarded is refused.

    Args:
        service: the service's name, as alerts and the status show it.
        store: the path of the file that keeps the state, the journal and the alerts across
            restarts, shared by the processes of one host; None keeps them in memory and says so in
            the status.
        sinks: where alerts go: objects with `name` and `send`, functions, or routes.
        recovery: how fail-safe mode is left.
        noun: what responses call the service.
        actions: the safety actions: called with the incident when one opens, as with `on_trip`.
        reduce_only: the kinds of operation that are let through, where `allow` names them, while a
            person or a gateway has stopped all else.
        on_trip: what the process does when an incident opens: "stay", or "exit" with code 70 when
            the actions have ended and the alerts were flushed, for a supervisor to start it anew.

    Raises:
        ConfigurationError: a name is empty or used twice, a sink is none, the store's path is
            wrong, or "exit" has no store. A store that cannot be read is no error here: it begins
            in fail-safe mode.
    """

    def __init__(
        self,
        service: str,
        *,
        store: str | os.PathLike[str] | None = None,
        sinks: Sequence[Sink | Route] = (),
        recovery: Recovery | None = None,
        noun: str = "Trading system",
        actions: Sequence[ActionFunction] = (),
        on_trip: str = "stay",
        reduce_only: Sequence[str] = (),
    ) -> None:
        self.service: str = require_text("service", service)
        self.noun: str = require_text("noun", noun)
        self.recovery: Recovery = recovery if recovery is not None else Recovery()
        self.watchdog: Watchdog = Watchdog()
        self._responses = {outcome: Tally() for outcome in Outcome}
        self._routes = routes_of(sinks)
        self._keeper = Keeper(service, store, self._routes)
        self.doorbell: Doorbell = self._keeper.bell
        self._refusals = Refusals(service, is_automatic=self.recovery.is_automatic)
        self._observers = Observers(self._keeper.events)
        self._historian = Historian(self._keeper.store.path)
        self._observers.add(self._historian.note)
        self._dependencies: dict[str, Dependency] = {}
        self._databases: list[str] = []
        self._reduction = Reduction(reduce_only, self._keeper, self._is_proven)
        self._notes = Notes(self._keeper, self._refusals, self._reduction)
        self._alert_errors: dict[str, str] = {}
        self.commits: Commits = Commits(self._keeper.store.path)
        self.attendance: Attendance = Attendance(self._keeper.store.path)
        self.baselines: Baselines = Baselines(self._keeper)
        self._doubts = Doubts(
            self._keeper,
            self._dependencies,
            self.recovery.round_timeout / 3,
            lambda: self._dispatcher.wake(),
        )
        self._is_started = False
        self._fleet = Fleet(self._dependencies)
        self._suspended_for: str | None = None
        self._dispatcher = self._make_dispatcher()
        self._rounds = self._make_rounds()
        self._actions = Actions(
            self._keeper,
            self.watchdog,
            lambda: self._dispatcher.wake(),
            self._observers.tell,
            map(action_of, actions),
        )
        self._departure = Departure(
            on_trip, self._keeper, self._actions, self._write_before_exit, self.flush
        )
        _living.add(self)

    def _make_dispatcher(self) -> Dispatcher:
        store = self._keeper.store
        boxes = (store.spill_box, store.outbox)
        return Dispatcher(self.service, self._routes, boxes, self._report_delivery)

    def _make_rounds(self) -> Rounds:
        reactions = Reactions(
            trip=self.trip,
            suspend=self._suspend,
            report_in_doubt=self.report_in_doubt,
            tell=self._observers.tell,
            dispatcher=lambda: self._dispatcher,
            look=self._look,
            proofs=self._proofs,
            adopt_halt=self.adopt_halt,
        )
        return Rounds(
            self._keeper,
            self.recovery,
            self._dependencies,
            self.commits,
            self._doubts,
            self._notes,
            self.watchdog,
            self._fleet,
            reactions,
        )

    def __repr__(self) -> str:
        return f"<FailSafe {self.service!r} {self.state} epoch={self.epoch}>"

    # What it is

    @property
    def state(self) -> State:
        """The state of the service, now."""
        return self._keeper.standing.latch.state

    @property
    def is_normal(self) -> bool:
        """True where guarded operations are sent, also by what other processes have told by now."""
        bell = self.doorbell
        return bell.word[0] == bell.ticket or self._hear()

    @property
    def epoch(self) -> int:
        """The number of trips so far; it only rises."""
        return self._keeper.standing.latch.epoch

    @property
    def incident(self) -> Incident | None:
        """The open incident, None in NORMAL."""
        return self._keeper.standing.incident

    @property
    def refusals(self) -> int:
        """The number of calls refused so far in this process."""
        return self._refusals.count

    def count_response(self, outcome: Outcome) -> None:
        """Count a failure response; called where one is made."""
        self._responses[outcome].one()

    def counts(self) -> Counts:
        """Return what was counted in this process so far; asks nothing of any dependency."""
        counted = {
            name: dependency.counts()
            for name, dependency in tuple(self._dependencies.items())
            if isinstance(dependency, Counted)
        }
        responses = {outcome: tally.count for outcome, tally in self._responses.items()}
        return Counts(self.refusals, responses, counted)

    def require(self) -> None:
        """Return in NORMAL, and else where `may_reduce()`.

        Raises:
            OperationsSuspendedError: the state is any other; nothing was sent.
        """
        bell = self.doorbell
        if bell.word[0] != bell.ticket and not self._hear():
            if self._reduction.kinds and self.may_reduce():
                return
            raise self._refusals.refusal(self._keeper.standing)

    def _hear(self) -> bool:
        """Learn what another process of the host did; say whether the state is NORMAL then."""
        if self._keeper.is_normal:
            self._rounds.hear()
        return self._keeper.is_normal

    # Reduce only

    def allow(self, operation: str) -> Permission:
        """Let the work of a `with` block, around an `await` too, through where `reduce_only` does.

        It changes nothing in NORMAL. While a person's halt or a gateway's failure has stopped all
        else, guarded work in the block is sent; never where a database, the store or the evidence
        has failed since, and never beyond the epoch in which the block was entered.

        Args:
            operation: what the work is, as `reduce_only` names it.

        Raises:
            ConfigurationError: no such operation is named there.
        """
        if self._reduction.kinds:
            self._listen()
        return self._reduction.permission(operation)

    def may_reduce(self) -> bool:
        """Say whether work in the current context passes although the state is not NORMAL.

        False in NORMAL, where nothing needs to be permitted.
        """
        permission = self._reduction.current if self._reduction.kinds else None
        if permission is None:
            return False
        self._listen()
        return self._reduction.admits(permission)

    def _listen(self) -> None:
        if self.doorbell.rings:
            self._rounds.hear()

    def _is_proven(self) -> bool:
        """Say whether the last round is fresh, and has found the databases and the store well."""
        done = self._rounds.last
        if done is None or time.monotonic() - done.ended > self.recovery.freshness:
            return False
        wanted = {*self._databases, *(("store",) if self._keeper.store.is_durable else ())}
        return wanted <= {each.name for each in done.results if each.is_passed}

    # Beginning and end

    def start(self) -> None:
        """Start the threads and verify: ends in NORMAL where every check passed, else FAIL_SAFE.

        Until it has returned everything is refused. Calling it again does nothing.

        Raises:
            ConfigurationError: the FailSafe was closed, or a dependency answers and has settings
                that void a claim.
        """
        if self.state is State.CLOSED:
            raise ConfigurationError(f"failsafe {self.service!r} is closed; make a new one")
        if self._is_started:
            return
        for dependency in self._dependencies.values():
            verify_settings(dependency)
        self._is_started = True
        self.attendance.enter()
        self._dispatcher.start()
        self._look()
        self._rounds.start()
        self._departure.arm()

    def close(self) -> None:
        """Refuse everything from now on, deliver what is waiting, and end the threads, bounded."""
        self._keeper.close()
        is_started, self._is_started = self._is_started, False
        self._actions.wait(CLOSE_TIMEOUT)
        if is_started:
            self._rounds.close(CLOSE_TIMEOUT)
            self._write_last()
            self._dispatcher.close(CLOSE_TIMEOUT)
        for dependency in tuple(self._dependencies.values()):
            call(dependency.close)
        self.watchdog.close(CLOSE_TIMEOUT)
        self.commits.close()
        self.attendance.leave()
        self._keeper.store.close()
        _living.discard(self)  # a fork has nothing to do for it

    def _write_last(self) -> None:
        try:
            self._write_before_exit()
        except StoreError as error:
            self._notes.note_store(error)

    def _write_before_exit(self) -> None:
        """Write all that is late.

        Raises:
            StoreError: it cannot be written.
        """
        self._notes.note_refusals(is_last=True)
        self._keeper.write_late()
        self._actions.write_late()

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
        self._dispatcher.wake()
        return self._dispatcher.flush(timeout)

    def test_alert(self) -> tuple[Arrival, ...]:
        """Send an alert that is marked as a test through every sink; say where it arrived.

        Each sink has its route's timeout. The alert passes by the outbox and the journal.
        """
        return rehearse(self.service, self._routes)

    # Who is told and what is watched

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Tell `listener` every event from now on; return what ends that.

        It is called by the thread that made the change, or another one that tells at the time, so
        it must not wait. One that raises is logged and stops neither the change nor the others.

        Raises:
            TypeError: it is not callable.
        """
        if not callable(listener):
            raise TypeError(f"a listener must be callable, not {type(listener).__name__}")
        return self._observers.add(listener)

    def watch(self, dependency: Dependency, *, is_database: bool = False) -> None:
        """Probe `dependency` in every round; where the service runs already, verify it at once.

        Args:
            dependency: what is watched; its name is unique in this FailSafe.
            is_database: whether the status shows it as the database.

        Raises:
            ConfigurationError: the name is taken, or the service runs already and the dependency
                has settings that void a claim.
        """
        if self._is_started:
            verify_settings(dependency)
        if self._dependencies.setdefault(dependency.name, dependency) is not dependency:
            raise ConfigurationError(
                f"failsafe {self.service!r} watches a {dependency.name!r} already; give name="
            )
        if is_database:
            self._databases.append(dependency.name)
        if self._is_started and self.is_normal:
            self._rounds.require_round()

    @overload
    def check(self, function: F, /) -> F: ...

    @overload
    def check(self, /, *, timeout: float | None = None) -> Callable[[F], F]: ...

    def check(self, function: Any = None, /, *, timeout: float | None = None) -> Any:
        """Add a recovery check: it passes by returning True and runs while not NORMAL.

        Use it as `@failsafe.check` or as `@failsafe.check(timeout=…)`. It runs on a thread of its
        own; one that hangs has failed, and is not called again before it has ended.

        Args:
            function: the check, sync or async.
            timeout: seconds that it may take; those of the recovery's `check_timeout` where None.

        Raises:
            TypeError: it is not callable.
            ConfigurationError: the timeout is no number of seconds above zero.
        """
        seconds = self.recovery.check_timeout
        if timeout is not None:
            seconds = require_seconds("timeout", timeout)

        def add(check: F) -> F:
            if not callable(check):
                raise TypeError(f"a check must be callable, not {type(check).__name__}")
            self._rounds.add(check, seconds)
            return check

        return add if function is None else add(function)

    def on_resolved(self, function: R) -> R:
        """Call `function(key, outcome)` when it is known what became of a transaction in doubt.

        It is called once for each, and again only where the process died while it told; by a thread
        that must not wait, mostly in fail-safe mode. Add it before the start: what a process before
        this one could not tell is told in the first check round.

        Raises:
            TypeError: it is not callable.
        """
        if not callable(function):
            raise TypeError(f"on_resolved takes a function, not {type(function).__name__}")
        self._doubts.add(function)
        return function

    @overload
    def on_trip(self, function: A, /) -> A: ...

    @overload
    def on_trip(
        self, /, *, timeout: float = ACTION_TIMEOUT, name: str | None = None
    ) -> Callable[[A], A]: ...

    def on_trip(
        self,
        function: Any = None,
        /,
        *,
        timeout: float = ACTION_TIMEOUT,
        name: str | None = None,
    ) -> Any:
        """Call `function(incident)` when an incident opens: a safety action, sync or async.

        It begins once an incident on each host, on a thread of its own, which the trip does not
        wait for; a restart does not repeat it, and begins it where nobody has. Whatever it raises
        is journaled, alerted and shown in the status. Guarded work is refused in it as everywhere.
        Written as `@failsafe.on_trip` or `@failsafe.on_trip(timeout=30.0)`; add it before the
        start.

        Args:
            function: the action, where the decorator is written without parentheses.
            timeout: its time in seconds; then an async one is cancelled, a sync one given up.
            name: what it is known by, by default the function's own name.

        Raises:
            TypeError: it is not callable.
            ConfigurationError: there is one of that name, or a setting is wrong.
        """

        def add(action: A) -> A:
            self._actions.add(Action(action, timeout, name))
            return action

        return add if function is None else add(function)

    # What is in doubt

    def in_doubt(self) -> tuple[InDoubt, ...]:
        """Return the transactions that are in doubt now, in every process that has this store."""
        return self._keeper.in_doubt()

    def report_in_doubt(self, doubt: InDoubt) -> bool:
        """Keep a transaction whose outcome is not known; it is asked until there is an answer.

        It is in the store on return. Where that cannot be written this returns False and trips, and
        the doubt is kept in memory until it can.

        Raises:
            TypeError: it is no InDoubt.
        """
        if not isinstance(doubt, InDoubt):
            raise TypeError(f"report_in_doubt() takes an InDoubt, not {type(doubt).__name__}")
        problem = self._keeper.report_in_doubt(doubt)
        if problem is not None:
            self._trip(problem)
        self._observers.tell()
        return problem is None

    def report_durability_reduced(self, *, database: str, key: str) -> None:
        """Alert that a commit of `database` was not confirmed by a standby; trips nothing."""
        self._keeper.report_durability(database, key)
        self._dispatcher.wake()
        self._observers.tell()

    # Trip, halt and acknowledgement

    def trip(self, error: CriticalError, *, needs_person: bool = False) -> Incident | None:
        """Enter fail-safe mode because of `error`, or count it with the open incident.

        Gives the error its incident and marks the current scope. An error that tripped this
        FailSafe before is not counted again. Returns the incident, None where it is closed.

        Args:
            error: what failed.
            needs_person: whether only a person may lead back to NORMAL.

        Raises:
            TypeError: it is no CriticalError.
        """
        if not isinstance(error, CriticalError):
            raise TypeError(f"trip() takes a CriticalError, not {type(error).__name__}")
        _scope.mark(error)
        if self._keeper.has_joined(error.incident_id):
            return self.incident
        self._trip(error, needs_person=needs_person)
        return self.incident

    def _trip(self, error: CriticalError, *, needs_person: bool = False) -> None:
        change = self._keeper.trip(error, needs_person=needs_person)
        if change is not None:
            error.incident_id = change.incident.incident_id
            self._after_failure(change)

    def halt(
        self,
        *,
        actor: str,
        reason: str,
        scope: str = WHOLE,
        timeout: float | None = None,
        terminate: bool = False,
    ) -> HaltReport:
        """Stop the service by hand, on every host: a person's reset ends it.

        This host stops at once; then each watched database is halted behind its fence. Where the
        report is exact, no guarded transaction commits there any more; it says plainly what could
        not be promised. Calling it again asks the databases again. From a signal handler, call it
        on a thread: the handler may have interrupted a change.

        Args:
            actor: who stops it.
            reason: why.
            scope: the whole, or the scope of a watched database, whose other hosts are stopped.
            timeout: seconds for which transactions that had begun are waited for, in each
                database; by default until their deadline is over.
            terminate: whether those that are left at half of that time are ended by force.

        Raises:
            ConfigurationError: the actor or the reason is empty, the scope is no database's, the
                timeout is no number of seconds above zero, or the FailSafe is closed.
        """
        actor, reason = _said("actor", actor), _said("reason", reason)
        seconds = None if timeout is None else require_seconds("timeout", timeout)
        if scope != WHOLE and scope not in self._fleet.scopes:
            raise ConfigurationError(f"no database of {self.service!r} is of that scope")
        try:
            change = self._keeper.halt(actor, reason)
        except IllegalSignalError:
            raise ConfigurationError(f"failsafe {self.service!r} is closed; nothing runs") from None
        self._after_failure(change)
        said = {"scope": scope, "actor": actor, "reason": reason}
        databases = self._fleet.halt(change.incident, **said, seconds=seconds, terminate=terminate)
        self._note_halt(change.incident, databases)
        return HaltReport(change.incident, databases)

    def _note_halt(self, incident: Incident, databases: Sequence[FencedHalt]) -> None:
        """Have observers and the journal hear what a halt came to in each database."""
        for each in databases:
            facts = (self.service, self.epoch, datetime.now(UTC), incident.incident_id)
            event = FenceHalted(*facts, each.database, each.is_exact, each.detail)
            self._keeper.record(event)
            self._keeper.events.append(event)
        self._observers.tell()

    def adopt_halt(self, row: FenceRow) -> None:
        """Stop because a database's fence says halted; whoever has read it there calls this."""
        self._fleet.know(row)
        said = (redact(row.actor), redact(row.reason), redact(row.incident_id))
        change = self._keeper.halt_elsewhere(*said)
        if change is not None:
            self._after_failure(change)

    def acknowledge(self, *, actor: str) -> Incident:
        """Say that a person has taken the open incident: nothing is paged again for it.

        Args:
            actor: who has taken it.

        Raises:
            ConfigurationError: the actor is empty, or there is no open incident.
            StoreError: it cannot be written.
        """
        self._listen()
        try:
            change = self._keeper.acknowledge(_said("actor", actor))
        except IllegalSignalError as nothing:
            raise ConfigurationError(f"failsafe {self.service!r}: {nothing}") from None
        self._dispatcher.wake()
        self._observers.tell()
        return change.incident

    def _after_failure(self, change: Change) -> None:
        is_first_here = change.incident.incident_id != self._suspended_for
        if is_first_here or isinstance(change.event, Tripped | Halted):
            self._suspend(change.incident)
            self._dispatcher.wake()
        self._end_reduction()
        self._notes.note_store(self._keeper.problem)
        self._observers.tell()

    def _suspend(self, incident: Incident) -> None:
        """Abort what is in flight, and begin what is to be done about an incident."""
        self._suspended_for = incident.incident_id
        for dependency in tuple(self._dependencies.values()):
            call(dependency.suspend, incident)
        self._actions.begin(incident)
        self._departure.begin(incident)

    def _end_reduction(self) -> None:
        """Abort what was let through, where something has failed that nothing passes."""
        incident = self.incident
        if incident is not None and self._reduction.has_just_ended():
            self._suspend(incident)

    def _look(self) -> None:
        """In each check round: do what an incident asks for and nobody has done yet."""
        self._end_reduction()
        incident = self.incident
        try:
            self._actions.look(incident)
        except StoreError as error:
            self._notes.note_store(error)
        if incident is not None:
            self._departure.begin(incident)

    def _proofs(self) -> Iterator[Check]:
        """Give what recovery needs besides: it must overtake nothing that a trip has begun."""
        if self._actions.has_any:
            yield Check("safety actions", self._actions.prove)
        if self._departure.is_wanted:
            yield Check("departure", self._departure.prove)

    def _report_delivery(self, event: AlertDelivered | AlertFailed, is_journaled: bool) -> None:
        if isinstance(event, AlertFailed):
            self._alert_errors[event.sink] = event.error
        else:
            self._alert_errors.pop(event.sink, None)
        if not is_journaled:
            self._keeper.record(event)
        self._keeper.events.append(event)
        self._observers.tell()

    # Recovery

    def plan_reset(self) -> ResetPlan:
        """Make every check now and say what a reset would check and release; change nothing.

        Raises:
            ConfigurationError: the FailSafe was not started.
        """
        self._require_started()
        return self._rounds.plan(self.recovery.round_timeout)[0]

    def _require_started(self) -> None:
        if not self._is_started:
            raise ConfigurationError(f"failsafe {self.service!r} is not started; call start()")

    def reset(
        self, *, actor: str, reason: str, force: bool = False, epoch: int | None = None
    ) -> None:
        """Leave fail-safe mode by hand, where every check passes or `force` overrules them.

        A halt that stands in a database's fence is cleared with it, so every host goes on that has
        proven its own checks.

        Args:
            actor: who resets.
            reason: why.
            force: whether failed checks are overruled; the alert and the journal name them.
            epoch: the epoch that the person saw; a trip or halt since then refuses the reset. Now
                where it is None.

        Raises:
            ConfigurationError: the actor or the reason is empty, or it was not started.
            ResetRefusedError: a check failed, a newer failure or halt came, the store cannot be
                written, a halt cannot be cleared, or there is nothing to reset.
        """
        actor, reason = _said("actor", actor), _said("reason", reason)
        self._require_started()
        patience = self.recovery.round_timeout
        plan, proof = self._rounds.plan(min(patience, FORCE_PATIENCE) if force else patience)
        if plan.missing and not force:
            raise ResetRefusedError(
                f"recovery is not proven, these checks failed: {', '.join(plan.missing)}",
                plan.missing,
            )
        if plan.incident is None:
            raise ResetRefusedError(f"failsafe {self.service!r} is not in fail-safe mode")
        seen = proof if epoch is None else proof._replace(epoch=epoch)
        if seen.epoch != self.epoch:
            text = f"the reset saw epoch {seen.epoch}, the latch is at {self.epoch}"
            raise ResetRefusedError(text, ("epoch",))
        is_shut = self._fleet.halted() is not None
        standing = self._fleet.reopen(plan.incident, actor=actor, reason=reason, force=force)
        opened = OPENED if is_shut and self._fleet.halted() is None else ""
        reason = "; ".join((reason, *standing))
        try:
            self._rounds.leave(actor, reason, seen, force=force)
        except IllegalSignalError as stale:
            raise ResetRefusedError(f"{stale}{opened}", ("epoch",)) from stale
        except StoreError as error:
            text = f"it cannot be recorded: {error}{opened}"
            raise ResetRefusedError(text, ("store",)) from error
        self._observers.tell()

    # The report

    def status(self) -> SystemStatus:
        """Return what is known now, without asking any dependency."""
        done, standing = self._rounds.last, self._keeper.standing
        problem, doubts = self._keeper.problem, self._keeper.in_doubt()
        age = time.monotonic() - done.ended if done else None
        return SystemStatus(
            service=self.service,
            noun=self.noun,
            state=standing.latch.state,
            epoch=standing.latch.epoch,
            incident=standing.incident,
            checks=done.results if done else (),
            databases=tuple(self._databases),
            is_automatic=self.recovery.is_automatic,
            is_durable=self._keeper.store.is_durable,
            store_error=f"{problem}; {problem.action}" if problem else None,
            sinks=self._sink_status(),
            age=age,
            is_fresh=age is not None and age <= self.recovery.freshness,
            observed_at=done.ended_at if done else None,
            warnings=(*self._warnings(), *self._advice(doubts)),
            in_doubt=doubts,
            history=self._historian.tell(),
            salt=self._keeper.salt,
            actions=self._actions.status(standing.incident) if standing.incident else (),
            reduce_only=tuple(sorted(self._reduction.kinds)) if self._reduction.is_open else (),
        )

    def _advice(self, doubts: Sequence[InDoubt]) -> tuple[str, ...]:
        halts = () if self.incident is None else self._fleet.advice()
        return (*self._doubts.advice(doubts), *halts)

    def _warnings(self) -> tuple[str, ...]:
        configured = [each for each in self._dependencies.values() if isinstance(each, Configured)]
        return tuple(warning for each in configured for warning in each.warnings)

    def _sink_status(self) -> tuple[SinkStatus, ...]:
        store = self._keeper.store
        try:
            found = [box.waiting() for box in (store.spill_box, store.outbox)]
        except StoreError as error:
            return tuple(SinkStatus(route.name, None, None, str(error)) for route in self._routes)
        return tuple(
            SinkStatus.of(
                route.name,
                [waiting[route.name] for waiting in found if route.name in waiting],
                self._alert_errors.get(route.name),
            )
            for route in self._routes
        )

    # Forks

    def _before_fork(self) -> None:
        self._keeper.before_fork()

    def _after_fork_in_parent(self) -> None:
        self._keeper.after_fork_in_parent()

    def _after_fork_in_child(self) -> None:
        """Give a forked child locks, threads and connections of its own."""
        self._keeper.after_fork_in_child()
        self.watchdog.after_fork()
        self.commits.after_fork()
        self.attendance.after_fork(is_started=self._is_started)
        self._observers.after_fork()
        self._historian.after_fork()
        self._doubts.after_fork()
        self._actions.after_fork()
        self._reduction.after_fork()
        self._departure.after_fork()
        self._dispatcher = self._make_dispatcher()
        if self._is_started:
            self._dispatcher.start()
        self._rounds.after_fork(is_started=self._is_started)


def _said(name: str, value: object) -> str:
    return redact(require_text(name, value))


_living: weakref.WeakSet[FailSafe] = weakref.WeakSet()
_forking: list[FailSafe] = []


def _before_fork() -> None:
    _forking[:] = _living
    for failsafe in _forking:
        failsafe._before_fork()  # noqa: SLF001 - the hook of this module's own class


def _after_fork_in_parent() -> None:
    for failsafe in _forking:
        failsafe._after_fork_in_parent()  # noqa: SLF001 - the hook of this module's own class
    _forking.clear()


def _after_fork_in_child() -> None:
    for failsafe in _forking:
        call(failsafe._after_fork_in_child)  # noqa: SLF001 - the hook of this module's own class
    _forking.clear()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
