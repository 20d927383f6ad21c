"""What an alert says and what a sink is: no delivery here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from failstop.errors import ErrorCode

__all__ = ["Alert", "AlertAction", "AlertSink", "DeliveryError", "Severity"]


class AlertAction(StrEnum):
    """What an alert does to the page of its incident."""

    TRIGGER = "trigger"
    UPDATE = "update"
    ACKNOWLEDGE = "acknowledge"
    RESOLVE = "resolve"


class Severity(StrEnum):
    """How loud an alert is, the quietest first."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Alert:
    """One message to a human about one incident; alerts of an incident share the `dedup_key`.

    `occurrences` counts the failures of the incident so far; `details` holds short facts, never a
    URL, an SQL text or a parameter.
    """

    action: AlertAction
    kind: str
    severity: Severity
    title: str
    message: str
    error_code: ErrorCode
    incident_id: str
    dedup_key: str
    service: str
    host: str
    occurrences: int
    occurred_at: datetime
    details: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class AlertSink(Protocol):
    """Where alerts go."""

    @property
    def name(self) -> str:
        """The sink's name, unique in its FailSafe."""

    def send(self, alert: Alert) -> None:
        """Return when `alert` has arrived; raise anything where it did not."""


class DeliveryError(Exception):
    """A sink says that an alert did not arrive, and when to try again.

    Args:
        message: what the receiver answered; no URL, token or key.
        retry_after: seconds to wait before anything more is sent to this sink, None where the
            receiver named none.
        is_permanent: whether the same alert will be refused again, such as for a wrong key; it is
            kept and tried rarely, never dropped.
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, is_permanent: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.is_permanent = is_permanent

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, self.__dict__
