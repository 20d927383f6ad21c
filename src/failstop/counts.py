"""The counts: how often what happened in this process, exact, at the price of a plain increment.

Whoever decides something counts it, at the one place where it is decided; whoever measures reads
the numbers when it likes. Never here: a lock, a clock, or a metric system's words.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from failstop.errors import Outcome

__all__ = ["Counted", "Counts", "DatabaseCounts", "Deadline", "PoolUse", "Result", "Tally"]


class Tally:
    """A number that any number of threads count up: `tally.one()`, without a lock or a loss."""

    __slots__ = ("_numbers", "one")

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self.one: Callable[[], int] = self._numbers.__next__

    @property
    def count(self) -> int:
        """How often `one()` was called so far."""
        return int(repr(self._numbers)[6:-1])  # "count(7)": a look that takes no number


class Result(StrEnum):
    """How a guarded operation ended.

    Nothing failed in COMMITTED, READ and ROLLED_BACK, which the block itself wanted. In CONFLICT
    and APPLICATION_ERROR the database refused the work and is well. FAILED was ended by a critical
    failure or by a trip; what became of UNKNOWN is asked for.
    """

    COMMITTED = "committed"
    READ = "read"
    ROLLED_BACK = "rolled_back"
    CONFLICT = "conflict"
    APPLICATION_ERROR = "application_error"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Deadline(StrEnum):
    """Who ended what outlasted its time.

    SERVER is the server's own `statement_timeout` (or a person who cancelled the statement), CALL
    an operation that was not sent or was thrown away since its call was over, WATCHDOG the silence
    of a server that was cut off.
    """

    SERVER = "server"
    CALL = "call"
    WATCHDOG = "watchdog"


@dataclass(frozen=True, slots=True)
class PoolUse:
    """A connection pool as it is now; `limit` is None where it has none."""

    in_use: int
    idle: int
    limit: int | None
    waiting: int


@dataclass(frozen=True, slots=True)
class DatabaseCounts:
    """What one guarded database came to in this process; `pool` is None where there is none."""

    operations: Mapping[Result, int]
    deadlines: Mapping[Deadline, int]
    pool: PoolUse | None


@runtime_checkable
class Counted(Protocol):
    """A dependency that counts what it does."""

    def counts(self) -> DatabaseCounts:
        """Return the numbers as they are now; asks nothing of the database."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What one FailSafe came to in this process.

    `refusals` are calls that were refused, `responses` failure responses by the outcome that they
    told, `databases` what each guarded database counted, by its name.
    """

    refusals: int
    responses: Mapping[Outcome, int]
    databases: Mapping[str, DatabaseCounts]
