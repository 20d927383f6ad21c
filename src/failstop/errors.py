"""The error tree: what failed, what became of the work, and whether it may be sent again.

CriticalError
├── CriticalDatabaseError
│   ├── DatabaseUnavailableError
│   ├── ConnectionFailedError
│   └── TransactionFailedError
│       └── CommitOutcomeUnknownError
├── GatewayUnavailableError
└── OperationsSuspendedError

Not critical: ConfigurationError (a ValueError), ResetRefusedError, and what a key answers:
IdempotencyConflictError, KeyInFlightError and ReceiptExpiredError.

Lives here: exceptions and the two enumerations they carry. Never here: anything that decides,
logs, or knows a driver. No message may hold a URL, an SQL text or a parameter.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar, Self, TypeVar

__all__ = [
    "CommitOutcomeUnknownError",
    "ConfigurationError",
    "ConnectionFailedError",
    "CriticalDatabaseError",
    "CriticalError",
    "DatabaseUnavailableError",
    "ErrorCode",
    "GatewayUnavailableError",
    "IdempotencyConflictError",
    "KeyInFlightError",
    "OperationsSuspendedError",
    "Outcome",
    "ReceiptExpiredError",
    "ResetRefusedError",
    "TransactionFailedError",
]


class ErrorCode(StrEnum):
    """The class of a critical failure, as responses and alerts spell it."""

    DB_UNAVAILABLE = "DB_UNAVAILABLE"
    CONNECTION_FAILED = "CONNECTION_FAILED"
    TRANSACTION_FAILED = "TRANSACTION_FAILED"
    GATEWAY_UNAVAILABLE = "GATEWAY_UNAVAILABLE"
    SYSTEM_FAILURE = "SYSTEM_FAILURE"


class Outcome(StrEnum):
    """What happened to the work; only NOT_STARTED and ROLLED_BACK may be sent again."""

    NOT_STARTED = "NOT_STARTED"
    ROLLED_BACK = "ROLLED_BACK"
    COMMITTED = "COMMITTED"
    UNKNOWN = "UNKNOWN"

    @property
    def safe_to_retry(self) -> bool:
        """True exactly where it is proven that the work took no effect and never will."""
        return self in (Outcome.NOT_STARTED, Outcome.ROLLED_BACK)


class _Portable:
    """An exception that survives pickling and copying whole, whatever its constructor takes.

    A copy in this process keeps the very same cause. A pickle carries the cause too, or, where that
    cannot be pickled, a stand-in with the name of its class.
    """

    args: tuple[Any, ...]
    __cause__: BaseException | None

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args), (self.__dict__, _portable(self.__cause__))

    def __setstate__(self, state: Any) -> None:
        facts, cause = state
        self.__dict__.update(facts)
        if cause is not None:
            self.__cause__ = cause

    def __copy__(self) -> Self:
        again = _rebuild(type(self), self.args)
        again.__setstate__((self.__dict__, self.__cause__))
        return again

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        again = _rebuild(type(self), copy.deepcopy(self.args, memo))
        memo[id(self)] = again
        again.__setstate__((copy.deepcopy(self.__dict__, memo), self.__cause__))
        return again


_P = TypeVar("_P", bound=_Portable)


def _rebuild(cls: type[_P], args: tuple[Any, ...]) -> _P:
    """Make an error without its constructor: subclasses may have any signature."""
    error = cls.__new__(cls)
    error.args = args
    return error


def _portable(cause: BaseException | None) -> BaseException | None:
    try:
        pickle.loads(pickle.dumps(cause))  # noqa: S301 - our own bytes, made on this line
    except Exception:  # noqa: BLE001 - drivers raise anything here; the class name survives
        return RuntimeError(f"{type(cause).__module__}.{type(cause).__qualname__}")
    return cause


class CriticalError(_Portable, Exception):
    """A dependency that the service cannot work without can no longer be trusted.

    Args:
        message: who, in what state, the way out; no URL, SQL or parameter.
        error_code: an `ErrorCode` or its value; the class decides where it is None.
        outcome: what happened to the work; UNKNOWN where nobody proved better.
        incident_id: the incident this failure opened or joined, once it is known.
        kind: the finer name of the failure, such as "connection_lost".
        occurred_at: when it was seen, with a time zone; now where it is None.

    Raises:
        ValueError: the error code is none of `ErrorCode`, or the outcome none of `Outcome`.
    """

    is_critical: ClassVar[bool] = True
    prefix: ClassVar[str] = ""
    default_code: ClassVar[ErrorCode] = ErrorCode.SYSTEM_FAILURE
    default_outcome: ClassVar[Outcome] = Outcome.UNKNOWN

    action: str = "find the cause and remove it"
    """What an operator does next, in a sentence; the diagnosis sets a better one."""

    needs_person: bool = False
    """Whether only a person may lead back to NORMAL, however well everything is by then."""

    is_acceptable: bool = False
    """Whether that person may accept what was found without `force=True`."""

    def __init__(
        self,
        message: str,
        error_code: ErrorCode | str | None = None,
        *,
        outcome: Outcome | str | None = None,
        incident_id: str | None = None,
        kind: str = "unknown",
        occurred_at: datetime | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.error_code: ErrorCode = (
            self.default_code if error_code is None else ErrorCode(error_code)
        )
        self.outcome: Outcome = self.default_outcome if outcome is None else Outcome(outcome)
        self.incident_id = incident_id
        self.kind = kind
        self.occurred_at: datetime = occurred_at or datetime.now(UTC)

    @property
    def safe_to_retry(self) -> bool:
        """True exactly for the outcomes NOT_STARTED and ROLLED_BACK."""
        return self.outcome.safe_to_retry

    def __str__(self) -> str:
        return self.prefix + self.message


class CriticalDatabaseError(CriticalError):
    """The database cannot be trusted."""

    prefix = "CRITICAL DATABASE ERROR: "
    default_code = ErrorCode.DB_UNAVAILABLE


class DatabaseUnavailableError(CriticalDatabaseError):
    """No URL, no server, read-only, out of space, or silent past the deadline."""


class ConnectionFailedError(CriticalDatabaseError):
    """A connection could not be made, or was lost."""

    default_code = ErrorCode.CONNECTION_FAILED


class TransactionFailedError(CriticalDatabaseError):
    """A transaction was rolled back, or the server answered ROLLBACK to a COMMIT."""

    default_code = ErrorCode.TRANSACTION_FAILED


class CommitOutcomeUnknownError(TransactionFailedError):
    """COMMIT was sent and no answer came: the work may or may not be in the database.

    Args:
        message: as in `CriticalError`.
        error_code: as in `CriticalError`.
        key: the key of the transaction, where it has one; never send the work under another.
        outcome: as in `CriticalError`.
        incident_id: as in `CriticalError`.
        kind: as in `CriticalError`.
        occurred_at: as in `CriticalError`.
    """

    def __init__(
        self,
        message: str,
        error_code: ErrorCode | str | None = None,
        *,
        key: str | None = None,
        outcome: Outcome | str | None = None,
        incident_id: str | None = None,
        kind: str = "outcome_unknown",
        occurred_at: datetime | None = None,
    ) -> None:
        super().__init__(
            message,
            error_code,
            outcome=outcome,
            incident_id=incident_id,
            kind=kind,
            occurred_at=occurred_at,
        )
        self.key = key


class GatewayUnavailableError(CriticalError):
    """An upstream service that was declared critical cannot be trusted."""

    default_code = ErrorCode.GATEWAY_UNAVAILABLE


class OperationsSuspendedError(CriticalError):
    """The call was refused, nothing was sent: the service is not in the state NORMAL.

    `reason` is the incident in a few words, `cause_code` its error code; both serve the response.
    """

    default_outcome = Outcome.NOT_STARTED

    def __init__(
        self,
        message: str,
        error_code: ErrorCode | str | None = None,
        *,
        reason: str = "Operations suspended",
        cause_code: ErrorCode = ErrorCode.SYSTEM_FAILURE,
        outcome: Outcome | str | None = None,
        incident_id: str | None = None,
        kind: str = "operations_suspended",
        occurred_at: datetime | None = None,
    ) -> None:
        super().__init__(
            message,
            error_code,
            outcome=outcome,
            incident_id=incident_id,
            kind=kind,
            occurred_at=occurred_at,
        )
        self.reason = reason
        self.cause_code = cause_code


class ConfigurationError(_Portable, ValueError):
    """A setting is wrong or would make a claim false; the text says the mend."""


class ResetRefusedError(_Portable, Exception):
    """Recovery is not proven, so fail-safe mode was not left.

    Attributes:
        checks: the names of the checks that failed, in the order in which they were made.
    """

    def __init__(self, message: str, checks: Sequence[str] = ()) -> None:
        super().__init__(message, tuple(checks))
        self.checks: tuple[str, ...] = tuple(checks)

    def __str__(self) -> str:
        return str(self.args[0])


class _KeyedError(_Portable, Exception):
    """An answer about a key; `key` is the request's."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message, key)
        self.key = key

    def __str__(self) -> str:
        return str(self.args[0])


class IdempotencyConflictError(_KeyedError):
    """The key was used before, for another request; nothing was done for this one.

    Attributes:
        key: the key that both requests carry.
    """


class KeyInFlightError(_KeyedError):
    """The first request under this key is still under way; nothing was done for this one.

    Attributes:
        key: the key that both requests carry.
    """


class ReceiptExpiredError(_KeyedError):
    """The work under this key was committed so long ago that its result is kept no more.

    Attributes:
        key: the key of the request; its work is never done again.
    """
