"""A user's own check: asked on a thread that is there only meanwhile, for a time.

Never here: what a check that failed means.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable

from failstop.recovery._monitor import UnprovenError
from failstop.recovery._settings import CheckFunction

__all__ = ["UserCheck"]


class UserCheck:
    """Ask `function`, which passes by returning True, for `timeout` seconds.

    One that goes on longer has failed, and is not called again before it has ended.
    """

    def __init__(self, function: CheckFunction, timeout: float) -> None:
        self.name: str = getattr(function, "__name__", type(function).__name__)
        self._function = function
        self._timeout = timeout
        self._call: _Call | None = None

    def __call__(self) -> str:
        """Return where it has passed.

        Raises:
            UnprovenError: it hangs, or returned anything but True.
            BaseException: what it raised.
        """
        if self._call is not None and self._call.is_alive():
            took = time.monotonic() - self._call.began
            raise UnprovenError(f"hangs since {took:.0f} seconds; it is not called again meanwhile")
        self._call = _Call(self._function, self._timeout)
        self._call.start()
        self._call.join(self._timeout)
        if self._call.is_alive():
            raise UnprovenError(f"did not end within {self._timeout:g} seconds")
        answer = self._call.answer()
        if answer is not True:
            raise UnprovenError(f"returned {type(answer).__name__}, not True")
        return "passed"


class _Call(threading.Thread):
    """One call; a coroutine runs in an event loop of its own, and is cancelled in the end."""

    def __init__(self, function: Callable[[], object], timeout: float) -> None:
        super().__init__(name="failstop-check", daemon=True)
        self.began = time.monotonic()
        self._function = function
        self._timeout = timeout
        self._answer: object = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            answer = self._function()
            if inspect.isawaitable(answer):
                answer = asyncio.run(_bounded(answer, self._timeout))
            self._answer = answer
        except BaseException as error:  # noqa: BLE001 - raised again by who has asked
            self._error = error

    def answer(self) -> object:
        """Return what it returned, or raise what it raised; called when it has ended."""
        if isinstance(self._error, TimeoutError) and self._is_over:
            raise UnprovenError(f"did not end within {self._timeout:g} seconds") from self._error
        if self._error is not None:
            raise self._error
        return self._answer

    @property
    def _is_over(self) -> bool:
        return time.monotonic() >= self.began + self._timeout


async def _bounded(answer: Awaitable[object], timeout: float) -> object:  # noqa: ASYNC109 - a bound, whoever awaits
    return await asyncio.wait_for(answer, timeout)
