"""What PostgreSQL and its drivers do, which the guard relies on; nothing of the guard is used here.

An upgrade that changes one of these facts is to fail here, with the fact in the name of the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy
from psycopg import sql
from psycopg.generators import execute
from psycopg.pq import TransactionStatus
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from failstop.testing import FaultProxy, PostgresDatabase, PostgresServer

SETTINGS = {"synchronous_standby_names": "nobody_there", "synchronous_commit": "local"}
"""A connection that turns `synchronous_commit` on waits in its COMMIT for ever."""
SYNCHRONOUS = "-c synchronous_commit=on"
TABLES = """
    CREATE TABLE orders (key text PRIMARY KEY);
    CREATE TABLE slow (key text PRIMARY KEY);
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION wait();
"""
"""An insert into `slow` waits in its COMMIT, before it is decided, while lock 7 is held."""
ISOLATION = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
Connection = psycopg.Connection[tuple[Any, ...]]
Connect = Callable[..., Connection]
_keys = itertools.count(1)


@pytest.fixture(scope="module")
def server(
    postgres_settings: Mapping[str, str | int | float | bool], postgres_bindir: Path | None
) -> Iterator[PostgresServer]:
    settings = {**postgres_settings, **SETTINGS}
    with PostgresServer(settings=settings, bindir=postgres_bindir) as server:
        yield server


@pytest.fixture(scope="module")
def database(server: PostgresServer) -> Iterator[PostgresDatabase]:
    with server.fresh_database() as database:
        database.execute(TABLES)
        yield database


@pytest.fixture
def proxy(server: PostgresServer) -> Iterator[FaultProxy]:
    with FaultProxy(server) as proxy:
        yield proxy


@pytest.fixture
def key() -> str:
    return f"key-{next(_keys)}"


@pytest.fixture
def threads(database: PostgresDatabase) -> Iterator[ThreadPoolExecutor]:
    """Give threads for what waits; it ends with the test, whatever it waits for."""
    threads = ThreadPoolExecutor()
    yield threads
    database.terminate_backends()
    threads.shutdown()


@pytest.fixture
def connect(database: PostgresDatabase, threads: ThreadPoolExecutor) -> Iterator[Connect]:
    """Give what connects with psycopg; every connection is closed after the test."""
    with ExitStack() as stack:

        def connect(options: str = "", **settings: Any) -> Connection:
            url = settings.pop("url", database.url(driver=None))
            connection = psycopg.connect(url, options=options, **settings)
            return stack.enter_context(contextlib.closing(connection))

        yield connect


@pytest.fixture
def holder(connect: Connect) -> Connection:
    """Hold every COMMIT that has written to `slow`; closing the connection lets them go."""
    holder = connect(autocommit=True)
    holder.execute("SELECT pg_advisory_lock(7)")
    return holder


def isolated(level: str) -> str:
    """Return the options of a connection all of whose transactions have this isolation level."""
    return "-c default_transaction_isolation=" + level.lower().replace(" ", r"\ ")


def insert(connection: Connection, key: str, table: str = "orders") -> None:
    connection.execute(f"INSERT INTO {table} VALUES (%s)".encode(), [key])


def exists(database: PostgresDatabase, key: str, table: str = "orders") -> bool:
    return database.execute(f"SELECT 1 FROM {table} WHERE key = %s", [key]) != []


def wait_until_waiting(database: PostgresDatabase, pid: int, event: str) -> None:
    ask = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
    until = time.monotonic() + 10
    while (found := database.execute(ask, [pid])) != [(event,)]:
        assert time.monotonic() < until, f"backend {pid} waits for {found}, not for {event}"
        time.sleep(0.005)


def identity(connection: Connection) -> tuple[Any, ...]:
    """Return what names a backend for ever: its pid and when it started."""
    ask = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    row = connection.execute(ask).fetchone()
    assert row is not None
    return row


def terminate(database: PostgresDatabase, pid: int, start: object) -> list[tuple[Any, ...]]:
    return database.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE pid = %s AND backend_start = %s",
        [pid, start],
    )


@asynccontextmanager
async def asyncpg_connection(url: str, **settings: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url, server_settings=settings)
    try:
        yield connection
    finally:
        connection.terminate()


# 1: the silent rollback


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_commit_after_a_swallowed_error_rolls_back_without_an_error(
    database: PostgresDatabase, driver: str, key: str
) -> None:
    engine = sqlalchemy.create_engine(database.url(driver))
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO orders VALUES (:key)"), {"key": key})
        with contextlib.suppress(sqlalchemy.exc.DBAPIError):
            connection.execute(text("SELECT 1/0"))
    engine.dispose()
    assert not exists(database, key)


async def test_asyncpg_commits_after_a_swallowed_error_without_an_error(
    database: PostgresDatabase, key: str
) -> None:
    url = database.url(driver=None)
    async with asyncpg_connection(url) as connection, connection.transaction():
        await connection.execute("INSERT INTO orders VALUES ($1)", key)
        with contextlib.suppress(asyncpg.DivisionByZeroError):
            await connection.execute("SELECT 1/0")
    assert not exists(database, key)


def test_only_the_tag_tells_a_silent_rollback(connect: Connect, key: str) -> None:
    connection = connect(autocommit=True)
    connection.execute("BEGIN")
    insert(connection, key)
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("SELECT 1/0")
    assert connection.execute("COMMIT").statusmessage == "ROLLBACK"


# 2: the commit of nothing


def test_psycopg_sends_no_commit_on_an_idle_connection(
    proxy: FaultProxy, connect: Connect, database: PostgresDatabase
) -> None:
    connection = connect(url=proxy.url(database.url(driver=None)))
    before = len(proxy.messages)
    connection.commit()
    assert len(proxy.messages) == before


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_commit_says_nothing_where_the_transaction_is_gone(
    database: PostgresDatabase, driver: str, key: str
) -> None:
    engine = sqlalchemy.create_engine(database.url(driver))
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO orders VALUES (:key)"), {"key": key})
        connection.connection.rollback()  # under SQLAlchemy, as by a pooler or a reset
    engine.dispose()
    assert not exists(database, key)


async def test_asyncpg_is_told_by_a_warning_only_that_the_transaction_is_gone(
    database: PostgresDatabase, key: str
) -> None:
    async with asyncpg_connection(database.url(driver=None)) as connection:
        logged: list[Any] = []
        connection.add_log_listener(lambda _, message: logged.append(message))
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("INSERT INTO orders VALUES ($1)", key)
        await connection.execute("ROLLBACK")
        await transaction.commit()
        await connection.execute("SELECT 1")
    assert [message.sqlstate for message in logged] == ["25P01"]
    assert not exists(database, key)


# 3: the error does not tell the outcome


def test_terminated_in_a_deferred_trigger_commit_is_an_abort(
    database: PostgresDatabase, threads: ThreadPoolExecutor, holder: Connection, key: str
) -> None:
    error, notices = terminate_in_commit(database, threads, "slow", "advisory", key)
    assert error.connection_invalidated
    assert error.orig.sqlstate == "57P01"
    assert notices == []
    assert not exists(database, key, "slow")


def test_terminated_in_the_wait_for_a_standby_commit_is_a_commit(
    database: PostgresDatabase, threads: ThreadPoolExecutor, key: str
) -> None:
    error, notices = terminate_in_commit(database, threads, "orders", "SyncRep", key)
    assert error.connection_invalidated
    assert error.orig.sqlstate is None
    assert notices == [("57P01", "WARNING", "SyncRepWaitForLSN")]
    assert exists(database, key)


def terminate_in_commit(
    database: PostgresDatabase, threads: ThreadPoolExecutor, table: str, event: str, key: str
) -> tuple[Any, list[tuple[str | None, ...]]]:
    """Return what a user of SQLAlchemy is raised, and the notices that came before it."""
    engine = sqlalchemy.create_engine(database.url(), connect_args={"options": SYNCHRONOUS})
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        notices = watch(driver)
        connection.execute(text(f"INSERT INTO {table} VALUES (:key)"), {"key": key})
        committed: Future[None] = threads.submit(connection.commit)
        wait_until_waiting(database, driver.info.backend_pid, event)
        database.execute("SELECT pg_terminate_backend(%s)", [driver.info.backend_pid])
        error = committed.exception(10)
    engine.dispose()
    assert type(error) is OperationalError
    return error, notices


def watch(connection: Any) -> list[tuple[str | None, ...]]:
    """Collect what tells a notice; read at once, since a Diagnostic is empty afterwards."""
    notices: list[tuple[str | None, ...]] = []
    connection.add_notice_handler(
        lambda told: notices.append((told.sqlstate, told.severity, told.source_function))
    )
    return notices


# 4: durability drops silently

CANCELLED = ("01000", "WARNING", "SyncRepWaitForLSN")


def cancel_the_wait(database: PostgresDatabase, pid: int) -> None:
    wait_until_waiting(database, pid, "SyncRep")
    database.execute("SELECT pg_cancel_backend(%s)", [pid])


def test_a_cancelled_wait_for_a_standby_is_a_warning_to_psycopg(
    database: PostgresDatabase, connect: Connect, threads: ThreadPoolExecutor, key: str
) -> None:
    connection = connect(SYNCHRONOUS)
    notices = watch(connection)
    insert(connection, key)
    cancelled = threads.submit(cancel_the_wait, database, connection.info.backend_pid)
    connection.commit()
    cancelled.result(10)
    assert notices == [CANCELLED]
    assert exists(database, key)


async def test_a_cancelled_wait_for_a_standby_is_a_warning_to_async_psycopg(
    database: PostgresDatabase, key: str
) -> None:
    url = database.url(driver=None)
    async with await psycopg.AsyncConnection.connect(url, options=SYNCHRONOUS) as connection:
        notices = watch(connection)
        await connection.execute("INSERT INTO orders VALUES (%s)", [key])
        pid = connection.info.backend_pid
        await asyncio.gather(connection.commit(), asyncio.to_thread(cancel_the_wait, database, pid))
    assert notices == [CANCELLED]
    assert exists(database, key)


async def test_a_cancelled_wait_for_a_standby_is_a_warning_to_asyncpg(
    database: PostgresDatabase, key: str
) -> None:
    url = database.url(driver=None)
    async with asyncpg_connection(url, synchronous_commit="on") as connection:
        logged: list[Any] = []
        connection.add_log_listener(lambda _, message: logged.append(message))
        cancel = asyncio.to_thread(cancel_the_wait, database, connection.get_server_pid())
        async with connection.transaction():
            await connection.execute("INSERT INTO orders VALUES ($1)", key)
            cancelled = asyncio.ensure_future(cancel)
        await cancelled
        await connection.execute("SELECT 1")  # the listeners are called soon, not at once
    [message] = logged
    told = (message.sqlstate, message.severity_en, message.server_source_function)
    assert told == CANCELLED
    assert exists(database, key)


def test_a_diagnostic_is_empty_after_its_handler(connect: Connect) -> None:
    kept: list[psycopg.errors.Diagnostic] = []
    inside: list[str | None] = []
    connection = connect(autocommit=True)
    connection.add_notice_handler(lambda told: inside.append(told.sqlstate))
    connection.add_notice_handler(kept.append)
    connection.execute("COMMIT")
    assert inside == ["25P01"]
    assert [told.sqlstate for told in kept] == [None]


# 5: a timeout of the client is not a rollback


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize(
    ("table", "event", "is_committed"),
    [("orders", "SyncRep", True), ("slow", "advisory", False)],
)
async def test_a_timeout_of_commit_leaves_the_outcome_to_the_server(
    database: PostgresDatabase,
    connect: Connect,
    holder: Connection,
    driver: str,
    table: str,
    event: str,
    is_committed: bool,
    key: str,
) -> None:
    """Both drivers cancel the statement; whether that comes too late, the error does not tell."""
    url = database.url(driver=None)

    async def time_out(pid: int, commit: Coroutine[Any, Any, None]) -> None:
        committing = asyncio.ensure_future(commit)
        await asyncio.to_thread(wait_until_waiting, database, pid, event)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(committing, 0.05)

    if driver == "psycopg":
        async with await psycopg.AsyncConnection.connect(url, options=SYNCHRONOUS) as connection:
            await connection.execute(f"INSERT INTO {table} VALUES (%s)".encode(), [key])
            await time_out(connection.info.backend_pid, connection.commit())
            assert connection.info.transaction_status == TransactionStatus.IDLE
    else:
        async with asyncpg_connection(url, synchronous_commit="on") as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(f"INSERT INTO {table} VALUES ($1)", key)
            await time_out(connection.get_server_pid(), transaction.commit())
            await connection.fetchval("SELECT 1")  # it is open, and its cancel has arrived
    assert exists(database, key, table) is is_committed


# 6: looking is not resolving


@pytest.mark.parametrize("isolation", ISOLATION)
def test_looking_is_not_resolving_and_inserting_the_key_is(
    database: PostgresDatabase,
    proxy: FaultProxy,
    connect: Connect,
    threads: ThreadPoolExecutor,
    holder: Connection,
    isolation: str,
    key: str,
) -> None:
    original = connect(url=proxy.url(database.url(driver=None)))
    insert(original, key, "slow")
    xid = original.execute("SELECT pg_current_xact_id()::text").fetchone()
    proxy.after("COMMIT").reset()
    with pytest.raises(psycopg.OperationalError):
        original.commit()
    assert not exists(database, key, "slow")
    assert database.execute("SELECT pg_xact_status(%s::xid8)", xid) == [("in progress",)]

    question = connect(isolated(isolation))
    answer = threads.submit(insert, question, key, "slow")
    wait_until_waiting(database, question.info.backend_pid, "transactionid")
    holder.close()
    assert isinstance(answer.exception(10), psycopg.errors.UniqueViolation)
    assert exists(database, key, "slow")


# 8: a tombstone fences a late original


@pytest.mark.parametrize("of_question", ISOLATION)
@pytest.mark.parametrize("of_original", ISOLATION)
@pytest.mark.parametrize("is_committed", [True, False])
def test_an_uncommitted_tombstone_is_answered_where_the_original_was_first(
    database: PostgresDatabase,
    connect: Connect,
    threads: ThreadPoolExecutor,
    holder: Connection,
    of_original: str,
    of_question: str,
    is_committed: bool,
    key: str,
) -> None:
    original, question = connect(isolated(of_original)), connect(isolated(of_question))
    insert(original, key, "slow")
    question.execute("SELECT count(*) FROM slow")  # its snapshot is older than the outcome
    committed = threads.submit(original.commit)
    wait_until_waiting(database, original.info.backend_pid, "advisory")
    answer = threads.submit(insert, question, key, "slow")
    wait_until_waiting(database, question.info.backend_pid, "transactionid")

    if is_committed:
        holder.close()
        assert committed.result(10) is None
        assert isinstance(answer.exception(10), psycopg.errors.UniqueViolation)
    else:
        database.execute("SELECT pg_cancel_backend(%s)", [original.info.backend_pid])
        assert isinstance(committed.exception(10), psycopg.errors.QueryCanceled)
        assert answer.result(10) is None
    question.rollback()
    assert exists(database, key, "slow") is is_committed


def test_an_uncommitted_tombstone_fences_nothing_where_the_original_comes_later(
    database: PostgresDatabase, connect: Connect, key: str
) -> None:
    original, question = connect(), connect()
    original.execute("SELECT 1")
    insert(question, key)
    question.rollback()
    insert(original, key)
    original.commit()
    assert exists(database, key)


@pytest.mark.parametrize("isolation", ISOLATION)
def test_a_committed_tombstone_fences_an_original_that_comes_later(
    connect: Connect, isolation: str, key: str
) -> None:
    original, question = connect(isolated(isolation)), connect()
    original.execute("SELECT count(*) FROM orders")
    insert(question, key)
    question.commit()
    with pytest.raises(psycopg.errors.UniqueViolation):
        insert(original, key)


@pytest.mark.parametrize("isolation", ISOLATION)
def test_lock_timeout_ends_the_question_about_an_original_that_hangs(
    connect: Connect, isolation: str, key: str
) -> None:
    original, question = connect(), connect(isolated(isolation))
    insert(original, key)
    question.execute("SET LOCAL lock_timeout = '50ms'")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        insert(question, key)


def test_terminating_a_backend_that_hangs_in_its_body_is_a_rollback(
    database: PostgresDatabase, connect: Connect, threads: ThreadPoolExecutor, key: str
) -> None:
    original, question = connect(), connect()
    insert(original, key)
    assert terminate(database, *identity(original)) == [(True,)]
    insert(question, key)
    question.rollback()
    with pytest.raises(psycopg.OperationalError):
        original.commit()
    assert not exists(database, key)


def test_terminating_a_backend_that_waits_for_a_standby_is_a_commit(
    database: PostgresDatabase, connect: Connect, threads: ThreadPoolExecutor, key: str
) -> None:
    original, question = connect(SYNCHRONOUS), connect()
    name = identity(original)
    insert(original, key)
    committed = threads.submit(original.commit)
    wait_until_waiting(database, original.info.backend_pid, "SyncRep")
    assert not exists(database, key)
    answer = threads.submit(insert, question, key)
    wait_until_waiting(database, question.info.backend_pid, "transactionid")
    assert terminate(database, *name) == [(True,)]
    assert isinstance(answer.exception(10), psycopg.errors.UniqueViolation)
    assert isinstance(committed.exception(10), psycopg.OperationalError)


def test_a_pid_that_was_given_again_is_not_terminated(
    database: PostgresDatabase, connect: Connect
) -> None:
    other = connect(autocommit=True)
    pid, start = identity(other)
    assert terminate(database, pid, start - timedelta(microseconds=1)) == []
    assert other.execute("SELECT 1").fetchone() == (1,)


# Round trips


def asked(proxy: FaultProxy, since: int) -> list[str]:
    """Return what the client made the server run."""
    return [each for message in proxy.messages[since:] for each in message.runs]


def test_a_begin_message_of_ones_own_takes_the_place_of_psycopgs(
    database: PostgresDatabase, proxy: FaultProxy, connect: Connect, key: str
) -> None:
    connection = connect(url=proxy.url(database.url(driver=None)))
    begin = f"BEGIN ISOLATION LEVEL SERIALIZABLE; INSERT INTO orders VALUES ('{key}')"
    before, since = proxy.round_trips, len(proxy.messages)
    connection.pgconn.send_query(begin.encode())
    results = connection.wait(execute(connection.pgconn))
    assert [result.command_status for result in results] == [b"BEGIN", b"INSERT 0 1"]
    assert connection.info.transaction_status == TransactionStatus.INTRANS
    insert(connection, f"{key}-body")
    connection.commit()
    assert proxy.round_trips - before == 3
    assert asked(proxy, since) == [
        *begin.split("; "),
        "INSERT INTO orders VALUES ($1)",
        "COMMIT",
    ]
    assert exists(database, key)
    assert exists(database, f"{key}-body")


async def test_a_begin_message_of_ones_own_takes_the_place_of_async_psycopgs(
    database: PostgresDatabase, proxy: FaultProxy, key: str
) -> None:
    url = proxy.url(database.url(driver=None))
    async with await psycopg.AsyncConnection.connect(url) as connection:
        before = proxy.round_trips
        connection.pgconn.send_query(f"BEGIN; INSERT INTO orders VALUES ('{key}')".encode())
        await connection.wait(execute(connection.pgconn))
        await connection.execute("INSERT INTO orders VALUES (%s)", [f"{key}-body"])
        await connection.commit()
        assert proxy.round_trips - before == 3
    assert exists(database, f"{key}-body")


def test_a_failure_in_a_begin_message_leaves_a_failed_transaction(
    connect: Connect, key: str
) -> None:
    connection = connect()
    connection.pgconn.send_query(b"BEGIN; SELECT 1/0; SELECT 1")
    results = connection.wait(execute(connection.pgconn))
    assert [result.command_status for result in results] == [b"BEGIN", b""]
    assert connection.info.transaction_status == TransactionStatus.INERROR
    connection.rollback()


def test_a_cursor_gives_each_result_of_a_message_of_many_statements(
    database: PostgresDatabase, proxy: FaultProxy, connect: Connect, key: str
) -> None:
    """On a connection in autocommit mode psycopg adds no BEGIN, and still sends the COMMIT."""
    connection = connect(url=proxy.url(database.url(driver=None)), autocommit=True)
    before, since = proxy.round_trips, len(proxy.messages)
    message = sql.SQL("BEGIN; SELECT 1; INSERT INTO orders VALUES ({}) RETURNING key").format(key)
    cursor = connection.execute(message)
    tags = [cursor.statusmessage]
    while cursor.nextset():
        tags.append(cursor.statusmessage)
    assert tags == ["BEGIN", "SELECT 1", "INSERT 0 1"]
    assert cursor.fetchall() == [(key,)]
    connection.commit()
    assert proxy.round_trips - before == 2
    assert asked(proxy, since)[-1] == "COMMIT"
    assert exists(database, key)


async def test_asyncpg_takes_a_begin_message_of_ones_own_and_then_refuses_its_own(
    database: PostgresDatabase, proxy: FaultProxy, key: str
) -> None:
    begin = f"BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO orders VALUES ('{key}')"
    async with asyncpg_connection(proxy.url(database.url(driver=None))) as connection:
        before, since = proxy.round_trips, len(proxy.messages)
        assert await connection.execute(begin) == "INSERT 0 1"
        assert connection.is_in_transaction()
        with pytest.raises(asyncpg.InterfaceError, match="manually started transaction"):
            await connection.transaction().start()
        assert await connection.execute("COMMIT") == "COMMIT"
        assert not connection.is_in_transaction()
        assert proxy.round_trips - before == 2
        assert asked(proxy, since) == [*begin.split("; "), "COMMIT"]
    assert exists(database, key)
