"""A real PostgreSQL is killed behind real servers: no data, one incident, and recovery by proof."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from flask import Flask

from failstop import AsyncDatabase, Database, FailSafe, Recovery
from failstop.events import Tripped
from failstop.fastapi import install
from failstop.flask import FailStop
from failstop.testing import PostgresServer

Serve = Callable[[Any], httpx.Client]

RECOVERY = Recovery(probe_interval=0.05, consecutive=2)
SQL = "SELECT 'BTC' AS symbol"


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def flask_app(failsafe: FailSafe, url: str, closing: ExitStack) -> Flask:
    database = Database.connect(url, failsafe, deadline=2.0)
    closing.callback(database.engine.dispose)
    app = Flask("trading")
    FailStop(app, failsafe=failsafe, database=database)

    @app.get("/trades")
    def trades() -> list[str]:
        try:
            return [row.symbol for row in database.query(SQL)]
        except Exception:
            return []

    return app


def fastapi_app(failsafe: FailSafe, url: str, closing: ExitStack) -> FastAPI:
    database = AsyncDatabase.connect(url, failsafe, deadline=2.0)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await database.engine.dispose()

    app = FastAPI(lifespan=lifespan)
    install(app, failsafe=failsafe, database=database)

    @app.get("/trades")
    async def trades() -> list[str]:
        try:
            return [row.symbol for row in await database.query(SQL)]
        except Exception:
            return []

    return app


@pytest.mark.parametrize("adapter", ["flask", "fastapi"])
def test_a_killed_database_is_answered_with_503_until_recovery_is_proven(
    adapter: str,
    breakable_postgres: PostgresServer,
    closing: ExitStack,
    request: pytest.FixtureRequest,
) -> None:
    failsafe = FailSafe("trading-api", recovery=RECOVERY)
    trips: list[Tripped] = []
    failsafe.subscribe(lambda event: trips.append(event) if isinstance(event, Tripped) else None)
    make = {"flask": flask_app, "fastapi": fastapi_app}[adapter]
    app = make(failsafe, breakable_postgres.url(), closing)
    serve: Serve = request.getfixturevalue("serve_wsgi" if adapter == "flask" else "serve_asgi")
    with failsafe:
        client = serve(app)
        wait_for(client, "/readyz", 200)
        assert client.get("/trades").json() == ["BTC"]
        assert client.get("/api/database/health").json()["status"] == "up"
        breakable_postgres.kill()
        wait_for(client, "/readyz", 503)
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: client.get("/trades"), range(50)))
        assert {answer.status_code for answer in answers} == {503}
        assert {answer.json()["code"] for answer in answers} == {"SYSTEM_FAILURE"}
        wait_for(client, "/api/database/health", 503)
        assert client.get("/livez").status_code == 200
        assert len(trips) == 1
        breakable_postgres.start()
        wait_for(client, "/api/system/status", 200)
        assert client.get("/trades").json() == ["BTC"]


def test_a_handler_that_swallows_while_the_server_dies_returns_no_data(
    breakable_postgres: PostgresServer, closing: ExitStack, serve_wsgi: Serve
) -> None:
    """The monitor looks once a minute: it is the request that finds the server gone."""
    failsafe = FailSafe("trading-api", recovery=Recovery(probe_interval=60.0))
    app = flask_app(failsafe, breakable_postgres.url(), closing)
    with failsafe:
        client = serve_wsgi(app)
        assert client.get("/trades").json() == ["BTC"]
        breakable_postgres.kill()
        assert failsafe.is_normal
        answer = client.get("/trades")
        assert answer.status_code == 503
        assert answer.json()["details"]["safeToRetry"] is True
        assert not failsafe.is_normal


def wait_for(client: httpx.Client, path: str, status: int) -> None:
    """Wait until `path` is answered with `status`, three times running: there may be workers."""
    limit = time.monotonic() + 60
    hits = 0
    while hits < 3:
        assert time.monotonic() < limit, f"{path} never came to {status}"
        hits = hits + 1 if client.get(path).status_code == status else 0
        time.sleep(0.02)


def test_a_person_halts_and_resets_with_the_database_dead(
    breakable_postgres: PostgresServer,
    serve_wsgi: Serve,
    closing: ExitStack,
) -> None:
    token = "a-token-that-is-long-enough-for-a-dead-database"
    bearer = {"Authorization": f"Bearer {token}"}
    who = {"actor": "ann", "reason": "the server is gone"}
    with FailSafe("trading-api", recovery=RECOVERY) as failsafe:
        database = Database.connect(breakable_postgres.url(), failsafe, deadline=2.0)
        closing.callback(database.engine.dispose)
        app = Flask("trading")
        FailStop(app, failsafe=failsafe, database=database, admin_token=token)
        client = serve_wsgi(app)
        breakable_postgres.kill()
        halted = client.post("/admin/halt", json=who, headers=bearer)
        assert (halted.status_code, halted.json()["state"]) == (200, "FAIL_SAFE")
        order = {**who, "epoch": halted.json()["epoch"]}
        refused = client.post("/admin/force-recovery-reset", json=order, headers=bearer)
        assert refused.status_code == 409
        assert "database" in refused.json()["plan"]["missing"]
        page = client.get("/api/system/status", headers={"Accept": "text/html"})
        assert "Halted" in page.text
        breakable_postgres.start()
        order["epoch"] = failsafe.epoch
        reset = client.post("/admin/force-recovery-reset", json=order, headers=bearer)
        assert (reset.status_code, reset.json().get("state")) == (200, "NORMAL"), reset.text
