"""Cancellation and concurrency: what only async code can do to a guarded call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text

from failstop.errors import CriticalError, OperationsSuspendedError, Outcome
from failstop.recovery import Recovery
from failstop.testing import PostgresDatabase, PostgresServer

SLACK = 3.0
SLOW_COMMIT = (
    """CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$""",
    """CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON trades DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION slow()""",
)
INSERT = text("INSERT INTO trades VALUES (1, 1)")


@pytest.fixture(params=["psycopg_async", "asyncpg"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(client: Any, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` and see that it leaves no task behind."""

    async def all_of_it() -> None:
        before = asyncio.all_tasks()
        await work()
        limit = time.monotonic() + 5
        while asyncio.all_tasks() - before:
            assert time.monotonic() < limit, f"left behind: {asyncio.all_tasks() - before}"
            await asyncio.sleep(0.01)

    client.run(all_of_it)


def test_a_cancelled_commit_is_carried_through(client: Any, postgres: PostgresDatabase) -> None:
    """Fact 5: a client-side timeout around a COMMIT is no rollback; so it waits for the answer."""
    for statement in SLOW_COMMIT:
        postgres.execute(statement)

    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                async with client.database.transaction() as connection:
                    await connection.execute(INSERT)
        assert postgres.execute("SELECT count(*) FROM trades") == [(1,)]

    run(client, work)
    assert client.trips == []
    assert client.query("SELECT 1") == [(1,)]


def test_a_commit_cancelled_twice_is_still_carried_through(
    client: Any, postgres: PostgresDatabase
) -> None:
    for statement in SLOW_COMMIT:
        postgres.execute(statement)

    async def commit() -> None:
        async with client.database.transaction() as connection:
            await connection.execute(INSERT)

    async def work() -> None:
        task = asyncio.create_task(commit())
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert postgres.execute("SELECT count(*) FROM trades") == [(1,)]

    run(client, work)
    assert client.trips == []


def test_a_commit_that_is_cancelled_and_gets_no_answer_is_told_as_unknown(
    driver: str, own_server: PostgresServer, clients: Any
) -> None:
    url = own_server.url(driver={"psycopg_async": "psycopg"}.get(driver, driver))
    client = clients(driver, url, deadline=1.0, recovery=Recovery(probe_interval=60))

    async def work() -> None:
        started = time.monotonic()
        with pytest.raises(CriticalError) as raised:
            async with asyncio.timeout(0.3):
                async with client.database.transaction() as connection:
                    await connection.execute(INSERT)
                    own_server.freeze()
        assert raised.value.outcome is Outcome.UNKNOWN
        assert time.monotonic() - started < 1.0 + SLACK

    try:
        run(client, work)
    finally:
        own_server.thaw()
    assert len(client.trips) == 1


def test_a_cancelled_statement_leaves_no_open_transaction_in_the_pool(
    client: Any, postgres: PostgresDatabase
) -> None:
    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                async with client.database.transaction() as connection:
                    await connection.execute(INSERT)
                    await connection.execute(text("SELECT pg_sleep(30)"))

    run(client, work)
    assert client.query("SELECT count(*) FROM trades") == [(0,)]
    open_ones = (
        "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' "
        "AND datname = current_database()"
    )
    limit = time.monotonic() + 10
    while postgres.execute(open_ones) != [(0,)]:  # the server has yet to see that we have left
        assert time.monotonic() < limit
        time.sleep(0.01)
    assert client.trips == []


def test_a_statement_cancelled_on_a_frozen_server_ends_by_the_deadline(
    driver: str, own_server: PostgresServer, clients: Any
) -> None:
    """Psycopg alone would wait five seconds for the server to cancel, then five for its answer."""
    url = own_server.url(driver={"psycopg_async": "psycopg"}.get(driver, driver))
    client = clients(driver, url, deadline=1.0, recovery=Recovery(probe_interval=60))

    async def work() -> None:
        started = time.monotonic()
        with pytest.raises((TimeoutError, CriticalError)):
            async with asyncio.timeout(0.2):
                async with client.database.transaction() as connection:
                    await connection.execute(INSERT)
                    own_server.freeze()
                    await connection.execute(text("SELECT 1"))
        assert time.monotonic() - started < 1.0 + SLACK

    try:
        run(client, work)
    finally:
        own_server.thaw()


def test_a_cancelled_connect_leaves_nothing_behind(
    driver: str, own_server: PostgresServer, clients: Any
) -> None:
    url = own_server.url(driver={"psycopg_async": "psycopg"}.get(driver, driver))
    client = clients(driver, url, deadline=2.0, recovery=Recovery(probe_interval=60))
    own_server.freeze()

    async def work() -> None:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.database.query("SELECT 1")
        assert time.monotonic() - started < 2.0 + SLACK

    try:
        run(client, work)
    finally:
        own_server.thaw()


def test_a_trip_frees_all_tasks_that_are_blocked(
    driver: str, own_server: PostgresServer, clients: Any
) -> None:
    """Some in a statement, some at the checkout; the deadline is far."""
    url = own_server.url(driver={"psycopg_async": "psycopg"}.get(driver, driver))
    client = clients(
        driver, url, deadline=60, pool_size=5, max_overflow=0, recovery=Recovery(probe_interval=60)
    )

    async def work() -> None:
        async def call() -> None:
            with pytest.raises(OperationsSuspendedError):
                await client.database.query("SELECT pg_sleep(60)")

        tasks = [asyncio.create_task(call()) for _ in range(30)]
        limit = time.monotonic() + 20
        sleepers = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
        while own_server.execute(sleepers)[0][0] < 5:
            assert time.monotonic() < limit
            await asyncio.sleep(0.02)
        own_server.freeze("backends")
        started = time.monotonic()
        await asyncio.to_thread(client.failsafe.halt, actor="tester", reason="test")
        await asyncio.gather(*tasks)
        assert time.monotonic() - started < 1.0 + SLACK

    try:
        run(client, work)
    finally:
        own_server.thaw()


def test_a_task_that_waits_is_given_a_freed_connection(
    driver: str, postgres: PostgresDatabase, clients: Any
) -> None:
    client = clients(driver, postgres, deadline=5.0, pool_size=1, max_overflow=0)

    async def work() -> None:
        await asyncio.gather(*(client.database.query("SELECT pg_sleep(0.05)") for _ in range(10)))

    run(client, work)
    assert client.trips == []
