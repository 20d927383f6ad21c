"""The frozen facts that observers get: what happened to the service, never what to do about it.

Lives here: `Incident` and one dataclass an event, all immutable. Never here: behaviour, I/O, or
anything that could hold a URL, an SQL text or a parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from failstop.errors import ErrorCode, Outcome

__all__ = [
    "Acknowledged",
    "ActionBegan",
    "ActionEnded",
    "ActionFailed",
    "ActionState",
    "AlertDelivered",
    "AlertFailed",
    "CheckResult",
    "Checked",
    "Doubted",
    "DurabilityReduced",
    "Event",
    "Exiting",
    "FailureCounted",
    "FenceHalted",
    "Followed",
    "Halted",
    "InDoubt",
    "Incident",
    "Joined",
    "Listener",
    "Permitted",
    "Recovering",
    "RecoveryFailed",
    "Refused",
    "Reset",
    "Resolved",
    "Tripped",
    "Verified",
]


@dataclass(frozen=True, slots=True)
class Incident:
    """Why the service left NORMAL: the first cause, with the later ones counted.

    `reason` is a few words for callers, `cause` one sentence for an operator and `action` what to
    do next. `needs_person` is true where recovery may never be automatic, `may_reduce` while only a
    person's halt and a gateway are the causes.
    """

    incident_id: str
    epoch: int
    error_code: ErrorCode
    kind: str
    reason: str
    cause: str
    action: str
    since: datetime
    occurrences: int = 1
    needs_person: bool = False
    actor: str | None = None
    acknowledged_by: str | None = None
    may_reduce: bool = False

    @property
    def is_halt(self) -> bool:
        """True where a person stopped the service."""
        return self.actor is not None


@dataclass(frozen=True, slots=True)
class InDoubt:
    """A transaction whose COMMIT was sent and not answered, and which could not be asked yet.

    `database` is the name of the dependency that can be asked, `key` what the transaction's receipt
    stands under, and `backend_pid` the number of the server's process that had it, where known.
    """

    database: str
    key: str
    since: datetime
    backend_pid: int | None = None
    incident_id: str | None = None


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One piece of evidence: what a check found, when it ended, and how long it took (seconds).

    `needs_person` is true of a failed one whose finding a person's reset accepts, and nothing else.
    """

    name: str
    is_passed: bool
    detail: str
    observed_at: datetime
    duration: float
    needs_person: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """What every event carries."""

    service: str
    epoch: int
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class Verified(Event):
    """The first check round passed: the service went from STARTING to NORMAL."""


@dataclass(frozen=True, slots=True)
class Tripped(Event):
    """The service entered fail-safe mode because of a failure."""

    incident: Incident


@dataclass(frozen=True, slots=True)
class Joined(Tripped):
    """The service entered fail-safe mode because another process of this host had."""


@dataclass(frozen=True, slots=True)
class Halted(Event):
    """A person stopped the service; `incident` is the open one where it was tripped already."""

    incident: Incident
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class FenceHalted(Event):
    """What a halt came to in one database: whether no transaction commits there, on any host."""

    incident_id: str
    database: str
    is_exact: bool
    detail: str


@dataclass(frozen=True, slots=True)
class FailureCounted(Event):
    """Further failures of one kind were counted with the open incident: mostly one.

    `error_code` is theirs, where `incident` has that of the first one. `finding` is what failed,
    where the incident waits for a person because of it.
    """

    incident: Incident
    kind: str
    count: int = 1
    error_code: ErrorCode | None = None
    finding: str | None = None


@dataclass(frozen=True, slots=True)
class Refused(Event):
    """Calls were refused since the last such event; `incident` is None before the first check."""

    incident: Incident | None
    count: int


@dataclass(frozen=True, slots=True)
class Acknowledged(Event):
    """A person has taken the incident; nothing is paged again for it."""

    incident: Incident
    actor: str


@dataclass(frozen=True, slots=True)
class Checked(Event):
    """A check round ended."""

    results: tuple[CheckResult, ...]

    @property
    def is_passed(self) -> bool:
        """True where every check of the round passed."""
        return all(result.is_passed for result in self.results)


@dataclass(frozen=True, slots=True)
class Recovering(Event):
    """The first check round after a trip passed."""

    incident: Incident


@dataclass(frozen=True, slots=True)
class RecoveryFailed(Event):
    """A check failed while RECOVERING: back to FAIL_SAFE."""

    incident: Incident
    failed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reset(Event):
    """Fail-safe mode was left; `actor` is None where recovery was proven and automatic.

    `failed` names the checks that a forced reset overruled, `accepted` those whose finding it
    accepted; `evidence` is the check round on which the reset rests.
    """

    incident: Incident
    actor: str | None
    reason: str
    failed: tuple[str, ...] = ()
    evidence: tuple[CheckResult, ...] = ()
    accepted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Followed(Reset):
    """Fail-safe mode was left because another process of this host had left it."""


@dataclass(frozen=True, slots=True)
class Doubted(Event):
    """A transaction is in doubt: whether it committed will be asked until it is known."""

    doubt: InDoubt


@dataclass(frozen=True, slots=True)
class Resolved(Event):
    """What became of a transaction in doubt is known: COMMITTED or ROLLED_BACK, for good.

    `actor` is the person who said so, with a reason; None where the database was asked.
    """

    doubt: InDoubt
    outcome: Outcome
    actor: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class DurabilityReduced(Event):
    """A transaction is committed, but no standby has confirmed it: a failover may lose it."""

    database: str
    key: str


@dataclass(frozen=True, slots=True)
class AlertDelivered(Event):
    """A sink took an alert."""

    sink: str
    action: str
    incident_id: str


@dataclass(frozen=True, slots=True)
class AlertFailed(Event):
    """A sink did not take an alert; `error` is the class name of what it raised."""

    sink: str
    action: str
    incident_id: str
    error: str


class ActionState(StrEnum):
    """How far a safety action has come for an incident; ENDED is the only good end."""

    BEGUN = "BEGUN"
    ENDED = "ENDED"
    FAILED = "FAILED"
    NOT_ENDED = "NOT_ENDED"
    INTERRUPTED = "INTERRUPTED"


@dataclass(frozen=True, slots=True)
class ActionBegan(Event):
    """A safety action began; for one incident it begins once on a host."""

    incident_id: str
    action: str


@dataclass(frozen=True, slots=True)
class ActionEnded(Event):
    """A safety action returned, `duration` seconds after it began; maybe after its time was up."""

    incident_id: str
    action: str
    duration: float


@dataclass(frozen=True, slots=True)
class ActionFailed(Event):
    """A safety action did not do its work.

    It raised (FAILED, with the class name in `error`), its time was up (NOT_ENDED), or its process
    ended before it did (INTERRUPTED).
    """

    incident_id: str
    action: str
    state: ActionState
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Exiting(Event):
    """This process leaves because of an incident, with an exit code for its supervisor."""

    incident_id: str
    code: int


@dataclass(frozen=True, slots=True)
class Permitted(Event):
    """Calls of one kind of operation were let through since the last such event: reduce only."""

    incident: Incident | None
    operation: str
    count: int


Listener = Callable[[Event], None]
