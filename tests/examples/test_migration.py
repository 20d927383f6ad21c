"""The `after` version of the migration example, in front of a real PostgreSQL and a real venue."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from flask.testing import FlaskClient

from failstop import Database, FailSafe
from failstop.testing import PostgresDatabase, PostgresServer
from migration.after import store
from migration.after.app import create_app
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

    def __init__(self, url: str, venue_url: str) -> None:
        self.failsafe = FailSafe("trading-api")
        self.database = Database.connect(url, self.failsafe, deadline=2.0)
        self.venue = Venue(venue_url, self.failsafe)
        self.client: FlaskClient = create_app(
            self.failsafe, self.database, self.venue
        ).test_client()


@pytest.fixture
def serve(venue_server: FakeVenue) -> Iterator[Callable[[str], Trading]]:
    """Make the tables, start the service, and wait until it is ready."""
    started: list[Trading] = []

    def serve(url: str) -> Trading:
        with FailSafe("trading-schema") as failsafe:
            store.create(Database.connect(url, failsafe))
        trading = Trading(url, venue_server.url)
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
def trading(serve: Callable[[str], Trading], postgres: PostgresDatabase) -> Trading:
    return serve(postgres.url())


def until(condition: Callable[[], bool], patience: float = 30.0) -> None:
    ends = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < ends, "it did not come about"
        time.sleep(0.02)


def test_positions_are_what_the_database_holds(
    trading: Trading, postgres: PostgresDatabase
) -> None:
    assert trading.client.get("/positions").json == []
    postgres.execute("INSERT INTO positions VALUES ('ACME', 10)")
    assert trading.client.get("/positions").json == [{"symbol": "ACME", "quantity": 10}]


def test_an_order_that_is_not_there_is_404(trading: Trading) -> None:
    assert trading.client.get("/orders").json == []
    assert trading.client.get("/orders/o-1").status_code == 404


def test_an_outage_is_told_and_nothing_is_invented_until_the_recovery_is_proven(
    serve: Callable[[str], Trading], breakable_postgres: PostgresServer, venue_server: FakeVenue
) -> None:
    trading = serve(breakable_postgres.url())
    breakable_postgres.execute("INSERT INTO positions VALUES ('ACME', 10)")
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
