"""The rules, one module each; a rule is a function from a module's context to findings.

Lives here: their table. Never here: output, files or settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from failstop.scan._context import Context
from failstop.scan._finding import Finding
from failstop.scan.rules import (
    another_store,
    answered_with_data,
    critical_swallowed,
    effect_in_transaction,
    fallback_by_environment,
    health,
    log_only,
    no_deadline,
    retry_around_commit,
    state_after_unknown,
    statement_swallowed,
    timeout_around_commit,
)

__all__ = ["FINDERS"]

FINDERS: dict[str, Callable[[Context], Iterator[Finding]]] = {
    "FS001": answered_with_data.find,
    "FS002": critical_swallowed.find,
    "FS003": another_store.find,
    "FS004": retry_around_commit.find,
    "FS005": statement_swallowed.find,
    "FS006": effect_in_transaction.find,
    "FS007": timeout_around_commit.find,
    "FS008": health.find,
    "FS009": no_deadline.find,
    "FS010": fallback_by_environment.find,
    "FS011": log_only.find,
    "FS012": state_after_unknown.find,
}
