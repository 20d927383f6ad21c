"""The guard: what the engine does, turned into refusals, diagnoses and trips.

One guard serves a sync engine or the sync engine inside an async one; every rule is here once.
What an exception means is the diagnosis's affair, what a trip does the FailSafe's. The pool, the
dialect and the connecting tell the guard what happens; it decides. Never here: a retry.

Where failures show (SQLAlchemy 2.1):

- whatever prevents a connection comes out of the guarded pool, asyncpg's raw errors and the pool's
  own timeout too;
- `handle_error` sees the rest, but not the phase: COMMIT, ROLLBACK and BEGIN look alike, so the
  phase is kept in the `Transaction`;
- a line that the watchdog cut while nobody looked, such as in the driver's own cursor, is told when
  the connection goes back.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, ExceptionContext
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, Pool
from sqlalchemy.pool.base import ResetStyle

from failstop._failsafe import FailSafe
from failstop._fence import FenceRow
from failstop._observers import call
from failstop._scope import current_scope
from failstop._scope import mark as mark_scope
from failstop.counts import Deadline
from failstop.database._attempt import Attempts
from failstop.database._deadline import GRACE, CallOverdueError, current_limit
from failstop.database._dialect import guard_dialect, raise_unguarded
from failstop.database._drivers import (
    TransactionStatus,
    adapt_connect,
    adopt_timer,
    backend_of,
    driver_of,
    require_strict,
    transaction_status,
    watch_durability,
)
from failstop.database._facts import Target, target_of
from failstop.database._line import Cut, Line, require_known_driver
from failstop.database._opening import Opening
from failstop.database._pool import LINE, GuardedPool, checkout, guard_pool, line_of
from failstop.database._queue import FairQueue
from failstop.database._recall import Recall
from failstop.database._receipts import (
    NONE,
    READ,
    Receipt,
    insert_parameters,
)
from failstop.database._settings import session_settings, statement_timeout
from failstop.database._settlement import SILENT, Settlement, suspended
from failstop.database._tallies import Tallies
from failstop.database._transaction import Transaction, outcome_of
from failstop.diagnosis import Diagnoser, Phase, Verdict, to_error
from failstop.errors import (
    ConfigurationError,
    CriticalError,
    IdempotencyConflictError,
    KeyInFlightError,
    OperationsSuspendedError,
    Outcome,
    TransactionFailedError,
)
from failstop.events import Incident

__all__ = ["Guard"]

logger = logging.getLogger("failstop")

OWN = (
    CriticalError,
    ConfigurationError,
    CallOverdueError,
    IdempotencyConflictError,
    KeyInFlightError,
)
"""What the guard itself raises, and so has nothing more to say of."""

ENDED_BY_SERVER = "query_cancelled"
"""The kind of a statement that outlasted the time which the server was told."""

MONITOR = " monitor"
"""What follows the service in the application's name of a connection that is the monitor's."""


class Guard:
    """Guard `engine` in place for `failsafe`.

    Args:
        engine: the engine; its pool and its dialect are made guarded ones.
        failsafe: what a critical failure trips.
        name: the database's, for messages.
        deadline: seconds for a call that sets no other.
        connect_deadline: seconds to make a connection.
        diagnoser: what an exception means.
        has_receipts: whether every transaction that may write leaves a receipt.
        scope: the part of the fence that every transaction that may write passes; None for none.

    Raises:
        ConfigurationError: the engine is in AUTOCOMMIT or guarded already, or its driver is none
            whose waits can be ended.
    """

    def __init__(
        self,
        engine: Engine,
        failsafe: FailSafe,
        *,
        name: str,
        deadline: float,
        connect_deadline: float,
        diagnoser: Diagnoser,
        has_receipts: bool,
        scope: str | None,
    ) -> None:
        require_plain(engine.get_execution_options().get("isolation_level"))
        require_plain(getattr(engine.dialect, "_on_connect_isolation_level", None))
        require_known_driver(driver_of(engine.dialect))
        _require_reset_by_rollback(engine)
        if isinstance(engine.pool, GuardedPool):
            raise ConfigurationError(f"database {name!r}: this engine is guarded already")
        self.engine = engine
        self.failsafe = failsafe
        self.name = name
        self.deadline = deadline
        self.diagnoser = diagnoser
        self.has_receipts = has_receipts
        self.is_fenced = scope is not None
        self._opening = Opening(
            name=name, service=failsafe.service, diagnoser=diagnoser, scope=scope
        )
        self.tallies = Tallies(failsafe)
        self.recall = Recall(name, failsafe.baselines)
        self.generation = 0
        self.target: Target | None = None
        self.arguments: dict[str, Any] | None = None
        self._connect_deadline = connect_deadline
        self._settings = session_settings(engine.dialect.name, deadline)
        # a creator of the user's own makes sessions that are told nothing of the deadline
        creator = engine.pool._creator  # noqa: SLF001 - SQLAlchemy has no public word for it
        self._tells_sessions = creator.__module__ == "sqlalchemy.engine.create"
        self.probe_engine = Engine(engine.pool.recreate(), engine.dialect, engine.url)
        self._begin_anew()
        asking = Engine(_without_pool(engine.pool), engine.dialect, engine.url)
        self.settlement = Settlement(
            failsafe, name=name, deadline=deadline, diagnoser=diagnoser, engine=asking
        )
        guard_pool(engine.pool, self, is_probe=False)
        guard_pool(self.probe_engine.pool, self, is_probe=True)
        guard_pool(asking.pool, self, is_probe=True)
        guard_dialect(engine.dialect, self)
        event.listen(engine, "handle_error", self._on_error)
        for pool in (engine.pool, self.probe_engine.pool):
            event.listen(pool, "checkin", self._on_checkin, insert=True)
        _living.add(self)

    def _begin_anew(self) -> None:
        self._attempts = Attempts(self.name)
        self._own_attempts = Attempts(self.name)  # the guard's own, which no trip ends
        self._lines_lock = threading.Lock()
        self._lines: weakref.WeakSet[Line] = weakref.WeakSet()
        self._queues: weakref.WeakSet[FairQueue] = weakref.WeakSet()

    # Time

    def due(self, line: Line) -> float:
        """Return when the operation that begins now is cut (seconds, `time.monotonic()`)."""
        limit = _limit(line)
        return (time.monotonic() + self.deadline if limit is None else limit) + GRACE

    def is_over(self, line: Line) -> bool:
        """Say whether the call in which an operation would begin now has used up its time."""
        limit = _limit(line)
        return limit is not None and limit <= time.monotonic()

    def overdue(self, became: str) -> CallOverdueError:
        """Return the error for a call that has used up its own time, and count it."""
        self.tallies.late(Deadline.CALL)
        return CallOverdueError(
            f"database {self.name!r}: the deadline of the call is over; {became}"
        )

    def _fit_statement_timeout(self, line: Line, connection: Any) -> None:
        """Have the server end the statement at the end of the call, before the watchdog would.

        Costs a round trip, and so is done only where the two are far apart.
        """
        limit = _limit(line)
        left = self.deadline if limit is None else limit - time.monotonic()
        if left <= 0:
            raise self.overdue("nothing was sent")
        if 0.9 * line.time_told <= left <= 1.1 * line.time_told:
            return
        cursor = connection.cursor()
        cursor.execute(f"SET LOCAL statement_timeout = {statement_timeout(left)}")
        cursor.close()
        line.time_told = left

    # Connecting

    def adapt(self, cparams: dict[str, Any]) -> None:
        """Adapt the arguments of a connection; the dialect then makes it with them."""
        under_way = checkout.get()
        is_probe = under_way is not None and under_way.is_probe
        adapt_connect(
            driver_of(self.engine.dialect),
            cparams,
            settings=self._settings,
            deadline=self.deadline,
            service=f"{self.failsafe.service}{MONITOR if is_probe else ''}",
            bound=self._connect_async,
        )
        self.target, self.arguments = target_of(cparams), dict(cparams)

    def connect(self, create: Callable[[Any], Any], entry: ConnectionPoolEntry) -> Any:
        """Make the connection of a pool entry, in time, with an armed line; called by the pool."""
        under_way = checkout.get()
        is_probe = under_way is not None and under_way.is_probe
        if not is_probe:
            self.failsafe.require()
        generation = self.generation
        dialect = self.engine.dialect
        if dialect.is_async or dialect.name == "sqlite":
            made = create(entry)
        else:
            seconds = self._connect_time()
            attempts = self._attempts_for(is_probe=is_probe)
            made = attempts.make(lambda: create(entry), dialect.do_close, seconds)
        try:
            line = self._line_for(made, generation, is_probe=is_probe)
        except BaseException:
            if dialect.is_async:
                _close_async(dialect.get_driver_connection(made))
            else:
                dialect.do_close(made)
            raise
        line.arm(under_way.limit + GRACE if under_way else time.monotonic() + self.deadline)
        entry.info[LINE] = line
        with self._lines_lock:
            self._lines.add(line)
        return made

    def _line_for(self, made: Any, generation: int, *, is_probe: bool) -> Line:
        driver = driver_of(self.engine.dialect)
        connection = self.engine.dialect.get_driver_connection(made)
        require_strict(driver, connection)
        line = Line(
            self.failsafe.watchdog,
            connection,
            driver,
            generation=generation,
            is_probe=is_probe,
            tallies=None if is_probe else self.tallies,
        )
        adopt_timer(connection, line)
        watch_durability(driver, connection, line.reduce)
        return line

    async def _connect_async(self, connect: Callable[[], Any]) -> Any:
        under_way = checkout.get()
        attempts = self._attempts_for(is_probe=under_way is not None and under_way.is_probe)
        return await attempts.make_async(connect, _close_async, self._connect_time())

    def _attempts_for(self, *, is_probe: bool) -> Attempts:
        return self._own_attempts if is_probe else self._attempts

    def _connect_time(self) -> float:
        under_way = checkout.get()
        left = under_way.limit - time.monotonic() if under_way else self.deadline
        return max(0.0, min(left, self._connect_deadline))

    # The dialect's moments

    def begin(self, connection: Any, line: Line | None) -> Transaction:
        """Refuse, or note that a transaction begins and speaks in the response of its scope."""
        if line is None:
            raise_unguarded()
        self.failsafe.require()
        raw = connection.dbapi_connection
        if (
            connection.driver_connection is None
        ):  # a block whose call was over gave it up, see do_rollback()
            raise self.overdue("its connection was given up, check a new one out")
        dialect = self.engine.dialect
        if dialect.name == "postgresql":
            if dialect.detect_autocommit_setting(raw):
                require_plain("AUTOCOMMIT")
            is_read_only = bool(dialect.get_readonly(raw))  # type: ignore[attr-defined]
        else:
            is_read_only = False
            if dialect.name == "sqlite":
                _require_begun(connection.driver_connection)
        transaction = Transaction(
            self.failsafe.epoch,
            is_read_only=is_read_only,
            receipt=None if is_read_only else self._take_receipt(line),
            backend=backend_of(driver_of(dialect), connection),
        )
        line.follow(transaction)
        line.time_told = self.deadline if self._tells_sessions else 0.0
        scope = current_scope.get()
        if scope is not None:
            scope.add(transaction)
        return transaction

    def _take_receipt(self, line: Line) -> Receipt | None:
        """Return the receipt that the next transaction writes; one under an own key by default."""
        asked, line.opening = line.opening, NONE
        if not self.has_receipts or asked is READ:
            return None
        return Receipt.automatic() if asked is NONE else asked

    def ask_for(self, connection: Connection | None, receipt: Receipt) -> None:
        """Have the next transaction on a connection write `receipt`, or none where it is `READ`."""
        line = None if connection is None else line_of(connection.connection)
        if line is not None:
            line.opening = receipt

    def must_open(self, transaction: Transaction) -> bool:
        """Say whether anything belongs to the BEGIN of a transaction."""
        is_fenced = self.is_fenced and not transaction.is_read_only
        return is_fenced or transaction.receipt is not None

    def open(
        self, line: Line, transaction: Transaction, connection: Any
    ) -> tuple[FenceRow, ...] | None:
        """Pass the fence and write the receipt, in the message that begins, where there is one.

        Returns the fence's rows where it says halted.
        """
        self.failsafe.require()
        driver, receipt = driver_of(self.engine.dialect), transaction.receipt
        if self.engine.dialect.name == "sqlite":
            assert receipt is not None
            cursor = connection.cursor()
            cursor.execute(*insert_parameters(receipt, self.failsafe.service))
            cursor.close()
            return None
        told, may_pass = self._tell_time(line), self.failsafe.may_reduce()
        is_open = self._opening.send(driver, connection, receipt, told=told, may_pass=may_pass)
        return None if is_open else self._opening.rows(connection)

    def _tell_time(self, line: Line) -> str:
        """Return what tells the server of the time left, where that is not what it was told."""
        limit = _limit(line)
        left = self.deadline if limit is None else limit - time.monotonic()
        if left <= 0:
            raise self.overdue("nothing was sent")
        if 0.9 * line.time_told <= left <= 1.1 * line.time_told:
            return ""
        line.time_told = left
        return f"SET LOCAL statement_timeout = {statement_timeout(left)}; "

    def unopened(self, error: Exception, transaction: Transaction, line: Line) -> Exception | None:
        """Return what the server's answer to an opening means; None where it is a failure."""
        if line.cut is not None or isinstance(error, OWN):
            return None
        refusal = self._opening.refusal(error, transaction.receipt)
        if isinstance(refusal, OperationsSuspendedError):
            mark_scope(refusal)
        return refusal

    def halted(self, rows: Iterable[FenceRow]) -> OperationsSuspendedError:
        """Return the error for a transaction that the fence refused; the service stops with it."""
        for row in rows:
            if row.is_halted:
                self.failsafe.adopt_halt(row)
        error = self.suspended(Outcome.NOT_STARTED)
        mark_scope(error)
        return error

    def before_statement(self, line: Line, connection: Any) -> None:
        """Refuse unless NORMAL; called when the line is armed, so that a trip now would cut it."""
        if line.is_probe:
            return
        self.failsafe.require()
        transaction = line.transaction
        if transaction is not None:
            if transaction.has_statements:
                self._require_open(line, transaction, connection)
            transaction.enter(Phase.STATEMENT)
            if self.engine.dialect.name == "postgresql":
                self._fit_statement_timeout(line, connection)

    def _require_open(self, line: Line, transaction: Transaction, connection: Any) -> None:
        """Raise where the transaction has ended under its owner, who would go on without it."""
        if transaction_status(connection) is TransactionStatus.NONE:
            raise self.settlement.gone(transaction, self.due(line) - GRACE)

    def before_commit(self, line: Line, transaction: Transaction | None, connection: Any) -> None:
        """Raise unless COMMIT would commit this work, and may.

        Raises:
            OperationsSuspendedError: the FailSafe was tripped meanwhile.
            TransactionFailedError: the transaction is failed or gone.
            TimeoutError: the deadline of the call is over.
        """
        if transaction is None:
            self.failsafe.require()
            return
        status = transaction_status(connection)
        backend = backend_of(driver_of(self.engine.dialect), connection)
        is_gone = status is TransactionStatus.NONE and transaction.has_statements
        if is_gone or backend not in (None, transaction.backend):
            raise self.settlement.gone(transaction, self.due(line) - GRACE)
        if not self._is_let_through or transaction.epoch != self.failsafe.epoch:
            self._suspend(Outcome.ROLLED_BACK)
        if status is TransactionStatus.OPEN:
            transaction.has_statements = True  # also what went by the driver's own cursor
        if status is TransactionStatus.FAILED:
            self.reject_commit(transaction)
        if self.is_over(line):
            raise self.overdue("COMMIT was not sent, the work is rolled back")

    @property
    def _is_let_through(self) -> bool:
        return self.failsafe.is_normal or self.failsafe.may_reduce()

    def _suspend(self, outcome: Outcome, cause: BaseException | None = None) -> NoReturn:
        """Raise for work that a trip ended."""
        error = self.suspended(outcome)
        mark_scope(error)
        raise error from cause

    def suspended(self, outcome: Outcome) -> OperationsSuspendedError:
        """Return the error for work that a trip ended."""
        return suspended(self.failsafe, outcome)

    def work_of(self, connection: Connection | None) -> Transaction | None:
        """Return the transaction that has begun on a connection."""
        line = None if connection is None else line_of(connection.connection)
        return None if line is None else line.transaction

    def require_committed(self, transaction: Transaction | None) -> None:
        """Raise where a block ended well and yet its work was not committed.

        Raises:
            TransactionFailedError: the block rolled back, or gave the connection away.
        """
        if transaction is None or transaction.outcome is Outcome.COMMITTED:
            return
        if transaction.has_statements:
            self._reject(transaction, "the block itself had ended it", "rolled_back_inside")

    def reject_commit(self, transaction: Transaction | None) -> NoReturn:
        """Raise for a COMMIT that the server answers, or would answer, with ROLLBACK.

        The application's doing, not the database's: nothing trips, the scope is marked.
        """
        why = "one of its statements had failed and the error was swallowed before the COMMIT"
        self._reject(transaction, why, "silent_rollback")

    def _reject(self, transaction: Transaction | None, why: str, kind: str) -> NoReturn:
        if transaction is not None:
            transaction.settle(Outcome.ROLLED_BACK)
        error = TransactionFailedError(
            f"database {self.name!r} rolled the transaction back: {why}",
            outcome=Outcome.ROLLED_BACK,
            kind=kind,
        )
        mark_scope(error)
        raise error

    def tell_reduced(self, line: Line, transaction: Transaction) -> None:
        """Tell of a COMMIT that is in the database, but not yet in its synchronous standby."""
        line.is_reduced = False
        key = transaction.receipt.key if transaction.receipt else ""
        self.failsafe.report_durability_reduced(database=self.name, key=key)

    # Failures

    def _on_error(self, context: ExceptionContext) -> None:
        error = context.original_exception
        if isinstance(error, CallOverdueError):
            context.is_disconnect = False  # SQLAlchemy takes a TimeoutError for an interruption
        if isinstance(error, OWN) or context.is_pre_ping:
            return
        connection = context.connection
        if connection is None or connection.closed or connection.invalidated:
            return  # comes out of the pool, or follows from what was told
        line = line_of(connection.connection)
        if line is None or line.is_probe or line.is_thrown_away:
            return
        if line.is_severed:
            context.is_disconnect = True
        transaction = line.transaction
        phase = transaction.phase if transaction is not None else Phase.STATEMENT
        if phase is Phase.BEGIN and context.statement is not None:
            phase = Phase.STATEMENT
        self._judge(context, line, phase)

    def _judge(self, context: ExceptionContext, line: Line, phase: Phase) -> None:
        """Diagnose a failure; trip and raise where it is critical, else let the original pass."""
        error = context.sqlalchemy_exception or context.original_exception
        transaction = line.transaction
        diagnosis = SILENT
        if line.cut is None or not line.is_severed:
            diagnosis = self.diagnoser.diagnose(
                error,
                phase=phase,
                read_only=transaction is not None and transaction.is_read_only,
                connection_invalidated=context.is_disconnect,
            )
        outcome = outcome_of(phase, is_known=diagnosis.outcome_known)
        if transaction is not None:
            is_answered = phase is Phase.COMMIT and transaction.is_told
            is_over = is_answered or transaction.outcome is Outcome.COMMITTED
            if is_over or diagnosis.verdict is Verdict.NONE:
                return
            transaction.settle(outcome)
            transaction.is_told = True
            transaction.verdict = diagnosis.verdict
        if diagnosis.kind == ENDED_BY_SERVER:
            self.tallies.late(Deadline.SERVER)
        if diagnosis.verdict is not Verdict.CRITICAL:
            return
        if line.cut is Cut.TRIP:
            self._suspend(outcome, context.original_exception)
        if line.is_severed and line.may_be_busy and phase is not Phase.COMMIT:
            raise self.overdue("it was cut off, and its work is rolled back")
        failure = to_error(diagnosis, outcome=outcome, name=self.name)
        failure.__cause__ = context.original_exception
        self._trip(failure)
        raise failure from context.original_exception

    def fail(
        self, error: Exception, phase: Phase, *, is_probe: bool, given: float = math.inf
    ) -> NoReturn:
        """Diagnose a failure that no event tells; trip and raise, or let the original pass.

        A wait that was given less time than the database's own, in seconds, is no outage.
        """
        if isinstance(error, ConfigurationError) or is_probe:
            raise error
        if isinstance(error, OperationsSuspendedError):
            mark_scope(error)  # the thread that tripped may have made it, outside of this scope
            raise error
        is_short = given < 0.95 * min(self.deadline, self._connect_deadline)
        if is_short and _is_wait(error):
            raise self.overdue("no connection came in time") from error
        if isinstance(error, CriticalError):
            self._trip(error)
            raise error
        if not self._is_let_through:
            self._suspend(Outcome.NOT_STARTED, error)
        diagnosis = self.diagnoser.diagnose(error, phase=phase)
        if diagnosis.verdict is not Verdict.CRITICAL:
            raise error
        failure = to_error(diagnosis, outcome=Outcome.NOT_STARTED, name=self.name)
        failure.__cause__ = error
        self._trip(failure)
        raise failure from error

    def _on_checkin(self, dbapi_connection: object, entry: ConnectionPoolEntry) -> None:
        """Tell a silence that no error brought here."""
        line: Line | None = entry.info.get(LINE)
        if line is None or line.is_probe or line.cut is not Cut.DEADLINE or not line.is_severed:
            return
        if line.is_thrown_away:
            return  # the answer came with the cut
        transaction = line.transaction
        if line.may_be_busy or (transaction is not None and transaction.is_told):
            return
        outcome = Outcome.ROLLED_BACK
        if transaction is not None:
            outcome = outcome_of(transaction.phase)
            transaction.settle(outcome)
        self._trip(to_error(SILENT, outcome=outcome, name=self.name))

    def _trip(self, error: CriticalError) -> None:
        self.failsafe.trip(error)

    def suspend(self, incident: Incident) -> None:
        """Let no connection from before the trip be used after it, and free whoever is blocked."""
        self.generation += 1
        with self._lines_lock:
            lines = tuple(self._lines)
        for line in lines:
            call(line.abort)
        self.refuse_waiting()
        self._attempts.release(lambda: self.suspended(Outcome.NOT_STARTED))

    def abandon(self) -> None:
        """End the transactions that a trip has left open: their owners can commit them no more."""
        with self._lines_lock:
            lines = tuple(self._lines)
        for line in lines:
            line.abandon()

    def add_queue(self, queue: FairQueue, *, is_probe: bool) -> None:
        """Have a trip free whoever waits in `queue`, unless it is the monitor's."""
        if not is_probe:
            with self._lines_lock:
                self._queues.add(queue)

    def refuse_waiting(self) -> None:
        """Free whoever waits for the pool, to be refused."""
        with self._lines_lock:
            queues = tuple(self._queues)
        for queue in queues:
            queue.release()

    def after_fork(self) -> None:
        """In a forked child: leave the parent's connections alone."""
        for queue in tuple(self._queues):
            queue.after_fork()
        self._begin_anew()
        self.engine.dispose(close=False)
        self.probe_engine.dispose(close=False)


def _without_pool(pool: Pool) -> NullPool:
    """Return a pool that makes each connection anew, with the creator and listeners of `pool`."""
    return NullPool(
        pool._creator,  # noqa: SLF001 - as Pool.recreate() does
        _dispatch=pool.dispatch,
        dialect=pool._dialect,  # noqa: SLF001
    )


def _require_begun(connection: Any) -> None:
    """Refuse an SQLite connection that commits each statement, unless somebody said BEGIN."""
    if connection.isolation_level is None and not connection.in_transaction:
        require_plain("AUTOCOMMIT")


def _limit(line: Line) -> float | None:
    """Return the end of the call in which an operation on `line` begins, None where none is set."""
    limit, current = line.limit, current_limit.get()
    if limit is None or (current is not None and current < limit):
        return current
    return limit


def _is_wait(error: Exception) -> bool:
    """Say whether `error` is of a wait that was over, for the pool or for the server."""
    return isinstance(error, PoolTimeoutError) or getattr(error, "kind", "") == "connect_timeout"


def _require_reset_by_rollback(engine: Engine) -> None:
    """Refuse a pool that commits what comes back: it would do so in fail-safe mode too."""
    reset = engine.pool._reset_on_return  # noqa: SLF001 - SQLAlchemy has no public word for it
    if reset is ResetStyle.reset_commit:
        raise ConfigurationError(
            "pool_reset_on_return='commit' is refused on a guarded engine; leave it at rollback"
        )


def _close_async(made: Any) -> None:
    """Close a driver connection that came too late, without waiting for its server."""
    close = getattr(made, "terminate", None)  # asyncpg
    if close is None:
        close = made.pgconn.finish  # psycopg
    close()


def require_plain(isolation_level: object) -> None:
    """Refuse AUTOCOMMIT: what it writes can be neither stopped at a trip nor asked about.

    Raises:
        ConfigurationError: the isolation level is AUTOCOMMIT.
    """
    if isinstance(isolation_level, str) and isolation_level.upper() == "AUTOCOMMIT":
        raise ConfigurationError(
            "AUTOCOMMIT is refused on a guarded engine; read with query(), write in transaction()"
        )


def _restart_in_child() -> None:
    for guard in tuple(_living):
        guard.after_fork()


_living: weakref.WeakSet[Guard] = weakref.WeakSet()
os.register_at_fork(after_in_child=_restart_in_child)
