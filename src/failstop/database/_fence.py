"""The fence in the database: what makes a halt exact.

Every guarded transaction that may write holds ROW SHARE on the table, and reads its scopes' rows
after it has that lock: LOCK TABLE takes no snapshot, so the rows are seen as of then, at every
isolation level. A halt first commits its row, and then waits until every transaction is gone that
held the lock when the row was committed. Whoever takes the lock later reads the row. So nobody ever
waits for a halt, and the halt is in force even where one straggler outlasts it.

Never here: what a halt means for this process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Connection

from failstop._fence import FencedHalt, FenceRow, Straggler
from failstop._redaction import redact
from failstop.errors import ResetRefusedError

__all__ = [
    "CHANNEL",
    "LOCK",
    "NO_FENCE",
    "Order",
    "halt",
    "halts_literal",
    "read",
    "reopen",
    "rows_literal",
    "rows_of",
]

CHANNEL = "failstop"
"""The channel on which the database tells of halts and resets."""

LOCK = "LOCK TABLE failstop.fence IN ROW SHARE MODE"
NO_FENCE = "SELECT 1 WHERE false"
"""What a transaction reads in the place of the fence where that does not hold it."""

COLUMNS = "scope, epoch, is_halted, incident_id, actor, reason, changed_at"

PLAIN = text("SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE")

READ = text(f"SELECT {COLUMNS} FROM failstop.fence WHERE scope IN ('', :scope) ORDER BY scope")  # noqa: S608 - no value in it

HALT = text(
    "INSERT INTO failstop.fence AS fence (scope, epoch, is_halted, incident_id, actor, reason) "
    "VALUES (:scope, 1, true, :incident_id, :actor, :reason) "
    "ON CONFLICT (scope) DO UPDATE SET epoch = fence.epoch + 1, is_halted = true, "
    "incident_id = CASE WHEN fence.is_halted THEN fence.incident_id ELSE excluded.incident_id END, "
    "actor = CASE WHEN fence.is_halted THEN fence.actor ELSE excluded.actor END, "
    "reason = CASE WHEN fence.is_halted THEN fence.reason ELSE excluded.reason END, "
    "changed_at = CASE WHEN fence.is_halted THEN fence.changed_at ELSE now() END "
    "RETURNING epoch, incident_id"
)

REOPEN = text(
    "UPDATE failstop.fence SET epoch = epoch + 1, is_halted = false, actor = :actor, "
    "reason = :reason, changed_at = now() "
    "WHERE scope = :scope AND epoch = :epoch AND is_halted RETURNING epoch, incident_id"
)

NOTIFY = text("SELECT pg_notify(:channel, :payload)")

_HELD = (
    "FROM pg_locks AS held LEFT JOIN pg_stat_activity AS activity ON activity.pid = held.pid "
    "WHERE held.locktype = 'relation' AND held.relation = CAST('failstop.fence' AS regclass) "
    "AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND held.mode = 'RowShareLock' AND held.granted"
)
_LEFT = f"{_HELD} AND held.virtualtransaction = ANY (CAST(:left AS text[]))"

HOLDERS = text(f"SELECT DISTINCT held.virtualtransaction {_HELD}")

STRAGGLERS = text(
    "SELECT held.pid, activity.application_name, "  # noqa: S608 - no value in it
    f"extract(epoch FROM clock_timestamp() - activity.xact_start) {_LEFT} ORDER BY 3 DESC"
)

TERMINATE = text(
    f"SELECT pg_terminate_backend(held.pid) {_LEFT} AND pg_has_role(activity.usesysid, 'MEMBER')"
)

POLL = 0.005
"""Seconds between two looks at who still holds the lock."""

PATIENCE_SHARE = 0.5
"""The share of the time that stragglers get before they are ended by force."""


def halts_literal(scope: str) -> str:
    """Return the statement, without parameters, that gives a row for each halt of `scope`."""
    return f"SELECT 1 FROM failstop.fence WHERE is_halted AND {_scopes(scope)}"  # noqa: S608 - a scope has no quote


def rows_literal(scope: str) -> str:
    """Return the statement, without parameters, that reads the rows of `scope`."""
    return f"SELECT {COLUMNS} FROM failstop.fence WHERE {_scopes(scope)} ORDER BY scope"  # noqa: S608 - a scope has no quote


def _scopes(scope: str) -> str:
    return f"scope IN ('', '{scope}')" if scope else "scope = ''"


def read(connection: Connection, scope: str) -> tuple[FenceRow, ...]:
    """Return the rows of `scope` and of the whole, which comes first; those that exist."""
    return rows_of(connection.execute(READ, {"scope": scope}))


def rows_of(found: Iterable[Sequence[Any]]) -> tuple[FenceRow, ...]:
    """Return what was read as rows without a secret, for one may be written by hand too."""
    return tuple(
        replace(
            row,
            incident_id=redact(row.incident_id),
            actor=redact(row.actor),
            reason=redact(row.reason),
        )
        for row in (FenceRow(*each) for each in found)
    )


@dataclass(frozen=True, slots=True)
class Order:
    """A halt that a person has ordered.

    Args:
        scope: the row; the whole, or a part.
        incident_id: under which this host has stopped.
        actor: who ordered it.
        reason: why.
        seconds: how long the transactions before it are waited for.
        terminate: whether those that are left at half of that time are ended by force.
    """

    scope: str
    incident_id: str
    actor: str
    reason: str
    seconds: float
    terminate: bool


def halt(connection: Connection, order: Order, name: str) -> FencedHalt:
    """Write the halt and commit it; then wait for who had begun before.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database does not answer, or takes no writes.
    """
    limit = time.monotonic() + order.seconds
    connection.execute(PLAIN)
    facts = {"scope": order.scope, "incident_id": order.incident_id}
    said = {"actor": order.actor, "reason": order.reason}
    epoch, incident_id = connection.execute(HALT, facts | said).one()
    _tell(connection, order.scope, epoch, "halt", incident_id)
    connection.commit()
    try:
        left, terminated = _wait(connection, order, limit)
        stragglers = _describe(connection, left)
    finally:
        connection.rollback()
    detail = _said(stragglers, terminated)
    return FencedHalt(name, not stragglers, detail, epoch, stragglers, terminated)


def _wait(connection: Connection, order: Order, limit: float) -> tuple[set[str], int]:
    """Wait for who holds the lock now, until `limit`; return who is left, and how many were ended.

    A transaction is told by the number that no other ever gets while the server runs.
    """
    left, terminated = _holders(connection), 0
    force_at = limit - (1 - PATIENCE_SHARE) * order.seconds
    while left and time.monotonic() < limit:
        if order.terminate and not terminated and time.monotonic() >= force_at:
            rows = connection.execute(TERMINATE, {"left": sorted(left)}).all()
            terminated = sum(bool(ended) for (ended,) in rows)
            force_at = limit
        time.sleep(POLL)
        left &= _holders(connection)
    return left, terminated


def _holders(connection: Connection) -> set[str]:
    return {str(number) for (number,) in connection.execute(HOLDERS)}


def _describe(connection: Connection, left: set[str]) -> tuple[Straggler, ...]:
    rows = connection.execute(STRAGGLERS, {"left": sorted(left)}) if left else ()
    return tuple(
        Straggler(pid, service or None, None if age is None else float(age))
        for pid, service, age in rows
    )


def _said(stragglers: Iterable[Straggler], terminated: int) -> str:
    ended = f"{terminated} ended by force; " if terminated else ""
    left = "; ".join(map(str, stragglers))
    if not left:
        return f"{ended}no guarded transaction commits any more, on any host"
    return (
        f"{ended}no further transaction can commit, but those that had begun before and are still "
        f"open: {left}"
    )


def reopen(
    connection: Connection, seen: Iterable[FenceRow], scope: str, *, actor: str, reason: str
) -> tuple[FenceRow, ...]:
    """Clear the halts among the rows `seen`, all or none, and return the rows after that.

    Raises:
        ResetRefusedError: one of them was halted again since.
        sqlalchemy.exc.SQLAlchemyError: the database does not answer, or takes no writes.
    """
    connection.execute(PLAIN)
    for row in seen:
        if row.is_halted:
            said = {"actor": actor, "reason": reason}
            where = {"scope": row.scope, "epoch": row.epoch}
            done = connection.execute(REOPEN, said | where).one_or_none()
            if done is not None:
                _tell(connection, row.scope, done.epoch, "reset", done.incident_id)
    rows = read(connection, scope)
    if any(row.is_halted for row in rows):
        connection.rollback()
        raise ResetRefusedError(
            f"a newer halt stands: {next(row for row in rows if row.is_halted)}", ("fence",)
        )
    connection.commit()
    return rows


def _tell(connection: Connection, scope: str, epoch: int, kind: str, incident_id: str) -> None:
    facts = {"scope": scope, "epoch": epoch, "kind": kind, "incident": incident_id}
    told = {"channel": CHANNEL, "payload": json.dumps(facts)}
    connection.execute(NOTIFY, told)
