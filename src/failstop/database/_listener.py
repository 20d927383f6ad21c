"""The listener: one thread that hears when a database's fence changes, and proves that it hears.

Notifications may stop without a sign: behind a pooler that shares server connections, on a
connection that is open at one end only, in a thread that is gone. So each probe has the database
notify this listener, on another connection than the one that listens, and that echo must come back
within two intervals; until the fence was read after it, it does not count as heard.

Whoever is probed listens: of the processes of a host that is the elected one, and the others hear
of what it does by the doorbell. A payload only wakes the reader; what it reads is the fence.

Never here: what the fence's rows mean for the service.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Connection

from failstop._failsafe import FailSafe
from failstop._fence import FenceRow
from failstop.database._address import Address
from failstop.database._attempt import Attempts
from failstop.database._deadline import current_limit
from failstop.database._ear import Ear, connect
from failstop.database._roll import Roll
from failstop.errors import DatabaseUnavailableError, Outcome
from failstop.events import Incident
from failstop.recovery._monitor import UnprovenError

__all__ = ["Listener"]

logger = logging.getLogger("failstop")

PAUSE = 1.0
"""Seconds at least between two attempts to connect; what lasted longer is made anew at once."""

NOTIFY = text("SELECT pg_notify(:channel, :payload)")


class Listener:
    """Listen to the fence of the database `name`; a dependency of its own, as it can fail alone.

    Args:
        name: the database's.
        failsafe: whose service it is.
        address: where to connect.
        scope: whose rows of the fence are read.
        deadline: seconds for a statement.
        connect_deadline: seconds to make the connection.
        hear: called with the fence's rows and with when it began to read them (seconds,
            `time.monotonic()`), by this listener's thread.
    """

    warnings: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        failsafe: FailSafe,
        address: Address,
        *,
        scope: str,
        deadline: float,
        connect_deadline: float,
        hear: Callable[[tuple[FenceRow, ...], float], None],
    ) -> None:
        self.name = f"{name} listener"
        self._database = name
        self._failsafe = failsafe
        self._address = address
        self._scope = scope
        self._deadline = deadline
        self._connect_deadline = connect_deadline
        self._act = hear
        self._is_closed = False
        self._begin_anew()
        _living.add(self)

    def _begin_anew(self) -> None:
        """Begin with locks, a channel and a thread of its own; in a forked child too."""
        self._changed = threading.Condition()
        self._channel = f"failstop_{secrets.token_hex(8)}"
        self._attempts = Attempts(self._database)
        self._roll = Roll(self._failsafe.service, self._scope, self._patience)
        self._thread: threading.Thread | None = None
        self._ear: Ear | None = None
        self._sent = self._heard = 0
        self._is_asked = False
        self._called_at = 0.0
        self._unheard_since: float | None = None
        self._is_trusted = True
        self._problem: str | None = None

    @property
    def probe_seconds(self) -> float:
        """What a probe takes at most, in seconds, while NORMAL: it asks nobody."""
        return 0.0

    @property
    def is_led_elsewhere(self) -> bool:
        """True where it connects by a URL of its own."""
        return self._address.is_given

    @property
    def _patience(self) -> float:
        """Seconds within which an echo must be heard."""
        return self._failsafe.recovery.freshness

    def learn(self, connection: Connection) -> None:
        """Take over where a connection of the service's own leads."""
        self._address.learn(connection)

    # The echo

    def call(self, connection: Connection) -> None:
        """Have the database notify this listener, and note that this process is there."""
        self.learn(connection)
        self._start()
        if not self._failsafe.is_normal:
            connection.rollback()  # else a transaction would be open meanwhile
            self._await_ear()
        state, epoch = self._failsafe.state, self._failsafe.epoch
        self._roll.write(connection, self._failsafe.attendance, state=state, epoch=epoch)
        with self._changed:  # before it is sent: it may be back at once
            self._sent += 1
            is_first = self._unheard_since is None
            if is_first:
                self._unheard_since = time.monotonic()
        connection.execute(NOTIFY, {"channel": self._channel, "payload": str(self._sent)})
        connection.commit()
        self._is_asked = True
        self._count_from_now(is_first=is_first)

    def _count_from_now(self, *, is_first: bool) -> None:
        """Count no silence while the first echo was being sent: a slow server is not deaf."""
        with self._changed:
            if is_first and self._unheard_since is not None:
                self._unheard_since = time.monotonic()

    def _await_ear(self) -> None:
        """Wait for the connection, for what is sent before it listens is not heard.

        The database's own probe, which waits meanwhile, keeps half of the time that it has left.
        """
        limit = current_limit.get()
        left = self._deadline if limit is None else (limit - time.monotonic()) / 2
        seconds = max(0.0, min(self._patience, self._connect_deadline, left))
        with self._changed:
            self._changed.notify_all()  # it is tried again at once
            self._changed.wait_for(lambda: self._ear is not None, seconds)

    def verify_settings(self) -> None:
        """Return where it is known how to connect; for `start()`.

        Raises:
            ConfigurationError: `listen_url` is needed and not there.
        """
        self._address.verify()

    def probe(self) -> str:
        """Prove that this listener hears: its last echo while not NORMAL, else a recent one.

        Raises:
            UnprovenError: there is none to wait for, as the database's probe has failed.
            DatabaseUnavailableError: it was not heard within two intervals; while not NORMAL, not
                within the deadline of a statement either.
        """
        is_asked, self._is_asked = self._is_asked, False
        if not is_asked:
            raise UnprovenError("no echo was sent, for the database's own check has failed")
        with self._changed:
            if not self._failsafe.is_normal and self._ear is not None:
                self._await_echo(self._ear)
                if self._has_heard_all():
                    return f"heard echo {self._heard}, and read the fence"
            since, heard = self._unheard_since, self._heard
        silent = 0.0 if since is None else time.monotonic() - since
        if self._failsafe.is_normal and silent < self._patience:
            return f"heard echo {heard}, and read the fence; the next one is under way"
        raise self._silence(silent)

    def _await_echo(self, ear: Ear) -> None:
        """Wait for the last echo while `ear` can hear it; called with the lock held."""
        self._changed.wait_for(
            lambda: self._has_heard_all() or self._ear is not ear,
            min(self._patience, self._deadline),
        )

    def _has_heard_all(self) -> bool:
        return self._heard == self._sent

    def _silence(self, seconds: float) -> DatabaseUnavailableError:
        """Return the failure; what does not hear is given up, and made anew."""
        ear = self._ear
        with self._changed:
            self._ear = None
        if ear is not None:
            ear.wake()
        state = "there is no connection" if ear is None else "nothing arrives by the connection"
        why = self._problem or state
        error = DatabaseUnavailableError(
            f"database {self._database!r}: its notifications have not arrived for {seconds:.1f} s "
            f"({why}), so this host would not hear of a halt",
            kind="listener_silent",
            outcome=Outcome.NOT_STARTED,
        )
        error.action = (
            "give the database a listen_url= that leads to the server itself, where a pooler in "
            "transaction mode stands between; else look at the network and at the server's limit "
            "of connections"
        )
        return error

    # The thread

    def _start(self) -> None:
        """Start the thread where there is none; called by the monitor's thread."""
        with self._changed:
            self._called_at = time.monotonic()
            if self._thread is None and not self._is_closed:
                self._unheard_since, self._is_trusted = None, True
                run, name = self._run, "failstop-listener"
                self._thread = threading.Thread(target=run, name=name, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while self._goes_on():
            began = time.monotonic()
            try:
                self._listen()
            except Exception as error:  # noqa: BLE001 - a thread that ends hears nothing more
                self._note(f"{type(error).__name__} at the last attempt")
            self._pause(began + min(PAUSE, self._failsafe.recovery.probe_interval))

    def _goes_on(self) -> bool:
        """Say whether the thread goes on; who probes after it has ended starts another."""
        with self._changed:
            if not self._is_wanted:
                self._thread = None
            return self._is_wanted

    @property
    def _idle(self) -> float:
        """Seconds without a probe after which another process of the host listens, or nobody."""
        return 3 * self._patience

    @property
    def _is_wanted(self) -> bool:
        return not self._is_closed and time.monotonic() < self._called_at + self._idle

    def _pause(self, until: float) -> None:
        """Wait before the next attempt, but not past the next round of recovery."""
        with self._changed:
            left = until - time.monotonic()
            if left > 0 and not self._is_closed:
                self._changed.wait(left)

    def _listen(self) -> None:
        """Connect, and hear until the connection is lost or given up."""
        made = self._attempts.make(
            lambda: connect(
                self._address.parameters(),
                f"{self._failsafe.service} listener",
                self._deadline,
            ),
            _discard,
            self._connect_deadline,
        )
        ear = Ear(
            made,
            self._failsafe.watchdog,
            channel=self._channel,
            scope=self._scope,
            deadline=self._deadline,
        )
        try:
            self._use(ear)
            while self._is_wanted and self._ear is ear:
                if ear.wait(self._idle):
                    self._hear(ear)
            if self._is_closed:
                ear.say_last(self._roll.departure(self._failsafe.attendance))
        finally:
            with self._changed:
                self._ear = None if self._ear is ear else self._ear
                self._changed.notify_all()
            ear.close()

    def _use(self, ear: Ear) -> None:
        """Listen by `ear`, which never hears what was sent before; it reads the fence instead.

        The silence counts on where the one before it was deaf.
        """
        with self._changed:
            self._ear = ear
            if self._is_trusted:
                self._unheard_since, self._is_trusted = None, False
            self._changed.notify_all()

    def _hear(self, ear: Ear) -> None:
        """Read the fence and act on it; what was told before that is heard then."""
        last, began = ear.last, time.monotonic()
        self._act(ear.read(), began)
        with self._changed:
            if last.isdigit():
                self._heard, self._is_trusted = int(last), True
                self._unheard_since = None if self._has_heard_all() else time.monotonic()
                self._changed.notify_all()
        self._note(None)

    def _note(self, problem: str | None) -> None:
        """Keep why it does not hear, and log that once."""
        before, self._problem = self._problem, problem
        if problem is not None and before is None:
            logger.warning("the listener of database %r: %s", self._database, problem)

    # As a dependency

    def suspend(self, incident: Incident) -> None:
        """Go on listening: a halt or a reset elsewhere matters in fail-safe mode too."""

    def close(self) -> None:
        """End the thread, in bounded time."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        ear, thread = self._ear, self._thread
        if ear is not None:
            ear.wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join(self._connect_deadline)

    def after_fork(self) -> None:
        """In a forked child: the connection and the thread are the parent's."""
        self._begin_anew()


def _discard(connection: Any) -> None:
    connection.pgconn.finish()


def _restart_in_child() -> None:
    for listener in tuple(_living):
        listener.after_fork()


_living: weakref.WeakSet[Listener] = weakref.WeakSet()
os.register_at_fork(after_in_child=_restart_in_child)
