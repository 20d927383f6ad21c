"""What must outlive the moment: the standing, the journal, the alerts that wait for their sinks.

One SQLite file that the processes of a host share; without a path, one in memory. Each change of
the standing is one transaction with its journal row and its alerts, decided on what the file says,
not on what this process remembers. Never here: what a state means, or what an alert says.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from failstop import _action_log, _chain, _evidence, _in_doubt
from failstop._doorbell import Doorbell
from failstop._evidence import Known, Sighting
from failstop._in_doubt import Answered
from failstop._latch import Latch, State
from failstop._process import this_process
from failstop._standing import Change, Decision, Leave, Standing
from failstop._storefile import StoreFile, append_event, path_of, problem
from failstop.alerts import _page
from failstop.alerts._alert import Alert, AlertAction
from failstop.alerts._outbox import (
    Outbox,
    address,
    due_pages,
    is_for_everybody,
    is_told,
    note_routes,
    post,
    post_count,
    post_reminder,
    turn_page,
)
from failstop.alerts._route import Route
from failstop.errors import ConfigurationError, ErrorCode
from failstop.events import (
    ActionBegan,
    ActionEnded,
    ActionFailed,
    Doubted,
    DurabilityReduced,
    Event,
    Halted,
    Incident,
    InDoubt,
    Reset,
    Resolved,
    Tripped,
)
from failstop.status import ActionStatus

__all__ = ["Store", "Stored", "read_standing", "require_head"]

UPDATE_EVERY = 60.0
"""Seconds between two alerts that only say how many failures an incident has by now."""
NOTE_EVERY = 60.0
"""Seconds between two alerts about durability that was reduced."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store holds; `left_by` says who left fail-safe mode last, None by evidence."""

    standing: Standing
    service: str
    store_id: str
    left_by: str | None


class Store:
    """Keep what must last in the file at `path`; in memory where it is None.

    Raises:
        ConfigurationError: the path cannot be one of a store, or is another service's store.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, service: str, routes: Sequence[Route]
    ) -> None:
        self.is_durable: bool = path is not None
        self._service = service
        self._routes = tuple(routes)
        self._host = socket.gethostname()
        self._token = secrets.token_hex(4)
        self._file = StoreFile(path_of(path) if path is not None else None)
        self.bell: Doorbell = Doorbell(self._file.path)
        self._must_make = not self._file.is_there()
        self._spilled = StoreFile(None)
        self._spilled.make(service)
        self.outbox: Outbox = Outbox(self._file, is_journaled=self.is_durable)
        self.spill_box: Outbox = Outbox(self._spilled, is_journaled=False)

    @property
    def path(self) -> Path | None:
        """Where the file is; None where all is kept in memory."""
        return self._file.path

    def open(self) -> Stored:
        """Return what was saved last; make the file where there was none when this was made.

        A file that was there and is gone is never made again.

        Raises:
            ConfigurationError: it is the store of another service.
            StoreError: it is there but cannot be read, or is not whole.
        """
        if self._must_make:
            self._file.make(self._service)
            self._must_make = False
        with self._file.reading() as connection:
            stored = read_standing(connection, self._file.name)
            require_head(connection, self._file.name)
        if stored.service != self._service:
            raise ConfigurationError(
                f"the store {self._file.name!r} belongs to the service {stored.service!r}; "
                f"give {self._service!r} a file of its own"
            )
        self.bell.open()
        return stored

    def read(self) -> Stored:
        """Return what is saved now.

        Raises:
            StoreError: the file cannot be read, or was removed or replaced.
        """
        self._file.require_in_place()
        with self._file.reading() as connection:
            return read_standing(connection, self._file.name)

    def change(
        self,
        decision: Decision,
        *,
        spilled: Incident | None = None,
        before: Sequence[Event] = (),
    ) -> Change:
        """Apply `decision` to what is saved, with its journal row and its alerts.

        Args:
            decision: what is to happen.
            spilled: the incident that was told from memory for this decision; whoever was paged for
                it is not paged again, where it is the one that is written.
            before: events that the journal is to have before this one.

        Raises:
            IllegalSignalError: what is saved does not allow it; nothing is written.
            StoreError: the file cannot be written; nothing was.
        """
        with self._writing() as (connection, stored):
            change = decision(stored.standing)
            _write(connection, change, is_forced=isinstance(decision, Leave) and decision.force)
            alert = _page.alert_for(change.event, self._host)
            if alert is not None:
                self._post(connection, alert, spilled)
            if isinstance(change.event, Reset) and change.event.failed:
                self._post_note(connection, _page.forced(change.event, self._host))
            for event in (*before, change.event):
                self._append(connection, event)
        is_news = isinstance(change.event, Tripped | Halted | Reset)
        if is_news or change.ends_reduction(stored.standing):
            self.bell.ring()
        return change

    def _post(self, connection: sqlite3.Connection, alert: Alert, spilled: Incident | None) -> None:
        told: frozenset[str] = frozenset()
        if spilled is not None and spilled.incident_id == alert.incident_id:
            told = self.spill_box.paged(alert.incident_id)
        post(connection, [each for each in self._routes if each.name not in told], alert)
        if alert.action is AlertAction.TRIGGER:
            for sink in told:
                turn_page(connection, sink, alert.incident_id, alert.action)

    def void_evidence(self) -> None:
        """Make evidence from before now void, for every process.

        Raises:
            StoreError: the file cannot be written.
        """
        with self._writing() as (connection, stored):
            self._void(connection, stored)

    def _void(self, connection: sqlite3.Connection, stored: Stored) -> None:
        if stored.standing.incident is not None:
            connection.execute("UPDATE standing SET revision = revision + 1")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[sqlite3.Connection, Stored]]:
        """Give a transaction on a store that makes sense; one that does not is left as it is."""
        with self._file.writing() as connection:
            yield connection, read_standing(connection, self._file.name)

    def record(self, events: Sequence[Event]) -> None:
        """Append journal rows for events that change nothing.

        Raises:
            StoreError: the file cannot be written.
        """
        if not self.is_durable or not events:
            return
        with self._writing() as (connection, _):
            for event in events:
                self._append(connection, event)

    def _append(self, connection: sqlite3.Connection, event: Event) -> None:
        if self.is_durable:
            append_event(connection, event)

    # Evidence

    def evidence(self, database: str) -> tuple[str, Known | None]:
        """Return the store's id, and what is known of a database.

        Raises:
            StoreError: the file cannot be read, or what it says makes no sense.
        """
        with self._file.reading() as connection:
            stored = read_standing(connection, self._file.name)
            return stored.store_id, _evidence.read(connection, self._file.name, database)

    def note_evidence(self, database: str, seen: Sighting, *, is_intact: bool) -> None:
        """Keep what was seen of a database; see `failstop._evidence.note`.

        Raises:
            StoreError: the file cannot be written.
        """
        with self._writing() as (connection, _):
            _evidence.note(connection, database, seen, is_intact=is_intact)

    def note_lost(self, database: str, lost: int) -> None:
        """Keep that acknowledged transactions of a database are missing.

        Raises:
            StoreError: the file cannot be written.
        """
        with self._writing() as (connection, _):
            _evidence.note_lost(connection, database, lost)

    # In doubt

    @property
    def _next_teller(self) -> str | None:
        """Who tells an answer that is written here; None where it is whoever tells one next."""
        return self._teller

    @property
    def _teller(self) -> str:
        """This process, and this store in it: two of one process do not both tell either."""
        return f"{this_process()}#{self._token}"

    def keep_doubt(self, event: Doubted) -> None:
        """Keep an open doubt, with its journal row; evidence from before it is void.

        Raises:
            StoreError: the file cannot be written.
        """
        with self._writing() as (connection, stored):
            _in_doubt.keep(connection, event.doubt)
            self._append(connection, event)
            self._void(connection, stored)

    def in_doubt(self) -> tuple[InDoubt, ...]:
        """Return the doubts that are open, the oldest first.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._file.reading() as connection:
            return _in_doubt.open_doubts(connection, self._file.name)

    def resolve(self, event: Resolved) -> bool:
        """Write what became of a doubt, with its journal row and its alert.

        False, and nothing is written, where another process was first.

        Raises:
            StoreError: the file cannot be written.
        """
        with self._writing() as (connection, stored):
            if not _in_doubt.write_answer(
                connection, event.doubt, event.outcome, self._next_teller
            ):
                return False
            incident = stored.standing.incident
            alert = _page.resolved(event, incident, self._host)
            if incident is None:
                self._post_note(connection, alert)
            else:
                self._post(connection, alert, None)
            self._append(connection, event)
        return True

    def untold(self) -> tuple[Answered, ...]:
        """Return the answers that this process has to tell, also for processes that are gone.

        Raises:
            StoreError: the file cannot be read or written.
        """
        with self._file.reading() as connection:
            if not _in_doubt.is_waiting(connection):
                return ()
        with self._writing() as (connection, _):
            return _in_doubt.claim(connection, self._file.name, self._teller)

    def forget_doubt(self, doubt: InDoubt) -> None:
        """Forget a doubt whose answer was told.

        Raises:
            StoreError: the file cannot be written; it is there to be told again.
        """
        with self._writing() as (connection, _):
            _in_doubt.forget(connection, doubt, self._teller)

    def note_durability(self, event: DurabilityReduced, count: int) -> bool:
        """Alert that `count` commits were not confirmed, `event` the last; False where not due.

        It is due when the last such alert arrived, and a minute has passed since then, whichever
        process of the host it was.

        Raises:
            StoreError: the file cannot be read or written.
        """
        alert = _page.durability_reduced(event, count, self._host)
        with self._file.reading() as connection:
            if _is_fresh(connection, alert.incident_id):
                return False
        with self._writing() as (connection, _):
            if _is_fresh(connection, alert.incident_id):
                return False
            self._post_note(connection, alert)
        return True

    def _post_note(self, connection: sqlite3.Connection, alert: Alert) -> None:
        """Put an alert that belongs to no incident into the outbox: nothing ever follows it.

        Nobody escalates it, for nobody can acknowledge it.
        """
        _forget_notes(connection)
        post(connection, note_routes(self._routes), alert)

    # Safety actions

    def claim_action(self, event: ActionBegan, *, is_late: bool = False) -> bool:
        """Write that a safety action begins, with its journal row; False where it has already.

        Args:
            event: what begins.
            is_late: whether it began although this could not be written; it is journaled then.

        Raises:
            StoreError: the file cannot be written.
        """
        with self._writing() as (connection, _):
            is_first = _action_log.claim(connection, event, self._teller)
            if is_first or is_late:
                self._append(connection, event)
        return is_first

    def settle_action(self, event: ActionEnded | ActionFailed) -> bool:
        """Write how a safety action ended, with its journal row and its alert.

        False, and nothing is written, where another process was first to see its interruption.

        Raises:
            StoreError: the file cannot be written.
        """
        with self._writing() as (connection, stored):
            if not _action_log.settle(connection, event):
                return False
            if isinstance(event, ActionFailed):
                self._post_action(connection, event, stored.standing.incident)
            self._append(connection, event)
        return True

    def _post_action(
        self, connection: sqlite3.Connection, event: ActionFailed, incident: Incident | None
    ) -> None:
        """Tell it with the open incident to whoever was paged for that, else for itself."""
        is_open = incident is not None and incident.incident_id == event.incident_id
        if is_open:
            post(connection, self._routes, _page.action_failed(event, incident, self._host))
        _forget_notes(connection)
        others = [
            route
            for route in self._routes
            if route.escalate_after is None
            and not (is_open and is_told(connection, route.name, event.incident_id))
        ]
        post(connection, others, _page.action_failed(event, None, self._host))

    def interrupted_actions(self, overdue: datetime) -> tuple[tuple[str, str], ...]:
        """Return incident and name of each safety action whose process is gone before it ended.

        Where that cannot be known, it is one that began before `overdue`.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._file.reading() as connection:
            return _action_log.interrupted(connection, overdue)

    def actions(self, incident_id: str) -> tuple[ActionStatus, ...]:
        """Return the safety actions that have begun for an incident.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._file.reading() as connection:
            return _action_log.actions_of(connection, self._file.name, incident_id)

    # Alive

    def beat(self) -> None:
        """Prove that the file can be written.

        Raises:
            StoreError: it cannot.
        """
        with self._writing() as (connection, _):
            connection.execute("UPDATE standing SET beat = beat + 1")

    def care(self) -> bool:
        """Put further pages and updates for the open incident into the outbox, where due.

        What waits for everybody is put there too. Returns whether there was any.

        Raises:
            StoreError: the file cannot be read or written.
        """
        with self._file.reading() as connection:
            is_addressed = bool(self._routes) and is_for_everybody(connection)
            if not is_addressed and not self._due(connection):
                return False
        with self._file.writing() as connection:
            address(connection, self._routes)
            for route, alert in self._due(connection):
                if route is None:
                    post_count(connection, self._routes, alert)
                    _note_told(connection, alert.occurrences)
                else:
                    post_reminder(connection, route, alert)
        return True

    def _due(self, connection: sqlite3.Connection) -> list[tuple[Route | None, Alert]]:
        stored = read_standing(connection, self._file.name)
        incident = stored.standing.incident
        if incident is None:
            return []
        facts = (self._service, incident, self._host, datetime.now(UTC))
        due: list[tuple[Route | None, Alert]] = []
        if incident.acknowledged_by is None:
            for route, number in due_pages(connection, self._routes, incident):
                due.append((route, _page.another_page(*facts, number)))
        told, told_at = connection.execute("SELECT told, told_at FROM standing").fetchone()
        is_due = not told_at <= time.time() < told_at + UPDATE_EVERY
        if incident.occurrences > told and is_due:
            due.append((None, _page.update(*facts)))
        return due

    # What could not be written: alerts go out from memory

    def spill(self, event: Event) -> None:
        """Put the alert of a change that could not be written into the outbox in memory."""
        alert = _page.alert_for(event, self._host)
        if alert is not None:
            with self._spilled.writing() as connection:
                post(connection, self._routes, alert)

    def spill_action(self, event: ActionFailed) -> None:
        """Put the alert of a safety action whose end could not be written into memory's outbox."""
        with self._spilled.writing() as connection:
            self._post_note(connection, _page.action_failed(event, None, self._host))

    def unspill(self, incident: Incident, into: Incident) -> None:
        """End the spilling of an incident that is written now.

        Where it turned out to be part of another one, its own pages are closed.
        """
        with self._spilled.writing() as connection:
            found = (incident.incident_id,)
            connection.execute("DELETE FROM outbox WHERE incident = ? AND attempts = 0", found)
            if incident.incident_id != into.incident_id:
                now = datetime.now(UTC)
                alert = _page.joined(self._service, incident, into, self._host, now)
                post(connection, self._routes, alert)
            else:
                connection.execute("DELETE FROM page WHERE incident = ?", found)

    # Forks and the end

    def before_fork(self) -> None:
        """Close what may not be open across a fork."""
        self._file.before_fork()
        self._spilled.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on in the parent."""
        self._spilled.after_fork_in_parent()
        self._file.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        """Go on in the child: what waits in memory is the parent's to deliver."""
        self._file.after_fork_in_child()
        self._spilled.after_fork_in_child()
        self.outbox.after_fork()
        self.spill_box.after_fork()
        self.spill_box.empty()
        if not self.is_durable:
            self.outbox.empty()
            with self._file.writing() as connection:
                _in_doubt.empty(connection)
                _action_log.empty(connection)

    def close(self) -> None:
        """Release the file."""
        self._file.close()
        self._spilled.close()


def read_standing(connection: sqlite3.Connection, name: str) -> Stored:
    """Return what is saved.

    Raises:
        StoreError: it is absent, unknown, or makes no sense.
    """
    row = connection.execute(
        "SELECT state, epoch, revision, is_held, incident, service, store_id, left_by FROM standing"
    ).fetchone()
    try:
        state, epoch, revision, is_held, incident, service, store_id, left_by = row
        latch = Latch(State(state), _natural(epoch), _natural(revision), bool(_natural(is_held)))
        standing = Standing(latch, None if incident is None else _incident(incident))
        is_sound = latch.state in (State.NORMAL, State.FAIL_SAFE) and (
            (latch.state is State.NORMAL) == (standing.incident is None)
        )
    except (TypeError, ValueError, KeyError) as error:
        raise problem("store_corrupt", name, "holds a state that makes no sense") from error
    if not is_sound:
        raise problem("store_corrupt", name, "holds a state that makes no sense")
    return Stored(standing, service, store_id, left_by)


def _natural(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError("no natural number")
    return value


def _incident(text: str) -> Incident:
    facts = json.loads(text)
    facts["error_code"] = ErrorCode(facts["error_code"])
    facts["since"] = datetime.fromisoformat(facts["since"])
    if set(facts) != {field.name for field in fields(Incident)}:
        raise ValueError("an incident of another version")
    return Incident(**facts)


def _write(connection: sqlite3.Connection, change: Change, *, is_forced: bool) -> None:
    latch, incident = change.standing.latch, change.standing.incident
    text = None if incident is None else _chain.canonical(_chain.plain(incident))
    connection.execute(
        "UPDATE standing SET state = ?, epoch = ?, revision = ?, is_held = ?, incident = ?",
        (latch.state.value, latch.epoch, latch.revision, latch.is_held, text),
    )
    if isinstance(change.event, Reset):
        connection.execute("UPDATE standing SET left_by = ?", (change.event.actor,))
        if change.event.actor is not None:
            moved = change.event.accepted
            _evidence.accept(connection, latch.epoch, moved, is_forced=is_forced)
    if isinstance(change.event, Tripped | Halted):
        _note_told(connection, change.incident.occurrences)


def _is_fresh(connection: sqlite3.Connection, incident: str) -> bool:
    """Say whether an alert under this id waits, or arrived just now; a clock may go back."""
    now = time.time()
    found = connection.execute(
        "SELECT 1 FROM outbox WHERE incident = :incident UNION ALL "
        "SELECT 1 FROM page WHERE incident = :incident "
        "AND paged_at <= :now AND :now < paged_at + :wait",
        {"incident": incident, "now": now, "wait": NOTE_EVERY},
    )
    return found.fetchone() is not None


def _forget_notes(connection: sqlite3.Connection) -> None:
    """Take out the pages of old notes: they would stay for ever, as nothing ends a note."""
    connection.execute(
        "DELETE FROM page WHERE incident GLOB ? AND paged_at < ?",
        (f"{_page.NOTE}*", time.time() - NOTE_EVERY),
    )


def _note_told(connection: sqlite3.Connection, occurrences: int) -> None:
    connection.execute("UPDATE standing SET told = ?, told_at = ?", (occurrences, time.time()))


def require_head(connection: sqlite3.Connection, name: str) -> None:
    """Return where the journal ends as the standing says.

    Raises:
        StoreError: it was cut or changed at its end.
    """
    seq, head = connection.execute("SELECT head_seq, head_hash FROM standing").fetchone()
    last = connection.execute("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
    if seq != (last[0] if last else 0) or (last and last[1] != head):
        raise problem("store_corrupt", name, "has a journal that was cut or changed at its end")
