"""The guarded pool: asks the latch before it hands out anything, and keeps every wait in time.

No event of SQLAlchemy's tells of the pool's own timeout, and a pre-ping goes out before `checkout`
is told; so the engine's pool is made a guarded one of its own class, in place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import event
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry, Pool, PoolProxiedConnection

from failstop.database._deadline import current_limit
from failstop.database._line import Line
from failstop.diagnosis import Phase

if TYPE_CHECKING:
    from failstop.database._guard import Guard

__all__ = ["LINE", "GuardedPool", "guard_pool", "line_of"]

LINE = "failstop"
"""The key of a connection's line in its pool entry's `info`."""

SLICE = 0.25
"""Seconds after which whoever waits for a connection of an exhausted pool looks at the latch.

A trip cuts whoever holds one, so the waiting are freed sooner; this is for holders who do nothing.
Each look costs the place in the queue.
"""


PING_SHARE = 0.5
"""The share of a call's time that the ping of an idle connection may take before it is replaced."""


class Checkout(NamedTuple):
    """A checkout under way: its end (`time.monotonic()`), and whether it is the monitor's."""

    limit: float
    is_probe: bool


checkout: ContextVar[Checkout | None] = ContextVar("failstop_checkout", default=None)


def line_of(connection: Any) -> Line | None:
    """Return the line of a pooled connection, None where it was made before the guard."""
    entry = connection._connection_record  # noqa: SLF001 - an ad-hoc proxy has no `info`
    line: Line | None = None if entry is None else entry.info.get(LINE)
    return line


class GuardedPool(Pool):
    """What a guarded engine's pool adds to its own class."""

    guard: Guard
    is_probe: bool
    patience: float

    def connect(self) -> PoolProxiedConnection:
        """Hand out a connection, pinged and armed for no one else.

        Raises:
            OperationsSuspendedError: refused in fail-safe mode.
            CriticalDatabaseError: none could be had.
        """
        if not self.is_probe:
            self.guard.failsafe.require()
        limit = current_limit.get()
        now = time.monotonic()
        end = limit if limit is not None else now + self.guard.deadline
        if end <= now:
            raise self.guard.overdue("no connection was asked for")
        token = checkout.set(Checkout(end, self.is_probe))
        try:
            connection, line = self._connect_whole()
        except Exception as error:  # noqa: BLE001 - whatever it is, there is no connection
            self.guard.fail(error, Phase.CHECKOUT, is_probe=self.is_probe, given=end - now)
        finally:
            checkout.reset(token)
        line.limit = limit
        return connection

    def _connect_whole(self) -> tuple[PoolProxiedConnection, Line]:
        """Check out until the ping's answer was not overtaken by its own time."""
        while True:
            connection = super().connect()
            line = line_of(connection)
            assert line is not None
            if line.hand_over():
                return connection, line
            connection.invalidate()

    def _do_get(self) -> ConnectionPoolEntry:
        entry = self._wait_for_entry()
        line: Line | None = entry.info.get(LINE)
        under_way = checkout.get()
        if line is None or line.is_severed or line.generation != self.guard.generation:
            entry.invalidate()
        elif under_way is not None and entry.dbapi_connection is not None:
            now = time.monotonic()
            line.arm(now + PING_SHARE * (under_way.limit - now))
        return entry

    def _wait_for_entry(self) -> ConnectionPoolEntry:
        """Wait in slices: a trip frees whoever waits, though no connection comes back."""
        under_way = checkout.get()
        end = time.monotonic() + self.patience
        if under_way is not None:
            end = min(end, under_way.limit)
        while True:
            try:
                return super()._do_get()
            except PoolTimeoutError:
                if not self.is_probe:
                    self.guard.failsafe.require()
                if time.monotonic() >= end:
                    raise

    def _should_wrap_creator(self, creator: Any) -> Callable[[ConnectionPoolEntry], Any]:
        create = super()._should_wrap_creator(creator)
        return lambda entry: self.guard.connect(create, entry)


def guard_pool(pool: Pool, guard: Guard, *, is_probe: bool) -> None:
    """Make `pool` a guarded one of its own kind; `Pool.recreate()` keeps the class."""
    kind = type(pool)
    patience = getattr(pool, "_timeout", 0.0)
    facts = {"guard": guard, "is_probe": is_probe, "patience": patience}
    pool.__class__ = type(f"Guarded{kind.__name__}", (GuardedPool, kind), facts)
    if hasattr(pool, "_timeout"):
        pool._timeout = SLICE  # noqa: SLF001 - see _wait_for_entry
    pool._creator = pool._creator_arg  # noqa: SLF001 - wraps it anew
    event.listen(pool, "checkin", _on_checkin)
    event.listen(pool, "invalidate", _on_invalidate)
    event.listen(pool, "close", _on_close)


def _on_checkin(dbapi_connection: object, entry: ConnectionPoolEntry) -> None:
    line: Line | None = entry.info.get(LINE)
    if line is not None:
        line.rest()
        if line.is_severed:
            entry.invalidate()


def _on_invalidate(dbapi_connection: object, entry: ConnectionPoolEntry, _: object) -> None:
    _release(entry, is_broken=True)


def _on_close(dbapi_connection: object, entry: ConnectionPoolEntry) -> None:
    _release(entry, is_broken=False)


def _release(entry: ConnectionPoolEntry, *, is_broken: bool) -> None:
    line: Line | None = entry.info.get(LINE)
    if line is not None:
        line.release(is_broken=is_broken)
