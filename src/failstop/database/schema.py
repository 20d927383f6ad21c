"""The tables that failstop keeps beside the user's own, as SQLAlchemy metadata for Alembic.

PostgreSQL only, in a schema of their own named `failstop`.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, MetaData, Table, Text, func
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateSchema, CreateTable, ExecutableDDLElement

from failstop.errors import ConfigurationError

__all__ = ["create", "metadata", "require_postgresql", "schema_sql", "witness"]

metadata: MetaData = MetaData(schema="failstop")

witness: Table = Table(
    "witness",
    metadata,
    Column("process", Text, primary_key=True),
    Column("counter", BigInteger, nullable=False),
    Column("seen_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
"""A counter row for each process, raised at every probe."""


def schema_sql() -> str:
    """Return the statements that create the tables, for a person or a migration to run."""
    from sqlalchemy.dialects import postgresql  # a fifth of what loading all of failstop takes

    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    statements: list[ExecutableDDLElement] = [CreateSchema("failstop", if_not_exists=True)]
    statements += [CreateTable(table, if_not_exists=True) for table in metadata.sorted_tables]
    return "".join(f"{str(each.compile(dialect=dialect)).strip()};\n" for each in statements)


def create(connection: Connection) -> None:
    """Create the schema and its tables where they are missing."""
    connection.execute(CreateSchema("failstop", if_not_exists=True))
    metadata.create_all(connection)


def require_postgresql(dialect_name: str) -> None:
    """Refuse a database that is not PostgreSQL.

    Raises:
        ConfigurationError: it is another.
    """
    if dialect_name != "postgresql":
        raise ConfigurationError(
            f"failstop keeps its tables in PostgreSQL only, not {dialect_name}"
        )
