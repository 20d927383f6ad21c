"""A request as far as the endpoints look at it, whatever server it came through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["MOST_BODY", "Request", "headers_of"]

MOST_BODY = 16_384
"""Bytes of a body that are taken; an adapter reads one more at most, which shows the excess."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `headers` by their names in lower case, `client` the address of the peer.

    `body` is empty where the endpoint takes none.
    """

    method: str = "GET"
    path: str = "/"
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    client: str = ""


def headers_of(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers by their names in lower case; what is given twice is one list."""
    found: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found
