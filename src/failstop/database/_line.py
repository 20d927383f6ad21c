"""The line: what the guard keeps of one driver connection, and the way to end its waits.

A line is armed while the driver waits for the server. When it expires, or at a trip, it is cut: the
socket is shut down, and the driver comes back with an error at once. A line owns a duplicate of
the descriptor, so it can never touch a descriptor that was closed and used again by another file.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Any

from failstop._watchdog import Timer, Watchdog
from failstop.counts import Deadline
from failstop.database._deadline import GRACE
from failstop.database._receipts import NONE
from failstop.database._tallies import Tallies
from failstop.database._transaction import Transaction
from failstop.errors import ConfigurationError

__all__ = ["Cut", "Line", "require_known_driver"]

COMMIT_GRACE = 0.025
"""Seconds a COMMIT or ROLLBACK under way gets at a trip: an answer is worth more than a doubt."""


class Cut(Enum):
    """Why a line was cut."""

    DEADLINE = "deadline"
    TRIP = "trip"


class Line(Timer):
    """One driver connection of a guarded engine.

    Args:
        watchdog: what ends this line's waits.
        driver_connection: the driver's own connection object.
        driver: SQLAlchemy's name of the driver.
        generation: the guard's number of trips when the connection was asked for.
        is_probe: whether it is the monitor's, which no trip cuts.
        tallies: where its operations are counted, None where they are not.

    `limit` is the end of the call that has checked the connection out, None where it has none;
    `time_told` the seconds for which the server was last told to let a statement run.
    `opening` is the receipt that whoever holds the connection asks for in its next transaction.
    `is_reduced` is true where the last COMMIT gave up waiting for its standby.
    `is_severed` is true once the line was cut in a way that leaves the connection useless;
    `is_thrown_away` once the guard gave it up without a sign of an outage; `may_be_busy` while the
    server may work longer than it was told: on many statements at once, or for a slow reader.
    """

    __slots__ = (
        "__weakref__",
        "_end",
        "_ending",
        "_is_leaving",
        "_lock",
        "_owner",
        "_tallies",
        "cut",
        "generation",
        "is_probe",
        "is_reduced",
        "is_severed",
        "is_thrown_away",
        "limit",
        "may_be_busy",
        "opening",
        "time_told",
        "transaction",
    )

    def __init__(
        self,
        watchdog: Watchdog,
        driver_connection: Any,
        driver: str,
        *,
        generation: int,
        is_probe: bool,
        tallies: Tallies | None = None,
    ) -> None:
        super().__init__(watchdog)
        self._tallies = tallies
        self.generation = generation
        self.is_probe = is_probe
        self.cut: Cut | None = None
        self.is_severed = False
        self.is_thrown_away = False
        self.may_be_busy = False
        self.is_reduced = False
        self.limit: float | None = None
        self.time_told = 0.0
        self.transaction: Transaction | None = None
        self.opening = NONE
        self._ending = Cut.DEADLINE
        self._is_leaving = False
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._end: _SocketEnd | _InterruptEnd | None = _ENDS[driver](driver_connection)

    def reduce(self) -> None:
        """Note that the COMMIT under way is less durable than the server was told to make it."""
        self.is_reduced = True

    @property
    def is_foreign(self) -> bool:
        """True in a forked child, for a connection of its parent."""
        return self._owner != os.getpid()

    def expire(self, now: float) -> None:
        """Cut the line where it is still armed."""
        with self._lock:
            due = self.due
            if due is not None and due <= now:
                self._sever(self._ending)
                if self._is_leaving:
                    self._close()
                elif self._tallies is not None and self.cut is Cut.DEADLINE:
                    self._tallies.late(Deadline.WATCHDOG)

    def abort(self) -> None:
        """End what is under way because of a trip; a COMMIT is given a moment for its answer."""
        with self._lock:
            due = self.due
            if due is None or self.is_probe:
                return
            transaction = self.transaction
            if transaction is None or not transaction.is_ending:
                self._sever(Cut.TRIP)
                return
            self._ending = Cut.TRIP
            self.arm(min(due, time.monotonic() + COMMIT_GRACE))

    def abandon(self) -> None:
        """Cut a transaction that is open after a trip, also where nobody waits for its server.

        One whose COMMIT or ROLLBACK is under way is left to its end.
        """
        with self._lock:
            transaction = self.transaction
            is_over = transaction is None or not transaction.is_open or transaction.is_ending
            if not is_over and not self.is_probe and isinstance(self._end, _SocketEnd):
                self._sever(Cut.TRIP)

    def follow(self, transaction: Transaction | None) -> None:
        """Turn to the next transaction; what became of the last one changes no more."""
        if self.transaction is not None:
            self.transaction.is_open = False
            if self._tallies is not None:
                self._tallies.end(self.transaction)
        self.transaction = transaction

    def hand_over(self) -> bool:
        """Disarm for whoever has asked for the connection; False where it was cut at the last.

        A ping's answer that came with the cut is no silence, as in `answered()`.
        """
        self.answered(None)
        return not self.is_severed

    def answered(self, before: float | None) -> None:
        """Put back what was due before; an answer that came with the cut is no silence."""
        with self._lock:
            self.due = before
            if self.is_severed:
                self.is_thrown_away = True

    def rest(self) -> None:
        """Disarm: from the return of this call on the watchdog leaves the connection alone."""
        with self._lock:
            self.due = None
            self.limit = None
            self.opening = NONE
            self.follow(None)
            self._ending = Cut.DEADLINE
            self.may_be_busy = False
            if not self.is_severed:
                self.cut = None  # an interrupted statement is no sign of the next one

    def release(self, *, is_broken: bool) -> None:
        """Give the descriptor back, as the driver closes its connection.

        Args:
            is_broken: whether to shut the socket down, so that no driver waits for a farewell.
        """
        with self._lock:
            end = self._end
            if isinstance(end, _SocketEnd) and end.waits_at_close and not is_broken:
                self._ending = Cut.DEADLINE
                self._is_leaving = True
                self.arm(time.monotonic() + GRACE)
                return
            if end is not None and is_broken and not self.is_severed and not self.is_foreign:
                end.cut()
            self.due = None
            self._close()

    def _sever(self, why: Cut) -> None:
        """Cut, with the lock held; in a forked child the connection is the parent's."""
        self.due = None
        if self._end is not None and not self.is_foreign:
            self.cut = why
            self.is_severed = isinstance(self._end, _SocketEnd)
            self._end.cut()

    def _close(self) -> None:
        end, self._end = self._end, None
        if end is not None:
            end.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # __init__ did not get so far
            self._close()


class _SocketEnd:
    """The way to end the waits of a driver that speaks over a socket."""

    __slots__ = ("_socket", "waits_at_close")

    def __init__(self, descriptor: int, *, waits_at_close: bool = False) -> None:
        self._socket = socket.socket(fileno=os.dup(descriptor))
        self.waits_at_close = waits_at_close

    def cut(self) -> None:
        with contextlib.suppress(OSError):  # the peer has hung up already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()


class _InterruptEnd:
    """The way to end the statements of SQLite: `sqlite3.Connection.interrupt()`, any thread's."""

    __slots__ = ("_interrupt",)

    def __init__(self, interrupt: Callable[[], object]) -> None:
        self._interrupt = interrupt

    def cut(self) -> None:
        with contextlib.suppress(Exception):  # it was closed already: nothing is under way
            self._interrupt()

    def close(self) -> None:
        self._interrupt = _nothing


def _nothing() -> None:
    """Interrupt nothing: the connection is closed."""


def _libpq(connection: Any) -> _SocketEnd:
    return _SocketEnd(connection.fileno())


def _asyncpg(connection: Any) -> _SocketEnd:
    transport = connection._transport  # noqa: SLF001 - asyncpg has no public way to its socket
    return _SocketEnd(transport.get_extra_info("socket").fileno(), waits_at_close=True)


def _sqlite(connection: Any) -> _InterruptEnd:
    return _InterruptEnd(connection.interrupt)


def _aiosqlite(connection: Any) -> _InterruptEnd:
    return _InterruptEnd(connection._conn.interrupt)  # noqa: SLF001 - its own interrupt() is async


_ENDS: dict[str, Callable[[Any], _SocketEnd | _InterruptEnd]] = {
    "psycopg": _libpq,
    "psycopg_async": _libpq,
    "psycopg2": _libpq,
    "asyncpg": _asyncpg,
    "pysqlite": _sqlite,
    "aiosqlite": _aiosqlite,
}


def require_known_driver(driver: str) -> None:
    """Refuse a driver whose waits cannot be ended.

    Raises:
        ConfigurationError: it is none of those that are supported.
    """
    if driver not in _ENDS:
        raise ConfigurationError(
            f"the driver {driver!r} is not supported: no way is known to end its waits at the "
            f"deadline; use one of {', '.join(sorted(_ENDS))}"
        )
