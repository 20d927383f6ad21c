"""The tallies of one guarded database: how its operations ended, and who ended the late ones.

Never here: what an ending means for the service.
"""

from __future__ import annotations

from sqlalchemy.pool import Pool, QueuePool

from failstop._failsafe import FailSafe
from failstop.counts import DatabaseCounts, Deadline, PoolUse, Result, Tally
from failstop.database._queue import FairQueue
from failstop.database._transaction import Transaction
from failstop.diagnosis import Verdict
from failstop.errors import Outcome

__all__ = ["Tallies", "pool_use"]

COMMITTED, UNKNOWN, READ = Outcome.COMMITTED, Outcome.UNKNOWN, Result.READ
"""Plain names: to look a member up in its enumeration would be half of the cost."""

REFUSED = {
    Verdict.CONFLICT: Result.CONFLICT,
    Verdict.APPLICATION: Result.APPLICATION_ERROR,
}
"""What the database, which is well, did not do."""


class Tallies:
    """Count the operations that `failsafe` guards on one database."""

    def __init__(self, failsafe: FailSafe) -> None:
        self._failsafe = failsafe
        self._results = {result: Tally() for result in Result}
        self._deadlines = {deadline: Tally() for deadline in Deadline}
        self._committed = self._results[Result.COMMITTED].one
        self._read = self._results[READ].one

    def end(self, transaction: Transaction) -> None:
        """Count a transaction of which nothing more will be heard."""
        if transaction.outcome is COMMITTED:
            self._committed()
            return
        result = self._result(transaction)
        if result is READ:
            self._read()
        else:
            self._results[result].one()

    def _result(self, transaction: Transaction) -> Result:
        if transaction.outcome is UNKNOWN:
            return Result.UNKNOWN
        if transaction.epoch != self._failsafe.epoch:  # each critical failure is a trip
            return Result.FAILED
        if transaction.verdict is None:
            return READ if transaction.is_read_only else Result.ROLLED_BACK
        return REFUSED.get(transaction.verdict, Result.FAILED)

    def late(self, deadline: Deadline) -> None:
        """Count an operation that outlasted its time."""
        self._deadlines[deadline].one()

    def counts(self, pool: Pool) -> DatabaseCounts:
        """Return the numbers as they are now, with the use of `pool`."""
        return DatabaseCounts(
            {result: tally.count for result, tally in self._results.items()},
            {deadline: tally.count for deadline, tally in self._deadlines.items()},
            pool_use(pool),
        )


def pool_use(pool: Pool) -> PoolUse | None:
    """Return how a pool is used, None where it keeps no connections."""
    if not isinstance(pool, QueuePool):
        return None
    most, queue = pool._max_overflow, pool._pool  # noqa: SLF001 - SQLAlchemy has no public word
    return PoolUse(
        in_use=max(0, pool.checkedout()),
        idle=pool.checkedin(),
        limit=None if most < 0 else pool.size() + most,
        waiting=queue.waiting if isinstance(queue, FairQueue) else 0,
    )
