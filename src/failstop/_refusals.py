"""Refusals: made in about a microsecond, counted exactly, by any number of threads.

Never here: whether a call is refused.
"""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from failstop import _scope
from failstop._standing import Standing
from failstop.errors import OperationsSuspendedError

__all__ = ["Refusals"]


@dataclass(frozen=True, slots=True)
class _Template:
    """What all refusals of one standing say."""

    standing: Standing
    message: str
    attributes: dict[str, Any]


class Refusals:
    """Refuse calls of `service`; `is_automatic` says whether recovery needs no person."""

    def __init__(self, service: str, *, is_automatic: bool) -> None:
        self._service = service
        self._is_automatic = is_automatic
        self._template: _Template | None = None
        # Each refusal takes one number, and so does each look at the count: no lock, no loss.
        self._numbers = itertools.count()
        self._looks = 0
        self.after_fork()

    def after_fork(self) -> None:
        """Begin with a lock of its own."""
        self._looking = threading.Lock()

    @property
    def count(self) -> int:
        """The number of refusals so far in this process."""
        with self._looking:
            count = next(self._numbers) - self._looks
            self._looks += 1
            return count

    def refuse(self, standing: Standing) -> NoReturn:
        """Raise the refusal of `standing`; what it says is made once a standing, not once a call.

        Raises:
            OperationsSuspendedError: always.
        """
        next(self._numbers)
        template = self._template
        if template is None or template.standing is not standing:
            template = self._template = self._make(standing)
        error = OperationsSuspendedError.__new__(OperationsSuspendedError, template.message)
        error.__dict__.update(template.attributes)
        error.occurred_at = datetime.now(UTC)
        _scope.mark(error)
        raise error

    def _make(self, standing: Standing) -> _Template:
        incident = standing.incident
        if incident is None:
            state = standing.latch.state
            message = f"failsafe {self._service!r} is {state}; nothing is sent until NORMAL"
            error = OperationsSuspendedError(message, kind=state.lower())
        else:
            by_person = incident.needs_person or not self._is_automatic
            way_out = "a reset by a person" if by_person else "verified recovery"
            message = (
                f"failsafe {self._service!r} is in fail-safe mode since "
                f"{incident.since:%H:%M:%SZ} ({incident.reason.lower()}); "
                f"operations resume after {way_out}"
            )
            error = OperationsSuspendedError(
                message,
                reason=incident.reason,
                cause_code=incident.error_code,
                incident_id=incident.incident_id,
            )
        return _Template(standing, message, error.__dict__)
