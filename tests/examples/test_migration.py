"""The `after` version of the migration example, in front of a real PostgreSQL and a real venue."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

import pytest
from flask.testing import FlaskClient
from sqlalchemy.exc import IntegrityError

from failstop import AsyncDatabase, Database, FailSafe, Recovery
from failstop.testing import FaultProxy, PostgresDatabase, PostgresServer
from migration.after import reports, settlement, store
from migration.after.app import create_app
from migration.after.trading import Desk
from migration.after.venue import Venue

ORDER = {"id": "o-1", "symbol": "ACME", "side": "buy", "quantity": 10}


class FakeVenue(ThreadingHTTPServer):
    """A venue over HTTP that knows an order by its id, and counts what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.orders: dict[str, str] = {}
        self.sent = 0
        self.loses_answers = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeVenue

    def do_GET(self) -> None:
        if self.path == "/ready":
            self._answer(200, {})
            return
        reference = self.server.orders.get(self.path.rpartition("/")[2])
        self._answer(200 if reference else 404, {"reference": reference})

    def do_POST(self) -> None:
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.sent += 1
        self.server.orders[order["id"]] = f"v-{order['id']}"
        if self.server.loses_answers:
            self.close_connection = True
            return
        self._answer(201, {"reference": self.server.orders[order["id"]]})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *parts: object) -> None:
        """Say nothing."""


@pytest.fixture
def venue_server() -> Iterator[FakeVenue]:
    with FakeVenue() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Trading:
    """The service as `main()` makes it, in this process."""

    def __init__(self, url: str, venue_url: str, recovery: Recovery | None) -> None:
        self.failsafe = FailSafe("trading-api", recovery=recovery)
        self.database = Database.connect(url, self.failsafe, deadline=2.0)
        self.venue = Venue(venue_url, self.failsafe)
        self.client: FlaskClient = create_app(
            self.failsafe, self.database, self.venue
        ).test_client()
        self.desk = Desk(self.database, self.venue)


class Serve(Protocol):
    """Start the service on a database, with a recovery of its own where one is given."""

    def __call__(self, url: str, recovery: Recovery | None = None) -> Trading: ...


@pytest.fixture
def serve(venue_server: FakeVenue) -> Iterator[Serve]:
    """Make the tables, start the service, and wait until it is ready."""
    started: list[Trading] = []

    def serve(url: str, recovery: Recovery | None = None) -> Trading:
        with FailSafe("trading-schema") as failsafe:
            store.create(Database.connect(url, failsafe))
        trading = Trading(url, venue_server.url, recovery)
        started.append(trading)
        trading.failsafe.start()
        until(lambda: trading.failsafe.is_normal)
        return trading

    yield serve
    for trading in started:
        trading.failsafe.close()
        trading.venue.close()
        trading.database.engine.dispose()


@pytest.fixture
def trading(serve: Serve, postgres: PostgresDatabase) -> Trading:
    return serve(postgres.url())


def until(condition: Callable[[], bool], patience: float = 30.0) -> None:
    ends = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < ends, "it did not come about"
        time.sleep(0.02)


PLACED = {"id": "o-1", "reference": "v-o-1"}
FILL = {"id": "f-1", "symbol": "ACME", "quantity": 10}
AUDIT = "SELECT order_id, event FROM audit ORDER BY id"


def test_an_order_is_placed_once_however_often_it_is_sent(
    trading: Trading, venue_server: FakeVenue, postgres: PostgresDatabase
) -> None:
    for _ in range(2):
        answer = trading.client.post("/orders", json=ORDER)
        assert (answer.status_code, answer.json) == (201, PLACED)
    assert venue_server.sent == 1
    (order,) = trading.client.get("/orders").json or []
    assert (order["state"], order["venue_reference"]) == ("sent", "v-o-1")
    assert postgres.execute(AUDIT) == [("o-1", "placing"), ("o-1", "sent")]


def test_another_order_under_the_same_id_is_409_and_not_sent(
    trading: Trading, venue_server: FakeVenue
) -> None:
    trading.desk.place_order(ORDER)
    refused = trading.client.post("/orders", json={**ORDER, "quantity": 99})
    assert refused.status_code == 409
    assert refused.json is not None
    assert refused.json["key"] == "order-o-1"
    assert venue_server.sent == 1
    assert trading.failsafe.is_normal


def test_an_order_that_the_venue_has_forgotten_is_not_sent_again(
    trading: Trading, venue_server: FakeVenue
) -> None:
    trading.desk.place_order(ORDER)
    venue_server.orders.clear()
    assert trading.desk.place_order(ORDER) == "v-o-1"
    assert venue_server.sent == 1


def test_a_commit_whose_answer_was_lost_is_told_as_committed_and_may_be_sent_again(
    serve: Serve,
    postgres: PostgresDatabase,
    fault_proxy: FaultProxy,
    venue_server: FakeVenue,
) -> None:
    by_hand = Recovery(mode="manual", probe_interval=600.0)  # so no other COMMIT is in the way
    trading = serve(fault_proxy.url(postgres.url()), by_hand)
    lost = fault_proxy.before_reply("COMMIT").reset()
    answer = trading.client.post("/orders", json=ORDER)
    assert answer.status_code == 503
    assert answer.json is not None
    assert answer.json["details"]["outcome"] == "COMMITTED"
    assert answer.json["details"]["safeToRetry"] is False
    assert lost.happened
    assert venue_server.sent == 0
    assert postgres.execute("SELECT id, state FROM orders") == [("o-1", "placing")]

    trading.failsafe.reset(actor="ann", reason="the order is sent again")
    assert trading.client.post("/orders", json=ORDER).json == PLACED
    assert venue_server.sent == 1
    assert postgres.execute(AUDIT) == [("o-1", "placing"), ("o-1", "sent")]


def test_a_lost_answer_of_the_venue_is_told_and_reconciled_and_not_sent_again(
    trading: Trading, venue_server: FakeVenue
) -> None:
    venue_server.loses_answers = True
    unknown = trading.client.post("/orders", json=ORDER)
    assert unknown.status_code == 503
    assert unknown.json is not None
    assert unknown.json["code"] == "GATEWAY_UNAVAILABLE"
    assert unknown.json["details"]["outcome"] == "UNKNOWN"
    venue_server.loses_answers = False
    until(lambda: trading.failsafe.is_normal)
    assert trading.desk.reconcile() == ["o-1"]
    assert trading.desk.reconcile() == []
    assert venue_server.sent == 1
    (order,) = trading.client.get("/orders").json or []
    assert (order["state"], order["venue_reference"]) == ("sent", "v-o-1")


def test_a_fill_is_booked_once_also_by_many_at_a_time(trading: Trading) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(trading.desk.book_fill, [FILL] * 8))
    assert trading.client.get("/positions").json == [{"symbol": "ACME", "quantity": 10}]
    trading.desk.book_fill({**FILL, "id": "f-2", "quantity": -4})
    assert trading.client.get("/positions").json == [{"symbol": "ACME", "quantity": 6}]


def test_a_booking_that_fails_leaves_no_fill_behind(
    trading: Trading, postgres: PostgresDatabase
) -> None:
    postgres.execute("ALTER TABLE positions ADD CHECK (quantity > 0)")
    with pytest.raises(IntegrityError):
        trading.desk.book_fill({**FILL, "quantity": -1})
    assert postgres.execute("SELECT * FROM fills") == []


def test_an_order_that_is_not_there_is_404_and_a_cancelled_one_has_one_audit_row(
    trading: Trading, postgres: PostgresDatabase
) -> None:
    assert trading.client.get("/orders/o-1").status_code == 404
    assert trading.client.post("/orders/o-1/cancel").status_code == 409
    trading.desk.place_order(ORDER)
    for _ in range(2):
        assert trading.client.post("/orders/o-1/cancel").status_code == 204
    found = trading.client.get("/orders/o-1")
    assert found.json is not None
    assert found.json["state"] == "cancel requested"
    assert postgres.execute("SELECT event FROM audit ORDER BY id") == [
        ("placing",),
        ("sent",),
        ("cancel requested",),
    ]


def test_the_day_is_frozen_but_for_what_is_being_placed(
    trading: Trading, postgres: PostgresDatabase
) -> None:
    trading.desk.place_order(ORDER)
    postgres.execute("INSERT INTO orders VALUES ('o-2', 'ACME', 'buy', 1, 'placing')")
    ((day,),) = postgres.execute("SELECT placed_at::date FROM orders WHERE id = 'o-1'")
    postgres.execute("UPDATE orders SET placed_at = %s", (day,))
    reports.freeze_day(trading.database, day)
    rows = postgres.execute("SELECT id, state FROM orders ORDER BY id")
    assert rows == [("o-1", "frozen"), ("o-2", "placing")]


async def test_the_settlement_is_committed_when_it_returns_and_settles_once(
    trading: Trading, postgres: PostgresDatabase
) -> None:
    database = AsyncDatabase.connect(postgres.url("asyncpg"), trading.failsafe, name="settlement")
    await settlement.settle(database, "2026-01-01", [])
    fills = [{"order_id": "o-1"}, {"order_id": "o-2"}, {"order_id": "o-2"}]
    for _ in range(2):
        await settlement.settle(database, "2026-01-02", fills)
    await database.engine.dispose()
    rows = postgres.execute(AUDIT)
    assert rows == [("o-1", "settled 2026-01-02"), ("o-2", "settled 2026-01-02")]


def test_an_outage_is_told_and_nothing_is_invented_until_the_recovery_is_proven(
    serve: Serve, breakable_postgres: PostgresServer, venue_server: FakeVenue
) -> None:
    trading = serve(breakable_postgres.url())
    trading.desk.book_fill(FILL)
    breakable_postgres.kill()
    for path in ("/positions", "/orders", "/orders/o-1", "/readyz"):
        assert trading.client.get(path).status_code == 503
    refused = trading.client.post("/orders", json=ORDER)
    assert refused.status_code == 503
    assert refused.json is not None
    assert refused.json["details"]["outcome"] == "NOT_STARTED"
    assert venue_server.sent == 0
    assert trading.client.get("/livez").status_code == 200
    breakable_postgres.start()
    until(lambda: trading.failsafe.is_normal)
    assert trading.client.get("/readyz").status_code == 200
    assert trading.client.get("/positions").json == [{"symbol": "ACME", "quantity": 10}]
