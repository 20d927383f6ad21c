"""The check rounds: what each gathers, and what it means for the latch.

A round rests on the revision at which it began, so a failure that came meanwhile makes it void.
Never here: how a check is made, or which thread makes the rounds.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from failstop._commits import Commits
from failstop._fence import FenceRow
from failstop._keeper import Keeper, Seen
from failstop._latch import IllegalSignalError, State
from failstop._standing import Leave
from failstop._storefile import StoreError
from failstop._watchdog import Watchdog
from failstop.alerts._dispatcher import Dispatcher
from failstop.errors import CriticalError, Outcome
from failstop.events import CheckResult, Incident, InDoubt
from failstop.recovery._checks import StoreCheck, failed_round
from failstop.recovery._doubts import Doubts
from failstop.recovery._election import Election, Observation
from failstop.recovery._fleet import CHECK as FENCE_CHECK
from failstop.recovery._fleet import Fleet
from failstop.recovery._monitor import (
    Bounded,
    Check,
    Dependency,
    Monitor,
    Recalled,
    Round,
    UnprovenError,
    make_round,
)
from failstop.recovery._notes import Notes
from failstop.recovery._settings import CheckFunction, Recovery
from failstop.recovery._streak import Streak
from failstop.recovery._user_check import UserCheck
from failstop.status import ResetPlan

__all__ = ["Proof", "Reactions", "Rounds"]

logger = logging.getLogger("failstop")


@dataclass(frozen=True, slots=True)
class Reactions:
    """What a round has its FailSafe do."""

    trip: Callable[[CriticalError], object]
    suspend: Callable[[Incident], None]
    report_in_doubt: Callable[[InDoubt], bool]
    tell: Callable[[], None]
    dispatcher: Callable[[], Dispatcher]
    look: Callable[[], None]
    proofs: Callable[[], Iterable[Check]]
    adopt_halt: Callable[[FenceRow], object]


class Proof(NamedTuple):
    """What leaving fail-safe mode rests on: the epoch and the revision it saw, and the results."""

    epoch: int
    revision: int
    results: tuple[CheckResult, ...]


class Rounds:
    """Make the check rounds of one service, and act on them.

    Args:
        keeper: keeps the standing.
        recovery: how fail-safe mode is left.
        dependencies: what is probed, by name.
        commits: the commits under way, also those of processes that are gone.
        doubts: asks what became of transactions in doubt.
        notes: tells observers and journal.
        watchdog: what sees that a round hangs.
        fleet: speaks through the databases' fences.
        reactions: what a round has its FailSafe do.
    """

    def __init__(
        self,
        keeper: Keeper,
        recovery: Recovery,
        dependencies: Mapping[str, Dependency],
        commits: Commits,
        doubts: Doubts,
        notes: Notes,
        watchdog: Watchdog,
        fleet: Fleet,
        reactions: Reactions,
    ) -> None:
        self._keeper = keeper
        self._recovery = recovery
        self._dependencies = dependencies
        self._commits = commits
        self._doubts = doubts
        self._notes = notes
        self._watchdog = watchdog
        self._fleet = fleet
        self._reactions = reactions
        self._checks: list[Check] = []
        for function in recovery.checks:
            self.add(function, recovery.check_timeout)
        self._streak = Streak(recovery.probe_interval, recovery.freshness)
        self._held: tuple[str, str] | None = None
        self.last: Round | None = None
        self.election = Election(keeper.bell, recovery.freshness)
        self._rung = 0
        self._monitor = self._make_monitor()

    def _make_monitor(self) -> Monitor:
        recovery = self._recovery
        return Monitor(
            self._step,
            recovery.probe_interval,
            recovery.round_timeout,
            self._trip_hung,
            self._watchdog,
            bound=self._bound,
            silent=self._trip_silent,
            tick=self._listen,
        )

    def add(self, function: CheckFunction, timeout: float) -> None:
        """Make a user's check too from now on, each time for up to `timeout` seconds."""
        check = UserCheck(function, timeout)
        self._checks.append(Check(check.name, check, is_shared=True))

    # The thread

    def start(self) -> None:
        """Start the monitor, and verify: return when the state is STARTING no more."""
        self._monitor.start()
        while self._state is State.STARTING:  # a failure elsewhere makes a round's evidence void
            self.require_round()

    def require_round(self) -> None:
        """Have a round made now; one that does not end in time trips."""
        if self.round_now() is None:
            self._trip_hung()

    def round_now(self) -> Round | None:
        """Return a full round that began after this call, or None where it took too long."""
        return self._monitor.round_now(self._recovery.round_timeout)

    def close(self, timeout: float) -> None:
        """End the monitor, waiting up to `timeout` seconds for the round that is under way."""
        self._monitor.close(timeout)
        self.election.resign()

    def after_fork(self, *, is_started: bool) -> None:
        """In a forked child: have a monitor of its own, and leave the parent its place."""
        self.election.resign()
        self._monitor = self._make_monitor()
        if is_started:
            self._monitor.start()

    def _trip_hung(self) -> None:
        text = f"the checks did not end within {self._recovery.round_timeout:g} seconds"
        self._reactions.trip(CriticalError(text, kind="check_hung", outcome=Outcome.NOT_STARTED))

    def _trip_silent(self) -> None:
        text = "the monitor is silent: no check round has ended in its time"
        error = CriticalError(text, kind="monitor_silent", outcome=Outcome.NOT_STARTED)
        error.action = "look at what its probes hang on, and restart the process if it stays silent"
        self._reactions.trip(error)

    def _bound(self) -> float | None:
        """Return the seconds that the probes of a plain round take at most; None where unknown."""
        if not self._keeper.is_normal or self._keeper.has_doubts:
            return None
        total = 0.0
        for dependency in tuple(self._dependencies.values()):
            if not isinstance(dependency, Bounded):
                return None
            total += dependency.probe_seconds
        return total

    def _listen(self) -> None:
        """Act on the doorbell where no call does: what is in flight is to be aborted too."""
        bell = self._keeper.bell
        word = bell.word[0]
        if word == self._rung or not bell.rings:
            return
        self._rung = word
        if self._keeper.is_normal:
            threading.Thread(target=self.hear, name="failstop-doorbell", daemon=True).start()
        else:
            self._monitor.wake()

    @property
    def _state(self) -> State:
        return self._keeper.standing.latch.state

    # One round

    def _step(self, is_full: bool) -> Round:
        """Make one check round and act on it; called by the monitor's thread."""
        seen, problem = self._sync()
        self._reactions.look()
        is_elected = self.election.stand()
        observed = None if is_elected or is_full else self._observation()
        if observed is None:
            self._adopt_left_behind()
        must_prove = not self._keeper.is_normal
        checks = list(self._checks_due(problem, is_full=is_full, must_prove=must_prove))
        if observed is not None and must_prove:
            checks += self._recalls()
        made = make_round(checks if observed is None else observed.left(checks), seen.revision)
        done = made if observed is None else observed.joined(made, checks, seen.stored)
        self.last = done
        self._notes.note_checks(done)
        try:
            if observed is None:
                self._act_on(done, seen, must_prove=must_prove)
            else:
                self._follow(done, made, seen)
            if is_elected and problem is None:
                self.election.publish(done, seen.stored)
        except IllegalSignalError:
            logger.debug("a check round was overtaken by a failure, so it proves nothing")
        except StoreError as error:
            self._notes.note_store(error)
        if not must_prove:
            self._doubts.ask()
        self._look_after_alerts()
        self._reactions.tell()
        return done

    def _checks_due(
        self, problem: StoreError | None, *, is_full: bool, must_prove: bool
    ) -> Iterator[Check]:
        if self._keeper.store.is_durable:
            yield Check("store", StoreCheck(problem), is_critical=True)
        for name, dependency in tuple(self._dependencies.items()):
            yield Check(name, dependency.probe, is_critical=True, is_shared=True)
        if must_prove:
            yield Check("in doubt", self._prove_no_doubt)
            yield from self._reactions.proofs()
            if self._fleet.has_fences:
                yield Check(FENCE_CHECK, self._fleet.prove, is_shared=True)
        if is_full or must_prove:
            yield from self._checks

    def _recalls(self) -> Iterator[Check]:
        """What a process that follows must prove itself: what it alone was told."""
        for name, dependency in tuple(self._dependencies.items()):
            if isinstance(dependency, Recalled):
                yield Check(f"{name}, acknowledged here", dependency.recall, is_critical=True)

    def _prove_no_doubt(self) -> str:
        count = self._commits.in_question
        if count:
            raise UnprovenError(f"what became of {count} transactions is being asked just now")
        return self._doubts.prove()

    def _sync(self) -> tuple[Seen, StoreError | None]:
        """Bring memory and store together; return why that failed, where it did."""
        try:
            seen = self._keeper.sync()
        except StoreError as error:
            self._notes.note_store(error)
            return Seen(self._keeper.standing.latch.revision, False, None, -1), error
        self._notes.note_store(self._keeper.problem)
        if seen.entered is not None:
            self._reactions.suspend(seen.entered)
        return seen, None

    def hear(self) -> None:
        """Adopt what another process did, where the doorbell rang; called by whoever sees that.

        A store that cannot be read trips.
        """
        try:
            entered = self._keeper.hear()
        except StoreError as error:
            self._reactions.trip(error)
            return
        if entered is not None:
            self._reactions.suspend(entered)
        self._reactions.tell()

    def _observation(self) -> Observation | None:
        """Return what the elected process saw; a service that starts looks for itself."""
        return None if self._state is State.STARTING else self.election.observation()

    def _adopt_left_behind(self) -> None:
        """Keep what processes of this host that are gone left in doubt."""
        for doubts in self._commits.left_behind():
            kept = [self._reactions.report_in_doubt(doubt) for doubt in doubts]
            if not all(kept):
                break  # what is not in the store stays where it is

    def _look_after_alerts(self) -> None:
        """Have what is due paged again, and sinks that hang looked after."""
        dispatcher = self._reactions.dispatcher()
        dispatcher.replace_hung()
        self._notes.note_refusals(is_last=False)
        try:
            if self._keeper.store.care():
                dispatcher.wake()
        except StoreError as error:
            self._notes.note_store(error)

    # What a round means

    def _act_on(self, done: Round, seen: Seen, *, must_prove: bool) -> None:
        state, incident = self._state, self._keeper.standing.incident
        is_open = state in (State.STARTING, State.NORMAL) or seen.is_over
        if state is State.NORMAL and must_prove and _is_finding(done):
            self._monitor.wake()  # a person has reset meanwhile, and may have accepted just that
        elif is_open and done.error is not None:
            self._reactions.trip(done.error)
        elif self._adopt_halt(incident):
            return
        elif state is State.STARTING:
            self._act_on_start(done)
        elif seen.is_over and self._fleet.halted() is None:
            self._keeper.follow(done.revision, seen.stored)
        elif incident is not None and done.failed:
            self._streak.end()
            self._hold(incident, done.error)
            self._bar(incident, done)
            if done.missing:  # a person may accept the others, on the evidence of this round
                self._keeper.fail_recovery(done.failed)
                self._keeper.void_evidence()
        elif incident is not None:
            self._count_passed(done)

    def _adopt_halt(self, incident: Incident | None) -> bool:
        """Stop, or tell, where a halt stands in a fence; say whether there was anything to do."""
        row = self._fleet.halted() if incident is None else self._fleet.news(incident)
        if row is not None and self._state is not State.CLOSED:
            self._reactions.adopt_halt(row)
        return row is not None

    def _hold(self, incident: Incident, error: CriticalError | None) -> None:
        """Have the open incident wait for a person too, where a finding calls for one."""
        if error is None or not error.needs_person:
            return
        finding = (incident.incident_id, error.kind)
        if finding != self._held:
            self._held = finding
            self._reactions.trip(error)

    def _bar(self, incident: Incident, made: Round) -> None:
        """Let nothing through in the open incident any more, where more than a gateway failed."""
        if incident.may_reduce and made.barring is not None:
            self._reactions.trip(made.barring)

    def _follow(self, done: Round, made: Round, seen: Seen) -> None:
        """Act on what the elected process saw; `made` is what this one looked at itself.

        The recovery of the host is proven by the elected one, and never counted here; a fence in
        which it sees a halt holds this process too.
        """
        self._streak.end()
        incident = self._keeper.standing.incident
        if (incident is None or seen.is_over) and done.error is not None:
            self._reactions.trip(done.error)
        elif seen.is_over and FENCE_CHECK not in set(done.failed).difference(made.failed):
            self._keeper.follow(done.revision, seen.stored)
        elif incident is not None and done.failed:
            if not self._keeper.standing.latch.is_held:
                self._hold(incident, done.error)
            self._bar(incident, made)
            if done.missing:
                self._keeper.fail_recovery(done.failed)
            if made.missing:
                self._keeper.void_evidence()
        elif self._state is State.FAIL_SAFE:
            self._keeper.begin_recovery(done.revision)

    def _act_on_start(self, done: Round) -> None:
        if done.failed:
            self._reactions.trip(failed_round(done))
        else:
            self._keeper.verify(done.revision)

    def _count_passed(self, done: Round) -> None:
        """Count the rounds that passed in a row since the last failure, whoever saw it."""
        if self._state is State.FAIL_SAFE:
            self._keeper.begin_recovery(done.revision)
        count = self._streak.count(done)
        if count < self._recovery.consecutive:
            return
        latch, incident = self._keeper.standing.latch, self._keeper.standing.incident
        proof = Proof(latch.epoch, done.revision, done.results)
        row = self._fleet.reset_of(incident, is_held=latch.is_held)
        if row is not None:
            self.leave(row.actor, f"{row}", proof, force=False)
        elif self._recovery.is_automatic and not latch.is_held:
            reason = f"all checks passed in {count} consecutive rounds"
            self.leave(None, reason, proof, force=False)

    # Leaving fail-safe mode

    def leave(self, actor: str | None, reason: str, proof: Proof, *, force: bool) -> None:
        """Leave fail-safe mode on what was found, or by a person.

        Raises:
            IllegalSignalError: a failure came since, it needs a person, or there is no incident.
            StoreError: it cannot be written, so it does not happen.
        """
        now = datetime.now(UTC)
        self._notes.note_refusals(is_last=True)
        self._keeper.leave(Leave(self._keeper.service, actor, reason, now, *proof, force))
        self._reactions.dispatcher().wake()

    def plan(self, patience: float) -> tuple[ResetPlan, Proof]:
        """Make a full round and return what a reset would do, with what that would rest on.

        A monitor that does not answer within `patience` seconds has failed too.
        """
        standing = self._keeper.standing
        latch, incident = standing.latch, standing.incident
        done = self._monitor.round_now(patience)
        if done is None:
            results = (*(self.last.results if self.last else ()), _silent())
        else:
            results = done.results
        plan = ResetPlan.of(latch.epoch, latch.state, incident, results)
        return plan, Proof(latch.epoch, done.revision if done else -1, results)


def _is_finding(done: Round) -> bool:
    return done.error is not None and done.error.needs_person


def _silent() -> CheckResult:
    text = "did not answer in time; what the other checks say is old"
    return CheckResult("monitor", False, text, datetime.now(UTC), 0.0)
