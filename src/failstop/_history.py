"""What happened: the moments of one incident, and the incidents before it, folded from events.

An event comes as the journal has it, so a row that was read and an event that was seen make the
same history. Never here: a file, or a lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

__all__ = ["FIRST", "Delivery", "History", "IncidentLog", "Moment", "PastIncident"]

FIRST = 20
"""Moments of an incident that are kept from its beginning."""
LAST = 60
"""Moments of an incident that are kept from its end."""
MOST_DELIVERIES = 40
MOST_INCIDENTS = 24

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Moment:
    """What happened at one time; `count` is more than one where it happened again and again.

    `event` is the event's name, `until` when it happened last.
    """

    at: datetime
    event: str
    text: str
    count: int = 1
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """An alert that a sink took; `error` is set where it did not take it."""

    at: datetime
    sink: str
    action: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class PastIncident:
    """An incident that is over; `left_by` is None where recovery was proven.

    `overruled` names the failed checks that a forced reset overruled.
    """

    incident_id: str
    epoch: int
    kind: str
    reason: str
    cause: str
    since: datetime
    until: datetime
    occurrences: int
    left_by: str | None
    overruled: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """How long the service was out; zero where its clock went back meanwhile."""
        return max(0.0, (self.until - self.since).total_seconds())


@dataclass(frozen=True, slots=True)
class History:
    """What is known of the open incident, or else of the last one, and of those that are over.

    Args:
        incident_id: the incident that the moments and the deliveries belong to.
        moments: what happened in it, the first first.
        left_out: how many moments between the first and the last ones are not here.
        deliveries: the alerts that its sinks took or did not take, the first first.
        past: the incidents that are over, the latest first.
        begins: when what is known begins; None where nothing is.
        problem: why the journal could not be read or trusted; what is here then is what this
            process saw itself, and no incident from before it.
    """

    incident_id: str | None = None
    moments: tuple[Moment, ...] = ()
    left_out: int = 0
    deliveries: tuple[Delivery, ...] = ()
    past: tuple[PastIncident, ...] = ()
    begins: datetime | None = None
    problem: str | None = None

    @property
    def delivered(self) -> tuple[Delivery, ...]:
        """The alerts that a sink took."""
        return tuple(each for each in self.deliveries if each.error is None)


class IncidentLog:
    """Fold events into a history, in bounded memory, however long an incident lasts."""

    def __init__(self) -> None:
        self._incident_id: str | None = None
        self._begins: datetime | None = None
        self._first: list[Moment] = []
        self._last: deque[Moment] = deque(maxlen=LAST)
        self._left_out = 0
        self._deliveries: deque[Delivery] = deque(maxlen=MOST_DELIVERIES)
        self._past: deque[PastIncident] = deque(maxlen=MOST_INCIDENTS)

    def add(self, facts: Facts) -> None:
        """Add one event.

        Raises:
            ValueError: the facts are those of no event that this version knows how to read.
        """
        try:
            self._add(str(facts["event"]), facts)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("an event of another version") from error

    def history(self) -> History:
        """Return what was folded so far."""
        return History(
            incident_id=self._incident_id,
            moments=(*self._first, *self._last),
            left_out=self._left_out,
            deliveries=tuple(self._deliveries),
            past=tuple(self._past)[::-1],
            begins=self._begins,
        )

    def _add(self, event: str, facts: Facts) -> None:
        if event not in TEXTS:
            return
        at = datetime.fromisoformat(facts["occurred_at"])
        self._begins = self._begins or at
        if event in ("Tripped", "Joined", "Halted"):
            self._open(facts["incident"]["incident_id"])
        if self._incident_id is None or self._is_foreign(facts):
            return
        self._note(Moment(at, event, TEXTS[event](facts), int(facts.get("count", 1)), at))
        if event in ("AlertDelivered", "AlertFailed"):
            delivery = Delivery(at, facts["sink"], facts["action"], facts.get("error"))
            self._deliveries.append(delivery)
        if event == "Reset":
            self._past.append(_past(facts, at))

    def _open(self, incident_id: str) -> None:
        if incident_id != self._incident_id:
            self._incident_id = incident_id
            self._first, self._left_out = [], 0
            self._last.clear()
            self._deliveries.clear()

    def _is_foreign(self, facts: Facts) -> bool:
        """Say whether an event belongs to another incident, such as the note of a warning."""
        incident = facts.get("incident")
        named = incident["incident_id"] if incident else facts.get("incident_id")
        return named is not None and named != self._incident_id

    def _note(self, moment: Moment) -> None:
        kept = self._last or self._first
        if kept and (kept[-1].event, kept[-1].text) == (moment.event, moment.text):
            count = kept[-1].count + moment.count
            kept[-1] = replace(kept[-1], count=count, until=moment.at)
        elif len(self._first) < FIRST:
            self._first.append(moment)
        else:
            self._left_out += len(self._last) == LAST
            self._last.append(moment)


def _past(facts: Facts, until: datetime) -> PastIncident:
    incident = facts["incident"]
    return PastIncident(
        incident_id=incident["incident_id"],
        epoch=incident["epoch"],
        kind=incident["kind"],
        reason=incident["reason"],
        cause=incident["cause"],
        since=datetime.fromisoformat(incident["since"]),
        until=until,
        occurrences=incident["occurrences"],
        left_by=facts["actor"],
        overruled=tuple(facts["failed"]),
    )


# What each event means, in one sentence without a key


def _checked(facts: Facts) -> str:
    failed = [each["name"] for each in facts["results"] if not each["is_passed"]]
    return f"these checks failed: {', '.join(failed)}" if failed else "every check passed"


def _reset(facts: Facts) -> str:
    said = f"left by {facts['actor'] or 'proven recovery'}: {facts['reason']}"
    if facts["failed"]:
        said += f"; forced although these checks failed: {', '.join(facts['failed'])}"
    return said


def _resolved(facts: Facts) -> str:
    by = f", said {facts['actor']}" if facts.get("actor") else ""
    return f"a transaction of {facts['doubt']['database']!r} was in doubt: {facts['outcome']}{by}"


TEXTS: Mapping[str, Callable[[Facts], str]] = {
    "Verified": lambda facts: "a process started, and every check passed",
    "Tripped": lambda facts: f"fail-safe mode: {facts['incident']['cause']}",
    "Joined": lambda facts: f"fail-safe mode, as another process: {facts['incident']['cause']}",
    "Halted": lambda facts: f"halted by {facts['actor']}: {facts['reason']}",
    "FailureCounted": lambda facts: f"a further failure: {facts['kind']}",
    "Refused": lambda facts: "calls were refused",
    "Acknowledged": lambda facts: f"taken by {facts['actor']}",
    "Checked": _checked,
    "Recovering": lambda facts: "the first check round passed",
    "RecoveryFailed": lambda facts: f"recovery failed: {', '.join(facts['failed'])}",
    "Reset": _reset,
    "Doubted": lambda facts: f"a transaction of {facts['doubt']['database']!r} is in doubt",
    "Resolved": _resolved,
    "DurabilityReduced": lambda facts: "a commit was confirmed by no standby",
    "ActionBegan": lambda facts: f"safety action {facts['action']!r} began",
    "ActionEnded": lambda facts: f"safety action {facts['action']!r} is done",
    "ActionFailed": lambda facts: (
        f"safety action {facts['action']!r}: {facts['state'].replace('_', ' ')}"
        + (f" ({facts['error']})" if facts["error"] else "")
    ),
    "Exiting": lambda facts: f"the process leaves with exit code {facts['code']}",
    "Permitted": lambda facts: f"let through while suspended: {facts['operation']}",
    "AlertDelivered": lambda facts: f"alert ({facts['action']}) taken by {facts['sink']}",
    "AlertFailed": lambda facts: (
        f"alert ({facts['action']}) not taken by {facts['sink']}: {facts['error']}"
    ),
}
"""Also which events there are to tell; what the journal has besides them is its own."""
