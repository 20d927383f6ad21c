"""The diagnoser: the policy, and what it says in words that are safe to show.

Never here: I/O, or any text of an exception in a diagnosis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from types import MappingProxyType
from typing import Final

from failstop.diagnosis._evidence import Family, leaves
from failstop.diagnosis._rules import Finding, Phase, find
from failstop.diagnosis._runbook import runbook
from failstop.diagnosis._table import (
    CODE_OR_CLASS,
    SQLSTATE,
    Row,
    Verdict,
    read_table,
    row_of_code,
    row_of_kind,
)
from failstop.errors import (
    CommitOutcomeUnknownError,
    ConfigurationError,
    ConnectionFailedError,
    CriticalDatabaseError,
    DatabaseUnavailableError,
    ErrorCode,
    Outcome,
    TransactionFailedError,
)


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
        read_table()  # now, for a disk that dies later
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
            self._judge(error, phase, read_only, connection_invalidated) for error in leaves(exc)
        ]
        return max(diagnoses, key=_gravity)

    def _judge(
        self, error: object, phase: Phase, read_only: bool, invalidated: bool | None
    ) -> Diagnosis:
        family = Family.of(error, invalidated)
        finding = find(family, phase, read_only)
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

    def _verdict(self, finding: Finding) -> tuple[Verdict, Row]:
        row, code = finding.row, finding.sqlstate or ""
        verdict = self._overrides.get(row.kind)
        if verdict is None and not (finding.is_refined and row.verdict is Verdict.CRITICAL):
            verdict = self._overrides.get(code, self._overrides.get(code[:2]))
            if verdict is not None and row.kind == "unknown_sqlstate":
                row = row_of_kind("registered")
        verdict = verdict or row.verdict
        if self._is_strict and verdict is not Verdict.NONE:
            verdict = Verdict.CRITICAL
        return verdict, row


def diagnose(exc: BaseException, *, phase: Phase = Phase.STATEMENT) -> Diagnosis:
    """Return what `exc` means under the default policy; raises for no exception whatever."""
    return _default_diagnoser().diagnose(exc, phase=phase)


@cache
def _default_diagnoser() -> Diagnoser:
    return Diagnoser()


def explain(sqlstate_or_kind: str) -> Diagnosis:
    """Return what a SQLSTATE, a class of SQLSTATEs or a kind means under the default policy.

    A code that nobody knows is CRITICAL, and the cause says that it is not in the table.
    """
    code = sqlstate_or_kind.upper()
    row = read_table().kinds.get(sqlstate_or_kind) or row_of_code(code)
    return Diagnosis(
        verdict=row.verdict,
        error_code=_code_for(row.verdict, row),
        kind=row.kind,
        cause=row.cause,
        action=row.action,
        outcome_known=row.outcome_known,
        sqlstate=code if SQLSTATE.fullmatch(code) else None,
    )


def to_error(
    diagnosis: Diagnosis, *, outcome: Outcome, name: str, key: str | None = None
) -> CriticalDatabaseError:
    """Return the error to raise for a critical diagnosis of the database called `name`.

    The text is made of the diagnosis alone, so it holds no URL, SQL or parameter. A traceback ends
    with the address of the runbook.
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
    error.add_note(f"runbook: {runbook(diagnosis.kind)}")
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


# From the finding to the diagnosis


def _require_override(key: object, verdict: object) -> None:
    if not isinstance(verdict, Verdict):
        raise ConfigurationError(f"override {key!r}: give a Verdict, not {type(verdict).__name__}")
    kinds = read_table().kinds
    if not isinstance(key, str) or not (key in kinds or CODE_OR_CLASS.fullmatch(key)):
        near = get_close_matches(str(key).lower(), kinds, n=1)
        meant = f"; did you mean {near[0]!r}" if near else ""
        raise ConfigurationError(
            f"override {key!r} names nothing: give a SQLSTATE of five capitals or digits such as "
            f"'57014', a class of two such as '55', or a kind such as 'pool_timeout'{meant}"
        )


_GRAVITY: Final = (Verdict.NONE, Verdict.APPLICATION, Verdict.CONFLICT, Verdict.CRITICAL)


def _gravity(diagnosis: Diagnosis) -> tuple[int, bool]:
    return _GRAVITY.index(diagnosis.verdict), not diagnosis.outcome_known


def _code_for(verdict: Verdict, row: Row) -> ErrorCode | None:
    """Give a code to what failed; the application's own affairs have none."""
    if verdict in (Verdict.APPLICATION, Verdict.NONE):
        return None
    return row.error_code or ErrorCode.TRANSACTION_FAILED


def _in_doubt(diagnosis: Diagnosis) -> Diagnosis:
    """Make critical whatever came at COMMIT and leaves open whether it took effect."""
    is_outage = diagnosis.verdict is Verdict.CRITICAL
    mend = f"{_as_clause(diagnosis.action)}, and then " if is_outage else ""
    action = f"{mend}compare the records with the database; send the work under no other key."
    return replace(
        diagnosis,
        verdict=Verdict.CRITICAL,
        error_code=ErrorCode.TRANSACTION_FAILED,
        cause=f"COMMIT was sent and its outcome is unknown: {_as_clause(diagnosis.cause)}.",
        action=action[0].upper() + action[1:],
    )


def _as_clause(sentence: str) -> str:
    """Put a sentence inside another: no full stop, and no capital but in names."""
    is_name = sentence[1:2].isupper()
    return (sentence if is_name else sentence[:1].lower() + sentence[1:]).rstrip(".")
