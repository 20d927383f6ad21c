"""An HTTP answer as its three parts, ready for any framework."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from failstop._response import FailureResponse

__all__ = ["Answer", "failure_answer", "json_answer", "page_answer", "problem_answer"]


PLAIN = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Answer(NamedTuple):
    """Status, headers and body; the headers tell the body's length."""

    status: int
    headers: dict[str, str]
    body: bytes


def failure_answer(failure: FailureResponse) -> Answer:
    """Return the failure response as an HTTP answer."""
    return _answer(failure.status, failure.headers, json.dumps(failure.body).encode())


def json_answer(
    status: int,
    body: dict[str, Any],
    media: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Return a report, which no cache may keep: it is old as soon as it is sent."""
    plain = {"Content-Type": media, **PLAIN}
    return _answer(status, {**plain, **(headers or {})}, json.dumps(body).encode())


def page_answer(status: int, page: str, headers: Mapping[str, str]) -> Answer:
    """Return a page, which no cache may keep."""
    plain = {"Content-Type": "text/html; charset=utf-8", **PLAIN}
    return _answer(status, {**plain, **headers}, page.encode("utf-8", "replace"))


def problem_answer(status: int, body: dict[str, Any], headers: Mapping[str, str]) -> Answer:
    """Return a problem (RFC 9457), which no cache may keep."""
    return json_answer(status, body, "application/problem+json", headers)


def _answer(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    return Answer(status, {**headers, "Content-Length": str(len(body))}, body)
