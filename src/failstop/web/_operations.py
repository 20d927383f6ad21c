"""The operations: which requests do what `reduce_only` may let through in a halt.

Known before a request reaches its handler, so by method and path. Never here: whether it passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from failstop._failsafe import FailSafe
from failstop.errors import ConfigurationError

__all__ = ["Operations"]


class Route(NamedTuple):
    """A method, None for all of them, and the segments of a path, None for any one segment."""

    method: str | None
    segments: tuple[str | None, ...]
    operation: str

    def matches(self, method: str, segments: tuple[str, ...]) -> bool:
        """Say whether a request is this one; no segment that stands for any may be empty."""
        return (
            self.method in (None, method)
            and len(self.segments) == len(segments)
            and all(
                given == wanted or (wanted is None and given != "")
                for given, wanted in zip(segments, self.segments, strict=True)
            )
        )


class Operations:
    """The requests of one service that are operations of `failsafe.allow()`.

    Args:
        failsafe: what names the operations.
        operations: the operation of each `"METHOD /path"`, or of a `"/path"` for all methods;
            `{name}` stands for one segment. The first that matches counts.

    Raises:
        ConfigurationError: a path does not begin with "/", or an operation is not named in
            `reduce_only`.
    """

    def __init__(self, failsafe: FailSafe, operations: Mapping[str, str] | None) -> None:
        self._routes = [_route(key, name) for key, name in (operations or {}).items()]
        for route in self._routes:
            failsafe.allow(route.operation)

    def find(self, method: str, path: str) -> str | None:
        """Return the operation of a request, None where it is none."""
        if not self._routes:
            return None
        segments = tuple(path.split("/"))
        found = (each.operation for each in self._routes if each.matches(method, segments))
        return next(found, None)


def _route(key: object, operation: str) -> Route:
    method, _, path = str(key).rpartition(" ")
    if not path.startswith("/") or not (method == "" or method.isalpha()):
        raise ConfigurationError(
            "operations= takes paths such as 'DELETE /orders/{id}' or '/orders/cancel', "
            f"not {key!r}"
        )
    segments = tuple(
        None if each.startswith("{") and each.endswith("}") else each for each in path.split("/")
    )
    return Route(method.upper() or None, segments, operation)
