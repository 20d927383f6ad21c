"""The question: what became of a transaction whose COMMIT got no answer.

A tombstone, a row under the receipt's key, is inserted and rolled back again. Its INSERT waits for
the original to end, and then tells: a conflict proves that the original committed, a row of its
own that it did not. It never can any more, because its receipt came first, in its BEGIN. Reading
the receipt, or asking for the status of the transaction's number, would not wait, and may lie.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from failstop.errors import Outcome
from failstop.events import InDoubt

__all__ = ["WAITED", "put_question"]

TOMBSTONE = text("INSERT INTO failstop.receipt (key, service) VALUES (:key, :service)")

IS_PRUNED = text("SELECT EXISTS (SELECT FROM failstop.horizon WHERE pruned_before >= :since)")

TERMINATE = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = :pid "
    "AND usename = current_user AND pid <> pg_backend_pid() "
    "AND backend_start <= clock_timestamp() - make_interval(secs => :age)"
)

CONFLICT = "23505"
WAITED = ("55P03", "57014")
"""SQLSTATEs of a wait that the server ended: lock_not_available, query_canceled."""

SHARE = 0.4
"""The share of the time for each of two questions: before and after the original is ended."""


def put_question(
    connection: Connection,
    doubt: InDoubt,
    service: str,
    sqlstate_of: Callable[[Exception], str | None],
    *,
    seconds: float,
) -> Outcome:
    """Return what became of a transaction; UNKNOWN where its end cannot be waited for.

    Args:
        connection: to the database, in no transaction.
        doubt: the transaction.
        service: who asks.
        sqlstate_of: tells the SQLSTATE of an error.
        seconds: how long it may take. An original that hangs past half of it is ended, by the
            number of its process and when that began.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database does not answer, or takes no writes.
    """
    outcome = _insert(connection, doubt, service, sqlstate_of, SHARE * seconds)
    if outcome is Outcome.UNKNOWN and _terminate(connection, doubt):
        outcome = _insert(connection, doubt, service, sqlstate_of, SHARE * seconds)
    return outcome


def _insert(
    connection: Connection,
    doubt: InDoubt,
    service: str,
    sqlstate_of: Callable[[Exception], str | None],
    seconds: float,
) -> Outcome:
    try:
        milliseconds = max(1, math.floor(1000 * seconds))
        connection.execute(text(f"SET LOCAL lock_timeout = {milliseconds}"))
        connection.execute(TOMBSTONE, {"key": doubt.key, "service": service})
    except SQLAlchemyError as error:
        sqlstate = sqlstate_of(error)
        if sqlstate == CONFLICT:
            return Outcome.COMMITTED
        if sqlstate in WAITED:
            return Outcome.UNKNOWN
        raise
    else:
        is_pruned = connection.execute(IS_PRUNED, {"since": doubt.since}).scalar_one()
        return Outcome.UNKNOWN if is_pruned else Outcome.ROLLED_BACK
    finally:
        connection.rollback()


def _terminate(connection: Connection, doubt: InDoubt) -> bool:
    """End the server's process that still holds the original, where it may be; say whether.

    One that began after the COMMIT was sent is another's that got the same number.
    """
    if doubt.backend_pid is None:
        return False
    age = (datetime.now(UTC) - doubt.since).total_seconds()
    rows = connection.execute(TERMINATE, {"pid": doubt.backend_pid, "age": max(0.0, age)}).all()
    connection.rollback()
    return any(ended for (ended,) in rows)
