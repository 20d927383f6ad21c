"""The bot API, served by waitress, with its gateway and its database taken away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.examples.harness import (
    ACTION,
    EXAMPLES,
    TOKEN,
    PaperExchange,
    Service,
    Start,
    assert_failure,
    order,
)

from failstop.testing import PostgresDatabase, PostgresServer
from trading import schema

UVICORN = ("uvicorn", "--factory", "fastapi_app:create_app", "--port", "{port}")
WAITRESS = ("waitress", "--listen", "127.0.0.1:{port}", "--call", "flask_app:create_app")


@pytest.fixture
def gateway(start: Start, trading_database: PostgresDatabase) -> Service:
    service = start(*UVICORN, DATABASE_URL=trading_database.url())
    service.wait_until_operational()
    return service


@pytest.fixture
def bot(start: Start, postgres_server: PostgresServer, gateway: Service) -> Iterator[Service]:
    """The bot API, with a database that is not the gateway's: a halt is for a whole database."""
    with postgres_server.fresh_database() as database:
        schema.create(database.url())
        bot = start_bot(start, database.url(), gateway)
        yield bot
        bot.close()


@pytest.fixture(scope="module")
def desk(start_once: Start, shared_database: PostgresDatabase) -> Service:
    """The gateway for what breaks nothing."""
    service = start_once(*UVICORN, DATABASE_URL=shared_database.url())
    service.wait_until_operational()
    return service


@pytest.fixture(scope="module")
def calm_bot(start_once: Start, shared_database: PostgresDatabase, desk: Service) -> Service:
    return start_bot(start_once, shared_database.url(), desk)


def start_bot(start: Start, url: str, gateway: Service) -> Service:
    environment = {"TRADING_GATEWAY_URL": gateway.url, "FAILSTOP_ADMIN_TOKEN": TOKEN}
    service = start(*WAITRESS, DATABASE_URL=url, **environment)
    service.wait_until_operational()
    return service


def test_trades_are_those_of_the_gateway(calm_bot: Service, desk: Service) -> None:
    placed = desk.client.post("/api/orders", json=order(1)).json()
    assert calm_bot.client.get("/api/bot/trades").json() == {"trades": [placed]}
    bobs = calm_bot.client.get("/api/bot/trades", params={"user": "bob"})
    assert bobs.json() == {"trades": []}


def test_a_gateway_that_is_gone_is_503_gateway_unavailable_until_it_is_back(
    bot: Service, gateway: Service
) -> None:
    gateway.end(signal.SIGKILL)
    details = assert_failure(bot.client.get("/api/bot/trades"), "GATEWAY_UNAVAILABLE")
    assert details["errorCode"] == "GATEWAY_UNAVAILABLE"
    assert_failure(bot.client.get("/api/bot/state?user=alice"), "GATEWAY_UNAVAILABLE")
    bot.wait_until(lambda: bot.alerts("trigger") == 1)

    gateway.start()
    bot.wait_until_operational()
    assert bot.client.get("/api/bot/trades").json() == {"trades": []}
    assert bot.alerts("trigger") == 1


def test_a_gateway_in_fail_safe_mode_is_503_and_no_empty_list(
    bot: Service, gateway: Service, trading_database: PostgresDatabase
) -> None:
    trading_database.server.execute(
        f'ALTER DATABASE "{trading_database.name}" SET default_transaction_read_only = on'
    )
    trading_database.terminate_backends()
    assert_failure(gateway.client.post("/api/orders", json=order(1)))
    assert_failure(bot.client.get("/api/bot/trades"), "GATEWAY_UNAVAILABLE")


def test_a_bot_is_made_on_the_first_call_and_kept(
    calm_bot: Service, shared_database: PostgresDatabase
) -> None:
    state = {"user": "alice", "isRunning": False, "strategy": "none"}
    assert calm_bot.client.get("/api/bot/state?user=alice").json() == state
    shared_database.execute("UPDATE bot_states SET is_running = true")
    assert calm_bot.client.get("/api/bot/state?user=alice").json() == state | {"isRunning": True}


def test_settings_are_stored_and_given_back(calm_bot: Service) -> None:
    for limit in ("10.5", "20"):
        wanted = {"maxPosition": limit, "isPaper": False}
        answer = calm_bot.client.put("/api/bot/settings?user=alice", json=wanted)
        assert answer.json() == wanted | {"user": "alice"}


PAPER = {"maxPosition": "1", "isPaper": True}


def test_settings_that_are_none_are_400_and_no_outage(calm_bot: Service) -> None:
    for wrong in ("much", "-1", "1e30", "NaN", None):
        wanted = PAPER | {"maxPosition": wrong}
        assert calm_bot.client.put("/api/bot/settings?user=alice", json=wanted).status_code == 400
    bodies: tuple[object, ...] = ({}, [], PAPER | {"isPaper": "no"})
    for body in bodies:
        assert calm_bot.client.put("/api/bot/settings?user=alice", json=body).status_code == 400
    for query in ("", f"?user={'x' * 65}"):
        assert calm_bot.client.put(f"/api/bot/settings{query}", json=PAPER).status_code == 400
    assert calm_bot.client.get("/readyz").status_code == 200


def test_a_halt_of_the_bots_lets_only_a_cancellation_through_to_the_gateway(
    bot: Service, gateway: Service, exchange: PaperExchange
) -> None:
    assert bot.order_by_person("/admin/halt").status_code == 200
    bot.wait_until(lambda: bot.metric(ACTION.format("bot-api")) == 1)
    exchange.put("order-1")
    assert_failure(bot.client.get("/api/bot/trades"))
    assert bot.client.delete("/api/bot/orders/order-1").status_code == 204
    assert exchange.orders == []
    assert gateway.client.get("/readyz").status_code == 200
    assert bot.client.get("/livez").status_code == 200
    page = bot.client.get("/api/system/status", headers={"Accept": "text/html"})
    assert "prices look wrong" in page.text


def test_a_killed_database_is_503_and_cancels_the_bots_orders_until_it_is_back(
    start: Start, trading_server: PostgresServer, gateway: Service, exchange: PaperExchange
) -> None:
    bot = start_bot(start, trading_server.url(), gateway)
    exchange.put("order-1")
    trading_server.kill()
    assert_failure(bot.client.get("/api/bot/state?user=alice"))
    details = assert_failure(bot.client.put("/api/bot/settings?user=alice", json=PAPER))
    assert details["outcome"] == "NOT_STARTED"
    bot.wait_until(lambda: exchange.orders == [])

    trading_server.start()
    bot.wait_until_operational()
    assert bot.client.put("/api/bot/settings?user=alice", json=PAPER).status_code == 200
    assert bot.alerts("trigger") == 1


@pytest.mark.parametrize(
    "missing", ["DATABASE_URL", "TRADING_GATEWAY_URL", "EXCHANGE_URL", "FAILSTOP_STORE"]
)
def test_without_its_settings_there_is_no_service(missing: str, tmp_path: Path) -> None:
    given = {
        "DATABASE_URL": "postgresql://localhost/trading",
        "TRADING_GATEWAY_URL": "http://localhost",
        "EXCHANGE_URL": "http://localhost",
        "FAILSTOP_STORE": str(tmp_path / "bot.db"),
    }
    environment = {**os.environ, **given}
    del environment[missing]
    environment["PYTHONPATH"] = os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")])
    words = [sys.executable, "-c", "from flask_app import create_app; create_app()"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert missing in done.stderr
