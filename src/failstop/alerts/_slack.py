"""Alerts as messages in a Slack channel (incoming webhook)."""

from __future__ import annotations

import functools
import time
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

from failstop._settings import require_seconds, require_text
from failstop.alerts._alert import Alert, AlertAction, DeliveryError, Severity
from failstop.alerts._delivery import (
    TIMEOUT,
    Reply,
    Wire,
    checked_url,
    facts,
    is_loopback,
    loaded,
    quiet,
    readable,
    shorten,
)

__all__ = ["SlackSink"]

LONGEST_HEADER = 150
LONGEST_TEXT = 3000
LONGEST_FIELD = 2000
MOST_FIELDS = 10
LONGEST_BODY = 65_536
INTERVAL = 1.0
"""Seconds between two messages: Slack takes one a second."""

SIGNS = {
    Severity.CRITICAL: "🔴",
    Severity.ERROR: "🟠",
    Severity.WARNING: "🟡",
    Severity.INFO: "🔵",
}
LOGGERS = ("slack_sdk.webhook.client", "slack_sdk.proxy_env_variable_loader")


class SlackSink:
    """Post each alert as a message: Slack's webhooks can neither change nor thread one.

    It sends at most one message a second, as Slack asks: one that is early waits for its turn.
    Needs the extra `slack`.

    Args:
        webhook_url: the incoming webhook's URL, which is a secret.
        interval: seconds between two messages; a receiver that is not Slack may take more.
        timeout: seconds that one delivery may take.
        name: the sink's name, unique in its FailSafe.

    Raises:
        ConfigurationError: the client is not installed, or a setting is wrong.
    """

    def __init__(
        self,
        webhook_url: str,
        *,
        interval: float = INTERVAL,
        timeout: float = TIMEOUT,
        name: str = "slack",
    ) -> None:
        loaded("slack_sdk.webhook", "SlackSink", "slack")
        self.name: str = require_text("a sink's name", name)
        self._url = checked_url(webhook_url, "webhook_url")
        self._timeout = require_seconds("timeout", timeout)
        self._wire = Wire(self.name, self._timeout)
        self._interval = require_seconds("interval", interval)
        self._next = 0.0
        with quiet(*LOGGERS):
            self._client = _client_class()(webhook_url, self._timeout, retry_handlers=[])

    def __repr__(self) -> str:
        return f"SlackSink(name={self.name!r})"

    def send(self, alert: Alert) -> None:
        """Send `alert` once.

        Raises:
            DeliveryError: Slack did not take it, or not in time.
        """
        message = _message(readable(alert))
        self._take_turn()
        self._wire.deliver(lambda: self._post(message))

    def _take_turn(self) -> None:
        now = time.monotonic()
        turn = max(now, self._next)
        if turn - now > self._timeout:
            raise DeliveryError(
                f"sink {self.name!r}: too many messages at a time", retry_after=turn - now
            )
        self._next = turn + self._interval
        time.sleep(turn - now)

    def _post(self, message: dict[str, Any]) -> Reply:
        answer = self._client.send_dict(message)
        return Reply(
            answer.status_code, answer.headers.get("Retry-After"), answer.body.strip() == "ok"
        )


class _StayHere(HTTPRedirectHandler):
    """Follow no redirect: a page must arrive where it was sent, and its address is a secret."""

    def redirect_request(self, *args: Any) -> None:
        return None


@functools.cache
def _client_class() -> Any:
    """Make the client that asks its own address only, and reads no more than an answer's size."""
    from slack_sdk.webhook import WebhookClient, WebhookResponse

    class Client(WebhookClient):
        def _perform_http_request_internal(self, url: str, req: Request) -> WebhookResponse:
            try:
                with self._opener(url).open(req, timeout=self.timeout) as answer:
                    body = answer.read(LONGEST_BODY)
            except HTTPError as refused:
                answer, body = refused, b""
                refused.close()
            return WebhookResponse(
                url="",
                status_code=answer.status,
                body=body.decode("utf-8", "replace"),
                headers=answer.headers,
            )

        def _opener(self, url: str) -> Any:
            is_direct = is_loopback(urlsplit(url).hostname)
            proxies = {} if is_direct else {"https": self.proxy} if self.proxy else None
            return build_opener(ProxyHandler(proxies), HTTPSHandler(context=self.ssl), _StayHere)

    return Client


def _message(alert: Alert) -> dict[str, Any]:
    title = f"{alert.action.upper()}: {alert.title}"
    sign = "🟢" if alert.action is AlertAction.RESOLVE else SIGNS[alert.severity]
    return {
        "text": _escaped(shorten(f"{sign} {title}: {alert.message}", LONGEST_TEXT)),
        "blocks": [
            {"type": "header", "text": _plain(f"{sign} {title}", LONGEST_HEADER)},
            {"type": "section", "text": _plain(alert.message, LONGEST_TEXT)},
            {"type": "section", "fields": _fields(alert)},
        ],
    }


def _fields(alert: Alert) -> list[dict[str, Any]]:
    """Return the facts as fields, the last of them saying how many found no place."""
    shown = [f"{fact}: {value}" for fact, value in facts(alert).items()]
    if len(shown) > MOST_FIELDS:
        left_out = len(shown) - MOST_FIELDS + 1
        shown = [*shown[: MOST_FIELDS - 1], f"(+{left_out} details left out)"]
    return [_plain(each, LONGEST_FIELD) for each in shown]


def _plain(text: str, limit: int) -> dict[str, Any]:
    """Return a text that Slack shows as it is: no mention, link or emoji can be smuggled in."""
    return {"type": "plain_text", "text": shorten(text.strip() or "-", limit), "emoji": False}


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
