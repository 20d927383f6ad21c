"""Real servers on the loopback interface."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from waitress import wasyncore
from waitress.server import create_server

__all__ = ["serving_asgi", "serving_wsgi"]


@contextmanager
def serving_asgi(app: Any) -> Iterator[httpx.Client]:
    """Serve an ASGI application with uvicorn; give a client for it."""
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
def serving_wsgi(app: Any) -> Iterator[httpx.Client]:
    """Serve a WSGI application with waitress; give a client for it."""
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
