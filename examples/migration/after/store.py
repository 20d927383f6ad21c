"""The tables; `python -m migration.after.store` makes them, once for each deployment."""

import os
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import insert

from failstop import Database, FailSafe, IdempotencyConflictError

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


def insert_once(connection: Connection, table: Table, row: dict[str, Any], **more: Any) -> bool:
    """Insert `row` and what is set with it, and return True; False where it is there already.

    The row's own id is the key: PostgreSQL lets one of two that come at once wait for the other.

    Raises:
        IdempotencyConflictError: another row was stored under that id.
    """
    new = insert(table).values(**row, **more).on_conflict_do_nothing(index_elements=["id"])
    if connection.execute(new.returning(table.c.id)).first() is not None:
        return True
    same = select(table.c.id).where(*(table.c[name] == value for name, value in row.items()))
    if connection.execute(same).first() is None:
        raise IdempotencyConflictError("this id was used before, for something else", row["id"])
    return False


def create(database: Database) -> None:
    """Create the tables, and failstop's own, where they are missing; a failure is the caller's."""
    database.create_schema()
    with database.transaction() as connection:
        metadata.create_all(connection)


if __name__ == "__main__":
    with FailSafe("trading-schema") as failsafe:
        create(Database.connect(os.environ.get("DATABASE_URL"), failsafe))
