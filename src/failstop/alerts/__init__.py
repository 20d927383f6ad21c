"""Alerts: what is said when the service stops, and where it goes."""

from failstop.alerts._alert import Alert, AlertAction, AlertSink, Severity
from failstop.alerts._logging import LoggingSink

__all__ = ["Alert", "AlertAction", "AlertSink", "LoggingSink", "Severity"]
