"""What the service answers about orders, positions and prices."""

import logging

import requests
from sqlalchemy import select

from migration.before.settings import ENVIRONMENT, VENUE_URL
from migration.before.store import engine, orders, positions

logger = logging.getLogger(__name__)

MOCK_POSITIONS = [{"symbol": "ACME", "quantity": 100}]


def list_positions():
    """All positions; sample data where the database does not answer."""
    try:
        with engine.connect() as connection:
            rows = connection.execute(select(positions)).all()
            return [dict(row._mapping) for row in rows]
    except Exception:
        logger.exception("positions not available")
        return MOCK_POSITIONS


def find_order(order_id):
    """One order, None where there is none."""
    order = None
    try:
        with engine.connect() as connection:
            row = connection.execute(select(orders).where(orders.c.id == order_id)).first()
            order = dict(row._mapping) if row else None
    except Exception as error:
        logger.error("lookup failed: %s", error)
    return order


def list_orders():
    """The orders of today; a developer has no database."""
    if ENVIRONMENT == "development":
        return [{"id": "demo-1", "symbol": "ACME", "side": "buy", "quantity": 10, "state": "new"}]
    with engine.connect() as connection:
        return [dict(row._mapping) for row in connection.execute(select(orders))]


def price(symbol):
    """The venue's last price."""
    return requests.get(f"{VENUE_URL}/prices/{symbol}", timeout=2).json()["price"]
