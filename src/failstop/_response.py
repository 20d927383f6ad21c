"""The failure response: what a caller is told when a protected call came to a critical failure.

Lives here: the body, the status, the headers, and what counts as an HTTP answer that tells a
failure already. Never here: a framework; nothing that was not said by `failstop` itself.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from failstop._failsafe import REASONS, FailSafe
from failstop.errors import CriticalError, ErrorCode, OperationsSuspendedError, Outcome
from failstop.status import timestamp

__all__ = ["FailureResponse", "is_failure_answer", "response_for"]

NOUN = "Trading system"
PROBLEMS = {
    Outcome.NOT_STARTED: "https://failstop.dev/problems/suspended",
    Outcome.ROLLED_BACK: "https://failstop.dev/problems/failed",
    # took effect, and then something failed: like in doubt, it must not be sent under a new key
    Outcome.COMMITTED: "https://failstop.dev/problems/in-doubt",
    Outcome.UNKNOWN: "https://failstop.dev/problems/in-doubt",
}
STATUS = 503
SERVER_ERRORS = range(500, 600)


class FailureResponse(NamedTuple):
    """The answer to a protected call that failed, in the order that Flask takes as it is."""

    body: dict[str, Any]
    status: int
    headers: dict[str, str]


def response_for(
    error: CriticalError, outcome: Outcome, failsafe: FailSafe | None
) -> FailureResponse:
    """Return the response for `error` and the `outcome` of the call it ended, and count it."""
    if failsafe is not None:
        failsafe.count_response(outcome)
    error_code, reason = _cause(error)
    is_gateway = error_code is ErrorCode.GATEWAY_UNAVAILABLE
    title = f"{failsafe.noun if failsafe else NOUN} temporarily unavailable"
    body = {
        "type": PROBLEMS[outcome],
        "title": title,
        "status": STATUS,
        "error": title,
        "code": ErrorCode.GATEWAY_UNAVAILABLE if is_gateway else ErrorCode.SYSTEM_FAILURE,
        "message": "Operations suspended for safety.",
        "details": {
            "reason": reason,
            "errorCode": error_code,
            "outcome": outcome,
            "safeToRetry": outcome.safe_to_retry,
            "incidentId": error.incident_id,
            "timestamp": timestamp(error.occurred_at),
        },
    }
    return FailureResponse(_plain(body), STATUS, _headers(outcome, failsafe))


def _cause(error: CriticalError) -> tuple[ErrorCode, str]:
    """Return the code and the reason; for a refusal those of the incident that it speaks of."""
    if isinstance(error, OperationsSuspendedError):
        return error.cause_code, error.reason
    return error.error_code, REASONS[error.error_code]


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    """Return `body` with enumerations as plain text, for serializers that know no other."""
    return {
        name: _plain(value) if isinstance(value, dict) else _text(value)
        for name, value in body.items()
    }


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


def _headers(outcome: Outcome, failsafe: FailSafe | None) -> dict[str, str]:
    headers = {"Content-Type": "application/problem+json", "Cache-Control": "no-store"}
    if outcome.safe_to_retry and failsafe is not None and _recovers_itself(failsafe):
        recovery = failsafe.recovery
        wait = math.ceil(recovery.probe_interval * recovery.consecutive)
        headers["Retry-After"] = str(max(1, wait))
    return headers


def _recovers_itself(failsafe: FailSafe) -> bool:
    incident = failsafe.incident
    return failsafe.recovery.is_automatic and not (incident and incident.needs_person)


def is_failure_answer(answer: object) -> bool:
    """Say whether what a handler returned or raised is an HTTP answer of 500 or above.

    Known by the shapes of the frameworks: a tuple with the status second, or an object with
    `status_code`, `status` or, for what is raised, `code`.
    """
    if isinstance(answer, tuple):
        return len(answer) > 1 and _is_server_error(answer[1])
    names = ["status_code", "status"]
    if isinstance(answer, BaseException):
        names.append("code")
    return any(_is_server_error(getattr(answer, name, None)) for name in names)


def _is_server_error(status: object) -> bool:
    if isinstance(status, str):
        status = int(status[:3]) if status[:3].isdecimal() else None
    return isinstance(status, int) and status in SERVER_ERRORS
