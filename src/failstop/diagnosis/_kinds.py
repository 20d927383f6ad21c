"""The kinds of the failures on which the server gave no word: by class, number and name.

Message text is read at connect only, where all is critical anyway, to find a more helpful kind.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sqlalchemy import exc as sqlalchemy_errors

from failstop.diagnosis._evidence import (
    DRIVERS,
    LONGEST_CHAIN,
    MYSQL_DRIVERS,
    SQLITE_DRIVERS,
    WRAPPERS,
    Family,
    class_names,
    first_argument,
    first_text,
    is_a,
    look,
    text_of,
)
from failstop.diagnosis._table import Verdict, read_table, row_of_kind
from failstop.errors import (
    ConfigurationError,
    CriticalError,
    IdempotencyConflictError,
    KeyInFlightError,
    ReceiptExpiredError,
    ResetRefusedError,
)


def own_kind(family: Family) -> str | None:
    """Name the kind of what SQLAlchemy or this package raised of its own accord."""
    error = family.error
    if is_a(error, CriticalError):
        kind = text_of(error, "kind") or "unknown"
        row = read_table().kinds.get(kind)
        return kind if row is not None and row.verdict is Verdict.CRITICAL else "unknown"
    if is_a(error, *_OUR_REFUSALS) or is_a(family.driver, sqlalchemy_errors.MissingGreenlet):
        return "api_misuse"
    if not is_a(error, sqlalchemy_errors.SQLAlchemyError) or is_a(error, *WRAPPERS):
        return None
    if is_a(error, sqlalchemy_errors.TimeoutError):
        return "pool_timeout"
    is_lost = is_a(error, sqlalchemy_errors.DisconnectionError)
    return "connection_lost" if is_lost else "api_misuse"


_OUR_REFUSALS: Final = (
    ConfigurationError,
    IdempotencyConflictError,
    KeyInFlightError,
    ReceiptExpiredError,
    ResetRefusedError,
)


# No connection to be had: always critical, so all that is sought is a helpful kind


def connect_kind(family: Family) -> str:
    kind = own_kind(family) or _number_kind(family) or _transport_kind(family.driver)
    kind = kind or _connect_kind_by_class(family) or _connect_kind_by_text(family.driver)
    if kind is None or row_of_kind(kind).verdict is not Verdict.CRITICAL:
        return "connect_failed"
    return kind


def _transport_kind(error: object) -> str | None:
    """Name the kind of Python's own network errors, the causes of driver errors included."""
    for _ in range(LONGEST_CHAIN):
        for cls, kind in _TRANSPORT:
            if is_a(error, cls):
                return kind
        error = look(error, "__cause__")
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


def _connect_kind_by_class(family: Family) -> str | None:
    for name, kind in _CONNECT_CLASSES:
        if name in family.names:
            return kind
    is_misuse = is_a(family.driver, TypeError, ValueError, ArithmeticError)
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
    text = first_text(driver) or ""
    return next((kind for part, kind in _CONNECT_TEXTS if part in text), None)


_CONNECT_TEXTS: Final = (
    ("password", "auth_failure"),
    ("pg_hba.conf", "auth_failure"),
    ("too many clients already", "too_many_connections"),
    ("too many connections for", "too_many_connections"),
    ("remaining connection slots", "too_many_connections"),
    ("the database system is ", "not_accepting_connections"),
    ("could not translate host name", "host_unresolved"),
    ("failed to resolve host", "host_unresolved"),
    ("Connection refused", "connection_refused"),
    ("No such file or directory", "connection_refused"),
    ("timeout expired", "connect_timeout"),
    ("certificate", "tls_failure"),
    ("SSL", "tls_failure"),
)


# Drivers that speak in numbers and names


def _number_kind(family: Family) -> str | None:
    if family.names & SQLITE_DRIVERS:
        return sqlite_kind(family)
    return mysql_kind(family) if family.names & MYSQL_DRIVERS else None


def sqlite_kind(family: Family) -> str | None:
    name = text_of(family.driver, "sqlite_errorname")
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


def mysql_kind(family: Family) -> str | None:
    number = mysql_number(family.driver)
    if number is None:
        return None
    for kind, numbers in _MYSQL_KINDS.items():
        if number in numbers:
            return kind
    is_servers = 1000 <= number < 2000 or 3000 <= number < 5000
    return "statement_error" if is_servers else None


def mysql_number(driver: object) -> int | None:
    """Read the error number, which MySQL's drivers give first of all."""
    number = first_argument(driver)
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


# No word from the server


def silent_kind(family: Family) -> str:
    """Name the kind of what left the connection as it was, by class; unknown where none fits."""
    known = next((kind for name, kind in _SILENT_CLASSES if name in family.names), None)
    if known is not None:
        return known
    if is_interface_error(family, "asyncpg.InterfaceError") and family.is_invalidated is False:
        return "refused_by_driver"
    is_driver = is_a(family.error, *WRAPPERS) or bool(family.names & DRIVERS)
    return (_kind_by_class(family) if is_driver else _raw_kind(family.error)) or "unknown"


_SILENT_CLASSES: Final = (
    ("sqlalchemy.InvalidCachedStatementError", "cached_plan"),
    *_POOL_CLASSES,
    ("asyncpg.PostgresConnectionError", "connection_lost"),
    ("asyncpg.DataError", "refused_by_driver"),
    ("asyncpg.ClientConfigurationError", "refused_by_driver"),
    ("asyncpg.UnsupportedClientFeatureError", "refused_by_driver"),
)


def is_interface_error(family: Family, *names: str) -> bool:
    """True for exactly these classes: what derives from them means something else."""
    own_name = text_of(type(family.driver), "__name__")
    return own_name == "InterfaceError" and not family.names.isdisjoint(names)


def _kind_by_class(family: Family) -> str | None:
    """Recognise what a driver refused before it sent anything."""
    names = class_names(family.error) | family.names
    classes = {name.partition(".")[2] for name in names}
    is_refusal = not classes.isdisjoint(_REFUSALS) and classes.isdisjoint(_DOUBTFUL)
    return "refused_by_driver" if is_refusal else None


_REFUSALS: Final = ("DataError", "IntegrityError", "ProgrammingError", "NotSupportedError")
_DOUBTFUL: Final = ("OperationalError", "InternalError", "InterfaceError")


def _raw_kind(error: object) -> str | None:
    """Name the kind of a builtin exception that no driver wrapped."""
    if is_a(error, TimeoutError):
        return "client_timeout"
    if is_a(error, OSError, EOFError):
        return "connection_lost"
    is_refusal = is_a(error, ValueError, TypeError, ArithmeticError, LookupError)
    return "refused_by_driver" if is_refusal else None
