"""The pulse: what watches the monitor, on the watchdog's thread, whether or not that one looks.

Never here: what a round is, or what silence means.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from failstop._watchdog import Timer, Watchdog

__all__ = ["Pulse"]

TICK = 0.25
"""Seconds between two beats."""


class Pulse(Timer):
    """Beat four times a second, and count for how long no round has ended.

    Counted is the time in which the process ran: one that was stopped has looked at nothing, but
    has let nothing pass either. The rounds are marked with an even number between two of them.
    """

    __slots__ = (
        "_beat",
        "_is_stopped",
        "_last",
        "_mark",
        "_seen",
        "_silence",
        "_told",
        "_under_way",
    )

    def __init__(self, watchdog: Watchdog, beat: Callable[[float | None, float], None]) -> None:
        super().__init__(watchdog)
        self._beat = beat
        self._mark = self._seen = 0
        self._told = -1
        self._silence = 0.0
        self._under_way: float | None = None
        self._is_stopped = False

    def start(self) -> None:
        """Beat from now on."""
        self._last = time.monotonic()
        self.arm(self._last + TICK)

    def stop(self) -> None:
        """Beat no more."""
        self._is_stopped = True
        self.due = None

    def begin(self) -> None:
        """Mark that a round begins; called by the monitor's thread alone."""
        self._mark |= 1

    def end(self) -> None:
        """Mark that it has ended."""
        self._mark += 1

    def is_new(self) -> bool:
        """Say whether nothing was told since the last round that ended."""
        ended = self._seen // 2
        is_new, self._told = ended != self._told, ended
        return is_new

    def expire(self, now: float) -> None:
        """Beat once."""
        self.arm(now + TICK)  # first: whatever is raised here, the next beat comes
        if self._is_stopped:
            self.due = None
            return
        self._count(now)
        self._beat(self._under_way, self._silence)

    def _count(self, now: float) -> None:
        ran = min(now - self._last, 2 * TICK)
        seen, self._seen, self._last = self._seen, self._mark, now
        has_ended = self._seen // 2 != seen // 2
        self._silence = 0.0 if has_ended else self._silence + ran
        if self._seen % 2 == 0:
            self._under_way = None
        else:
            self._under_way = (self._under_way or 0.0) + ran if self._seen == seen else 0.0
