"""The store without its service: what a person reads of it and does to it, all else being dead.

Each change is one transaction with its journal row and its alert, as the service's own are. Nothing
here sends: the alert waits for a process of the service that has sinks. A service that runs adopts
a trip or a halt at once, and follows a reset only on evidence of its own.

Never here: a question to a database, or a check.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from failstop import _in_doubt
from failstop._commits import Commits
from failstop._historian import Historian
from failstop._latch import IllegalSignalError, State
from failstop._redaction import redact
from failstop._settings import require_text
from failstop._standing import Acknowledge, Change, Decision, Halt, Leave
from failstop._store import Store, Stored, read_standing
from failstop._storefile import StoreError, StoreFile, path_of
from failstop.alerts._alert import Alert
from failstop.alerts._outbox import post_for_everybody
from failstop.errors import ConfigurationError, Outcome, ResetRefusedError
from failstop.events import CheckResult, Doubted, Halted, Incident, InDoubt, Resolved
from failstop.recovery._election import Observation, read_observation
from failstop.status import ResetPlan, SinkStatus, SystemStatus

__all__ = ["acknowledge", "halt", "plan", "reset", "resolve", "status"]

Path = str | os.PathLike[str]
T = TypeVar("T")

PATIENCE = 5.0
"""Seconds to wait for a store that others write to."""
PAUSE = 0.05
IN_DOUBT = "in doubt"
"""The check of the same name in a round; here the store is asked, which knows more."""
LOOK = "observation"
"""The check that says whether a service has looked, and when."""
NOBODY = "no process of the service looks here: start it, or nothing recovers and no alert is sent"


class _Store(Store):
    """A store whose alerts and answers are for whichever process of the service comes next."""

    def __init__(self, path: Path) -> None:
        place = path_of(path)
        if not place.exists():
            raise ConfigurationError(f"there is no store {place.name!r}; give the path of its file")
        with contextlib.closing(StoreFile(place)) as file, file.reading() as connection:
            stored = read_standing(connection, file.name)
        super().__init__(place, stored.service, ())
        self.service = stored.service
        self.store_id = stored.store_id

    def _post(self, connection: sqlite3.Connection, alert: Alert, spilled: Incident | None) -> None:
        post_for_everybody(connection, alert)

    def _post_note(self, connection: sqlite3.Connection, alert: Alert) -> None:
        post_for_everybody(connection, alert)

    @property
    def _next_teller(self) -> None:
        return None

    def observation(self) -> Observation | None:
        """Return what the service saw last on this host, None where it never looked since boot.

        Raises:
            StoreError: that may not be read.
        """
        if self.bell.path is None or not self.bell.path.exists():
            return None
        self.bell.open()
        return read_observation(self.bell)

    def in_doubt(self) -> tuple[InDoubt, ...]:
        """Return the doubts that are open, and what processes that are gone left beside."""
        kept = super().in_doubt()
        left = Commits(self.path).seen_behind()
        return (*kept, *(doubt for doubt in left if doubt not in kept))

    def adopt_left_behind(self) -> None:
        """Keep what processes that are gone left in doubt, as the next service would."""
        for doubts in Commits(self.path).left_behind():
            epoch = self.read().standing.latch.epoch
            for doubt in doubts:
                self.keep_doubt(Doubted(self.service, epoch, datetime.now(UTC), doubt))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Store]:
    with contextlib.closing(_patiently(lambda: _Store(path))) as store:
        yield store


def _patiently(work: Callable[[], T]) -> T:
    """Do `work`; again while the store is locked, when nothing of it was done."""
    limit = time.monotonic() + PATIENCE
    while True:
        try:
            return work()
        except StoreError as error:
            if error.kind != "store_locked" or time.monotonic() > limit:
                raise
            time.sleep(PAUSE)


def _change(store: _Store, decision: Decision) -> Change:
    return _patiently(lambda: store.change(decision))


# What it holds


def status(path: Path) -> SystemStatus:
    """Return what a store says of its service, with what that saw last on this host.

    Raises:
        ConfigurationError: there is no file at `path`.
        StoreError: it cannot be read.
    """
    with _opened(path) as store:
        held = _patiently(lambda: _read(store))
        history = Historian(store.path).tell()
    standing, seen = held.stored.standing, held.seen
    is_fresh = seen is not None and seen.is_fresh
    return SystemStatus(
        service=held.stored.service,
        noun="Trading system",
        state=standing.latch.state,
        epoch=standing.latch.epoch,
        incident=standing.incident,
        checks=seen.results if seen is not None else (),
        databases=(),
        is_automatic=False,
        is_durable=True,
        store_error=None,
        sinks=held.sinks,
        age=seen.age if seen is not None else None,
        is_fresh=is_fresh,
        observed_at=seen.ended_at if seen is not None else None,
        warnings=() if is_fresh else (NOBODY,),
        in_doubt=held.doubts,
        history=history,
        salt=held.stored.store_id,
    )


@dataclass(frozen=True, slots=True)
class _Held:
    stored: Stored
    seen: Observation | None
    doubts: tuple[InDoubt, ...]
    sinks: tuple[SinkStatus, ...]


def _read(store: _Store) -> _Held:
    waiting = store.outbox.waiting().items()
    sinks = tuple(SinkStatus.of(name, [found], None) for name, found in waiting)
    return _Held(store.read(), store.observation(), store.in_doubt(), sinks)


def plan(path: Path) -> ResetPlan:
    """Return what a reset would release, and what is missing by the last observation.

    Nothing is checked: that takes the service.

    Raises:
        ConfigurationError: there is no file at `path`.
        StoreError: it cannot be read.
    """
    with _opened(path) as store:
        return _plan(_patiently(lambda: _read(store)))


def _plan(held: _Held) -> ResetPlan:
    latch, incident = held.stored.standing.latch, held.stored.standing.incident
    now = datetime.now(UTC)
    results = () if held.seen is None else held.seen.results
    checks = [each for each in results if each.name != IN_DOUBT]
    look, is_current = _look(held.seen, latch.revision)
    checks.insert(0, CheckResult(LOOK, is_current, look, now, 0.0))
    many = f"{len(held.doubts)} in doubt" if held.doubts else "no transaction is in doubt"
    checks.append(CheckResult(IN_DOUBT, not held.doubts, many, now, 0.0))
    return ResetPlan.of(latch.epoch, latch.state, incident, tuple(checks))


def _look(seen: Observation | None, revision: int) -> tuple[str, bool]:
    """Say how the last observation is, and whether it proves anything now."""
    if seen is None:
        return "no service has looked since this host started", False
    ago = f"the service looked {seen.age:.1f} s ago"
    if not seen.is_fresh:
        return f"{ago}, which is too long", False
    if seen.revision != revision:
        return f"{ago}, and a failure came since it began", False
    return ago, True


# What a person does


def halt(path: Path, *, actor: str, reason: str) -> Halted:
    """Stop the service that has this store: when it runs, and when it starts next.

    Returns the event that the journal has now, with the epoch of the halt and its incident.

    Args:
        path: the store's file.
        actor: who stops it.
        reason: why.

    Raises:
        ConfigurationError: there is no file at `path`, or the actor or the reason is empty.
        StoreError: it cannot be written.
    """
    actor, reason = _said("actor", actor), _said("reason", reason)
    with _opened(path) as store:
        decision = Halt(store.service, actor, reason, datetime.now(UTC), store.store_id)
        event = _change(store, decision).event
    assert isinstance(event, Halted)
    return event


def acknowledge(path: Path, *, actor: str) -> Incident:
    """Say that a person has taken the open incident: nothing is paged again for it.

    Args:
        path: the store's file.
        actor: who has taken it.

    Raises:
        ConfigurationError: there is no file at `path`, no open incident, or the actor is empty.
        StoreError: it cannot be written.
    """
    actor = _said("actor", actor)
    with _opened(path) as store:
        try:
            return _change(store, Acknowledge(store.service, actor, datetime.now(UTC))).incident
        except IllegalSignalError as nothing:
            raise ConfigurationError(f"the service {store.service!r}: {nothing}") from None


def reset(
    path: Path, *, actor: str, reason: str, epoch: int, force: bool = False
) -> tuple[Incident, tuple[str, ...]]:
    """End the incident; return it, and the names of the checks that were overruled.

    Args:
        path: the store's file.
        actor: who resets.
        reason: why.
        epoch: the epoch that the person saw; a trip or halt since then refuses the reset.
        force: whether what failed or is not known is overruled; the alert and the journal name it.

    Raises:
        ConfigurationError: there is no file at `path`, or the actor or the reason is empty.
        ResetRefusedError: something is missing, a newer failure came, or there is nothing to reset.
        StoreError: it cannot be read or written.
    """
    actor, reason = _said("actor", actor), _said("reason", reason)
    with _opened(path) as store:
        _patiently(store.adopt_left_behind)
        held = _patiently(lambda: _read(store))
        seen, revision = _plan(held), held.stored.standing.latch.revision
        _require_allowed(seen, store.service, epoch, force=force)
        facts = (store.service, actor, reason, datetime.now(UTC), epoch, revision)
        try:
            change = _change(store, Leave(*facts, seen.checks, force))
        except IllegalSignalError as stale:
            raise ResetRefusedError(str(stale), ("epoch",)) from stale
        return change.incident, seen.missing


def _require_allowed(seen: ResetPlan, service: str, epoch: int, *, force: bool) -> None:
    if seen.incident is None or seen.state is not State.FAIL_SAFE:
        raise ResetRefusedError(f"the service {service!r} is not in fail-safe mode")
    if seen.epoch != epoch:
        raise ResetRefusedError(
            f"the reset saw epoch {epoch}, the store is at {seen.epoch}", ("epoch",)
        )
    if seen.missing and not force:
        raise ResetRefusedError(
            f"recovery is not proven, these checks failed: {', '.join(seen.missing)}", seen.missing
        )


def resolve(
    path: Path,
    doubt: InDoubt,
    outcome: Outcome,
    *,
    actor: str | None = None,
    reason: str | None = None,
) -> bool:
    """Write what became of a transaction in doubt; False where that is written already.

    The next process of the service tells it to whoever waits for the answer.

    Args:
        path: the store's file.
        doubt: the transaction, as `failstop.journal.in_doubt()` gives it.
        outcome: COMMITTED or ROLLED_BACK.
        actor: the person who says so; None where the database was asked.
        reason: how that person knows.

    Raises:
        ConfigurationError: there is no file at `path`, the outcome is no answer, or a person gives
            no reason.
        StoreError: it cannot be written.
    """
    if outcome not in _in_doubt.ANSWERS:
        raise ConfigurationError("the outcome must be COMMITTED or ROLLED_BACK")
    if actor is not None:
        actor, reason = _said("actor", actor), _said("reason", reason)
    with _opened(path) as store:
        _patiently(store.adopt_left_behind)
        epoch = _patiently(store.read).standing.latch.epoch
        facts = (store.service, epoch, datetime.now(UTC), doubt, outcome, actor, reason)
        return _patiently(lambda: store.resolve(Resolved(*facts)))


def _said(name: str, value: object) -> str:
    return redact(require_text(name, value))
