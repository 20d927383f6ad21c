"""An event loop on a thread of its own, so that sync and async tests use what runs on it alike."""

from __future__ import annotations

import asyncio
import select
import selectors
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["LoopThread"]

Result = TypeVar("Result")

_BOUND = 30.0  # seconds for the thread to do as told: it does nothing else
_COARSE = 0.02  # from here on a millisecond more is no matter
_SELECTABLE = 1024  # select() knows no descriptor from here on


class _PreciseSelector(selectors.DefaultSelector):
    """Linux's epoll waits in whole milliseconds, and half of one is a common latency."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        fileno = self.fileno() if sys.platform == "linux" else _SELECTABLE
        if timeout and 0 < timeout < _COARSE and fileno < _SELECTABLE:
            select.select([fileno], [], [], timeout)
            timeout = 0
        return super().select(timeout)


class LoopThread:
    """An event loop on a thread of its own, and the tasks on it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        if self._thread is not None:
            raise RuntimeError("the proxy was started before; make a new one")
        self._loop = asyncio.SelectorEventLoop(_PreciseSelector())
        self._thread = threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True)
        self._thread.start()

    def do(
        self, function: Callable[..., Coroutine[Any, Any, Result]], *arguments: object
    ) -> Result:
        """Run a coroutine function on the thread and return what it returned."""
        if self._loop is None or not self.is_running:
            raise RuntimeError("the proxy does not run; start() it")
        done = asyncio.run_coroutine_threadsafe(function(*arguments), self._loop)
        return done.result(_BOUND)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task; for this thread only."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def stop(self) -> None:
        """Cancel every task and end the thread; raise what broke a task."""
        if self._loop is None or self._thread is None:
            return
        self.do(self._end_tasks)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._failures:
            raise self._failures[0]

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._failures.append(error)

    async def _end_tasks(self) -> None:
        await asyncio.sleep(0)  # one that has not begun could not close what it was given
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
        await asyncio.get_running_loop().shutdown_default_executor()
