"""What the service answers about orders and positions: rows, or an error, never a substitute."""

from typing import Any

from sqlalchemy import select

from failstop import Database
from migration.after.store import orders, positions


class Book:
    """What is in the database; a database that fails is no empty book."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def positions(self) -> list[dict[str, Any]]:
        """All positions."""
        wanted = select(positions).order_by(positions.c.symbol)
        return [row._asdict() for row in self._database.query(wanted)]

    def orders(self) -> list[dict[str, Any]]:
        """All orders, in every environment from the same place."""
        wanted = select(orders).order_by(orders.c.placed_at, orders.c.id)
        return [row._asdict() for row in self._database.query(wanted)]

    def order(self, order_id: str) -> dict[str, Any] | None:
        """One order; None says that the database was asked and has none."""
        rows = self._database.query(select(orders).where(orders.c.id == order_id))
        return rows[0]._asdict() if rows else None
