"""What an exception means: whether it trips, under which code, and what an operator does.

The order of evidence: no connection to be had is always critical; then the server's own SQLSTATE
with its severity; then what became of the connection; then the driver's class. Unknown is critical.
What each SQLSTATE and each kind means stands in `sqlstates.csv`; this module finds the row.

Message text decides nothing, because servers translate it, with two exceptions: two texts of
XX000, which no server translates, and one that psycopg makes itself. Where everything is
critical anyway, at connect, text may choose a more helpful kind.

Never here: I/O, an import of a driver, or any text of the exception in a diagnosis.
"""

from __future__ import annotations

import csv
import pkgutil
import re
import socket
import ssl
from asyncio import CancelledError
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Final

from sqlalchemy import exc as sqlalchemy_errors

from failstop.errors import (
    CommitOutcomeUnknownError,
    ConfigurationError,
    ConnectionFailedError,
    CriticalDatabaseError,
    CriticalError,
    DatabaseUnavailableError,
    ErrorCode,
    IdempotencyConflictError,
    Outcome,
    ResetRefusedError,
    TransactionFailedError,
)

__all__ = ["Diagnoser", "Diagnosis", "Phase", "Verdict", "diagnose", "explain", "to_error"]


class Phase(StrEnum):
    """What was being done when the exception came."""

    CHECKOUT = "checkout"
    CONNECT = "connect"
    PING = "ping"
    BEGIN = "begin"
    STATEMENT = "statement"
    COMMIT = "commit"
    ROLLBACK = "rollback"


class Verdict(StrEnum):
    """What an exception means for the service; only CRITICAL trips."""

    CRITICAL = "critical"
    CONFLICT = "conflict"
    APPLICATION = "application"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a failure means, in words that are safe to show.

    Attributes:
        verdict: CRITICAL trips; all others let the original exception pass.
        error_code: the class of the failure; None where it is the application's own affair.
        kind: the finer name of the failure, such as "disk_full".
        cause: what happened, one sentence for an operator.
        action: what to do about it, one sentence.
        outcome_known: True where this failure, coming at COMMIT, proves that nothing was committed.
        sqlstate: the server's code, where it gave one.
    """

    verdict: Verdict
    error_code: ErrorCode | None
    kind: str
    cause: str
    action: str
    outcome_known: bool
    sqlstate: str | None


class Diagnoser:
    """Gives every exception a verdict by one policy, and raises for none.

    Args:
        overrides: a verdict by SQLSTATE ("57014"), class of SQLSTATEs ("55") or kind
            ("pool_timeout"); the kind goes before the SQLSTATE, the SQLSTATE before the class.
            An application registers the SQLSTATEs that its own database code raises here.

    Raises:
        ConfigurationError: a key names no SQLSTATE, class or kind, or a value is no `Verdict`.
    """

    def __init__(self, *, overrides: Mapping[str, Verdict] | None = None) -> None:
        self._overrides = dict(overrides or {})
        self._is_strict = False
        for key, verdict in self._overrides.items():
            _require_override(key, verdict)

    @classmethod
    def strict(cls) -> Diagnoser:
        """Return a policy under which every failure of a database call is critical."""
        diagnoser = cls()
        diagnoser._is_strict = True
        return diagnoser

    def diagnose(
        self,
        exc: BaseException,
        *,
        phase: Phase = Phase.STATEMENT,
        read_only: bool = False,
        connection_invalidated: bool | None = None,
    ) -> Diagnosis:
        """Return the gravest meaning that `exc`, its causes and its members have.

        Args:
            exc: any exception, as the driver, SQLAlchemy or a framework raised it.
            phase: what was being done; an autocommitted write is a COMMIT.
            read_only: True where the caller itself asked for a read-only transaction.
            connection_invalidated: True where the connection is gone, None where nobody knows.
        """
        diagnoses = [
            self._judge(error, phase, read_only, connection_invalidated) for error in _leaves(exc)
        ]
        return max(diagnoses, key=_gravity)

    def _judge(
        self, error: object, phase: Phase, read_only: bool, invalidated: bool | None
    ) -> Diagnosis:
        family = _Family.of(error, invalidated)
        finding = _find(family, phase, read_only)
        verdict, row = self._verdict(finding)
        diagnosis = Diagnosis(
            verdict=verdict,
            error_code=_code_for(verdict, row),
            kind=row.kind,
            cause=row.cause,
            action=row.action,
            outcome_known=finding.outcome_known,
            sqlstate=finding.sqlstate,
        )
        if phase is Phase.COMMIT and not finding.outcome_known:
            return _in_doubt(diagnosis)
        return diagnosis

    def _verdict(self, finding: _Finding) -> tuple[Verdict, _Row]:
        row, code = finding.row, finding.sqlstate or ""
        verdict = self._overrides.get(row.kind)
        if verdict is None and not (finding.is_refined and row.verdict is Verdict.CRITICAL):
            verdict = self._overrides.get(code, self._overrides.get(code[:2]))
            if verdict is not None and row.kind == "unknown_sqlstate":
                row = _row("registered")
        verdict = verdict or row.verdict
        if self._is_strict and verdict is not Verdict.NONE:
            verdict = Verdict.CRITICAL
        return verdict, row


def diagnose(exc: BaseException, *, phase: Phase = Phase.STATEMENT) -> Diagnosis:
    """Return what `exc` means under the default policy; raises for no exception whatever."""
    return _default_diagnoser().diagnose(exc, phase=phase)


def explain(sqlstate_or_kind: str) -> Diagnosis:
    """Return what a SQLSTATE, a class of SQLSTATEs or a kind means under the default policy.

    A code that nobody knows is CRITICAL, and the cause says that it is not in the table.
    """
    row = _table().kinds.get(sqlstate_or_kind) or _row_of_code(sqlstate_or_kind)
    is_code = _SQLSTATE.fullmatch(sqlstate_or_kind) is not None
    return Diagnosis(
        verdict=row.verdict,
        error_code=_code_for(row.verdict, row),
        kind=row.kind,
        cause=row.cause,
        action=row.action,
        outcome_known=row.outcome_known,
        sqlstate=sqlstate_or_kind if is_code else None,
    )


def to_error(
    diagnosis: Diagnosis, *, outcome: Outcome, name: str, key: str | None = None
) -> CriticalDatabaseError:
    """Return the error to raise for a critical diagnosis of the database called `name`.

    The text is made of the diagnosis alone, so it holds no URL, SQL or parameter.
    """
    code = diagnosis.error_code or ErrorCode.TRANSACTION_FAILED
    message = f"database {name!r}: {_as_clause(diagnosis.cause)}; {_as_clause(diagnosis.action)}"
    if outcome is Outcome.UNKNOWN:
        error: CriticalDatabaseError = CommitOutcomeUnknownError(
            message, code, key=key, outcome=outcome, kind=diagnosis.kind
        )
    else:
        error = _ERRORS[code](message, code, outcome=outcome, kind=diagnosis.kind)
    error.action = diagnosis.action
    return error


_ERRORS: Final[Mapping[ErrorCode, type[CriticalDatabaseError]]] = MappingProxyType(
    {
        ErrorCode.DB_UNAVAILABLE: DatabaseUnavailableError,
        ErrorCode.CONNECTION_FAILED: ConnectionFailedError,
        ErrorCode.TRANSACTION_FAILED: TransactionFailedError,
        ErrorCode.GATEWAY_UNAVAILABLE: CriticalDatabaseError,
        ErrorCode.SYSTEM_FAILURE: CriticalDatabaseError,
    }
)


# The table


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the table."""

    kind: str
    verdict: Verdict
    error_code: ErrorCode | None
    outcome_known: bool
    cause: str
    action: str


@dataclass(frozen=True, slots=True)
class _Table:
    codes: Mapping[str, _Row]
    kinds: Mapping[str, _Row]


@cache
def _table() -> _Table:
    """Read the package's table; once, and before the first failure."""
    data = pkgutil.get_data("failstop", "sqlstates.csv")
    assert data is not None
    codes: dict[str, _Row] = {}
    kinds: dict[str, _Row] = {}
    for line in csv.DictReader(data.decode().splitlines()):
        row = _Row(
            kind=line["kind"],
            verdict=Verdict(line["verdict"]),
            error_code=ErrorCode(line["error_code"]) if line["error_code"] else None,
            outcome_known=line["outcome_known"] == "yes",
            cause=line["cause"],
            action=line["action"],
        )
        kinds.setdefault(row.kind, row)
        if line["sqlstate"]:
            codes[line["sqlstate"]] = row
    return _Table(codes, kinds)


@cache
def _default_diagnoser() -> Diagnoser:
    return Diagnoser()


def _row(kind: str) -> _Row:
    return _table().kinds[kind]


def _row_of_code(sqlstate: str) -> _Row:
    """Find the row of a code, else that of its class; a warning's class decides no failure."""
    codes = _table().codes
    if sqlstate in codes:
        return codes[sqlstate]
    row = codes.get(sqlstate[:2] + "000")
    if row is None or row.verdict is Verdict.NONE or len(sqlstate) not in (2, 5):
        return _row("unknown_sqlstate")
    return row


_SQLSTATE: Final = re.compile(r"[0-9A-Z]{5}")
_CODE_OR_CLASS: Final = re.compile(r"[0-9A-Z]{2}([0-9A-Z]{3})?")


def _require_override(key: object, verdict: object) -> None:
    if not isinstance(verdict, Verdict):
        raise ConfigurationError(f"override {key!r}: give a Verdict, not {type(verdict).__name__}")
    kinds = _table().kinds
    if not isinstance(key, str) or not (key in kinds or _CODE_OR_CLASS.fullmatch(key)):
        near = get_close_matches(str(key).lower(), kinds, n=1)
        meant = f"; did you mean {near[0]!r}" if near else ""
        raise ConfigurationError(
            f"override {key!r} names nothing: give a SQLSTATE of five capitals or digits such as "
            f"'57014', a class of two such as '55', or a kind such as 'pool_timeout'{meant}"
        )


# Which exceptions speak

_LONGEST_CHAIN: Final = 1000


def _leaves(exc: object) -> list[object]:
    """Return the exceptions to judge: each member of a group, or what it was made from.

    An explicit cause that speaks of a database stands for the exception that wraps it. What was
    being handled (`__context__`) can only make the meaning graver, never milder.
    """
    leaves: list[object] = []
    for member in _members(exc):
        leaves += list(_speaking(member, ("__cause__",))) or [member]
        leaves += _speaking(member, ("__cause__", "__context__"))
    return leaves


def _members(exc: object) -> Iterator[object]:
    """Yield the exceptions in a group of groups, or the exception itself."""
    pending, seen = [exc], 0
    while pending:
        error = pending.pop()
        seen += 1
        if seen > _LONGEST_CHAIN:
            yield _EndlessError()
            return
        members = _look(error, "exceptions") if _is_a(error, BaseExceptionGroup) else None
        if type(members) is tuple and members:
            pending.extend(members)
        else:
            yield error


def _speaking(error: object, links: tuple[str, ...]) -> Iterator[object]:
    """Yield the first exceptions that speak of a database, along `links` and in groups."""
    pending: list[object] = [error]
    seen: dict[int, object] = {}
    while pending:
        error = pending.pop()
        if id(error) in seen or not _is_a(error, BaseException):
            continue
        seen[id(error)] = error
        if len(seen) > _LONGEST_CHAIN:
            yield _EndlessError()
            return
        if _speaks(error):
            yield error
            continue
        members = _look(error, "exceptions") if _is_a(error, BaseExceptionGroup) else ()
        pending.extend(members if type(members) is tuple else ())
        pending.extend(_look(error, link) for link in links)


class _EndlessError(Exception):
    """Stands for a chain too long to follow; it speaks of nothing, so it is critical."""


def _speaks(error: object) -> bool:
    """Say whether an exception tells by itself that a database call failed."""
    if _is_a(error, sqlalchemy_errors.SQLAlchemyError):
        return _is_a(error, *_SPEAKING_SQLALCHEMY)
    if _is_a(error, CriticalError, sqlalchemy_errors.EmulatedDBAPIException):
        return True
    return bool(_names(error) & _DRIVERS) or _Word.of(error) is not None


_SPEAKING_SQLALCHEMY: Final = (
    sqlalchemy_errors.DBAPIError,
    sqlalchemy_errors.TimeoutError,
    sqlalchemy_errors.DisconnectionError,
)
_WRAPPERS: Final = (sqlalchemy_errors.DBAPIError, sqlalchemy_errors.EmulatedDBAPIException)
_MYSQL: Final = frozenset({"pymysql", "MySQLdb", "aiomysql", "asyncmy", "mariadb", "mysql"})
_SQLITE: Final = frozenset({"sqlite3", "aiosqlite"})
_DRIVERS: Final = _MYSQL | _SQLITE | {"psycopg", "psycopg2", "psycopg_pool", "asyncpg"}


# What can be read off an exception


def _look(thing: object, name: str) -> object:
    """Return an attribute, or None: exceptions of drivers and users may raise when looked at."""
    try:
        return getattr(thing, name, None)
    except Exception:  # noqa: BLE001 - what cannot be read is no evidence, and unknown is critical
        return None


def _text(thing: object, name: str) -> str | None:
    value = _look(thing, name)
    return value if type(value) is str else None


def _is_a(thing: object, *classes: type) -> bool:
    """Do what isinstance does, without asking the object, which may lie or raise."""
    return issubclass(type(thing), classes)


def _names(thing: object) -> frozenset[str]:
    """Return "package" and "package.Class" for the class of `thing` and all its bases."""
    names: set[str] = set()
    bases = _look(type(thing), "__mro__")
    for cls in bases if type(bases) is tuple else ():
        package = (_text(cls, "__module__") or "").partition(".")[0]
        names |= {package, f"{package}.{_text(cls, '__name__')}"}
    return frozenset(names)


@dataclass(frozen=True, slots=True)
class _Word:
    """What the server itself said: its code, and where in its source it said it."""

    sqlstate: str
    severity: str | None
    source_file: str | None
    source_function: str | None
    message: str | None

    @classmethod
    def of(cls, error: object) -> _Word | None:
        """Read the server's word; None where the code is the client's own invention."""
        sqlstate = _text(error, "sqlstate") or _text(error, "pgcode")
        if sqlstate is None or not _SQLSTATE.fullmatch(sqlstate):
            return None
        diag = _look(error, "diag")
        severity = (
            _text(diag, "severity_nonlocalized")
            or _text(error, "severity_en")
            or _text(diag, "severity")
            or _text(error, "severity")
        )
        if severity is None and "asyncpg" in _names(error):
            return None
        return cls(
            sqlstate,
            severity,
            _text(diag, "source_file") or _text(error, "server_source_filename"),
            _text(diag, "source_function") or _text(error, "server_source_function"),
            _text(diag, "message_primary") or _text(error, "message"),
        )


@dataclass(frozen=True, slots=True)
class _Family:
    """An exception, what the driver raised underneath it, and the facts that they give."""

    error: object
    driver: object
    names: frozenset[str]
    word: _Word | None
    is_invalidated: bool | None

    @classmethod
    def of(cls, error: object, invalidated: bool | None) -> _Family:
        driver = error
        if _is_a(error, *_WRAPPERS):
            for name in ("orig", "driver_exception"):
                inner = _look(error, name)
                driver = driver if inner is None else inner
            told = _look(error, "connection_invalidated")
            if type(told) is bool:
                invalidated = bool(invalidated) or told
        word = _Word.of(driver) or _last_word(driver)
        return cls(error, driver, _names(driver), word, invalidated)

    @property
    def is_fatal(self) -> bool:
        """True where the server ended the session; an unreadable severity counts as that."""
        if self.word is None or self.word.severity is None:
            return self.is_invalidated is True
        return self.word.severity != "ERROR"


def _last_word(driver: object) -> _Word | None:
    """Return what the server said before it hung up; asyncpg hides it in the cause."""
    if "asyncpg" not in _names(driver):
        return None
    for _ in range(_LONGEST_CHAIN):
        driver = _look(driver, "__cause__")
        word = _Word.of(driver)
        if driver is None or (word is not None and word.severity in ("FATAL", "PANIC")):
            return word
    return None


# The decision list


@dataclass(frozen=True, slots=True)
class _Finding:
    """The row that fits, and what it says of a COMMIT.

    `is_refined` is True where the row is not the SQLSTATE's own: an override of that SQLSTATE
    then cannot soften it.
    """

    row: _Row
    outcome_known: bool
    sqlstate: str | None = None
    is_refined: bool = False


def _finding(kind: str) -> _Finding:
    row = _row(kind)
    return _Finding(row, row.outcome_known)


def _find(family: _Family, phase: Phase, read_only: bool) -> _Finding:
    """Return the answer of the first rule that has one; their order is the meaning."""
    if _is_a(family.error, *_TOLD_TO_STOP):
        return _finding("cancelled")
    if phase in (Phase.CHECKOUT, Phase.CONNECT, Phase.PING):
        return _find_connect(family)
    own_kind = _own_kind(family)
    if own_kind is not None:
        return _finding(own_kind)
    if family.names & _SQLITE:
        return _find_sqlite(family)
    if family.names & _MYSQL:
        return _find_mysql(family, read_only)
    if family.word is not None:
        return _find_word(family, family.word, read_only)
    return _find_silent(family)


_TOLD_TO_STOP: Final = (CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)
_OUR_REFUSALS: Final = (ConfigurationError, IdempotencyConflictError, ResetRefusedError)


def _own_kind(family: _Family) -> str | None:
    """Name the kind of what SQLAlchemy or this package raised of its own accord."""
    error = family.error
    if _is_a(error, CriticalError):
        kind = _text(error, "kind") or "unknown"
        row = _table().kinds.get(kind)
        return kind if row is not None and row.verdict is Verdict.CRITICAL else "unknown"
    if _is_a(error, *_OUR_REFUSALS) or _is_a(family.driver, sqlalchemy_errors.MissingGreenlet):
        return "api_misuse"
    if not _is_a(error, sqlalchemy_errors.SQLAlchemyError) or _is_a(error, *_WRAPPERS):
        return None
    if _is_a(error, sqlalchemy_errors.TimeoutError):
        return "pool_timeout"
    is_lost = _is_a(error, sqlalchemy_errors.DisconnectionError)
    return "connection_lost" if is_lost else "api_misuse"


# No connection to be had: always critical, so all that is sought is a helpful kind


def _find_connect(family: _Family) -> _Finding:
    word = family.word
    if word is None:
        return replace(_finding(_connect_kind(family)), is_refined=True)
    row = _row_of_code(word.sqlstate)
    if row.verdict is not Verdict.CRITICAL:
        row = _row("connect_rejected")
    return _Finding(row, row.outcome_known, word.sqlstate, is_refined=True)


def _connect_kind(family: _Family) -> str:
    kind = _own_kind(family) or _number_kind(family) or _transport_kind(family.driver)
    kind = kind or _connect_kind_by_class(family) or _connect_kind_by_text(family.driver)
    if kind is None or _row(kind).verdict is not Verdict.CRITICAL:
        return "connect_failed"
    return kind


def _transport_kind(error: object) -> str | None:
    """Name the kind of Python's own network errors, the causes of driver errors included."""
    for _ in range(_LONGEST_CHAIN):
        for cls, kind in _TRANSPORT:
            if _is_a(error, cls):
                return kind
        error = _look(error, "__cause__")
        if error is None:
            break
    return None


_TRANSPORT: Final = (
    (ConnectionRefusedError, "connection_refused"),
    (FileNotFoundError, "connection_refused"),
    (TimeoutError, "connect_timeout"),
    (socket.gaierror, "host_unresolved"),
    (ssl.SSLError, "tls_failure"),
)


def _connect_kind_by_class(family: _Family) -> str | None:
    for name, kind in _CONNECT_CLASSES:
        if name in family.names:
            return kind
    is_misuse = _is_a(family.driver, TypeError, ValueError, ArithmeticError)
    return "bad_connect_option" if is_misuse else None


_POOL_CLASSES: Final = (
    ("psycopg_pool.PoolClosed", "pool_closed"),
    ("psycopg_pool.PoolTimeout", "pool_timeout"),
    ("psycopg_pool.TooManyRequests", "pool_timeout"),
    ("psycopg.ConnectionTimeout", "connect_timeout"),
)
_CONNECT_CLASSES: Final = (
    *_POOL_CLASSES,
    ("psycopg.ProgrammingError", "bad_connect_option"),
    ("psycopg2.ProgrammingError", "bad_connect_option"),
)


def _connect_kind_by_text(driver: object) -> str | None:
    """Guess a kind from libpq's text: at connect libpq gives nothing else."""
    args = _look(driver, "args")
    text = args[0] if type(args) is tuple and args else None
    if type(text) is not str:
        return None
    return next((kind for part, kind in _CONNECT_TEXTS if part in text), None)


_CONNECT_TEXTS: Final = (
    ("password authentication failed", "auth_failure"),
    ("no pg_hba.conf entry", "auth_failure"),
    ("too many clients already", "too_many_connections"),
    ("too many connections for", "too_many_connections"),
    ("remaining connection slots", "too_many_connections"),
    ("the database system is ", "not_accepting_connections"),
    ("could not translate host name", "host_unresolved"),
    ("Connection refused", "connection_refused"),
    ("No such file or directory", "connection_refused"),
    ("timeout expired", "connect_timeout"),
    ("certificate", "tls_failure"),
    ("SSL", "tls_failure"),
)


# Drivers that speak in numbers and names


def _number_kind(family: _Family) -> str | None:
    if family.names & _SQLITE:
        return _sqlite_kind(family)
    return _mysql_kind(family) if family.names & _MYSQL else None


def _find_sqlite(family: _Family) -> _Finding:
    """Only a refusal of the statement itself says that a COMMIT left nothing behind."""
    kind = _sqlite_kind(family)
    if kind is None:
        return _find_silent(family)
    row = _row(kind)
    return _Finding(row, row.outcome_known and row.verdict is Verdict.APPLICATION)


def _sqlite_kind(family: _Family) -> str | None:
    name = _text(family.driver, "sqlite_errorname")
    if name is None:
        return None
    return _SQLITE_KINDS.get("_".join(name.split("_")[:2]), "unknown")


_SQLITE_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "SQLITE_READONLY": "read_only",
        "SQLITE_FULL": "disk_full",
        "SQLITE_IOERR": "io_error",
        "SQLITE_CANTOPEN": "io_error",
        "SQLITE_PERM": "io_error",
        "SQLITE_CORRUPT": "data_corruption",
        "SQLITE_NOTADB": "data_corruption",
        "SQLITE_NOMEM": "out_of_memory",
        "SQLITE_PROTOCOL": "system_error",
        "SQLITE_BUSY": "database_locked",
        "SQLITE_LOCKED": "database_locked",
        "SQLITE_INTERRUPT": "query_cancelled",
        "SQLITE_SCHEMA": "cached_plan",
        "SQLITE_CONSTRAINT": "constraint_violation",
        "SQLITE_MISMATCH": "data_error",
        "SQLITE_TOOBIG": "program_limit",
        "SQLITE_ERROR": "statement_error",
        "SQLITE_RANGE": "statement_error",
        "SQLITE_AUTH": "insufficient_privilege",
        "SQLITE_MISUSE": "api_misuse",
    }
)


def _find_mysql(family: _Family, read_only: bool) -> _Finding:
    """A server that answers with a number that is not critical has rolled back or refused."""
    kind = _mysql_kind(family)
    if kind is None:
        return _find_silent(family)
    if kind == "read_only" and read_only and _number(family.driver) == 1792:
        kind = "read_only_requested"
    row = _row(kind)
    return _Finding(row, row.verdict in (Verdict.APPLICATION, Verdict.CONFLICT))


def _mysql_kind(family: _Family) -> str | None:
    number = _number(family.driver)
    if number is None:
        return None
    for kind, numbers in _MYSQL_KINDS.items():
        if number in numbers:
            return kind
    is_servers = 1000 <= number < 2000 or 3000 <= number < 5000
    return "statement_error" if is_servers else None


def _number(driver: object) -> int | None:
    """Read the error number, which MySQL's drivers give first of all."""
    args = _look(driver, "args")
    number = args[0] if type(args) is tuple and args else None
    return number if type(number) is int else None


_MYSQL_KINDS: Final[Mapping[str, frozenset[int]]] = MappingProxyType(
    {
        "connection_refused": frozenset({2002, 2003}),
        "host_unresolved": frozenset({2005}),
        "connection_lost": frozenset({1053, 1927, 2004, 2006, 2012, 2013, 2014, 2055, 4031}),
        "tls_failure": frozenset({2026}),
        "protocol_violation": frozenset({2027}),
        "too_many_connections": frozenset({1040, 1129, 1203, 1226}),
        "auth_failure": frozenset({1045, 1130, 1698, 1862, 3118}),
        "read_only": frozenset({1290, 1792, 1836}),
        "disk_full": frozenset({1021, 1114}),
        "out_of_memory": frozenset({1037, 1038, 1041}),
        "io_error": frozenset({1026, 1030, 1180}),
        "data_corruption": frozenset({1034, 1035, 1194, 1195, 1712, 1812, 1814}),
        "not_accepting_connections": frozenset({1047}),
        "deadlock": frozenset({1213}),
        "lock_not_available": frozenset({1205, 3572}),
        "query_cancelled": frozenset({1317, 1969, 3024}),
        "serialization_failure": frozenset({1020}),
    }
)


# The server's own word


def _find_word(family: _Family, word: _Word, read_only: bool) -> _Finding:
    own = _row_of_code(word.sqlstate)
    row = _refined_row(family, word, own, read_only)
    if family.is_fatal and row.verdict is Verdict.APPLICATION and word.sqlstate != "25P03":
        row = _row("session_terminated")
    if word.severity == "PANIC" and row.verdict is not Verdict.CRITICAL:
        row = _row("server_panic")
    is_known = row.outcome_known and (not family.is_fatal or word.sqlstate in _KNOWN_IF_FATAL)
    return _Finding(row, is_known, word.sqlstate, is_refined=row is not own)


_KNOWN_IF_FATAL: Final = frozenset({"25P03", "25P04", "40001", "57P05"})


def _refined_row(family: _Family, word: _Word, own: _Row, read_only: bool) -> _Row:
    """Split the codes that mean several things by where in the server they were raised."""
    if word.source_function == "exec_stmt_raise" and not family.is_fatal:
        return own if own.verdict is Verdict.CONFLICT else _row("raised_by_application")
    if word.sqlstate == "25006" and read_only:
        return _row("read_only_requested")
    kind = _KIND_BY_FUNCTION.get((word.sqlstate, word.source_function))
    kind = kind or _kind_by_file(word.sqlstate, word.source_file)
    if kind is None and word.sqlstate == "XX000" and word.message in _UNTRANSLATED:
        kind = "concurrent_update"
    is_alive = word.severity == "ERROR" and not family.is_invalidated
    if kind is None and word.sqlstate in _CONNECTION_CODES and is_alive:
        kind = "remote_server_unavailable"
    return own if kind is None else _row(kind)


def _kind_by_file(sqlstate: str, file: str | None) -> str | None:
    """Tell the server's own files from the objects and files that a statement names."""
    if sqlstate in ("42501", "42809", "58P03") and file in _STORAGE_FILES:
        return "io_error"
    if sqlstate == "54000" and file in ("varsup.c", "multixact.c"):
        return "wraparound"
    if sqlstate in ("58P01", "58P02", "58030") and file in _USER_FILES:
        return "server_file_missing"
    return None


_KIND_BY_FUNCTION: Final[Mapping[tuple[str, str | None], str]] = MappingProxyType(
    {
        ("0A000", "RevalidateCachedQuery"): "cached_plan",
        ("XX000", "MemoryContextSizeFailure"): "program_limit",
    }
)
_STORAGE_FILES: Final = frozenset(
    {"md.c", "fd.c", "smgr.c", "bufmgr.c", "slru.c", "xlog.c", "relmapper.c", "copydir.c"}
)
_USER_FILES: Final = frozenset({"copyfrom.c", "copyto.c", "genfile.c", "dfmgr.c"})
_UNTRANSLATED: Final = ("tuple concurrently updated", "tuple concurrently deleted")
_CONNECTION_CODES: Final = frozenset({"08000", "08001", "08003", "08004", "08006"})


# No word from the server


def _find_silent(family: _Family) -> _Finding:
    if family.is_invalidated:
        return replace(_finding("connection_lost"), outcome_known=_was_never_sent(family))
    known = next((kind for name, kind in _SILENT_CLASSES if name in family.names), None)
    if known is not None:
        return _finding(known)
    if _is_interface_error(family, "asyncpg.InterfaceError") and family.is_invalidated is False:
        return _finding("refused_by_driver")
    is_driver = _is_a(family.error, *_WRAPPERS) or bool(family.names & _DRIVERS)
    kind = _kind_by_class(family) if is_driver else _raw_kind(family.error)
    return _finding(kind or "unknown")


_SILENT_CLASSES: Final = (
    ("sqlalchemy.InvalidCachedStatementError", "cached_plan"),
    *_POOL_CLASSES,
    ("asyncpg.PostgresConnectionError", "connection_lost"),
    ("asyncpg.DataError", "refused_by_driver"),
    ("asyncpg.ClientConfigurationError", "refused_by_driver"),
    ("asyncpg.UnsupportedClientFeatureError", "refused_by_driver"),
)


def _was_never_sent(family: _Family) -> bool:
    """Say whether the driver refused because it knew the connection to be closed already."""
    if "psycopg.OperationalError" in family.names:
        return _look(family.driver, "args") == ("the connection is closed",)
    return _is_interface_error(family, "asyncpg.InterfaceError", "psycopg2.InterfaceError")


def _is_interface_error(family: _Family, *names: str) -> bool:
    """True for exactly these classes: what derives from them means something else."""
    own_name = _text(type(family.driver), "__name__")
    return own_name == "InterfaceError" and not family.names.isdisjoint(names)


def _kind_by_class(family: _Family) -> str | None:
    """Recognise what a driver refused before it sent anything."""
    names = _names(family.error) | family.names
    classes = {name.partition(".")[2] for name in names}
    is_refusal = not classes.isdisjoint(_REFUSALS) and classes.isdisjoint(_DOUBTFUL)
    return "refused_by_driver" if is_refusal else None


_REFUSALS: Final = ("DataError", "IntegrityError", "ProgrammingError", "NotSupportedError")
_DOUBTFUL: Final = ("OperationalError", "InternalError", "InterfaceError")


def _raw_kind(error: object) -> str | None:
    """Name the kind of a builtin exception that no driver wrapped."""
    if _is_a(error, TimeoutError):
        return "client_timeout"
    if _is_a(error, OSError, EOFError):
        return "connection_lost"
    is_refusal = _is_a(error, ValueError, TypeError, ArithmeticError, LookupError)
    return "refused_by_driver" if is_refusal else None


# From the finding to the diagnosis


_GRAVITY: Final = (Verdict.NONE, Verdict.APPLICATION, Verdict.CONFLICT, Verdict.CRITICAL)


def _gravity(diagnosis: Diagnosis) -> tuple[int, bool]:
    return _GRAVITY.index(diagnosis.verdict), not diagnosis.outcome_known


def _code_for(verdict: Verdict, row: _Row) -> ErrorCode | None:
    """Give a code to what failed; the application's own affairs have none."""
    if verdict in (Verdict.APPLICATION, Verdict.NONE):
        return None
    return row.error_code or ErrorCode.TRANSACTION_FAILED


def _in_doubt(diagnosis: Diagnosis) -> Diagnosis:
    """Make critical what was mild but for coming at COMMIT."""
    return replace(
        diagnosis,
        verdict=Verdict.CRITICAL,
        error_code=ErrorCode.TRANSACTION_FAILED,
        cause=f"COMMIT was sent and its outcome is unknown: {_as_clause(diagnosis.cause)}.",
        action="Compare the business records with the database; send the work under no other key, "
        f"and {_as_clause(diagnosis.action)}.",
    )


def _as_clause(sentence: str) -> str:
    """Put a sentence inside another: no full stop, and no capital but in names."""
    is_name = sentence[1:2].isupper()
    return (sentence if is_name else sentence[:1].lower() + sentence[1:]).rstrip(".")
