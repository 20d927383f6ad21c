"""The guarded dialect: every word to the driver passes through here, armed and in its phase.

SQLAlchemy's events say when a statement, a COMMIT or a ROLLBACK is about to be sent, but not when
its answer has come; the watchdog must know both. So the engine's dialect is made a guarded one of
its own class, in place. Engines derived from it by `execution_options()` share it, and are guarded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import await_only, greenlet_spawn

from failstop.database._deadline import GRACE
from failstop.database._drivers import CommitRefused
from failstop.database._line import Line
from failstop.database._pool import line_of
from failstop.database._transaction import Transaction
from failstop.diagnosis import Phase
from failstop.errors import ConfigurationError, Outcome

if TYPE_CHECKING:
    from failstop.database._guard import Guard

__all__ = ["GuardedDialect", "guard_dialect"]


class _Driver(DefaultDialect):
    """What SQLAlchemy's default dialect leaves without types."""

    if TYPE_CHECKING:

        def do_begin(self, dbapi_connection: Any) -> None: ...
        def do_commit(self, dbapi_connection: Any) -> None: ...
        def do_rollback(self, dbapi_connection: Any) -> None: ...
        def do_rollback_to_savepoint(self, connection: Connection, name: str) -> None: ...


class GuardedDialect(_Driver):
    """What a guarded engine's dialect adds to its own class."""

    guard: Guard

    def connect(self, *cargs: Any, **cparams: Any) -> Any:
        """Connect, with the settings and the bound of the guard."""
        self.guard.adapt(cparams)
        return super().connect(*cargs, **cparams)

    def do_begin(self, dbapi_connection: Any) -> None:
        """Begin a transaction, in NORMAL only, behind the fence and with its receipt."""
        line = line_of(dbapi_connection)
        if line is not None and line.is_probe:
            super().do_begin(dbapi_connection)
            return
        transaction = self.guard.begin(dbapi_connection, line)
        super().do_begin(dbapi_connection)
        if line is not None and self.guard.must_open(transaction):
            self._open(line, transaction, dbapi_connection)

    def _open(self, line: Line, transaction: Transaction, dbapi_connection: Any) -> None:
        """Send BEGIN with what belongs to it; from here on there is something to commit."""
        line.may_be_busy = False
        before = line.arm(self.guard.due(line))
        try:
            halted = self.guard.open(line, transaction, dbapi_connection)
            if halted is not None:
                super().do_rollback(dbapi_connection)
        except Exception as error:
            refusal = self.guard.unopened(error, transaction, line)
            if refusal is None:
                raise
            super().do_rollback(dbapi_connection)
            raise refusal from error
        finally:
            line.due = before
        line.answered(before)
        if halted is not None:
            raise self.guard.halted(halted)
        transaction.enter(Phase.STATEMENT)

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        """Execute a statement."""
        self._send(super().do_execute, context, cursor, statement, parameters)

    def do_executemany(
        self, cursor: Any, statement: str, parameters: Any, context: Any = None
    ) -> None:
        """Execute a statement with many sets of parameters."""
        execute = super().do_executemany
        self._send(execute, context, cursor, statement, parameters, is_many=True)

    def do_execute_no_params(self, cursor: Any, statement: str, context: Any = None) -> None:
        """Execute a statement without parameters."""
        self._send(super().do_execute_no_params, context, cursor, statement)

    def _send(
        self, execute: Callable[..., None], context: Any, *arguments: Any, is_many: bool = False
    ) -> None:
        connection = context.root_connection.connection
        line = line_of(connection)
        if line is None or line.is_foreign:
            raise_unguarded()
        line.may_be_busy = is_many
        before = line.arm(self.guard.due(line))
        try:
            self.guard.before_statement(line, connection)
            execute(*arguments, context)
        except BaseException:
            line.due = before
            raise
        if context._is_server_side:  # noqa: SLF001 - its fetches are told to nobody
            line.may_be_busy = True
        else:
            line.answered(before)

    def do_commit(self, dbapi_connection: Any) -> None:
        """Commit; returns if and only if the server has committed."""
        line = line_of(dbapi_connection)
        if line is None or line.is_foreign:
            raise_unguarded()
        transaction = line.transaction
        line.may_be_busy = False
        due = self.guard.due(line)
        before = line.arm(due)  # first, so that a trip from here on finds it
        try:
            if not line.is_probe:
                self.guard.before_commit(line, transaction, dbapi_connection)
            cancelled = self._commit(line, transaction, dbapi_connection, due - GRACE)
        except CommitRefused:
            self.guard.reject_commit(transaction)
        except BaseException as error:
            self._undo_local_commit(dbapi_connection, transaction, error)
            raise
        finally:
            line.due = before
        line.answered(before)
        if transaction is not None and transaction.has_statements:
            transaction.settle(Outcome.COMMITTED)
            if transaction.receipt is not None:
                self.guard.recall.acknowledged.append(transaction)
            if line.is_reduced:
                self.guard.tell_reduced(line, transaction)
        line.follow(None)
        if cancelled is not None:
            raise cancelled

    def _commit(self, *work: Any) -> asyncio.CancelledError | None:
        """Commit; return the cancellation that came meanwhile."""
        if not self.is_async:
            self._commit_or_ask(*work)
            return None
        commit = greenlet_spawn(self._commit_or_ask, *work)
        cancelled: asyncio.CancelledError | None = await_only(_carry_through(commit))
        return cancelled

    def _commit_or_ask(
        self, line: Line, transaction: Transaction | None, dbapi_connection: Any, limit: float
    ) -> None:
        """Commit; where no answer came, return if and only if the work is found committed."""
        if transaction is None or transaction.receipt is None or self.name != "postgresql":
            if transaction is not None:
                transaction.enter(Phase.COMMIT)
            super().do_commit(dbapi_connection)
            return
        doubt = self.guard.settlement.doubt_of(transaction)
        with self.guard.failsafe.commits.under_way(doubt, lambda: transaction.is_accounted):
            transaction.enter(Phase.COMMIT)
            try:
                super().do_commit(dbapi_connection)
                transaction.settle(Outcome.COMMITTED)
            except CommitRefused:
                transaction.settle(Outcome.ROLLED_BACK)
                raise
            except BaseException as error:  # noqa: BLE001 - raised again where it is not answered
                self._ask(line, transaction, dbapi_connection, limit, error)

    def _ask(
        self,
        line: Line,
        transaction: Transaction,
        dbapi_connection: Any,
        limit: float,
        error: BaseException,
    ) -> None:
        """Return where the work is committed all the same; the connection is of no more use."""
        assert self.dbapi is not None
        is_lost = isinstance(error, self.dbapi.Error) and self.is_disconnect(
            error, dbapi_connection, None
        )
        self.guard.settlement.settle(line, transaction, error, is_lost=is_lost, limit=limit)
        line.is_thrown_away = True
        dbapi_connection._connection_record.invalidate()  # noqa: SLF001 - the fairy's checks in

    def _undo_local_commit(
        self, dbapi_connection: Any, transaction: Transaction | None, error: BaseException
    ) -> None:
        """SQLite leaves the transaction open where COMMIT failed; the next user would commit it.

        An interrupt may come when COMMIT is done; an async one leaves the driver's thread at it.
        """
        if self.name != "sqlite" or transaction is None or transaction.phase is not Phase.COMMIT:
            return
        assert self.dbapi is not None
        if not isinstance(error, self.dbapi.Error):
            if self.is_async:
                return
            if not dbapi_connection.driver_connection.in_transaction:
                transaction.settle(Outcome.COMMITTED)
                return
        super().do_rollback(dbapi_connection)
        transaction.enter(Phase.STATEMENT)

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Roll back, in every state of the latch.

        Where the call's time is over, or the connection was cut while an answer came, it is thrown
        away instead: the server rolls back at its end, the caller waits no longer, and a slow
        ROLLBACK is no sign of an outage.
        """
        line = line_of(dbapi_connection)
        if line is None:
            super().do_rollback(dbapi_connection)
            return
        if line.is_foreign:
            return  # the transaction is the parent's, and so is its end
        if line.is_severed or (self.guard.is_over(line) and self.name != "sqlite"):
            line.is_thrown_away = True
            dbapi_connection._connection_record.invalidate()  # noqa: SLF001 - the fairy's checks in
            return
        line.may_be_busy = False
        if line.transaction is not None and line.transaction.phase is not Phase.COMMIT:
            line.transaction.enter(Phase.ROLLBACK)
        before = line.arm(self.guard.due(line))
        try:
            super().do_rollback(dbapi_connection)
        finally:
            line.due = before
        line.answered(before)
        line.follow(None)

    def do_rollback_to_savepoint(self, connection: Connection, name: str) -> None:
        """Roll back to a savepoint, which undoes what the server was told of the time left."""
        super().do_rollback_to_savepoint(connection, name)
        line = line_of(connection.connection)
        if line is not None:
            line.time_told = 0.0

    def do_begin_twophase(self, connection: Connection, xid: object) -> None:
        """Refuse: what is prepared can be neither stopped at a trip nor asked about."""
        raise ConfigurationError("two-phase transactions are refused on a guarded engine")


def raise_unguarded() -> NoReturn:
    """Refuse a connection that the guard does not know, or that another process uses."""
    raise ConfigurationError(
        "this connection is not a guarded one: it was checked out before its engine was guarded, "
        "detached from its pool, or made by a parent process; check a new one out"
    )


async def _carry_through(work: Coroutine[Any, Any, None]) -> asyncio.CancelledError | None:
    """Await `work` to its end, in a task of its own, though the caller be cancelled.

    A cancelled COMMIT is no rollback. The wait is bounded: the line is armed, so the watchdog ends
    it. A failure of the work goes before the cancellation, for it says what became of it; else the
    cancellation is returned.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    return cancelled


def guard_dialect(dialect: Dialect, guard: Guard) -> None:
    """Make `dialect` a guarded one of its own kind."""
    kind = type(dialect)
    # SQLAlchemy wants each class of a dialect to say that for itself
    facts = {"guard": guard, "supports_statement_cache": dialect.supports_statement_cache}
    dialect.__class__ = type(f"Guarded{kind.__name__}", (GuardedDialect, kind), facts)
