"""Several workers behind gunicorn in prometheus_client's multiprocess mode: told as one service."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from tests.waiting import wait_until

from failstop.testing import PostgresServer

APP = """
import os
from flask import Flask
from failstop import Database, FailSafe, OperationsSuspendedError, Recovery
from failstop.flask import FailStop
from failstop.prometheus import instrument

failsafe = FailSafe(
    "trading-api", store="failstop.db", recovery=Recovery(probe_interval=0.1, consecutive=2)
)
database = Database.connect(os.environ["DATABASE_URL"], failsafe, deadline=2.0)
instrument(failsafe)
app = Flask("trading")
FailStop(app, failsafe=failsafe, database=database)


@app.get("/trades")
def trades():
    return [row.symbol for row in database.query("SELECT 'BTC' AS symbol")]


@app.get("/pid")
def pid():
    return str(os.getpid())
"""
CONFIG = """
import contextlib

from prometheus_client import multiprocess


def when_ready(server):
    if PRELOADS:  # what the master counted is not the workers' to tell
        import trading_api

        with contextlib.suppress(trading_api.OperationsSuspendedError):
            trading_api.failsafe.require()


def post_fork(server, worker):
    if PRELOADS:
        import trading_api

        trading_api.failsafe.start()


def post_worker_init(worker):
    if not PRELOADS:
        import trading_api

        trading_api.failsafe.start()


def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
"""


class Workers:
    """The workers, and what their files say together."""

    def __init__(self, client: httpx.Client, files: Path) -> None:
        self.client = client
        self._files = files

    def __call__(self, name: str, **labels: str) -> float | None:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(self._files))  # type: ignore[no-untyped-call]
        facts = {"service": "trading-api", **labels}
        with contextlib.suppress(struct.error):  # prometheus_client reads a file before it is made
            return registry.get_sample_value(f"failstop_{name}", facts)
        return None

    def are(self, state: str, count: int = 2) -> bool:
        return self("state", state=state) == self("processes") == count


@contextmanager
def gunicorn(directory: Path, url: str, *, preloads: bool) -> Iterator[Workers]:
    (directory / "trading_api.py").write_text(APP)
    (directory / "gunicorn.conf.py").write_text(f"PRELOADS = {preloads}\n{CONFIG}")
    files = directory / "metrics"
    files.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        options = ["--bind", f"fd://{listener.fileno()}", "--workers", "2", "--threads", "2"]
        options += ["--log-level", "error", *(["--preload"] if preloads else [])]
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *options, "trading_api:app"],
            cwd=directory,
            env={**os.environ, "DATABASE_URL": url, "PROMETHEUS_MULTIPROC_DIR": str(files)},
            pass_fds=[listener.fileno()],
        )
        try:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=address, timeout=20) as client:
                yield Workers(client, files)
        finally:
            server.terminate()
            server.wait(20)


@pytest.mark.parametrize("preloads", [False, True])
def test_workers_are_told_as_one_service(
    breakable_postgres: PostgresServer, tmp_path: Path, preloads: bool
) -> None:
    with gunicorn(tmp_path, breakable_postgres.url(), preloads=preloads) as workers:
        wait_until(lambda: workers.are("NORMAL"), 30)
        for _ in range(20):
            assert workers.client.get("/trades").status_code == 200
        read = {"database": "database", "result": "read"}
        wait_until(lambda: workers("operations_total", **read) == 20)
        assert (workers("observation_timestamp_seconds") or 0) > 0
        assert workers("database_up", database="database") == 2
        assert workers("refusals_total") == 0

        breakable_postgres.kill()
        wait_until(lambda: workers.are("FAIL_SAFE"), 30)
        assert workers.client.get("/trades").status_code == 503
        wait_until(lambda: workers("responses_total", outcome="NOT_STARTED") == 1)
        assert workers("database_up", database="database") == 0
        assert workers("epoch") == 1

        breakable_postgres.start()
        wait_until(lambda: workers.are("NORMAL"), 30)
        os.kill(int(workers.client.get("/pid").text), signal.SIGKILL)
        wait_until(lambda: not workers.are("NORMAL"))
        wait_until(lambda: workers.are("NORMAL"), 30)
        assert workers("operations_total", **read) == 20
