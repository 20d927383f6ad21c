"""The rules: from the evidence to the row of the table that fits, the first match wins.

The order of evidence: no connection to be had is always critical; then the server's own SQLSTATE
with its severity; then what became of the connection; then the driver's class. Unknown is critical.

Message text decides nothing, because servers translate it, with two exceptions: two texts of
XX000, which no server translates, and one that psycopg makes itself.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from failstop.diagnosis._evidence import (
    MYSQL_DRIVERS,
    SQLITE_DRIVERS,
    Family,
    Word,
    first_text,
    is_a,
)
from failstop.diagnosis._kinds import (
    connect_kind,
    is_interface_error,
    mysql_kind,
    mysql_number,
    own_kind,
    silent_kind,
    sqlite_kind,
)
from failstop.diagnosis._table import Row, Verdict, row_of_code, row_of_kind


class Phase(StrEnum):
    """What was being done when the exception came."""

    CHECKOUT = "checkout"
    CONNECT = "connect"
    PING = "ping"
    BEGIN = "begin"
    STATEMENT = "statement"
    COMMIT = "commit"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Finding:
    """The row that fits, and what it says of a COMMIT.

    `is_refined` is True where the row is not the SQLSTATE's own: an override of that SQLSTATE
    then cannot soften it.
    """

    row: Row
    outcome_known: bool
    sqlstate: str | None = None
    is_refined: bool = False


def _finding(kind: str) -> Finding:
    row = row_of_kind(kind)
    return Finding(row, row.outcome_known)


def find(family: Family, phase: Phase, read_only: bool) -> Finding:
    """Return the answer of the first rule that has one; their order is the meaning."""
    if is_a(family.error, *_TOLD_TO_STOP):
        return _finding("cancelled")
    if phase in (Phase.CHECKOUT, Phase.CONNECT, Phase.PING):
        return _find_connect(family)
    kind = own_kind(family)
    if kind is not None:
        return _finding(kind)
    if family.names & SQLITE_DRIVERS:
        return _find_sqlite(family)
    if family.names & MYSQL_DRIVERS:
        return _find_mysql(family, read_only)
    if family.word is not None:
        return _find_word(family, family.word, read_only)
    return _find_silent(family)


_TOLD_TO_STOP: Final = (CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)


def _find_connect(family: Family) -> Finding:
    word = family.word
    if word is None:
        return replace(_finding(connect_kind(family)), is_refined=True)
    row = row_of_code(word.sqlstate)
    if row.verdict is not Verdict.CRITICAL:
        row = row_of_kind("connect_rejected")
    return Finding(row, row.outcome_known, word.sqlstate, is_refined=True)


def _find_sqlite(family: Family) -> Finding:
    """Only a refusal of the statement itself says that a COMMIT left nothing behind."""
    kind = sqlite_kind(family)
    if kind is None:
        return _find_silent(family)
    row = row_of_kind(kind)
    return Finding(row, row.outcome_known and row.verdict is Verdict.APPLICATION)


def _find_mysql(family: Family, read_only: bool) -> Finding:
    """A server that answers with a number that is not critical has rolled back or refused."""
    kind = mysql_kind(family)
    if kind is None:
        return _find_silent(family)
    if kind == "read_only" and read_only and mysql_number(family.driver) == 1792:
        kind = "read_only_requested"
    row = row_of_kind(kind)
    return Finding(row, row.verdict in (Verdict.APPLICATION, Verdict.CONFLICT))


def _find_silent(family: Family) -> Finding:
    if family.is_invalidated:
        return replace(_finding("connection_lost"), outcome_known=_was_never_sent(family))
    return _finding(silent_kind(family))


def _was_never_sent(family: Family) -> bool:
    """Say whether the driver refused because it knew the connection to be closed already."""
    if "psycopg.OperationalError" in family.names:
        return first_text(family.driver) == "the connection is closed"
    return is_interface_error(family, "asyncpg.InterfaceError", "psycopg2.InterfaceError")


# The server's own word


def _find_word(family: Family, word: Word, read_only: bool) -> Finding:
    own = row_of_code(word.sqlstate)
    row = _refined_row(family, word, own, read_only)
    if family.is_fatal and row.verdict is Verdict.APPLICATION and word.sqlstate != "25P03":
        row = row_of_kind("session_terminated")
    if word.severity == "PANIC" and row.verdict is not Verdict.CRITICAL:
        row = row_of_kind("server_panic")
    is_known = row.outcome_known and (not family.is_fatal or word.sqlstate in _KNOWN_IF_FATAL)
    return Finding(row, is_known, word.sqlstate, is_refined=row is not own)


_KNOWN_IF_FATAL: Final = frozenset({"25P03", "25P04", "40001", "57P05"})


def _refined_row(family: Family, word: Word, own: Row, read_only: bool) -> Row:
    """Split the codes that mean several things by where in the server they were raised."""
    if word.source_function == "exec_stmt_raise" and not family.is_fatal:
        return own if own.verdict is Verdict.CONFLICT else row_of_kind("raised_by_application")
    if word.sqlstate == "25006" and read_only:
        return row_of_kind("read_only_requested")
    kind = _KIND_BY_FUNCTION.get((word.sqlstate, word.source_function))
    kind = kind or _kind_by_file(word.sqlstate, word.source_file)
    if kind is None and word.sqlstate == "XX000" and word.message in _UNTRANSLATED:
        kind = "concurrent_update"
    is_alive = word.severity == "ERROR" and not family.is_invalidated
    if kind is None and word.sqlstate in _CONNECTION_CODES and is_alive:
        kind = "remote_server_unavailable"
    return own if kind is None else row_of_kind(kind)


def _kind_by_file(sqlstate: str, file: str | None) -> str | None:
    """Tell the server's own files from the objects and files that a statement names."""
    if sqlstate in ("42501", "42809", "58P03") and file in _STORAGE_FILES:
        return "io_error"
    if sqlstate == "54000" and file in ("varsup.c", "multixact.c"):
        return "wraparound"
    if sqlstate in ("58P01", "58P02") and file in _USER_FILES:
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
