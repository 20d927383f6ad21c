"""Prometheus scrapes a service whose database is broken and mended: every panel has its data.

The alert rules are loaded too, so that they are seen to fire on what a service really tells.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.waiting import wait_until

from failstop.testing import FaultProxy, PostgresServer

DOCS = Path(__file__).parents[2] / "docs" / "monitoring"
SERVICE = Path(__file__).with_name("trading_service.py")
PROMETHEUS = shutil.which("prometheus")

pytestmark = pytest.mark.skipif(
    PROMETHEUS is None, reason="needs prometheus: apt-get install prometheus"
)


class Prometheus:
    """A real Prometheus, asked over its HTTP API."""

    def __init__(self, port: int) -> None:
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=10)

    @property
    def is_ready(self) -> bool:
        try:
            return self._client.get("/status/buildinfo").is_success
        except httpx.TransportError:
            return False

    def values(self, expression: str) -> list[float]:
        """Return what an expression comes to now, but for what is no number."""
        answer = self._client.get("/query", params={"query": expression})
        assert answer.is_success, (expression, answer.text)
        found = [float(each["value"][1]) for each in answer.json()["data"]["result"]]
        return [value for value in found if not math.isnan(value)]

    def labels(self, name: str) -> list[str]:
        found: list[str] = self._client.get(f"/label/{name}/values").json()["data"]
        return found

    def close(self) -> None:
        self._client.close()


@contextmanager
def process(*command: str, **settings: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, text=True, **settings) as started:
        try:
            yield started
        finally:
            started.terminate()
            started.wait(20)


@contextmanager
def service(directory: Path, url: str) -> Iterator[int]:
    command = (sys.executable, str(SERVICE), str(directory / "failstop.db"))
    environment = {**os.environ, "DATABASE_URL": url}
    with process(*command, env=environment, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        yield int(started.stdout.readline())


@contextmanager
def prometheus(directory: Path, target: int) -> Iterator[Prometheus]:
    assert PROMETHEUS is not None
    config = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
        "rule_files": [str(DOCS / "alerts.yml")],
        "scrape_configs": [
            {"job_name": "api", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
        ],
    }
    (directory / "prometheus.json").write_text(json.dumps(config))  # which is YAML too
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = (
        PROMETHEUS,
        f"--config.file={directory / 'prometheus.json'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    )
    with process(*command):
        made = Prometheus(port)
        try:
            wait_until(lambda: made.is_ready)
            yield made
        finally:
            made.close()


class Traffic:
    """Orders without a pause, each under a key of its own, and what was answered last."""

    def __init__(self, port: int) -> None:
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self.last = 0
        self.outcomes: set[str] = set()

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(30)
        self._client.close()

    def _send(self) -> None:
        for number in itertools.count():
            if self._is_over.wait(0.02):
                return
            answer = self._client.post(f"/orders/order-{number}")
            self.last = answer.status_code
            if answer.status_code == 503:
                self.outcomes.add(answer.json()["details"]["outcome"])

    def wait_for(self, status: int) -> None:
        self.last = 0
        wait_until(lambda: self.last == status, 30)


def queries() -> list[str]:
    board = json.loads((DOCS / "dashboard.json").read_text("utf-8"))
    return [each["expr"] for panel in board["panels"] for each in panel.get("targets", ())]


def told(query: str) -> str:
    return query.replace("$service", ".*").replace("$__rate_interval", "2m")


def test_every_panel_and_every_alert_speaks_of_a_service_that_broke(
    breakable_postgres: PostgresServer, tmp_path: Path
) -> None:
    breakable_postgres.execute("CREATE TABLE orders (key text PRIMARY KEY)")
    with (
        FaultProxy(breakable_postgres) as proxy,
        service(tmp_path, proxy.url(breakable_postgres.url())) as port,
        prometheus(tmp_path, port) as observed,
        Traffic(port) as traffic,
    ):
        traffic.wait_for(200)
        wait_until(lambda: observed.values('failstop_state{state="NORMAL"}') == [1])
        breakable_postgres.kill()
        traffic.wait_for(503)
        wait_until(lambda: fired(observed, "FailstopFailSafe"))
        breakable_postgres.start()
        traffic.wait_for(200)
        lose_a_reply(proxy, traffic)
        wait_until(lambda: fired(observed, "FailstopUnknownOutcomes"))
        wait_until(lambda: not silent(observed), 30)
        assert observed.labels("service") == ["trading-api"]
        wait_until(lambda: observed.values('failstop_state{state="NORMAL"}') == [1])
        assert observed.values("failstop_in_doubt") == [0]
        assert sum(observed.values("failstop_resolved_total")) >= 1
        assert families(port) == documented()


def lose_a_reply(proxy: FaultProxy, traffic: Traffic) -> None:
    """Lose the reply to an order's COMMIT; the probe commits too, and may be struck instead."""
    for _ in range(10):
        proxy.before_reply("COMMIT").black_hole().wait()
        traffic.wait_for(200)
        if "UNKNOWN" in traffic.outcomes:
            return
    raise AssertionError("no order was struck")


def fired(observed: Prometheus, alert: str) -> bool:
    return bool(observed.values(f'ALERTS{{alertname="{alert}",alertstate="firing"}}'))


def silent(observed: Prometheus) -> list[str]:
    return [query for query in queries() if not observed.values(told(query))]


def families(port: int) -> set[str]:
    """Return the names of failstop's metrics that a scrape has, as a query spells them."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    found = re.findall(r"^# TYPE (failstop_\w+) (counter|gauge|histogram)", text, re.MULTILINE)
    return {name for name, _ in found if not name.endswith("_created")}


def documented() -> set[str]:
    text = (DOCS / "index.md").read_text("utf-8")
    return set(re.findall(r"^\| `(failstop_\w+)", text, re.MULTILINE))
