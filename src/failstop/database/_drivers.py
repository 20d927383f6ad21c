"""What the drivers tell, and what they must be made to tell or do.

Drivers are known by name and imported only where an engine uses them.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any

from sqlalchemy.engine import Dialect
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import await_only

from failstop._watchdog import Timer
from failstop.errors import ConfigurationError

__all__ = [
    "CommitRefused",
    "TransactionStatus",
    "adapt_connect",
    "adopt_timer",
    "backend_of",
    "driver_of",
    "open_transaction",
    "require_strict",
    "transaction_status",
    "watch_durability",
]

Bound = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Awaits a connect for as long as it may take."""

CANCEL_TIMEOUT = 1.0
"""Seconds the server has to cancel the statement of a cancelled task, where nothing is due."""


class CommitRefused(Exception):  # noqa: N818 - an answer of the server, turned into an error above
    """The server answered COMMIT with the tag ROLLBACK."""


def adapt_connect(
    driver: str,
    cparams: dict[str, Any],
    *,
    settings: Mapping[str, str],
    deadline: float,
    service: str,
    bound: Bound,
) -> None:
    """Adapt the arguments of a connection in place; what the user gave is kept.

    Args:
        driver: its name, from `driver_of()`.
        cparams: the arguments.
        settings: the server's settings for the session.
        deadline: seconds for a call.
        service: what the server shows as the application's name.
        bound: awaits an async connect.
    """
    if "async_creator_fn" in cparams:  # the user's own, which takes no arguments
        cparams["async_creator_fn"] = _bounded(cparams["async_creator_fn"], bound)
        return
    if driver == "asyncpg":
        _adapt_asyncpg(cparams, settings, service)
    elif driver in ("psycopg", "psycopg_async", "psycopg2"):
        _adapt_libpq(cparams, settings, deadline, service)
    elif driver in ("pysqlite", "aiosqlite"):
        cparams.setdefault("timeout", deadline)  # how long a locked database is waited for
    if driver == "psycopg_async":
        cparams["async_creator_fn"] = _bounded(_prompt_psycopg().connect, bound)
    elif driver == "asyncpg":
        cparams["async_creator_fn"] = _bounded(_asyncpg_connect(), bound)


def _adapt_libpq(
    cparams: dict[str, Any], settings: Mapping[str, str], deadline: float, service: str
) -> None:
    given = str(cparams.get("options") or os.environ.get("PGOPTIONS", ""))
    ours = [f"-c {name}={value}" for name, value in settings.items() if name not in given]
    cparams["options"] = " ".join([given, *ours]).strip()
    cparams.setdefault("application_name", service)
    cparams.setdefault("connect_timeout", max(2, math.ceil(deadline)))  # libpq raises 1 to 2
    cparams.setdefault("keepalives", 1)
    cparams.setdefault("keepalives_idle", max(1, math.ceil(deadline)))
    cparams.setdefault("keepalives_interval", 1)
    cparams.setdefault("keepalives_count", 3)
    cparams.setdefault("tcp_user_timeout", math.ceil(deadline * 1000))


def _adapt_asyncpg(cparams: dict[str, Any], settings: Mapping[str, str], service: str) -> None:
    given = cparams.get("server_settings", {})
    cparams["server_settings"] = {"application_name": service, **settings, **given}
    cparams["connection_class"] = _strict_asyncpg(cparams.get("connection_class"))


def _bounded(creator: Callable[..., Awaitable[Any]], bound: Bound) -> Callable[..., Awaitable[Any]]:
    async def connect(*arguments: Any, **named: Any) -> Any:
        return await bound(lambda: creator(*arguments, **named))

    return connect


def _asyncpg_connect() -> Callable[..., Awaitable[Any]]:
    import asyncpg

    connect: Callable[..., Awaitable[Any]] = asyncpg.connect
    return connect


@lru_cache
def _strict_asyncpg(kind: type[Any] | None) -> type[Any]:
    """Return an asyncpg connection class that raises where COMMIT is answered with ROLLBACK.

    asyncpg shows no failed transaction, as psycopg does; the tag of the answer is the only sign.
    """
    import asyncpg

    base: Any = kind or asyncpg.Connection

    class StrictConnection(base):  # type: ignore[misc]
        is_strict = True
        opening = ""
        opened = ""

        async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 - asyncpg's signature
            if self.opening and query.startswith("BEGIN"):
                return await self._open(query)
            tag: str = await super().execute(query, *args, timeout=timeout)
            if query == "COMMIT;" and tag != "COMMIT":
                raise CommitRefused(tag)
            return tag

        async def _open(self, begin: str) -> str:
            """Send what opens a transaction in one message; leave none open where it failed."""
            message, self.opening = begin + self.opening, ""
            try:
                tag: str = await super().execute(message)
                self.opened = tag
            except asyncpg.PostgresError:
                self._top_xact = None  # of asyncpg's Transaction, which never rolls back itself
                if not self.is_closed():
                    await super().execute("ROLLBACK")
                raise
            return tag

    return StrictConnection


@lru_cache
def _prompt_psycopg() -> type[Any]:
    """Return a psycopg class that leaves a cancelled statement when its line is due.

    psycopg asks the server to cancel and waits five seconds for it, and once more for the answer.
    """
    import psycopg

    class PromptConnection(psycopg.AsyncConnection[Any]):
        timer: Timer | None = None

        async def cancel_safe(  # psycopg's signature
            self,
            *,
            timeout: float = CANCEL_TIMEOUT,  # noqa: ASYNC109
        ) -> None:
            due = None if self.timer is None else self.timer.due
            left = CANCEL_TIMEOUT if due is None else due - time.monotonic()
            await super().cancel_safe(timeout=max(0.01, min(timeout, left)))

    return PromptConnection


def require_strict(driver: str, connection: Any) -> None:
    """Refuse an asyncpg connection that would commit nothing, successfully.

    Raises:
        ConfigurationError: it was made by an `async_creator`.
    """
    if driver == "asyncpg" and not getattr(connection, "is_strict", False):
        raise ConfigurationError(
            "async_creator is refused with asyncpg, whose own connections hide a failed COMMIT; "
            "give the arguments in the URL or in connect_args"
        )


def driver_of(dialect: Dialect) -> str:
    """Return the name of the driver; psycopg's async side has one of its own here."""
    if dialect.driver == "psycopg" and dialect.is_async:
        return "psycopg_async"
    return dialect.driver


def open_transaction(driver: str, connection: PoolProxiedConnection, statements: str) -> int:
    """Begin a transaction on PostgreSQL, with `statements` in the message that says BEGIN.

    psycopg2 sends its BEGIN apart. What the server refuses raises the driver's error; what is left
    then is a failed transaction, or none. Returns how many rows the last statement gave or wrote.
    """
    if driver == "psycopg":
        return _open_psycopg(connection.driver_connection, statements)
    if driver == "psycopg_async":
        return await_only(_open_psycopg_async(connection.driver_connection, statements))
    if driver == "asyncpg":
        return await_only(_open_asyncpg(connection, statements))
    cursor = connection.cursor()
    cursor.execute(statements)
    count = int(cursor.rowcount)
    cursor.close()
    return count


def _open_psycopg(connection: Any, statements: str) -> int:
    with connection.lock:
        results = connection.wait(_simple_query(connection, statements))
    return _count_of(results, connection)


async def _open_psycopg_async(connection: Any, statements: str) -> int:
    async with connection.lock:
        results = await connection.wait(_simple_query(connection, statements))
    return _count_of(results, connection)


async def _open_asyncpg(connection: PoolProxiedConnection, statements: str) -> int:
    adapter: Any = connection.dbapi_connection
    driver_connection: Any = connection.driver_connection
    driver_connection.opening = statements
    await adapter._start_transaction()  # noqa: SLF001 - else it is sent with the first statement
    return int(driver_connection.opened.rpartition(" ")[2])


def _simple_query(connection: Any, statements: str) -> Generator[Any, Any, Any]:
    """Send one message of psycopg's BEGIN and `statements`; psycopg then sends no BEGIN."""
    from psycopg import generators

    pgconn = connection.pgconn
    pgconn.send_query(f"{_begin_of(connection)}; {statements}".encode("ascii"))
    return (yield from generators.execute(pgconn))


def _begin_of(connection: Any) -> str:
    """Return the BEGIN that psycopg would send for the settings of `connection`."""
    words = ["BEGIN"]
    if connection.isolation_level is not None:
        words.append(f"ISOLATION LEVEL {connection.isolation_level.name.replace('_', ' ')}")
    if connection.read_only is not None:
        words.append("READ ONLY" if connection.read_only else "READ WRITE")
    if connection.deferrable is not None:
        words.append("DEFERRABLE" if connection.deferrable else "NOT DEFERRABLE")
    return " ".join(words)


def _count_of(results: Sequence[Any], connection: Any) -> int:
    """Return the number of rows of the last result; raise where one is an error."""
    from psycopg import errors, pq

    for result in results:
        if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
            raise errors.error_from_result(result, encoding=connection.info.encoding)
    return int(results[-1].command_tuples)


def backend_of(driver: str, connection: PoolProxiedConnection) -> int | None:
    """Return the process number of the server's end; None where there is none."""
    driver_connection: Any = connection.driver_connection
    if driver_connection is None:
        return None
    if driver in ("psycopg", "psycopg_async"):
        return int(driver_connection.pgconn.backend_pid)
    if driver == "psycopg2":
        return int(driver_connection.get_backend_pid())
    return int(driver_connection.get_server_pid()) if driver == "asyncpg" else None


def watch_durability(driver: str, connection: Any, tell: Callable[[], None]) -> None:
    """Call `tell` when a COMMIT gave up waiting for its synchronous standby, and yet returns.

    The server's only sign is a warning (01000, or 57P01 where it ended the session), whose text is
    translated; the function that it comes from is not. psycopg2 does not show it.
    """
    if driver in ("psycopg", "psycopg_async"):
        connection.add_notice_handler(lambda notice: _tell_of(notice.source_function, tell))
    elif driver == "asyncpg":
        connection.add_log_listener(
            lambda _, message: _tell_of(getattr(message, "server_source_function", None), tell)
        )


def _tell_of(function: str | None, tell: Callable[[], None]) -> None:
    if function == "SyncRepWaitForLSN":
        tell()


def adopt_timer(connection: Any, timer: Timer) -> None:
    """Let a driver connection know when it is due, where it is of a class that asks."""
    if hasattr(type(connection), "timer"):
        connection.timer = timer


def transaction_status(connection: PoolProxiedConnection) -> TransactionStatus:
    """Return what the driver knows of the transaction, as of the server's last answer."""
    driver_connection = connection.driver_connection
    info = getattr(driver_connection, "info", None)  # psycopg, psycopg2
    if info is not None:
        return _LIBPQ_STATUS.get(int(info.transaction_status), TransactionStatus.UNKNOWN)
    ask = getattr(driver_connection, "is_in_transaction", None)  # asyncpg, which hides a failed one
    if ask is not None:
        return TransactionStatus.OPEN if ask() else TransactionStatus.NONE
    return TransactionStatus.UNKNOWN


class TransactionStatus(Enum):
    """Whether there is a transaction, and whether it can still be committed."""

    NONE = "none"
    OPEN = "open"
    FAILED = "failed"
    UNKNOWN = "unknown"


# libpq, PQtransactionStatus: PQTRANS_IDLE is 0, ACTIVE 1, INTRANS 2, INERROR 3, UNKNOWN 4
_LIBPQ_STATUS = {
    0: TransactionStatus.NONE,
    2: TransactionStatus.OPEN,
    3: TransactionStatus.FAILED,
}
