"""The tables and the engine."""

import logging

from sqlalchemy import Column, DateTime, Integer, MetaData, String, Table, create_engine, func
from sqlalchemy.exc import SQLAlchemyError

from migration.before.settings import DATABASE_URL

logger = logging.getLogger(__name__)
metadata = MetaData()

orders = Table(
    "orders",
    metadata,
    Column("id", String, primary_key=True),
    Column("symbol", String, nullable=False),
    Column("side", String, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("venue_reference", String),
    Column("placed_at", DateTime(timezone=True), server_default=func.now()),
)
positions = Table(
    "positions",
    metadata,
    Column("symbol", String, primary_key=True),
    Column("quantity", Integer, nullable=False),
)
audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("order_id", String, nullable=False),
    Column("event", String, nullable=False),
)

engine = create_engine(DATABASE_URL, pool_pre_ping=True)


def prepare():
    """Make the tables; the service starts in any case."""
    try:
        metadata.create_all(engine)
    except SQLAlchemyError:
        logger.exception("could not create the tables")


class MemoryStore:
    """Keeps orders until the process ends."""

    def __init__(self):
        self.rows = {}

    def save(self, order):
        self.rows[order["id"]] = order

    def all(self):
        return list(self.rows.values())


class DatabaseStore:
    """Keeps orders in the database."""

    def save(self, order):
        with engine.begin() as connection:
            connection.execute(orders.insert().values(**order, state="new"))

    def all(self):
        with engine.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(orders.select())]


def open_store():
    """The database, or memory where it cannot be reached."""
    try:
        engine.connect().close()
        return DatabaseStore()
    except SQLAlchemyError:
        logger.warning("database not available, using the memory store")
        return MemoryStore()
