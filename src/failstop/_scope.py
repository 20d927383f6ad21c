"""The scope: what one protected call's guarded operations came to.

The boundary opens a scope, the guard writes into it. It travels in a context variable, so it
reaches into awaited code and into the worker threads to which frameworks copy their context.
Never here: what to do about it, which is the boundary's.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextvars import ContextVar, Token
from typing import Protocol

from failstop.errors import CriticalError, Outcome

__all__ = ["GRAVITY", "Scope", "Work", "current_scope", "mark"]

GRAVITY = (Outcome.UNKNOWN, Outcome.COMMITTED, Outcome.ROLLED_BACK, Outcome.NOT_STARTED)
"""Outcomes, the gravest first."""

MANY = 64
"""Works after which those that ended are folded, so that a stream that never ends stays small."""

_folding = threading.Lock()


class Work(Protocol):
    """A guarded operation; its outcome is read when the response is made."""

    @property
    def outcome(self) -> Outcome:
        """What happened to the operation, as far as is known now."""

    @property
    def is_open(self) -> bool:
        """True until the operation has ended and its outcome changes no more."""


class Scope:
    """One protected call; `error` is the first critical failure that was seen in it.

    `token` is the context variable's, from when the scope was first entered: that it is the first
    makes a circle of parents impossible.

    The defaults are the class's: one is made for every protected call, and an `__init__` would
    be a third of what that costs. Threads share a scope, so whatever changes it is atomic.
    """

    token: Token[Scope | None] | None = None
    error: CriticalError | None = None
    is_closed: bool = False
    works: Sequence[Work] = ()
    marks: Sequence[CriticalError] = ()

    @property
    def parent(self) -> Scope | None:
        """The scope in which this one was first entered."""
        outer = self.token.old_value if self.token is not None else None
        return outer if isinstance(outer, Scope) else None

    def mark(self, error: CriticalError) -> None:
        """Record a critical failure here and in every enclosing scope; the first one stays."""
        scope: Scope | None = self
        while scope is not None:
            scope.error = scope.error or error
            marks: list[CriticalError] = scope.__dict__.setdefault("marks", [])
            is_doubt = error.outcome is Outcome.UNKNOWN  # it may be found out later: each counts
            if error not in marks and (is_doubt or error.outcome not in scope.marked):
                marks.append(error)
            scope = scope.parent

    def add(self, work: Work) -> None:
        """Let `work` speak in the outcome of this scope and of every enclosing one.

        A scope that is over takes no more: a task that it began may run for ever.
        """
        scope: Scope | None = self
        while scope is not None:
            if not scope.is_closed:
                works: list[Work] = scope.__dict__.setdefault("works", [])
                works.append(work)
                if len(works) > MANY:
                    _fold(works)
            scope = scope.parent

    @property
    def has_open_work(self) -> bool:
        """True while the outcome of this scope may still change."""
        return any(work.is_open for work in tuple(self.works))

    @property
    def marked(self) -> set[Outcome]:
        """The outcomes of the failures that were marked, as they are known now."""
        return {error.outcome for error in tuple(self.marks)}

    @property
    def outcome(self) -> Outcome:
        """The gravest outcome among the marks and the guarded operations of this scope."""
        outcomes = self.marked | {work.outcome for work in tuple(self.works)}
        return next((each for each in GRAVITY if each in outcomes), Outcome.NOT_STARTED)


def _fold(works: list[Work]) -> None:
    """Keep the works that are open, and one for each outcome of those that ended.

    One thread at a time: others append meanwhile, behind what is replaced here.
    """
    if not _folding.acquire(blocking=False):
        return
    try:
        seen = works[:]
        ended = {work.outcome: work for work in seen if not work.is_open}
        works[: len(seen)] = [*(work for work in seen if work.is_open), *ended.values()]
    finally:
        _folding.release()


current_scope: ContextVar[Scope | None] = ContextVar("failstop_scope", default=None)


def mark(error: CriticalError) -> None:
    """Mark the current scope, where there is one."""
    scope = current_scope.get()
    if scope is not None:
        scope.mark(error)
