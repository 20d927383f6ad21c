"""Every guarded call ends in time, and only silence is an outage; on a real PostgreSQL.

Times are bounded generously: what is measured finely is in `benchmarks/`.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from failstop.database import deadline
from failstop.database._deadline import current_limit
from failstop.errors import (
    CommitOutcomeUnknownError,
    ConfigurationError,
    CriticalError,
    DatabaseUnavailableError,
    OperationsSuspendedError,
    Outcome,
)
from failstop.recovery import Recovery
from failstop.testing import PostgresDatabase, PostgresServer

SLACK = 3.0
"""Seconds that a busy machine may add before a bound counts as broken; a hang would add more."""

QUIET = Recovery(probe_interval=60)
"""A monitor that does not find the failure before the call does."""


def url_of(server: PostgresServer, driver: str) -> str:
    return server.url(driver={"psycopg_async": "psycopg"}.get(driver, driver))


def took(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


# The budget


def test_nested_deadlines_only_shrink() -> None:
    with deadline(10):
        outer = current_limit.get()
        assert outer is not None
        with deadline(1):
            inner = current_limit.get()
            assert inner is not None
            assert inner < outer
            with deadline(100):
                assert current_limit.get() == inner
        assert current_limit.get() == outer
    assert current_limit.get() is None


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "1", None, True])
def test_a_deadline_is_a_finite_number_above_zero(seconds: Any) -> None:
    with pytest.raises(ValueError, match="deadline"):
        deadline(seconds)


def test_a_call_s_own_deadline_must_be_one(client: Any) -> None:
    with pytest.raises(ConfigurationError, match="deadline"):
        client.query("SELECT 1", deadline=0)


# The database answers first


@pytest.mark.parametrize("seconds", [0.1, 0.5])
def test_a_slow_query_is_a_conflict_and_trips_nothing(
    driver: str, postgres: PostgresDatabase, clients: Any, seconds: float
) -> None:
    client = clients(driver, postgres, deadline=seconds)
    with pytest.raises(DBAPIError) as raised:
        client.query("SELECT pg_sleep(30)")
    assert "57014" in (getattr(raised.value.orig, "sqlstate", None), _pgcode(raised.value))
    assert client.trips == []
    assert client.query("SELECT 1") == [(1,)]


def _pgcode(error: DBAPIError) -> object:
    return getattr(error.orig, "pgcode", None)


def test_a_call_s_own_deadline_is_told_to_the_server(client: Any) -> None:
    """Shorter and longer than the database's own of five seconds."""
    assert took(lambda: _slow(client, 0.2)) < 0.2 + SLACK
    told = "SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'"
    assert 50_000 < client.query(told, deadline=60)[0][0] < 60_000
    assert client.query(told)[0][0] == 4_750
    assert client.trips == []


def _slow(client: Any, seconds: float) -> None:
    with pytest.raises(DBAPIError):
        client.query("SELECT pg_sleep(30)", deadline=seconds)


def test_many_statements_share_one_budget(client: Any) -> None:
    """The third would end long after the deadline, were each given the whole of it."""

    def body(connection: Connection) -> None:
        for _ in range(10):
            connection.execute(text("SELECT pg_sleep(0.4)"))

    def work() -> None:
        with pytest.raises((DBAPIError, TimeoutError)):
            client.transaction(body, deadline=1.0)

    assert took(work) < 1.0 + SLACK
    assert client.trips == []


def test_a_body_that_outlasts_the_deadline_sends_nothing_more(client: Any) -> None:
    outlast_deadline(client)
    assert client.query("SELECT count(*) FROM trades") == [(0,)]
    assert client.trips == []


def outlast_deadline(client: Any) -> None:
    def body(connection: Connection) -> None:
        connection.execute(text("INSERT INTO trades VALUES (1, 1)"))
        time.sleep(0.3)

    with pytest.raises(TimeoutError):
        client.transaction(body, deadline=0.2)


def test_closing_waits_for_no_connection_that_was_replaced(client: Any) -> None:
    """Half of the five seconds of a call, were the line of the old one armed for the new one."""
    outlast_deadline(client)
    client.query("SELECT 1")
    assert took(client.close) < 1.5


def test_a_locked_row_is_a_conflict(client: Any, postgres: PostgresDatabase, clients: Any) -> None:
    client.execute("INSERT INTO trades VALUES (1, 1)")
    other = clients("psycopg", postgres)
    with other.engine.connect() as connection:
        connection.execute(text("UPDATE trades SET price = 2"))
        with pytest.raises(DBAPIError):
            client.transaction(
                lambda c: c.execute(text("UPDATE trades SET price = 3")), deadline=0.3
            )
    assert client.trips == []


# Silence


@pytest.mark.parametrize("phase", ["first statement", "tenth statement", "commit", "rollback"])
def test_a_server_frozen_in_a_transaction_ends_the_call(
    driver: str, own_server: PostgresServer, clients: Any, phase: str
) -> None:
    client = clients(driver, url_of(own_server, driver), deadline=0.6, recovery=QUIET)

    def body(connection: Connection) -> None:
        for index in range(9 if phase == "tenth statement" else 1):
            connection.execute(text(f"INSERT INTO trades VALUES ({index}, 1)"))
        own_server.freeze()
        if phase == "rollback":
            raise KeyError
        if phase.endswith("statement"):
            connection.execute(text("SELECT 1"))

    def work() -> None:
        with pytest.raises(CriticalError) as raised:
            client.transaction(body)
        assert raised.value.kind == "deadline_exceeded"
        if phase == "commit":
            assert isinstance(raised.value, CommitOutcomeUnknownError)
            assert raised.value.outcome is Outcome.UNKNOWN
        else:
            assert isinstance(raised.value, DatabaseUnavailableError)
            assert raised.value.outcome is Outcome.ROLLED_BACK

    try:
        assert took(work) < 0.6 + SLACK
    finally:
        own_server.thaw()
    assert client.trips == ["deadline_exceeded"]


@pytest.mark.parametrize("connections", ["idle", "none"])
def test_a_frozen_server_ends_the_checkout(
    driver: str, own_server: PostgresServer, clients: Any, connections: str
) -> None:
    client = clients(driver, url_of(own_server, driver), deadline=0.6, recovery=QUIET)
    if connections == "idle":
        client.query("SELECT 1")
    own_server.freeze()
    try:

        def work() -> None:
            with pytest.raises(DatabaseUnavailableError) as raised:
                client.query("SELECT 1")
            assert raised.value.outcome is Outcome.NOT_STARTED

        assert took(work) < 0.6 + SLACK
    finally:
        own_server.thaw()
    assert len(client.trips) == 1


@pytest.mark.filterwarnings(  # SQLAlchemy leaves the cursor of a lost connection to the collector
    r"ignore:<psycopg\..*ServerCursor:ResourceWarning"
)
def test_a_server_side_cursor_is_bounded_to_its_last_row(
    driver: str, own_server: PostgresServer, clients: Any
) -> None:
    """It ends in time and trips nothing: a slow reader looks the same, so the monitor must tell."""
    client = clients(driver, url_of(own_server, driver), deadline=0.6, recovery=QUIET)

    def body(connection: Connection) -> None:
        result = connection.execution_options(stream_results=True, max_row_buffer=5).execute(
            text("SELECT generate_series(1, 100000)")
        )
        result.fetchmany(5)
        own_server.freeze()
        result.fetchall()

    def work() -> None:
        with pytest.raises(TimeoutError):
            client.transaction(body)

    try:
        assert took(work) < 0.6 + SLACK
    finally:
        own_server.thaw()
    assert client.trips == []
    gc.collect()  # while the warning of the cursor that was left is ignored


# A trip frees the blocked


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_trip_frees_all_who_are_blocked(
    driver: str, own_server: PostgresServer, clients: Any
) -> None:
    """200 in a statement and 20 at the checkout; the deadline is far.

    How many milliseconds the last one takes is measured in `benchmarks/freed.py`.
    """
    blocked, waiting = 200, 20
    own_server.limit_connections(blocked + 20)
    client = clients(
        driver,
        url_of(own_server, driver),
        deadline=60,
        pool_size=blocked,
        max_overflow=0,
        recovery=QUIET,
    )
    errors: list[BaseException] = []
    freed: list[float] = []

    def call() -> None:
        try:
            client.query("SELECT pg_sleep(60)")
        except BaseException as error:
            freed.append(time.monotonic())
            errors.append(error)

    threads = [threading.Thread(target=call, daemon=True) for _ in range(blocked + waiting)]
    for thread in threads:
        thread.start()
    wait_until(lambda: _sleepers(own_server) == blocked)
    wait_until(lambda: len(client.engine.pool._pool._places) == waiting)
    own_server.freeze("backends")
    try:
        tripped = time.monotonic()
        client.failsafe.halt(actor="tester", reason="test")
        for thread in threads:
            thread.join(10)
    finally:
        own_server.thaw()
        own_server.limit_connections(None)
    assert len(freed) == len(threads)
    assert max(freed) - tripped < 1.0 + SLACK
    assert {type(error) for error in errors} == {OperationsSuspendedError}
    outcomes = [error.outcome for error in errors if isinstance(error, CriticalError)]
    assert outcomes.count(Outcome.ROLLED_BACK) == blocked
    assert outcomes.count(Outcome.NOT_STARTED) == waiting


def _sleepers(server: PostgresServer) -> int:
    rows = server.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' "
        "AND state = 'active'"
    )
    return int(rows[0][0])


def test_a_commit_under_way_at_a_trip_may_be_answered(
    postgres: PostgresDatabase, clients: Any
) -> None:
    """An answer is worth more than a doubt: the commit here takes a moment, and is COMMITTED."""
    postgres.execute("CREATE TABLE trades (id integer PRIMARY KEY, price integer)")
    client = clients("psycopg", postgres)
    for index in range(20):
        started = threading.Event()

        def halt(started: threading.Event = started) -> None:
            started.wait(10)
            client.failsafe.halt(actor="tester", reason="test")

        thread = threading.Thread(target=halt)
        thread.start()

        def body(connection: Connection, index: int = index, go: Any = started) -> None:
            connection.execute(text(f"INSERT INTO trades VALUES ({index}, 1)"))
            go.set()

        try:
            client.transaction(body)
            outcome = Outcome.COMMITTED
        except CriticalError as error:
            outcome = error.outcome
        thread.join(10)
        rows = postgres.execute(f"SELECT count(*) FROM trades WHERE id = {index}")[0][0]
        if outcome is not Outcome.UNKNOWN:
            assert rows == (outcome is Outcome.COMMITTED)
        client.failsafe.reset(actor="tester", reason="test", force=True)


# Nothing is left, and nobody else is hit


@pytest.mark.chaos
@pytest.mark.parametrize("sync_driver", ["psycopg", "psycopg2"])
def test_a_cut_never_hits_another_descriptor_or_another_caller(
    sync_driver: str, postgres: PostgresDatabase, clients: Any
) -> None:
    """Calls that end at their deadline race the watchdog, while files and sockets come and go.

    Each bystander's own socket pair must stay whole, and every fast query must succeed.
    """
    client = clients(
        sync_driver, postgres, deadline=5.0, pool_size=8, max_overflow=8, recovery=QUIET
    )
    stop = time.monotonic() + 4.0
    broken: list[str] = []

    def race() -> None:
        while time.monotonic() < stop:
            try:
                client.query("SELECT pg_sleep(0.27)", deadline=0.3)
            except (DBAPIError, TimeoutError):
                pass
            except CriticalError as error:
                broken.append(f"race: {error.kind}")

    def bystand() -> None:
        import socket

        while time.monotonic() < stop:
            here, there = socket.socketpair()
            here.sendall(b"x")
            if there.recv(1) != b"x":
                broken.append("a socket of somebody else was cut")
            here.close()
            there.close()

    def query() -> None:
        while time.monotonic() < stop:
            try:
                client.query("SELECT 1")
            except Exception as error:
                broken.append(f"query: {type(error).__name__}: {error}")

    threads = [threading.Thread(target=each) for each in (race, race, race, bystand, query, query)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert broken == []
    assert client.trips == []


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Let nothing be collected: a quiet service may not do so for hours."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_no_thread_and_no_descriptor_is_left(
    driver: str, own_server: PostgresServer, clients: Any, no_collection: None
) -> None:
    def once() -> None:
        client = clients(driver, url_of(own_server, driver), deadline=0.5, recovery=QUIET)
        client.query("SELECT 1")
        own_server.freeze()
        try:
            with pytest.raises(CriticalError):
                client.query("SELECT 1")
        finally:
            own_server.thaw()
        client.close()

    once()  # whatever is opened once for all is open now
    descriptors = _descriptors()
    once()
    wait_until(lambda: _descriptors() <= descriptors)
    wait_until(lambda: not _own_threads())


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _own_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("failstop-")]


def wait_until(is_true: Callable[[], bool], seconds: float = 20.0) -> None:
    limit = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < limit, "the condition did not come true"
        time.sleep(0.01)
