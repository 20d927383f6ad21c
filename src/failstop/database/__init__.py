"""The guard over SQLAlchemy: queries and transactions that trip the latch where it fails."""

from typing import TYPE_CHECKING, Any

from failstop.database._database import Database, IsolationLevel
from failstop.database._deadline import deadline
from failstop.database._findings import Finding, Severity
from failstop.database._health import DatabaseHealth
from failstop.database._prune import Pruned
from failstop.database._roll import Process

if TYPE_CHECKING:
    from failstop.database._async import AsyncDatabase

__all__ = [
    "AsyncDatabase",
    "Database",
    "DatabaseHealth",
    "Finding",
    "IsolationLevel",
    "Process",
    "Pruned",
    "Severity",
    "deadline",
]


def __getattr__(name: str) -> Any:
    """Import AsyncDatabase when it is first asked for: only then is greenlet needed."""
    if name != "AsyncDatabase":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from failstop.database._async import AsyncDatabase

    return AsyncDatabase
