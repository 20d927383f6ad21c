"""The tables that failstop keeps beside the user's own, as SQLAlchemy metadata for Alembic.

PostgreSQL has them in a schema of their own named `failstop`; SQLite has the receipts only. The
structure is the version: a table or column that is not there makes a schema an old one. Never
here: what reads or writes a row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Double,
    Executable,
    Integer,
    MetaData,
    Table,
    Text,
    false,
    func,
    text,
)
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateColumn, CreateSchema, CreateTable, ExecutableDDLElement

from failstop.diagnosis import diagnose
from failstop.errors import ConfigurationError

__all__ = [
    "create",
    "fence",
    "horizon",
    "metadata",
    "missing",
    "process",
    "receipt",
    "require_supported",
    "schema_sql",
    "sqlite_metadata",
    "sqlite_receipt",
    "witness",
]

metadata: MetaData = MetaData(schema="failstop")
"""The tables on PostgreSQL."""

sqlite_metadata: MetaData = MetaData()
"""The tables on SQLite."""


def _receipt_columns() -> list[Column[Any]]:
    return [
        Column("key", Text, primary_key=True),
        Column("fingerprint", Text),
        Column("result", Text),
        Column("service", Text, nullable=False),
        Column("committed_at", DateTime(True), nullable=False, server_default=func.now()),
        Column("is_automatic", Boolean, nullable=False, server_default=false()),
        Column("is_pruned", Boolean, nullable=False, server_default=false()),
    ]


receipt: Table = Table("receipt", metadata, *_receipt_columns())
"""A row for each transaction that committed; `result` is a JSON text."""

sqlite_receipt: Table = Table("failstop_receipt", sqlite_metadata, *_receipt_columns())
"""The same on SQLite."""

horizon: Table = Table(
    "horizon",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("pruned_before", DateTime(True), nullable=False),
    CheckConstraint("id = 1", name="horizon_is_one_row"),
)
"""One row once receipts were pruned: those under automatic keys that are older are gone."""

witness: Table = Table(
    "witness",
    metadata,
    Column("process", Text, primary_key=True),
    Column("counter", BigInteger, nullable=False),
    Column("seen_at", DateTime(True), nullable=False, server_default=func.now()),
)
"""A counter row for each process, raised at every probe."""

process: Table = Table(
    "process",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("service", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("patience", Double, nullable=False),
    Column("seen_at", DateTime(True), nullable=False, server_default=func.now()),
)
"""The roll: a row for each process that is there, written with its probes."""

fence: Table = Table(
    "fence",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("is_halted", Boolean, nullable=False),
    Column("incident_id", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed_at", DateTime(True), nullable=False, server_default=func.now()),
)
"""A row for each scope that was ever halted; every transaction holds a lock on the table."""

RIGHTS = {
    receipt: "SELECT, INSERT, UPDATE (result)",
    witness: "SELECT, INSERT, UPDATE",
    horizon: "SELECT",
    fence: "SELECT, INSERT, UPDATE",
    process: "SELECT, INSERT, UPDATE, DELETE",
}
"""What a service's role needs, and no more; without UPDATE on the fence it may trade, not halt."""

COORDINATION = ("fence", "process")
"""What belongs to the fence."""

COLUMNS = text(
    "SELECT pg_class.relname, pg_attribute.attname FROM pg_attribute "
    "JOIN pg_class ON pg_class.oid = pg_attribute.attrelid "
    "JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace "
    "WHERE pg_namespace.nspname = 'failstop' AND attnum > 0 AND NOT attisdropped"
)
INSUFFICIENT_PRIVILEGE = "42501"
ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtext('failstop.schema'))")

_METADATA = MappingProxyType({"postgresql": metadata, "sqlite": sqlite_metadata})


def schema_sql(role: str | None = None, *, dialect: str = "postgresql") -> str:
    """Return the statements that create the tables, for a person or a migration to run.

    Args:
        role: the service's role; the least rights that it needs are granted to it.
        dialect: the kind of database, as SQLAlchemy spells it.

    Raises:
        ConfigurationError: `dialect` is neither PostgreSQL nor SQLite, or has no roles.
    """
    tables = _tables(dialect)
    statements: list[ExecutableDDLElement] = []
    if dialect == "postgresql":
        statements.append(CreateSchema("failstop", if_not_exists=True))
    statements += [CreateTable(table, if_not_exists=True) for table in tables]
    compiled = [str(each.compile(dialect=_dialect(dialect))).strip() for each in statements]
    granted = [] if role is None else _grants(role, dialect)
    return "".join(f"{each};\n" for each in [*compiled, *granted])


def create(connection: Connection) -> tuple[str, ...]:
    """Create the tables and columns that are missing and name them; change nothing that exists.

    Where nothing is missing, nothing is run that needs a right to create. The transaction is the
    caller's to commit.

    Raises:
        ConfigurationError: the database is neither PostgreSQL nor SQLite, or the role may not.
    """
    require_supported(connection.dialect.name)
    if connection.dialect.name == "postgresql":
        connection.execute(ONE_AT_A_TIME)
    absent = missing(connection)
    try:
        for statement in _creation(absent, connection.dialect):
            connection.execute(statement)
    except SQLAlchemyError as error:
        if diagnose(error).sqlstate != INSUFFICIENT_PRIVILEGE:
            raise
        raise ConfigurationError(
            "this role may not create failstop's tables; do it with one that may create them in "
            "this database, or have its owner run what failstop schema sql prints"
        ) from error
    return absent


def missing(
    connection: Connection, *, receipts: bool = True, fence: bool = True
) -> tuple[str, ...]:
    """Name the tables, and the columns of those that are there, that a database lacks.

    Needs no right on the tables.

    Args:
        connection: to the database.
        receipts: whether what receipts need counts.
        fence: whether what the fence needs counts.

    Raises:
        ConfigurationError: the database is neither PostgreSQL nor SQLite.
    """
    if not receipts and not fence:
        return ()
    tables = _tables(connection.dialect.name)
    wanted = [each for each in tables if (fence if each.name in COORDINATION else receipts)]
    return tuple(_missing(wanted, _present(connection)))


def require_supported(dialect_name: str) -> None:
    """Refuse a database that is neither PostgreSQL nor SQLite.

    Raises:
        ConfigurationError: it is another.
    """
    if dialect_name not in _METADATA:
        raise ConfigurationError(
            f"failstop keeps its tables in PostgreSQL and SQLite only, not {dialect_name}"
        )


def _tables(dialect_name: str) -> list[Table]:
    require_supported(dialect_name)
    return _METADATA[dialect_name].sorted_tables


def _dialect(name: str) -> Dialect:
    from sqlalchemy.dialects import postgresql, sqlite  # a fifth of what loading failstop takes

    module: Any = postgresql if name == "postgresql" else sqlite
    made: Dialect = module.dialect()
    return made


def _missing(tables: list[Table], present: set[tuple[str, str]]) -> Iterator[str]:
    there = {table for table, _ in present}
    for table in tables:
        if table.name not in there:
            yield table.fullname
            continue
        for column in table.columns:
            if (table.name, column.name) not in present:
                yield f"{table.fullname}.{column.name}"


def _present(connection: Connection) -> set[tuple[str, str]]:
    """Return each table's columns, as pairs of names."""
    if connection.dialect.name == "postgresql":
        return {(table, column) for table, column in connection.execute(COLUMNS)}
    name = sqlite_receipt.name
    return {(name, row.name) for row in connection.exec_driver_sql(f"PRAGMA table_info({name})")}


def _creation(absent: Collection[str], dialect: Dialect) -> Iterator[Executable]:
    """Give the statements that create what is absent."""
    if absent and dialect.name == "postgresql":
        yield CreateSchema("failstop", if_not_exists=True)
    for table in _tables(dialect.name):
        if table.fullname in absent:
            yield CreateTable(table, if_not_exists=True)
        for column in table.columns:
            if f"{table.fullname}.{column.name}" in absent:
                described = CreateColumn(column).compile(dialect=dialect)
                yield text(f"ALTER TABLE {table.fullname} ADD COLUMN {described}")


def _grants(role: str, dialect: str) -> list[str]:
    if dialect != "postgresql":
        raise ConfigurationError(f"{dialect} has no roles to grant rights to; leave the role out")
    if not role or "\0" in role:
        raise ConfigurationError("a role's name must be a text that is not empty")
    quoted = '"{}"'.format(role.replace('"', '""'))
    usage = f"GRANT USAGE ON SCHEMA failstop TO {quoted}"
    return [usage, *(f"GRANT {rights} ON {on} TO {quoted}" for on, rights in RIGHTS.items())]
