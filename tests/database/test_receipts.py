"""Claims C5 and C6 on a healthy server: every transaction leaves a receipt, a key works once."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from tests.database.conftest import Client, Clients

from failstop.errors import (
    ConfigurationError,
    IdempotencyConflictError,
    KeyInFlightError,
    Outcome,
    ReceiptExpiredError,
    TransactionFailedError,
)
from failstop.recovery import Recovery
from failstop.testing import FaultProxy, PostgresDatabase, PostgresServer

QUIET = Recovery(probe_interval=3600)
RECEIPTS = "SELECT key, fingerprint, result, service, is_automatic FROM failstop.receipt"


def insert(connection: Connection, number: int = 1) -> None:
    connection.execute(text("INSERT INTO trades VALUES (:number, 100)"), {"number": number})


def trades(postgres: PostgresDatabase) -> list[int]:
    return [number for (number,) in postgres.execute("SELECT id FROM trades ORDER BY id")]


class TestTransaction:
    def test_a_commit_leaves_one_receipt_and_a_rollback_none(
        self, client: Client, postgres: PostgresDatabase
    ) -> None:
        client.transaction(insert)
        with pytest.raises(DBAPIError):
            client.transaction(insert)  # the same primary key
        rows = postgres.execute(RECEIPTS)
        assert [(service, is_automatic) for _, _, _, service, is_automatic in rows] == [
            ("tests", True)
        ]
        assert client.trips == []

    def test_a_read_leaves_none(self, client: Client, postgres: PostgresDatabase) -> None:
        client.query("SELECT 1")
        assert postgres.execute(RECEIPTS) == []

    def test_the_plain_engine_leaves_one_too(
        self, client: Client, postgres: PostgresDatabase
    ) -> None:
        client.begin(insert)
        assert len(postgres.execute(RECEIPTS)) == 1

    @pytest.mark.parametrize(
        "key", ["order-1", "o'rder", "a\\b'; DROP TABLE trades; --", "ключ-€😀"]
    )
    def test_a_key_is_kept_as_it_is(
        self, client: Client, postgres: PostgresDatabase, key: str
    ) -> None:
        client.transaction(insert, key=key)
        assert [row[0] for row in postgres.execute(RECEIPTS)] == [key]

    def test_a_key_takes_effect_once(self, client: Client, postgres: PostgresDatabase) -> None:
        client.transaction(insert, key="order-1")
        with pytest.raises(IdempotencyConflictError) as caught:
            client.transaction(lambda connection: insert(connection, 2), key="order-1")
        assert caught.value.key == "order-1"
        assert trades(postgres) == [1]
        assert client.trips == []

    def test_a_key_that_was_rolled_back_may_be_used_again(
        self, client: Client, postgres: PostgresDatabase
    ) -> None:
        def fail(connection: Connection) -> None:
            insert(connection)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            client.transaction(fail, key="order-1")
        client.transaction(insert, key="order-1")
        assert trades(postgres) == [1]

    @pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
    def test_the_isolation_level_is_the_one_asked_for(self, client: Client, level: str) -> None:
        def read(connection: Connection) -> str:
            found: str = connection.execute(text("SHOW transaction_isolation")).scalar_one()
            return found

        assert client.transaction(read, isolation_level=level, key="k").upper() == level

    def test_a_savepoint_that_is_undone_keeps_the_receipt(
        self, client: Client, postgres: PostgresDatabase
    ) -> None:
        def body(connection: Connection) -> None:
            with connection.begin_nested() as savepoint:
                insert(connection)
                savepoint.rollback()
            insert(connection, 2)

        client.transaction(body, key="order-1")
        assert trades(postgres) == [2]
        assert [row[0] for row in postgres.execute(RECEIPTS)] == ["order-1"]

    def test_a_session_carries_the_key(self, client: Client, postgres: PostgresDatabase) -> None:
        client.session(lambda session: session.execute(text("SELECT 1")), key="order-1")
        assert [row[0] for row in postgres.execute(RECEIPTS)] == ["order-1"]

    def test_a_block_that_rolled_back_itself_did_not_commit(self, client: Client) -> None:
        with pytest.raises(TransactionFailedError) as caught:
            client.transaction(lambda connection: connection.rollback(), key="order-1")
        assert caught.value.outcome is Outcome.ROLLED_BACK

    def test_the_second_of_two_waits_and_is_told_that_the_first_runs(
        self, client: Client, clients: Clients, postgres: PostgresDatabase
    ) -> None:
        other = clients("psycopg", postgres, deadline=5.0)

        def body(connection: Connection) -> None:
            insert(connection)
            with pytest.raises(KeyInFlightError) as caught:
                client.transaction(lambda second: insert(second, 2), key="order-1", deadline=0.3)
            assert caught.value.key == "order-1"

        other.transaction(body, key="order-1")
        assert trades(postgres) == [1]
        assert client.trips == other.trips == []

    @pytest.mark.parametrize("key", ["", " ", "a\nb", "a\0b", "k" * 256, 7])
    def test_what_is_no_key_is_refused(self, client: Client, key: Any) -> None:
        with pytest.raises(ConfigurationError):
            client.transaction(insert, key=key)

    def test_without_receipts_a_key_is_refused(
        self, driver: str, clients: Clients, postgres: PostgresDatabase
    ) -> None:
        client = clients(driver, postgres, receipts=False)
        with pytest.raises(ConfigurationError, match="receipts"):
            client.transaction(lambda connection: None, key="order-1")


class TestRunOnce:
    def test_the_result_is_stored_and_replayed(
        self, client: Client, postgres: PostgresDatabase
    ) -> None:
        def work(connection: Connection) -> dict[str, Any]:
            insert(connection)
            return {"id": 1, "price": [100, None, "é"]}

        first = client.run_once("order-1", work)
        assert first == {"id": 1, "price": [100, None, "é"]}
        assert client.run_once("order-1", work) == first
        assert trades(postgres) == [1]
        assert client.trips == []

    def test_another_fingerprint_is_a_conflict(self, client: Client) -> None:
        client.run_once("order-1", lambda connection: 1, fingerprint="a")
        assert client.run_once("order-1", lambda connection: 2, fingerprint="a") == 1
        with pytest.raises(IdempotencyConflictError):
            client.run_once("order-1", lambda connection: 2, fingerprint="b")

    @pytest.mark.parametrize("result", [object(), float("nan"), {1, 2}])
    def test_a_result_that_is_no_json_commits_nothing(
        self, client: Client, postgres: PostgresDatabase, result: object
    ) -> None:
        def work(connection: Connection) -> object:
            insert(connection)
            return result

        with pytest.raises(TypeError):
            client.run_once("order-1", work)
        assert trades(postgres) == []
        assert client.run_once("order-1", lambda connection: 7) == 7

    def test_a_pruned_receipt_is_too_old_to_know(
        self, client: Client, postgres: PostgresDatabase
    ) -> None:
        client.run_once("order-1", lambda connection: 1)
        postgres.execute("UPDATE failstop.receipt SET result = NULL, is_pruned = true")
        with pytest.raises(ReceiptExpiredError):
            client.run_once("order-1", insert)
        assert trades(postgres) == []

    def test_a_key_of_a_plain_transaction_is_a_conflict(self, client: Client) -> None:
        client.transaction(insert, key="order-1")
        with pytest.raises(IdempotencyConflictError):
            client.run_once("order-1", lambda connection: 1)

    def test_twins_do_the_work_once_and_return_the_same(
        self, clients: Clients, postgres: PostgresDatabase, driver: str
    ) -> None:
        postgres.execute("CREATE TABLE trades (id serial PRIMARY KEY, price integer)")
        twins = [clients(driver, postgres) for _ in range(3)]
        results: list[int] = []

        def work(connection: Connection) -> int:
            connection.execute(text("SELECT pg_sleep(0.1)"))
            statement = text("INSERT INTO trades (price) VALUES (1) RETURNING id")
            number: int = connection.execute(statement).scalar_one()
            return number

        threads = [
            threading.Thread(target=lambda twin=twin: results.append(twin.run_once("k", work)))
            for twin in twins
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [1, 1, 1]
        assert trades(postgres) == [1]


@pytest.mark.parametrize(
    ("driver", "more"), [("psycopg", 0), ("psycopg_async", 0), ("asyncpg", 0), ("psycopg2", 1)]
)
def test_receipt_and_fence_cost_no_round_trip_of_their_own(
    driver: str, more: int, own_server: PostgresServer, clients: Clients
) -> None:
    """psycopg2 sends its BEGIN apart, so there they cost one."""
    trips = []
    for is_on in (True, False):
        with FaultProxy(own_server) as proxy:
            name = {"psycopg_async": "psycopg"}.get(driver, driver)
            url = proxy.url(own_server.url(driver=name))
            client = clients(driver, url, receipts=is_on, fence=is_on, recovery=QUIET)
            client.transaction(insert)  # what is made and prepared once is now
            client.transaction(lambda connection: connection.execute(text("DELETE FROM trades")))
            before = proxy.round_trips
            client.transaction(insert)
            trips.append(proxy.round_trips - before)
            client.transaction(lambda connection: connection.execute(text("DELETE FROM trades")))
            client.close()
    assert trips[0] == trips[1] + more
