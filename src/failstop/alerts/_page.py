"""Which event becomes which alert: one page an incident, resolved only when it is left."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime

from failstop._redaction import redact
from failstop.alerts._alert import Alert, AlertAction, Severity
from failstop.errors import ErrorCode
from failstop.events import (
    Acknowledged,
    ActionFailed,
    ActionState,
    DurabilityReduced,
    Event,
    FailureCounted,
    Halted,
    Incident,
    Reset,
    Resolved,
    Tripped,
)

__all__ = [
    "NOTE",
    "action_failed",
    "alert_for",
    "another_page",
    "durability_reduced",
    "forced",
    "joined",
    "rehearsal",
    "resolved",
    "update",
]

NOTE = "note-"
"""How the ids of alerts begin that belong to no incident."""


def alert_for(event: Event, host: str) -> Alert | None:
    """Return the alert that `event` calls for, None where it calls for none."""
    match event:
        case Tripped(incident=incident):
            return _alert(event, incident, host, AlertAction.TRIGGER, incident.cause)
        case Halted(incident=incident, actor=actor, reason=reason):
            action = AlertAction.TRIGGER if incident.epoch == event.epoch else AlertAction.UPDATE
            return _alert(event, incident, host, action, f"halted by {actor}: {reason}")
        case FailureCounted(incident=incident, finding=str(finding)):
            said = f"waits for a person: {finding}"
            return _alert(event, incident, host, AlertAction.UPDATE, said)
        case Acknowledged(incident=incident, actor=actor):
            return _alert(event, incident, host, AlertAction.ACKNOWLEDGE, f"taken by {actor}")
        case Reset(incident=incident, actor=actor, reason=reason, failed=failed):
            said = f"reset by {actor or 'verified recovery'}: {reason}"
            if event.accepted:
                said += f"; accepted what these checks found: {', '.join(event.accepted)}"
            if failed:
                said += f"; FORCED although these checks failed: {', '.join(failed)}"
            return _alert(event, incident, host, AlertAction.RESOLVE, said)
        case _:
            return None


def update(service: str, incident: Incident, host: str, at: datetime) -> Alert:
    """Return the alert that tells how many failures an incident has by now."""
    event = Event(service, incident.epoch, at)
    said = f"{incident.occurrences} failures so far; the first: {incident.cause}"
    return _alert(event, incident, host, AlertAction.UPDATE, said)


def another_page(service: str, incident: Incident, host: str, at: datetime, number: int) -> Alert:
    """Return the page that is sent again while nobody has acknowledged an incident."""
    event = Event(service, incident.epoch, at)
    said = f"page {number}, nobody has acknowledged: {incident.cause}"
    return _alert(event, incident, host, AlertAction.TRIGGER, said)


def joined(service: str, incident: Incident, into: Incident, host: str, at: datetime) -> Alert:
    """Return the alert that closes the page of an incident which was part of another one."""
    event = Event(service, incident.epoch, at)
    said = f"goes on as incident {into.incident_id}, which was open already"
    return _alert(event, incident, host, AlertAction.RESOLVE, said)


def forced(event: Reset, host: str) -> Alert:
    """Return the alert that goes beside the end of an incident which was forced: no recovery."""
    said = (
        f"{event.actor} FORCED the service back although these checks failed: "
        f"{', '.join(event.failed)}; the reason: {event.reason}"
    )
    note = _digest(event.incident.incident_id, "forced", event.occurred_at.isoformat())
    return _note(event, "forced_reset", note, "reset by FORCE, nothing is proven", said, host)


def resolved(event: Resolved, incident: Incident | None, host: str) -> Alert:
    """Return the alert that says what became of a transaction in doubt.

    It goes with the open incident; where there is none, it stands for itself.
    """
    doubt, kind = event.doubt, "in_doubt"
    said = f"transaction {doubt.key!r} of {doubt.database!r} was in doubt and is {event.outcome}"
    if event.actor is not None:
        said += f", as {event.actor} says: {event.reason}"
    if incident is not None:
        return replace(_alert(event, incident, host, AlertAction.UPDATE, redact(said)), kind=kind)
    note = _digest(doubt.database, doubt.key, doubt.since.isoformat())
    title = "a transaction in doubt was resolved"
    return _note(event, kind, note, title, said, host, code=ErrorCode.TRANSACTION_FAILED)


def action_failed(event: ActionFailed, incident: Incident | None, host: str) -> Alert:
    """Return the alert that says that a safety action did not do its work.

    It goes with the incident where that is open; else it stands for itself.
    """
    kind = f"action_{event.state.lower()}"
    how = {
        ActionState.FAILED: f"failed ({event.error})",
        ActionState.INTERRUPTED: "was interrupted by the end of its process, and is not repeated",
    }.get(event.state, "did not end in its time")
    said = f"the safety action {event.action!r} {how}: do by hand what it was for"
    if incident is not None:
        alert = _alert(event, incident, host, AlertAction.UPDATE, redact(said))
        return replace(alert, kind=kind, severity=Severity.CRITICAL)
    note = _digest(event.incident_id, event.action, event.state)
    alert = _note(event, kind, note, "a safety action did not do its work", said, host)
    return replace(alert, severity=Severity.CRITICAL)


def durability_reduced(event: DurabilityReduced, count: int, host: str) -> Alert:
    """Return the alert that says how many commits no standby has confirmed since the last one."""
    many = "a commit" if count == 1 else f"{count} commits"
    said = (
        f"{many} of {event.database!r} not confirmed by a standby, the last of transaction "
        f"{event.key!r}: committed, but a failover now may lose it"
    )
    note = _digest(event.database, "durability")
    return _note(event, "durability_reduced", note, "durability reduced", said, host, count=count)


def _note(
    event: Event,
    kind: str,
    note: str,
    title: str,
    said: str,
    host: str,
    *,
    code: ErrorCode = ErrorCode.SYSTEM_FAILURE,
    count: int = 1,
) -> Alert:
    """Return an alert that belongs to no incident."""
    return Alert(
        action=AlertAction.TRIGGER,
        kind=kind,
        severity=Severity.WARNING,
        title=f"{event.service}: {title}",
        message=redact(said),
        error_code=code,
        incident_id=f"{NOTE}{note}",
        dedup_key=f"failstop/{event.service}/{NOTE}{note}",
        service=event.service,
        host=host,
        occurrences=count,
        occurred_at=event.occurred_at,
        details={"epoch": str(event.epoch)},
    )


def _digest(*facts: str) -> str:
    return hashlib.sha256("/".join(facts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def rehearsal(service: str, host: str, at: datetime, test_id: str, action: AlertAction) -> Alert:
    """Return an alert that says of itself that it is a test."""
    return Alert(
        action=action,
        kind="test",
        severity=Severity.CRITICAL,
        title=f"{service}: TEST, nothing is wrong",
        message="this is a test of the alerts; nothing is to be done",
        error_code=ErrorCode.SYSTEM_FAILURE,
        incident_id=test_id,
        dedup_key=f"failstop/{service}/{test_id}",
        service=service,
        host=host,
        occurrences=1,
        occurred_at=at,
        details={"test": "yes"},
    )


def _alert(event: Event, incident: Incident, host: str, action: AlertAction, said: str) -> Alert:
    resolves = action is AlertAction.RESOLVE
    return Alert(
        action=action,
        kind=incident.kind,
        severity=Severity.INFO if resolves else _severity(incident),
        title=f"{event.service}: {'back in operation' if resolves else incident.reason}",
        message=said,
        error_code=incident.error_code,
        incident_id=incident.incident_id,
        dedup_key=f"failstop/{event.service}/{incident.incident_id}",
        service=event.service,
        host=host,
        occurrences=incident.occurrences,
        occurred_at=event.occurred_at,
        details={"epoch": str(event.epoch), "action": incident.action},
    )


def _severity(incident: Incident) -> Severity:
    """A person who halts is there already; a failure has to wake one."""
    return Severity.ERROR if incident.is_halt else Severity.CRITICAL
