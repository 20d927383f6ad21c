"""A receiver that speaks for every vendor and checks what comes by its documented schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import jsonschema
import pytest

from failstop.alerts import (
    AlertmanagerSink,
    AlertSink,
    AppriseSink,
    PagerDutySink,
    SlackSink,
    WebhookSink,
    verify_webhook,
)
from failstop.testing import HttpAnswer, HttpReceiver, HttpRequest

ROUTING_KEY = "R0Zx7mQ2vLp9KdT4wYb8NcH3sFj6Ga1E"
SLACK_PATH = "/services/T0AAAAAAA/B0BBBBBBB/s3cr3tSlackPath"
HOOK_PATH = "/hook/s3cr3tHookPath"
HOOK_SECRET = "s3cr3t-of-the-webhook-receiver"
APPRISE_PATH = "/apprise/s3cr3tApprisePath"
BASIC_PASSWORD = "s3cr3tBasicPassword"

TEXT = {"type": "string"}
TEXTS = {"type": "object", "additionalProperties": TEXT}

# developer.pagerduty.com, Events API v2: "Send an alert event" and its overview's limits.
PAGERDUTY = {
    "type": "object",
    "required": ["routing_key", "event_action", "dedup_key"],
    "additionalProperties": False,
    "properties": {
        "routing_key": {"type": "string", "pattern": "^[A-Za-z0-9]{32}$"},
        "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
        "dedup_key": {"type": "string", "minLength": 1, "maxLength": 255},
        "links": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["href"],
                "properties": {"href": {"type": "string", "format": "uri"}, "text": TEXT},
            },
        },
        "payload": {
            "type": "object",
            "required": ["summary", "source", "severity"],
            "additionalProperties": False,
            "properties": {
                "summary": {"type": "string", "minLength": 1, "maxLength": 1024},
                "source": {"type": "string", "minLength": 1},
                "severity": {"enum": ["critical", "error", "warning", "info"]},
                "timestamp": {"type": "string", "format": "date-time"},
                "component": TEXT,
                "group": TEXT,
                "class": TEXT,
                "custom_details": {"type": "object"},
            },
        },
    },
    "if": {"properties": {"event_action": {"const": "trigger"}}},
    "then": {"required": ["payload"]},
}

# docs.slack.dev, Block Kit reference: header, section and text objects; 50 blocks a message.
PLAIN = {"type": {"const": "plain_text"}, "emoji": {"type": "boolean"}}


def _plain(limit: int) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["type", "text"],
        "additionalProperties": False,
        "properties": {**PLAIN, "text": {"type": "string", "minLength": 1, "maxLength": limit}},
    }


def _block(kind: str, **parts: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["type", *parts],
        "additionalProperties": False,
        "properties": {"type": {"const": kind}, **parts},
    }


SLACK = {
    "type": "object",
    "required": ["text", "blocks"],
    "additionalProperties": False,
    "properties": {
        "text": {"type": "string", "maxLength": 40_000},
        "blocks": {
            "type": "array",
            "maxItems": 50,
            "items": {
                "oneOf": [
                    _block("header", text=_plain(150)),
                    _block("section", text=_plain(3000)),
                    _block(
                        "section",
                        fields={
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 10,
                            "items": _plain(2000),
                        },
                    ),
                ]
            },
        },
    },
}

# prometheus/alertmanager, api/v2/openapi.yaml: postableAlerts; label names as its data model says.
NAMES = {"pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"}
ALERTMANAGER = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["labels"],
        "additionalProperties": False,
        "properties": {
            "labels": {**TEXTS, "required": ["alertname"], "propertyNames": NAMES},
            "annotations": {**TEXTS, "propertyNames": NAMES},
            "startsAt": {"type": "string", "format": "date-time"},
            "endsAt": {"type": "string", "format": "date-time"},
            "generatorURL": TEXT,
        },
    },
}

# docs/alerts.md: the webhook's document.
WEBHOOK = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id", "type", "version", "action", "dedupKey", "occurredAt"],
    "properties": {
        "id": {"type": "string", "pattern": "^msg_[0-9a-f]{32}$"},
        "type": {"const": "failstop.alert"},
        "version": {"const": 1},
        "action": {"enum": ["trigger", "update", "acknowledge", "resolve"]},
        "severity": {"enum": ["critical", "error", "warning", "info"]},
        "occurrences": {"type": "integer", "minimum": 1},
        "occurredAt": {"type": "string", "format": "date-time"},
        "runbook": {"type": "string", "format": "uri"},
        "details": TEXTS,
        **dict.fromkeys(
            ["kind", "title", "message", "errorCode", "incidentId", "dedupKey", "service", "host"],
            TEXT,
        ),
    },
}

formats = jsonschema.FormatChecker(formats=())


@formats.checks("date-time", raises=ValueError)
def _is_moment(text: object) -> bool:
    return datetime.fromisoformat(str(text)).tzinfo is not None


def _check(body: bytes, schema: Any) -> Any:
    document = json.loads(body)
    jsonschema.validate(document, schema, format_checker=formats)
    return document


def _pagerduty(request: HttpRequest) -> HttpAnswer:
    if len(request.body) > 512_000:
        return HttpAnswer(413)
    event = _check(request.body, PAGERDUTY)
    taken = {"status": "success", "message": "Event processed", "dedup_key": event["dedup_key"]}
    return HttpAnswer(202, json.dumps(taken).encode())


def _slack(request: HttpRequest) -> HttpAnswer:
    _check(request.body, SLACK)
    return HttpAnswer(200, b"ok")


def _alertmanager(request: HttpRequest) -> HttpAnswer:
    for alert in _check(request.body, ALERTMANAGER):
        begins, ends = alert.get("startsAt"), alert.get("endsAt")
        if begins and ends and datetime.fromisoformat(begins) >= datetime.fromisoformat(ends):
            return HttpAnswer(400, b"start time must be before end time")
    return HttpAnswer(200)


def _webhook(request: HttpRequest) -> HttpAnswer:
    _check(request.body, WEBHOOK)
    verify_webhook(request.body, request.headers, HOOK_SECRET)
    return HttpAnswer(204)


VENDORS: dict[str, Callable[[HttpRequest], HttpAnswer]] = {
    "/v2/enqueue": _pagerduty,
    SLACK_PATH: _slack,
    "/api/v2/alerts": _alertmanager,
    HOOK_PATH: _webhook,
    APPRISE_PATH: lambda _: HttpAnswer(200),
}


def as_documented(request: HttpRequest) -> HttpAnswer:
    """Answer as the vendor does to a request of its form, 400 to any other."""
    is_json = request.headers.get("Content-Type", "").startswith("application/json")
    if request.method != "POST" or request.path not in VENDORS or not is_json:
        return HttpAnswer(404)
    try:
        return VENDORS[request.path](request)
    except ValueError as error:
        return HttpAnswer(400, str(error).encode())
    except jsonschema.ValidationError as error:
        return HttpAnswer(400, error.message.encode())


SinkMaker = Callable[..., AlertSink]


MAKERS: dict[str, SinkMaker] = {
    "pagerduty": lambda url, timeout: PagerDutySink(ROUTING_KEY, url=url, timeout=timeout),
    "slack": lambda url, timeout: SlackSink(url + SLACK_PATH, interval=0.001, timeout=timeout),
    "webhook": lambda url, timeout: WebhookSink(
        url + HOOK_PATH, secret=HOOK_SECRET, timeout=timeout
    ),
    "alertmanager": lambda url, timeout: AlertmanagerSink(
        url.replace("//", f"//user:{BASIC_PASSWORD}@"), timeout=timeout
    ),
    "apprise": lambda url, timeout: AppriseSink(
        url.lower().replace("http", "json") + APPRISE_PATH, timeout=timeout
    ),
}
SECRETS = (
    ROUTING_KEY,
    SLACK_PATH.rpartition("/")[2],
    HOOK_PATH.rpartition("/")[2],
    HOOK_SECRET,
    APPRISE_PATH.rpartition("/")[2],
    BASIC_PASSWORD,
)


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    """Every vendor in one, on loopback."""
    with HttpReceiver(as_documented) as receiver:
        yield receiver


@pytest.fixture(params=sorted(MAKERS))
def make_sink(request: pytest.FixtureRequest, receiver: HttpReceiver) -> SinkMaker:
    """Return, for each of the sinks, what makes it for the receiver."""
    maker: SinkMaker = MAKERS[request.param]
    return lambda timeout=20.0: maker(receiver.url, timeout)


@pytest.fixture
def all_sinks(receiver: HttpReceiver) -> Callable[[], list[AlertSink]]:
    """Return what makes one of each sink for the receiver."""
    return lambda: [maker(receiver.url, 20.0) for maker in MAKERS.values()]


@pytest.fixture(scope="session")
def secrets() -> tuple[str, ...]:
    """What the sinks were given and must never show."""
    return SECRETS
