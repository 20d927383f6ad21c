"""The outbox: alerts that wait for their sinks, in a store's file that processes share.

Each sink has a *lane*: the process that holds it delivers all that waits for the sink, in order, so
that no two processes send the same. A lane is held for a while and is free when that is over or its
holder is proven gone. What was delivered for an incident is a *page*: only who was paged is told
how it went on.

Never here: a thread, a sink's call, or when an alert is due by the rules of an incident.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from failstop import _chain
from failstop._process import is_gone, this_process
from failstop._storefile import StoreError, StoreFile, append_event
from failstop.alerts import _page
from failstop.alerts._alert import Alert, AlertAction, Severity
from failstop.alerts._route import EVERYBODY, Route
from failstop.errors import ErrorCode
from failstop.events import Event, Incident

__all__ = [
    "Outbox",
    "Parcel",
    "Waiting",
    "address",
    "due_pages",
    "is_for_everybody",
    "is_told",
    "note_routes",
    "post",
    "post_count",
    "post_for_everybody",
    "post_reminder",
    "turn_page",
]

LONGEST_HOLD = 3600.0
"""Seconds that a lane may be held."""
PAGE, REMINDER, ESCALATION, NOTE, COUNT = "page", "reminder", "escalation", "note", "count"

# A wait is over when its time has come, and when the clock went back before it began.
NEXT = """
SELECT id, sink, incident, alert, attempts, error FROM outbox AS row
WHERE sink = :sink AND NOT (:now BETWEEN wait_from AND wait_from + wait)
AND NOT EXISTS (
    SELECT 1 FROM outbox AS earlier
    WHERE earlier.sink = row.sink AND earlier.incident = row.incident AND earlier.id < row.id
)
ORDER BY id LIMIT 1
"""
LANE = """
SELECT owner, until, NOT (:now BETWEEN wait_from AND wait_from + wait) FROM lane WHERE sink = :sink
"""
WAITING = """
SELECT sink, COUNT(*), MIN(made_at), MAX(error) FROM outbox
WHERE why != 'escalation' OR attempts > 0 OR NOT (:now BETWEEN wait_from AND wait_from + wait)
GROUP BY sink
"""
NO_MORE_PAGES = """
DELETE FROM outbox WHERE incident = ?
AND (why = 'reminder' OR (why = 'escalation' AND attempts = 0))
"""
NO_MORE_COUNTS = "DELETE FROM outbox WHERE incident = ? AND why = 'count'"
SUPERSEDED = {
    AlertAction.ACKNOWLEDGE: (NO_MORE_PAGES,),
    AlertAction.RESOLVE: (NO_MORE_PAGES, NO_MORE_COUNTS),
}
"""What each action makes untrue. An escalation that was tried may have arrived, so it stays."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One alert for one sink, held by this process."""

    id: int
    sink: str
    incident: str
    alert: Alert
    attempts: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for one sink: how many, since when (seconds of the clock), and what went wrong."""

    count: int = 0
    since: float | None = None
    error: str | None = None


def post(connection: sqlite3.Connection, routes: Sequence[Route], alert: Alert) -> None:
    """Put `alert` into the outbox of each sink that it is for, in the transaction that is open."""
    address(connection, routes)
    _post(connection, routes, alert)


def post_for_everybody(connection: sqlite3.Connection, alert: Alert) -> None:
    """Put `alert` into the outbox for a process that has sinks, in the transaction that is open."""
    _supersede(connection, alert)
    _insert(connection, EVERYBODY, alert, NOTE, 0.0)


def address(connection: sqlite3.Connection, routes: Sequence[Route]) -> bool:
    """Give the sinks what waits for everybody, in its order; say whether there was any."""
    if not routes or not is_for_everybody(connection):
        return False
    found = connection.execute(
        "SELECT alert FROM outbox WHERE sink = ? ORDER BY id", (EVERYBODY,)
    ).fetchall()
    connection.execute("DELETE FROM outbox WHERE sink = ?", (EVERYBODY,))
    for (text,) in found:
        alert = _alert(text)
        _post(connection, note_routes(routes) if _is_note(alert) else routes, alert)
    return True


def note_routes(routes: Sequence[Route]) -> list[Route]:
    """Return the routes for an alert that belongs to no incident.

    Nobody escalates it, for nobody can acknowledge it.
    """
    return [route for route in routes if route.escalate_after is None]


def _is_note(alert: Alert) -> bool:
    return alert.incident_id.startswith(_page.NOTE)


def is_for_everybody(connection: sqlite3.Connection) -> bool:
    """Say whether an alert waits for whoever has sinks."""
    found = connection.execute("SELECT 1 FROM outbox WHERE sink = ? LIMIT 1", (EVERYBODY,))
    return found.fetchone() is not None


def _post(connection: sqlite3.Connection, routes: Sequence[Route], alert: Alert) -> None:
    _supersede(connection, alert)
    for route in routes:
        if alert.action is AlertAction.TRIGGER:
            if route.takes(alert):
                why = PAGE if route.escalate_after is None else ESCALATION
                _insert(connection, route.name, alert, why, route.escalate_after or 0.0)
        elif is_told(connection, route.name, alert.incident_id):
            _insert(connection, route.name, alert, NOTE, 0.0)


def _supersede(connection: sqlite3.Connection, alert: Alert) -> None:
    for statement in SUPERSEDED.get(alert.action, ()):
        connection.execute(statement, (alert.incident_id,))


def post_count(connection: sqlite3.Connection, routes: Sequence[Route], alert: Alert) -> None:
    """Tell those who were paged how many failures there are; an older such alert is superseded."""
    connection.execute(NO_MORE_COUNTS, (alert.incident_id,))
    for route in routes:
        if is_told(connection, route.name, alert.incident_id):
            _insert(connection, route.name, alert, COUNT, 0.0)


def is_told(connection: sqlite3.Connection, sink: str, incident: str) -> bool:
    return (
        connection.execute(
            "SELECT 1 FROM page WHERE sink = :sink AND incident = :incident UNION ALL "
            "SELECT 1 FROM outbox WHERE sink = :sink AND incident = :incident "
            "AND action = 'trigger' AND (why != 'escalation' OR attempts > 0)",
            {"sink": sink, "incident": incident},
        ).fetchone()
        is not None
    )


def _insert(connection: sqlite3.Connection, sink: str, alert: Alert, why: str, wait: float) -> None:
    now = time.time()
    connection.execute(
        "INSERT INTO outbox (sink, incident, action, why, alert, made_at, wait_from, wait) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (sink, alert.incident_id, alert.action.value, why, _text(alert), now, now, wait),
    )


def due_pages(
    connection: sqlite3.Connection, routes: Sequence[Route], incident: Incident
) -> list[tuple[Route, int]]:
    """Return the sinks to page again for `incident`, each with the number of that page."""
    now = time.time()
    found = []
    for route in routes:
        page = connection.execute(
            "SELECT paged_at, pages FROM page WHERE sink = :sink AND incident = :incident "
            "AND NOT EXISTS (SELECT 1 FROM outbox WHERE sink = :sink AND incident = :incident)",
            {"sink": route.name, "incident": incident.incident_id},
        ).fetchone()
        if page is None or route.remind_every is None:
            continue
        if not page[0] <= now < page[0] + route.remind_every:
            found.append((route, page[1] + 1))
    return found


def post_reminder(connection: sqlite3.Connection, route: Route, alert: Alert) -> None:
    """Put a further page into the outbox of one sink, in the transaction that is open."""
    _insert(connection, route.name, alert, REMINDER, 0.0)


class Outbox:
    """What waits in `file`; `is_journaled` says whether deliveries go into its journal."""

    def __init__(self, file: StoreFile, *, is_journaled: bool) -> None:
        self._file = file
        self.is_journaled = is_journaled
        self._unmarked: dict[int, Event] = {}
        self._held: set[str] = set()
        self._token = secrets.token_hex(4)

    @property
    def _owner(self) -> str:
        """This process, and this outbox in it: two of one process do not both send either."""
        return f"{this_process()}#{self._token}"

    def claim(self, sink: str, hold: float) -> Parcel | None:
        """Return what is next for `sink`, held for `hold` seconds; None where nothing is.

        Where the file can be read but not written, it is returned unheld: an alert that arrives
        twice is better than one that never does.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._file.reading() as connection:
            if self._next(connection, sink) is None:
                return None
        try:
            with self._writing() as connection:
                return self._take(connection, sink, hold)
        except StoreError as error:
            if error.kind == "store_locked":  # another process writes, and may send
                raise
        with self._file.reading() as connection:
            parcel = self._next(connection, sink)
        return None if parcel is None or parcel.id in self._unmarked else parcel

    def _take(self, connection: sqlite3.Connection, sink: str, hold: float) -> Parcel | None:
        parcel = self._next(connection, sink)
        if parcel is None or not self._take_lane(connection, sink, hold):
            return None
        connection.execute("UPDATE outbox SET attempts = attempts + 1 WHERE id = ?", (parcel.id,))
        self._held.add(sink)
        return parcel

    def _next(self, connection: sqlite3.Connection, sink: str) -> Parcel | None:
        found = connection.execute(NEXT, {"sink": sink, "now": time.time()}).fetchone()
        if found is None:
            return None
        number, name, incident, text, attempts, error = found
        return Parcel(number, name, incident, _alert(text), attempts, error)

    def _take_lane(self, connection: sqlite3.Connection, sink: str, hold: float) -> bool:
        now, me = time.monotonic(), self._owner
        lane = connection.execute(LANE, {"sink": sink, "now": time.time()}).fetchone()
        if lane is not None:
            owner, until, is_due = lane
            is_over = not now < until <= now + LONGEST_HOLD  # a clock of another boot says more
            is_free = owner == me or is_over or is_gone(owner.partition("#")[0])
            if not is_due or not is_free:
                return False
        connection.execute(
            "INSERT INTO lane (sink, owner, until) VALUES (?, ?, ?) "
            "ON CONFLICT (sink) DO UPDATE SET owner = excluded.owner, until = excluded.until",
            (sink, me, now + hold),
        )
        return True

    def release(self, sink: str) -> None:
        """Give the lane of `sink` to whoever has something to send.

        Raises:
            StoreError: the file cannot be written.
        """
        if sink not in self._held:
            return
        with self._file.writing() as connection:
            connection.execute(
                "UPDATE lane SET until = 0 WHERE sink = ? AND owner = ?", (sink, self._owner)
            )
        self._held.discard(sink)

    def delivered(self, parcel: Parcel, event: Event) -> None:
        """Take a parcel out: it arrived.

        Raises:
            StoreError: the file cannot be written; it is marked when that is possible again.
        """
        self._unmarked[parcel.id] = event
        with self._writing():
            pass

    def failed(
        self, parcel: Parcel, error: str, event: Event, *, wait: float, pause: float
    ) -> None:
        """Keep a parcel for `wait` seconds, and all that waits for its sink for `pause` seconds.

        The journal tells an error once, and again when it is another.

        Raises:
            StoreError: the file cannot be written.
        """
        now = time.time()
        with self._writing() as connection:
            connection.execute(
                "UPDATE outbox SET error = ?, wait_from = ?, wait = ? WHERE id = ?",
                (error, now, wait, parcel.id),
            )
            connection.execute(
                "UPDATE lane SET wait_from = ?, wait = ? WHERE sink = ?", (now, pause, parcel.sink)
            )
            if self.is_journaled and error != parcel.error:
                append_event(connection, event)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Give a transaction that also marks what arrived and could not be marked then."""
        with self._file.writing() as connection:
            marked = tuple(self._unmarked.items())
            for number, event in marked:
                self._mark(connection, number, event)
            yield connection
        for number, _ in marked:
            self._unmarked.pop(number, None)

    def _mark(self, connection: sqlite3.Connection, number: int, event: Event) -> None:
        row = connection.execute(
            "SELECT sink, incident, action FROM outbox WHERE id = ?", (number,)
        ).fetchone()
        if row is not None:
            connection.execute("DELETE FROM outbox WHERE id = ?", (number,))
            turn_page(connection, *row)
        if self.is_journaled:
            append_event(connection, event)

    def idle(self, sink: str) -> float | None:
        """Return the seconds until something is due for `sink`; None where nothing waits.

        Raises:
            StoreError: the file cannot be read.
        """
        now = time.time()
        with self._file.reading() as connection:
            wait = connection.execute(
                "SELECT MIN(wait_from + wait) FROM outbox WHERE sink = ?", (sink,)
            ).fetchone()[0]
        return None if wait is None else max(0.0, wait - now)

    def waiting(self) -> dict[str, Waiting]:
        """Return what is due, by sink; an escalation whose time has not come is not.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._file.reading() as connection:
            rows = connection.execute(WAITING, {"now": time.time()}).fetchall()
        return {sink: Waiting(count, since, error) for sink, count, since, error in rows}

    def paged(self, incident: str) -> frozenset[str]:
        """Return the sinks that were paged for `incident`.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._file.reading() as connection:
            found = connection.execute("SELECT sink FROM page WHERE incident = ?", (incident,))
            return frozenset(sink for (sink,) in found)

    def after_fork(self) -> None:
        """In a forked child: what this process has sent and holds is the parent's to mark."""
        self._unmarked.clear()
        self._held.clear()

    def empty(self) -> None:
        """In a forked child with a store in memory: leave what waits to the parent, who sends it.

        Raises:
            StoreError: never for a file in memory.
        """
        with self._file.writing() as connection:
            for table in ("outbox", "lane", "page"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names of this file


def turn_page(connection: sqlite3.Connection, sink: str, incident: str, action: str) -> None:
    """Remember that a sink was paged, until it is told that the incident is over."""
    if action == AlertAction.TRIGGER:
        connection.execute(
            "INSERT INTO page VALUES (?, ?, ?, 1) ON CONFLICT (sink, incident) "
            "DO UPDATE SET paged_at = excluded.paged_at, pages = pages + 1",
            (sink, incident, time.time()),
        )
    elif action == AlertAction.RESOLVE:
        connection.execute("DELETE FROM page WHERE sink = ? AND incident = ?", (sink, incident))


def _text(alert: Alert) -> str:
    return _chain.canonical(_chain.plain(alert))


def _alert(text: str) -> Alert:
    facts = json.loads(text)
    facts["action"] = AlertAction(facts["action"])
    facts["severity"] = Severity(facts["severity"])
    facts["error_code"] = ErrorCode(facts["error_code"])
    facts["occurred_at"] = datetime.fromisoformat(facts["occurred_at"])
    return Alert(**facts)
