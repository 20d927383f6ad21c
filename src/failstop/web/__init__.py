"""What the service answers about itself, as plain functions without a request or a framework."""

from failstop.web._answer import Answer, failure_answer
from failstop.web._endpoints import (
    Endpoints,
    database_health,
    liveness,
    readiness,
    system_status,
)

__all__ = [
    "Answer",
    "Endpoints",
    "database_health",
    "failure_answer",
    "liveness",
    "readiness",
    "system_status",
]
