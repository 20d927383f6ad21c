"""The watchdog: one thread that ends what outlasts its time.

A `Timer` is armed by setting `due`, and disarmed by setting it to None: no lock, no wake-up, for
the watchdog looks at a timer when it last had reason to, not each time it is armed. Two rules make
that safe without a lock: who arms writes `due` first and then reads `scheduled`; the watchdog
writes `scheduled` first and then reads `due`. So one of the two always sees the other.

Never here: what expiry means.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
import time

__all__ = ["Timer", "Watchdog"]

logger = logging.getLogger(__name__)


class Timer:
    """Something that can outlast its time; `due` in seconds of `time.monotonic()`."""

    __slots__ = ("due", "scheduled", "watchdog")

    def __init__(self, watchdog: Watchdog) -> None:
        self.watchdog: Watchdog = watchdog
        self.due: float | None = None
        self.scheduled: float = math.inf

    def arm(self, due: float) -> float | None:
        """Expire at `due`; return what was due before, for whoever puts that back."""
        before = self.due
        self.due = due
        if self.scheduled > due:
            self.watchdog.schedule(self)
        return before

    def expire(self, now: float) -> None:
        """Act on the expiry; called by the watchdog's thread, which must not be kept waiting."""
        raise NotImplementedError


class Watchdog:
    """Call `expire()` of each timer that is still armed when its time has come.

    The thread starts with the first timer; after `close()` it ends when none is left.
    """

    def __init__(self) -> None:
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew in a forked child, where the thread is gone and its timers are not ours."""
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def schedule(self, timer: Timer) -> None:
        """Look at `timer` when it is due, and start the thread where there is none."""
        due = timer.due
        if due is None:
            return
        with self._changed:
            timer.scheduled = due
            is_first = not self._heap or due < self._heap[0][0]
            heapq.heappush(self._heap, (due, next(self._order), timer))
            if self._thread is None:
                self._start()
            elif is_first:
                self._changed.notify()

    def close(self, timeout: float) -> None:
        """End the thread, waiting up to `timeout` seconds for the timers that are left."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _start(self) -> None:
        """Start the thread; called with the lock held."""
        self._thread = threading.Thread(target=self._run, name="failstop-watchdog", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (timers := self._wait()) is not None:
            for timer in timers:
                try:
                    self._look(timer)
                except Exception as error:  # noqa: BLE001 - the others must expire all the same
                    names = type(timer).__name__, type(error).__name__
                    logger.error("a timer of %s could not expire: %s", *names)

    def _wait(self) -> list[Timer] | None:
        """Return the timers to look at now; None where the thread is to end."""
        with self._changed:
            while not self._heap or self._heap[0][0] > time.monotonic():
                if self._is_closed:
                    self._heap = [entry for entry in self._heap if _is_wanted(entry)]
                    heapq.heapify(self._heap)
                    if not self._heap:
                        self._thread = None
                        return None
                left = self._heap[0][0] - time.monotonic() if self._heap else None
                self._changed.wait(left if left is None else max(left, 0.0))
            return self._take(time.monotonic())

    def _take(self, now: float) -> list[Timer]:
        """Take what is due out of the heap; called with the lock held."""
        taken = []
        while self._heap and self._heap[0][0] <= now:
            when, _, timer = heapq.heappop(self._heap)
            if timer.scheduled == when:  # else a later entry serves it
                timer.scheduled = math.inf
                taken.append(timer)
        return taken

    def _look(self, timer: Timer) -> None:
        due = timer.due
        if due is None:
            return
        now = time.monotonic()
        if due <= now:
            timer.expire(now)
        elif timer.scheduled > due:
            self.schedule(timer)


def _is_wanted(entry: tuple[float, int, Timer]) -> bool:
    """Say whether an entry still serves an armed timer, by the second of the two rules."""
    when, _, timer = entry
    if timer.scheduled != when:
        return False
    timer.scheduled = math.inf
    if timer.due is None:
        return False
    timer.scheduled = when
    return True
