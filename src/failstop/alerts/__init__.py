"""Alerts: what is said when the service stops, and where it goes."""

from failstop.alerts._alert import Alert, AlertAction, AlertSink, DeliveryError, Severity
from failstop.alerts._logging import LoggingSink

__all__ = ["Alert", "AlertAction", "AlertSink", "DeliveryError", "LoggingSink", "Severity"]
