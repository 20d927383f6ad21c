"""The tables; `python -m migration.after.store` makes them, once for each deployment."""

import os

from sqlalchemy import (
    Column,
    DateTime,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    func,
)

from failstop import Database, FailSafe

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
fills = Table(
    "fills",
    metadata,
    Column("id", String, primary_key=True),
    Column("symbol", String, nullable=False),
    Column("quantity", Integer, nullable=False),
)
audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("order_id", String, nullable=False),
    Column("event", String, nullable=False),
    UniqueConstraint("order_id", "event"),
)


def create(database: Database) -> None:
    """Create the tables, and failstop's own, where they are missing; a failure is the caller's."""
    database.create_schema()
    with database.transaction() as connection:
        metadata.create_all(connection)


if __name__ == "__main__":
    with FailSafe("trading-schema") as failsafe:
        create(Database.connect(os.environ.get("DATABASE_URL"), failsafe))
