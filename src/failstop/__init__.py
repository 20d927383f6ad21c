"""Fail-fast primitives for services whose database is the single source of truth."""

from typing import TYPE_CHECKING, Any

from failstop import schema
from failstop._boundary import ProtectedCall, with_fail_fast_protection
from failstop._failsafe import FailSafe
from failstop._gateway import Gateway
from failstop._latch import State
from failstop._response import FailureResponse
from failstop.database import Database, DatabaseHealth, deadline
from failstop.diagnosis import Diagnoser, Verdict
from failstop.errors import (
    CommitOutcomeUnknownError,
    ConfigurationError,
    ConnectionFailedError,
    CriticalDatabaseError,
    CriticalError,
    DatabaseUnavailableError,
    ErrorCode,
    GatewayUnavailableError,
    IdempotencyConflictError,
    KeyInFlightError,
    OperationsSuspendedError,
    Outcome,
    ReceiptExpiredError,
    ResetRefusedError,
    TransactionFailedError,
)
from failstop.recovery import Dependency, Recovery
from failstop.status import SystemStatus

if TYPE_CHECKING:
    from failstop.database import AsyncDatabase

__all__ = [
    "AsyncDatabase",
    "CommitOutcomeUnknownError",
    "ConfigurationError",
    "ConnectionFailedError",
    "CriticalDatabaseError",
    "CriticalError",
    "Database",
    "DatabaseHealth",
    "DatabaseUnavailableError",
    "Dependency",
    "Diagnoser",
    "ErrorCode",
    "FailSafe",
    "FailureResponse",
    "Gateway",
    "GatewayUnavailableError",
    "IdempotencyConflictError",
    "KeyInFlightError",
    "OperationsSuspendedError",
    "Outcome",
    "ProtectedCall",
    "ReceiptExpiredError",
    "Recovery",
    "ResetRefusedError",
    "State",
    "SystemStatus",
    "TransactionFailedError",
    "Verdict",
    "deadline",
    "schema",
    "with_fail_fast_protection",
]


def __getattr__(name: str) -> Any:
    """Import AsyncDatabase when it is first asked for: only then is greenlet needed."""
    if name != "AsyncDatabase":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from failstop.database import AsyncDatabase

    return AsyncDatabase
