"""Delivery: one thread a sink takes alerts from the store's outbox, off the request path.

Never here: what an alert says, and any lock held while a sink runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from failstop._store import Store
from failstop.alerts._alert import Alert, AlertSink

__all__ = ["Dispatcher"]

logger = logging.getLogger(__name__)

Report = Callable[[str, Alert, Exception | None], None]
"""Told the sink's name, the alert, and what the sink raised (None where the alert arrived)."""

RETRY_AFTER = 1.0


class Dispatcher:
    """Deliver what is in the outbox of `store` to each sink, in order, until it arrived."""

    def __init__(self, sinks: Sequence[AlertSink], store: Store, report: Report) -> None:
        self._couriers = [_Courier(sink, store, report) for sink in sinks]

    def start(self) -> None:
        """Start one daemon thread a sink."""
        for courier in self._couriers:
            courier.start()

    def wake(self) -> None:
        """Say that the outbox has grown."""
        for courier in self._couriers:
            courier.wake()

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until every outbox is empty; say whether it is."""
        limit = time.monotonic() + timeout
        return all(courier.flush(limit - time.monotonic()) for courier in self._couriers)

    def close(self, timeout: float) -> bool:
        """Flush, then end the threads, both within `timeout` seconds; say whether all arrived."""
        limit = time.monotonic() + timeout
        is_flushed = self.flush(timeout)
        for courier in self._couriers:
            courier.close()
        for courier in self._couriers:
            courier.join(max(0.0, limit - time.monotonic()))
        return is_flushed


class _Courier:
    """The thread of one sink."""

    def __init__(self, sink: AlertSink, store: Store, report: Report) -> None:
        self._sink = sink
        self._store = store
        self._report = report
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(
            target=self._run, name=f"failstop-alerts-{self._sink.name}", daemon=True
        )
        self._thread.start()

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._store.due(self._sink.name), timeout)

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def join(self, timeout: float) -> None:
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._is_closed:
            try:
                is_delivered = self._deliver_next()
            except Exception as error:  # noqa: BLE001 - the thread outlives a store that fails
                logger.error("the outbox of %s failed: %s", self._sink.name, type(error).__name__)
                is_delivered = False
            if not is_delivered:
                self._pause()

    def _deliver_next(self) -> bool:
        """Wait for an alert and send it; False where that must be done again."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._has_work())
            if self._is_closed:
                return True
        return self._deliver(self._store.due(self._sink.name)[0])

    def _has_work(self) -> bool:
        return bool(self._store.due(self._sink.name))

    def _deliver(self, alert: Alert) -> bool:
        error = self._try(alert)
        if error is None:
            self._store.delivered(self._sink.name, alert)
        self._report(self._sink.name, alert, error)
        with self._changed:
            self._changed.notify_all()
        return error is None

    def _pause(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed, RETRY_AFTER)

    def _try(self, alert: Alert) -> Exception | None:
        try:
            self._sink.send(alert)
        except Exception as error:  # noqa: BLE001 - whatever a sink raises means: not arrived
            return error
        return None
