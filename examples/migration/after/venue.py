"""The venue: a dependency that is declared critical, as the database is."""

from typing import Any

import httpx

from failstop import FailSafe, Gateway


class Venue:
    """Send orders to the venue; the order's own id makes a second send harmless there."""

    def __init__(self, url: str, failsafe: FailSafe, *, timeout: float = 2.0) -> None:
        self._http = httpx.Client(base_url=url, timeout=timeout)
        self._gateway = Gateway("venue", failsafe, probe=self._probe)

    def place(self, order: dict[str, Any]) -> str:
        """Send an order and return the venue's reference."""
        with self._gateway.guard():
            answer = self._http.post("/orders", json=order)
            answer.raise_for_status()
        return str(answer.json()["reference"])

    def find(self, order_id: str) -> str | None:
        """Return the venue's reference of an order; None says that the venue does not know it."""
        with self._gateway.guard(reads_only=True):
            answer = self._http.get(f"/orders/{order_id}")
            if answer.status_code == httpx.codes.NOT_FOUND:
                return None
            answer.raise_for_status()
        return str(answer.json()["reference"])

    def _probe(self) -> httpx.Response:
        """Ask whether the venue works, for the monitor."""
        return self._http.get("/ready")

    def close(self) -> None:
        self._http.close()
