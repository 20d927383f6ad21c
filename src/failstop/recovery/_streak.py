"""The streak: rounds that passed in a row, which only count where time lies between them.

A database that flaps is well many times a second. Pure: the rounds bring their own times, which are
those of the monotonic clock, so a clock that is set changes nothing.
"""

from __future__ import annotations

from failstop.recovery._monitor import Round

__all__ = ["Streak"]

SHARE = 0.9
"""The share of the interval that must lie between two rounds that count."""


class Streak:
    """Count rounds that passed, `interval` seconds apart and at most `freshness`.

    What came before a failure, or before a longer pause, proves nothing any more.
    """

    def __init__(self, interval: float, freshness: float) -> None:
        self._interval = interval
        self._freshness = freshness
        self._last: Round | None = None
        self._count = 0

    def end(self) -> None:
        """Begin anew with the next round."""
        self._last, self._count = None, 0

    def count(self, done: Round) -> int:
        """Return how many rounds have passed in a row, with `done`, which has."""
        last = self._last
        if last is None or last.revision != done.revision or self._is_old(last, done):
            self._last, self._count = done, 1
        elif done.began - last.ended >= SHARE * self._interval:
            self._last, self._count = done, self._count + 1
        return self._count

    def _is_old(self, last: Round, done: Round) -> bool:
        return done.began - last.ended > self._freshness
