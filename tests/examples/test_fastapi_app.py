"""The trading gateway, served by uvicorn, with its database taken away."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from tests.examples.harness import (
    ACTION,
    EXAMPLES,
    PATIENCE,
    TOKEN,
    PaperExchange,
    Service,
    Start,
    assert_failure,
    order,
    wait_until,
)

from failstop.testing import PostgresDatabase, PostgresServer

UVICORN = ("uvicorn", "--factory", "fastapi_app:create_app", "--port", "{port}")
RESET = "/admin/force-recovery-reset"
CLIENTS = 50
LAST = {"Connection": "close"}
"""For a request that ends in a 500, after which uvicorn drops the connection."""


@pytest.fixture
def gateway(start: Start, trading_server: PostgresServer) -> Service:
    return start_gateway(start, trading_server.url())


def start_gateway(start: Start, url: str) -> Service:
    service = start(*UVICORN, DATABASE_URL=url, FAILSTOP_ADMIN_TOKEN=TOKEN)
    service.wait_until_operational()
    return service


@pytest.fixture(scope="module")
def desk(start_once: Start, shared_database: PostgresDatabase) -> Service:
    """The gateway for what is no outage, with routes that provoke more of it."""
    words = ("uvicorn", "--factory", "probing_app:create_app", "--port", "{port}")
    service = start_once(*words, DATABASE_URL=shared_database.url())
    service.wait_until_operational()
    return service


def test_an_order_that_was_answered_201_is_listed(desk: Service) -> None:
    carol = {"user": "carol"}
    answer = desk.client.post("/api/orders", json=order(1) | carol)
    assert answer.status_code == 201
    [trade] = desk.client.get("/api/trades", params=carol).json()["trades"]
    assert trade == answer.json()
    assert trade["quantity"] == "2.5"
    assert desk.client.get("/api/trades", params={"user": "bob"}).json() == {"trades": []}


def test_the_same_order_twice_is_one_trade_and_the_same_answer(desk: Service) -> None:
    first, second = (desk.client.post("/api/orders", json=order(2)) for _ in range(2))
    assert (second.status_code, second.json()) == (201, first.json())
    listed = desk.client.get("/api/trades").json()["trades"]
    assert [trade for trade in listed if trade["orderId"] == "order-2"] == [first.json()]
    assert_normal_ever_since(desk)


def test_another_order_under_the_same_id_is_409_and_no_outage(desk: Service) -> None:
    desk.client.post("/api/orders", json=order(3))
    other = order(3) | {"quantity": "3"}
    assert desk.client.post("/api/orders", json=other).status_code == 409
    assert_normal_ever_since(desk)


def test_an_order_that_is_none_is_422_and_no_outage(desk: Service) -> None:
    no_id, no_user = {"orderId": "a\n"}, {"user": ""}
    for wrong in ({"quantity": "0"}, {"price": "NaN"}, {"side": "hold"}, no_id, no_user, {"x": 1}):
        assert desk.client.post("/api/orders", json={**order(4), **wrong}).status_code == 422
    assert_normal_ever_since(desk)


def test_a_syntax_error_is_no_outage(desk: Service) -> None:
    assert desk.client.post("/test/syntax-error", headers=LAST).status_code == 500
    assert_normal_ever_since(desk)


def test_a_deadlock_is_no_outage(desk: Service) -> None:
    for number in (5, 6):
        desk.client.post("/api/orders", json=order(number))
    names = ["order-5", "order-6"]

    async def lock_crosswise() -> list[int]:
        async with httpx.AsyncClient(base_url=desk.url, timeout=PATIENCE) as client:
            orders = [names, names[::-1]]
            asked = [client.post("/test/lock", params={"first": a, "second": b}) for a, b in orders]
            return sorted(answer.status_code for answer in await asyncio.gather(*asked))

    assert asyncio.run(lock_crosswise()) == [200, 500]
    desk.wait_until(lambda: "deadlock detected" in desk.log())
    assert_normal_ever_since(desk)


def test_without_a_token_nobody_can_halt_it_over_http(desk: Service) -> None:
    assert desk.order_by_person("/admin/halt").status_code == 404
    assert_normal_ever_since(desk)


def assert_normal_ever_since(service: Service) -> None:
    status = service.client.get("/api/system/status")
    assert status.status_code == 200
    assert status.json()["failSafeMode"]["epoch"] == 0
    assert service.alerts("trigger") == 0


@dataclass
class Seen:
    """The answers that fifty clients got, each with the moment its request began."""

    answers: list[tuple[float, httpx.Response]] = field(default_factory=list)
    placed: list[str] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def send(self, client: httpx.AsyncClient) -> None:
        """Place orders and list them in turn until told to stop."""
        while not self.stopping.is_set():
            wanted = order(next(self.numbers))
            began = time.monotonic()
            answer = await client.post("/api/orders", json=wanted)
            self.answers.append((began, answer))
            if answer.status_code == 201:
                self.placed.append(wanted["orderId"])
            began = time.monotonic()
            self.answers.append((began, await client.get("/api/trades", params={"user": "bob"})))

    def since(self, moment: float) -> list[httpx.Response]:
        return [answer for began, answer in self.answers if began >= moment]


async def kill_under_load(url: str, server: PostgresServer) -> tuple[Seen, float]:
    """Kill the server while fifty clients send; return what they saw, and when it was dead."""
    seen = Seen()
    limits = httpx.Limits(max_connections=CLIENTS)
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=limits) as client:
        clients = [asyncio.create_task(seen.send(client)) for _ in range(CLIENTS)]
        await wait_for(lambda: len(seen.placed) >= CLIENTS)
        await asyncio.to_thread(server.kill)
        dead = time.monotonic()
        await wait_for(lambda: len(seen.since(dead)) >= 4 * CLIENTS)
        seen.stopping.set()
        await asyncio.gather(*clients)
    return seen, dead


async def wait_for(is_true: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_until, is_true, lambda: "it did not come to that")


def test_a_kill_under_fifty_concurrent_requests_gives_503_one_alert_and_comes_back(
    gateway: Service, trading_server: PostgresServer
) -> None:
    seen, dead = asyncio.run(kill_under_load(gateway.url, trading_server))

    after = seen.since(dead)
    assert len(after) >= 4 * CLIENTS
    incidents = {assert_failure(answer)["incidentId"] for answer in after}
    assert len(incidents) == 1
    for _, answer in seen.answers:
        if answer.status_code not in (200, 201):
            assert_failure(answer)
    assert gateway.client.get("/api/system/status").status_code == 503
    gateway.wait_until(lambda: gateway.alerts("trigger") > 0)

    trading_server.start()
    gateway.wait_until_operational()
    assert gateway.alerts("trigger") == 1
    stored = {row[0] for row in trading_server.execute("SELECT order_id FROM trades")}
    assert set(seen.placed) <= stored


def test_a_trip_cancels_open_orders_once_and_recovery_waits_until_the_exchange_agrees(
    gateway: Service, trading_server: PostgresServer, exchange: PaperExchange
) -> None:
    gateway.client.post("/api/orders", json=order(1))
    exchange.put("order-1")
    trading_server.kill()
    assert_failure(gateway.client.get("/api/trades"))
    gateway.wait_until(lambda: exchange.orders == [])
    for each in ("order-1", "order-2"):
        exchange.put(each)

    trading_server.start()
    gateway.wait_until(lambda: failed_checks(gateway) == ["exchange_agrees"])
    answer = gateway.client.delete("/api/orders/order-2")
    assert_failure(answer)  # the database was the cause, so not even this is let through

    exchange.cancel("order-2")
    gateway.wait_until_operational()
    assert exchange.orders == ["order-1"]
    assert gateway.metric(ACTION.format("trading-gateway")) == 1
    assert gateway.alerts("trigger") == 1


def failed_checks(service: Service) -> list[str]:
    return [check["name"] for check in service.status()["checks"] if check["status"] == "fail"]


def test_a_halt_lets_only_cancellations_through_until_a_person_resets_it(
    start: Start, trading_database: PostgresDatabase, exchange: PaperExchange
) -> None:
    gateway = start_gateway(start, trading_database.url())
    assert gateway.client.post("/admin/halt", json={}).status_code == 401
    halted = gateway.order_by_person("/admin/halt")
    assert halted.status_code == 200
    gateway.wait_until(lambda: gateway.metric(ACTION.format("trading-gateway")) == 1)
    for number in (1, 2):
        exchange.put(f"order-{number}")
    assert_failure(gateway.client.post("/api/orders", json=order(1)))
    assert gateway.client.delete("/api/orders/order-1").status_code == 204
    assert exchange.orders == ["order-2"]

    page = gateway.client.get("/api/system/status", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert "prices look wrong" in page.text
    assert [gateway.client.get(path).status_code for path in ("/livez", "/readyz")] == [200, 503]
    labels = 'service="trading-gateway"'
    assert gateway.metric(f"failstop_needs_person{{{labels}}}") == 1
    gateway.wait_until(
        lambda: gateway.metric(f'failstop_permitted_total{{operation="cancel",{labels}}}') == 1
    )

    assert gateway.order_by_person(RESET, epoch=0).status_code == 409
    refused = gateway.order_by_person(RESET, epoch=halted.json()["epoch"])
    assert (refused.status_code, refused.json()["failed"]) == (409, ["exchange_agrees"])
    exchange.cancel("order-2")  # which is in no table
    assert gateway.order_by_person(RESET, epoch=halted.json()["epoch"]).status_code == 200
    assert gateway.client.post("/api/orders", json=order(1)).status_code == 201


def test_a_frozen_database_is_answered_503_and_comes_back_when_it_is_thawed(
    gateway: Service, trading_server: PostgresServer
) -> None:
    gateway.client.post("/api/orders", json=order(1))
    trading_server.freeze()
    assert_failure(gateway.client.get("/api/trades"))
    trading_server.thaw()
    gateway.wait_until_operational()
    assert len(gateway.client.get("/api/trades").json()["trades"]) == 1


def test_a_read_only_database_is_answered_503_and_comes_back_when_it_takes_writes(
    gateway: Service, trading_server: PostgresServer
) -> None:
    trading_server.make_read_only()
    assert_failure(gateway.client.post("/api/orders", json=order(1)))
    trading_server.make_read_only(False)
    gateway.wait_until_operational()
    assert gateway.client.get("/api/trades").json() == {"trades": []}


def test_a_service_started_without_its_database_answers_503_until_that_is_there(
    start: Start, trading_server: PostgresServer
) -> None:
    trading_server.stop()
    service = start(*UVICORN, DATABASE_URL=trading_server.url())
    assert_failure(service.client.get("/api/trades"))
    assert service.client.get("/readyz").status_code == 503
    trading_server.start()
    service.wait_until_operational()
    assert service.client.get("/api/trades").json() == {"trades": []}


def test_without_a_database_url_there_is_no_service(tmp_path: Path) -> None:
    path = os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")])
    store = str(tmp_path / "gateway.db")
    given = {"FAILSTOP_STORE": store, "EXCHANGE_URL": "http://localhost"}
    environment = {**os.environ, "PYTHONPATH": path, **given}
    environment.pop("DATABASE_URL", None)
    words = [sys.executable, "-c", "from fastapi_app import create_app; create_app()"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "DATABASE_URL" in done.stderr
