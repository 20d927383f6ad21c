"""Whoever waits for a connection of an exhausted pool is served in turn, and freed by a trip."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import FrameType
from typing import Any

import pytest
from sqlalchemy.pool import QueuePool
from tests.forking import exit_code

from failstop.database import deadline
from failstop.database._pool import QueuedPool, line_of
from failstop.errors import ConnectionFailedError, OperationsSuspendedError, Outcome
from failstop.recovery import Recovery
from failstop.testing import FaultProxy, PostgresDatabase

BOUND = 20.0
"""Seconds in which a condition comes true on a busy machine; every deadline here is longer."""

FAR = 60.0


@pytest.fixture(params=["psycopg_async", "asyncpg"])
def async_driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def one(postgres: PostgresDatabase, clients: Any) -> Any:
    """A client whose pool has one connection."""
    return single(clients, "psycopg", postgres)


def single(clients: Any, driver: str, database: PostgresDatabase | str) -> Any:
    quiet = Recovery(probe_interval=60)
    return clients(driver, database, deadline=FAR, pool_size=1, max_overflow=0, recovery=quiet)


def pool_of(client: Any) -> QueuedPool:
    pool = client.engine.pool
    assert isinstance(pool, QueuedPool)
    return pool


def waiting(client: Any) -> int:
    return len(pool_of(client)._pool._places)


def are_waiting(client: Any, number: int) -> bool:
    return waiting(client) == number


def wait_until(is_true: Callable[[], bool]) -> None:
    limit = time.monotonic() + BOUND
    while not is_true():
        assert time.monotonic() < limit, "the condition did not come true"
        time.sleep(0.005)


async def wait_in_loop(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND):
        while not is_true():  # noqa: ASYNC110 - no event tells who waits in the pool's queue
            await asyncio.sleep(0.005)


class Callers:
    """Threads that call; what came of each is kept under its name."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.came: dict[str, Any] = {}

    def start(self, name: str, call: Callable[[], Any]) -> None:
        def run() -> None:
            try:
                self.came[name] = call()
            except BaseException as error:
                self.came[name] = error

        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()

    def join(self) -> None:
        for thread in self.threads:
            thread.join(BOUND)
        assert not any(thread.is_alive() for thread in self.threads)


@pytest.fixture
def callers() -> Callers:
    return Callers()


# In turn


def test_threads_are_served_in_the_order_in_which_they_asked(one: Any, callers: Callers) -> None:
    served: list[int] = []

    def ask(number: int) -> None:
        with one.engine.connect():
            served.append(number)

    with one.engine.connect():
        for number in range(8):
            callers.start(str(number), partial(ask, number))
            wait_until(partial(are_waiting, one, number + 1))
    callers.join()
    assert served == list(range(8))


def test_whoever_returns_a_connection_and_asks_anew_stands_behind_those_who_wait(
    one: Any, callers: Callers
) -> None:
    served: list[str] = []

    def ask() -> None:
        with one.engine.connect():
            served.append("waited")

    with one.engine.connect():
        callers.start("waits", ask)
        wait_until(lambda: waiting(one) == 1)
    with one.engine.connect():
        served.append("asked anew")
    callers.join()
    assert served == ["waited", "asked anew"]


def test_tasks_are_served_in_the_order_in_which_they_asked(
    async_driver: str, postgres: PostgresDatabase, clients: Any
) -> None:
    client = single(clients, async_driver, postgres)
    served: list[int] = []

    async def ask(number: int) -> None:
        async with client.database.engine.connect():
            served.append(number)

    async def work() -> None:
        async with client.database.engine.connect():
            tasks = []
            for number in range(8):
                tasks.append(asyncio.create_task(ask(number)))
                await wait_in_loop(partial(are_waiting, client, number + 1))
        await ask(8)
        await asyncio.gather(*tasks)

    client.run(work)
    assert served == list(range(9))


# Freed by a trip


def test_a_trip_frees_the_threads_that_wait_though_the_holders_do_nothing(
    one: Any, callers: Callers
) -> None:
    with one.engine.connect():
        for number in range(5):
            callers.start(str(number), lambda: one.query("SELECT 1"))
        wait_until(lambda: waiting(one) == 5)
        one.failsafe.halt(actor="tester", reason="test")
        callers.join()
        assert waiting(one) == 0
    assert len(callers.came) == 5
    for error in callers.came.values():
        assert isinstance(error, OperationsSuspendedError)
        assert error.outcome is Outcome.NOT_STARTED


def test_a_trip_frees_the_tasks_that_wait_though_the_holders_do_nothing(
    async_driver: str, postgres: PostgresDatabase, clients: Any
) -> None:
    client = single(clients, async_driver, postgres)

    async def ask() -> None:
        with pytest.raises(OperationsSuspendedError) as caught:
            await client.database.query("SELECT 1")
        assert caught.value.outcome is Outcome.NOT_STARTED

    async def work() -> None:
        async with client.database.engine.connect():
            tasks = [asyncio.create_task(ask()) for _ in range(5)]
            await wait_in_loop(lambda: waiting(client) == 5)
            await asyncio.to_thread(client.failsafe.halt, actor="tester", reason="test")
            async with asyncio.timeout(BOUND):
                await asyncio.gather(*tasks)

    client.run(work)


def test_the_close_frees_the_threads_that_wait(one: Any, callers: Callers) -> None:
    with one.engine.connect():
        callers.start("waits", lambda: one.query("SELECT 1"))
        wait_until(lambda: waiting(one) == 1)
        one.failsafe.close()
        callers.join()
    assert isinstance(callers.came["waits"], OperationsSuspendedError)


def test_a_trip_between_the_refusal_s_look_and_the_wait_is_seen(one: Any, callers: Callers) -> None:
    """Who queues up looks at the latch afterwards, so that no trip passes unseen."""
    pool = pool_of(one)
    seen: list[int] = []

    def verify() -> None:
        seen.append(waiting(one))
        one.failsafe.halt(actor="tester", reason="test")
        one.failsafe.require()

    with one.engine.connect(), pytest.raises(OperationsSuspendedError):
        pool._pool.take(FAR, verify)
    assert seen == [1]
    assert waiting(one) == 0


def test_a_line_that_cannot_be_cut_keeps_no_other_from_being_cut(
    postgres: PostgresDatabase, clients: Any, callers: Callers
) -> None:
    client = clients(
        "psycopg", postgres, deadline=FAR, pool_size=3, recovery=Recovery(probe_interval=60)
    )
    sleep = "SELECT pg_sleep(60)"
    with ExitStack() as stack:
        broken = [_broken_line(stack.enter_context(client.engine.connect())) for _ in range(2)]
        callers.start("blocked", lambda: client.query(sleep))
        running = f"SELECT count(*) FROM pg_stat_activity WHERE query = '{sleep}'"
        wait_until(lambda: postgres.execute(running)[0][0] == 1)
        client.failsafe.halt(actor="tester", reason="test")
        callers.join()
        for line in broken:
            line.rest()
            line._end = None
    assert isinstance(callers.came["blocked"], OperationsSuspendedError)


def _broken_line(connection: Any) -> Any:
    """Return the line of `connection`, armed, with an end that fails as no end should."""
    line: Any = line_of(connection.connection)
    line._end.close()
    line._end = _BrokenEnd()
    line.arm(time.monotonic() + FAR)
    return line


class _BrokenEnd:
    waits_at_close = False

    def cut(self) -> None:
        raise RuntimeError("broken")

    def close(self) -> None:
        """Own nothing."""


# In time


def test_a_thread_whose_time_is_over_leaves_the_queue_to_the_others(
    one: Any, callers: Callers
) -> None:
    with one.engine.connect():
        callers.start("short", lambda: one.query("SELECT 1", deadline=0.5))
        wait_until(lambda: waiting(one) == 1)
        callers.start("long", lambda: one.query("SELECT 2"))
        wait_until(lambda: "short" in callers.came)
        assert waiting(one) == 1
    callers.join()
    assert isinstance(callers.came["short"], TimeoutError)
    assert callers.came["long"] == [(2,)]
    require_whole(one)


def test_a_task_whose_time_is_over_leaves_the_queue_to_the_others(
    async_driver: str, postgres: PostgresDatabase, clients: Any
) -> None:
    client = single(clients, async_driver, postgres)

    async def work() -> None:
        async with client.database.engine.connect():
            short = asyncio.create_task(client.database.query("SELECT 1", deadline=0.5))
            await wait_in_loop(lambda: waiting(client) == 1)
            long = asyncio.create_task(client.database.query("SELECT 2"))
            with pytest.raises(TimeoutError):
                await short
            assert waiting(client) == 1
        assert await asyncio.wait_for(long, BOUND) == [(2,)]

    client.run(work)
    require_whole(client)


def test_the_pool_s_own_timeout_counts_within_the_deadline(
    postgres: PostgresDatabase, clients: Any
) -> None:
    client = clients(
        "psycopg", postgres, deadline=FAR, pool_size=1, max_overflow=0, pool_timeout=0.2
    )
    asked = time.monotonic()
    with client.engine.connect(), pytest.raises(ConnectionFailedError) as caught:
        client.query("SELECT 1")
    assert time.monotonic() - asked < FAR / 2
    assert caught.value.kind == "pool_timeout"
    assert pool_of(client)._timeout == 0.2


# Nothing is lost


def require_whole(client: Any) -> None:
    """Require that the only connection of the pool can still be had, and nothing tripped."""
    assert waiting(client) == 0
    assert pool_of(client).checkedout() == 0
    assert client.query("SELECT 7", deadline=BOUND) == [(7,)]
    assert client.trips == []


def test_no_connection_is_lost_with_a_task_that_is_cancelled_while_it_waits(
    async_driver: str, postgres: PostgresDatabase, clients: Any
) -> None:
    client = single(clients, async_driver, postgres)

    async def work() -> None:
        async with client.database.engine.connect():
            task = asyncio.create_task(client.database.query("SELECT 1"))
            await wait_in_loop(lambda: waiting(client) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert waiting(client) == 0

    client.run(work)
    require_whole(client)


def test_no_connection_is_lost_with_a_task_that_is_cancelled_when_it_was_given_one(
    async_driver: str, postgres: PostgresDatabase, clients: Any
) -> None:
    client = single(clients, async_driver, postgres)

    async def work() -> None:
        held = await client.database.engine.connect()
        first = asyncio.create_task(client.database.query("SELECT 1"))
        await wait_in_loop(lambda: waiting(client) == 1)
        second = asyncio.create_task(client.database.query("SELECT 2"))
        await wait_in_loop(lambda: waiting(client) == 2)
        await held.close()
        assert waiting(client) == 1
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await asyncio.wait_for(second, BOUND) == [(2,)]

    client.run(work)
    require_whole(client)


def test_a_task_that_is_cancelled_while_it_connects_leaves_its_room_to_the_next(
    async_driver: str, postgres: PostgresDatabase, fault_proxy: FaultProxy, clients: Any
) -> None:
    url = postgres.url(driver={"psycopg_async": "psycopg"}.get(async_driver, async_driver))
    client = single(clients, async_driver, fault_proxy.url(url))
    fault_proxy.black_hole()

    async def work() -> None:
        with deadline(BOUND):
            connects = asyncio.create_task(client.database.query("SELECT 1"))
            await wait_in_loop(lambda: pool_of(client).checkedout() == 1)
            waits = asyncio.create_task(client.database.query("SELECT 2"))
            await wait_in_loop(lambda: waiting(client) == 1)
        connects.cancel()
        fault_proxy.heal()
        with pytest.raises(asyncio.CancelledError):
            await connects
        assert await asyncio.wait_for(waits, BOUND) == [(2,)]

    client.run(work)
    require_whole(client)


class Interruption(BaseException):
    """As KeyboardInterrupt, but pytest's own are left alone."""


@contextmanager
def interruptible() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interruption

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_thread_that_is_interrupted_leaves_the_queue(one: Any, callers: Callers) -> None:
    own = threading.get_ident()

    def interrupt() -> None:
        wait_until(lambda: waiting(one) == 1)
        signal.pthread_kill(own, signal.SIGUSR1)

    with one.engine.connect(), interruptible():
        callers.start("interrupts", interrupt)
        with pytest.raises(Interruption):
            one.query("SELECT 1")
        assert waiting(one) == 0
    require_whole(one)


def test_a_pool_that_is_disposed_of_gives_room_to_whoever_waits(one: Any, callers: Callers) -> None:
    before, held = pool_of(one), one.engine.connect()
    callers.start("waits", lambda: one.query("SELECT 1"))
    wait_until(lambda: waiting(one) == 1)
    one.engine.dispose()
    callers.join()
    held.close()
    before.dispose()
    assert callers.came["waits"] == [(1,)]
    require_whole(one)


def test_an_idle_connection_from_before_the_guard_is_not_forgotten(
    postgres: PostgresDatabase, clients: Any
) -> None:
    """The queue takes over what SQLAlchemy's own had, and `recreate()` makes a fair one."""
    from sqlalchemy import create_engine

    from failstop import Database, FailSafe

    engine = create_engine(postgres.url(), pool_size=3)
    with engine.connect(), engine.connect():
        pass
    with FailSafe("tests", recovery=Recovery(probe_interval=60)) as failsafe:
        Database(engine, failsafe)
        assert isinstance(engine.pool, QueuePool)
        assert engine.pool.checkedin() == 2
        assert isinstance(engine.pool.recreate(), QueuedPool)
        with engine.connect(), engine.connect(), engine.connect():
            assert engine.pool.checkedout() == 3
    engine.dispose()


def test_a_forked_child_returns_its_connection_though_the_parent_held_the_queue_s_lock(
    one: Any, callers: Callers
) -> None:
    lock = pool_of(one)._pool._lock
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait(BOUND)

    connection = one.engine.connect()
    callers.start("holds", hold)
    assert held.wait(BOUND)
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        connection.close()
        os._exit(0)
    try:
        assert exit_code(child) == 0
    finally:
        done.set()
        callers.join()
        connection.close()
    require_whole(one)


@pytest.mark.parametrize("use_lifo", [False, True])
def test_no_connection_is_lost_where_many_ask_for_few(
    use_lifo: bool, postgres: PostgresDatabase, clients: Any, callers: Callers
) -> None:
    """Some give up at once, some are broken; in the end all that was lent is back.

    A ping that is answered when its share of so short a time is over is no outage.
    """
    client = clients(
        "psycopg",
        postgres,
        deadline=FAR,
        pool_size=2,
        max_overflow=1,
        pool_use_lifo=use_lifo,
        recovery=Recovery(probe_interval=60),
    )
    pool = pool_of(client)
    most: list[int] = []

    def ask(number: int) -> None:
        for turn in range(40):
            seconds = 0.002 if (number + turn) % 4 == 0 else FAR
            try:
                with deadline(seconds), client.engine.connect() as connection:
                    most.append(pool.checkedout())
                    if turn % 7 == 0:
                        connection.invalidate()
            except TimeoutError:
                continue

    for number in range(12):
        callers.start(str(number), partial(ask, number))
    callers.join()
    assert set(callers.came.values()) == {None}
    assert max(most) <= 3
    assert client.trips == []
    assert pool.checkedout() == 0
    assert len(pool._pool._places) == 0
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(client.engine.connect())
        assert pool.checkedout() == 3
