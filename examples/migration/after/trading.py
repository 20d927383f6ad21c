"""Placing, cancelling and booking orders: commit the intent, act, record; each under its key."""

import hashlib
import json
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.postgresql import insert

from failstop import Database
from migration.after.store import audit, fills, orders, positions
from migration.after.venue import Venue

ORDER = ("id", "symbol", "side", "quantity")
FILL = ("id", "symbol", "quantity")


class Desk:
    """What changes the book."""

    def __init__(self, database: Database, venue: Venue) -> None:
        self._database = database
        self._venue = venue

    def place_order(self, order: dict[str, Any]) -> str:
        """Place an order and return the venue's reference; a second call does not place it again.

        The intent is committed before the venue hears of it. What a crash leaves in between is an
        order in the state "placing", which `reconcile()` asks the venue about. Whatever the error,
        the same order may be sent again under its id.
        """
        wanted = _pick(order, ORDER)
        self._database.run_once(
            f"order-{order['id']}",
            lambda connection: _intend(connection, wanted),
            fingerprint=_fingerprint(wanted),
        )
        return self._reference(order["id"]) or self._send(order)

    def reconcile(self) -> list[str]:
        """Ask the venue about every order whose sending nobody saw the end of; return their ids."""
        rows = self._database.query(select(orders).where(orders.c.state == "placing"))
        for row in rows:
            self._send(row._asdict())
        return [row.id for row in rows]

    def cancel_order(self, order_id: str) -> bool:
        """Ask for a cancellation with its audit row, both or neither; False where none is sent."""
        with self._database.transaction() as connection:
            return _cancel(connection, order_id)

    def book_fill(self, fill: dict[str, Any]) -> None:
        """Book a fill once, however often the venue tells it."""
        told = _pick(fill, FILL)
        self._database.run_once(
            f"fill-{fill['id']}",
            lambda connection: _book(connection, told),
            fingerprint=_fingerprint(told),
        )

    def _reference(self, order_id: str) -> str | None:
        """Return the venue's reference of an order that was sent before."""
        sent = select(orders.c.venue_reference).where(orders.c.id == order_id)
        reference: str | None = self._database.query(sent)[0].venue_reference
        return reference

    def _send(self, order: dict[str, Any]) -> str:
        """Ask the venue first: a send whose answer was lost may have arrived."""
        reference = self._venue.find(order["id"]) or self._venue.place(_pick(order, ORDER))
        with self._database.transaction() as connection:
            _confirm(connection, order["id"], reference)
        return reference


def _intend(connection: Connection, order: dict[str, Any]) -> None:
    """Write the intent, with its audit row."""
    connection.execute(orders.insert().values(**order, state="placing"))
    connection.execute(audit.insert().values(order_id=order["id"], event="placing"))


def _book(connection: Connection, fill: dict[str, Any]) -> None:
    """Write the fill and move the position by it."""
    connection.execute(fills.insert().values(**fill))
    _add_to_position(connection, fill["symbol"], fill["quantity"])


def _confirm(connection: Connection, order_id: str, reference: str) -> None:
    """Record what the venue said, unless another call was faster."""
    placing = update(orders).where(orders.c.id == order_id, orders.c.state == "placing")
    if connection.execute(placing.values(state="sent", venue_reference=reference)).rowcount:
        connection.execute(audit.insert().values(order_id=order_id, event="sent"))


def _cancel(connection: Connection, order_id: str) -> bool:
    """Mark an order that is at the venue; one that is being placed has first to arrive there."""
    sent = update(orders).where(orders.c.id == order_id, orders.c.state == "sent")
    if connection.execute(sent.values(state="cancel requested")).rowcount:
        connection.execute(audit.insert().values(order_id=order_id, event="cancel requested"))
    state = connection.execute(select(orders.c.state).where(orders.c.id == order_id)).scalar()
    return state == "cancel requested"


def _add_to_position(connection: Connection, symbol: str, quantity: int) -> None:
    new = insert(positions).values(symbol=symbol, quantity=quantity)
    total = positions.c.quantity + new.excluded.quantity
    connection.execute(
        new.on_conflict_do_update(index_elements=["symbol"], set_={"quantity": total})
    )


def _pick(given: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: given[name] for name in names}


def _fingerprint(given: dict[str, Any]) -> str:
    """Return what tells another request under the same id from this one."""
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
