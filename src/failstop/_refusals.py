"""Refusals: made in about a microsecond, counted exactly, by any number of threads.

Never here: whether a call is refused.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from failstop._latch import State
from failstop._scope import current_scope
from failstop._standing import Standing
from failstop.counts import Tally
from failstop.errors import OperationsSuspendedError

__all__ = ["Refusals"]


_Template = tuple[Standing, str, dict[str, Any]]
"""What all refusals of one standing say: that standing, the message, the attributes."""

new = OperationsSuspendedError.__new__
now = datetime.now


class Refusals:
    """Refuse calls of `service`; `is_automatic` says whether recovery needs no person."""

    def __init__(self, service: str, *, is_automatic: bool) -> None:
        self._service = service
        self._is_automatic = is_automatic
        self._template: _Template = self._make(Standing())
        self._tally = Tally()
        self._count_one = self._tally.one

    @property
    def count(self) -> int:
        """The number of refusals so far in this process."""
        return self._tally.count

    def refusal(self, standing: Standing) -> OperationsSuspendedError:
        """Return the refusal of `standing`; what it says is made once a standing, not once a call.

        It is returned, not raised: an error and the frame that raises it must not hold one
        another, or the garbage collector would have more work than all the rest.
        """
        self._count_one()
        said, message, facts = self._template
        if said is not standing:
            said, message, facts = self._template = self._make(standing)
        error = new(OperationsSuspendedError, message)
        error.__dict__ = facts = facts.copy()  # a constructor would take twice as long
        facts["occurred_at"] = now(UTC)
        scope = current_scope.get()
        if scope is not None:
            scope.mark(error)
        return error

    def _make(self, standing: Standing) -> _Template:
        incident = standing.incident
        if incident is None:
            state = standing.latch.state
            message = f"failsafe {self._service!r} is {state}; nothing is sent until NORMAL"
            if state is State.NORMAL:  # it was left between the look and this refusal
                message = f"failsafe {self._service!r} has just returned to NORMAL; send again"
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
        return standing, message, error.__dict__
