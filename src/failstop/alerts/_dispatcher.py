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
        is_flushed = self.flush(timeout)
        for courier in self._couriers:
            courier.close()
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

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._has_work())
                if self._is_closed:
                    return
            self._deliver(self._store.due(self._sink.name)[0])

    def _has_work(self) -> bool:
        return bool(self._store.due(self._sink.name))

    def _deliver(self, alert: Alert) -> None:
        error = self._try(alert)
        if error is None:
            self._store.delivered(self._sink.name, alert)
        self._report(self._sink.name, alert, error)
        with self._changed:
            self._changed.notify_all()
            if error is not None:
                self._changed.wait_for(lambda: self._is_closed, RETRY_AFTER)

    def _try(self, alert: Alert) -> Exception | None:
        try:
            self._sink.send(alert)
        except Exception as error:  # noqa: BLE001 - whatever a sink raises means: not arrived
            return error
        return None
