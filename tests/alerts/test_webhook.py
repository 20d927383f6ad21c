"""The webhook's signature: only who shares the secret is believed, and only for a while."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

import pytest

from failstop.alerts import WebhookSignatureError, WebhookSink, verify_webhook
from failstop.errors import ConfigurationError
from failstop.testing import HttpReceiver, HttpRequest, sample_alert

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "another secret of enough length"


@pytest.fixture
def request_of(receiver: HttpReceiver) -> HttpRequest:
    """What a receiver got."""
    with HttpReceiver() as receiver:
        WebhookSink(receiver.url, secret=SECRET).send(sample_alert())
        return receiver.requests[0]


def sent_at(request: HttpRequest) -> int:
    return int(request.headers["webhook-timestamp"])


def changed(headers: Mapping[str, str], **values: str | None) -> dict[str, str]:
    new = {**headers, **{f"webhook-{name}": value for name, value in values.items()}}
    return {name: value for name, value in new.items() if value is not None}


def test_the_alert_comes_out_as_it_went_in(request_of: HttpRequest) -> None:
    document = verify_webhook(request_of.body, request_of.headers, SECRET)
    alert = sample_alert()
    assert document["title"] == alert.title
    assert document["dedupKey"] == alert.dedup_key
    assert document["details"] == dict(alert.details)
    assert document["id"] == request_of.headers["webhook-id"]


def test_it_is_signed_as_standard_webhooks_says(request_of: HttpRequest) -> None:
    headers = request_of.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request_of.body
    digest = hmac.new(bytes(range(32)), signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


def test_the_same_alert_has_the_same_id_and_another_has_another() -> None:
    with HttpReceiver() as receiver:
        sink = WebhookSink(receiver.url, secret=SECRET)
        for occurrences in (1, 1, 2):
            sink.send(sample_alert(occurrences=occurrences))
        one, again, other = (request.headers["webhook-id"] for request in receiver.requests)
    assert one == again != other


def test_header_names_of_any_case_are_found(request_of: HttpRequest) -> None:
    shouted = {name.upper(): value for name, value in request_of.headers.items()}
    verify_webhook(request_of.body, shouted, SECRET)


def test_any_of_several_secrets_and_signatures_serves(request_of: HttpRequest) -> None:
    signature = f"v1,AAAA {request_of.headers['webhook-signature']} v2,x"
    headers = changed(request_of.headers, signature=signature)
    verify_webhook(request_of.body, headers, [OTHER, SECRET])


@pytest.mark.parametrize(
    "values",
    [
        {"id": "msg_other"},
        {"timestamp": None},
        {"id": None},
        {"signature": None},
        {"signature": ""},
        {"signature": "v1,"},
        {"signature": "v1,ü"},
        {"signature": "v1"},
        {"timestamp": "soon"},
        {"timestamp": ""},
    ],
)
def test_a_changed_header_is_refused(
    request_of: HttpRequest, values: dict[str, str | None]
) -> None:
    with pytest.raises(WebhookSignatureError):
        verify_webhook(request_of.body, changed(request_of.headers, **values), SECRET)


def test_a_changed_time_is_refused(request_of: HttpRequest) -> None:
    headers = changed(request_of.headers, timestamp=str(sent_at(request_of) + 1))
    with pytest.raises(WebhookSignatureError, match="signature is wrong"):
        verify_webhook(request_of.body, headers, SECRET)


def test_every_changed_byte_of_the_body_is_refused(request_of: HttpRequest) -> None:
    for place in range(len(request_of.body)):
        body = bytearray(request_of.body)
        body[place] ^= 1
        with pytest.raises(WebhookSignatureError):
            verify_webhook(bytes(body), request_of.headers, SECRET)


def test_another_secret_is_refused(request_of: HttpRequest) -> None:
    with pytest.raises(WebhookSignatureError):
        verify_webhook(request_of.body, request_of.headers, OTHER)
    with pytest.raises(WebhookSignatureError):
        verify_webhook(request_of.body, request_of.headers, [])


@pytest.mark.parametrize("away", [-301, 301])
def test_a_request_played_back_later_or_from_the_future_is_refused(
    request_of: HttpRequest, away: int
) -> None:
    with pytest.raises(WebhookSignatureError, match="too old"):
        verify_webhook(request_of.body, request_of.headers, SECRET, now=sent_at(request_of) + away)


@pytest.mark.parametrize("away", [-300, 0, 300])
def test_the_tolerance_is_taken_as_given(request_of: HttpRequest, away: int) -> None:
    verify_webhook(request_of.body, request_of.headers, SECRET, now=sent_at(request_of) + away)


@pytest.mark.parametrize("secret", ["", "short", "whsec_", "whsec_!!!!", "whsec_c2hvcnQ=", None, 7])
def test_a_secret_too_short_or_of_another_form_is_refused(secret: Any) -> None:
    with pytest.raises(ConfigurationError, match="secret must"):
        WebhookSink("https://example.com", secret=secret)


def test_the_body_is_the_json_of_the_documentation(request_of: HttpRequest) -> None:
    document = json.loads(request_of.body)
    assert document["occurredAt"] == "2026-01-02T03:04:05.000Z"
    assert list(document) == sorted(document)
