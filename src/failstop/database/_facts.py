"""What an engine and its sessions are set to, asked of both once.

Never here: what a setting means for a claim.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool

from failstop.database import schema
from failstop.database._findings import ALLOW, Facts, Pooling
from failstop.database._wrappers import foreign_places, retried_places

__all__ = ["Target", "read_facts", "target_of"]

PID = text("SELECT pg_backend_pid()")
SETTINGS = text(
    "SELECT name, setting, source FROM pg_settings WHERE name IN ('default_transaction_read_only', "
    "'fsync', 'full_page_writes', 'idle_in_transaction_session_timeout', 'statement_timeout', "
    "'synchronous_commit', 'synchronous_standby_names')"
)
ALLOWED = text("SELECT coalesce(current_setting(:name, true), '')")


class Target(NamedTuple):
    """Where connections go: to how many hosts, and which of them they take."""

    hosts: int = 1
    session_attrs: str = "any"


def target_of(cparams: Mapping[str, Any]) -> Target:
    """Return where a driver's parameters lead, with libpq's variables where they say nothing."""
    host = cparams.get("host") or cparams.get("hostaddr") or os.environ.get("PGHOST", "")
    hosts = host.split(",") if isinstance(host, str) else list(host)
    attrs = cparams.get("target_session_attrs") or os.environ.get("PGTARGETSESSIONATTRS", "any")
    return Target(len(hosts), str(getattr(attrs, "value", attrs)))


def read_facts(
    connection: Connection,
    engine: Any,
    *,
    target: Target | None,
    deadline: float,
    receipts: bool,
    fence: bool,
    listens: bool,
) -> Facts:
    """Read everything; a pooler that is seen costs a second connection.

    Args:
        connection: one of the guarded engine's own making.
        engine: what the service uses, sync or async.
        target: where its connections go, None where that could not be seen.
        deadline: seconds for one call.
        receipts: whether transactions write them.
        fence: whether transactions pass it.
        listens: whether halts elsewhere are heard by such connections.
    """
    sync_engine: Engine = getattr(engine, "sync_engine", engine)
    dialect = connection.dialect.name
    settings, sources, allowed = {}, {}, frozenset[str]()
    missing = schema.missing(connection, receipts=receipts, fence=fence)
    pooling = Pooling.NONE
    if dialect == "postgresql":
        rows = connection.execute(SETTINGS).all()
        settings = {row.name: row.setting for row in rows}
        sources = {row.name: row.source for row in rows}
        allowed = _names(connection.execute(ALLOWED, {"name": ALLOW}).scalar_one())
        pooling = _pooling(connection)
    elif dialect == "sqlite":
        settings = _pragmas(connection)
    hosts, session_attrs = target or Target()
    return Facts(
        dialect=dialect,
        deadline=deadline,
        is_pinged=bool(sync_engine.pool._pre_ping) or isinstance(sync_engine.pool, NullPool),  # noqa: SLF001 - no public way
        hosts=hosts,
        session_attrs=session_attrs,
        retriers=", ".join(retried_places(engine, sync_engine)),
        strangers=", ".join(foreign_places(engine, sync_engine)),
        pooling=pooling,
        settings=settings,
        sources=sources,
        allowed=allowed,
        receipts=receipts,
        fence=fence,
        listens=listens,
        missing=missing,
    )


def _names(listed: str) -> frozenset[str]:
    return frozenset(name.strip().lower() for name in listed.split(","))


def _pragmas(connection: Connection) -> dict[str, str]:
    asked = {name: f"PRAGMA {name}" for name in ("synchronous", "journal_mode")}
    found = {
        name: str(connection.exec_driver_sql(pragma).scalar()) for name, pragma in asked.items()
    }
    databases = connection.exec_driver_sql("PRAGMA database_list").all()
    return found | {"file": next(str(row.file or "") for row in databases if row.name == "main")}


def _pooling(connection: Connection) -> Pooling:
    """Find a pooler by what it does; its own word is not asked for, as few roles may.

    A server tells a client its process id once, and a pooler tells one of its own making. Then two
    clients begin transactions by turns: in a pool of transactions the second is given the first
    one's process, or the first one finds itself at another.
    """
    told = _told_pid(connection.connection.driver_connection)
    first = connection.execute(PID).scalar_one()
    if told == first:
        return Pooling.NONE
    connection.rollback()
    probe = connection.engine
    other = Engine(probe.pool.recreate(), probe.dialect, probe.url)  # a pool may have but one
    try:
        with other.connect() as second:
            theirs = second.execute(PID).scalar_one()
            is_shared = theirs == first or connection.execute(PID).scalar_one() != first
    finally:
        other.dispose()
    return Pooling.TRANSACTION if is_shared else Pooling.SESSION


def _told_pid(driver_connection: Any) -> int:
    info = getattr(driver_connection, "info", None)  # psycopg, psycopg2
    pid = driver_connection.get_server_pid() if info is None else info.backend_pid
    return int(pid)
