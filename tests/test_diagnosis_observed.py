"""The replay: every failure that was once provoked for real is diagnosed as it was judged then.

`data/observed_failures.csv` holds what eight drivers raised; each row is built again from the
real classes of the drivers, as SQLAlchemy wraps them. MySQL's two drivers are no dependency of
the tests: their classes are rebuilt by package, name and number, which is all that is read.
"""

from __future__ import annotations

import csv
import importlib
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy.exc
from psycopg.pq import DiagnosticField
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi

from failstop.diagnosis import Diagnoser, Phase, Verdict

Row = dict[str, str]

PHASES = {
    "connect": Phase.CONNECT,
    "ping": Phase.PING,
    "checkout": Phase.CHECKOUT,
    "execute": Phase.STATEMENT,
    "api": Phase.STATEMENT,
    "commit": Phase.COMMIT,
    "rollback": Phase.ROLLBACK,
}

SAFE_SIDE = (
    "session/idle_in_transaction_timeout/next statement/psycopg2",
    "session/idle_in_transaction_timeout/commit/psycopg2",
    "session/idle_in_transaction_timeout/next statement/asyncpg",
    "session/idle_in_transaction_timeout/commit/asyncpg",
    "session/idle_session_timeout//psycopg2",
    "session/idle_session_timeout//asyncpg",
    "session/transaction_timeout/busy/psycopg2",
    "session/transaction_timeout/commit after it/psycopg2",
    "session/transaction_timeout/commit after it/asyncpg",
    "statement/recovery_conflict//psycopg2",
    "mysql/mariadb/packet too large/pymysql",
    "mysql/mariadb/packet too large/mysqldb",
)
"""Where the driver does not say why the connection was lost, a mild failure is called critical."""


def observations() -> list[Row]:
    with (Path(__file__).parent / "data" / "observed_failures.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def is_exception(row: Row) -> bool:
    return "." in row["sqlalchemy_exception"] and "HANG" not in row["message"]


RAISED = [row for row in observations() if is_exception(row)]
JUDGED = [row for row in RAISED if row["verdict"]]


def name_of(row: Row) -> str:
    return "/".join(row[column] for column in ("group", "scenario", "label", "driver"))


# Building the exceptions again


def find_class(path: str) -> Any:
    """Import "package.module.Class"; drivers are known here by name only, so it is untyped."""
    if path.startswith("sqlalchemy.dialects"):
        return vars_of_asyncpg_dialect()[path.rpartition(".")[2]]
    module, _, name = path.rpartition(".")
    if module.partition(".")[0] in ("pymysql", "MySQLdb"):
        return mysql_class(module, name)
    return getattr(importlib.import_module(module), name)


def vars_of_asyncpg_dialect() -> dict[str, Any]:
    return {
        name: value
        for cls in reversed(AsyncAdapt_asyncpg_dbapi.__mro__)
        for name, value in vars(cls).items()
    }


def mysql_class(module: str, name: str) -> type[BaseException]:
    error = type("Error", (Exception,), {"__module__": module})
    database_error = type("DatabaseError", (error,), {"__module__": module})
    base = error if name == "InterfaceError" else database_error
    return type(name, (base,), {"__module__": module})


def build(row: Row) -> Any:
    if not row["orig_class"]:
        return build_raw(row)
    orig = build_orig(row)
    cls = find_class(row["sqlalchemy_exception"])
    if not issubclass(cls, sqlalchemy.exc.DBAPIError):
        return sqlalchemy.exc.StatementError(row["message"], "select 1", (), orig)
    invalidated = row["connection_invalidated"] == "True"
    wrapper = cls("select 1", (), orig, connection_invalidated=invalidated)
    wrapper.__cause__ = orig
    return wrapper


def build_raw(row: Row) -> Any:
    cls = find_class(row["sqlalchemy_exception"])
    if issubclass(cls, UnicodeEncodeError):
        return UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
    if issubclass(cls, OSError) and row["errno"]:
        return cls(int(row["errno"]), row["message"])
    return cls(row["message"])


def build_orig(row: Row) -> Any:
    text = row["message"].partition(") ")[2]
    if row["driver"] == "asyncpg" and row["orig_class"].startswith("sqlalchemy.dialects"):
        return build_asyncpg(row, text)
    cls = find_class(row["orig_class"])
    if row["orig_class"].startswith("psycopg."):
        return cls(text, info=fields(row, text))
    if row["orig_class"].startswith("psycopg2."):
        return build_psycopg2(cls, row, text)
    orig = cls(int(row["errno"]), text) if row["errno"] else cls(text)
    if row["sqlite_errorname"]:
        vars(orig)["sqlite_errorname"] = row["sqlite_errorname"]
    return orig


def fields(row: Row, text: str) -> dict[DiagnosticField, bytes] | None:
    """Return what psycopg reads from the server's answer; None where there was no answer."""
    if not row["severity"]:
        return None
    return {
        DiagnosticField.SQLSTATE: row["sqlstate"].encode(),
        DiagnosticField.SEVERITY_NONLOCALIZED: row["severity"].encode(),
        DiagnosticField.SOURCE_FILE: row["source_file"].encode(),
        DiagnosticField.SOURCE_FUNCTION: row["source_function"].encode(),
        DiagnosticField.MESSAGE_PRIMARY: primary(text).encode(),
    }


def primary(text: str) -> str:
    return text.partition(" | ")[0]


class Psycopg2Diagnostics:
    """psycopg2's `diag`, which only a real answer of a server can fill."""

    def __init__(self, row: Row, text: str) -> None:
        self.severity = self.severity_nonlocalized = row["severity"] or None
        self.source_file = row["source_file"] or None
        self.source_function = row["source_function"] or None
        self.message_primary = primary(text)


def build_psycopg2(cls: Any, row: Row, text: str) -> Any:
    members = {"__module__": cls.__module__, "diag": Psycopg2Diagnostics(row, text)}
    error = type(cls.__name__, (cls,), members)(text)
    error.__setstate__({"pgcode": row["sqlstate"] or None})
    assert error.pgcode == (row["sqlstate"] or None)
    return error


def build_asyncpg(row: Row, text: str) -> Any:
    if row["orig_class"] == row["driver_exception"]:
        return find_class(row["orig_class"])(text)
    driver = build_asyncpg_driver(row, text)
    if row["cause_sqlstate"]:
        told = {"C": row["cause_sqlstate"], "V": row["cause_severity"], "M": "told by the server"}
        driver.__cause__ = find_class("asyncpg.PostgresError").new(told)
    orig = find_class(row["orig_class"])(text, driver)
    orig.__cause__ = driver
    return orig


def build_asyncpg_driver(row: Row, text: str) -> Any:
    if not row["severity"]:
        return find_class(row["driver_exception"])(text)
    told = {"C": row["sqlstate"], "V": row["severity"], "S": row["severity"], "M": primary(text)}
    told |= {"F": row["source_file"], "R": row["source_function"]}
    driver = find_class("asyncpg.PostgresError").new(told)
    assert type(driver) is find_class(row["driver_exception"])
    return driver


# The replay


def verdict_of(row: Row) -> tuple[Verdict, bool]:
    phase = Phase.COMMIT if row["caller"] == "autocommit" else PHASES[row["phase"]]
    diagnosis = Diagnoser().diagnose(
        build(row), phase=phase, read_only=row["caller"] == "read_only"
    )
    return diagnosis.verdict, diagnosis.outcome_known


def test_the_replay_has_every_judged_exception() -> None:
    assert len(JUDGED) == 894
    assert {row["driver"] for row in JUDGED} == {
        *("psycopg", "psycopg_async", "psycopg2", "asyncpg"),
        *("sqlite3", "aiosqlite", "pymysql", "mysqldb"),
    }


def test_no_critical_failure_is_missed() -> None:
    missed = [
        name_of(row)
        for row in JUDGED
        if row["verdict"] == "critical" and verdict_of(row)[0] is not Verdict.CRITICAL
    ]
    assert missed == []


def test_only_the_known_twelve_are_called_worse_than_they_are() -> None:
    differing = sorted(name_of(row) for row in JUDGED if verdict_of(row)[0] != row["verdict"])
    assert differing == sorted(SAFE_SIDE)


def test_no_commit_that_took_effect_is_called_known_not_to_have() -> None:
    committed = [row for row in RAISED if row["commit_outcome"] == "committed"]
    assert committed
    assert [name_of(row) for row in committed if verdict_of(row)[1]] == []


def test_a_commit_that_the_server_refused_alive_is_known() -> None:
    refused = [row for row in RAISED if row["phase"] == "commit" and row["severity"] == "ERROR"]
    assert refused
    assert [name_of(row) for row in refused if not verdict_of(row)[1]] == []


@pytest.mark.parametrize("row", [r for r in RAISED if not r["verdict"]], ids=name_of)
def test_what_was_not_judged_gets_a_verdict_all_the_same(row: Row) -> None:
    assert verdict_of(row)[0] in Verdict
