"""One trading API for the servers with several workers; `wsgi.py` and `asgi.py` serve it.

`/whoami` is served in every state: which process answers, and whether it would let a call pass.
"""

from __future__ import annotations

import os
from typing import Any

from failstop import FailSafe, OperationsSuspendedError, Recovery

OPEN = ("/whoami", "/halt")

failsafe = FailSafe(
    "trading-api", store=os.environ["STORE"], recovery=Recovery(probe_interval=0.2, consecutive=2)
)
failsafe.start()


def whoami() -> dict[str, Any]:
    try:
        failsafe.require()
    except OperationsSuspendedError:
        passes = False
    else:
        passes = True
    elected = failsafe._rounds.election.is_elected
    return {"pid": os.getpid(), "passes": passes, "elected": elected}


def halt() -> dict[str, Any]:
    failsafe.halt(actor="ann", reason="a test")
    return {"pid": os.getpid()}


def order() -> dict[str, Any]:
    return {"pid": os.getpid()}
