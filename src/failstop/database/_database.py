"""The verbs of a guarded sync engine."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import sqlalchemy
from sqlalchemy import Executable, Row, text
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.sql.elements import TextClause

from failstop._failsafe import FailSafe
from failstop._fence import WHOLE, FenceRow, require_scope
from failstop.counts import DatabaseCounts
from failstop.database import schema
from failstop.database._address import Address
from failstop.database._deadline import GRACE
from failstop.database._deadline import deadline as deadline_of
from failstop.database._drivers import driver_of
from failstop.database._facts import read_facts
from failstop.database._fencing import Fencing
from failstop.database._findings import Finding, judge, refusal
from failstop.database._guard import Guard, require_plain
from failstop.database._health import DatabaseHealth
from failstop.database._listener import Listener
from failstop.database._probe import Probe, require_writable
from failstop.database._prune import Pruned, Pruning
from failstop.database._receipts import (
    READ,
    Receipt,
    as_json,
    receipt_for,
    replay,
    require_keyed,
    require_stored,
    select_statement,
    store_statement,
)
from failstop.database._roll import Process, call_roll
from failstop.database._settings import engine_arguments, require_url
from failstop.diagnosis import Diagnoser, Phase, to_error
from failstop.errors import (
    ConfigurationError,
    CriticalError,
    DatabaseUnavailableError,
    IdempotencyConflictError,
    Outcome,
    ResetRefusedError,
)
from failstop.events import Incident, InDoubt
from failstop.recovery import require_seconds

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = [
    "READ_ONLY",
    "Database",
    "GuardedDatabase",
    "IsolationLevel",
    "Parameters",
    "options_of",
    "statement_of",
]

Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]]
IsolationLevel = Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "READ UNCOMMITTED"]
LONGEST_NAME = 100
READ_ONLY = {"postgresql_readonly": True}

T = TypeVar("T")

logger = logging.getLogger("failstop")


class GuardedDatabase:
    """What a sync and an async database share: the guard, the settings, the observations."""

    def __init__(
        self,
        engine: Engine,
        failsafe: FailSafe,
        *,
        name: str,
        deadline: float,
        connect_deadline: float,
        receipts: bool,
        fence: bool,
        scope: str,
        listen_url: str | URL | None,
        diagnoser: Diagnoser | None,
    ) -> None:
        if not isinstance(failsafe, FailSafe):
            raise ConfigurationError("a database is guarded by a FailSafe; give it one")
        self._name = _require_name(name)
        self._deadline = require_seconds("deadline", deadline)
        self._connect_deadline = require_seconds("connect_deadline", connect_deadline)
        self._receipts = _require_receipts(receipts, engine.dialect.name)
        self._scope = require_scope(scope) if _require_fence(fence, engine.dialect.name) else None
        self._failsafe = failsafe
        self._warnings: tuple[str, ...] = ()
        self._guard = Guard(
            engine,
            failsafe,
            name=name,
            deadline=self._deadline,
            connect_deadline=self._connect_deadline,
            diagnoser=diagnoser or Diagnoser(),
            has_receipts=self._receipts,
            scope=self._scope if engine.dialect.name == "postgresql" else None,
        )
        self._fencing = Fencing(
            name,
            engine.dialect.name,
            self._scope,
            self._deadline,
            ask=self._ask_apart,
            abandon=self._guard.abandon,
        )
        self._listener = self._make_listener(listen_url)

        self._probe = Probe(
            name, failsafe.baselines, self._guard.recall, self._guard.settlement.engine
        )

    def _make_listener(self, listen_url: str | URL | None) -> Listener | None:
        """Make what hears of halts and resets at once, where there is a fence to hear of."""
        if self._scope is None or not self._fencing.is_fenced:
            if listen_url is not None:
                raise ConfigurationError("listen_url is for a fence, and so for PostgreSQL only")
            return None
        driver = driver_of(self._guard.engine.dialect)
        return Listener(
            self._name,
            self._failsafe,
            Address(self._name, listen_url, driver, lambda: self._guard.arguments),
            scope=self._scope,
            deadline=self._deadline,
            connect_deadline=self._connect_deadline,
            hear=self._hear,
        )

    def _hear(self, rows: tuple[FenceRow, ...], began: float) -> None:
        """Stop at once where the fence says halted; all else is for the next check round."""
        halt = self._fencing.hear(rows, began)
        if halt is not None and self._failsafe.incident is None:
            self._failsafe.adopt_halt(halt)

    def _be_watched(self) -> None:
        self._failsafe.watch(self, is_database=True)
        if self._listener is not None:
            self._failsafe.watch(self._listener)

    @property
    def engine(self) -> Any:
        """The guarded engine."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The database's name, in the status and in every message."""
        return self._name

    @property
    def failsafe(self) -> FailSafe:
        """The FailSafe that this database trips."""
        return self._failsafe

    @property
    def fence(self) -> Fencing:
        """What stops this database's transactions on every host, for the FailSafe."""
        return self._fencing

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes whose halts stop this database's transactions: the whole, and its own."""
        return () if self._scope is None else tuple(dict.fromkeys((WHOLE, self._scope)))

    def suspend(self, incident: Incident) -> None:
        """Free whoever is blocked and discard the pool; called on every trip."""
        self._guard.suspend(incident)

    def close(self) -> None:
        """Close the monitor's own connections; the engine is its owner's to dispose of."""
        self._guard.refuse_waiting()
        self._guard.probe_engine.dispose()

    @property
    def probe_seconds(self) -> float:
        """What the probe takes at most, in seconds: the time that it is given."""
        return self._connect_deadline + self._deadline + GRACE

    def health(self) -> DatabaseHealth:
        """Return the monitor's last observation; asks nothing of the database."""
        seen = self._failsafe.status().database(self._name)
        return DatabaseHealth(
            self._name, seen["status"], seen["latencySeconds"], seen["ageSeconds"]
        )

    def counts(self) -> DatabaseCounts:
        """Return how operations ended in this process, and how its pool is used now."""
        return self._guard.tallies.counts(self._guard.engine.pool)

    def findings(self) -> tuple[Finding, ...]:
        """Ask the engine and the server which of their settings void or weaken a claim.

        Raises:
            CriticalDatabaseError: the database does not answer.
        """
        return self._ask(self._judge)

    def verify_settings(self) -> None:
        """Refuse a database that can be used but has settings that void a claim; for `start()`.

        Raises:
            ConfigurationError: it has; names each of them with its mend.
            CriticalDatabaseError: it cannot be used.
        """
        self._ask(self._verify)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What weakens a claim, as far as was seen: a sentence for each setting."""
        return self._warnings

    def probe(self) -> str:
        """Prove that the database is the one that was trusted and takes writes; for the monitor.

        While the service is not NORMAL a write is read back on a second connection, the
        transactions that were acknowledged last are looked for, and the settings are judged: after
        a failover they are those of another server.

        Raises:
            CriticalDatabaseError: it is not or does not, or a setting voids a claim.
            StoreError: what is known of it cannot be read or written.
        """
        try:
            return self._ask(self._prove)
        except CriticalError as failed:
            if not failed.is_acceptable:
                self._fencing.forget()
            raise
        except ConfigurationError as wrong:
            self._fencing.forget()
            error = DatabaseUnavailableError(
                str(wrong), kind="unsafe_settings", outcome=Outcome.NOT_STARTED
            )
            error.action = "mend what the cause names; failstop doctor shows it too"
            raise error from wrong

    def _ask_apart(self, work: Callable[[Connection], T], seconds: float) -> T:
        """Do `work` on a connection of its own, within `seconds` more than one takes to be made.

        The monitor may be at work at the same time.

        Raises:
            ConfigurationError: `work` or the guard refuses.
            ResetRefusedError: `work` does.
            CriticalDatabaseError: it failed.
        """
        raise NotImplementedError

    def _ask(self, work: Callable[[Connection], T]) -> T:
        """Do `work` on a connection of the monitor's, in time.

        Raises:
            ConfigurationError: `work` or the guard refuses.
            CriticalDatabaseError: it failed.
        """
        raise NotImplementedError

    def _prove(self, connection: Connection) -> str:
        is_normal = self._failsafe.is_normal
        said, found = self._probe.prove(connection, None if is_normal else self._require_sound)
        self._fencing.look(connection)
        if self._listener is not None:
            self._listener.call(connection)
        if found is not None:
            raise found
        return said

    def recall(self) -> str:
        """Prove that what this process was told to be committed is there; for the monitor.

        Raises:
            CriticalDatabaseError: a transaction is missing, or the database does not answer.
            StoreError: what is known of it cannot be read or written.
        """
        if self._guard.recall.is_empty:
            return "no transaction was acknowledged yet"
        return self._ask(self._guard.recall.check)

    def _verify(self, connection: Connection) -> None:
        """Prove that it can be used, then refuse what voids a claim."""
        require_writable(connection, self._name)
        self._require_sound(connection)

    def _require_sound(self, connection: Connection) -> None:
        if self._listener is not None:
            self._listener.learn(connection)
        found = self._judge(connection)
        self._note(found)
        refused = refusal(self._name, found)
        if refused is not None:
            raise ConfigurationError(refused)

    def _judge(self, connection: Connection) -> tuple[Finding, ...]:
        facts = read_facts(
            connection,
            self.engine,
            target=self._guard.target,
            deadline=self._deadline,
            receipts=self._receipts,
            fence=self._scope is not None,
            listens=self._listener is not None and not self._listener.is_led_elsewhere,
        )
        return judge(facts)

    def _note(self, found: tuple[Finding, ...]) -> None:
        """Keep what weakens a claim for the status, and log it where it is new."""
        warnings = tuple(str(finding) for finding in found if not finding.is_refused)
        for warning in warnings:
            if warning not in self._warnings:
                logger.warning("database %r: %s", self._name, warning)
        self._warnings = warnings

    def schema_sql(self, role: str | None = None) -> str:
        """Return the statements that create failstop's own tables.

        Args:
            role: the service's role; the least rights that it needs are granted to it.

        Raises:
            ConfigurationError: the database is neither PostgreSQL nor SQLite, or has no roles.
        """
        return schema.schema_sql(role, dialect=self._guard.probe_engine.dialect.name)

    def missing_schema(self) -> tuple[str, ...]:
        """Name failstop's own tables and columns that the database lacks; a plain call on both.

        Raises:
            ConfigurationError: the database is neither PostgreSQL nor SQLite.
            CriticalDatabaseError: the database failed.
        """
        return self._ask(schema.missing)

    def processes(self) -> tuple[Process, ...]:
        """Return every process of the fleet that this database knows; a plain call on both.

        Raises:
            ConfigurationError: the database is not PostgreSQL, or its schema is missing or old.
            CriticalDatabaseError: the database failed.
        """
        return self._ask(_call_roll)

    def prune_receipts(
        self,
        older_than: timedelta,
        *,
        spared: Collection[str] = (),
        doubted_since: datetime | None = None,
        is_rehearsed: bool = False,
    ) -> Pruned:
        """Delete old receipts under automatic keys, and empty those under the service's own.

        A plain call on both kinds of database. One that failed may be called again.

        Args:
            older_than: the age from which on receipts go; a day or more.
            spared: keys that may be in doubt: they stay as they are.
            doubted_since: when the oldest doubt arose; receipts that are not two days older stay,
                so that a doubt whose receipt is not there can still be answered.
            is_rehearsed: count only.

        Raises:
            ConfigurationError: `older_than` is less than a day, the database is not PostgreSQL,
                its schema is missing or old, or the role may not delete receipts.
            CriticalDatabaseError: the database failed; what was pruned until then is.
        """
        return Pruning(older_than, spared, doubted_since, is_rehearsed).run(self._ask)

    def resolve(self, doubt: InDoubt) -> Outcome:
        """Ask what became of a transaction in doubt; for the monitor.

        Raises:
            CriticalDatabaseError: the database does not answer.
        """
        return self._ask(lambda connection: self._guard.settlement.question(connection, doubt))

    def _receipt(self, key: object, fingerprint: object = None) -> Receipt:
        require_keyed(key, has_receipts=self._receipts, name=self._name)
        return receipt_for(key, fingerprint)

    def _keyed_receipt(self, key: object, fingerprint: object) -> Receipt:
        if key is None:
            raise ConfigurationError("run_once() needs a key")
        return self._receipt(key, fingerprint)

    @property
    def _stored(self) -> TextClause:
        return select_statement(self._guard.engine.dialect.name)

    @property
    def _store(self) -> TextClause:
        return store_statement(self._guard.engine.dialect.name)

    def _limited(self, seconds: float | None) -> AbstractContextManager[object]:
        return deadline_of(self._deadline if seconds is None else seconds)

    @contextmanager
    def _probing(self, seconds: float = 0.0) -> Iterator[None]:
        """Give a connection of the monitor's its time, and make its failure a critical one."""
        try:
            with deadline_of(self._connect_deadline + self._deadline + seconds):
                yield
        except (CriticalError, ConfigurationError, ResetRefusedError):
            raise
        except Exception as error:
            diagnosis = self._guard.diagnoser.diagnose(error, phase=Phase.PING)
            raise to_error(diagnosis, outcome=Outcome.NOT_STARTED, name=self._name) from error


def options_of(isolation_level: str | None) -> dict[str, Any]:
    """Return the execution options of a transaction.

    Raises:
        ConfigurationError: the isolation level is AUTOCOMMIT.
    """
    require_plain(isolation_level)
    return {} if isolation_level is None else {"isolation_level": isolation_level}


class Database(GuardedDatabase):
    """Guard a SQLAlchemy engine in place: whatever uses it is guarded from then on.

    Args:
        engine: the engine; its pool is made a guarded one.
        failsafe: what a critical failure trips.
        name: the name in status and messages, unique in the FailSafe.
        deadline: seconds for one call.
        connect_deadline: seconds to make a connection.
        receipts: whether every transaction that may write leaves a receipt, which tells what
            became of a COMMIT that got no answer. Without them claims C5 and C6 are void.
        fence: whether every transaction that may write passes the fence, which makes a halt exact
            on every host. Without it claim C7 is void.
        scope: the part of the system that this service is of, such as "venue-a"; a halt of it, or
            of the whole, stops the service.
        listen_url: the URL of the server itself, where the engine's connections go through a
            pooler in transaction mode; halts and resets on other hosts are heard by it.
        diagnoser: what an exception means; the default policy where it is None.

    Raises:
        ConfigurationError: the engine is no sync engine, is in AUTOCOMMIT or guarded already, its
            dialect has no receipts, or a setting is out of its range.
    """

    def __init__(
        self,
        engine: Engine,
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
        _require_sync(engine)
        super().__init__(
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
        """Make an engine with sound settings for `url` and guard it; connects nothing yet.

        Args:
            url: where the database is; there is no default.
            failsafe: as in the constructor.
            name: as in the constructor.
            deadline: as in the constructor; the server's timeouts follow from it.
            connect_deadline: as in the constructor.
            receipts: as in the constructor.
            fence: as in the constructor.
            scope: as in the constructor.
            listen_url: as in the constructor.
            diagnoser: as in the constructor.
            **engine_options: further arguments of `sqlalchemy.create_engine()`.

        Raises:
            DatabaseUnavailableError: there is no URL.
            ConfigurationError: the URL or a setting is wrong.
        """
        made = require_url(url, driver="psycopg")
        arguments = engine_arguments(made, require_seconds("deadline", deadline))
        engine = sqlalchemy.create_engine(made, **{**arguments, **engine_options})
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
    def engine(self) -> Engine:
        """The guarded engine."""
        return self._engine

    def query(
        self,
        sql: str | Executable,
        params: Parameters | None = None,
        *,
        deadline: float | None = None,
    ) -> Sequence[Row[Any]]:
        """Return the rows of a read; the server refuses a write through it.

        Args:
            sql: a SQLAlchemy statement, or SQL text with `:name` parameters.
            params: the parameters' values.
            deadline: seconds for the whole call, where it is not the database's.

        Raises:
            OperationsSuspendedError: refused in fail-safe mode.
            CriticalDatabaseError: the database failed.
            TimeoutError: the call's own time was over before there was a connection.
            sqlalchemy.exc.SQLAlchemyError: whatever is not critical, as SQLAlchemy raises it.
        """
        with self._connection(READ_ONLY, deadline) as connection:
            self._guard.ask_for(connection, READ)
            result = connection.execute(statement_of(sql), params)
            return result.all() if result.returns_rows else []

    @contextmanager
    def transaction(
        self,
        *,
        key: str | None = None,
        isolation_level: IsolationLevel | None = None,
        deadline: float | None = None,
    ) -> Iterator[Connection]:
        """Give a connection in a transaction; returns if and only if the work is committed.

        Args:
            key: what the work is known by: it never takes effect twice under one key.
            isolation_level: the transaction's, where it is not the engine's.
            deadline: seconds for the whole call, where it is not the database's.

        Raises:
            OperationsSuspendedError: refused, or tripped while it was open: nothing committed.
            CriticalDatabaseError: the database failed; `outcome` says what became of the work.
            TransactionFailedError: a statement's error was swallowed and the work rolled back.
            IdempotencyConflictError: the key was used already, and that work is committed.
            KeyInFlightError: the first transaction under the key is still under way.
            TimeoutError: the block itself took longer than the deadline: nothing committed.
            sqlalchemy.exc.SQLAlchemyError: whatever is not critical, as SQLAlchemy raises it.
        """
        receipt = self._receipt(key)
        with self._begun(receipt, options_of(isolation_level), deadline) as connection:
            yield connection

    @contextmanager
    def _begun(
        self, receipt: Receipt, options: dict[str, Any], seconds: float | None
    ) -> Iterator[Connection]:
        with self._connection(options, seconds) as connection:
            self._guard.ask_for(connection, receipt)
            with connection.begin():
                work = self._guard.work_of(connection)
                yield connection
            self._guard.require_committed(work)

    @contextmanager
    def session(
        self,
        *,
        key: str | None = None,
        isolation_level: IsolationLevel | None = None,
        deadline: float | None = None,
    ) -> Iterator[Session]:
        """Give an ORM session in a transaction; the same promise as `transaction()`.

        Objects stay readable after the block: they are not expired at the commit.
        """
        from sqlalchemy.orm import Session  # as long to load as all the rest of the face

        with (
            self.transaction(
                key=key, isolation_level=isolation_level, deadline=deadline
            ) as connection,
            Session(connection, expire_on_commit=False) as session,
        ):
            yield session
            session.flush()

    def run_once(
        self,
        key: str,
        work: Callable[[Connection], T],
        *,
        fingerprint: str | None = None,
        isolation_level: IsolationLevel | None = None,
        deadline: float | None = None,
    ) -> T:
        """Do `work` in a transaction, once for each key; return what it returned the first time.

        The result is stored as JSON with the receipt, and returned as JSON gives it back, at the
        first time too. A call while the first is under way waits for it, within the deadline.

        Args:
            key: what the work is known by, at most 255 printable characters.
            work: gets the connection; must not commit.
            fingerprint: tells requests apart that carry one key, such as a hash of the body.
            isolation_level: as in `transaction()`.
            deadline: seconds for the whole call, where it is not the database's.

        Raises:
            TypeError: what `work` returned is no JSON; nothing is committed.
            IdempotencyConflictError: the key was used for another request.
            KeyInFlightError: the first call is still under way.
            ReceiptExpiredError: the work was done, but its result is kept no more.
            CriticalDatabaseError: as in `transaction()`.
        """
        receipt = self._keyed_receipt(key, fingerprint)
        with self._limited(deadline), ExitStack() as stack:
            try:
                begun = self._begun(receipt, options_of(isolation_level), deadline)
                connection = stack.enter_context(begun)
            except IdempotencyConflictError:
                rows = self.query(self._stored, {"key": key}, deadline=deadline)
                replayed: T = replay(rows[0] if rows else None, key, fingerprint)
                return replayed
            result = as_json(work(connection))
            require_stored(connection.execute(self._store, {"key": key, "result": result}))
        returned: T = json.loads(result)
        return returned

    @contextmanager
    def _connection(self, options: dict[str, Any], seconds: float | None) -> Iterator[Connection]:
        """Check a connection out; it keeps the limit that holds here until it goes back.

        The block runs outside of the limit's context: it may end in another context.
        """
        with self._limited(seconds):
            plain = self._engine.connect()
        with plain:
            yield plain.execution_options(**options)

    def create_schema(self) -> tuple[str, ...]:
        """Create failstop's tables and columns that are missing and name them; changes none.

        Raises:
            ConfigurationError: the database is neither PostgreSQL nor SQLite.
            CriticalDatabaseError: the database failed.
        """
        schema.require_supported(self._engine.dialect.name)
        with self._probing(), self._guard.probe_engine.begin() as connection:
            return schema.create(connection)

    def _ask_apart(self, work: Callable[[Connection], T], seconds: float) -> T:
        with self._probing(seconds), self._guard.settlement.engine.connect() as connection:
            return work(connection)

    def _ask(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._probing(), self._guard.probe_engine.connect() as connection:
                return work(connection)
        except Exception:
            self._guard.probe_engine.dispose()  # the next session may be another server's
            raise


def _call_roll(connection: Connection) -> tuple[Process, ...]:
    if connection.dialect.name != "postgresql":
        raise ConfigurationError("the fleet is known to PostgreSQL only")
    if "failstop.process" in " ".join(schema.missing(connection)):
        raise ConfigurationError(
            "this database has no table of processes, or an old one; run failstop schema apply"
        )
    return call_roll(connection)


def statement_of(sql: str | Executable) -> Executable:
    """Return `sql` as a statement; text becomes `sqlalchemy.text()`."""
    return text(sql) if isinstance(sql, str) else sql


def _require_receipts(receipts: object, dialect: str) -> bool:
    if not isinstance(receipts, bool):
        raise ConfigurationError("receipts must be True or False")
    if receipts and dialect not in ("postgresql", "sqlite"):
        raise ConfigurationError(
            f"receipts are written on PostgreSQL and SQLite, not on {dialect}; give "
            "receipts=False, which makes the claims C5 and C6 void"
        )
    return receipts


def _require_fence(fence: object, dialect: str) -> bool:
    if not isinstance(fence, bool):
        raise ConfigurationError("fence must be True or False")
    if fence and dialect not in ("postgresql", "sqlite"):
        raise ConfigurationError(
            f"a fence is in PostgreSQL and SQLite, not in {dialect}; give fence=False, which makes "
            "the claim C7 void"
        )
    return fence


def _require_name(name: object) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError("a database's name must be a text that is not empty")
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise ConfigurationError(
            f"a database's name must be printable and have at most {LONGEST_NAME} characters"
        )
    return name


def _require_sync(engine: object) -> None:
    if not isinstance(engine, Engine) or engine.dialect.is_async:
        raise ConfigurationError(
            f"Database guards a sync Engine, not {type(engine).__name__}; "
            "an AsyncEngine goes into AsyncDatabase"
        )
