"""What the guard promises of every driver, on a real PostgreSQL."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from failstop import FailSafe, State
from failstop._scope import Scope, current_scope
from failstop.database import AsyncDatabase, Database
from failstop.errors import (
    ConfigurationError,
    ConnectionFailedError,
    CriticalDatabaseError,
    CriticalError,
    DatabaseUnavailableError,
    OperationsSuspendedError,
    Outcome,
    TransactionFailedError,
)
from failstop.testing import PostgresDatabase, PostgresServer

INSERT = "INSERT INTO trades VALUES (1, 100)"


def count(postgres: PostgresDatabase) -> int:
    return int(postgres.execute("SELECT count(*) FROM trades")[0][0])


def insert(connection: Connection | Session) -> None:
    connection.execute(text(INSERT))


def insert_then_swallow(connection: Connection | Session) -> None:
    """The silent rollback: a failed statement whose error nobody sees."""
    insert(connection)
    with contextlib.suppress(DBAPIError):
        connection.execute(text("SELECT 1 / 0"))


# What passes


def test_work_that_returned_is_committed(client: Any, postgres: PostgresDatabase) -> None:
    client.transaction(insert)
    assert client.query("SELECT id, price FROM trades") == [(1, 100)]
    assert count(postgres) == 1


def test_an_orm_session_commits_and_its_objects_stay_readable(
    client: Any, postgres: PostgresDatabase
) -> None:
    client.session(insert)
    assert count(postgres) == 1


def test_a_query_cannot_write(client: Any, postgres: PostgresDatabase) -> None:
    with pytest.raises(DBAPIError):
        client.query(INSERT)
    assert count(postgres) == 0
    assert client.failsafe.state is State.NORMAL


def test_an_exception_of_the_body_rolls_back_and_passes_untouched(
    client: Any, postgres: PostgresDatabase
) -> None:
    def body(connection: Connection) -> None:
        insert(connection)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        client.transaction(body)
    assert count(postgres) == 0
    assert client.failsafe.state is State.NORMAL


@pytest.mark.parametrize(
    "statements",
    [
        (INSERT, INSERT),
        ("SELEC 1",),
        ("SELECT * FROM missing",),
        ("SELECT 1 / 0",),
        ("INSERT INTO trades VALUES ('x', 1)",),
        ("SET LOCAL lock_timeout = 1", "SELECT pg_advisory_xact_lock(1)", "SELECT pg_sleep(0)"),
    ],
)
def test_the_application_s_own_errors_leave_the_state_normal(
    client: Any, statements: tuple[str, ...]
) -> None:
    if "lock_timeout" not in statements[0]:
        with pytest.raises(DBAPIError):
            client.execute(*statements)
    else:
        client.execute(*statements)
    assert client.failsafe.state is State.NORMAL
    assert client.trips == []
    assert client.query("SELECT 1") == [(1,)]


def test_a_deadlock_is_a_conflict_and_trips_nothing(
    driver: str, postgres: PostgresDatabase, clients: Any
) -> None:
    postgres.execute("CREATE TABLE trades (id integer PRIMARY KEY, price integer)")
    postgres.execute("INSERT INTO trades VALUES (1, 0), (2, 0)")
    both = threading.Barrier(2, timeout=10)
    errors: list[BaseException] = []

    def take(client: Any, first: int, second: int) -> None:
        def body(connection: Connection) -> None:
            connection.execute(text(f"UPDATE trades SET price = 1 WHERE id = {first}"))
            both.wait()
            connection.execute(text(f"UPDATE trades SET price = 1 WHERE id = {second}"))

        try:
            client.transaction(body)
        except DBAPIError as error:
            errors.append(error)

    one, other = (clients(driver, postgres, deadline=8.0) for _ in range(2))
    threads = [
        threading.Thread(target=take, args=(one, 1, 2)),
        threading.Thread(target=take, args=(other, 2, 1)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(errors) == 1
    assert not isinstance(errors[0], CriticalError)
    assert one.failsafe.is_normal
    assert other.failsafe.is_normal


def test_a_deferred_constraint_at_commit_is_the_application_s(
    client: Any, postgres: PostgresDatabase
) -> None:
    postgres.execute(
        "ALTER TABLE trades ADD CONSTRAINT later UNIQUE (price) DEFERRABLE INITIALLY DEFERRED"
    )
    client.transaction(insert)
    with pytest.raises(IntegrityError):
        client.execute("INSERT INTO trades VALUES (2, 100)")
    assert count(postgres) == 1
    assert client.failsafe.state is State.NORMAL


# A success that would lie


@pytest.mark.parametrize("way", ["transaction", "session", "begin"])
def test_a_swallowed_error_never_ends_in_success(
    client: Any, postgres: PostgresDatabase, way: str
) -> None:
    """Fact 1: the server answers ROLLBACK to the COMMIT, and the drivers say nothing."""
    with pytest.raises(TransactionFailedError) as raised:
        getattr(client, way)(insert_then_swallow)
    assert raised.value.outcome is Outcome.ROLLED_BACK
    assert raised.value.safe_to_retry
    assert count(postgres) == 0
    assert client.failsafe.state is State.NORMAL
    client.transaction(insert)
    assert count(postgres) == 1


def test_an_error_swallowed_around_a_savepoint_is_no_failure(
    client: Any, postgres: PostgresDatabase
) -> None:
    def body(connection: Connection) -> None:
        insert(connection)
        try:
            with connection.begin_nested():
                insert(connection)
        except IntegrityError:
            pass

    client.transaction(body)
    assert count(postgres) == 1


@pytest.mark.parametrize(
    ("word", "outcome"), [("COMMIT", Outcome.COMMITTED), ("ROLLBACK", Outcome.ROLLED_BACK)]
)
def test_a_transaction_that_is_gone_is_told_as_its_receipt_says(
    client: Any, postgres: PostgresDatabase, word: str, outcome: Outcome
) -> None:
    """Fact 2: a COMMIT on an idle connection commits nothing, successfully.

    Who ended the transaction under the guard nobody can tell; with which word its receipt can.
    """

    def body(connection: Connection) -> None:
        insert(connection)
        connection.exec_driver_sql(word)

    with pytest.raises(TransactionFailedError) as raised:
        client.transaction(body)
    assert raised.value.outcome is outcome
    assert len(postgres.execute("SELECT * FROM trades")) == (outcome is Outcome.COMMITTED)


# The latch


def test_nothing_is_sent_in_fail_safe_mode(
    driver: str, own_server: PostgresServer, clients: Any
) -> None:
    """Asserted from the server's own log."""
    own_server.configure({"log_statement": "all"})
    client = clients(
        driver, own_server.url(driver={"psycopg_async": "psycopg"}.get(driver, driver))
    )
    client.query("SELECT 'before the halt'")
    client.failsafe.halt(actor="tester", reason="test")
    since = own_server.log_size()
    for _ in range(3):
        with pytest.raises(OperationsSuspendedError) as raised:
            client.query("SELECT 'after the halt'")
        assert raised.value.outcome is Outcome.NOT_STARTED
        with pytest.raises(OperationsSuspendedError):
            client.transaction(insert)
        with pytest.raises(OperationsSuspendedError):
            client.begin(insert)
    assert "after the halt" not in own_server.log(since)
    assert "INSERT" not in own_server.log(since)


def test_nothing_is_sent_before_start(
    driver: str, postgres: PostgresDatabase, clients: Any
) -> None:
    client = clients(driver, postgres, start=False)
    with pytest.raises(OperationsSuspendedError):
        client.query("SELECT 1")


@pytest.mark.parametrize("way", ["transaction", "session", "begin"])
def test_work_that_was_open_at_a_trip_does_not_commit(
    client: Any, postgres: PostgresDatabase, way: str
) -> None:
    def body(connection: Connection | Session) -> None:
        insert(connection)
        client.failsafe.halt(actor="tester", reason="test")

    with pytest.raises(OperationsSuspendedError) as raised:
        getattr(client, way)(body)
    assert raised.value.outcome is Outcome.ROLLED_BACK
    assert count(postgres) == 0


def test_a_trip_and_a_recovery_within_a_transaction_do_not_let_it_commit(
    client: Any, postgres: PostgresDatabase
) -> None:
    def body(connection: Connection) -> None:
        insert(connection)
        client.failsafe.halt(actor="tester", reason="test")
        client.failsafe.reset(actor="tester", reason="test", force=True)

    with pytest.raises(OperationsSuspendedError):
        client.transaction(body)
    assert client.failsafe.is_normal
    assert count(postgres) == 0


def test_no_connection_from_before_a_trip_is_used_after_it(client: Any) -> None:
    before = client.query("SELECT pg_backend_pid()")
    assert client.query("SELECT pg_backend_pid()") == before
    client.failsafe.halt(actor="tester", reason="test")
    client.failsafe.reset(actor="tester", reason="test")
    assert client.query("SELECT pg_backend_pid()") != before


# Failures


def test_a_killed_backend_trips_before_the_error_is_raised(
    client: Any, postgres: PostgresDatabase
) -> None:
    def body(connection: Connection) -> None:
        insert(connection)
        postgres.terminate_backends()
        with pytest.raises(ConnectionFailedError) as seen:
            connection.execute(text("SELECT 1"))
        assert client.failsafe.state is not State.NORMAL
        assert seen.value.incident_id is not None
        raise seen.value

    with pytest.raises(ConnectionFailedError) as raised:
        client.transaction(body)
    assert raised.value.outcome is Outcome.ROLLED_BACK
    assert raised.value.__cause__ is not None
    assert count(postgres) == 0
    assert len(client.trips) == 1


def test_a_killed_server_is_unavailable_and_the_outcome_is_not_started(
    driver: str, own_server: PostgresServer, clients: Any
) -> None:
    client = clients(
        driver, own_server.url(driver={"psycopg_async": "psycopg"}.get(driver, driver))
    )
    client.query("SELECT 1")
    own_server.kill()
    with pytest.raises(CriticalError) as raised:
        client.query("SELECT 1")
    assert raised.value.outcome in (Outcome.NOT_STARTED, Outcome.ROLLED_BACK)
    assert not client.failsafe.is_normal


def test_the_idle_connections_of_a_restarted_server_are_replaced_without_a_trip(
    driver: str, own_server: PostgresServer, clients: Any
) -> None:
    from failstop.recovery import Recovery

    client = clients(
        driver,
        own_server.url(driver={"psycopg_async": "psycopg"}.get(driver, driver)),
        recovery=Recovery(probe_interval=60),
    )
    client.query("SELECT 1")
    own_server.restart()
    assert client.query("SELECT 1") == [(1,)]
    assert client.trips == []


def test_an_exhausted_pool_is_critical(
    driver: str, postgres: PostgresDatabase, clients: Any
) -> None:
    client = clients(driver, postgres, deadline=0.3, pool_size=1, max_overflow=0)

    def body(connection: Connection) -> None:
        with client.engine.connect():
            pytest.fail("there was no connection to be had")

    with pytest.raises(ConnectionFailedError) as raised:
        client.transaction(body)
    assert raised.value.outcome is Outcome.NOT_STARTED
    assert len(client.trips) == 1


def test_a_freed_connection_goes_to_whoever_waits(
    driver: str, postgres: PostgresDatabase, clients: Any
) -> None:
    if driver in ("psycopg_async", "asyncpg"):
        pytest.skip("one loop cannot wait for itself here; see test_async.py")
    client = clients(driver, postgres, deadline=5.0, pool_size=1, max_overflow=0)
    with client.engine.connect() as connection:
        waiting = threading.Thread(target=client.query, args=("SELECT 1",))
        waiting.start()
        connection.execute(text("SELECT pg_sleep(0.1)"))
    waiting.join(5)
    assert not waiting.is_alive()
    assert client.trips == []


def test_a_read_only_server_is_critical_for_a_write(
    client: Any, postgres: PostgresDatabase
) -> None:
    postgres.execute(
        "DO $$ BEGIN EXECUTE format("
        "'ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$"
    )
    client.engine.pool.guard.generation += 1  # have the connections made anew, with the setting
    with pytest.raises(DatabaseUnavailableError) as raised:
        client.transaction(insert)
    assert raised.value.kind == "read_only"


def test_no_secret_is_in_the_error(driver: str, clients: Any) -> None:
    name = {"psycopg_async": "psycopg"}.get(driver, driver)
    url = f"postgresql+{name}://trader:hunter2secret@127.0.0.1:1/ledger"
    client = clients(driver, url, start=False)
    client.failsafe.start()
    with pytest.raises(OperationsSuspendedError) as raised:
        client.query("SELECT :x", {"x": "hunter2secret"})
    status = str(client.failsafe.status().to_dict())
    for said in (str(raised.value), repr(raised.value), status, str(client.failsafe.incident)):
        assert "hunter2secret" not in said


# The scope


def test_a_failure_marks_the_scope_though_the_error_is_swallowed(
    client: Any, postgres: PostgresDatabase
) -> None:
    scope = Scope()
    token = current_scope.set(scope)
    try:
        client.transaction(insert)
        postgres.terminate_backends()
        try:
            client.query("SELECT 1")
            client.transaction(lambda connection: _kill_itself(connection))
        except CriticalDatabaseError:
            pass
    finally:
        current_scope.reset(token)
    assert isinstance(scope.error, CriticalDatabaseError)
    assert scope.outcome is Outcome.COMMITTED


def _kill_itself(connection: Connection) -> None:
    connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


def test_the_scope_of_a_read_is_rolled_back(client: Any) -> None:
    scope = Scope()
    token = current_scope.set(scope)
    try:
        client.query("SELECT 1")
    finally:
        current_scope.reset(token)
    assert scope.error is None
    assert scope.outcome is Outcome.ROLLED_BACK
    assert not scope.has_open_work


# Bad input


def test_autocommit_is_refused_wherever_it_is_asked_for(client: Any) -> None:
    with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
        client.transaction(insert, isolation_level="AUTOCOMMIT")
    with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
        client.begin(insert, isolation_level="AUTOCOMMIT")
    assert client.failsafe.is_normal


def test_an_autocommit_engine_is_refused() -> None:
    engine = create_engine("postgresql+psycopg://localhost/x", isolation_level="AUTOCOMMIT")
    with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
        Database(engine, FailSafe("tests"))


def test_a_two_phase_transaction_is_refused(postgres: PostgresDatabase, clients: Any) -> None:
    client = clients("psycopg", postgres)
    with (
        client.engine.connect() as connection,
        pytest.raises(ConfigurationError, match="two-phase"),
    ):
        connection.begin_twophase()


def test_an_engine_is_guarded_once(postgres: PostgresDatabase) -> None:
    engine = create_engine(postgres.url())
    Database(engine, FailSafe("tests"))
    with pytest.raises(ConfigurationError, match="guarded already"):
        Database(engine, FailSafe("tests"))


def test_an_engine_derived_before_the_guard_is_guarded(postgres: PostgresDatabase) -> None:
    engine = create_engine(postgres.url(), poolclass=NullPool)
    derived = engine.execution_options(isolation_level="SERIALIZABLE")
    Database(engine, FailSafe("tests"))
    with pytest.raises(OperationsSuspendedError), derived.connect() as connection:
        connection.execute(text("SELECT 1"))


def test_a_connection_from_before_the_guard_is_refused(postgres: PostgresDatabase) -> None:
    engine = create_engine(postgres.url())
    with engine.connect() as connection:
        Database(engine, FailSafe("tests"))
        with pytest.raises(ConfigurationError, match="before its engine was guarded"):
            connection.execute(text("SELECT 1"))
    engine.dispose()


@pytest.mark.parametrize("url", [None, "", "  "])
def test_no_url_is_unavailable_and_never_a_default(url: str | None) -> None:
    for kind in (Database, AsyncDatabase):
        with pytest.raises(DatabaseUnavailableError, match="DATABASE_URL") as raised:
            kind.connect(url, FailSafe("tests"))
        assert raised.value.outcome is Outcome.NOT_STARTED


@pytest.mark.parametrize("url", ["not a url with hunter2", "postgresql://u:hunter2@host:port/x"])
def test_a_malformed_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Database.connect(url, FailSafe("tests"))
    assert "hunter2" not in str(raised.value)


def test_the_wrong_kind_of_engine_is_refused_at_once() -> None:
    sync = create_engine("postgresql+psycopg://localhost/x")
    not_sync = create_async_engine("postgresql+psycopg://localhost/x")
    with pytest.raises(ConfigurationError, match="Database"):
        AsyncDatabase(sync, FailSafe("tests"))  # type: ignore[arg-type] # the misuse itself
    with pytest.raises(ConfigurationError, match="AsyncDatabase"):
        Database(not_sync, FailSafe("tests"))  # type: ignore[arg-type] # the misuse itself
    with pytest.raises(ConfigurationError, match="AsyncDatabase"):
        Database(not_sync.sync_engine, FailSafe("tests"))


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "2", True, None])
@pytest.mark.parametrize("setting", ["deadline", "connect_deadline"])
def test_a_deadline_is_a_finite_number_of_seconds_above_zero(setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=setting):
        Database.connect("postgresql://localhost/x", FailSafe("tests"), **{setting: value})


def test_a_driver_whose_waits_cannot_be_ended_is_refused() -> None:
    engine = create_engine("postgresql+pg8000://localhost/x", module=FakeModule())
    with pytest.raises(ConfigurationError, match="pg8000"):
        Database(engine, FailSafe("tests"))


class FakeModule:
    """As much of a driver as SQLAlchemy wants to make an engine, which is never connected."""

    __version__ = "1.30.0"
    paramstyle = "format"

    class Error(Exception):
        """The driver's root of errors."""
