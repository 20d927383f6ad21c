"""Which event becomes which alert: one page an incident, resolved only when it is left."""

from __future__ import annotations

from failstop.alerts._alert import Alert, AlertAction, Severity
from failstop.events import Event, Halted, Incident, Reset, Tripped

__all__ = ["alert_for"]


def alert_for(event: Event, host: str) -> Alert | None:
    """Return the alert that `event` calls for, None where it calls for none."""
    match event:
        case Tripped(incident=incident):
            return _alert(event, incident, host, AlertAction.TRIGGER, incident.cause)
        case Halted(incident=incident, actor=actor, reason=reason):
            action = AlertAction.TRIGGER if incident.epoch == event.epoch else AlertAction.UPDATE
            return _alert(event, incident, host, action, f"halted by {actor}: {reason}")
        case Reset(incident=incident, actor=actor, reason=reason, failed=failed):
            said = f"reset by {actor or 'verified recovery'}: {reason}"
            if failed:
                said += f"; FORCED although these checks failed: {', '.join(failed)}"
            return _alert(event, incident, host, AlertAction.RESOLVE, said)
        case _:
            return None


def _alert(event: Event, incident: Incident, host: str, action: AlertAction, said: str) -> Alert:
    resolves = action is AlertAction.RESOLVE
    return Alert(
        action=action,
        kind=incident.kind,
        severity=Severity.INFO if resolves else Severity.CRITICAL,
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
