"""`FaultProxy`: every fault and every moment, with real drivers before a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import psycopg
import psycopg2
import pytest

from failstop.testing import FaultProxy, Moment, PostgresDatabase, PostgresServer, Strike

DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
BOUND = 30.0
SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"

Order = Callable[[str], None]


# The same work with each driver: connect, BEGIN, INSERT with a parameter, COMMIT


def order_with_psycopg(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO orders VALUES (%s)", [1])


def order_with_psycopg2(url: str) -> None:
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.cursor().execute("INSERT INTO orders VALUES (%s)", [1])
        connection.commit()


def order_with_async_psycopg(url: str) -> None:
    async def order() -> None:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute("INSERT INTO orders VALUES (%s)", [1])

    asyncio.run(order())


def order_with_asyncpg(url: str) -> None:
    async def order() -> None:
        connection = await asyncpg.connect(url)
        try:
            async with connection.transaction():
                await connection.execute("INSERT INTO orders VALUES ($1)", 1)
        finally:
            connection.terminate()

    asyncio.run(order())


ORDERS = [order_with_psycopg, order_with_psycopg2, order_with_async_psycopg, order_with_asyncpg]
ERRORS = (psycopg.Error, psycopg2.Error, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)

every_driver = pytest.mark.parametrize("order", ORDERS)


class Attempt:
    """An order that is tried on a thread, since some faults let it wait for ever."""

    def __init__(self, order: Order, url: str) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=[order, url], daemon=True)
        self._thread.start()

    def is_waiting(self, seconds: float = 0.3) -> bool:
        self._thread.join(seconds)
        return self._thread.is_alive()

    def result(self) -> BaseException | None:
        self._thread.join(BOUND)
        assert not self._thread.is_alive(), "the order did not end"
        return self._error

    def _run(self, order: Order, url: str) -> None:
        try:
            order(url)
        except BaseException as error:
            self._error = error


@pytest.fixture
def database(postgres: PostgresDatabase) -> PostgresDatabase:
    postgres.execute("CREATE TABLE orders (n int)")
    return postgres


@pytest.fixture
def url(fault_proxy: FaultProxy, database: PostgresDatabase) -> str:
    return fault_proxy.url(database.url(None))


def orders_when_quiet(database: PostgresDatabase) -> int:
    """Count the rows once no backend works on the database any more."""
    ask = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
    until = time.monotonic() + BOUND
    while database.server.execute(ask, [database.name]) != [(0,)]:
        assert time.monotonic() < until, "a backend is left"
        time.sleep(0.01)
    return int(database.execute("SELECT count(*) FROM orders")[0][0])


def backends_of(database: PostgresDatabase) -> int:
    ask = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
    return int(database.server.execute(ask, [database.name])[0][0])


# Without a fault


@every_driver
def test_without_a_fault_an_order_is_placed(
    order: Order, url: str, database: PostgresDatabase
) -> None:
    order(url)
    assert orders_when_quiet(database) == 1


def test_bulk_data_passes_unchanged_both_ways(url: str, fault_proxy: FaultProxy) -> None:
    rows = [(n, "x" * (n % 500)) for n in range(4000)]
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TEMP TABLE bulk (n int, t text)")
        with connection.cursor().copy("COPY bulk FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        assert connection.execute("SELECT * FROM bulk ORDER BY n").fetchall() == rows


def test_a_notification_passes(url: str, database: PostgresDatabase) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("LISTEN bell")
        database.execute("NOTIFY bell, 'ring'")
        assert next(connection.notifies(timeout=BOUND)).payload == "ring"


def test_a_pipeline_passes_and_is_one_round_trip(url: str, fault_proxy: FaultProxy) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT 1")
        before = fault_proxy.round_trips
        with connection.pipeline():
            cursors = [connection.execute("SELECT %s::int", [n]) for n in range(5)]
        assert [cursor.fetchone() for cursor in cursors] == [(n,) for n in range(5)]
        assert fault_proxy.round_trips - before < 5


def test_a_cancel_request_passes(url: str) -> None:
    with psycopg.connect(url) as connection:
        timer = threading.Timer(0.1, connection.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(30)")
        timer.join()


@pytest.mark.skipif(not DEBIAN, reason="no PostgreSQL with TLS is installed")
def test_tls_passes_untouched() -> None:
    request = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 2"
    with PostgresServer(bindir=DEBIAN[0]) as server, FaultProxy(server) as proxy:
        files = f"-keyout {server.data}/server.key -out {server.data}/server.crt"
        server.execute(f"COPY (SELECT 1) TO PROGRAM '{request} {files} 2>&1'")
        server.configure({"ssl": True})
        url = proxy.url(server.url(driver=None)) + "?sslmode=require"
        with psycopg.connect(url) as connection:
            assert connection.pgconn.ssl_in_use
            row = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            assert row.fetchone() == (True,)
        assert "Opaque" in {message.kind for message in proxy.messages}


def test_a_client_that_goes_takes_its_backend_along(
    url: str, database: PostgresDatabase, fault_proxy: FaultProxy
) -> None:
    connection = psycopg.connect(url)
    assert backends_of(database) == 1
    connection.close()
    assert orders_when_quiet(database) == 0
    assert [message.kind for message in fault_proxy.messages][-1] == "Terminate"


def test_a_backend_that_is_terminated_is_gone_for_the_client(
    url: str, database: PostgresDatabase
) -> None:
    with psycopg.connect(url) as connection:
        database.terminate_backends()
        with pytest.raises(psycopg.errors.AdminShutdown):
            connection.execute("SELECT 1")


def test_a_proxy_without_a_server_behind_it_resets(breakable_postgres: PostgresServer) -> None:
    breakable_postgres.stop()
    with FaultProxy(breakable_postgres) as proxy, pytest.raises(psycopg.OperationalError):
        psycopg.connect(proxy.url(breakable_postgres.url(driver=None)))


# Faults that strike now


def test_reset_is_tcps_own(fault_proxy: FaultProxy) -> None:
    with socket.create_connection((fault_proxy.host, fault_proxy.port), BOUND) as client:
        client.sendall(SSL_REQUEST)
        assert client.recv(1) == b"N"
        fault_proxy.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


@every_driver
def test_refuse(order: Order, url: str, fault_proxy: FaultProxy) -> None:
    fault_proxy.refuse()
    assert isinstance(Attempt(order, url).result(), ERRORS)
    fault_proxy.heal()
    assert Attempt(order, url).result() is None


def test_refuse_leaves_open_connections_alone(url: str, fault_proxy: FaultProxy) -> None:
    with psycopg.connect(url) as connection:
        fault_proxy.refuse()
        assert connection.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((fault_proxy.host, fault_proxy.port), BOUND)


def test_ignore_leaves_a_connect_without_any_answer(url: str, fault_proxy: FaultProxy) -> None:
    fault_proxy.ignore()
    with pytest.raises(TimeoutError):
        socket.create_connection((fault_proxy.host, fault_proxy.port), 0.3)
    fault_proxy.heal()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@every_driver
def test_ignore_lets_a_driver_wait(order: Order, url: str, fault_proxy: FaultProxy) -> None:
    fault_proxy.ignore()
    attempt = Attempt(order, url)
    assert attempt.is_waiting()
    fault_proxy.heal()
    attempt.result()  # the kernel asks again, or is refused in between: both end it


@every_driver
def test_reset(order: Order, url: str, database: PostgresDatabase, fault_proxy: FaultProxy) -> None:
    reached = fault_proxy.after_reply("INSERT").black_hole("to_server")
    attempt = Attempt(order, url)
    reached.wait()
    fault_proxy.reset()
    assert isinstance(attempt.result(), ERRORS)
    assert fault_proxy.connections == 0
    assert orders_when_quiet(database) == 0


@every_driver
def test_black_hole(
    order: Order, url: str, database: PostgresDatabase, fault_proxy: FaultProxy
) -> None:
    fault_proxy.black_hole()
    attempt = Attempt(order, url)
    assert attempt.is_waiting()
    fault_proxy.heal()
    assert attempt.result() is None
    assert orders_when_quiet(database) == 1


def test_a_black_hole_to_the_client_alone_lets_the_server_work(
    url: str, database: PostgresDatabase, fault_proxy: FaultProxy
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        fault_proxy.black_hole("to_client")
        attempt = Attempt(lambda _: ignore(connection.execute("INSERT INTO orders VALUES (1)")), "")
        wait_until(lambda: database.execute("SELECT count(*) FROM orders") == [(1,)])
        assert attempt.is_waiting()
        fault_proxy.heal()
        assert attempt.result() is None


def test_a_black_hole_to_the_server_alone_lets_nothing_reach_it(
    url: str, database: PostgresDatabase, fault_proxy: FaultProxy
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        fault_proxy.black_hole("to_server")
        attempt = Attempt(lambda _: ignore(connection.execute("INSERT INTO orders VALUES (1)")), "")
        assert attempt.is_waiting()
        assert database.execute("SELECT count(*) FROM orders") == [(0,)]
        fault_proxy.heal()
        assert attempt.result() is None


@every_driver
def test_half_open_with_the_server_gone(
    order: Order, url: str, database: PostgresDatabase, fault_proxy: FaultProxy
) -> None:
    reached = fault_proxy.after_reply("INSERT").black_hole("to_server")
    attempt = Attempt(order, url)
    reached.wait()
    fault_proxy.half_open()
    assert orders_when_quiet(database) == 0
    assert attempt.is_waiting()
    fault_proxy.reset()
    assert isinstance(attempt.result(), ERRORS)


@every_driver
def test_half_open_with_the_client_gone_leaves_the_transaction_open(
    order: Order, url: str, database: PostgresDatabase, fault_proxy: FaultProxy
) -> None:
    reached = fault_proxy.after_reply("INSERT").black_hole("to_server")
    attempt = Attempt(order, url)
    reached.wait()
    fault_proxy.half_open(gone="client")
    assert isinstance(attempt.result(), ERRORS)
    ask = "SELECT state FROM pg_stat_activity WHERE datname = %s"
    assert database.server.execute(ask, [database.name]) == [("idle in transaction",)]
    fault_proxy.reset()
    assert orders_when_quiet(database) == 0


@every_driver
def test_latency_delays_every_round_trip(order: Order, url: str, fault_proxy: FaultProxy) -> None:
    fault_proxy.latency(0.02)
    started = time.monotonic()
    order(url)
    took = time.monotonic() - started
    assert took > 0.04 * 3  # startup, INSERT and COMMIT at the least, there and back


def test_latency_in_one_direction_is_half_of_it(url: str, fault_proxy: FaultProxy) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        fault_proxy.latency(0.2, jitter=0.01, direction="to_client")
        started = time.monotonic()
        connection.execute("SELECT 1")
        assert time.monotonic() - started > 0.18


def test_throttle_limits_the_bytes_a_second(url: str, fault_proxy: FaultProxy) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        fault_proxy.throttle(100_000, direction="to_client")
        started = time.monotonic()
        row = connection.execute("SELECT repeat('x', 50000)").fetchone()
        assert row == ("x" * 50_000,)
        assert time.monotonic() - started > 0.4


@every_driver
def test_slow_drip_passes_all_a_byte_at_a_time(
    order: Order, url: str, database: PostgresDatabase, fault_proxy: FaultProxy
) -> None:
    reached = fault_proxy.after_reply("INSERT").slow_drip(0.02)
    attempt = Attempt(order, url)
    reached.wait()
    started = time.monotonic()
    assert attempt.result() is None
    assert time.monotonic() - started > 0.2  # a COMMIT and its answer are some thirty bytes
    assert orders_when_quiet(database) == 1


def test_heal_ends_a_drip_that_would_take_for_ever(url: str, fault_proxy: FaultProxy) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        fault_proxy.slow_drip(3600)
        attempt = Attempt(lambda _: ignore(connection.execute("SELECT 1")), "")
        assert attempt.is_waiting()
        fault_proxy.heal()
        assert attempt.result() is None


def test_heal_ends_a_latency_that_would_take_for_ever(url: str, fault_proxy: FaultProxy) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        fault_proxy.latency(3600)
        attempt = Attempt(lambda _: ignore(connection.execute("SELECT 1")), "")
        assert attempt.is_waiting()
        fault_proxy.heal()
        assert attempt.result() is None


@every_driver
def test_stall_tls(order: Order, url: str, fault_proxy: FaultProxy) -> None:
    stalled = fault_proxy.stall_tls()
    attempt = Attempt(order, url + "?sslmode=prefer")
    stalled.wait()
    assert attempt.is_waiting()
    fault_proxy.heal()
    assert attempt.result() is None


# Moments


@every_driver
def test_reset_before_commit_is_forwarded_rolls_back(
    order: Order, url: str, database: PostgresDatabase, fault_proxy: FaultProxy
) -> None:
    strike = fault_proxy.after("COMMIT", forwarded=False).reset()
    assert isinstance(Attempt(order, url).result(), ERRORS)
    strike.wait()
    assert orders_when_quiet(database) == 0


@every_driver
def test_reset_after_commit_is_forwarded_commits(
    order: Order, url: str, database: PostgresDatabase, fault_proxy: FaultProxy
) -> None:
    strike = fault_proxy.after("COMMIT", forwarded=True).reset()
    assert isinstance(Attempt(order, url).result(), ERRORS)
    strike.wait()
    assert orders_when_quiet(database) == 1


@every_driver
def test_reset_before_the_reply_to_commit_comes_when_it_is_committed(
    order: Order, url: str, database: PostgresDatabase, fault_proxy: FaultProxy
) -> None:
    seen: list[list[tuple[Any, ...]]] = []

    def look() -> None:
        seen.append(database.execute("SELECT count(*) FROM orders"))

    looked = fault_proxy.before_reply("COMMIT").call(look)
    strike = fault_proxy.before_reply("COMMIT").reset()
    assert isinstance(Attempt(order, url).result(), ERRORS)
    looked.wait()
    strike.wait()
    assert seen == [[(1,)]]


@every_driver
@pytest.mark.parametrize("forwarded", [True, False])
def test_half_open_at_commit_decides_the_row_and_tells_nobody(
    order: Order, url: str, database: PostgresDatabase, fault_proxy: FaultProxy, forwarded: bool
) -> None:
    strike = fault_proxy.after("COMMIT", forwarded=forwarded).half_open()
    attempt = Attempt(order, url)
    strike.wait()
    assert orders_when_quiet(database) == int(forwarded)
    assert attempt.is_waiting()
    fault_proxy.reset()
    assert isinstance(attempt.result(), ERRORS)


@every_driver
def test_a_black_hole_at_commit_lasts_until_it_is_healed(
    order: Order, url: str, database: PostgresDatabase, fault_proxy: FaultProxy
) -> None:
    strike = fault_proxy.after("COMMIT", forwarded=False).black_hole()
    attempt = Attempt(order, url)
    strike.wait()
    assert attempt.is_waiting()
    assert database.execute("SELECT count(*) FROM orders") == [(0,)]
    fault_proxy.heal()
    assert attempt.result() is None
    assert orders_when_quiet(database) == 1


@every_driver
@pytest.mark.parametrize("moment", ["after", "before_reply", "after_reply"])
def test_begin_is_a_moment(
    order: Order, url: str, database: PostgresDatabase, fault_proxy: FaultProxy, moment: str
) -> None:
    strike: Strike = getattr(fault_proxy, moment)("BEGIN").reset()
    assert isinstance(Attempt(order, url).result(), ERRORS)
    strike.wait()
    assert orders_when_quiet(database) == 0


@every_driver
def test_the_startup_is_a_moment(order: Order, url: str, fault_proxy: FaultProxy) -> None:
    for moment in (fault_proxy.after, fault_proxy.before_reply):
        strike = moment("STARTUP").reset()
        assert isinstance(Attempt(order, url).result(), ERRORS)
        strike.wait()
    assert Attempt(order, url).result() is None


@every_driver
def test_a_statement_of_the_extended_protocol_is_a_moment(
    order: Order, url: str, database: PostgresDatabase, fault_proxy: FaultProxy
) -> None:
    strike = fault_proxy.before_reply("INSERT INTO orders").reset()
    assert isinstance(Attempt(order, url).result(), ERRORS)
    strike.wait()
    assert orders_when_quiet(database) == 0


def test_a_statement_that_was_forwarded_has_been_sent_with_its_sync(
    url: str, database: PostgresDatabase, fault_proxy: FaultProxy
) -> None:
    fault_proxy.after("INSERT", forwarded=True).reset()
    with psycopg.connect(url, autocommit=True) as c, pytest.raises(psycopg.OperationalError):
        c.execute("INSERT INTO orders VALUES (%s)", [1])
    assert orders_when_quiet(database) == 1


def test_begin_within_a_message_of_many_statements_is_a_moment(
    url: str, fault_proxy: FaultProxy
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        strike = fault_proxy.before_reply("LOCK TABLE").reset()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("BEGIN; LOCK TABLE orders IN ROW SHARE MODE; SELECT 1")
        strike.wait()


def test_a_word_in_a_literal_is_no_moment(url: str, fault_proxy: FaultProxy) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        strike = fault_proxy.after("COMMIT").reset()
        row = connection.execute("SELECT '; COMMIT'").fetchone()
        connection.execute("SELECT 1 AS commit")
    assert row == ("; COMMIT",)
    assert not strike.happened


def test_a_prepared_statement_is_a_moment_each_time_it_runs(
    url: str, fault_proxy: FaultProxy
) -> None:
    strike = fault_proxy.after("INSERT", times=None).watch()
    with psycopg.connect(url, autocommit=True, prepare_threshold=0) as connection:
        for n in range(4):
            connection.execute("INSERT INTO orders VALUES (%s)", [n])
    assert strike.count == 4


def test_a_pattern_is_found_anywhere_in_a_statement(url: str, fault_proxy: FaultProxy) -> None:
    strike = fault_proxy.after(re.compile(r"FROM\s+orders", re.IGNORECASE)).watch()
    with psycopg.connect(url) as connection:
        connection.execute("SELECT 1")
        assert not strike.happened
        connection.execute("SELECT * FROM orders")
    strike.wait()


def test_the_nth_match_strikes_and_so_many_times(url: str, fault_proxy: FaultProxy) -> None:
    third = fault_proxy.after("SELECT", nth=3).watch()
    twice = fault_proxy.after("SELECT", times=2).watch()
    with psycopg.connect(url, autocommit=True) as connection:
        happened = []
        for _ in range(4):
            connection.execute("SELECT 1")
            happened.append((third.happened, twice.count))
    assert happened == [(False, 1), (False, 2), (True, 2), (True, 2)]


def test_a_moment_strikes_the_one_connection_or_all(url: str, fault_proxy: FaultProxy) -> None:
    with psycopg.connect(url) as one, psycopg.connect(url) as other:
        fault_proxy.after("SELECT 'me'").reset()
        with pytest.raises(psycopg.OperationalError):
            one.execute("SELECT 'me'")
        other.execute("SELECT 1")
        fault_proxy.after("SELECT 'all'", everywhere=True).reset()
        with psycopg.connect(url) as third:
            with pytest.raises(psycopg.OperationalError):
                third.execute("SELECT 'all'")
            with pytest.raises(psycopg.OperationalError):
                other.execute("SELECT 1")


def test_a_black_hole_everywhere_lasts_for_new_connections(
    url: str, fault_proxy: FaultProxy
) -> None:
    strike = fault_proxy.after("COMMIT", forwarded=False, everywhere=True).black_hole()
    first = Attempt(order_with_psycopg, url)
    strike.wait()
    second = Attempt(order_with_psycopg, url)
    assert second.is_waiting()
    fault_proxy.heal()
    assert (first.result(), second.result()) == (None, None)


def test_a_function_breaks_the_server_at_the_moment(
    url: str, database: PostgresDatabase, fault_proxy: FaultProxy
) -> None:
    strike = fault_proxy.after("COMMIT", forwarded=False).call(database.terminate_backends)
    error = Attempt(order_with_psycopg, url).result()
    assert isinstance(error, psycopg.errors.AdminShutdown)
    strike.wait()
    assert orders_when_quiet(database) == 0


@pytest.mark.parametrize("moment", ["after", "before_reply"])
def test_nothing_passes_while_the_function_runs(
    url: str, fault_proxy: FaultProxy, moment: str
) -> None:
    entered, may_return = threading.Event(), threading.Event()

    def stay() -> None:
        entered.set()
        may_return.wait(BOUND)

    strike: Strike = getattr(fault_proxy, moment)("COMMIT").call(stay)
    attempt = Attempt(order_with_psycopg, url)
    assert entered.wait(BOUND)
    assert attempt.is_waiting()
    assert not strike.happened
    may_return.set()
    assert attempt.result() is None
    strike.wait()


def test_an_error_of_the_function_is_raised_where_it_is_waited_for(
    url: str, fault_proxy: FaultProxy
) -> None:
    strike = fault_proxy.after("COMMIT").call(lambda: 1 // 0)
    assert Attempt(order_with_psycopg, url).result() is None
    with pytest.raises(ZeroDivisionError):
        strike.wait()


def test_the_function_may_end_the_connection_it_was_called_for(
    url: str, fault_proxy: FaultProxy
) -> None:
    strike = fault_proxy.after("COMMIT").call(fault_proxy.reset)
    assert isinstance(Attempt(order_with_psycopg, url).result(), psycopg.OperationalError)
    strike.wait()
    assert strike.count == 1


def test_the_function_may_kill_the_server_and_the_client_hears_of_it_afterwards(
    breakable_postgres: PostgresServer,
) -> None:
    with FaultProxy(breakable_postgres) as proxy:
        returned = threading.Event()

        def kill() -> None:
            breakable_postgres.kill()
            time.sleep(0.2)  # long enough for the news to arrive, if they could
            returned.set()

        strike = proxy.after("COMMIT", forwarded=False).call(kill)
        url = proxy.url(breakable_postgres.url(driver=None))
        breakable_postgres.execute("CREATE TABLE orders (n int)")
        with pytest.raises(psycopg.OperationalError):
            order_with_psycopg(url)
        assert returned.is_set()
        strike.wait()


def test_a_function_everywhere_is_called_once(url: str, fault_proxy: FaultProxy) -> None:
    calls: list[int] = []
    strike = fault_proxy.after("COMMIT", everywhere=True).call(lambda: calls.append(1))
    with psycopg.connect(url), psycopg.connect(url):
        order_with_psycopg(url)
    strike.wait()
    assert calls == [1]


def test_an_answer_that_the_server_could_not_finish_reaches_the_client(
    url: str, database: PostgresDatabase, fault_proxy: FaultProxy
) -> None:
    fault_proxy.before_reply("SELECT pg_sleep").watch()
    started = fault_proxy.after("SELECT pg_sleep").watch()
    attempt = Attempt(lambda u: ignore(psycopg.connect(u).execute("SELECT pg_sleep(60)")), url)
    started.wait()
    wait_until(lambda: database.terminate_backends() == 1)
    assert isinstance(attempt.result(), psycopg.errors.AdminShutdown)


def test_refuse_at_a_moment_is_a_function(url: str, fault_proxy: FaultProxy) -> None:
    fault_proxy.after("COMMIT").call(fault_proxy.refuse)
    order_with_psycopg(url)
    assert isinstance(Attempt(order_with_psycopg, url).result(), psycopg.OperationalError)


def test_a_moment_that_does_not_come_is_named_when_the_waiting_ends(
    fault_proxy: FaultProxy,
) -> None:
    with pytest.raises(TimeoutError, match="before the reply to 'COMMIT' did not come"):
        fault_proxy.before_reply("COMMIT").reset().wait(0.05)


def test_heal_disarms(url: str, fault_proxy: FaultProxy) -> None:
    strike = fault_proxy.after("COMMIT").reset()
    fault_proxy.heal()
    order_with_psycopg(url)
    assert not strike.happened


# What it shows


def test_it_counts_round_trips(url: str, fault_proxy: FaultProxy) -> None:
    with psycopg.connect(url) as connection:
        before = fault_proxy.round_trips
        connection.execute("SELECT %s::int", [1])
        assert fault_proxy.round_trips - before == 2  # BEGIN is one of its own
        connection.commit()
        assert fault_proxy.round_trips - before == 3
        connection.execute("SELECT 1; SELECT 2; SELECT 3")
        assert fault_proxy.round_trips - before == 5


def test_it_keeps_the_messages_of_both_sides(url: str, fault_proxy: FaultProxy) -> None:
    order_with_psycopg2(url)
    kinds = [(m.sender, m.kind, m.text) for m in fault_proxy.messages if m.text]
    assert ("client", "Query", "INSERT INTO orders VALUES (1)") in kinds
    assert kinds.index(("client", "Query", "COMMIT")) < kinds.index(
        ("server", "CommandComplete", "COMMIT")
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql://u:p%40@db:1/x", "postgresql://u:p%40@127.0.0.1:{port}/x"),
        ("postgresql+asyncpg://u@db/x?a=1", "postgresql+asyncpg://u@127.0.0.1:{port}/x?a=1"),
        ("postgresql://db/x", "postgresql://127.0.0.1:{port}/x"),
        ("postgresql://u@/x?host=%2Ftmp&port=2", "postgresql://u@127.0.0.1:{port}/x"),
        ("postgresql://u@a:1,b:2/x", "postgresql://u@127.0.0.1:{port}/x"),
    ],
)
def test_a_url_gets_its_address(fault_proxy: FaultProxy, given: str, expected: str) -> None:
    assert fault_proxy.url(given) == expected.format(port=fault_proxy.port)


# How it is used and what it leaves


async def test_it_serves_async_tests_as_it_is(postgres: PostgresDatabase) -> None:
    with FaultProxy(postgres.server) as proxy:
        connection = await asyncpg.connect(proxy.url(postgres.url(None)))
        strike = proxy.after("SELECT").black_hole()
        with pytest.raises(TimeoutError):
            await connection.fetch("SELECT 1", timeout=0.2)
        await asyncio.to_thread(strike.wait)
        connection.terminate()


def test_a_host_and_port_are_an_upstream(postgres_server: PostgresServer) -> None:
    with FaultProxy(("localhost", postgres_server.port)) as proxy:
        order = psycopg.connect(proxy.url(postgres_server.url(driver=None)))
        order.close()


def test_redirect_leads_new_connections_elsewhere_and_leaves_open_ones(
    url: str, fault_proxy: FaultProxy
) -> None:
    with (
        psycopg.connect(url) as connection,
        socket.create_server(("127.0.0.1", 0)) as elsewhere,
    ):
        fault_proxy.redirect(elsewhere.getsockname())
        with socket.create_connection((fault_proxy.host, fault_proxy.port), BOUND) as client:
            elsewhere.settimeout(BOUND)
            led, _ = elsewhere.accept()
            with led:
                client.sendall(SSL_REQUEST)
                led.settimeout(BOUND)
                assert led.recv(100) == SSL_REQUEST
        assert connection.execute("SELECT 1").fetchall() == [(1,)]


def test_close_resets_who_is_connected_and_may_be_called_again(
    postgres_server: PostgresServer,
) -> None:
    proxy = FaultProxy(postgres_server)
    proxy.start()
    with psycopg.connect(proxy.url(postgres_server.url(driver=None))) as connection:
        proxy.close()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    proxy.close()
    with pytest.raises(RuntimeError, match="does not run"):
        proxy.refuse()
    with pytest.raises(RuntimeError, match="make a new one"):
        proxy.start()


def test_close_raises_what_broke_in_the_proxy(postgres_server: PostgresServer) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    proxy = FaultProxy(postgres_server)
    proxy.start()
    assert proxy._listener is not None
    accepting = proxy._listener.task
    assert accepting is not None
    with socket.socket() as client:
        free = os.dup(client.fileno())
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            client.connect((proxy.host, proxy.port))
            wait_until(accepting.done)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with pytest.raises(OSError, match="Too many open files"):
            proxy.close()
    proxy.close()


BAD: list[Callable[[FaultProxy | Moment], object]] = [
    lambda it: it.latency(-1),
    lambda it: it.latency(float("nan")),
    lambda it: it.latency(0.1, jitter=0.2),
    lambda it: it.throttle(0),
    lambda it: it.slow_drip(0),
    lambda it: it.slow_drip(float("inf")),
    lambda it: it.black_hole("sideways"),  # type: ignore[arg-type]
    lambda it: it.half_open("both"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("bad", BAD)
def test_a_wrong_fault_is_refused_now_and_at_a_moment(
    bad: Callable[[FaultProxy | Moment], object], fault_proxy: FaultProxy
) -> None:
    for it in (fault_proxy, fault_proxy.after("COMMIT")):
        with pytest.raises(ValueError, match="must"):
            bad(it)


@pytest.mark.parametrize("bad", [{"nth": 0}, {"times": 0}])
def test_a_wrong_moment_is_refused(bad: dict[str, int], fault_proxy: FaultProxy) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        fault_proxy.after("COMMIT", **bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="first words"):
        fault_proxy.after(" ")


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_thousands_of_connections_leave_nothing_behind(many_descriptors: None) -> None:
    descriptors = psutil.Process().num_fds()
    with socket.socket() as silent, contextlib.ExitStack() as clients:
        silent.bind(("127.0.0.1", 0))
        silent.listen(4096)
        with FaultProxy(silent.getsockname()) as proxy:
            strike = proxy.after("SSLREQUEST", forwarded=False, nth=2000).watch()
            for _ in range(2000):
                client = socket.create_connection((proxy.host, proxy.port), BOUND)
                clients.enter_context(client)
                client.sendall(SSL_REQUEST)
            strike.wait(BOUND)
            assert proxy.connections == 2000
            proxy.reset()
            assert proxy.connections == 0
    assert psutil.Process().num_fds() <= descriptors
    assert "failstop-fault-proxy" not in {thread.name for thread in threading.enumerate()}


FAULTS: list[Callable[[FaultProxy | Moment], object]] = [
    lambda it: it.reset(),
    lambda it: it.half_open(),
    lambda it: it.half_open("client"),
    lambda it: it.black_hole(),
    lambda it: it.latency(3600),
    lambda it: it.slow_drip(3600),
]


def test_a_proxy_that_is_closed_amid_every_fault_leaves_nothing_behind(
    database: PostgresDatabase,
) -> None:
    descriptors = psutil.Process().num_fds()
    for fault in FAULTS:
        with FaultProxy(database.server) as proxy:
            fault(proxy.after("INSERT"))
            attempt = Attempt(order_with_psycopg, proxy.url(database.url(None)))
            attempt.is_waiting(0.2)
            proxy.refuse()
        assert isinstance(attempt.result(), psycopg.Error)
    assert orders_when_quiet(database) == 0
    assert psutil.Process().num_fds() <= descriptors
    assert "failstop-fault-proxy" not in {thread.name for thread in threading.enumerate()}


def ignore(_: object) -> None:
    """Drop a result, so that a lambda fits."""


def wait_until(is_true: Callable[[], bool]) -> None:
    until = time.monotonic() + BOUND
    while not is_true():
        assert time.monotonic() < until
        time.sleep(0.01)
