"""The proof that a database can be written, made by the monitor on a connection of its own."""

from __future__ import annotations

import os
import socket

from sqlalchemy import text
from sqlalchemy.engine import Connection

from failstop.errors import DatabaseUnavailableError, Outcome

__all__ = ["prove_writable"]

POSTGRESQL = text(
    "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on', "
    "to_regclass('failstop.witness') IS NOT NULL"
)

RAISE_WITNESS = text(
    "INSERT INTO failstop.witness AS witness (process, counter) VALUES (:process, 1) "
    "ON CONFLICT (process) DO UPDATE SET counter = witness.counter + 1, seen_at = now() "
    "RETURNING counter"
)


def prove_writable(connection: Connection, name: str) -> str:
    """Return the evidence, in a sentence.

    Raises:
        DatabaseUnavailableError: it answers, but takes no writes.
    """
    if connection.dialect.name == "postgresql":
        return _prove_postgresql(connection, name)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.rollback()
        return "took a write lock"
    connection.execute(text("SELECT 1"))
    return "answered a SELECT; nothing is written on this kind of database"


def _prove_postgresql(connection: Connection, name: str) -> str:
    in_recovery, is_read_only, has_schema = connection.execute(POSTGRESQL).one()
    if in_recovery or is_read_only:
        what = "is a standby" if in_recovery else "is read-only"
        raise DatabaseUnavailableError(
            f"database {name!r} {what}", kind="read_only", outcome=Outcome.NOT_STARTED
        )
    if not has_schema:
        connection.rollback()
        return "answered in a transaction that may write; no schema, so nothing was written"
    counter = connection.execute(RAISE_WITNESS, {"process": _process()}).scalar_one()
    connection.commit()
    return f"committed a write, witness at {counter}"


def _process() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"
