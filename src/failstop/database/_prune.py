"""Old receipts: those under automatic keys are deleted, those under the user's own emptied.

A key of the user's own never takes effect twice, so its row stays. The horizon tells what was
deleted, and is raised in the transaction that deletes, before it does. Never here: which keys are
in doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Connection

from failstop.database import schema
from failstop.errors import ConfigurationError

__all__ = ["LEAST_AGE", "Pruned", "Pruning"]

LEAST_AGE = timedelta(days=1)
"""Receipts that are younger may still be asked for."""

MARGIN = timedelta(days=1)
"""How far the horizon is above what was deleted. A doubt is younger than its receipt by as long as
the transaction was open, and dated by another clock; below the horizon no receipt is no proof."""

PAGE = 1000
"""Receipts that one transaction looks at."""

RIGHTS = text(
    "SELECT has_table_privilege('failstop.receipt', 'SELECT') "
    "AND has_table_privilege('failstop.receipt', 'DELETE') "
    "AND has_column_privilege('failstop.receipt', 'is_pruned', 'UPDATE') "
    "AND has_table_privilege('failstop.horizon', 'SELECT') "
    "AND has_table_privilege('failstop.horizon', 'INSERT') "
    "AND has_table_privilege('failstop.horizon', 'UPDATE')"
)
NOW = text("SELECT now()")
RAISE_HORIZON = text(
    "INSERT INTO failstop.horizon AS horizon (id, pruned_before) VALUES (1, :before) "
    "ON CONFLICT (id) DO UPDATE SET pruned_before = excluded.pruned_before "
    "WHERE horizon.pruned_before < excluded.pruned_before"
)
LAST_OF_PAGE = text(
    "SELECT max(key) FROM (SELECT key FROM failstop.receipt WHERE key > :after "
    "ORDER BY key LIMIT :page) AS page"
)
_OLD = (
    "key > :after AND key <= :last AND committed_at < :before "
    "AND key <> ALL (CAST(:spared AS text[]))"
)
DELETE = text(f"DELETE FROM failstop.receipt WHERE {_OLD} AND is_automatic")  # noqa: S608 - no value in it
EMPTY = text(
    "UPDATE failstop.receipt SET result = NULL, fingerprint = NULL, is_pruned = true "  # noqa: S608 - no value in it
    f"WHERE {_OLD} AND NOT is_automatic AND NOT is_pruned"
)
COUNT = text(
    "SELECT count(*) FILTER (WHERE is_automatic), "  # noqa: S608 - no value in it
    f"count(*) FILTER (WHERE NOT is_automatic AND NOT is_pruned) FROM failstop.receipt WHERE {_OLD}"
)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a pruning of the receipts from before a moment did, or would do, and to how many."""

    before: datetime
    deleted: int = 0
    emptied: int = 0


@dataclass(slots=True)
class Pruning:
    """One pass over the receipts by their keys, a transaction a page.

    Args:
        older_than: the age from which on receipts go.
        spared: keys that may be in doubt: they stay as they are.
        doubted_since: when the oldest doubt arose; the horizon stays below it, so that a doubt
            whose receipt is not there can still be answered.
        is_rehearsed: count only.

    Raises:
        ConfigurationError: `older_than` is less than a day.
    """

    older_than: timedelta
    spared: Collection[str] = ()
    doubted_since: datetime | None = None
    is_rehearsed: bool = False
    _after: str | None = field(default="", init=False)

    def __post_init__(self) -> None:
        if self.older_than < LEAST_AGE:
            raise ConfigurationError(
                "receipts that are younger than a day may still be asked for; "
                "prune those older than 1d or more"
            )

    def run(self, ask: Callable[[Callable[[Connection], Pruned]], Pruned]) -> Pruned:
        """Prune page by page; `ask` does a piece of work on a connection, in time.

        Raises:
            ConfigurationError: the schema is missing or old, or the role may not prune.
            CriticalDatabaseError: the database failed; whole pages were pruned, or not.
        """
        total = ask(self._begin)
        while self._after is not None:
            page = ask(partial(self._turn, before=total.before))
            total = Pruned(total.before, total.deleted + page.deleted, total.emptied + page.emptied)
        return total

    def _begin(self, connection: Connection) -> Pruned:
        """Say what is pruned by the server's clock, where it can be."""
        _require_prunable(connection, is_rehearsed=self.is_rehearsed)
        now: datetime = connection.execute(NOW).scalar_one()
        before = now - self.older_than
        if self.doubted_since is not None:
            before = min(before, self.doubted_since - 2 * MARGIN)
        return Pruned(before)

    def _turn(self, connection: Connection, *, before: datetime) -> Pruned:
        """Prune one page and commit."""
        where = {"after": self._after, "page": PAGE}
        last = connection.execute(LAST_OF_PAGE, where).scalar_one()
        found = Pruned(before)
        if last is not None:
            old = {"after": self._after, "last": last, "before": before}
            found = self._prune(connection, old | {"spared": list(self.spared)})
        connection.commit()
        self._after = last
        return found

    def _prune(self, connection: Connection, old: dict[str, Any]) -> Pruned:
        if self.is_rehearsed:
            deleted, emptied = connection.execute(COUNT, old).one()
            return Pruned(old["before"], deleted, emptied)
        connection.execute(RAISE_HORIZON, {"before": old["before"] + MARGIN})
        deleted = connection.execute(DELETE, old).rowcount
        return Pruned(old["before"], deleted, connection.execute(EMPTY, old).rowcount)


def _require_prunable(connection: Connection, *, is_rehearsed: bool) -> None:
    if connection.dialect.name != "postgresql":
        raise ConfigurationError(
            f"receipts are pruned in PostgreSQL only, not {connection.dialect.name}"
        )
    absent = schema.missing(connection)
    if absent:
        raise ConfigurationError(f"{', '.join(absent)} is missing; run failstop schema apply first")
    if not is_rehearsed and not connection.execute(RIGHTS).scalar_one():
        raise ConfigurationError(
            "this role may not delete receipts; prune with the role that owns failstop's tables"
        )
