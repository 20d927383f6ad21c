"""The notes: what observers hear always, and the journal now and then, so that it stays small.

Never here: what changes the standing.
"""

from __future__ import annotations

import logging
import math
import time
from datetime import UTC, datetime

from failstop._keeper import Keeper
from failstop._reduction import Reduction
from failstop._refusals import Refusals
from failstop._storefile import StoreError
from failstop.events import Checked, Permitted, Refused
from failstop.recovery._monitor import Round

__all__ = ["Notes"]

logger = logging.getLogger("failstop")

REFUSED_EVERY = 60.0
"""Seconds between two journal rows that count refused calls, or those that were let through."""
CHECKED_EVERY = 10.0
"""Seconds between two journal rows about check results that changed."""


class Notes:
    """Note what `keeper` is to record, and remember what the journal was told last."""

    def __init__(self, keeper: Keeper, refusals: Refusals, reduction: Reduction) -> None:
        self._keeper = keeper
        self._refusals = refusals
        self._reduction = reduction
        self._permitted_at = -math.inf
        self._results: tuple[tuple[str, bool], ...] = ()
        self._epoch = -1
        self._checked_at = -math.inf
        self._refused = 0
        self._refused_at = -math.inf
        self._problem: str | None = None

    def note_store(self, problem: StoreError | None) -> None:
        """Log once what is wrong with the store, and once that it is well again."""
        kind = problem.kind if problem else None
        if kind == self._problem:
            return
        self._problem = kind
        service = self._keeper.service
        if problem is None:
            logger.warning("the store of %s can be read and written again", service)
        else:
            logger.error("%s: %s; %s", service, problem, problem.action)

    def note_checks(self, done: Round) -> None:
        """Tell the observers every round, and the journal the results that changed."""
        epoch, now = self._keeper.standing.latch.epoch, datetime.now(UTC)
        event = Checked(self._keeper.service, epoch, now, done.results)
        self._keeper.events.append(event)
        results = tuple((each.name, each.is_passed) for each in done.results)
        is_due = epoch != self._epoch or done.ended >= self._checked_at + CHECKED_EVERY
        if results != self._results and is_due:
            self._results, self._epoch, self._checked_at = results, epoch, done.ended
            self._keeper.record(event)

    def note_permitted(self, *, is_last: bool) -> None:
        """Count the calls that were let through while all else was refused, by their kind."""
        now = time.monotonic()
        if not is_last and now < self._permitted_at + REFUSED_EVERY:
            return
        for operation, count in self._reduction.take_counts().items():
            self._permitted_at = now
            standing = self._keeper.standing
            facts = (self._keeper.service, standing.latch.epoch, datetime.now(UTC))
            event = Permitted(*facts, standing.incident, operation, count)
            self._keeper.record(event)
            self._keeper.events.append(event)

    def note_refusals(self, *, is_last: bool) -> None:
        """Count the calls that were refused since the last such note."""
        self.note_permitted(is_last=is_last)
        now = time.monotonic()
        if not is_last and now < self._refused_at + REFUSED_EVERY:
            return
        count = self._refusals.count - self._refused
        if count:
            self._refused += count
            self._refused_at = now
            standing = self._keeper.standing
            facts = (self._keeper.service, standing.latch.epoch, datetime.now(UTC))
            event = Refused(*facts, standing.incident, count)
            self._keeper.record(event)
            self._keeper.events.append(event)
