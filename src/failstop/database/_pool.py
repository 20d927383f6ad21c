"""The guarded pool: asks the latch before it hands out anything, and keeps every wait in time.

No event of SQLAlchemy's tells of the pool's own timeout, and a pre-ping goes out before `checkout`
is told; so the engine's pool is made a guarded one of its own class, in place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sqlalchemy import event
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry, Pool, PoolProxiedConnection, QueuePool

from failstop.database._deadline import current_limit
from failstop.database._line import Line
from failstop.database._queue import Empty, FairQueue, Released
from failstop.diagnosis import Phase
from failstop.errors import Outcome

if TYPE_CHECKING:
    from failstop.database._guard import Guard

__all__ = ["LINE", "GuardedPool", "guard_pool", "line_of"]

LINE = "failstop"
"""The key of a connection's line in its pool entry's `info`."""

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
        entry = self._free_entry()
        line: Line | None = entry.info.get(LINE)
        under_way = checkout.get()
        if line is None or line.is_severed or line.generation != self.guard.generation:
            entry.invalidate()
        elif under_way is not None and entry.dbapi_connection is not None:
            now = time.monotonic()
            line.arm(now + PING_SHARE * (under_way.limit - now))
        return entry

    def _free_entry(self) -> ConnectionPoolEntry:
        return super()._do_get()

    def _should_wrap_creator(self, creator: Any) -> Callable[[ConnectionPoolEntry], Any]:
        create = super()._should_wrap_creator(creator)
        return lambda entry: self.guard.connect(create, entry)


class QueuedPool(GuardedPool, QueuePool):
    """What a guarded engine's pool adds to its own class where callers may have to wait."""

    _pool: FairQueue

    def recreate(self) -> QueuePool:
        """Return a new pool of this one's kind and guard."""
        pool = super().recreate()
        assert isinstance(pool, QueuedPool)
        pool.queue_fairly()
        return pool

    def queue_fairly(self) -> None:
        """Put a fair queue in the place of SQLAlchemy's own."""
        self._pool = FairQueue(self)
        self.guard.add_queue(self._pool, is_probe=self.is_probe)

    def dispose(self) -> None:
        """Close the idle connections, and let whoever waits make one of their own."""
        super().dispose()
        self._pool.serve()

    def _free_entry(self) -> ConnectionPoolEntry:
        """Wait for an entry, or the room for one, in turn and in time."""
        try:
            entry = self._pool.take(self._patience(), self._require)
        except Empty:
            raise self._exhausted() from None
        except Released:
            self._require()  # refused also where it was closed
            raise self.guard.suspended(Outcome.NOT_STARTED) from None
        return self._new_entry() if entry is None else entry

    def _patience(self) -> float:
        """Return the seconds that a caller may wait: the pool's own, within the call's."""
        under_way = checkout.get()
        left = under_way.limit - time.monotonic() if under_way else self.guard.deadline
        patience: Any = self._timeout  # None waits for ever, though SQLAlchemy's types say float
        return left if patience is None else min(left, patience)

    def _require(self) -> None:
        if not self.is_probe:
            self.guard.failsafe.require()

    def _exhausted(self) -> PoolTimeoutError:
        size, overflow = self.size(), self._max_overflow
        return PoolTimeoutError(
            f"all connections of the pool (size {size}, overflow {overflow}) stayed in use; "
            "none came free in time",
            code="3o7r",
        )

    def _new_entry(self) -> ConnectionPoolEntry:
        """Make an entry in the room that was given, and give the room back where that fails."""
        try:
            return self._create_connection()
        except BaseException:
            self._dec_overflow()
            raise

    def _dec_overflow(self) -> Literal[True]:
        self._pool.vacate()
        return True


def guard_pool(pool: Pool, guard: Guard, *, is_probe: bool) -> None:
    """Make `pool` a guarded one of its own kind; `Pool.recreate()` keeps the class."""
    kind = type(pool)
    ours = QueuedPool if isinstance(pool, QueuePool) else GuardedPool
    facts = {"guard": guard, "is_probe": is_probe}
    pool.__class__ = type(f"Guarded{kind.__name__}", (ours, kind), facts)
    if isinstance(pool, QueuedPool):
        pool.queue_fairly()
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
