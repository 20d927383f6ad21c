"""The report: what people and machines may know of a service, and what a reset would do.

Values only: assembled from what was observed, never by asking a dependency.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from failstop._history import Delivery, History, Moment, PastIncident
from failstop._latch import State
from failstop.alerts._outbox import Waiting
from failstop.diagnosis import runbook
from failstop.events import ActionState, CheckResult, Incident, InDoubt

__all__ = [
    "ActionStatus",
    "Delivery",
    "History",
    "Moment",
    "PastIncident",
    "ResetPlan",
    "SinkStatus",
    "SystemStatus",
    "masked",
    "timestamp",
]

WORDS = {
    State.STARTING: "recovering",
    State.NORMAL: "operational",
    State.FAIL_SAFE: "critical",
    State.RECOVERING: "recovering",
    State.CLOSED: "critical",
}


NOTHING_HAPPENED = History()


def timestamp(moment: datetime) -> str:
    """Return `moment` as RFC 3339 in UTC with milliseconds, such as 2026-01-01T00:00:00.000Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def masked(key: str, salt: str = "") -> str:
    """Return what stands for a key where everybody may look: its beginning and a short hash.

    The beginning is at most three characters and never more than a quarter of the key. With the
    salt, which each store has of its own, nobody can find the key by trying.
    """
    digest = hmac.new(salt.encode(), key.encode("utf-8", "surrogatepass"), hashlib.sha256)
    return f"{key[: min(3, len(key) // 4)]}…{digest.hexdigest()[:8]}"


@dataclass(frozen=True, slots=True)
class ResetPlan:
    """What a reset would check and release, as seen at `epoch`.

    `missing` names the checks that failed; a reset without `force=True` is refused while there
    are any. `accepts` names those whose finding a person's reset accepts, with its own word.
    """

    epoch: int
    state: State
    incident: Incident | None
    checks: tuple[CheckResult, ...]
    missing: tuple[str, ...]
    accepts: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        epoch: int,
        state: State,
        incident: Incident | None,
        checks: tuple[CheckResult, ...],
    ) -> ResetPlan:
        """Return the plan that the results of a check round make."""
        failed = [check for check in checks if not check.is_passed]
        missing = tuple(check.name for check in failed if not check.needs_person)
        accepts = tuple(check.name for check in failed if check.needs_person)
        return cls(epoch, state, incident, checks, missing, accepts)

    @property
    def is_allowed(self) -> bool:
        """True where a reset by a person would be taken without force."""
        return self.is_suspended and not self.missing

    @property
    def is_suspended(self) -> bool:
        """True where there is anything to reset."""
        return self.state in (State.FAIL_SAFE, State.RECOVERING)

    @property
    def why(self) -> tuple[str, ...]:
        """What each missing check found, a sentence for each."""
        details = {check.name: check.detail for check in self.checks}
        silent = "did not answer in time"
        return tuple(f"{name}: {details.get(name, silent)}" for name in self.missing)

    @property
    def releases(self) -> tuple[str, ...]:
        """What a reset would do, in sentences; nothing where there is nothing to reset."""
        if self.incident is None or not self.is_suspended:
            return ()
        found = {check.name: check.detail for check in self.checks}
        return (
            f"ends incident {self.incident.incident_id}: {self.incident.cause}",
            "guarded operations are sent again",
            *(f"accepts what {name!r} found: {found.get(name)}" for name in self.accepts),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON's types."""
        return {
            "epoch": self.epoch,
            "state": self.state.value,
            "allowed": self.is_allowed,
            "incident": None if self.incident is None else _incident(self.incident),
            "checks": [_check(check) for check in self.checks],
            "missing": list(self.missing),
            "accepts": list(self.accepts),
            "why": list(self.why),
            "releases": list(self.releases),
        }


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """What waits for one sink: how many alerts, since how many seconds, and what went wrong last.

    `pending` is None where that cannot be known.
    """

    name: str
    pending: int | None
    oldest: float | None
    error: str | None

    @classmethod
    def of(cls, name: str, found: Sequence[Waiting], error: str | None) -> SinkStatus:
        """Return the status of a sink from what was found in its outboxes."""
        sinces = [each.since for each in found if each.since is not None]
        errors = [each.error for each in found if each.error is not None]
        return cls(
            name,
            sum(each.count for each in found),
            max(0.0, time.time() - min(sinces)) if sinces else None,
            next(iter(errors), error),
        )


@dataclass(frozen=True, slots=True)
class ActionStatus:
    """A safety action of the open incident: how far it has come, and since when.

    `error` is the class name of what it raised.
    """

    name: str
    state: ActionState
    since: datetime
    error: str | None = None

    @property
    def advice(self) -> str | None:
        """What a person has to do, None where that is nothing."""
        said = {
            ActionState.FAILED: f"failed ({self.error})",
            ActionState.NOT_ENDED: "did not end in its time",
            ActionState.INTERRUPTED: "was interrupted by the end of its process",
        }.get(self.state)
        return said and f"do by hand what the safety action {self.name!r} was for: it {said}"


@dataclass(frozen=True, slots=True)
class SystemStatus:
    """What a service says of itself; every observation with its age, in seconds."""

    service: str
    noun: str
    state: State
    epoch: int
    incident: Incident | None
    checks: tuple[CheckResult, ...]
    databases: tuple[str, ...]
    is_automatic: bool
    is_durable: bool
    store_error: str | None
    sinks: tuple[SinkStatus, ...]
    age: float | None
    is_fresh: bool
    observed_at: datetime | None
    warnings: tuple[str, ...] = ()
    in_doubt: tuple[InDoubt, ...] = ()
    history: History = NOTHING_HAPPENED
    salt: str = field(default="", repr=False)
    actions: tuple[ActionStatus, ...] = ()
    reduce_only: tuple[str, ...] = ()

    @property
    def is_operational(self) -> bool:
        """True only in NORMAL with a fresh observation in which every check passed."""
        return self.state is State.NORMAL and not self.reasons

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not safe to trade, empty where it is."""
        found = []
        if self.state is not State.NORMAL:
            found.append(f"the state is {self.state}")
        if self.incident is not None:
            found.append(self.incident.cause)
        if not self.is_fresh:
            found.append("the last observation is too old or missing")
        found += [f"check {check.name} failed" for check in self.checks if not check.is_passed]
        return tuple(found)

    @property
    def needs_person(self) -> bool:
        """True where only a person leads back to NORMAL."""
        return self.incident is not None and (self.incident.needs_person or not self.is_automatic)

    @property
    def alerts_pending(self) -> int:
        """The number of alerts that wait for a sink, as far as is known."""
        return sum(sink.pending or 0 for sink in self.sinks)

    @property
    def alerts_error(self) -> str | None:
        """What went wrong last at a sink that has not taken an alert since."""
        told = (f"{sink.name}: {sink.error}" for sink in self.sinks if sink.error is not None)
        return next(told, None)

    @property
    def message(self) -> str:
        """One sentence for people."""
        if self.is_operational:
            return f"{self.noun} operational."
        if self.state is State.RECOVERING:
            return f"{self.noun} recovering: operations stay suspended until recovery is proven."
        return "Operations suspended for safety."

    @property
    def recommendations(self) -> tuple[str, ...]:
        """What to do next, in order."""
        advice: list[str] = []
        advice += [action.advice for action in self.actions if action.advice is not None]
        if self.incident is not None:
            advice.append(self.incident.action)
        if self.store_error is not None:
            advice.append(self.store_error)
        advice += self.warnings
        if self.incident is not None and not self.needs_person:
            advice.append("nothing more: operations resume when recovery is proven")
        elif self.incident is not None and not self.incident.is_halt:  # whose action says so
            advice.append("reset with actor and reason when the checks pass")
        if not self.is_durable:
            advice.append("give the FailSafe a store: this state is lost when the process ends")
        return tuple(advice)

    def database(self, name: str | None = None) -> dict[str, Any]:
        """Return what was last observed of a database, by default the first one."""
        wanted = name if name is not None else next(iter(self.databases), None)
        check = next((each for each in self.checks if each.name == wanted), None)
        if check is None or self.age is None:
            return {"name": wanted, "status": "unknown", "latencySeconds": None, "ageSeconds": None}
        word = "up" if check.is_passed else "down"
        return {
            "name": wanted,
            "status": word if self.is_fresh else "unknown",
            "latencySeconds": round(check.duration, 6),
            "observedAt": timestamp(check.observed_at),
            "ageSeconds": round(self.age, 3),
        }

    def to_dict(self, *, has_whole_keys: bool = False) -> dict[str, Any]:
        """Return the report as JSON's types, in the words of the status endpoint.

        Args:
            has_whole_keys: whether the keys in doubt are told whole, which only somebody who is
                entitled may see; else they are masked.
        """
        is_operational = self.is_operational
        word = WORDS[self.state]
        return {
            "service": self.service,
            "status": "critical" if word == "operational" and not is_operational else word,
            "failSafeMode": self._fail_safe_mode(),
            "message": self.message,
            "tradingSafety": {"safe": is_operational, "reasons": list(self.reasons)},
            "database": self.database(),
            "checks": [_check(check) for check in self.checks],
            "inDoubt": [self._doubt(doubt, has_whole_keys) for doubt in self.in_doubt],
            "alerts": {
                "pending": self.alerts_pending,
                "lastError": self.alerts_error,
                "sinks": [_sink(sink) for sink in self.sinks],
                "delivered": [
                    _delivery(each) for each in self.history.deliveries if not each.error
                ],
            },
            "actions": [_action(action) for action in self.actions],
            "reduceOnly": list(self.reduce_only),
            "recommendations": list(self.recommendations),
            "timeline": _timeline(self.history),
            "history": _history(self.history),
            "store": {"durable": self.is_durable, "error": self.store_error},
            "observedAt": timestamp(self.observed_at) if self.observed_at else None,
            "ageSeconds": round(self.age, 3) if self.age is not None else None,
        }

    def _fail_safe_mode(self) -> dict[str, Any]:
        incident = self.incident
        return {
            "active": self.state is not State.NORMAL,
            "state": self.state.value,
            "reason": incident.reason if incident else None,
            "since": timestamp(incident.since) if incident else None,
            "incidentId": incident.incident_id if incident else None,
            "halted": incident is not None and incident.is_halt,
            "needsPerson": self.needs_person,
            "acknowledgedBy": incident.acknowledged_by if incident else None,
            "epoch": self.epoch,
            "runbook": runbook(incident.kind) if incident else None,
        }

    def _doubt(self, doubt: InDoubt, is_whole: bool) -> dict[str, Any]:
        mask = masked(doubt.key, self.salt)
        told = {"key": mask, "database": doubt.database, "since": timestamp(doubt.since)}
        return {**told, "key": doubt.key, "mask": mask} if is_whole else told


def _action(action: ActionStatus) -> dict[str, Any]:
    return {
        "name": action.name,
        "state": action.state.value,
        "since": timestamp(action.since),
        "error": action.error,
    }


def _check(check: CheckResult) -> dict[str, Any]:
    age = (datetime.now(UTC) - check.observed_at).total_seconds()
    return {
        "name": check.name,
        "status": "pass" if check.is_passed else "fail",
        "needsPerson": check.needs_person,
        "detail": check.detail,
        "observedAt": timestamp(check.observed_at),
        "ageSeconds": round(max(age, 0.0), 3),
        "latencySeconds": round(check.duration, 6),
    }


def _incident(incident: Incident) -> dict[str, Any]:
    return {
        "incidentId": incident.incident_id,
        "epoch": incident.epoch,
        "errorCode": incident.error_code.value,
        "kind": incident.kind,
        "reason": incident.reason,
        "cause": incident.cause,
        "action": incident.action,
        "since": timestamp(incident.since),
        "occurrences": incident.occurrences,
        "needsPerson": incident.needs_person,
        "actor": incident.actor,
        "acknowledgedBy": incident.acknowledged_by,
    }


def _timeline(history: History) -> dict[str, Any]:
    return {
        "incidentId": history.incident_id,
        "moments": [_moment(moment) for moment in history.moments],
        "leftOut": history.left_out,
    }


def _moment(moment: Moment) -> dict[str, Any]:
    return {
        "at": timestamp(moment.at),
        "until": timestamp(moment.until or moment.at),
        "event": moment.event,
        "text": moment.text,
        "count": moment.count,
    }


def _history(history: History) -> dict[str, Any]:
    return {
        "begins": timestamp(history.begins) if history.begins else None,
        "problem": history.problem,
        "incidents": [_past(incident) for incident in history.past],
    }


def _past(incident: PastIncident) -> dict[str, Any]:
    return {
        "incidentId": incident.incident_id,
        "epoch": incident.epoch,
        "kind": incident.kind,
        "reason": incident.reason,
        "cause": incident.cause,
        "since": timestamp(incident.since),
        "until": timestamp(incident.until),
        "seconds": round(incident.seconds, 3),
        "occurrences": incident.occurrences,
        "leftBy": incident.left_by,
        "overruled": list(incident.overruled),
    }


def _delivery(delivery: Delivery) -> dict[str, Any]:
    return {"at": timestamp(delivery.at), "sink": delivery.sink, "action": delivery.action}


def _sink(sink: SinkStatus) -> dict[str, Any]:
    return {
        "name": sink.name,
        "pending": sink.pending,
        "oldestSeconds": round(sink.oldest, 3) if sink.oldest is not None else None,
        "lastError": sink.error,
    }
