"""Alerts as PagerDuty events (Events API v2)."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from failstop._settings import require_seconds, require_text
from failstop.alerts._alert import Alert, AlertAction
from failstop.alerts._delivery import (
    TIMEOUT,
    Reply,
    Wire,
    checked_base,
    is_loopback,
    loaded,
    quiet,
    readable,
    shorten,
    timestamp,
)
from failstop.diagnosis import runbook
from failstop.errors import ConfigurationError

if TYPE_CHECKING:
    from httpx2 import Response

__all__ = ["PagerDutySink"]

LONGEST_SUMMARY = 1024
LONGEST_DEDUP_KEY = 255
LARGEST_EVENT = 512_000
"""Bytes; PagerDuty says 512 KB."""

ACTIONS = {
    AlertAction.TRIGGER: "trigger",
    AlertAction.UPDATE: "trigger",
    AlertAction.ACKNOWLEDGE: "acknowledge",
    AlertAction.RESOLVE: "resolve",
}
LOGGERS = (
    "pagerduty.api_client",
    "httpx2",
    "httpcore2.connection",
    "httpcore2.http11",
    "httpcore2.proxy",
)


class PagerDutySink:
    """Open, update, acknowledge and resolve one PagerDuty alert an incident.

    An update is a further trigger under the same key, which PagerDuty adds to the open alert. Needs
    the extra `pagerduty`.

    Args:
        routing_key: the integration key of an Events API v2 integration.
        url: where the API is, for PagerDuty's other regions, proxies and tests; no secret.
        timeout: seconds that one delivery may take.
        name: the sink's name, unique in its FailSafe.

    Raises:
        ConfigurationError: the client is not installed, or a setting is wrong.
    """

    def __init__(
        self,
        routing_key: str,
        *,
        url: str = "https://events.pagerduty.com",
        timeout: float = TIMEOUT,
        name: str = "pagerduty",
    ) -> None:
        loaded("pagerduty", "PagerDutySink", "pagerduty")
        self.name: str = require_text("a sink's name", name)
        self._routing_key = _checked_key(routing_key)
        self._url = checked_base(url).removesuffix("/v2/enqueue")
        if urlsplit(url).username is not None:
            raise ConfigurationError("url must hold no user: PagerDuty takes the routing_key only")
        self._timeout = require_seconds("timeout", timeout)
        self._wire = Wire(self.name, self._timeout)
        with quiet(*LOGGERS):
            self._verify = loaded("httpx2", "PagerDutySink", "pagerduty").create_ssl_context()

    def __repr__(self) -> str:
        return f"PagerDutySink(name={self.name!r})"

    def send(self, alert: Alert) -> None:
        """Send `alert` once.

        Raises:
            DeliveryError: PagerDuty did not accept it, or not in time.
        """
        event = _event(readable(alert))
        self._wire.deliver(lambda: self._post(event))

    def _post(self, event: dict[str, Any]) -> Reply:
        from pagerduty import ServerHttpError

        # A client a call: a pool of connections shared with a forked child would be torn.
        settings = (self._routing_key, self._url, self._timeout, self._verify)
        with _client_class()(*settings) as client:
            try:
                client.send_event(event.pop("event_action"), **event)
            except _RefusedError as refused:
                return refused.reply
            except ServerHttpError:
                return Reply(status=202, is_understood=False)
        return Reply(status=202)


def _checked_key(routing_key: object) -> str:
    if not isinstance(routing_key, str) or not re.fullmatch(r"[A-Za-z0-9]{32}", routing_key):
        raise ConfigurationError(
            "routing_key must be the 32 letters and digits of an Events API v2 integration"
        )
    return routing_key


class _RefusedError(Exception):
    """Carries an answer that is no 2xx past the client, which would repeat the call by itself."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply


@functools.cache
def _client_class() -> Any:
    """Make the client that calls once: repeating is the dispatcher's, which tells and bounds it."""
    from pagerduty import EventsApiV2Client

    class Client(EventsApiV2Client):
        max_network_attempts = 0

        def __init__(self, routing_key: str, base: str, timeout: float, verify: object) -> None:
            is_direct = is_loopback(urlsplit(base).hostname)
            super().__init__(routing_key, verify=verify, trust_env=not is_direct)
            self.timeout = timeout  # type: ignore[assignment] # the client says int, httpx2 takes a float
            self._base = base

        def normalize_url(self, url: str) -> str:
            return self._base + url

        def postprocess(self, response: Response) -> None:
            if not response.is_success:
                raise _RefusedError(
                    Reply(response.status_code, response.headers.get("Retry-After"))
                )

    return Client


def _event(alert: Alert) -> dict[str, Any]:
    event: dict[str, Any] = {
        "event_action": ACTIONS[alert.action],
        "dedup_key": _dedup_key(alert.dedup_key),
    }
    if event["event_action"] != "trigger":
        return event
    event["links"] = [{"href": runbook(alert.kind), "text": "runbook"}]
    event["payload"] = {
        "summary": shorten(f"{alert.title}: {alert.message}", LONGEST_SUMMARY),
        "source": alert.host or alert.service,
        "severity": alert.severity.value,
        "timestamp": timestamp(alert.occurred_at),
        "component": alert.service,
        "class": alert.kind,
        "custom_details": {**_details(alert), **alert.details},
    }
    if len(json.dumps(event)) > LARGEST_EVENT - 1000:
        dropped = {"details_dropped": "the event was larger than 512 KB"}
        event["payload"]["custom_details"] = _details(alert) | dropped
    return event


def _details(alert: Alert) -> dict[str, str]:
    return {
        "message": alert.message,
        "error_code": alert.error_code.value,
        "incident_id": alert.incident_id,
        "occurrences": str(alert.occurrences),
    }


def _dedup_key(key: str) -> str:
    """Return `key`, or where it is too long its beginning with its hash: always the same one."""
    if len(key.encode("utf-16-le", "replace")) <= 2 * LONGEST_DEDUP_KEY:
        return key
    digest = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
    return f"{shorten(key, LONGEST_DEDUP_KEY - len(digest) - 1)}/{digest}"
