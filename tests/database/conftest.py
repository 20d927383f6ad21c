"""One client for every driver, so that a promise is tested once and holds for all four."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Row, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Session

from failstop import FailSafe
from failstop.database import AsyncDatabase, Database
from failstop.events import Tripped
from failstop.recovery import Recovery
from failstop.testing import PostgresDatabase, PostgresServer

T = TypeVar("T")

SYNC = ("psycopg", "psycopg2")
ASYNC = ("psycopg_async", "asyncpg")
URL_NAMES = {"psycopg_async": "psycopg"}


class Client:
    """A guarded database with the same verbs for a sync and an async driver.

    The bodies that are handed in are sync: an async connection runs them by `run_sync()`.
    """

    def __init__(self, driver: str, url: str, failsafe: FailSafe, **settings: Any) -> None:
        self.driver = driver
        self.is_async = driver in ASYNC
        self.failsafe = failsafe
        self.loop = asyncio.new_event_loop() if self.is_async else None
        self.trips: list[str] = []
        self.is_closed = False
        failsafe.subscribe(self._count)
        kind: Any = AsyncDatabase if self.is_async else Database
        self.database: Any = kind.connect(url, failsafe, **settings)

    def _count(self, event: object) -> None:
        if isinstance(event, Tripped):
            self.trips.append(event.incident.kind)

    @property
    def engine(self) -> Engine:
        """The guarded sync engine, which an async one holds inside."""
        engine: Engine = self.database.engine
        if self.is_async:
            engine = self.database.engine.sync_engine
        return engine

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run a coroutine function to its end, in this client's loop."""
        assert self.loop is not None
        return self.loop.run_until_complete(_await(work))

    def query(self, sql: str, params: Any = None, **settings: Any) -> list[Row[Any]]:
        if not self.is_async:
            rows: list[Row[Any]] = self.database.query(sql, params, **settings)
            return rows
        return self.run(lambda: self.database.query(sql, params, **settings))

    def transaction(self, body: Callable[[Connection], T], **settings: Any) -> T:
        if not self.is_async:
            with self.database.transaction(**settings) as connection:
                return body(connection)

        async def work() -> T:
            async with self.database.transaction(**settings) as connection:
                done: T = await connection.run_sync(body)
                return done

        return self.run(work)

    def session(self, body: Callable[[Session], T], **settings: Any) -> T:
        if not self.is_async:
            with self.database.session(**settings) as session:
                return body(session)

        async def work() -> T:
            async with self.database.session(**settings) as session:
                done: T = await session.run_sync(body)
                return done

        return self.run(work)

    def run_once(self, key: str, body: Callable[[Connection], T], **settings: Any) -> T:
        if not self.is_async:
            result: T = self.database.run_once(key, body, **settings)
            return result

        async def work(connection: AsyncConnection) -> T:
            done: T = await connection.run_sync(body)
            return done

        async def run() -> T:
            done: T = await self.database.run_once(key, work, **settings)
            return done

        return self.run(run)

    def begin(self, body: Callable[[Connection], T], **options: Any) -> T:
        """Use the plain engine, as code does that has never heard of failstop."""
        if not self.is_async:
            with self.database.engine.execution_options(**options).begin() as connection:
                return body(connection)

        async def work() -> T:
            engine = self.database.engine.execution_options(**options)
            async with engine.begin() as connection:
                done: T = await connection.run_sync(body)
                return done

        return self.run(work)

    def execute(self, *statements: str) -> None:
        self.transaction(lambda connection: [connection.execute(text(s)) for s in statements])

    def close(self) -> None:
        """Close everything; doing it again does nothing."""
        if self.is_closed:
            return
        self.is_closed = True
        self.failsafe.close()
        if self.loop is None:
            self.database.engine.dispose()
        else:
            self.run(self.database.engine.dispose)
            self.loop.close()


async def _await(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


class Clients:
    """Makes clients and closes them."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(
        self,
        driver: str,
        database: PostgresDatabase | str,
        *,
        start: bool = True,
        recovery: Recovery | None = None,
        **settings: Any,
    ) -> Client:
        url = (
            database
            if isinstance(database, str)
            else database.url(driver=URL_NAMES.get(driver, driver))
        )
        failsafe = FailSafe("tests", recovery=recovery or Recovery(probe_interval=0.1))
        client = Client(driver, url, failsafe, **settings)
        self._stack.callback(client.close)
        if start:
            failsafe.start()
            assert failsafe.is_normal
        return client


@pytest.fixture
def clients() -> Iterator[Clients]:
    with ExitStack() as stack:
        yield Clients(stack)


@pytest.fixture(params=[*SYNC, *ASYNC])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(driver: str, postgres: PostgresDatabase, clients: Clients) -> Client:
    """A client on a database of its own with one table, `trades(id primary key, price)`."""
    postgres.execute("CREATE TABLE trades (id integer PRIMARY KEY, price integer)")
    return clients(driver, postgres, deadline=5.0)


@pytest.fixture(scope="session")
def server_to_break(
    postgres_settings: Mapping[str, str | int | float | bool], postgres_bindir: Path | None
) -> Iterator[PostgresServer]:
    """A server that each test finds whole: a new one for each would cost a second."""
    with PostgresServer(settings=postgres_settings, bindir=postgres_bindir) as server:
        server.create_schema()
        yield server


@pytest.fixture
def own_server(server_to_break: PostgresServer) -> Iterator[PostgresServer]:
    """A server of the test's own, to kill, freeze and configure, with the table `trades`."""
    server_to_break.execute("DROP TABLE IF EXISTS trades")
    server_to_break.execute(
        "TRUNCATE failstop.receipt, failstop.witness, failstop.fence, failstop.process"
    )
    server_to_break.execute("CREATE TABLE trades (id integer PRIMARY KEY, price integer)")
    yield server_to_break
    make_whole(server_to_break)


def make_whole(server: PostgresServer) -> None:
    """Undo what a test did to the server, and end what its clients left there."""
    server.thaw()
    if not server.is_running:
        server.start()
    server.terminate_backends()
    server.execute("ALTER SYSTEM RESET ALL")
    server.execute("SELECT pg_reload_conf()")
