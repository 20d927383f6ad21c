"""The board: the metric families of one registry, and the instruments that write them.

In prometheus_client's multiprocess mode a process can only write its own values, so most gauges
count processes. Never here: what is written when.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from failstop import ConfigurationError

__all__ = ["IS_MULTIPROCESS", "Board", "board_of"]

IS_MULTIPROCESS = values.ValueClass is not values.MutexValue
LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
AGES = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)

Family = Counter | Gauge | Histogram
T = TypeVar("T", Counter, Gauge, Histogram)
Mode = Literal["livesum", "livemax", "livemin", "max"]


class Writer(Protocol):
    """Who writes the values of one service."""

    service: str

    def look(self) -> None:
        """Write what no event tells."""


class Board(Collector):
    """The metric families of one registry, and the instruments that write them."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self._registry = registry
        self._families: list[Family] = []
        self._writers: dict[str, Writer] = {}
        self._lock = threading.Lock()
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        # what it is
        self.processes: Gauge = gauge("processes", "Processes that tell of this service.")
        self.state: Gauge = gauge("state", "Processes in this state.", "state")
        self.epoch: Gauge = gauge("epoch", "Number of trips so far.", mode="max")
        self.needs_person: Gauge = gauge(
            "needs_person", "1 where only a person leads back to NORMAL.", mode="livemax"
        )
        self.suspended: Counter = counter(
            "fail_safe_seconds", "Seconds of processes in fail-safe mode."
        )
        # what happened
        self.errors: Counter = counter("critical_errors", "Critical failures.", "code", "kind")
        self.trips: Counter = counter(
            "trips", "Trips and halts, by their first cause.", "code", "kind"
        )
        self.resets: Counter = counter("resets", "Ends of fail-safe mode.", "by")
        self.refusals: Counter = counter("refusals", "Calls refused.")
        self.permitted: Counter = counter("permitted", "Calls let through in a halt.", "operation")
        self.responses: Counter = counter("responses", "Failure responses (503).", "outcome")
        self.actions: Counter = counter("actions", "Safety actions.", "action", "state")
        # the databases
        self.operations: Counter = counter(
            "operations", "Guarded operations.", "database", "result"
        )
        self.deadlines: Counter = counter(
            "deadline_hits", "Operations out of time.", "database", "by"
        )
        self.up: Gauge = gauge("database_up", "Processes that see the database well.", "database")
        self.pool: Gauge = gauge(
            "pool_connections", "Connections of the pool.", "database", "state"
        )
        self.pool_limit: Gauge = gauge(
            "pool_limit", "Connections that the pool may have.", "database"
        )
        self.pool_waiting: Gauge = gauge("pool_waiting", "Callers that wait for one.", "database")
        self.reduced: Counter = counter("durability_reduced", "Unconfirmed commits.", "database")
        # what is in doubt
        self.in_doubt: Gauge = gauge(
            "in_doubt", "Transactions in doubt.", "database", mode="livemax"
        )
        self.oldest_doubt: Gauge = gauge(
            "in_doubt_oldest_seconds", "Age of the oldest of them.", "database", mode="livemax"
        )
        self.doubts: Counter = counter("doubts", "Transactions that came into doubt.", "database")
        self.resolved: Counter = counter(
            "resolved", "Doubts that were resolved.", "database", "outcome"
        )
        self.resolution: Histogram = histogram(
            "resolution_seconds", "Time from doubt to answer.", AGES, "database"
        )
        # the checks
        self.observed: Gauge = gauge(
            "observation_timestamp_seconds", "When the last round of checks ended.", mode="livemin"
        )
        self.check_failed: Gauge = gauge("check_failed", "Processes that see it fail.", "check")
        self.check: Histogram = histogram(
            "check_seconds", "Time that a check took.", LATENCIES, "check"
        )
        # the alerts
        self.alerts: Counter = counter("alerts", "Tries to deliver an alert.", "sink", "result")
        self.pending: Gauge = gauge(
            "alerts_pending", "Alerts that wait; +Inf: not known.", "sink", mode="livemax"
        )
        self.oldest_alert: Gauge = gauge(
            "alerts_oldest_seconds", "Age of the oldest that waits.", "sink", mode="livemax"
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return self._add(Counter(f"failstop_{name}", text, ("service", *labels), registry=None))

    def _gauge(self, name: str, text: str, *labels: str, mode: Mode = "livesum") -> Gauge:
        facts: dict[str, Any] = {"registry": None, "multiprocess_mode": mode}
        return self._add(Gauge(f"failstop_{name}", text, ("service", *labels), **facts))

    def _histogram(self, name: str, text: str, buckets: Iterable[float], label: str) -> Histogram:
        facts: dict[str, Any] = {"registry": None, "buckets": tuple(buckets)}
        return self._add(Histogram(f"failstop_{name}", text, ("service", label), **facts))

    def _add(self, family: T) -> T:
        self._families.append(family)
        return family

    # Who writes

    def add(self, writer: Writer) -> None:
        with self._lock:
            if writer.service in self._writers:
                raise ConfigurationError(
                    f"a service {writer.service!r} is in this registry already; close that "
                    "instrument first, or give the FailSafe another name"
                )
            is_first = not self._writers
            self._writers[writer.service] = writer
        if is_first and self._registry is not None:
            self._registry.register(self)

    def remove(self, writer: Writer) -> None:
        with self._lock:
            del self._writers[writer.service]
            is_last = not self._writers
        if self._registry is None:
            return
        for family in self._families:
            family.remove_by_labels({"service": writer.service})
        if is_last:
            self._registry.unregister(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    # What a registry asks

    def describe(self) -> Iterator[Metric]:
        for family in self._families:
            yield from family.describe()

    def collect(self) -> Iterator[Metric]:
        for writer in tuple(self._writers.values()):
            writer.look()
        for family in self._families:
            yield from family.collect()


def board_of(registry: CollectorRegistry) -> Board:
    """Return the board of `registry`; in multiprocess mode one for all, as there are files once."""
    place = 0 if IS_MULTIPROCESS else id(registry)  # a board keeps its registry, and so the id
    with _making:
        board = _boards.get(place)
        if board is None:
            board = _boards[place] = Board(None if IS_MULTIPROCESS else registry)
        return board


_boards: weakref.WeakValueDictionary[int, Board] = weakref.WeakValueDictionary()
_making = threading.Lock()
