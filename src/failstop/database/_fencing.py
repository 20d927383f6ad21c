"""The fencing of one database: asks its fence, halts behind it and opens it again, in time.

Never here: SQL, which is in `_fence.py`, or what a halt means for the service.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from failstop._fence import WHOLE, FencedHalt, FenceRow
from failstop.database import _fence as fence
from failstop.database._deadline import unlimited
from failstop.diagnosis import diagnose
from failstop.errors import ConfigurationError, CriticalError

__all__ = ["Fencing"]

MARGIN = 1.0
"""Seconds after the deadline by which every transaction has ended that can still be ended."""


class Ask(Protocol):
    """Does work on a connection of the monitor's, within so many seconds."""

    def __call__(self, work: Callable[[Connection], Any], seconds: float) -> Any: ...


@dataclass(slots=True, eq=False, weakref_slot=True)
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
    _kept_at: float = field(default=0.0, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        _living.add(self)

    @property
    def is_fenced(self) -> bool:
        """True where transactions pass a fence."""
        return self.scope is not None and self.dialect == "postgresql"

    def look(self, connection: Connection) -> None:
        """See what the fence says."""
        if self.scope is not None and self.is_fenced:
            began = time.monotonic()
            self._keep(fence.read(connection, self.scope), began)

    def hear(self, rows: tuple[FenceRow, ...], began: float) -> FenceRow | None:
        """Take rows whose reading by another way has `began` then; return the halt that stands."""
        return next((row for row in self._keep(rows, began) if row.is_halted), None)

    def _keep(self, rows: tuple[FenceRow, ...], began: float) -> tuple[FenceRow, ...]:
        """Note what was read, where nothing newer is noted, and return what is noted then.

        A reset may overtake a probe, which its epoch tells; after a failover epochs may go back.
        """
        with self._lock:
            newest = {row.scope: row.epoch for row in self.rows or ()}
            is_later = self.rows is None or began > self._kept_at
            if is_later or all(row.epoch >= newest.get(row.scope, 0) for row in rows):
                self.rows, self._kept_at = rows, time.monotonic()
            return self.rows or ()

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
            scope: the whole, or the part that this service is of; another is not halted here.
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
        if scope not in (WHOLE, self.scope):
            text = f"it is not of scope {scope!r}, so only this host has stopped"
            return FencedHalt(self.name, False, text)
        self.abandon()
        work = self._halt if self.is_fenced else self._halt_file
        try:
            with unlimited():
                halted: FencedHalt = self.ask(lambda connection: work(connection, order), patience)
        except (CriticalError, ConfigurationError) as error:
            text = f"only this host has stopped, it failed ({_why(error)})"
            return FencedHalt(self.name, False, text)
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

    def reopen(
        self, *, actor: str, reason: str, incident_id: str, seen: tuple[FenceRow, ...] | None
    ) -> None:
        """Clear the halts among the rows `seen`; where that is None, those of the incident.

        Raises:
            ResetRefusedError: one of them was halted again since, or another halt stands.
            CriticalDatabaseError: the database does not answer.
        """

        def work(connection: Connection) -> tuple[FenceRow, ...]:
            assert self.scope is not None
            found = fence.read(connection, self.scope) if seen is None else seen
            connection.rollback()
            rows = [row for row in found if seen is not None or row.incident_id == incident_id]
            return fence.reopen(connection, rows, self.scope, actor=actor, reason=reason)

        if self.is_fenced:
            began = time.monotonic()
            self._keep(self.ask(work, self.deadline), began)


def _why(error: CriticalError | ConfigurationError) -> str:
    """Return the kind of what failed, with the server's own code where it has answered."""
    cause = error.__cause__
    found = diagnose(cause) if isinstance(cause, Exception) else None
    if found is None or found.sqlstate is None:
        return str(getattr(error, "kind", "configuration"))
    return f"{found.kind}, SQLSTATE {found.sqlstate}"


def _restart_in_child() -> None:
    for fencing in tuple(_living):
        fencing._lock = threading.Lock()  # noqa: SLF001 - the hook of this module's own class


_living: weakref.WeakSet[Fencing] = weakref.WeakSet()
os.register_at_fork(after_in_child=_restart_in_child)
