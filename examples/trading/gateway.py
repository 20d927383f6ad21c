"""The client of the trading gateway, for the services that trade through it."""

from typing import Any
from urllib.parse import quote

import httpx

from failstop import FailSafe, Gateway


class GatewayClient:
    """Ask the trading gateway over HTTP; its absence is a critical failure, not an empty list."""

    def __init__(self, url: str, failsafe: FailSafe, *, timeout: float = 2.0) -> None:
        self._http = httpx.Client(base_url=url, timeout=timeout)
        self._gateway = Gateway("trading-gateway", failsafe, probe=self._ready)

    def trades(self, user: str | None = None) -> list[dict[str, Any]]:
        """Return the trades that the gateway knows, of one user or of all."""
        wanted = {"user": user} if user else {}
        with self._gateway.guard(reads_only=True):
            answer = self._http.get("/api/trades", params=wanted).raise_for_status()
        trades: list[dict[str, Any]] = answer.json()["trades"]
        return trades

    def cancel(self, order_id: str) -> None:
        """Have the gateway cancel an order; it may be said twice."""
        with self._gateway.guard():
            self._http.delete(f"/api/orders/{quote(order_id, safe='')}").raise_for_status()

    def _ready(self) -> httpx.Response:
        """Ask whether the gateway is in NORMAL: only 200 passes."""
        return self._http.get("/readyz")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
