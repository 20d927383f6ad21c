"""Real servers on the loopback interface, and a FailSafe that stays where a test brings it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from tests.serving import serving_asgi, serving_wsgi

from failstop import FailSafe, Recovery

Serve = Callable[[Any], httpx.Client]


@pytest.fixture
def failsafe() -> Iterator[FailSafe]:
    """A started FailSafe whose monitor looks once a minute, so that a trip lasts."""
    with FailSafe("trading-api", recovery=Recovery(probe_interval=60.0)) as made:
        yield made


@pytest.fixture
def serve_asgi() -> Iterator[Serve]:
    """Serve an ASGI application with uvicorn; give a client for it."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(serving_asgi(app))


@pytest.fixture
def serve_wsgi() -> Iterator[Serve]:
    """Serve a WSGI application with waitress; give a client for it."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(serving_wsgi(app))
