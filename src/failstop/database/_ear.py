"""The ear: one connection of psycopg's that listens, whatever driver the service uses.

What arrives says only that something was told: a payload is never believed, for anyone who can
connect may notify. Every wait for the server is bounded by the watchdog, and a wait for what is
told can be ended by `wake()`. Never here: when to connect, or what a fence's rows mean.
"""

from __future__ import annotations

import contextlib
import math
import selectors
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from failstop._fence import FenceRow
from failstop._watchdog import Watchdog
from failstop.database._fence import CHANNEL, rows_literal, rows_of
from failstop.database._line import Line

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["Ear", "connect"]

LEAST_PAUSE = 0.005
"""Seconds between two reads of the fence, however much is told."""

LEAVING = 1.0
"""Seconds that the server has for the last statement."""


def connect(
    parameters: Mapping[str, str], application_name: str, deadline: float
) -> Connection[Any]:
    """Connect with libpq's `parameters`; how long that takes is the caller's affair.

    A peer that is gone is noticed after `deadline` seconds and a few more, where nothing else
    notices it sooner.

    Raises:
        psycopg.Error: it cannot be made.
    """
    import psycopg

    seconds = math.ceil(deadline)
    alive = {"keepalives": 1, "keepalives_interval": 1, "keepalives_count": 3}
    limits = {"keepalives_idle": seconds, "tcp_user_timeout": 1000 * seconds}
    settings: Any = alive | limits | dict(parameters) | {"application_name": application_name}
    return psycopg.connect(**settings, autocommit=True, prepare_threshold=None)


class Ear:
    """Listen with `connection` on the channel of all, and on `channel`, which is nobody else's.

    Args:
        connection: an idle one; the ear closes it.
        watchdog: what ends waits for the server.
        channel: the listener's own.
        scope: whose rows of the fence are read.
        deadline: seconds for a statement.

    Raises:
        psycopg.Error: the server refuses, or does not answer.
    """

    def __init__(
        self,
        connection: Connection[Any],
        watchdog: Watchdog,
        *,
        channel: str,
        scope: str,
        deadline: float,
    ) -> None:
        self._connection = connection
        self._line = Line(watchdog, connection, "psycopg", generation=0, is_probe=True)
        self._channel = channel.encode()
        self._rows = rows_literal(scope).encode()
        self._deadline = deadline
        self._read_at = time.monotonic()
        self._last = b""
        self._is_told = True
        self._bell, self._hand = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(connection.fileno(), selectors.EVENT_READ)
        self._selector.register(self._bell, selectors.EVENT_READ)
        connection.add_notify_handler(
            lambda notice: self._take(notice.channel.encode(), notice.payload.encode())
        )
        try:
            self._execute(f'LISTEN "{CHANNEL}"; LISTEN "{channel}"'.encode())
        except BaseException:
            self.close()
            raise

    def _execute(self, statement: bytes) -> Any:
        """Run a statement; a server that does not answer in time is cut off."""
        self._line.arm(time.monotonic() + self._deadline)
        try:
            return self._connection.execute(statement)
        finally:
            self._line.due = None

    def read(self) -> tuple[FenceRow, ...]:
        """Return what the fence says now.

        Raises:
            psycopg.Error: it cannot be read.
        """
        self._is_told = False
        self._read_at = time.monotonic()
        return rows_of(self._execute(self._rows).fetchall())

    def say_last(self, statement: bytes) -> None:
        """Run the last statement, for which the server has a moment only.

        Raises:
            psycopg.Error: the server refuses, or does not answer.
        """
        self._deadline = min(self._deadline, LEAVING)
        self._execute(statement)

    @property
    def last(self) -> bytes:
        """The payload that came last on the own channel."""
        return self._last

    def wait(self, seconds: float) -> bool:
        """Wait until something is told, `wake()` is called or time is up; say whether it was told.

        Raises:
            psycopg.Error: the connection is lost.
        """
        self._drain()
        if not self._is_told:
            for key, _ in self._selector.select(seconds):
                if key.fileobj is self._bell:
                    self._bell.recv(4096)
                else:
                    self._consume()
        if self._is_told:
            time.sleep(max(0.0, self._read_at + LEAST_PAUSE - time.monotonic()))
        return self._is_told

    def _consume(self) -> None:
        self._connection.pgconn.consume_input()
        self._drain()

    def _drain(self) -> None:
        """Take what libpq has read already, maybe with the answer to a statement."""
        while (notice := self._connection.pgconn.notifies()) is not None:
            self._take(notice.relname, notice.extra)

    def _take(self, channel: bytes, payload: bytes) -> None:
        self._is_told = True
        if channel == self._channel:
            self._last = payload

    def wake(self) -> None:
        """End the wait that is under way, or the next one; for another thread."""
        with contextlib.suppress(OSError):  # closed meanwhile
            self._hand.send(b"\0")

    def close(self) -> None:
        """Give everything back; waits for no server."""
        self._selector.close()
        self._line.release(is_broken=False)
        self._connection.close()
        self._bell.close()
        self._hand.close()
