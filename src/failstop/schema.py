"""The tables that failstop keeps beside the user's own: `metadata` is what Alembic takes."""

from failstop.database.schema import (
    create,
    fence,
    horizon,
    metadata,
    missing,
    process,
    receipt,
    schema_sql,
    sqlite_metadata,
    sqlite_receipt,
    witness,
)

__all__ = [
    "create",
    "fence",
    "horizon",
    "metadata",
    "missing",
    "process",
    "receipt",
    "schema_sql",
    "sqlite_metadata",
    "sqlite_receipt",
    "witness",
]
