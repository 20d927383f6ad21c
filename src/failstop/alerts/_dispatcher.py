"""Delivery: one thread a sink takes alerts from the outboxes, off the request path.

An alert is tried until it arrived: at growing intervals, or when its receiver says. Never here:
what an alert says, and any lock held while a sink runs.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from failstop._redaction import redact
from failstop._storefile import StoreError
from failstop.alerts._alert import Alert, DeliveryError
from failstop.alerts._outbox import Outbox, Parcel
from failstop.alerts._route import Route
from failstop.events import AlertDelivered, AlertFailed

__all__ = ["Dispatcher", "said_by"]

logger = logging.getLogger("failstop")

Report = Callable[[AlertDelivered | AlertFailed, bool], None]
"""Told what came of a send, and whether the journal has that already."""

FIRST_WAIT = 1.0
LONGEST_WAIT = 300.0
"""Seconds between two tries of one alert; with jitter, so that many processes spread."""
LONGEST_PAUSE = 3600.0
"""Seconds that a receiver's Retry-After is believed."""
POLL = 1.0
"""Seconds after which the outbox is looked at unasked: another process may have ended."""
HOLD = 5.0
"""Seconds that a lane is held beyond a send's timeout."""
MOST_HUNG = 3
"""Sends of one sink that may hang at a time before no other is begun."""


class Dispatcher:
    """Deliver what waits in `outboxes` to each sink, in order, until it arrived.

    Args:
        service: the service's name, for the events.
        routes: where alerts go.
        outboxes: where they wait; the first is asked first.
        report: told of every try, by the sink's thread, with no lock held.
    """

    def __init__(
        self, service: str, routes: Sequence[Route], outboxes: Sequence[Outbox], report: Report
    ) -> None:
        self._outboxes = tuple(outboxes)
        self._couriers = [_Courier(service, route, outboxes, report) for route in routes]

    def start(self) -> None:
        """Start one daemon thread a sink."""
        for courier in self._couriers:
            courier.start()

    def wake(self) -> None:
        """Say that an outbox has grown."""
        for courier in self._couriers:
            courier.wake()

    def replace_hung(self) -> None:
        """Give a sink whose send outlasts its timeout another thread; the hung one is left."""
        for courier in self._couriers:
            courier.replace_hung()

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until nothing is due for any sink; say whether it is so."""
        limit = time.monotonic() + timeout
        return all(courier.flush(limit) for courier in self._couriers)

    def close(self, timeout: float) -> bool:
        """Flush, then end the threads, both within `timeout` seconds; say whether all arrived."""
        limit = time.monotonic() + timeout
        is_flushed = self.flush(timeout)
        for courier in self._couriers:
            courier.close()
        for courier in self._couriers:
            courier.join(max(0.1, limit - time.monotonic()))
        return is_flushed


class _Courier:
    """The thread of one sink.

    `_turn` counts the threads: one that hung and was replaced sees that it is no longer its turn,
    says what came of its send, and ends.
    """

    def __init__(
        self, service: str, route: Route, outboxes: Sequence[Outbox], report: Report
    ) -> None:
        self._service = service
        self._route = route
        self._outboxes = outboxes
        self._report = report
        self._changed = threading.Condition()
        self._has_news = False
        self._is_closed = False
        self._turn = 0
        self._sending: tuple[float, Outbox, Parcel] | None = None
        self._store_problem = ""
        self._hung: list[threading.Thread] = []
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._turn += 1
        self._thread = threading.Thread(
            target=self._run,
            args=(self._turn,),
            name=f"failstop-alerts-{self._route.name}",
            daemon=True,
        )
        self._thread.start()

    def wake(self) -> None:
        with self._changed:
            self._has_news = True
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def join(self, timeout: float) -> None:
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def flush(self, limit: float) -> bool:
        while (is_done := self._has_nothing_due()) is False and time.monotonic() < limit:
            with self._changed:
                self._changed.wait(min(0.05, max(0.0, limit - time.monotonic())))
        return is_done is True

    def _has_nothing_due(self) -> bool | None:
        """Say whether all arrived; None where the store cannot say, and waiting does not help."""
        try:
            return not any(self._route.name in outbox.waiting() for outbox in self._outboxes)
        except StoreError as error:
            return False if error.kind == "store_locked" else None

    # The loop

    def _run(self, turn: int) -> None:
        while turn == self._turn and not self._is_closed:
            try:
                wait = self._deliver_next(turn)
                self._store_problem = ""
            except StoreError as error:
                wait = POLL
                if error.kind != self._store_problem:  # once, not once a second
                    self._store_problem = error.kind
                    logger.warning("alerts for %s wait: %s", self._route.name, error)
            if wait > 0 and turn == self._turn:
                self._pause(wait)
        self._give_back()

    def _deliver_next(self, turn: int) -> float:
        """Send what is next; return the seconds to wait before looking again."""
        for outbox in self._outboxes:
            parcel = outbox.claim(self._route.name, self._route.timeout + HOLD)
            if parcel is not None:
                self._deliver(outbox, parcel, turn)
                return 0.0
        self._give_back()
        waits = [outbox.idle(self._route.name) for outbox in self._outboxes]
        soonest = min((wait for wait in waits if wait is not None), default=POLL)
        return min(soonest, POLL) if soonest > 0 else POLL / 4

    def _give_back(self) -> None:
        for outbox in self._outboxes:
            try:
                outbox.release(self._route.name)
            except StoreError as error:  # the lane is free when its time is over
                logger.debug("the lane of %s was not given back: %s", self._route.name, error)

    def _pause(self, wait: float) -> None:
        with self._changed:
            if not self._has_news and not self._is_closed:
                self._changed.wait(wait)
            self._has_news = False

    def _deliver(self, outbox: Outbox, parcel: Parcel, turn: int) -> None:
        self._sending = (time.monotonic(), outbox, parcel)
        error = self._try(parcel.alert)
        if turn == self._turn:
            self._sending = None
        if error is None:
            self._settle(outbox, parcel)
        elif turn == self._turn:  # else it was told when it hung
            self._fail(outbox, parcel, error)

    def _try(self, alert: Alert) -> BaseException | None:
        try:
            self._route.send(alert)
        except BaseException as error:  # noqa: BLE001 - SystemExit too means: not arrived
            return error
        return None

    def _settle(self, outbox: Outbox, parcel: Parcel) -> None:
        event = AlertDelivered(*self._facts(parcel))
        try:
            outbox.delivered(parcel, event)
        finally:
            self._report(event, outbox.is_journaled)

    def _fail(self, outbox: Outbox, parcel: Parcel, error: BaseException) -> None:
        event = AlertFailed(*self._facts(parcel), said_by(error))
        wait, pause = _waits(parcel.attempts, error)
        try:
            outbox.failed(parcel, event.error, event, wait=wait, pause=pause)
        finally:
            self._report(event, outbox.is_journaled)

    def _facts(self, parcel: Parcel) -> tuple[str, int, datetime, str, str, str]:
        alert = parcel.alert
        epoch = int(alert.details.get("epoch", 0))
        now = datetime.now(UTC)
        return self._service, epoch, now, parcel.sink, alert.action.value, alert.incident_id

    # A send that hangs

    def replace_hung(self) -> None:
        """Called by the monitor: a thread that hangs cannot look after itself."""
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        sending, thread = self._sending, self._thread
        if sending is None or thread is None or len(self._hung) >= MOST_HUNG:
            return
        began, outbox, parcel = sending
        if time.monotonic() < began + self._route.timeout:
            return
        self._hung.append(thread)
        self._sending = None
        self.start()
        try:
            self._fail(outbox, parcel, TimeoutError())
        except StoreError as error:
            logger.warning("a send to %s hangs, and: %s", self._route.name, error)


def said_by(error: BaseException) -> str:
    """Return what may be told of a failed delivery: foreign text may hold a secret."""
    return redact(str(error)) if isinstance(error, DeliveryError) else type(error).__name__


def _waits(attempts: int, error: BaseException) -> tuple[float, float]:
    """Return the seconds before this alert is tried again, and before anything is sent at all."""
    wait = LONGEST_WAIT
    if not (isinstance(error, DeliveryError) and error.is_permanent):
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(attempts, 16))
    wait *= random.uniform(0.5, 1.0)  # noqa: S311 - a spread, no secret
    asked = error.retry_after if isinstance(error, DeliveryError) else None
    if asked is None:
        return wait, 0.0
    pause = min(max(asked, 0.0), LONGEST_PAUSE)
    return max(wait, pause), pause
