"""The keeper: the standing in memory and in the store, changed together.

A failure goes memory first, then the store: nothing can delay or undo it, and what could not be
written is written later. Leaving fail-safe mode goes the store first: what is not written is not
true. The store is shared by processes, so what it says is adopted: a trip at once, the end of an
incident only on evidence of this process's own.

Two locks, always in this order: `_saving` around the store, `_lock` around memory. Whoever trips
takes the second alone, and reads need neither. Never here: foreign code, a log line, an alert's
words.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from failstop._doorbell import Doorbell
from failstop._in_doubt import Answered
from failstop._latch import IllegalSignalError, Latch, Signal, State
from failstop._standing import Acknowledge, Change, Failure, Halt, Leave, Standing, Trip
from failstop._store import Store, Stored
from failstop._storefile import FORK_PATIENCE, StoreError
from failstop.alerts._route import Route
from failstop.errors import CriticalError, Outcome
from failstop.events import (
    Doubted,
    DurabilityReduced,
    Event,
    Followed,
    Incident,
    InDoubt,
    Joined,
    Recovering,
    RecoveryFailed,
    Resolved,
    Tripped,
    Verified,
)

__all__ = ["Keeper", "Seen"]

COUNT_EVERY = 60.0
"""Seconds between two journal rows that count failures of a kind that is known."""
PROGRESS_EVERY = 10.0
"""Seconds between two journal rows that say how recovery goes."""
BEAT_EVERY = 30.0
"""Seconds between two proofs that the store can be written, while nothing else writes."""
BEAT_PATIENCE = 10.0
"""Seconds that the store may be locked by another process before it counts as failed."""
MANY = 1000
"""Events that are kept for observers, and for the journal, when these do not keep up."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a check round rests on: the revision when it began, and what other processes did.

    `stored` is the store's own revision, which all processes that share it know; -1 where it could
    not be read.

    `is_over` is true where one of them ended the incident that is open in this one; `entered` is
    the incident that this process entered just now because one of them did.
    """

    revision: int
    is_over: bool
    entered: Incident | None
    stored: int


@dataclass(frozen=True, slots=True)
class _Unsaved:
    """A failure that the store does not have yet, with the incident that was told.

    One that a forked child has inherited is the parent's to write, but only while that lives.
    """

    decision: Trip | Halt
    incident: Incident
    is_inherited: bool = False

    def is_in(self, stored: Incident | None) -> bool:
        """Say whether the store's incident holds all that this one does."""
        mine = self.incident
        return (
            stored is not None
            and stored.incident_id == mine.incident_id
            and stored.needs_person >= mine.needs_person
            and stored.may_reduce <= mine.may_reduce
        )


class Keeper:
    """Keep the standing of one service.

    Raises:
        ConfigurationError: the store's path is wrong, or it is another service's.
    """

    def __init__(
        self, service: str, path: str | os.PathLike[str] | None, routes: Sequence[Route]
    ) -> None:
        self.service = service
        self.store: Store = Store(path, service, routes)
        self.bell: Doorbell = self.store.bell
        self.standing: Standing = Standing()
        self.is_normal: bool = False
        self.events: deque[Event] = deque(maxlen=MANY)
        self.problem: StoreError | None = None
        self._late: deque[Event] = deque(maxlen=MANY)
        self._unsaved: list[_Unsaved] = []
        self._counts: dict[str, Trip] = {}
        self._doubted: dict[tuple[str, str], Doubted] = {}
        self._doubts: tuple[InDoubt, ...] = ()
        self._reduced: dict[str, tuple[DurabilityReduced, int]] = {}
        self._known_kinds: set[str] = set()
        self._counted_at = self._beat_at = self._synced_at = time.monotonic()
        self._progress_at = -math.inf
        self._seen_revision = 0
        self._is_over = False
        self._joined: deque[str] = deque(maxlen=64)
        self._seed = secrets.token_hex(16)
        self._is_open = False
        self._make_locks()
        self._open()

    def _make_locks(self) -> None:
        self._saving = threading.Lock()
        self._lock = threading.Lock()

    def _open(self) -> None:
        """Begin where the store says; in fail-safe mode where it cannot be read."""
        try:
            self._adopt(self._first_read())
        except StoreError as error:
            self._trip(Trip(self.service, Failure.of(error), datetime.now(UTC), self._seed))

    def _first_read(self) -> Stored:
        stored = self.store.open()
        self._seed, self._is_open = stored.store_id, True
        return stored

    # Reading, without a lock

    @property
    def salt(self) -> str:
        """What nobody knows who cannot read the store: for what must not be found by trying."""
        return self._seed

    def has_joined(self, incident_id: str | None) -> bool:
        """Say whether an incident is or was one of this service, so far as is remembered."""
        return incident_id is not None and incident_id in self._joined

    # Failures: memory first

    def trip(self, error: CriticalError, *, needs_person: bool = False) -> Change | None:
        """Enter fail-safe mode or count the failure; None where closed."""
        now, is_held = datetime.now(UTC), needs_person or error.needs_person
        return self._trip(Trip(self.service, Failure.of(error), now, self._seed, is_held))

    def _trip(self, trip: Trip) -> Change | None:
        with self._lock:
            if self.standing.latch.state is State.CLOSED:
                return None
            before, change = self.standing, trip(self.standing)
            self._set(change.standing)
            is_new = isinstance(change.event, Tripped) or self._is_over
            is_urgent = is_new or trip.needs_person or change.ends_reduction(before)
            if not is_urgent:
                self._count(trip)
        with self._saving:  # an answer must not leave before the page of its incident is durable
            if is_urgent:
                return self._save_failure(trip, change)
            self.events.append(change.event)
            return change

    def halt(self, actor: str, reason: str) -> Change:
        """Stop by hand.

        Raises:
            IllegalSignalError: it is closed.
        """
        halt = Halt(self.service, actor, reason, datetime.now(UTC), self._seed)
        with self._lock:
            change = halt(self.standing)
            self._set(change.standing)
        with self._saving:
            return self._save_failure(halt, change)

    def halt_elsewhere(self, actor: str, reason: str, incident_id: str) -> Change | None:
        """Stop because another host was halted; None where closed."""
        now = datetime.now(UTC)
        facts = (self.service, actor, reason, now, self._seed, incident_id)
        halt = Halt(*facts, is_elsewhere=True)
        with self._lock:
            if self.standing.latch.state is State.CLOSED:
                return None
            change = halt(self.standing)
            self._set(change.standing)
        with self._saving:
            return self._save_failure(halt, change)

    def _save_failure(self, decision: Trip | Halt, change: Change) -> Change:
        """Write what memory has already; called with `_saving` held."""
        try:
            if not self._is_open:
                self._first_read()
            self._write_counts(is_last=True)
            late = tuple(self._late)
            saved = self.store.change(decision, before=late)
        except StoreError as error:
            self.problem = error
            if not self._is_open:  # the id was made without the store's seed, and is told now
                decision = replace(decision, incident_id=change.incident.incident_id)
            self._unsaved.append(_Unsaved(decision, change.incident))
            self.store.spill(change.event)
        else:
            change = saved
            self._forget(late)
            self._take(saved.standing, State.FAIL_SAFE, own=1)
        self.events.append(change.event)
        return change

    def _take(self, stored: Standing, state: State, *, own: int) -> None:
        """Take over what the store says after `own` changes of the revision by this process.

        More changes than these are failures elsewhere: evidence from before them is void. Called
        with `_saving` held.
        """
        with self._lock:
            mine = self.standing.latch
            if mine.state is State.CLOSED:
                return
            is_void = stored.latch.revision != self._seen_revision + own
            latch = Latch(
                state,
                max(mine.epoch, stored.latch.epoch),
                mine.revision + is_void,
                is_held=stored.latch.is_held,
            )
            incident = self._with_own(stored.incident)
            self._seen_revision, self._is_over = stored.latch.revision, False
            self._set(Standing(latch, incident))

    def _with_own(self, incident: Incident | None) -> Incident | None:
        """Return a stored incident with what this process knows and has not written yet."""
        if incident is None:
            return None
        counted = sum(trip.count for trip in self._counts.values())
        mine = None if self._is_over else self.standing.incident
        return replace(
            incident,
            occurrences=incident.occurrences + counted,
            may_reduce=incident.may_reduce and (mine is None or mine.may_reduce),
        )

    def _set(self, standing: Standing) -> None:
        """Change memory; called with `_lock` held."""
        self.standing = standing
        self.is_normal = standing.latch.state is State.NORMAL
        self.bell.ticket = self.bell.heard if self.is_normal else None
        incident = standing.incident
        if incident is not None and not self.has_joined(incident.incident_id):
            self._joined.append(incident.incident_id)

    def _have_heard(self, word: int) -> None:
        """Let calls go on at this word of the doorbell; the store was read after it was."""
        with self._lock:
            self.bell.heard = word
            self.bell.ticket = word if self.is_normal else None

    def _note_progress(self, event: Event) -> None:
        """Tell observers always, the journal now and then: a check may fail every other round."""
        self.events.append(event)
        now = time.monotonic()
        if now >= self._progress_at + PROGRESS_EVERY:
            self._progress_at = now
            self._late.append(event)

    def _forget(self, late: Sequence[Event]) -> None:
        """Take what the journal has now out of what is late; called with `_saving` held."""
        for _ in late:
            self._late.popleft()

    def record(self, event: Event) -> None:
        """Keep an event for the journal, which gets it with the next check round."""
        self._late.append(event)

    def _count(self, trip: Trip) -> None:
        """Keep a counted failure for the next row; called with `_lock` held."""
        known = self._counts.get(trip.failure.kind)
        count = trip.count + (known.count if known else 0)
        self._counts[trip.failure.kind] = replace(trip, count=count)

    # This process's own way, which the store does not hold

    def verify(self, revision: int) -> None:
        """Go from STARTING to NORMAL.

        Raises:
            IllegalSignalError: a failure came, or it is not STARTING.
        """
        with self._lock:
            latch = self.standing.latch.step(Signal.VERIFIED, revision=revision)
            self._set(Standing(latch))
            event = Verified(self.service, latch.epoch, datetime.now(UTC))
            self.events.append(event)
            self._late.append(event)

    def begin_recovery(self, revision: int) -> None:
        """Go from FAIL_SAFE to RECOVERING.

        Raises:
            IllegalSignalError: a failure came, or it is not FAIL_SAFE.
        """
        with self._lock:
            latch = self.standing.latch.step(Signal.PASSED, revision=revision)
            incident = self.standing.incident
            assert incident is not None
            self._set(Standing(latch, incident))
            self._note_progress(Recovering(self.service, latch.epoch, datetime.now(UTC), incident))

    def fail_recovery(self, failed: tuple[str, ...]) -> None:
        """Go from RECOVERING back to FAIL_SAFE; does nothing in another state."""
        with self._lock:
            latch, incident = self.standing.latch, self.standing.incident
            if incident is not None and latch.state is State.RECOVERING:
                latch = latch.step(Signal.CHECK_FAILED)
                self._set(Standing(latch, incident))
                now = datetime.now(UTC)
                self._note_progress(
                    RecoveryFailed(self.service, latch.epoch, now, incident, failed)
                )

    def close(self) -> None:
        """Go to CLOSED, from any state; calling it again does nothing."""
        with self._lock:
            if self.standing.latch.state is not State.CLOSED:
                latch = self.standing.latch.step(Signal.CLOSE)
                self._set(Standing(latch, self.standing.incident))

    # Leaving: the store first

    def leave(self, decision: Leave) -> Change:
        """Leave fail-safe mode.

        Raises:
            IllegalSignalError: a failure came since, it needs a person, or there is no incident.
            StoreError: it cannot be written, so it does not happen.
        """
        with self._saving:
            self._write_late(is_last=True)
            with self._lock:
                mine = decision(self.standing).standing.latch
                saved = self.store.change(replace(decision, revision=self._seen_revision))
                epoch = max(mine.epoch, saved.standing.latch.epoch)
                self._set(Standing(replace(mine, epoch=epoch)))
                self.events.append(saved.event)
            self._known_kinds.clear()
            self._progress_at = -math.inf
            return saved

    def follow(self, revision: int, stored_revision: int) -> None:
        """Leave fail-safe mode because another process of this host has.

        Args:
            revision: this process's, when its evidence was begun.
            stored_revision: the store's, as it was known then.

        Raises:
            IllegalSignalError: a failure came since, here or in another process.
            StoreError: the store cannot be read.
        """
        with self._saving:
            stored = self.store.read()
            with self._lock:
                latch, incident = self.standing.latch, self.standing.incident
                seen = revision, stored_revision
                is_void = seen != (latch.revision, stored.standing.latch.revision)
                if stored.standing.incident or incident is None or is_void:
                    raise IllegalSignalError("a failure came since")
                latch = latch.step(Signal.RESET, epoch=latch.epoch)
                self._set(Standing(latch))
                self._is_over = False
                facts = (self.service, latch.epoch, datetime.now(UTC), incident)
                self.events.append(
                    Followed(*facts, stored.left_by, "another process of this host has left it")
                )

    def acknowledge(self, actor: str) -> Change:
        """Say that a person has taken the incident.

        Raises:
            IllegalSignalError: there is no open incident.
            StoreError: it cannot be written, so it does not happen.
        """
        with self._saving:
            self._write_late(is_last=False)
            saved = self.store.change(Acknowledge(self.service, actor, datetime.now(UTC)))
            has_entered = self.standing.incident is not None
            state = self.standing.latch.state if has_entered else State.FAIL_SAFE
            self._take(saved.standing, state, own=0)
            self.events.append(saved.event)
            return saved

    # In doubt: memory first, then the store

    def in_doubt(self) -> tuple[InDoubt, ...]:
        """Return what is in doubt; where the store cannot be read, what is known of it."""
        with contextlib.suppress(StoreError):
            self._doubts = self.store.in_doubt()
        with self._lock:
            late = {key: event.doubt for key, event in self._doubted.items()}
        return tuple(({(each.database, each.key): each for each in self._doubts} | late).values())

    @property
    def has_doubts(self) -> bool:
        """True where something is in doubt, as far as this process remembers."""
        return bool(self._doubts or self._doubted)

    def report_in_doubt(self, doubt: InDoubt) -> StoreError | None:
        """Keep a doubt; return why it is in memory alone, where it is."""
        event = Doubted(self.service, self.standing.latch.epoch, datetime.now(UTC), doubt)
        with self._lock:
            self._doubted[doubt.database, doubt.key] = event
            self.events.append(event)
        with self._saving:
            try:
                if not self._is_open:
                    self._first_read()
                self._write_doubts()
            except StoreError as error:
                self.problem = error
                return error
        return None

    def _write_doubts(self) -> None:
        """Write the doubts that the store does not have; called with `_saving` held."""
        for key, event in tuple(self._doubted.items()):
            self.store.keep_doubt(event)
            with self._lock:
                if self._doubted.get(key) is event:
                    del self._doubted[key]
            self._doubts = (*self._doubts, event.doubt)

    def resolve(self, doubt: InDoubt, outcome: Outcome) -> bool:
        """Write what became of a doubt; False where another process has.

        Raises:
            StoreError: it cannot be written, so the doubt stays open.
        """
        event = Resolved(self.service, self.standing.latch.epoch, datetime.now(UTC), doubt, outcome)
        with self._saving:
            self._write_doubts()
            is_first = self.store.resolve(event)
            if is_first:
                self.events.append(event)
            return is_first

    def untold(self) -> tuple[Answered, ...]:
        """Return the answers that this process has to tell.

        Raises:
            StoreError: the store cannot be read or written.
        """
        return self.store.untold()

    def forget_doubt(self, doubt: InDoubt) -> None:
        """Forget a doubt whose answer was told.

        Raises:
            StoreError: the store cannot be written.
        """
        self.store.forget_doubt(doubt)

    def report_durability(self, database: str, key: str) -> None:
        """Count a commit that no standby confirmed, and tell it now where that is due.

        In a storm of them the first is written at once, the others with the rounds.
        """
        epoch, now = self.standing.latch.epoch, datetime.now(UTC)
        event = DurabilityReduced(self.service, epoch, now, database, key)
        with self._lock:
            is_first = database not in self._reduced
            _, count = self._reduced.get(database, (event, 0))
            self._reduced[database] = event, count + 1
            self.events.append(event)
            self._late.append(event)
        if not is_first:
            return
        with self._saving:
            try:
                self._write_late(is_last=False)
            except StoreError as error:
                self.problem = error

    def _write_reduced(self) -> None:
        """Alert what was counted, where that is due; called with `_saving` held."""
        for database, (event, count) in tuple(self._reduced.items()):
            if self.store.note_durability(event, count):
                with self._lock:
                    last, now = self._reduced.pop(database)
                    if now > count:
                        self._reduced[database] = last, now - count

    # The store and memory, brought together

    def sync(self) -> Seen:
        """Write what is late, and adopt what the store says.

        Raises:
            StoreError: the store cannot be read or written.
        """
        with self._saving:
            word = self.bell.word[0]
            try:
                self._write_late(is_last=False)
                self._beat()
                self.bell.require_in_place()
                stored = self.store.read()
                entered, revision = self._adopt(stored), stored.standing.latch.revision
                self._doubts = self.store.in_doubt()
            except StoreError as error:
                self.problem = error
                if not self.is_tolerable(error):
                    raise
                entered, revision = None, -1
            else:
                self.problem = None
                self._synced_at = time.monotonic()
                self._have_heard(word)
            return Seen(self.standing.latch.revision, self._is_over, entered, revision)

    def hear(self) -> Incident | None:
        """Adopt what the store says, where its doorbell rang; return the incident entered by it.

        Raises:
            StoreError: the store cannot be read.
        """
        with self._saving:
            word = self.bell.word[0]
            if word == self.bell.heard or self._unsaved:
                return None  # another thread was first, or the store does not know all yet
            entered = self._adopt(self.store.read())
            self._have_heard(word)
            return entered

    def is_tolerable(self, error: StoreError) -> bool:
        """A store that others keep busy for a moment stops nobody."""
        is_short = time.monotonic() - self._synced_at < BEAT_PATIENCE
        return error.kind == "store_locked" and self.is_normal and is_short

    def write_late(self) -> None:
        """Write all that is late, at the end.

        Raises:
            StoreError: it cannot be written.
        """
        with self._saving:
            self._write_late(is_last=True)

    def void_evidence(self) -> None:
        """Tell the processes that share the store that a check failed: their evidence is void.

        Raises:
            StoreError: it cannot be written.
        """
        with self._saving:
            self.store.void_evidence()

    def _write_late(self, *, is_last: bool) -> None:
        """Write what could not be, or need not be, at its time; called with `_saving` held."""
        if not self._is_open:
            self._first_read()
        while self._unsaved:
            first = self._unsaved[0]
            if first.is_inherited and first.is_in(self.store.read().standing.incident):
                self._unsaved.pop(0)
                continue
            saved = self.store.change(first.decision, spilled=first.incident)
            self._unsaved.pop(0)
            self.store.unspill(first.incident, saved.incident)
            self._take(saved.standing, State.FAIL_SAFE, own=1)
        self._write_counts(is_last=is_last)
        self._write_doubts()
        late = tuple(self._late)
        self.store.record(late)
        self._forget(late)
        self._write_reduced()

    def _write_counts(self, *, is_last: bool) -> None:
        """Write the counted failures: those of a new kind soon, of known ones now and then."""
        now = time.monotonic()
        is_due = is_last or now >= self._counted_at + COUNT_EVERY
        for kind in tuple(self._counts):
            if not is_due and kind in self._known_kinds:
                continue
            saved = self._write_count(kind)
            self._known_kinds.add(kind)
            self._counted_at = now
            opens = isinstance(saved.event, Tripped)
            state = State.FAIL_SAFE if opens else self.standing.latch.state
            self._take(saved.standing, state, own=1)
            if opens:
                self.events.append(saved.event)

    def _write_count(self, kind: str) -> Change:
        with self._lock:
            trip = self._counts.pop(kind)
        try:
            return self.store.change(trip)
        except StoreError:
            with self._lock:
                self._count(trip)
            raise

    def _beat(self) -> None:
        now = time.monotonic()
        if self.store.is_durable and now >= self._beat_at + BEAT_EVERY:
            self.store.beat()
            self._beat_at = now

    def _adopt(self, stored: Stored) -> Incident | None:
        """Take over what other processes did; return the incident that this one enters by it."""
        state, incident = self.standing.latch.state, self.standing.incident
        theirs = stored.standing.incident
        if theirs is not None:
            is_new = incident is None or incident.incident_id != theirs.incident_id
            self._take(stored.standing, State.FAIL_SAFE if is_new else state, own=0)
            if not is_new:
                return None
            now = datetime.now(UTC)
            self.events.append(Joined(self.service, stored.standing.latch.epoch, now, theirs))
            return theirs
        if incident is None:
            self._take(stored.standing, state, own=0)
        else:
            self._is_over = True
        return None

    # Forks

    def before_fork(self) -> None:
        """Let no change be half made in the child."""
        locks = (self._saving, self._lock)
        self._forking = [lock for lock in locks if lock.acquire(timeout=FORK_PATIENCE)]
        self.store.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self.store.after_fork_in_parent()
        for lock in self._forking[::-1]:
            lock.release()

    def after_fork_in_child(self) -> None:
        """Go on with locks of its own; what is late and what waits is the parent's.

        But for failures that could not be written: what the store does not say holds here too.
        """
        self._make_locks()
        self.store.after_fork_in_child()
        self._unsaved[:] = [replace(each, is_inherited=True) for each in self._unsaved]
        self._counts.clear()
        self._doubted.clear()
        self._reduced.clear()
        self._doubts = () if not self.store.is_durable else self._doubts
        self._late.clear()
        self.events.clear()
