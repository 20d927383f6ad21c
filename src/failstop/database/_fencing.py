"""The fencing of one database: asks its fence, halts behind it and opens it again, in time.

Never here: SQL, which is in `_fence.py`, or what a halt means for the service.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from failstop._fence import FencedHalt, FenceRow
from failstop.database import _fence as fence
from failstop.errors import ConfigurationError, CriticalError

__all__ = ["Fencing"]

MARGIN = 1.0
"""Seconds after the deadline by which every transaction has ended that can still be ended."""


class Ask(Protocol):
    """Does work on a connection of the monitor's, within so many seconds."""

    def __call__(self, work: Callable[[Connection], Any], seconds: float) -> Any: ...


@dataclass(slots=True)
class Fencing:
    """The fence of one database.

    `rows` are those of its scopes as the monitor saw them last; None where it never has.

    Args:
        name: the database's.
        dialect: the kind of database, as SQLAlchemy spells it.
        scope: the part that this service is of; None where there is no fence.
        deadline: seconds for one call.
        ask: does work on a connection of the monitor's.
        abandon: ends the transactions of this process that are open.
    """

    name: str
    dialect: str
    scope: str | None
    deadline: float
    ask: Ask
    abandon: Callable[[], None]
    rows: tuple[FenceRow, ...] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def is_fenced(self) -> bool:
        """True where transactions pass a fence."""
        return self.scope is not None and self.dialect == "postgresql"

    def look(self, connection: Connection) -> None:
        """See what the fence says."""
        if self.scope is not None and self.is_fenced:
            self._keep(fence.read(connection, self.scope))

    def hear(self, rows: tuple[FenceRow, ...]) -> FenceRow | None:
        """Take rows that were read by another way; return the halt among them, if there is one."""
        self._keep(rows)
        return next((row for row in rows if row.is_halted), None)

    def _keep(self, rows: tuple[FenceRow, ...]) -> None:
        """Note what was read, where nothing newer is noted: a reset may overtake a probe."""
        with self._lock:
            newest = {row.scope: row.epoch for row in self.rows or ()}
            if all(row.epoch >= newest.get(row.scope, 0) for row in rows):
                self.rows = rows

    def forget(self) -> None:
        """Forget what was read, as a probe has failed."""
        with self._lock:
            self.rows = None

    def halt(
        self,
        *,
        scope: str,
        incident_id: str,
        actor: str,
        reason: str,
        seconds: float | None,
        terminate: bool,
    ) -> FencedHalt:
        """Halt `scope` on every host, and say what that came to; raises nothing of the database's.

        Args:
            scope: the whole, or the part that this service is of.
            incident_id: under which this host has stopped.
            actor: who halts.
            reason: why.
            seconds: how long the transactions that had begun are waited for; by default until
                their deadline is over.
            terminate: whether those left at half of that time are ended by force.
        """
        patience = self.deadline + MARGIN if seconds is None else seconds
        order = fence.Order(scope, incident_id, actor, reason, patience, terminate)
        if self.scope is None or self.dialect not in ("postgresql", "sqlite"):
            return FencedHalt(self.name, False, "it has no fence, so only this host has stopped")
        self.abandon()
        work = self._halt if self.is_fenced else self._halt_file
        try:
            halted: FencedHalt = self.ask(lambda connection: work(connection, order), patience)
        except (CriticalError, ConfigurationError) as error:
            kind = getattr(error, "kind", "configuration")
            return FencedHalt(self.name, False, f"only this host has stopped, it failed ({kind})")
        return halted

    def _halt(self, connection: Connection, order: fence.Order) -> FencedHalt:
        return fence.halt(connection, order, self.name)

    def _halt_file(self, connection: Connection, order: fence.Order) -> FencedHalt:
        """Wait for the one writer of a file that there may be; whoever comes next is stopped."""
        limit = time.monotonic() + order.seconds
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            except OperationalError:
                if time.monotonic() >= limit:
                    return FencedHalt(self.name, False, "a writer that had begun is still open")
            else:
                return FencedHalt(self.name, True, "no writer is left; one host is all it has")
            finally:
                connection.rollback()

    def reopen(self, *, actor: str, reason: str, seen: tuple[FenceRow, ...] | None) -> None:
        """Clear the halts among the rows `seen`; those that stand where that is None.

        Raises:
            ResetRefusedError: one of them was halted again since.
            CriticalDatabaseError: the database does not answer.
        """

        def work(connection: Connection) -> tuple[FenceRow, ...]:
            assert self.scope is not None
            rows = fence.read(connection, self.scope) if seen is None else seen
            connection.rollback()
            return fence.reopen(connection, rows, self.scope, actor=actor, reason=reason)

        if self.is_fenced:
            self._keep(self.ask(work, self.deadline))
