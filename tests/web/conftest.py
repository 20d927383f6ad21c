"""Real servers on the loopback interface, and a FailSafe that stays where a test brings it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from waitress import wasyncore
from waitress.server import create_server

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
        yield lambda app: stack.enter_context(_uvicorn(app))


@pytest.fixture
def serve_wsgi() -> Iterator[Serve]:
    """Serve a WSGI application with waitress; give a client for it."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(_waitress(app))


@contextmanager
def _uvicorn(app: Any) -> Iterator[httpx.Client]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_config=None, lifespan="auto", timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            _wait_until(lambda: server.started or not thread.is_alive())
            yield from _client(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


@contextmanager
def _waitress(app: Any) -> Iterator[httpx.Client]:
    channels: dict[int, Any] = {}
    listener = socket.create_server(("127.0.0.1", 0))
    server = create_server(app, map=channels, sockets=[listener], threads=4)
    stopping = threading.Event()

    def run() -> None:
        while not stopping.is_set():
            wasyncore.loop(timeout=0.05, map=channels, count=1)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield from _client(listener.getsockname()[1])
    finally:
        stopping.set()
        thread.join(20)
        assert not thread.is_alive()
        server.task_dispatcher.shutdown()
        wasyncore.close_all(channels)


def _client(port: int) -> Iterator[httpx.Client]:
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
        yield client


def _wait_until(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < limit, "it never came to hold"
        time.sleep(0.005)
