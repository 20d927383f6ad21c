"""What a person orders by a request: read strictly, so that nothing is half understood.

An order is refused where it holds a field that is not known: a mistyped one must not be passed by.
Never here: who may order, or what is done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from failstop.web._request import MOST_BODY, Request

__all__ = ["FORM", "Order", "RefusedError", "is_form", "read_order"]

FORM = "application/x-www-form-urlencoded"
LONGEST_ACTOR = 100
LONGEST_REASON = 1000
TEXTS = {"actor": LONGEST_ACTOR, "reason": LONGEST_REASON}
NUMBER = re.compile(r"[0-9]{1,18}")
YES = "yes"


class RefusedError(Exception):
    """A request is not done; what is told of it over HTTP, and `facts` for a program."""

    def __init__(self, status: int, name: str, title: str, detail: str, **facts: Any) -> None:
        super().__init__(title)
        self.status = status
        self.name = name
        self.title = title
        self.detail = detail
        self.headers: dict[str, str] = {}
        self.facts = facts


@dataclass(frozen=True, slots=True)
class Order:
    """What was ordered; a field is None where it was not there."""

    actor: str | None = None
    reason: str | None = None
    epoch: int | None = None
    force: bool = False
    token: str | None = field(default=None, repr=False)


def is_form(request: Request) -> bool:
    """Say whether the request comes from a form."""
    return _media(request) == FORM


def read_order(request: Request, fields: Sequence[str]) -> Order:
    """Return what the body of `request` orders.

    Args:
        request: whose body is read.
        fields: the fields that it may hold; a form also its token.

    Raises:
        RefusedError: it is too long, of another type, no order, or has a field that makes no sense.
    """
    if len(request.body) > MOST_BODY:
        raise RefusedError(413, "too-long", "The request is too long", f"At most {MOST_BODY} bytes")
    allowed = (*fields, "token") if is_form(request) else fields
    given = _form(request.body) if is_form(request) else _json(request)
    unknown = [name for name in given if name not in allowed]
    if unknown:
        raise _wrong(f"There is a field that is not known here; these are: {', '.join(allowed)}.")
    return Order(**{name: _checked(name, value) for name, value in given.items()})


def _media(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _form(body: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=20
        )
    except ValueError:
        raise _wrong("The body is no form.") from None
    given: dict[str, Any] = {name: value for name, value in _each_once(pairs).items() if value}
    if NUMBER.fullmatch(given.get("epoch", "")):
        given["epoch"] = int(given["epoch"])
    if "force" in given:
        given["force"] = True if given["force"] == YES else given["force"]
    return given


def _json(request: Request) -> dict[str, Any]:
    if _media(request) != "application/json":
        raise RefusedError(
            415,
            "unreadable",
            "The request is of a type that is not read here",
            f"Send application/json or {FORM}.",
        )
    try:
        given = json.loads(request.body, object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        raise _wrong("The body is no JSON.") from None
    if not isinstance(given, dict):
        raise _wrong("The body is no JSON object.")
    return given


def _each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise _wrong("A field is there twice.")
    return dict(pairs)


def _checked(name: str, value: object) -> Any:
    if name in TEXTS:
        return _text(name, value, TEXTS[name])
    if name == "epoch" and not (type(value) is int and 0 <= value < 2**63):
        raise _wrong("epoch must be a number: the one that the status or the plan showed.")
    if name == "force" and not isinstance(value, bool):
        raise _wrong(f"force must be true or false, in a form {YES!r} or not there.")
    return value


def _text(name: str, value: object, longest: int) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(f"{name} must be a text that is not empty.")
    if len(value) > longest:
        raise _wrong(f"{name} must have {longest} characters at most.")
    return " ".join(value.split())


def _wrong(detail: str) -> RefusedError:
    return RefusedError(400, "unreadable", "The request cannot be read as an order", detail)
