"""The verbs of a guarded async engine: the same as the sync ones, awaited."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self, TypeVar

from sqlalchemy import Executable, Row
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    create_async_engine,
)

from failstop._failsafe import FailSafe
from failstop._fence import WHOLE
from failstop.database import schema
from failstop.database._database import (
    READ_ONLY,
    GuardedDatabase,
    IsolationLevel,
    Parameters,
    options_of,
    statement_of,
)
from failstop.database._deadline import GRACE
from failstop.database._receipts import READ, Receipt, as_json, replay, require_stored
from failstop.database._settings import engine_arguments, require_url
from failstop.diagnosis import Diagnoser
from failstop.errors import ConfigurationError, IdempotencyConflictError
from failstop.recovery import require_seconds

__all__ = ["AsyncDatabase"]

T = TypeVar("T")


class AsyncDatabase(GuardedDatabase):
    """Guard a SQLAlchemy async engine in place; the arguments are those of `Database`.

    Raises:
        ConfigurationError: the engine is no AsyncEngine, is in AUTOCOMMIT or guarded already, or
            a setting is out of its range.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        failsafe: FailSafe,
        *,
        name: str = "database",
        deadline: float = 5.0,
        connect_deadline: float = 3.0,
        receipts: bool = True,
        fence: bool = True,
        scope: str = WHOLE,
        listen_url: str | URL | None = None,
        diagnoser: Diagnoser | None = None,
    ) -> None:
        if not isinstance(engine, AsyncEngine):
            raise ConfigurationError(
                f"AsyncDatabase guards an AsyncEngine, not {type(engine).__name__}; "
                "a sync Engine goes into Database"
            )
        super().__init__(
            engine.sync_engine,
            failsafe,
            name=name,
            deadline=deadline,
            connect_deadline=connect_deadline,
            receipts=receipts,
            fence=fence,
            scope=scope,
            listen_url=listen_url,
            diagnoser=diagnoser,
        )
        self._engine = engine
        self._be_watched()

    @classmethod
    def connect(
        cls,
        url: str | URL | None,
        failsafe: FailSafe,
        *,
        name: str = "database",
        deadline: float = 5.0,
        connect_deadline: float = 3.0,
        receipts: bool = True,
        fence: bool = True,
        scope: str = WHOLE,
        listen_url: str | URL | None = None,
        diagnoser: Diagnoser | None = None,
        **engine_options: Any,
    ) -> Self:
        """Make an async engine with sound settings and guard it, as `Database.connect()` does.

        Raises:
            DatabaseUnavailableError: there is no URL.
            ConfigurationError: the URL or a setting is wrong.
        """
        made = require_url(url, driver="psycopg")
        arguments = engine_arguments(made, require_seconds("deadline", deadline))
        engine = create_async_engine(made, **{**arguments, **engine_options})
        return cls(
            engine,
            failsafe,
            name=name,
            deadline=deadline,
            connect_deadline=connect_deadline,
            receipts=receipts,
            fence=fence,
            scope=scope,
            listen_url=listen_url,
            diagnoser=diagnoser,
        )

    @property
    def engine(self) -> AsyncEngine:
        """The guarded engine."""
        return self._engine

    async def query(
        self,
        sql: str | Executable,
        params: Parameters | None = None,
        *,
        deadline: float | None = None,
    ) -> Sequence[Row[Any]]:
        """Return the rows of a read, as `Database.query()` does."""
        async with self._connection(READ_ONLY, deadline) as connection:
            self._guard.ask_for(connection.sync_connection, READ)
            result = await connection.execute(statement_of(sql), params)
            return result.all() if result.returns_rows else []

    @asynccontextmanager
    async def transaction(
        self,
        *,
        key: str | None = None,
        isolation_level: IsolationLevel | None = None,
        deadline: float | None = None,
    ) -> AsyncIterator[AsyncConnection]:
        """Give a connection in a transaction, as `Database.transaction()` does.

        A cancellation while COMMIT is under way waits for its answer: it is no rollback.
        """
        receipt = self._receipt(key)
        async with self._begun(receipt, options_of(isolation_level), deadline) as connection:
            yield connection

    @asynccontextmanager
    async def _begun(
        self, receipt: Receipt, options: dict[str, Any], seconds: float | None
    ) -> AsyncIterator[AsyncConnection]:
        async with self._connection(options, seconds) as connection:
            self._guard.ask_for(connection.sync_connection, receipt)
            async with connection.begin():
                work = self._guard.work_of(connection.sync_connection)
                yield connection
            self._guard.require_committed(work)

    @asynccontextmanager
    async def session(
        self,
        *,
        key: str | None = None,
        isolation_level: IsolationLevel | None = None,
        deadline: float | None = None,
    ) -> AsyncIterator[AsyncSession]:
        """Give an ORM session in a transaction, as `Database.session()` does."""
        async with (
            self.transaction(
                key=key, isolation_level=isolation_level, deadline=deadline
            ) as connection,
            AsyncSession(connection, expire_on_commit=False) as session,
        ):
            yield session
            await session.flush()

    async def run_once(
        self,
        key: str,
        work: Callable[[AsyncConnection], Awaitable[T]],
        *,
        fingerprint: str | None = None,
        isolation_level: IsolationLevel | None = None,
        deadline: float | None = None,
    ) -> T:
        """Do `work` in a transaction, once for each key, as `Database.run_once()` does."""
        receipt = self._keyed_receipt(key, fingerprint)
        with self._limited(deadline):
            async with AsyncExitStack() as stack:
                try:
                    begun = self._begun(receipt, options_of(isolation_level), deadline)
                    connection = await stack.enter_async_context(begun)
                except IdempotencyConflictError:
                    rows = await self.query(self._stored, {"key": key}, deadline=deadline)
                    replayed: T = replay(rows[0] if rows else None, key, fingerprint)
                    return replayed
                result = as_json(await work(connection))
                stored = await connection.execute(self._store, {"key": key, "result": result})
                require_stored(stored)
        returned: T = json.loads(result)
        return returned

    @asynccontextmanager
    async def _connection(
        self, options: dict[str, Any], seconds: float | None
    ) -> AsyncIterator[AsyncConnection]:
        """Check a connection out, as `Database._connection()` does."""
        with self._limited(seconds):
            connection = await self._engine.connect()
        try:
            yield await connection.execution_options(**options)
        finally:
            await asyncio.shield(connection.close())

    async def create_schema(self) -> tuple[str, ...]:
        """Create failstop's own tables where they are missing, as `Database.create_schema()`."""
        schema.require_supported(self._engine.dialect.name)
        try:
            with self._probing():
                async with AsyncEngine(self._guard.probe_engine).begin() as connection:
                    return await connection.run_sync(schema.create)
        finally:
            await AsyncEngine(self._guard.probe_engine).dispose()

    def _ask_apart(self, work: Callable[[Connection], T], seconds: float) -> T:
        return self._ask_beside(work, self._guard.settlement.engine, seconds)

    def _ask(self, work: Callable[[Connection], T]) -> T:
        return self._ask_beside(work, self._guard.probe_engine, 0.0)

    def _ask_beside(self, work: Callable[[Connection], T], engine: Engine, seconds: float) -> T:
        """Do `work` in an event loop of this call's own; `start()` may be called inside another."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._ask_in_loop(work, engine, seconds)
        with ThreadPoolExecutor(1, thread_name_prefix="failstop-start") as thread:
            return thread.submit(self._ask_in_loop, work, engine, seconds).result()

    def _ask_in_loop(self, work: Callable[[Connection], T], engine: Engine, seconds: float) -> T:
        loop = asyncio.new_event_loop()
        try:
            with self._probing(seconds):
                return loop.run_until_complete(self._ask_async(work, engine))
        finally:
            loop.run_until_complete(_let_end(asyncio.all_tasks(loop)))
            loop.close()  # without a wait for the threads of its executor: DNS may hang there

    async def _ask_async(self, work: Callable[[Connection], T], sync_engine: Engine) -> T:
        engine = AsyncEngine(sync_engine)
        try:
            async with engine.connect() as connection:
                return await connection.run_sync(work)
        finally:
            await engine.dispose()


async def _let_end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Give what was cancelled the moment that it needs to close its sockets."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=GRACE)
