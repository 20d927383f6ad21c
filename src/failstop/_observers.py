"""The observers: told every event in order, by one thread at a time, with no lock in their way.

One that raises stops neither the change nor the others; one that hangs keeps its caller, and no
other call. Never here: what happened.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from failstop.events import Event, Listener

__all__ = ["Observers", "call"]

logger = logging.getLogger("failstop")


class Observers:
    """Tell the events in `queue`, into which whoever changes the state puts them in order."""

    def __init__(self, queue: deque[Event]) -> None:
        self._queue = queue
        self._entries: tuple[_Entry, ...] = ()
        self.after_fork()

    def after_fork(self) -> None:
        """Begin with locks of its own."""
        self._changing = threading.Lock()
        self._telling = threading.Lock()

    def add(self, listener: Listener) -> Callable[[], None]:
        """Tell `listener` what comes; return what ends that."""
        entry = _Entry(listener)
        with self._changing:
            self._entries = (*self._entries, entry)

        def end() -> None:
            with self._changing:
                self._entries = tuple(each for each in self._entries if each is not entry)

        return end

    def tell(self) -> None:
        """Tell what is in the queue; where another thread does, it tells this thread's too."""
        while self._queue and self._telling.acquire(blocking=False):
            try:
                while self._queue:
                    event = self._queue.popleft()
                    for entry in self._entries:
                        call(entry.listener, event)
            finally:
                self._telling.release()


class _Entry:
    """One subscription: a listener may have several, and each ends alone."""

    __slots__ = ("listener",)

    def __init__(self, listener: Listener) -> None:
        self.listener = listener


def call(function: Callable[..., Any], *facts: object) -> None:
    """Call foreign code that must not stop what is under way; log what it raises."""
    try:
        function(*facts)
    except Exception as error:  # noqa: BLE001 - an observer's failure is its own
        name = getattr(function, "__qualname__", type(function).__name__)
        logger.error("%s raised %s", name, type(error).__name__)
