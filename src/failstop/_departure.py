"""The departure: a process that leaves after a trip, for a supervisor to start it anew.

It leaves when the safety actions have ended, the incident is in the store and the alerts were
flushed. It stays for the incident in which it started, and for one that cannot be written: what
starts after it would know nothing. Never here: whether there is an incident.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from failstop._actions import Actions
from failstop._keeper import Keeper
from failstop._latch import State
from failstop._storefile import StoreError
from failstop.errors import ConfigurationError
from failstop.events import Exiting, Incident
from failstop.recovery._monitor import UnprovenError

__all__ = ["EXIT_CODE", "Departure"]

logger = logging.getLogger("failstop")

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h."""
FLUSH_TIMEOUT = 5.0
"""Seconds for the alerts to arrive."""
LEAST_STAY = 0.5
"""Seconds from the trip on, for the answers that are under way."""
RETRY = 0.5
"""Seconds between two tries to write the incident."""
OUTPUT_TIMEOUT = 1.0
"""Seconds for what was printed and logged."""


class Departure:
    """Leave the process when an incident opens, where `policy` is "exit".

    Args:
        policy: "stay" or "exit".
        keeper: keeps the standing and the store.
        actions: what has to end before.
        write: writes what is late.
        flush: waits so many seconds for the alerts to arrive.

    Raises:
        ConfigurationError: the policy is another one, or "exit" without a store.
    """

    def __init__(
        self,
        policy: object,
        keeper: Keeper,
        actions: Actions,
        write: Callable[[], object],
        flush: Callable[[float], object],
    ) -> None:
        if policy not in ("stay", "exit"):
            raise ConfigurationError(f'on_trip must be "stay" or "exit", not {policy!r}')
        if policy == "exit" and not keeper.store.is_durable:
            raise ConfigurationError(
                'on_trip="exit" needs a store: without one, the process that is started anew '
                "would know nothing of the trip; give store="
            )
        self.is_wanted: bool = policy == "exit"
        self._keeper = keeper
        self._actions = actions
        self._write = write
        self._flush = flush
        self._stays_for: str | None = None
        self._is_armed = False
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def arm(self) -> None:
        """Leave for incidents from now on, but not for the open one: no loop of restarts."""
        incident = self._keeper.standing.incident
        self._stays_for = incident.incident_id if incident else None
        self._is_armed = self.is_wanted

    def begin(self, incident: Incident) -> None:
        """Have the process leave for `incident`; returns at once."""
        if not self._is_armed or incident.incident_id == self._stays_for:
            return
        with self._lock:
            if self._thread is not None:
                return
            self._thread = threading.Thread(
                target=self._leave, args=(incident,), name="failstop-exit", daemon=True
            )
            self._thread.start()

    def prove(self) -> str:
        """Return unless this process is about to leave; for recovery, which would be cut off.

        Raises:
            UnprovenError: it is.
        """
        if self._thread is not None:
            raise UnprovenError("this process is about to leave, for its supervisor to restart it")
        return "this process stays"

    def _leave(self, incident: Incident) -> None:
        began = time.monotonic()
        self._actions.wait(self._actions.longest)
        code = EXIT_CODE
        event = Exiting(
            self._keeper.service, incident.epoch, datetime.now(UTC), incident.incident_id, code
        )
        self._keeper.record(event)
        while not self._is_written():
            if self._keeper.standing.latch.state is State.CLOSED:
                return  # it is being ended in order
            time.sleep(RETRY)
        self._flush(FLUSH_TIMEOUT)
        time.sleep(max(0.0, began + LEAST_STAY - time.monotonic()))
        logger.error("%s leaves with code %d for incident %s", event.service, code, incident)
        _bounded(_flush_output)
        os._exit(code)

    def _is_written(self) -> bool:
        """Say whether whoever starts next finds what this process knows."""
        try:
            self._write()
            self._keeper.store.read()
        except StoreError as error:
            logger.debug("it cannot leave before its incident is written: %s", error)
            return False
        return True

    def after_fork(self) -> None:
        """In a forked child: it starts now, and stays for an incident that is open."""
        self._lock = threading.Lock()
        self._thread = None
        if self._is_armed:
            self.arm()


def _bounded(work: Callable[[], None]) -> None:
    """Do `work` on a thread of its own, which nobody waits for longer than a moment."""
    thread = threading.Thread(target=work, name="failstop-exit-output", daemon=True)
    thread.start()
    thread.join(OUTPUT_TIMEOUT)


def _flush_output() -> None:
    for handler in logging.getLogger().handlers + logger.handlers:
        with contextlib.suppress(Exception):
            handler.flush()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
