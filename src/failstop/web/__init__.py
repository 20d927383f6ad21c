"""What the service answers about itself, as plain functions without a request or a framework."""

from failstop.web._answer import Answer, failure_answer
from failstop.web._endpoints import (
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

__all__ = [
    "ANYBODY",
    "IDEMPOTENCY_KEY",
    "KEY_ERRORS",
    "REPLAYED",
    "Answer",
    "AsyncOnce",
    "Endpoints",
    "KeyRequiredError",
    "Once",
    "database_health",
    "failure_answer",
    "fingerprint_of",
    "is_async_database",
    "key_answer",
    "liveness",
    "read_key",
    "readiness",
    "scoped_key",
    "system_status",
]
