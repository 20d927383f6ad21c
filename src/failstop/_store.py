"""What must outlive the moment: the latch, the open incident, the journal, the alert outbox.

Never here: what a state means, or what an alert says.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

from failstop._latch import Latch
from failstop.alerts._alert import Alert
from failstop.errors import ConfigurationError
from failstop.events import Event, Incident

__all__ = ["Saved", "Store"]


@dataclass(frozen=True, slots=True)
class Saved:
    """What the store held when it was opened."""

    latch: Latch
    incident: Incident | None


class Store:
    """Keep the latch, the journal and the outbox; in memory where `path` is None.

    Raises:
        ConfigurationError: a path is given, which needs the store on disk.
    """

    def __init__(self, path: str | PathLike[str] | None, sinks: Sequence[str]) -> None:
        if path is not None:
            raise ConfigurationError("a store on disk is not built yet; leave out store=")
        self.is_durable = False
        self._lock = threading.Lock()
        self._outbox: dict[str, list[Alert]] = {name: [] for name in sinks}

    def open(self) -> Saved:
        """Return what was saved last."""
        return Saved(Latch(), None)

    def save(
        self, latch: Latch, incident: Incident | None, event: Event, alerts: Sequence[Alert]
    ) -> None:
        """Make a change of the latch lasting, with its journal row and its alerts, or raise."""
        with self._lock:
            for waiting in self._outbox.values():
                waiting.extend(alerts)

    def record(self, event: Event) -> None:
        """Append a journal row for an event that changes no state."""

    def due(self, sink: str) -> Sequence[Alert]:
        """Return the alerts that wait for a sink, the oldest first."""
        with self._lock:
            return tuple(self._outbox[sink])

    def delivered(self, sink: str, alert: Alert) -> None:
        """Take an alert out of a sink's outbox."""
        with self._lock:
            self._outbox[sink].remove(alert)

    def after_fork(self) -> None:
        """In a forked child: leave the alerts that wait to the parent, which delivers them."""
        self._lock = threading.Lock()
        for waiting in self._outbox.values():
            waiting.clear()

    def close(self) -> None:
        """Release what the store holds."""
