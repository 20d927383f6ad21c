"""The opening of a transaction: the fence and the receipt, in the message that says BEGIN.

Lives here: what is sent with BEGIN, and what the server's answer to it means. Never here: when a
transaction begins, or what a halt means for the service.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy.pool import PoolProxiedConnection

from failstop._fence import FenceRow
from failstop.database._drivers import open_transaction
from failstop.database._fence import LOCK, NO_FENCE, halts_literal, rows_literal, rows_of
from failstop.database._question import WAITED
from failstop.database._receipts import Receipt, insert_literal
from failstop.diagnosis import Diagnoser, Phase
from failstop.errors import (
    ConfigurationError,
    IdempotencyConflictError,
    KeyInFlightError,
    OperationsSuspendedError,
    Outcome,
)

__all__ = ["Opening"]

NO_SCHEMA = ("3F000", "42501", "42703", "42P01")
"""SQLSTATEs of a table of failstop's that is missing, old, or not to be used by this role."""


class Opening:
    """Open the transactions of one database on PostgreSQL.

    Args:
        name: the database's.
        service: who writes the receipts.
        diagnoser: what an exception means.
        scope: the part of the fence that holds these transactions, None where there is no fence.
    """

    def __init__(self, *, name: str, service: str, diagnoser: Diagnoser, scope: str | None) -> None:
        self._name = name
        self._service = service
        self._diagnoser = diagnoser
        self._scope = scope

    def send(
        self,
        driver: str,
        connection: PoolProxiedConnection,
        receipt: Receipt | None,
        *,
        told: str,
        may_pass: bool,
    ) -> bool:
        """Send BEGIN with what belongs to it; return False where the fence says halted.

        Args:
            driver: the driver's name.
            connection: the connection.
            receipt: what is written, if anything.
            told: a setting that goes first.
            may_pass: whether this work goes on where the fence says halted.
        """
        message = f"{told}{'; '.join(self._statements(receipt, may_pass=may_pass))}"
        return open_transaction(driver, connection, message) == 0

    def _statements(self, receipt: Receipt | None, *, may_pass: bool) -> Iterable[str]:
        """Give the lock first, so that the rest is seen as of then; the last gives what stops it.

        The count of its rows is all that every driver tells of a message of many statements.
        """
        if self._scope is not None:
            yield LOCK
        if receipt is not None:
            yield insert_literal(receipt, self._service)
        yield NO_FENCE if may_pass or self._scope is None else halts_literal(self._scope)

    def rows(self, connection: PoolProxiedConnection) -> tuple[FenceRow, ...]:
        """Return the fence's rows as the open transaction sees them."""
        assert self._scope is not None
        cursor: Any = connection.cursor()
        try:
            cursor.execute(rows_literal(self._scope))
            return rows_of(cursor.fetchall())
        finally:
            cursor.close()

    def refusal(self, error: Exception, receipt: Receipt | None) -> Exception | None:
        """Return what the server's answer means; None where it is about no receipt and no fence."""
        found = self._diagnoser.diagnose(error, phase=Phase.STATEMENT)
        if found.sqlstate in WAITED and not _is_at_a_row(error):
            return OperationsSuspendedError(
                f"database {self._name!r}: the fence is locked, as by hand; nothing was done",
                outcome=Outcome.NOT_STARTED,
                kind="fence_locked",
            )
        if found.sqlstate in NO_SCHEMA:
            return ConfigurationError(
                f"database {self._name!r} has no fence or no table of receipts that this role may "
                "use; run failstop schema apply, and grant what failstop schema sql --role names"
            )
        if receipt is None or receipt.is_automatic:
            return None
        return self._answer_for(receipt.key, found.kind, found.sqlstate)

    def _answer_for(self, key: str, kind: str, sqlstate: str | None) -> Exception | None:
        if kind == "constraint_violation":
            return IdempotencyConflictError(
                f"database {self._name!r}: the key {key!r} was used already, and its work is "
                "committed",
                key,
            )
        if sqlstate in WAITED:
            return KeyInFlightError(
                f"database {self._name!r}: the first transaction under the key {key!r} is still "
                "under way; ask again later",
                key,
            )
        return None


def _is_at_a_row(error: Exception) -> bool:
    """Say whether a wait was for another's row: then the server says in which context, else not."""
    diagnostics = getattr(error, "diag", error)  # psycopg, psycopg2; asyncpg's error itself
    while diagnostics is not None and not hasattr(diagnostics, "context"):
        diagnostics = diagnostics.__cause__
    return bool(getattr(diagnostics, "context", None))
