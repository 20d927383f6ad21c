"""The exchange, where orders rest; how they get there from the table is not shown.

Nothing here is guarded, because safety actions and recovery checks need it, and where they run all
guarded work is refused. A request's call is guarded by its route.
"""

from urllib.parse import quote

import httpx
from sqlalchemy import Engine, NullPool, create_engine, select

from trading.models import Trade


class Exchange:
    """Ask the exchange over HTTP; whatever is not said in time is raised."""

    def __init__(self, url: str, *, timeout: float = 2.0) -> None:
        self._http = httpx.Client(base_url=url, timeout=timeout)

    def open_orders(self) -> set[str]:
        """Return the ids of the orders that rest."""
        return set(self.ask().raise_for_status().json()["orders"])

    def cancel(self, order_id: str) -> None:
        """Cancel an order; one that does not rest is none to cancel, so it may be said twice."""
        self._http.delete(f"/orders/{quote(order_id, safe='')}").raise_for_status()

    def cancel_all(self) -> None:
        """Cancel all that rests."""
        self._http.delete("/orders").raise_for_status()

    def ask(self) -> httpx.Response:
        """Ask whether the exchange works, for the monitor."""
        return self._http.get("/orders")


class Reconciliation:
    """Compare the exchange with the table of trades: evidence for a recovery."""

    def __init__(self, exchange: Exchange, guarded: Engine) -> None:
        self._exchange = exchange
        limit = {"connect_timeout": 2}
        self._engine = create_engine(guarded.url, poolclass=NullPool, connect_args=limit)

    def agrees(self) -> bool:
        """Return whether every order that rests is in the table.

        The exchange is asked first: an order is in the table before it gets there.
        """
        resting = self._exchange.open_orders()
        known = select(Trade.order_id).where(Trade.order_id.in_(resting))
        with self._engine.connect() as connection:
            return resting <= set(connection.scalars(known))
