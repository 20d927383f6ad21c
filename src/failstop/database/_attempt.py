"""Connecting in bounded time: DNS, TCP, TLS and the server's greeting have no common deadline.

An attempt that outlasts its time, or a trip, is abandoned: its caller leaves, and the connection is
closed by whoever made it, should it still come about.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any

from failstop.errors import CriticalError, DatabaseUnavailableError, Outcome

__all__ = ["Attempts", "connect_timeout_error"]

MOST_ABANDONED = 16
"""Abandoned attempts that may still hang, a guard; more are refused instead of piled up."""

Close = Callable[[Any], object]


class Attempts:
    """The attempts to connect that are under way for one guard."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._waiting: set[Future[Any]] = set()
        self._abandoned = 0

    def release(self, error: Callable[[], CriticalError]) -> None:
        """Free every caller that waits, each with an error of its own."""
        with self._lock:
            waiting = tuple(self._waiting)
        for future in waiting:
            _settle(future, error())

    def make(self, connect: Callable[[], Any], close: Close, seconds: float) -> Any:
        """Return what `connect` returns, which a thread of its own calls.

        Args:
            connect: makes a connection.
            close: closes one that came too late.
            seconds: how long it may take.

        Raises:
            DatabaseUnavailableError: it took too long, or too many attempts hang already.
        """
        future: Future[Any] = self._enter()
        run = contextvars.copy_context().run
        thread = threading.Thread(
            target=lambda: run(self._connect, future, connect, close),
            name="failstop-connect",
            daemon=True,
        )
        try:
            self._start(thread)
            return _result(future, seconds, self._name)
        finally:
            self._leave(future)

    def _start(self, thread: threading.Thread) -> None:
        try:
            thread.start()
        except RuntimeError:  # the process can have no more threads
            self._count_down(thread)
            raise

    def _connect(self, future: Future[Any], connect: Callable[[], Any], close: Close) -> None:
        try:
            made = connect()
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            _let_go(error)
            _settle(future, error)
        else:
            try:
                future.set_result(made)
            except InvalidStateError:
                close(made)
        finally:
            with self._lock:
                self._abandoned -= 1

    async def make_async(
        self, connect: Callable[[], Awaitable[Any]], close: Close, seconds: float
    ) -> Any:
        """Return what awaiting `connect` gives; as `make()`, in a task of its own."""
        released: Future[Any] = self._enter()
        task = asyncio.ensure_future(_letting_go(connect))
        task.add_done_callback(self._count_down)
        freed = asyncio.wrap_future(released)
        try:
            await asyncio.wait({task, freed}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if freed.done():
                return freed.result()
            raise connect_timeout_error(self._name)
        finally:
            self._leave(released)
            freed.cancel()
            if not task.done():
                task.add_done_callback(lambda ended: _close_late(ended, close))
                task.cancel()

    def _enter(self) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            if self._abandoned >= MOST_ABANDONED + len(self._waiting):
                raise connect_timeout_error(self._name)
            self._abandoned += 1
            self._waiting.add(future)
        return future

    def _leave(self, future: Future[Any]) -> None:
        with self._lock:
            self._waiting.discard(future)

    def _count_down(self, _: object) -> None:
        with self._lock:
            self._abandoned -= 1


def _result(future: Future[Any], seconds: float, name: str) -> Any:
    try:
        return future.result(seconds)
    except TimeoutError:
        if not future.done():
            _settle(future, connect_timeout_error(name))
        return future.result()


def _settle(future: Future[Any], error: BaseException) -> None:
    """Give `future` an error, unless it was given something first."""
    try:
        future.set_exception(error)
    except InvalidStateError:
        return


async def _letting_go(connect: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await connect()
    except BaseException as error:
        _let_go(error)
        raise


def _let_go(error: BaseException) -> None:
    """Clear the frames of what failed: in them psycopg keeps the socket of what was not made.

    Else it stays open as long as the error lives, and in a cycle that is until a collection.
    """
    traceback.clear_frames(error.__traceback__)


def _close_late(task: asyncio.Future[Any], close: Close) -> None:
    if not task.cancelled() and task.exception() is None:
        close(task.result())


def connect_timeout_error(name: str) -> DatabaseUnavailableError:
    """Return the error for a connection that was not made in time."""
    error = DatabaseUnavailableError(
        f"database {name!r}: no connection could be made within the deadline",
        outcome=Outcome.NOT_STARTED,
        kind="connect_timeout",
    )
    error.action = "check that the server runs, the name resolves and the network lets packets by"
    return error
