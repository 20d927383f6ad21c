"""The same promises on SQLite, whose driver has no socket: `interrupt()` ends its statements."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from failstop import FailSafe
from failstop.database import AsyncDatabase, Database
from failstop.database.schema import schema_sql
from failstop.errors import (
    CriticalDatabaseError,
    IdempotencyConflictError,
    OperationsSuspendedError,
    Outcome,
)
from failstop.recovery import Recovery

QUIET = Recovery(probe_interval=60)
SLOW = (
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 500000000) "
    "SELECT count(*) FROM n"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE trades (id INTEGER PRIMARY KEY, price INTEGER)")
        connection.executescript(schema_sql(dialect="sqlite"))
    connection.close()
    return path


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    engine = create_engine(f"sqlite:///{path}")
    with FailSafe("tests", recovery=QUIET) as failsafe:
        yield Database(engine, failsafe, deadline=1.0)
    engine.dispose()


def count(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT count(*) FROM trades").fetchone()[0])
    finally:
        connection.close()


def test_work_that_returned_is_committed(database: Database, path: Path) -> None:
    with database.transaction() as connection:
        connection.execute(text("INSERT INTO trades VALUES (1, 1)"))
    assert count(path) == 1
    assert database.query("SELECT id FROM trades") == [(1,)]


def test_a_slow_statement_is_interrupted_at_the_deadline_and_trips_nothing(
    database: Database,
) -> None:
    started = time.monotonic()
    with pytest.raises(OperationalError, match="interrupted"):
        database.query(SLOW, deadline=0.2)
    assert time.monotonic() - started < 3.0
    assert database.failsafe.is_normal
    assert database.query("SELECT 1") == [(1,)]


def test_a_slow_statement_is_interrupted_on_the_async_driver_too(path: Path) -> None:
    async def work(failsafe: FailSafe) -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
        database = AsyncDatabase(engine, failsafe, deadline=0.3)
        with pytest.raises(OperationalError, match="interrupted"):
            await database.query(SLOW)
        async with database.transaction() as connection:
            await connection.execute(text("INSERT INTO trades VALUES (1, 1)"))
        await engine.dispose()

    with FailSafe("tests", recovery=QUIET) as failsafe:
        asyncio.run(work(failsafe))
        assert failsafe.is_normal
    assert count(path) == 1


def test_a_constraint_is_the_application_s(database: Database) -> None:
    with pytest.raises(IntegrityError), database.transaction() as connection:
        connection.execute(text("INSERT INTO trades VALUES (1, 1), (1, 1)"))
    assert database.failsafe.is_normal


def test_a_trip_stops_the_commit(database: Database, path: Path) -> None:
    with pytest.raises(OperationsSuspendedError) as raised, database.transaction() as connection:
        connection.execute(text("INSERT INTO trades VALUES (1, 1)"))
        database.failsafe.halt(actor="tester", reason="test")
    assert raised.value.outcome is Outcome.ROLLED_BACK
    assert count(path) == 0


def test_a_commit_that_found_the_database_locked_is_not_committed_by_the_next_user(
    tmp_path: Path, path: Path
) -> None:
    """Trap 2: SQLAlchemy returns such a connection to its pool with the transaction open."""
    engine = create_engine(f"sqlite:///{path}", pool_size=1, max_overflow=0)
    with FailSafe("tests", recovery=QUIET) as failsafe:
        database = Database(engine, failsafe, deadline=0.3)
        reader = sqlite3.connect(path)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM trades").fetchall()
        with pytest.raises(DBAPIError), engine.connect() as connection:
            connection.execute(text("INSERT INTO trades VALUES (1, 1)"))
            connection.commit()
        reader.rollback()
        reader.close()
        assert failsafe.is_normal
        with database.transaction() as connection:
            connection.execute(text("INSERT INTO trades VALUES (2, 2)"))
    engine.dispose()
    connection = sqlite3.connect(path)  # type: ignore[assignment] # the driver's own
    assert connection.execute("SELECT id FROM trades").fetchall() == [(2,)]  # type: ignore[call-overload] # as above
    connection.close()


def test_a_file_that_is_no_database_is_critical(database: Database, path: Path) -> None:
    database.query("SELECT * FROM trades")
    database.engine.dispose()
    path.write_bytes(b"this is no database " * 1000)
    with pytest.raises(CriticalDatabaseError):
        database.query("SELECT * FROM trades")
    assert not database.failsafe.is_normal


def test_the_schema_is_the_receipts_alone(database: Database, path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE failstop_receipt")
    connection.close()
    assert database.create_schema() == ("failstop_receipt",)
    assert database.create_schema() == database.missing_schema() == ()
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO failstop_receipt (key, service) VALUES ('k', 's')")
    rows = connection.execute("SELECT is_automatic, is_pruned FROM failstop_receipt").fetchall()
    connection.close()
    assert rows == [(0, 0)]


def test_threads_share_a_guarded_engine(database: Database, path: Path) -> None:
    errors: list[BaseException] = []

    def insert(number: int) -> None:
        try:
            with database.transaction() as connection:
                connection.execute(text(f"INSERT INTO trades VALUES ({number}, 1)"))
        except DBAPIError as error:  # locked for the whole deadline: a conflict
            errors.append(error)

    threads = [threading.Thread(target=insert, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert count(path) == 8 - len(errors)
    assert database.failsafe.is_normal


def receipts(path: Path) -> list[tuple[str, str | None]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT key, result FROM failstop_receipt").fetchall()
    finally:
        connection.close()


def test_a_key_takes_effect_once(database: Database, path: Path) -> None:
    with database.transaction(key="order-1") as connection:
        connection.execute(text("INSERT INTO trades VALUES (1, 1)"))
    with (
        pytest.raises(IdempotencyConflictError),
        database.transaction(key="order-1") as connection,
    ):
        connection.execute(text("INSERT INTO trades VALUES (2, 2)"))
    with database.transaction(key="order-2") as connection:  # the same connection of the pool
        connection.execute(text("INSERT INTO trades VALUES (3, 3)"))
    assert count(path) == 2
    assert receipts(path) == [("order-1", None), ("order-2", None)]
    assert database.failsafe.is_normal


def test_work_runs_once_and_its_result_is_replayed(database: Database, path: Path) -> None:
    for _ in range(2):
        assert database.run_once("order-1", lambda connection: {"id": 7}) == {"id": 7}
    assert receipts(path) == [("order-1", '{"id": 7}')]


def test_the_async_driver_runs_work_once_too(path: Path) -> None:
    async def insert(connection: AsyncConnection) -> int:
        await connection.execute(text("INSERT INTO trades VALUES (1, 1)"))
        return 7

    async def work(failsafe: FailSafe) -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
        database = AsyncDatabase(engine, failsafe)
        for _ in range(2):
            assert await database.run_once("order-1", insert) == 7
        await engine.dispose()

    with FailSafe("tests", recovery=QUIET) as failsafe:
        asyncio.run(work(failsafe))
    assert count(path) == 1


def test_a_read_writes_nothing_and_waits_for_no_writer(database: Database, path: Path) -> None:
    writer = sqlite3.connect(path)
    writer.execute("BEGIN IMMEDIATE")
    assert database.query("SELECT count(*) FROM trades")[0][0] == 0
    writer.rollback()
    writer.close()
    assert receipts(path) == []


def test_a_commit_that_failed_keeps_no_receipt(database: Database, path: Path) -> None:
    with pytest.raises(ZeroDivisionError), database.transaction(key="order-1"):
        raise ZeroDivisionError
    assert receipts(path) == []
