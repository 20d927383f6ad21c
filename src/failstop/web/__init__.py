"""What the service answers about itself, as plain functions without a request or a framework."""

from failstop.web._answer import Answer, failure_answer, problem_answer
from failstop.web._endpoints import (
    Endpoint,
    Endpoints,
    database_health,
    liveness,
    readiness,
    system_status,
)
from failstop.web._idempotency import (
    ANYBODY,
    IDEMPOTENCY_KEY,
    KEY_ERRORS,
    REPLAYED,
    AsyncOnce,
    KeyRequiredError,
    Once,
    fingerprint_of,
    is_async_database,
    key_answer,
    read_key,
    scoped_key,
)
from failstop.web._operations import Operations
from failstop.web._request import MOST_BODY, Request, headers_of
from failstop.web._tokens import AdminToken, Tokens

__all__ = [
    "ANYBODY",
    "IDEMPOTENCY_KEY",
    "KEY_ERRORS",
    "MOST_BODY",
    "REPLAYED",
    "AdminToken",
    "Answer",
    "AsyncOnce",
    "Endpoint",
    "Endpoints",
    "KeyRequiredError",
    "Once",
    "Operations",
    "Request",
    "Tokens",
    "database_health",
    "failure_answer",
    "fingerprint_of",
    "headers_of",
    "is_async_database",
    "key_answer",
    "liveness",
    "problem_answer",
    "read_key",
    "readiness",
    "scoped_key",
    "system_status",
]
