"""Alerts as log records."""

from __future__ import annotations

import logging

from failstop._redaction import redact
from failstop.alerts._alert import Alert, Severity

__all__ = ["LoggingSink"]

LEVELS = {
    Severity.INFO: logging.INFO,
    Severity.WARNING: logging.WARNING,
    Severity.ERROR: logging.ERROR,
    Severity.CRITICAL: logging.CRITICAL,
}


class LoggingSink:
    """Write each alert to a logger; its facts are attributes of the record, under `failstop`.

    Args:
        logger: the logger or its name.
        name: the sink's name, unique in its FailSafe.
    """

    def __init__(
        self, logger: logging.Logger | str = "failstop.alerts", *, name: str = "logging"
    ) -> None:
        self.name = name
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger

    def send(self, alert: Alert) -> None:
        """Log `alert` at the level of its severity."""
        facts = {
            "action": alert.action.value,
            "kind": alert.kind,
            "error_code": alert.error_code.value,
            "incident_id": alert.incident_id,
            "dedup_key": alert.dedup_key,
            "service": alert.service,
            "host": alert.host,
            "occurrences": alert.occurrences,
            "occurred_at": alert.occurred_at.isoformat(),
            **{name: redact(fact) for name, fact in alert.details.items()},
        }
        self._logger.log(
            LEVELS[alert.severity],
            "%s: %s: %s",
            alert.action,
            redact(alert.title),
            redact(alert.message),
            extra={"failstop": facts},
        )
