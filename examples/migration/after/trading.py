"""Placing, cancelling and booking orders: commit the intent, act, record; each under its key."""

from typing import Any

from sqlalchemy import Connection, select, update

from failstop import Database
from migration.after.store import audit, orders, positions
from migration.after.venue import Venue


class Desk:
    """What changes the book."""

    def __init__(self, database: Database, venue: Venue) -> None:
        self._database = database
        self._venue = venue

    def place_order(self, order: dict[str, Any]) -> str:
        """Place an order and return the venue's reference; a second call does not place it again.

        The intent is committed before the venue hears of it. What a crash leaves in between is an
        order in the state "placing", which `reconcile()` asks the venue about.
        """
        what = f"{order['side']} {order['quantity']} {order['symbol']}"
        self._database.run_once(
            f"place-{order['id']}", lambda c: _intend(c, order), fingerprint=what
        )
        return self._send(order)

    def reconcile(self) -> list[str]:
        """Ask the venue about every order whose sending nobody saw the end of; return their ids."""
        rows = self._database.query(select(orders).where(orders.c.state == "placing"))
        for row in rows:
            self._send(row._asdict())
        return [row.id for row in rows]

    def cancel_order(self, order_id: str) -> None:
        """Ask for a cancellation, together with its audit row: both, or neither, and once."""
        self._database.run_once(f"cancel-{order_id}", lambda c: _cancel(c, order_id))

    def book_fill(self, fill: dict[str, Any]) -> None:
        """Book a fill once, however often the venue tells it."""
        self._database.run_once(f"fill-{fill['id']}", lambda c: _book(c, fill))

    def _send(self, order: dict[str, Any]) -> str:
        """Ask the venue first: a send whose answer was lost may have arrived."""
        reference = self._venue.find(order["id"]) or self._venue.place(_as_sent(order))
        self._database.run_once(
            f"sent-{order['id']}", lambda c: _confirm(c, order["id"], reference)
        )
        return reference


def _intend(connection: Connection, order: dict[str, Any]) -> None:
    connection.execute(orders.insert().values(**_as_sent(order), state="placing"))
    connection.execute(audit.insert().values(order_id=order["id"], event="placing"))


def _confirm(connection: Connection, order_id: str, reference: str) -> None:
    placing = update(orders).where(orders.c.id == order_id, orders.c.state == "placing")
    connection.execute(placing.values(state="sent", venue_reference=reference))
    connection.execute(audit.insert().values(order_id=order_id, event="sent"))


def _cancel(connection: Connection, order_id: str) -> None:
    wanted = update(orders).where(orders.c.id == order_id)
    connection.execute(wanted.values(state="cancel requested"))
    connection.execute(audit.insert().values(order_id=order_id, event="cancel requested"))


def _book(connection: Connection, fill: dict[str, Any]) -> None:
    quantity = positions.c.quantity + fill["quantity"]
    booked = update(positions).where(positions.c.symbol == fill["symbol"])
    if connection.execute(booked.values(quantity=quantity)).rowcount == 0:
        connection.execute(
            positions.insert().values(symbol=fill["symbol"], quantity=fill["quantity"])
        )


def _as_sent(order: dict[str, Any]) -> dict[str, Any]:
    return {name: order[name] for name in ("id", "symbol", "side", "quantity")}
