"""The instrument: an observer of one FailSafe's events, and a look at it at every scrape.

In multiprocess mode nobody can look at another process, so a look is taken in every check round
too. Only failstop's public face; no label ever holds a key, a URL, an SQL text or what a person
said. Never here: anything in the way of a guarded call.
"""

from __future__ import annotations

import functools
import math
import os
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import NamedTuple, Self

from prometheus_client import Counter, Gauge

from failstop import ErrorCode, FailSafe, Outcome, State, SystemStatus
from failstop.alerts import redact
from failstop.counts import Counts
from failstop.diagnosis import kinds
from failstop.events import (
    ActionEnded,
    ActionFailed,
    ActionState,
    AlertDelivered,
    AlertFailed,
    Checked,
    CheckResult,
    Doubted,
    DurabilityReduced,
    Event,
    FailureCounted,
    Followed,
    Halted,
    Incident,
    InDoubt,
    Joined,
    Permitted,
    Recovering,
    RecoveryFailed,
    Reset,
    Resolved,
    Tripped,
    Verified,
)
from failstop.prometheus._board import IS_MULTIPROCESS, Board

__all__ = ["Instrument"]

ANSWERS = (Outcome.COMMITTED, Outcome.ROLLED_BACK)
CHANGES = (Verified, Tripped, Halted, Recovering, RecoveryFailed, Reset)
SUSPENDED = (State.FAIL_SAFE, State.RECOVERING)
FORK_PATIENCE = 1.0
"""Seconds that a fork waits for a look that is under way."""
WAYS = ("recovery", "person", "force")
"""How fail-safe mode is left."""
OTHER = "other"
"""What stands for a kind that is not failstop's own: it may say anything."""


class _Seen(NamedTuple):
    """A counter that is brought to a number which somebody else counts."""

    counter: Counter
    labels: tuple[str, ...]


class Instrument:
    """What tells Prometheus of one FailSafe; `close()` ends that."""

    def __init__(self, failsafe: FailSafe, board: Board) -> None:
        self.service: str = redact(failsafe.service)
        self._failsafe = failsafe
        self._board = board
        self._told: dict[_Seen, int] = {}
        self._accounted = time.monotonic()
        self._was_suspended = False
        self._gauges: dict[Gauge, set[tuple[str, ...]]] = defaultdict(set)
        self._make_lock()
        board.add(self)
        self._end = failsafe.subscribe(self._hear)
        _living.add(self)

    def _make_lock(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Tell no more, and take the service out of the registry; doing it again does nothing.

        In multiprocess mode the counters stay in their files, and the gauges become zero.
        """
        if self not in _living:
            return
        _living.discard(self)
        self._end()
        self.look()
        with self._lock:
            for gauge, known in self._gauges.items():
                for labels in known:
                    gauge.labels(*labels).set(math.inf if gauge is self._board.observed else 0.0)
        self._board.remove(self)

    # Events

    def _hear(self, event: Event) -> None:
        self._count(event)
        if isinstance(event, Checked):
            self.look()
        elif isinstance(event, CHANGES):
            with self._lock:
                self._write_standing()

    def _count(self, event: Event) -> None:
        board = self._board
        match event:
            case Joined() | Followed():
                pass  # counted by the process that did it
            case Tripped(incident=incident):
                self._inc(board.trips, *_cause(incident))
                self._inc(board.errors, *_cause(incident))
            case Halted(incident=incident) if incident.epoch == event.epoch and incident.is_halt:
                self._inc(board.trips, *_cause(incident))
            case FailureCounted(incident=incident, kind=kind, count=count, error_code=code):
                labels = _code(code or incident.error_code), _kind(kind)
                self._inc(board.errors, *labels, by=count)
            case Reset(actor=actor, failed=failed):
                self._inc(board.resets, _way(actor, is_forced=bool(failed)))
            case Permitted(operation=operation, count=count):
                self._inc(board.permitted, operation, by=count)
            case ActionEnded(action=action):
                self._inc(board.actions, action, ActionState.ENDED)
            case ActionFailed(action=action, state=state):
                self._inc(board.actions, action, state)
            case Checked(results=results):
                self._time(results)
            case _:
                self._count_more(event)

    def _count_more(self, event: Event) -> None:
        board = self._board
        match event:
            case Doubted(doubt=doubt):
                self._inc(board.doubts, doubt.database)
            case Resolved(doubt=doubt, outcome=outcome):
                self._inc(board.resolved, doubt.database, outcome)
                took = (event.occurred_at - doubt.since).total_seconds()
                board.resolution.labels(*self._labels(doubt.database)).observe(max(0.0, took))
            case DurabilityReduced(database=database):
                self._inc(board.reduced, database)
            case AlertDelivered(sink=sink):
                self._inc(board.alerts, sink, "delivered")
            case AlertFailed(sink=sink):
                self._inc(board.alerts, sink, "failed")

    def _time(self, results: Iterable[CheckResult]) -> None:
        for result in results:
            self._board.check.labels(*self._labels(result.name)).observe(result.duration)

    # A look

    def look(self) -> None:
        """Write what no event tells; called at every scrape, and in every check round."""
        counts, status = self._failsafe.counts(), self._failsafe.status()
        with self._lock:
            self._write_standing()
            self._write_counts(counts)
            self._write_pools(counts)
            self._write_status(status)
            self._write_doubts(status.in_doubt, counts)
            self._write_alerts(status)

    def _write_standing(self) -> None:
        """Write the state; called with the lock held."""
        board, failsafe = self._board, self._failsafe
        state, incident = failsafe.state, failsafe.incident
        self._set(board.processes, 1)
        for each in State:
            self._set(board.state, each is state, each)
        self._set(board.epoch, failsafe.epoch)
        is_automatic = failsafe.recovery.is_automatic
        self._set(
            board.needs_person, bool(incident and (incident.needs_person or not is_automatic))
        )
        now = time.monotonic()
        passed = now - self._accounted if self._was_suspended else 0.0
        self._inc(board.suspended, by=passed)
        self._accounted, self._was_suspended = now, state in SUSPENDED

    def _write_counts(self, counts: Counts) -> None:
        for seen, count in self._counted(counts):
            before = self._told.get(seen, 0)  # more than `count` where another look was faster
            seen.counter.labels(*seen.labels).inc(max(0, count - before))
            self._told[seen] = max(count, before)

    def _counted(self, counts: Counts) -> Iterator[tuple[_Seen, int]]:
        board = self._board
        yield _Seen(board.refusals, self._labels()), counts.refusals
        for outcome, count in counts.responses.items():
            yield _Seen(board.responses, self._labels(outcome)), count
        for name, each in counts.databases.items():
            for result, count in each.operations.items():
                yield _Seen(board.operations, self._labels(name, result)), count
            for by, count in each.deadlines.items():
                yield _Seen(board.deadlines, self._labels(name, by)), count

    def _write_pools(self, counts: Counts) -> None:
        board = self._board
        for name, each in counts.databases.items():
            if each.pool is not None:
                self._set(board.pool, each.pool.in_use, name, "in_use")
                self._set(board.pool, each.pool.idle, name, "idle")
                limit = each.pool.limit
                self._set(board.pool_limit, math.inf if limit is None else limit, name)
                self._set(board.pool_waiting, each.pool.waiting, name)

    def _write_status(self, status: SystemStatus) -> None:
        board = self._board
        self._set(board.observed, status.observed_at.timestamp() if status.observed_at else 0.0)
        found = {check.name: not check.is_passed for check in status.checks}
        self._set_all(board.check_failed, found)
        for way in WAYS:
            self._inc(board.resets, way, by=0)  # so that the first one is seen as an increase
        for name in status.databases:
            self._set(board.up, status.database(name)["status"] == "up", name)

    def _write_doubts(self, doubts: Iterable[InDoubt], counts: Counts) -> None:
        board, now = self._board, datetime.now(UTC)
        since: dict[str, list[float]] = {name: [] for name in counts.databases}
        for doubt in doubts:
            since.setdefault(doubt.database, []).append((now - doubt.since).total_seconds())
        self._set_all(board.in_doubt, {name: len(ages) for name, ages in since.items()})
        oldest = {name: max(ages, default=0.0) for name, ages in since.items()}
        self._set_all(board.oldest_doubt, oldest)
        for name in since:
            self._inc(board.doubts, name, by=0)
            self._inc(board.reduced, name, by=0)
            for outcome in ANSWERS:
                self._inc(board.resolved, name, outcome, by=0)

    def _write_alerts(self, status: SystemStatus) -> None:
        board = self._board
        for sink in status.sinks:
            pending = math.inf if sink.pending is None else sink.pending
            self._set(board.pending, pending, sink.name)
            self._set(board.oldest_alert, sink.oldest or 0.0, sink.name)
            for result in ("delivered", "failed"):
                self._inc(board.alerts, sink.name, result, by=0)

    def _labels(self, *labels: str) -> tuple[str, ...]:
        return self.service, *map(_clean, labels)

    def _inc(self, counter: Counter, *labels: str, by: float = 1) -> None:
        counter.labels(*self._labels(*labels)).inc(by)

    def _set(self, gauge: Gauge, value: float, *labels: str) -> None:
        full = self._labels(*labels)
        self._gauges[gauge].add(full)
        gauge.labels(*full).set(value)

    def _set_all(self, gauge: Gauge, found: Mapping[str, float]) -> None:
        """Set what was found, and to zero what was found before and is no more."""
        gone = self._gauges[gauge] - {self._labels(name) for name in found}
        for labels in gone:
            gauge.labels(*labels).set(0.0)
        for name, value in found.items():
            self._set(gauge, value, name)

    # Forks

    def before_fork(self) -> bool:
        """Let no look be half made in the child."""
        return self._lock.acquire(timeout=FORK_PATIENCE)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin anew; in multiprocess mode what the parent counted is the parent's to write."""
        self._make_lock()
        self._board.after_fork()
        self._accounted = time.monotonic()
        if IS_MULTIPROCESS:
            self._told.update(self._counted(self._failsafe.counts()))


@functools.lru_cache(1000)
def _clean(label: str) -> str:
    return redact(str(label))


def _cause(incident: Incident) -> tuple[str, str]:
    return _code(incident.error_code), _kind(incident.kind)


def _code(code: ErrorCode) -> str:
    return code.value


def _kind(kind: str) -> str:
    return kind if kind in kinds() else OTHER


def _way(actor: str | None, *, is_forced: bool) -> str:
    recovery, person, force = WAYS
    if actor is None:
        return recovery
    return force if is_forced else person


_living: weakref.WeakSet[Instrument] = weakref.WeakSet()
_forking: list[Instrument] = []


def _before_fork() -> None:
    _forking[:] = [each for each in tuple(_living) if each.before_fork()]


def _after_fork_in_parent() -> None:
    for each in _forking:
        each.after_fork_in_parent()
    _forking.clear()


def _after_fork_in_child() -> None:
    for each in tuple(_living):
        each.after_fork_in_child()
    _forking.clear()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
