"""A sink that keeps its alerts, for tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from failstop.alerts import Alert

__all__ = ["CapturingSink"]


class CapturingSink:
    """Keep every alert in memory, in the order it came; safe for any number of threads.

    Set `failure` to an exception and `send` raises it instead, until it is None again.
    """

    def __init__(self, name: str = "capturing") -> None:
        self.failure: Exception | None = None
        self._name = name
        self._alerts: list[Alert] = []
        self._arrived = threading.Condition()

    @property
    def name(self) -> str:
        """The sink's name."""
        return self._name

    @property
    def alerts(self) -> list[Alert]:
        """The alerts that have come so far, a copy."""
        with self._arrived:
            return list(self._alerts)

    def send(self, alert: Alert) -> None:
        """Keep `alert`.

        Raises:
            Exception: `failure`, where it is set.
        """
        if self.failure is not None:
            raise self.failure
        with self._arrived:
            self._alerts.append(alert)
            self._arrived.notify_all()

    def wait_for(
        self, wanted: int | Callable[[Alert], bool] = 1, timeout: float = 5.0
    ) -> list[Alert]:
        """Return the alerts as soon as there are `wanted` many, or one for which it is true.

        With a function only the alerts are returned for which it is true.

        Raises:
            TimeoutError: they did not come in `timeout` seconds; says which did.
        """
        until = time.monotonic() + timeout
        seen = -1
        while True:
            alerts = self._wait_for_more(seen, until)
            matching = alerts if isinstance(wanted, int) else [a for a in alerts if wanted(a)]
            if len(matching) >= (wanted if isinstance(wanted, int) else 1):
                return matching
            seen = len(alerts)

    def clear(self) -> None:
        """Forget the alerts that have come so far."""
        with self._arrived:
            self._alerts.clear()

    def _wait_for_more(self, seen: int, until: float) -> list[Alert]:
        with self._arrived:
            came = self._arrived.wait_for(
                lambda: len(self._alerts) != seen, max(0.0, until - time.monotonic())
            )
            if came:
                return list(self._alerts)
            told = ", ".join(f"{alert.action} {alert.kind}" for alert in self._alerts) or "none"
        raise TimeoutError(f"the wanted alerts did not come in time; came: {told}")
