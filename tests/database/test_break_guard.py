"""What once broke the guard: outcomes that were wrong, trips that were false, waits without end."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from tests.forking import exit_code

from failstop import (
    ConfigurationError,
    CriticalDatabaseError,
    CriticalError,
    FailSafe,
    OperationsSuspendedError,
    Outcome,
    with_fail_fast_protection,
)
from failstop.database import AsyncDatabase, Database, deadline
from failstop.database._attempt import MOST_ABANDONED, Attempts
from failstop.recovery import Recovery
from failstop.testing import PostgresDatabase, PostgresServer

# SQLAlchemy leaves the cursor of a lost connection to the collector
pytestmark = pytest.mark.filterwarnings(r"ignore:<psycopg\..*ServerCursor:ResourceWarning")

BY_HAND = Recovery(probe_interval=30.0, mode="manual")
INSERT = text("INSERT INTO trades VALUES (1, 1)")


def ids(postgres: PostgresDatabase) -> list[Any]:
    return postgres.execute("SELECT id FROM trades ORDER BY id")


def test_work_that_the_body_committed_itself_is_never_told_as_rolled_back(
    client: Any, postgres: PostgresDatabase
) -> None:
    def body(connection: Connection) -> None:
        connection.execute(INSERT)
        connection.execute(text("COMMIT"))

    with pytest.raises(CriticalError) as caught:
        client.transaction(body)
    assert ids(postgres) == [(1,)]
    assert not caught.value.safe_to_retry


def test_a_transaction_that_the_body_rolled_back_does_not_return(
    client: Any, postgres: PostgresDatabase
) -> None:
    def body(connection: Connection) -> None:
        connection.execute(INSERT)
        connection.rollback()

    with pytest.raises(CriticalError) as caught:
        client.transaction(body)
    assert caught.value.outcome is Outcome.ROLLED_BACK


def test_work_of_a_raw_cursor_speaks_in_the_response(
    client: Any, postgres: PostgresDatabase
) -> None:
    @with_fail_fast_protection(failsafe=client.failsafe)
    def handler() -> None:
        client.transaction(
            lambda connection: connection.connection.cursor().execute(
                "INSERT INTO trades VALUES (1, 1)"
            )
        )
        raise CriticalDatabaseError("a later read failed", outcome=Outcome.ROLLED_BACK)

    response = handler()
    assert ids(postgres) == [(1,)]
    assert response is not None
    assert response.body["details"]["safeToRetry"] is False


def test_no_commit_is_sent_after_a_trip_that_came_when_the_state_was_looked_at(
    client: Any, postgres: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = client.database._guard
    check = guard.before_commit

    def check_then_trip(*arguments: Any) -> None:
        check(*arguments)
        client.failsafe.trip(CriticalDatabaseError("elsewhere"))

    monkeypatch.setattr(guard, "before_commit", check_then_trip)
    with pytest.raises(CriticalError):
        client.transaction(lambda connection: connection.execute(INSERT))
    assert ids(postgres) == []


def test_a_call_that_used_up_its_own_time_before_checkout_trips_nothing(client: Any) -> None:
    with suppress(TimeoutError), deadline(0.05):
        time.sleep(0.1)
        client.query("SELECT 1")
    assert client.failsafe.is_normal


def test_a_rollback_of_an_overdue_block_leaves_the_connection_usable(client: Any) -> None:
    def body(connection: Connection) -> Any:
        with suppress(ValueError), deadline(0.1), connection.begin():
            connection.execute(text("SELECT 1"))
            time.sleep(0.2)
            raise ValueError
        return connection.execute(text("SELECT 2")).scalar()

    async def work() -> Any:
        async with client.database.engine.connect() as connection:
            return await connection.run_sync(body)

    with suppress(DBAPIError, TimeoutError):
        if client.is_async:
            client.run(work)
        else:
            with client.engine.connect() as connection:
                body(connection)
    assert client.failsafe.is_normal


def test_a_slow_reader_of_a_server_side_cursor_trips_nothing(
    driver: str, postgres: PostgresDatabase, clients: Any
) -> None:
    client = clients(driver, postgres, deadline=0.5)

    def body(connection: Connection) -> int:
        rows = connection.execution_options(stream_results=True, max_row_buffer=10).execute(
            text("SELECT generate_series(1, 2000)")
        )
        rows.fetchone()
        time.sleep(0.8)
        return len(rows.fetchall())

    with suppress(DBAPIError, TimeoutError):
        client.begin(body)
    assert client.trips == []
    gc.collect()  # while the warning of the cursor that was left is ignored


def test_a_long_executemany_of_short_statements_trips_nothing(
    driver: str, postgres: PostgresDatabase, clients: Any
) -> None:
    client = clients(driver, postgres, deadline=0.5)
    postgres.execute("CREATE TABLE once (id integer); INSERT INTO once VALUES (1)")
    slow = text("UPDATE once SET id = 1 FROM (SELECT pg_sleep(:t)) AS nap")
    with suppress(DBAPIError, TimeoutError):
        client.begin(lambda connection: connection.execute(slow, [{"t": 0.05}] * 20))
    assert client.trips == []


def test_a_slow_statement_after_a_savepoint_was_rolled_back_trips_nothing(
    driver: str, postgres: PostgresDatabase, clients: Any
) -> None:
    client = clients(driver, postgres, deadline=2.0)

    def body(connection: Connection) -> None:
        savepoint = connection.begin_nested()
        time.sleep(1.2)
        connection.execute(text("SELECT 1"))
        savepoint.rollback()
        connection.execute(text("SELECT pg_sleep(5)"))

    with pytest.raises(DBAPIError):
        client.transaction(body)
    assert client.trips == []


def test_a_pool_that_commits_on_return_is_refused() -> None:
    engine = create_engine("postgresql+psycopg://localhost/x", pool_reset_on_return="commit")
    with pytest.raises(ConfigurationError, match="pool_reset_on_return"):
        Database(engine, FailSafe("tests"))


async def test_asyncpg_from_a_creator_of_the_user_s_never_rolls_back_in_silence(
    postgres: PostgresDatabase,
) -> None:
    import asyncpg

    postgres.execute("CREATE TABLE trades (id integer PRIMARY KEY, price integer)")
    dsn = postgres.url(driver=None)
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(dsn)
    )
    failsafe = FailSafe("tests", recovery=BY_HAND)
    try:
        with pytest.raises((CriticalError, ConfigurationError)):
            database = AsyncDatabase(engine, failsafe)
            await asyncio.to_thread(failsafe.start)
            async with database.transaction() as connection:
                await connection.execute(INSERT)
                with suppress(DBAPIError):
                    await connection.execute(text("SELECT 1/0"))
    finally:
        await asyncio.to_thread(failsafe.close)
        await engine.dispose()


def test_a_connection_of_the_user_s_making_without_a_timeout_is_refused_at_the_start(
    postgres: PostgresDatabase,
) -> None:
    import psycopg

    dsn = postgres.url(driver=None)
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn))
    failsafe = FailSafe("tests", recovery=BY_HAND)
    try:
        Database(engine, failsafe, deadline=0.5)
        with pytest.raises(ConfigurationError, match="statement_timeout"):
            failsafe.start()
        assert not failsafe.is_normal
    finally:
        failsafe.close()
        engine.dispose()


def test_options_of_the_environment_are_kept(
    postgres: PostgresDatabase, clients: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c search_path=pg_catalog")
    assert clients("psycopg", postgres).query("SHOW search_path") == [("pg_catalog",)]


def test_a_child_sends_nothing_on_a_connection_of_its_parent(
    postgres: PostgresDatabase, clients: Any
) -> None:
    postgres.execute("CREATE TABLE trades (id integer PRIMARY KEY, price integer)")
    client = clients("psycopg", postgres)
    child = -1
    try:
        with client.database.transaction() as connection:
            connection.execute(INSERT)
            child = os.fork()
            if child == 0:
                raise KeyboardInterrupt
            exit_code(child)
    finally:
        if child == 0:
            os._exit(0)
    assert ids(postgres) == [(1,)]


def test_silence_after_a_failed_executemany_is_an_outage(
    driver: str, own_server: PostgresServer, clients: Any
) -> None:
    """A failed `executemany()` must not leave the connection taken for a busy one."""
    url = own_server.url(driver={"psycopg_async": "psycopg"}.get(driver, driver))
    client = clients(driver, url, deadline=1.0, recovery=BY_HAND)

    def body(connection: Connection) -> None:
        with suppress(DBAPIError), connection.begin_nested():
            connection.execute(
                text("INSERT INTO trades VALUES (:id, 1)"), [{"id": 1}, {"id": 1}, {"id": 2}]
            )
        own_server.freeze("backends")
        connection.execute(text("SELECT 1"))

    try:
        with pytest.raises(CriticalError) as caught:
            client.transaction(body)
    finally:
        own_server.thaw()
    assert caught.value.kind == "deadline_exceeded"
    assert len(client.trips) == 1


def test_an_answer_that_comes_with_the_cut_is_no_silence(
    driver: str, postgres: PostgresDatabase, clients: Any
) -> None:
    """COMMIT is answered, and the watchdog cuts before anybody disarmed: committed, no outage."""
    postgres.execute("CREATE TABLE trades (id integer PRIMARY KEY, price integer)")
    client = clients(driver, postgres, recovery=BY_HAND)
    dialect = client.engine.dialect
    commit = dialect._commit

    def commit_then_cut(line: Any, *work: Any) -> Any:
        answer = commit(line, *work)
        line.due = time.monotonic()
        line.expire(time.monotonic())
        return answer

    dialect._commit = commit_then_cut
    client.transaction(lambda connection: connection.execute(INSERT))
    del dialect._commit
    assert ids(postgres) == [(1,)]
    assert client.trips == []
    assert client.query("SELECT 1") == [(1,)]


def test_a_read_whose_answer_comes_with_a_trip_ends_well(
    driver: str, postgres: PostgresDatabase, clients: Any
) -> None:
    """Nothing can be rolled back on a connection that was cut, and nothing has to be."""
    client = clients(driver, postgres, recovery=BY_HAND)
    dialect = client.engine.dialect
    send = dialect._send

    def send_then_trip(execute: Any, *arguments: Any, **options: Any) -> None:
        def execute_then_trip(*inner: Any) -> None:
            execute(*inner)
            del dialect._send  # the halt sends statements of its own
            client.failsafe.halt(actor="ann", reason="drill")

        send(execute_then_trip, *arguments, **options)

    dialect._send = send_then_trip
    assert client.query("SELECT 1") == [(1,)]
    with pytest.raises(OperationsSuspendedError):
        client.query("SELECT 1")


@pytest.mark.parametrize("seconds", [5.0, 0.2], ids=["in time", "its time is over"])
def test_a_halt_from_within_a_statement_reaches_the_fence_and_waits_for_nothing_of_its_own(
    seconds: float, driver: str, postgres: PostgresDatabase, clients: Any
) -> None:
    """On the event loop's thread too, which can serve nothing else meanwhile."""
    postgres.execute("CREATE TABLE trades (id integer PRIMARY KEY, price integer)")
    client = clients(driver, postgres, recovery=BY_HAND, deadline=5.0)
    reports: list[Any] = []

    def halt(*_: object) -> None:
        event.remove(client.engine, "after_cursor_execute", halt)
        time.sleep(2 * seconds if seconds < 1 else 0)
        began = time.monotonic()
        reports.append(client.failsafe.halt(actor="ann", reason="drill"))
        assert time.monotonic() - began < 4

    def body(connection: Connection) -> None:
        event.listen(client.engine, "after_cursor_execute", halt)
        connection.execute(INSERT)

    with pytest.raises((OperationsSuspendedError, TimeoutError)), deadline(seconds):
        client.transaction(body)
    assert [each.is_exact for each in reports] == [True]
    assert ids(postgres) == []


def test_attempts_count_no_thread_that_could_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    attempts = Attempts("database")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        for _ in range(MOST_ABANDONED + 1):
            with pytest.raises(RuntimeError):
                attempts.make(lambda: "never", lambda _: None, 1)
    assert attempts.make(lambda: "well", lambda _: None, 5) == "well"
