"""The checks of the FailSafe's own: its store, its settings, and what a failed start means."""

from __future__ import annotations

import contextlib

from failstop._storefile import StoreError
from failstop.errors import CriticalError, Outcome
from failstop.recovery._monitor import Configured, Dependency, Round

__all__ = ["StoreCheck", "failed_round", "verify_settings"]


class StoreCheck:
    """The store as a check: it was asked just now."""

    def __init__(self, problem: StoreError | None) -> None:
        self._problem = problem

    def __call__(self) -> str:
        if self._problem is not None:
            raise self._problem
        return "was read and written"


def verify_settings(dependency: Dependency) -> None:
    """Return where no setting voids a claim, or the dependency cannot be used now.

    Raises:
        ConfigurationError: one does.
    """
    if isinstance(dependency, Configured):
        with contextlib.suppress(CriticalError):  # the check round says so
            dependency.verify_settings()


def failed_round(done: Round) -> CriticalError:
    """Return the failure that a first round with failed checks is."""
    text = f"these checks failed at start: {', '.join(done.failed)}"
    return CriticalError(text, kind="check_failed", outcome=Outcome.NOT_STARTED)
