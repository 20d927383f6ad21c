"""The recall: are the transactions that were acknowledged last still there?

The witness tells what was lost up to the last probe. A transaction that was committed after it, and
is lost in a failover, shows by its receipt alone. Never here: what a key is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from datetime import datetime

from sqlalchemy import bindparam, text
from sqlalchemy.engine import Connection

from failstop.database._receipts import table_of
from failstop.database._transaction import Transaction
from failstop.recovery._baselines import Baselines, receipts_lost

__all__ = ["MOST", "Recall"]

MOST = 256
"""Transactions that are remembered."""

PRUNED_BEFORE = text("SELECT pruned_before FROM failstop.horizon")


class Recall:
    """Remember the transactions of `name` that were acknowledged last.

    `acknowledged` is appended to by whoever commits; the oldest ones go.
    """

    def __init__(self, name: str, baselines: Baselines) -> None:
        self.acknowledged: deque[Transaction] = deque(maxlen=MOST)
        self._name = name
        self._baselines = baselines

    @property
    def is_empty(self) -> bool:
        """True where no transaction was acknowledged yet."""
        return not self.acknowledged

    def check(self, connection: Connection) -> str:
        """Return where every receipt is there that must be.

        What a person has accepted since, or a pruning may have taken, must not.

        Raises:
            CriticalDatabaseError: one is missing; says how many.
            StoreError: the store cannot be read or written.
        """
        _, known = self._baselines.known(self._name)
        accepted = 0 if known is None else known.accepted
        wanted = [each for each in self.acknowledged.copy() if each.epoch >= accepted]
        missing = _missing(connection, wanted)
        if missing:
            self._baselines.note_lost(self._name, missing)
            raise receipts_lost(self._name, missing)
        return f"the last {len(wanted)} transactions of this process are there"


def _missing(connection: Connection, wanted: Collection[Transaction]) -> int:
    by_key = {each.receipt.key: each for each in wanted if each.receipt is not None}
    if not by_key:
        return 0
    there = text(f"SELECT key FROM {table_of(connection.dialect.name)} WHERE key IN :keys")  # noqa: S608 - no value in it
    there = there.bindparams(bindparam("keys", expanding=True))
    found = set(connection.execute(there, {"keys": list(by_key)}).scalars())
    before = _pruned_before(connection)
    missing = [each for key, each in by_key.items() if key not in found]
    return sum(not _may_be_pruned(each, before) for each in missing)


def _pruned_before(connection: Connection) -> datetime | None:
    if connection.dialect.name != "postgresql":
        return None
    before: datetime | None = connection.execute(PRUNED_BEFORE).scalar()
    return before


def _may_be_pruned(transaction: Transaction, before: datetime | None) -> bool:
    """Only receipts under automatic keys are ever deleted, and the horizon tells which."""
    receipt = transaction.receipt
    is_automatic = receipt is not None and receipt.is_automatic
    return is_automatic and before is not None and transaction.since <= before
