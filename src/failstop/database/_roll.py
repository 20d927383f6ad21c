"""The roll: a row in the database for each process that is there, with when it was last heard of.

Whoever probes writes the rows of all processes of its host, takes out those that went in order, and
those of anyone who was not heard of for a day. Never here: what a silent process means.
"""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.engine import Connection

from failstop._attendance import Attendance

__all__ = ["Process", "Roll", "call_roll"]

KEPT = timedelta(days=1)
"""How long a process that is heard of no more stays on the roll."""

ENROL = text(
    "INSERT INTO failstop.process AS process "
    "(id, host, pid, service, version, scope, state, epoch, patience) "
    "VALUES (:id, :host, :pid, :service, :version, :scope, :state, :epoch, :patience) "
    "ON CONFLICT (id) DO UPDATE SET state = excluded.state, epoch = excluded.epoch, "
    "seen_at = now()"
)
FORGET = text(
    "DELETE FROM failstop.process "
    "WHERE seen_at < now() - make_interval(secs => CAST(:kept AS float8))"
)
LEAVE = text("DELETE FROM failstop.process WHERE id = :id")
ROLL = text(
    "SELECT service, scope, host, pid, version, state, epoch, patience, seen_at, "
    "greatest(0, extract(epoch FROM clock_timestamp() - seen_at))::float8 "
    "FROM failstop.process ORDER BY service, scope, host, pid, seen_at"
)


@dataclass(frozen=True, slots=True)
class Process:
    """A process on the roll; `age` is how many seconds ago it was heard of, by the server's clock.

    `scope` is empty for the whole, `version` is failstop's there, `state` and `epoch` are those of
    its host, and `patience` is the number of seconds within which it would have been heard of.
    """

    service: str
    scope: str
    host: str
    pid: int
    version: str
    state: str
    epoch: int
    patience: float
    seen_at: datetime
    age: float

    @property
    def is_silent(self) -> bool:
        """True where the process has died, hangs, or does not reach the database."""
        return self.age > self.patience


class Roll:
    """The rows that one process writes: its own, and those of its host's others.

    Args:
        service: the service's name.
        scope: the scope of the fence that holds it.
        patience: seconds after which the silence of a process is a sign.
    """

    def __init__(self, service: str, scope: str, patience: float) -> None:
        self._facts = {"service": service, "scope": scope, "patience": patience}
        self._written: frozenset[str] = frozenset()

    def write(
        self, connection: Connection, attendance: Attendance, *, state: str, epoch: int
    ) -> None:
        """Write who is there; the transaction is the caller's to commit."""
        there, killed = attendance.look()
        if not self._written:
            connection.execute(FORGET, {"kept": KEPT.total_seconds()})
        now = {**self._facts, "host": socket.gethostname(), "state": state, "epoch": epoch}
        rows = sorted(({**asdict(each), **now} for each in there), key=lambda row: str(row["id"]))
        connection.execute(ENROL, rows)
        ids = frozenset(each.id for each in there)
        for gone in self._written - ids - killed:
            connection.execute(LEAVE, {"id": gone})
        self._written = ids

    def departure(self, attendance: Attendance) -> bytes:
        """Return the statement that takes off the roll this process, and who went before it."""
        there, killed = attendance.look()
        left = self._written - {each.id for each in there} - killed | {attendance.me.id}
        ids = ", ".join(f"'{each}'" for each in sorted(left))  # our own digits
        return f"DELETE FROM failstop.process WHERE id IN ({ids})".encode()  # noqa: S608 - see above


def call_roll(connection: Connection) -> tuple[Process, ...]:
    """Return every process on the roll."""
    return tuple(Process(*row) for row in connection.execute(ROLL))
