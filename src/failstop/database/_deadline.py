"""The one budget of a call: `deadline()` sets it, every guarded operation reads it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Self

from failstop.recovery import require_seconds

__all__ = ["GRACE", "CallOverdueError", "current_limit", "deadline", "unlimited"]

GRACE = 0.15
"""Seconds after a deadline for which the server's own answer to it is awaited.

The server ends a slow statement at the deadline itself (57014); only silence past it is critical.
"""

current_limit: ContextVar[float | None] = ContextVar("failstop_limit", default=None)
"""The end of the call that is under way, in seconds of `time.monotonic()`."""


class CallOverdueError(TimeoutError):
    """The call had used up its time before something was sent: its own doing, no outage."""


class deadline:  # noqa: N801 - used like a function: with deadline(2.0)
    """Let everything guarded in the block end within `seconds`; works around `await` too.

    Covers checkout, connect, statements and COMMIT. Nested deadlines only shrink: an inner one
    never outlives an outer one, nor does a database's own deadline.

    Args:
        seconds: from the entry of the block on.

    Raises:
        ConfigurationError: `seconds` is not a finite number above zero.
    """

    __slots__ = ("_seconds", "_token")

    def __init__(self, seconds: float) -> None:
        self._seconds = require_seconds("deadline", seconds)
        self._token: Token[float | None] | None = None

    def __enter__(self) -> Self:
        limit = time.monotonic() + self._seconds
        outer = current_limit.get()
        self._token = current_limit.set(limit if outer is None or limit < outer else outer)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._token is not None:
            current_limit.reset(self._token)
            self._token = None


@contextmanager
def unlimited() -> Iterator[None]:
    """Let what is done in the block take its own time, however little its caller has left."""
    token = current_limit.set(None)
    try:
        yield
    finally:
        current_limit.reset(token)
