"""Alerts to a Prometheus Alertmanager (API v2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from failstop._settings import require_seconds, require_text
from failstop.alerts._alert import Alert, AlertAction
from failstop.alerts._delivery import (
    TIMEOUT,
    Wire,
    as_json,
    checked_base,
    loaded,
    quiet,
    readable,
    timestamp,
)
from failstop.alerts._webhook import LOGGERS, post
from failstop.diagnosis import runbook
from failstop.errors import ConfigurationError

__all__ = ["AlertmanagerSink"]

PATH = "/api/v2/alerts"
OWN_LABELS = frozenset({"alertname", "service", "incident_id"})
ENDLESS = timedelta(days=365)
"""How long an alert stays open unless it is resolved: without an end of its own, Alertmanager would
close it by itself after its `resolve_timeout`, as if the service had recovered."""


class AlertmanagerSink:
    """Hold one Alertmanager alert open an incident, and end it when the service has recovered.

    Alertmanager knows no acknowledging: that, like an update, renews the annotations. Needs the
    extra `alertmanager`.

    Args:
        url: where Alertmanager is, with its route prefix if it has one; may hold user and password.
        labels: put on every alert, for its routes; they tell no two alerts apart.
        timeout: seconds that one delivery may take.
        name: the sink's name, unique in its FailSafe.

    Raises:
        ConfigurationError: the client is not installed, or a setting is wrong.
    """

    def __init__(
        self,
        url: str,
        *,
        labels: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
        name: str = "alertmanager",
    ) -> None:
        httpx = loaded("httpx", "AlertmanagerSink", "alertmanager")
        self.name: str = require_text("a sink's name", name)
        self._url = checked_base(url).removesuffix(PATH) + PATH
        self._labels = _checked_labels({"severity": "critical"} if labels is None else labels)
        self._timeout = require_seconds("timeout", timeout)
        self._wire = Wire(self.name, self._timeout)
        with quiet(*LOGGERS):
            self._verify = httpx.create_ssl_context()

    def __repr__(self) -> str:
        return f"AlertmanagerSink(name={self.name!r})"

    def send(self, alert: Alert) -> None:
        """Send `alert` once.

        Raises:
            DeliveryError: Alertmanager did not take it, or not in time.
        """
        body = as_json([self._postable(readable(alert))])
        headers = {"Content-Type": "application/json", "User-Agent": "failstop"}
        self._wire.deliver(lambda: post(self._url, body, headers, self._timeout, self._verify))

    def _postable(self, alert: Alert) -> dict[str, Any]:
        """Return the alert; its labels are its identity, so nothing that may change is one."""
        document: dict[str, Any] = {
            "labels": {
                **self._labels,
                "alertname": "FailstopIncident",
                "service": alert.service,
                "incident_id": alert.incident_id,
            },
            "annotations": _annotations(alert),
        }
        if alert.action is AlertAction.RESOLVE:
            return document | {"endsAt": timestamp(alert.occurred_at)}
        ends = alert.occurred_at + ENDLESS
        return document | {"startsAt": timestamp(alert.occurred_at), "endsAt": timestamp(ends)}


def _annotations(alert: Alert) -> dict[str, str]:
    return {
        "summary": alert.title,
        "description": alert.message,
        "action": alert.action.value,
        "alert_severity": alert.severity.value,
        "kind": alert.kind,
        "error_code": alert.error_code.value,
        "host": alert.host,
        "occurrences": str(alert.occurrences),
        "runbook_url": runbook(alert.kind),
        **{f"detail_{_label_name(name)}": value for name, value in alert.details.items()},
    }


def _label_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", text)


def _checked_labels(labels: Mapping[str, str]) -> dict[str, str]:
    for name, value in labels.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or not isinstance(value, str):
            raise ConfigurationError("labels must be texts under names of letters, digits and _")
    if taken := OWN_LABELS & labels.keys():
        raise ConfigurationError(f"these labels are set by the sink: {', '.join(sorted(taken))}")
    return dict(labels)
