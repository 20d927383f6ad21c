"""The scope: what one protected call's guarded operations came to.

The boundary opens a scope, the guard writes into it. It travels in a context variable, so it
reaches into awaited code and into the worker threads to which frameworks copy their context.
Never here: what to do about it, which is the boundary's.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

from failstop.errors import CriticalError, Outcome

__all__ = ["GRAVITY", "Scope", "Work", "current_scope", "mark"]

GRAVITY = (Outcome.UNKNOWN, Outcome.COMMITTED, Outcome.ROLLED_BACK, Outcome.NOT_STARTED)
"""Outcomes, the gravest first."""


class Work(Protocol):
    """A guarded operation; its outcome is read when the response is made."""

    @property
    def outcome(self) -> Outcome:
        """What happened to the operation, as far as is known now."""


class Scope:
    """One protected call; `error` is the first critical failure that the guard saw in it."""

    __slots__ = ("error", "parent", "works")

    def __init__(self, parent: Scope | None) -> None:
        self.parent = parent
        self.error: CriticalError | None = None
        self.works: list[Work] | None = None

    def mark(self, error: CriticalError) -> None:
        """Record a critical failure here and in every enclosing scope; the first one stays."""
        scope: Scope | None = self
        while scope is not None:
            scope.error = scope.error or error
            scope = scope.parent

    def add(self, work: Work) -> None:
        """Let `work` speak in the outcome of this scope and of every enclosing one."""
        scope: Scope | None = self
        while scope is not None:
            if scope.works is None:
                scope.works = []
            scope.works.append(work)
            scope = scope.parent

    def outcome(self, error: CriticalError) -> Outcome:
        """Return the gravest outcome among `error` and the guarded operations of this scope."""
        outcomes = {error.outcome, *(work.outcome for work in self.works or ())}
        return next(outcome for outcome in GRAVITY if outcome in outcomes)


current_scope: ContextVar[Scope | None] = ContextVar("failstop_scope", default=None)


def mark(error: CriticalError) -> None:
    """Mark the current scope, where there is one."""
    scope = current_scope.get()
    if scope is not None:
        scope.mark(error)
