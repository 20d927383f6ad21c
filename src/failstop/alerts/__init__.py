"""Alerts: what is said when the service stops, and where it goes."""

from failstop._redaction import redact
from failstop.alerts._alert import Alert, AlertAction, AlertSink, DeliveryError, Severity
from failstop.alerts._alertmanager import AlertmanagerSink
from failstop.alerts._apprise import AppriseSink
from failstop.alerts._logging import LoggingSink
from failstop.alerts._pagerduty import PagerDutySink
from failstop.alerts._rehearsal import Arrival
from failstop.alerts._route import Route
from failstop.alerts._slack import SlackSink
from failstop.alerts._webhook import WebhookSignatureError, WebhookSink, verify_webhook

__all__ = [
    "Alert",
    "AlertAction",
    "AlertSink",
    "AlertmanagerSink",
    "AppriseSink",
    "Arrival",
    "DeliveryError",
    "LoggingSink",
    "PagerDutySink",
    "Route",
    "Severity",
    "SlackSink",
    "WebhookSignatureError",
    "WebhookSink",
    "redact",
    "verify_webhook",
]
