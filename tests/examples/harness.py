"""The examples as processes: started as their documentation says, on a free port of loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import httpx
from werkzeug.serving import make_server

from paper_exchange import create_app as create_exchange

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PATIENCE = 60.0
TOKEN = "the-token-of-a-person-in-these-tests"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}
ACTION = 'failstop_actions_total{{action="cancel_open_orders",service="{}",state="ENDED"}}'


class Process:
    """One running example, with what it logged."""

    def __init__(self, words: Sequence[str], log: Path, **environment: str) -> None:
        self._words = [sys.executable, "-m", *words]
        self._log = log
        path = [str(EXAMPLES), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._words, env=self._environment, stdout=log, stderr=log, cwd=self._log.parent
            )

    def log(self) -> str:
        return self._log.read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal and return its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end and return its exit code."""
        assert self._process is not None
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def close(self) -> None:
        """End it where it still runs."""
        if self.is_running:
            self.end()

    @property
    def is_running(self) -> bool:
        """True until it has ended."""
        return self._process is not None and self._process.poll() is None


class Service(Process):
    """A process that serves HTTP."""

    def __init__(self, words: Sequence[str], port: int, log: Path, **environment: str) -> None:
        super().__init__(words, log, **environment)
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE)

    def start(self) -> None:
        super().start()
        self.wait_until(lambda: self._status_of("/livez") == 200)

    def close(self) -> None:
        super().close()
        self.client.close()

    def wait_until(self, is_true: Callable[[], bool]) -> None:
        """Wait for a condition; where it does not come, show the log."""
        wait_until(is_true, self.log)

    def wait_until_operational(self) -> None:
        """Wait until the status endpoint answers 200."""
        self.wait_until(lambda: self._status_of("/api/system/status") == 200)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get("/api/system/status").json()
        return found

    def metric(self, sample: str) -> float:
        """Return the value of a sample, with its labels in order; zero where it is not told."""
        lines = self.client.get("/metrics").raise_for_status().text.splitlines()
        return next((float(line[len(sample) :]) for line in lines if line.startswith(sample)), 0.0)

    def order_by_person(self, path: str, **fields: object) -> httpx.Response:
        """Send an order of a person with a token."""
        given = {"actor": "alice", "reason": "prices look wrong", **fields}
        return self.client.post(path, json=given, headers=ADMIN)

    def alerts(self, action: str) -> int:
        """Return how many alerts of an action the service has logged."""
        return self.log().count(f":failstop.alerts:{action}: ")

    def _status_of(self, path: str) -> int | None:
        try:
            return self.client.get(path).status_code
        except httpx.TransportError:
            assert self.is_running, self.log()
            return None


class PaperExchange:
    """The exchange of the examples, served by a thread, with the orders that rest there."""

    def __init__(self) -> None:
        self._server = make_server("127.0.0.1", 0, create_exchange(), threaded=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self._server.port}")

    @property
    def url(self) -> str:
        return str(self.client.base_url)

    def put(self, order_id: str) -> None:
        self.client.put(f"/orders/{order_id}").raise_for_status()

    def cancel(self, order_id: str) -> None:
        self.client.delete(f"/orders/{order_id}").raise_for_status()

    @property
    def orders(self) -> list[str]:
        found: list[str] = self.client.get("/orders").json()["orders"]
        return found

    def close(self) -> None:
        self.client.close()
        self._server.shutdown()
        self._server.server_close()


class Start(Protocol):
    """Start a service; `{port}` in its words is the port it is given."""

    def __call__(self, *words: str, **environment: str) -> Service: ...


@contextlib.contextmanager
def starting(directory: Path, exchange: PaperExchange) -> Iterator[Start]:
    """Give what starts services that trade at `exchange`; they end with the block."""
    with contextlib.ExitStack() as stack:

        def start(*words: str, **environment: str) -> Service:
            port = stack.enter_context(reserved_port())
            words = tuple(word.format(port=port) for word in words)
            environment["FAILSTOP_STORE"] = str(directory / f"{port}.db")
            environment["EXCHANGE_URL"] = exchange.url
            service = Service(words, port, directory / f"{port}.log", **environment)
            stack.callback(service.close)
            service.start()
            return service

        yield start


def wait_until(is_true: Callable[[], bool], log: Callable[[], str]) -> None:
    limit = time.monotonic() + PATIENCE
    while not is_true():
        assert time.monotonic() < limit, log()
        time.sleep(0.05)


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """Give a port that nobody else is given, and that a server can listen on (Linux)."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def order(number: int) -> dict[str, str]:
    return {
        "orderId": f"order-{number}",
        "user": "alice",
        "symbol": "ACME",
        "side": "buy",
        "quantity": "2.5",
        "price": "100",
    }


def assert_failure(answer: httpx.Response, code: str = "SYSTEM_FAILURE") -> dict[str, Any]:
    """Check an answer against the contract of failure responses; return its details."""
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert set(body) == {"type", "title", "status", "error", "code", "message", "details"}
    assert body["type"].startswith("https://failstop.dev/problems/")
    assert body["title"] == body["error"] == "Trading system temporarily unavailable"
    assert (body["status"], body["code"]) == (503, code)
    assert body["message"] == "Operations suspended for safety."
    details: dict[str, Any] = body["details"]
    names = {"reason", "errorCode", "outcome", "safeToRetry", "incidentId", "timestamp"}
    assert set(details) == names
    assert details["safeToRetry"] is (details["outcome"] in ("NOT_STARTED", "ROLLED_BACK"))
    return details
