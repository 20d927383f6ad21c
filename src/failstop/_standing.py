"""What stands, the latch with its incident, and what each decision makes of it.

A decision is a value that is called with a standing and returns a change; the same decision is
applied to the standing in memory and to the one in the store, which other processes share. Pure:
no I/O, no clock, no lock.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from failstop._latch import IllegalSignalError, Latch, Signal, State
from failstop._redaction import redact
from failstop.errors import CriticalError, ErrorCode
from failstop.events import (
    Acknowledged,
    CheckResult,
    Event,
    FailureCounted,
    Halted,
    Incident,
    Reset,
    Tripped,
)

__all__ = [
    "REASONS",
    "Acknowledge",
    "Change",
    "Decision",
    "Failure",
    "Halt",
    "Leave",
    "Standing",
    "Trip",
]

REASONS = {
    ErrorCode.DB_UNAVAILABLE: "Database unavailable",
    ErrorCode.CONNECTION_FAILED: "Database connection failed",
    ErrorCode.TRANSACTION_FAILED: "Database transaction failed",
    ErrorCode.GATEWAY_UNAVAILABLE: "Gateway unavailable",
    ErrorCode.SYSTEM_FAILURE: "System failure",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """The latch and the open incident, None where there is none."""

    latch: Latch = field(default_factory=Latch)
    incident: Incident | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What a decision made of a standing, and the event that says so."""

    standing: Standing
    event: Event

    def ends_reduction(self, before: Standing) -> bool:
        """Say whether what was let through in the incident of `before` may pass no more."""
        incident = self.standing.incident
        could = before.incident is not None and before.incident.may_reduce
        return could and incident is not None and not incident.may_reduce

    @property
    def incident(self) -> Incident:
        """The incident that stands after the change, or that it ended."""
        incident = self.standing.incident or getattr(self.event, "incident", None)
        assert isinstance(incident, Incident)
        return incident


class Decision(Protocol):
    """What is to happen to a standing."""

    def __call__(self, standing: Standing) -> Change:
        """Return the change, or raise IllegalSignalError where the standing does not allow it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a critical error says, without the error."""

    error_code: ErrorCode
    kind: str
    cause: str
    action: str

    @property
    def is_gateway(self) -> bool:
        """True where a gateway failed: no database, no store, no evidence, nothing unknown."""
        return self.error_code is ErrorCode.GATEWAY_UNAVAILABLE

    @classmethod
    def of(cls, error: CriticalError) -> Failure:
        """Return the facts of `error`."""
        return cls(
            error.error_code, redact(error.kind), redact(error.message), redact(error.action)
        )


@dataclass(frozen=True, slots=True)
class Trip:
    """A critical failure: opens an incident, or is counted with the open one.

    `seed` makes the incident's id together with the epoch, so that two processes that share a
    store and fail at one moment speak of one incident; `incident_id` is the id that was told
    already where the store's seed was not known.
    """

    service: str
    failure: Failure
    at: datetime
    seed: str
    needs_person: bool = False
    count: int = 1
    incident_id: str | None = None

    def __call__(self, standing: Standing) -> Change:
        """Return the change; legal in every state but CLOSED."""
        latch = standing.latch.step(Signal.TRIP, hold=self.needs_person)
        if standing.incident is None:
            incident = self._opened(latch)
            return Change(
                Standing(latch, incident), Tripped(self.service, latch.epoch, self.at, incident)
            )
        incident = _counted(standing.incident, self.count, self.needs_person)
        incident = replace(incident, may_reduce=incident.may_reduce and self.failure.is_gateway)
        failure = self.failure
        facts = (self.service, latch.epoch, self.at, incident)
        finding = failure.cause if self.needs_person else None
        event = FailureCounted(*facts, failure.kind, self.count, failure.error_code, finding)
        return Change(Standing(latch, incident), event)

    def _opened(self, latch: Latch) -> Incident:
        failure = self.failure
        return Incident(
            incident_id=self.incident_id or _incident_id(self.seed, latch.epoch),
            epoch=latch.epoch,
            error_code=failure.error_code,
            kind=failure.kind,
            reason=REASONS[failure.error_code],
            cause=failure.cause,
            action=failure.action,
            since=self.at,
            occurrences=self.count,
            needs_person=self.needs_person,
            may_reduce=self.failure.is_gateway,
        )


@dataclass(frozen=True, slots=True)
class Halt:
    """A person stops the service: opens an incident, or makes the open one wait for a person.

    One from elsewhere waits for the fence in the database, and not for a person here.
    """

    service: str
    actor: str
    reason: str
    at: datetime
    seed: str
    incident_id: str | None = None
    is_elsewhere: bool = False

    def __call__(self, standing: Standing) -> Change:
        """Return the change; legal in every state but CLOSED."""
        latch = standing.latch.step(Signal.TRIP if self.is_elsewhere else Signal.HALT)
        incident = standing.incident
        if incident is None:
            incident = self._opened(latch)
        elif not self.is_elsewhere:
            incident = _counted(incident, 1, True)
        elif incident.incident_id == self.incident_id:  # another process was first
            facts = (self.service, latch.epoch, self.at, incident, incident.kind, 0)
            return Change(Standing(latch, incident), FailureCounted(*facts))
        else:  # the fence holds it; a reset that has not seen this is refused
            latch = replace(latch, epoch=latch.epoch + 1)
        event = Halted(self.service, latch.epoch, self.at, incident, self.actor, self.reason)
        return Change(Standing(latch, incident), event)

    def _opened(self, latch: Latch) -> Incident:
        return Incident(
            incident_id=self.incident_id or _incident_id(self.seed, latch.epoch),
            epoch=latch.epoch,
            error_code=ErrorCode.SYSTEM_FAILURE,
            kind="halted_elsewhere" if self.is_elsewhere else "halt",
            reason="Halted by an operator",
            cause=f"halted by {self.actor}: {self.reason}",
            action="reset with actor and reason when the cause of the halt is gone",
            since=self.at,
            needs_person=True,
            actor=self.actor,
            may_reduce=True,
        )


@dataclass(frozen=True, slots=True)
class Leave:
    """Fail-safe mode is left: by evidence where `actor` is None, else by a person.

    Evidence names the revision at which its gathering began, a person the epoch that was seen.
    A person without `force` rests on evidence too.
    """

    service: str
    actor: str | None
    reason: str
    at: datetime
    epoch: int
    revision: int
    evidence: tuple[CheckResult, ...] = ()
    force: bool = False

    def __call__(self, standing: Standing) -> Change:
        """Return the change; illegal where a failure came since, or a person is needed."""
        latch, incident = standing.latch, standing.incident
        if incident is None:
            raise IllegalSignalError("there is no open incident")
        if self.actor is None:
            latch = self._proven(latch)
        else:
            self._require_current(latch)
            latch = latch.step(Signal.RESET, epoch=self.epoch)
        found = [each for each in self.evidence if not each.is_passed]
        failed = tuple(each.name for each in found if not each.needs_person)
        accepted = tuple(each.name for each in found if each.needs_person)
        facts = (self.service, latch.epoch, self.at, incident)
        event = Reset(*facts, self.actor, self.reason, failed, self.evidence, accepted)
        return Change(Standing(latch), event)

    def _proven(self, latch: Latch) -> Latch:
        if latch.state is State.FAIL_SAFE:
            latch = latch.step(Signal.PASSED, revision=self.revision)
        return latch.step(Signal.PROVEN, revision=self.revision)

    def _require_current(self, latch: Latch) -> None:
        if not self.force and latch.revision != self.revision:
            raise IllegalSignalError("a failure came while the checks were made; reset again")


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """A person has taken the incident: the pages about it stop."""

    service: str
    actor: str
    at: datetime

    def __call__(self, standing: Standing) -> Change:
        """Return the change; illegal where there is no incident."""
        if standing.incident is None:
            raise IllegalSignalError("there is no open incident")
        incident = replace(standing.incident, acknowledged_by=self.actor)
        event = Acknowledged(self.service, standing.latch.epoch, self.at, incident, self.actor)
        return Change(Standing(standing.latch, incident), event)


def _counted(incident: Incident, count: int, needs_person: bool) -> Incident:
    return replace(
        incident,
        occurrences=incident.occurrences + count,
        needs_person=incident.needs_person or needs_person,
    )


def _incident_id(seed: str, epoch: int) -> str:
    return hashlib.sha256(f"{seed}/{epoch}".encode()).hexdigest()[:16]
