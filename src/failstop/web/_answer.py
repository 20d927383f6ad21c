"""An HTTP answer as its three parts, ready for any framework."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from failstop._response import FailureResponse

__all__ = ["Answer", "failure_answer", "json_answer", "problem_answer"]


class Answer(NamedTuple):
    """Status, headers and body; the headers tell the body's length."""

    status: int
    headers: dict[str, str]
    body: bytes


def failure_answer(failure: FailureResponse) -> Answer:
    """Return the failure response as an HTTP answer."""
    return _answer(failure.status, failure.headers, failure.body)


def json_answer(status: int, body: dict[str, Any]) -> Answer:
    """Return a report, which no cache may keep: it is old as soon as it is sent."""
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return _answer(status, headers, body)


def problem_answer(status: int, body: dict[str, Any], headers: Mapping[str, str]) -> Answer:
    """Return a problem (RFC 9457), which no cache may keep."""
    plain = {"Content-Type": "application/problem+json", "Cache-Control": "no-store"}
    return _answer(status, {**plain, **headers}, body)


def _answer(status: int, headers: dict[str, str], body: dict[str, Any]) -> Answer:
    encoded = json.dumps(body).encode()
    return Answer(status, {**headers, "Content-Length": str(len(encoded))}, encoded)
