"""Several workers behind gunicorn: each of them stops, and none answers with a fallback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

from failstop.testing import PostgresServer

GUNICORN_APP = """
import os
from flask import Flask
from failstop import Database, FailSafe, Recovery
from failstop.flask import FailStop

failsafe = FailSafe("trading-api", recovery=Recovery(probe_interval=0.05, consecutive=2))
database = Database.connect(os.environ["DATABASE_URL"], failsafe, deadline=2.0)
app = Flask("trading")
FailStop(app, failsafe=failsafe, database=database)
failsafe.start()


@app.get("/trades")
def trades():
    try:
        return [row.symbol for row in database.query("SELECT 'BTC' AS symbol")]
    except Exception:
        return []
"""


@contextmanager
def gunicorn(directory: Path, url: str) -> Iterator[httpx.Client]:
    (directory / "trading_api.py").write_text(GUNICORN_APP)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        bind = f"fd://{listener.fileno()}"
        command = [sys.executable, "-m", "gunicorn", "--bind", bind, "--workers", "2"]
        server = subprocess.Popen(
            [*command, "--threads", "2", "--log-level", "error", "trading_api:app"],
            cwd=directory,
            env={**os.environ, "DATABASE_URL": url},
            pass_fds=[listener.fileno()],
        )
        try:
            port = listener.getsockname()[1]
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                yield client
        finally:
            server.terminate()
            server.wait(20)


def test_every_worker_of_gunicorn_stops(breakable_postgres: PostgresServer, tmp_path: Path) -> None:
    with gunicorn(tmp_path, breakable_postgres.url()) as client:
        wait_for(client, "/readyz", 200)
        breakable_postgres.kill()
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: client.get("/trades"), range(40)))
        assert {answer.status_code for answer in answers} == {503}, {
            answer.text for answer in answers
        }
        breakable_postgres.start()
        wait_for(client, "/readyz", 200)
        assert client.get("/trades").json() == ["BTC"]


def wait_for(client: httpx.Client, path: str, status: int) -> None:
    """Wait until `path` is answered with `status`, three times running: there may be workers."""
    limit = time.monotonic() + 60
    hits = 0
    while hits < 3:
        assert time.monotonic() < limit, f"{path} never came to {status}"
        hits = hits + 1 if client.get(path).status_code == status else 0
        time.sleep(0.02)
