"""What a database counts: how operations ended, who ended late ones, and how its pool is used."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError
from tests.database.conftest import Client, Clients
from tests.waiting import wait_until

from failstop import FailSafe, Outcome, deadline
from failstop.counts import Deadline, Result, Tally
from failstop.database import Database
from failstop.errors import CriticalError, OperationsSuspendedError
from failstop.testing import FaultProxy, PostgresDatabase

INSERT = text("INSERT INTO trades VALUES (1, 10)")


def insert(connection: Connection) -> None:
    connection.execute(INSERT)


def insert_twice(connection: Connection) -> int:
    connection.execute(text("INSERT INTO trades VALUES (2, 10), (3, 10)"))
    return 2


def ends(client: Client) -> dict[Result, int]:
    found = client.database.counts().operations
    return {result: count for result, count in found.items() if count}


def test_each_operation_is_counted_once_with_its_end(client: Client) -> None:
    client.transaction(insert)
    client.query("SELECT 1")
    client.query("SELECT 2")
    with pytest.raises(IntegrityError):
        client.transaction(insert)
    with pytest.raises(ZeroDivisionError):
        client.transaction(lambda connection: insert_twice(connection) // 0)
    assert ends(client) == {
        Result.COMMITTED: 1,
        Result.READ: 2,
        Result.APPLICATION_ERROR: 1,
        Result.ROLLED_BACK: 1,
    }


def test_what_the_engine_does_by_itself_is_counted_too(client: Client) -> None:
    client.begin(insert)
    assert ends(client) == {Result.COMMITTED: 1}


def test_a_statement_that_the_server_ended_is_a_conflict_and_a_deadline(client: Client) -> None:
    with pytest.raises(DBAPIError):
        client.query("SELECT pg_sleep(5)", deadline=0.2)
    assert ends(client) == {Result.CONFLICT: 1}
    assert client.database.counts().deadlines[Deadline.SERVER] == 1


def test_an_operation_that_a_critical_failure_ends_has_failed(client: Client) -> None:
    with pytest.raises(CriticalError):
        client.transaction(
            lambda connection: connection.execute(
                text("SELECT pg_terminate_backend(pg_backend_pid())")
            )
        )
    assert ends(client) == {Result.FAILED: 1}


def test_a_commit_without_an_answer_that_cannot_be_asked_about_is_unknown(
    clients: Clients, postgres: PostgresDatabase, fault_proxy: FaultProxy
) -> None:
    postgres.execute("CREATE TABLE trades (id integer PRIMARY KEY, price integer)")
    client = clients("psycopg", fault_proxy.url(postgres.url()), deadline=0.5)
    fault_proxy.before_reply("COMMIT").black_hole()
    with pytest.raises(CriticalError) as caught:
        client.transaction(insert)
    assert caught.value.outcome is Outcome.UNKNOWN
    assert ends(client) == {Result.UNKNOWN: 1}
    assert client.database.counts().deadlines[Deadline.WATCHDOG] >= 1


def test_a_call_whose_time_is_over_is_counted(client: Client) -> None:
    def overdue() -> None:
        with deadline(0.001):
            threading.Event().wait(0.01)
            client.query("SELECT 1")

    with pytest.raises(TimeoutError):
        overdue()
    assert client.database.counts().deadlines[Deadline.CALL] == 1


def test_the_probe_is_no_operation(client: Client) -> None:
    client.failsafe.plan_reset()
    assert ends(client) == {}


def test_a_pool_tells_who_uses_it_and_who_waits(
    clients: Clients, postgres: PostgresDatabase
) -> None:
    client = clients("psycopg", postgres, pool_size=1, max_overflow=0)
    database: Database = client.database
    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as connection:
            connection.execute(text("SELECT 1"))
            waiting = pool.submit(client.query, "SELECT 1")
            wait_until(lambda: pool_of(database).waiting == 1)
            used = pool_of(database)
            assert (used.in_use, used.idle, used.limit) == (1, 0, 1)
        assert waiting.result(10)
    used = pool_of(database)
    assert (used.in_use, used.idle, used.waiting) == (0, 1, 0)


def pool_of(database: Database) -> Any:
    return database.counts().pool


def test_a_failsafe_counts_refusals_and_failure_responses_by_their_outcome() -> None:
    from failstop import with_fail_fast_protection

    failsafe = FailSafe("tests")

    @with_fail_fast_protection(failsafe=failsafe)
    def handler() -> None:
        raise AssertionError("it is not called")

    handler()
    with pytest.raises(OperationsSuspendedError):
        failsafe.require()
    counts = failsafe.counts()
    assert counts.refusals == 2
    assert counts.responses[Outcome.NOT_STARTED] == 1
    assert sum(counts.responses.values()) == 1


def test_a_failsafe_tells_what_each_of_its_databases_counted(client: Client) -> None:
    client.query("SELECT 1")
    assert client.failsafe.counts().databases["database"] == client.database.counts()


def test_a_tally_loses_nothing_and_a_look_at_it_changes_nothing() -> None:
    tally = Tally()

    def count(_: int) -> None:
        for _ in range(5000):
            tally.one()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert [tally.count, tally.count] == [20_000, 20_000]
