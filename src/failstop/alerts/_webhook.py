"""Alerts as signed JSON to any receiver, and the receiver's half: `verify_webhook`.

The signature is that of the Standard Webhooks specification, so receivers in other languages find a
library that checks it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from failstop._settings import require_seconds, require_text
from failstop.alerts._alert import Alert
from failstop.alerts._delivery import (
    TIMEOUT,
    Reply,
    Wire,
    as_json,
    checked_url,
    is_loopback,
    loaded,
    quiet,
    readable,
    timestamp,
)
from failstop.diagnosis import runbook
from failstop.errors import ConfigurationError

__all__ = ["WebhookSignatureError", "WebhookSink", "post", "verify_webhook"]

TOLERANCE = 300.0
"""Seconds that a receiver lets a signature be old, or its clock differ."""
SHORTEST_SECRET = 24
"""Bytes; the specification's lower bound."""
LOGGERS = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy")


class WebhookSink:
    """POST each alert as JSON, signed with HMAC-SHA256 over its id, its time and its body.

    The id is the same whenever the same alert is sent again, so that a receiver can tell. Needs the
    extra `webhook`.

    Args:
        url: the receiver; any 2xx means that it took the alert.
        secret: shared with the receiver: `whsec_` and base64, or any text of 24 bytes or more.
        timeout: seconds that one delivery may take.
        name: the sink's name, unique in its FailSafe.

    Raises:
        ConfigurationError: the client is not installed, or a setting is wrong.
    """

    def __init__(
        self, url: str, *, secret: str, timeout: float = TIMEOUT, name: str = "webhook"
    ) -> None:
        httpx = loaded("httpx", "WebhookSink", "webhook")
        self.name: str = require_text("a sink's name", name)
        self._url = checked_url(url)
        self._key = _key(secret)
        self._timeout = require_seconds("timeout", timeout)
        self._wire = Wire(self.name, self._timeout)
        with quiet(*LOGGERS):
            self._verify = httpx.create_ssl_context()

    def __repr__(self) -> str:
        return f"WebhookSink(name={self.name!r})"

    def send(self, alert: Alert) -> None:
        """Send `alert` once.

        Raises:
            DeliveryError: the receiver did not take it, or not in time.
        """
        document = _document(readable(alert))
        body = as_json({"id": _id(document), **document})
        headers = _signed(self._key, _id(document), str(int(time.time())), body)
        self._wire.deliver(lambda: post(self._url, body, headers, self._timeout, self._verify))


class WebhookSignatureError(ValueError):
    """A request does not prove that it comes from who shares the secret, and now."""


def verify_webhook(
    body: bytes,
    headers: Mapping[str, str],
    secret: str | Sequence[str],
    *,
    tolerance: float = TOLERANCE,
    now: float | None = None,
) -> dict[str, Any]:
    """Return the alert in `body` once its signature is proven; for the receiver's side.

    A request within the tolerance can be played back, and an alert is sent at least once: keep the
    `id` of what was taken for twice the tolerance and answer 200 to one seen before.

    Args:
        body: the request's body, byte for byte.
        headers: the request's headers.
        secret: the shared secret, or several while it is being changed.
        tolerance: seconds that the signature may be old, or from the future.
        now: the time in seconds since 1970; the clock's where it is None.

    Raises:
        WebhookSignatureError: a header is missing, or the time or the signature is wrong.
        ConfigurationError: the secret is too short.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        webhook_id, sent, signatures = (
            given[f"webhook-{part}"] for part in ("id", "timestamp", "signature")
        )
        age = (time.time() if now is None else now) - int(sent)
    except KeyError:
        raise WebhookSignatureError("a signature header is missing") from None
    except ValueError:
        raise WebhookSignatureError("webhook-timestamp is no number") from None
    if abs(age) > tolerance:
        raise WebhookSignatureError("the signature is too old or from the future")
    secrets = [secret] if isinstance(secret, str) else secret
    valid = [_signature(_key(each), webhook_id, sent, body) for each in secrets]
    # Every pair is compared, each in constant time: how long it takes tells nothing.
    if not sum(_equal(one, other) for one in signatures.split(" ") for other in valid):
        raise WebhookSignatureError("the signature is wrong")
    document: dict[str, Any] = json.loads(body)
    return document


def post(url: str, body: bytes, headers: Mapping[str, str], timeout: float, verify: Any) -> Reply:
    """POST `body` once, to `url` and nowhere else, with any proxy of the environment."""
    import httpx

    is_direct = is_loopback(urlsplit(url).hostname)
    with (
        httpx.Client(verify=verify, timeout=timeout, trust_env=not is_direct) as client,
        client.stream("POST", url, content=body, headers=dict(headers)) as response,
    ):
        return Reply(response.status_code, response.headers.get("Retry-After"))


def _key(secret: str) -> bytes:
    try:
        key = (
            base64.b64decode(secret.removeprefix("whsec_"), validate=True)
            if secret.startswith("whsec_")
            else secret.encode()
        )
    except (AttributeError, binascii.Error):
        raise ConfigurationError("secret must be a text; after whsec_ comes base64") from None
    if len(key) < SHORTEST_SECRET:
        raise ConfigurationError(f"secret must hold {SHORTEST_SECRET} bytes or more")
    return key


def _signature(key: bytes, webhook_id: str, sent: str, body: bytes) -> str:
    signed = f"{webhook_id}.{sent}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _signed(key: bytes, webhook_id: str, sent: str, body: bytes) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "User-Agent": "failstop",
        "webhook-id": webhook_id,
        "webhook-timestamp": sent,
        "webhook-signature": _signature(key, webhook_id, sent, body),
    }


def _id(document: Mapping[str, Any]) -> str:
    return f"msg_{hashlib.sha256(as_json(document)).hexdigest()[:32]}"


def _document(alert: Alert) -> dict[str, Any]:
    return {
        "type": "failstop.alert",
        "version": 1,
        "action": alert.action.value,
        "kind": alert.kind,
        "severity": alert.severity.value,
        "title": alert.title,
        "message": alert.message,
        "errorCode": alert.error_code.value,
        "incidentId": alert.incident_id,
        "dedupKey": alert.dedup_key,
        "service": alert.service,
        "host": alert.host,
        "occurrences": alert.occurrences,
        "occurredAt": timestamp(alert.occurred_at),
        "runbook": runbook(alert.kind),
        "details": dict(alert.details),
    }
