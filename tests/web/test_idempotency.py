"""Claim C6 over HTTP: a request that is sent again under its Idempotency-Key is done once."""

# ruff: noqa: B008 - a dependency that is made in a test is told to FastAPI as a default

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from flask import Flask, abort, request
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.waiting import wait_until

from failstop import (
    AsyncDatabase,
    ConfigurationError,
    Database,
    FailSafe,
    Recovery,
    with_fail_fast_protection,
)
from failstop.fastapi import AsyncOnce, Once, install
from failstop.fastapi import idempotent as fastapi_idempotent
from failstop.flask import FailStop
from failstop.flask import idempotent as flask_idempotent
from failstop.testing import FaultProxy, PostgresDatabase
from failstop.web import KeyRequiredError, fingerprint_of, read_key, scoped_key

Serve = Callable[[Any], httpx.Client]
ORDER = {"symbol": "BTC", "quantity": 100}
INSERT = text("INSERT INTO trades (quantity) VALUES (:quantity) RETURNING id")
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


class Desk:
    """What the routes do, and how often; a closed gate holds the work up."""

    def __init__(self, failsafe: FailSafe) -> None:
        self.failsafe = failsafe
        self.protect = with_fail_fast_protection(failsafe=failsafe)
        self.entered: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def place(self, connection: Connection, quantity: int) -> dict[str, Any]:
        self.entered.append(quantity)
        number = connection.execute(INSERT, {"quantity": quantity}).scalar_one()
        if not quantity:
            raise ValueError("nothing is ordered")
        return {"order": number, "price": [1.5, None, "é"]}


def caller_of(headers: Any) -> str:
    return str(headers.get("X-User", "ann"))


def async_app(desk: Desk, url: str, closing: ExitStack) -> FastAPI:
    database = AsyncDatabase.connect(url, desk.failsafe)
    asyncio.run(database.create_schema())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await database.engine.dispose()

    async def whose(request: Request) -> str:
        return caller_of(request.headers)

    app = FastAPI(lifespan=lifespan)
    install(app, failsafe=desk.failsafe, database=database)
    once_of = fastapi_idempotent(database, caller=whose)

    @app.post("/orders", status_code=201)
    @app.post("/accounts/{account}/orders", status_code=201)
    @desk.protect
    async def place(
        order: dict[str, Any], deadline: float = 20, once: AsyncOnce = Depends(once_of)
    ) -> Any:
        async def work(connection: AsyncConnection) -> dict[str, Any]:
            try:
                placed = await connection.run_sync(desk.place, order["quantity"])
            except ValueError as error:
                raise HTTPException(409, str(error)) from error
            await asyncio.to_thread(desk.gate.wait, 20)
            return placed

        return await once(work, deadline=deadline)

    return app


def sync_app(desk: Desk, url: str, closing: ExitStack) -> FastAPI:
    database = Database.connect(url, desk.failsafe)
    closing.callback(database.engine.dispose)
    database.create_schema()
    app = FastAPI()
    install(app, failsafe=desk.failsafe, database=database)

    def whose(request: Request) -> str:
        return caller_of(request.headers)

    once_of = fastapi_idempotent(database, caller=whose)

    @app.post("/orders", status_code=201)
    @app.post("/accounts/{account}/orders", status_code=201)
    @desk.protect
    def place(order: dict[str, Any], deadline: float = 20, once: Once = Depends(once_of)) -> Any:
        def work(connection: Connection) -> dict[str, Any]:
            try:
                placed = desk.place(connection, order["quantity"])
            except ValueError as error:
                raise HTTPException(409, str(error)) from error
            desk.gate.wait(20)
            return placed

        return once(work, deadline=deadline)

    return app


def flask_app(desk: Desk, url: str, closing: ExitStack) -> Flask:
    database = Database.connect(url, desk.failsafe)
    closing.callback(database.engine.dispose)
    database.create_schema()
    app = Flask("trading")
    FailStop(app, failsafe=desk.failsafe, database=database)
    once = flask_idempotent(database, caller=lambda: caller_of(request.headers))

    @app.post("/orders")
    @app.post("/accounts/<account>/orders")
    @desk.protect
    def place(account: str = "") -> Any:
        order = request.get_json()

        def work(connection: Connection) -> dict[str, Any]:
            try:
                placed = desk.place(connection, order["quantity"])
            except ValueError as error:
                abort(409, str(error))
            desk.gate.wait(20)
            return placed

        return once(work, deadline=float(request.args.get("deadline", 20))), 201

    return app


APPS: dict[str, Callable[[Desk, str, ExitStack], Any]] = {
    "fastapi": async_app,
    "fastapi-sync": sync_app,
    "flask": flask_app,
}


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def desk(closing: ExitStack) -> Desk:
    """Its FailSafe's monitor looks once an hour: the only COMMIT is the work's."""
    return Desk(FailSafe("trading-api", recovery=Recovery(probe_interval=3600)))


@pytest.fixture
def orders(postgres: PostgresDatabase) -> PostgresDatabase:
    postgres.execute("CREATE TABLE trades (id serial PRIMARY KEY, quantity integer)")
    return postgres


@pytest.fixture(params=APPS)
def start(
    desk: Desk, closing: ExitStack, request: pytest.FixtureRequest
) -> Callable[[str], httpx.Client]:
    """Serve one of the applications on a database, in NORMAL."""
    adapter = str(request.param)

    def start(url: str) -> httpx.Client:
        app = APPS[adapter](desk, url, closing)
        closing.enter_context(desk.failsafe)
        closing.callback(desk.gate.set)
        serve: Serve = request.getfixturevalue("serve_wsgi" if adapter == "flask" else "serve_asgi")
        assert desk.failsafe.is_normal
        return serve(app)

    return start


@pytest.fixture
def client(start: Callable[[str], httpx.Client], orders: PostgresDatabase) -> httpx.Client:
    return start(orders.url())


def post(
    client: httpx.Client,
    key: str | None = '"k-1"',
    order: Any = ORDER,
    path: str = "/orders",
    **headers: str,
) -> httpx.Response:
    named = {} if key is None else {"Idempotency-Key": key}
    return client.post(path, json=order, headers={**named, **headers})


def rows(postgres: PostgresDatabase) -> int:
    return int(postgres.execute("SELECT count(*) FROM trades")[0][0])


def assert_problem(answer: httpx.Response, status: int, name: str) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["type"] == f"https://failstop.dev/problems/{name}"
    assert answer.json()["status"] == status
    assert "k-1" not in answer.text


# What a key means


def test_the_stored_answer_is_replayed(
    client: httpx.Client, desk: Desk, orders: PostgresDatabase
) -> None:
    first, again = post(client), post(client, "k-1")  # the quotes may be left out
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == {"order": 1, "price": [1.5, None, "é"]}
    assert again.content == first.content
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert len(desk.entered) == rows(orders) == 1
    assert desk.failsafe.is_normal


def test_another_key_is_another_order(client: httpx.Client, orders: PostgresDatabase) -> None:
    assert [post(client, key).json()["order"] for key in ("a", "b")] == [1, 2]
    assert rows(orders) == 2


def test_of_twins_one_does_the_work_and_both_get_its_answer(
    client: httpx.Client, desk: Desk, orders: PostgresDatabase
) -> None:
    desk.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        twins = [pool.submit(post, client) for _ in range(2)]
        wait_until(lambda: bool(orders.execute(WAITING)[0][0]))
        desk.gate.set()
        answers = [twin.result() for twin in twins]
    assert {answer.status_code for answer in answers} == {201}
    assert answers[0].content == answers[1].content
    assert [answer.headers.get("idempotency-replayed") for answer in answers].count("true") == 1
    assert len(desk.entered) == rows(orders) == 1


def test_while_the_first_is_under_way_past_the_wait_the_answer_is_409(
    client: httpx.Client, desk: Desk, orders: PostgresDatabase
) -> None:
    desk.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, client)
        wait_until(lambda: len(desk.entered) == 1)
        second = post(client, path="/orders?deadline=0.3")
        desk.gate.set()
        assert first.result().status_code == 201
    assert_problem(second, 409, "key-in-flight")
    assert second.headers["retry-after"] == "1"
    assert len(desk.entered) == rows(orders) == 1
    assert desk.failsafe.is_normal


def test_a_key_of_another_request_is_answered_422(
    client: httpx.Client, orders: PostgresDatabase
) -> None:
    assert post(client).status_code == 201
    assert_problem(post(client, order={**ORDER, "quantity": 200}), 422, "key-conflict")
    assert_problem(post(client, path="/orders?deadline=9"), 422, "key-conflict")
    assert rows(orders) == 1


def test_without_a_key_the_answer_is_400(client: httpx.Client, desk: Desk) -> None:
    for none in (None, "", "two words"):
        assert_problem(post(client, none), 400, "key-required")
    assert desk.entered == []


def test_two_headers_are_no_key(client: httpx.Client, desk: Desk) -> None:
    twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert_problem(client.post("/orders", json=ORDER, headers=twice), 400, "key-required")
    assert desk.entered == []


def test_what_is_kept_no_more_is_answered_410_and_not_done_again(
    client: httpx.Client, orders: PostgresDatabase
) -> None:
    assert post(client).status_code == 201
    orders.execute("UPDATE failstop.receipt SET result = NULL, is_pruned = true")
    assert_problem(post(client), 410, "key-expired")
    assert rows(orders) == 1


def test_an_error_of_the_work_rolls_it_back_and_stores_nothing(
    client: httpx.Client, desk: Desk, orders: PostgresDatabase
) -> None:
    nothing = {"symbol": "BTC", "quantity": 0}
    assert [post(client, order=nothing).status_code for _ in range(2)] == [409, 409]
    assert len(desk.entered) == 2
    assert post(client).status_code == 201  # so the key is free
    assert rows(orders) == 1


# Whose a key is


def test_a_key_belongs_to_its_caller_and_its_path(
    client: httpx.Client, desk: Desk, orders: PostgresDatabase
) -> None:
    answers = [
        post(client),
        post(client, **{"X-User": "bob"}),
        post(client, path="/accounts/1/orders"),
        post(client, path="/accounts/2/orders"),
    ]
    assert [answer.json()["order"] for answer in answers] == [1, 2, 3, 4]
    keys = [key for (key,) in orders.execute("SELECT key FROM failstop.receipt ORDER BY key")]
    assert keys == [
        "POST /accounts/1/orders ann k-1",
        "POST /accounts/2/orders ann k-1",
        "POST /orders ann k-1",
        "POST /orders bob k-1",
    ]


def test_a_caller_without_a_name_is_refused(client: httpx.Client, desk: Desk) -> None:
    assert post(client, **{"X-User": ""}).status_code == 500
    assert desk.entered == []


# When the database fails


def test_an_answer_that_the_commit_lost_is_there_for_the_retry(
    start: Callable[[str], httpx.Client],
    desk: Desk,
    orders: PostgresDatabase,
    fault_proxy: FaultProxy,
) -> None:
    client = start(fault_proxy.url(orders.url()))
    fault_proxy.after("COMMIT", forwarded=True).reset()
    lost = post(client)
    assert lost.status_code == 503
    assert lost.json()["details"]["outcome"] == "COMMITTED"
    assert lost.json()["details"]["safeToRetry"] is False
    desk.failsafe.reset(actor="ann", reason="the connection was cut")
    again = post(client)
    assert (again.status_code, again.json()["order"]) == (201, 1)
    assert again.headers["idempotency-replayed"] == "true"
    assert len(desk.entered) == rows(orders) == 1


def test_a_commit_that_never_arrived_is_done_by_the_retry(
    start: Callable[[str], httpx.Client],
    desk: Desk,
    orders: PostgresDatabase,
    fault_proxy: FaultProxy,
) -> None:
    client = start(fault_proxy.url(orders.url()))
    fault_proxy.after("COMMIT", forwarded=False).reset()
    lost = post(client)
    assert lost.status_code == 503
    assert lost.json()["details"]["outcome"] == "ROLLED_BACK"
    desk.failsafe.reset(actor="ann", reason="the connection was cut")
    again = post(client)
    assert again.status_code == 201
    assert "idempotency-replayed" not in again.headers
    assert len(desk.entered) == 2
    assert rows(orders) == 1


def test_in_fail_safe_mode_nothing_is_replayed_either(client: httpx.Client, desk: Desk) -> None:
    assert post(client).status_code == 201
    desk.failsafe.halt(actor="ann", reason="drill")
    answer = post(client)
    assert answer.status_code == 503
    assert answer.json()["details"]["outcome"] == "NOT_STARTED"


# Routes that cannot keep the promise


@pytest.fixture
def database(orders: PostgresDatabase, failsafe: FailSafe, closing: ExitStack) -> Database:
    made = Database.connect(orders.url(), failsafe)
    closing.callback(made.engine.dispose)
    made.create_schema()
    return made


def count(connection: Connection) -> int:
    return int(connection.execute(INSERT, {"quantity": 1}).scalar_one())


def test_a_request_has_one_work(
    database: Database, failsafe: FailSafe, serve_asgi: Serve, serve_wsgi: Serve
) -> None:
    fast, flask = FastAPI(), Flask("trading")
    install(fast, failsafe=failsafe)
    FailStop(flask, failsafe=failsafe)
    once_in_flask = flask_idempotent(database)

    @fast.post("/twice")
    def twice(once: Once = Depends(fastapi_idempotent(database))) -> list[int]:
        return [once(count), once(count)]

    @flask.post("/flask")
    def twice_in_flask() -> list[int]:
        return [once_in_flask(count), once_in_flask(count)]

    assert post(serve_asgi(fast), path="/twice").status_code == 500
    assert post(serve_wsgi(flask), path="/flask").status_code == 500
    assert database.query("SELECT max(id) FROM trades")[0][0] == 2


def test_a_route_may_make_its_own_response(
    database: Database, failsafe: FailSafe, serve_asgi: Serve, serve_wsgi: Serve
) -> None:
    fast, flask = FastAPI(), Flask("trading")
    install(fast, failsafe=failsafe)
    FailStop(flask, failsafe=failsafe)
    once_in_flask = flask_idempotent(database)

    @fast.post("/own")
    def own(once: Once = Depends(fastapi_idempotent(database))) -> JSONResponse:
        number = once(count)
        return JSONResponse(number, 202, {"X-Replayed": str(once.is_replayed)})

    @flask.post("/flask")
    def own_in_flask() -> Any:
        number = once_in_flask(count)
        return [number], 202, {"X-Replayed": str(once_in_flask.is_replayed)}

    for client, path in ((serve_asgi(fast), "/own"), (serve_wsgi(flask), "/flask")):
        answers = [post(client, path=path) for _ in range(2)]
        assert [answer.headers["x-replayed"] for answer in answers] == ["False", "True"]
        assert {answer.status_code for answer in answers} == {202}


def test_a_body_that_was_read_before_is_refused(
    database: Database, failsafe: FailSafe, serve_asgi: Serve, serve_wsgi: Serve
) -> None:
    """Else two requests with different bodies would have one fingerprint."""
    fast, flask = FastAPI(), Flask("trading")
    install(fast, failsafe=failsafe)
    FailStop(flask, failsafe=failsafe)
    once_in_flask = flask_idempotent(database)

    async def read(request: Request) -> int:
        return len([piece async for piece in request.stream()])

    @fast.post("/stream", dependencies=[Depends(read)])
    def stream(once: Once = Depends(fastapi_idempotent(database))) -> int:
        return once(count)

    @flask.post("/form")
    def form() -> Any:
        return [request.form["quantity"], once_in_flask(count)]

    assert post(serve_asgi(fast), path="/stream").status_code == 500
    key, client = {"Idempotency-Key": "k-1"}, serve_wsgi(flask)
    assert client.post("/form", data={"quantity": "1"}, headers=key).status_code == 500
    assert database.query("SELECT count(*) FROM trades")[0][0] == 0


def test_the_header_is_in_the_description_of_the_api(database: Database) -> None:
    app = FastAPI()

    @app.post("/orders")
    def place(once: Once = Depends(fastapi_idempotent(database))) -> int:
        return once(count)

    parameters = app.openapi()["paths"]["/orders"]["post"]["parameters"]
    assert [each["name"].lower() for each in parameters] == ["idempotency-key"]


def test_what_is_no_database_is_refused_at_once(failsafe: FailSafe) -> None:
    wrong: Any = failsafe
    for make in (fastapi_idempotent, flask_idempotent):
        with pytest.raises(ConfigurationError, match="not FailSafe"):
            make(wrong)
    unasked: Any = AsyncDatabase.connect("postgresql://127.0.0.1:1/none", FailSafe("other"))
    with pytest.raises(ConfigurationError, match="not an AsyncDatabase"):
        flask_idempotent(unasked)


# The key itself


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ('"8e03978e-40d5"', "8e03978e-40d5"),
        ("8e03978e-40d5", "8e03978e-40d5"),
        ('  "a,b;c"  ', "a,b;c"),
        (r'"a\"b\\c"', 'a"b\\c'),
        ("k" * 128, "k" * 128),
    ],
)
def test_a_key_is_a_text_whose_quotes_may_be_left_out(header: str, key: str) -> None:
    assert read_key(header) == key


@pytest.mark.parametrize(
    "header",
    [None, " ", '"a b"', '"a"b"', r'"a\b"', '"a";p=1', "a;p=1", "é", '"é"', "a\tb", '"', "k" * 129],
)
def test_all_else_is_no_key(header: str | None) -> None:
    with pytest.raises(KeyRequiredError):
        read_key(header)


def test_no_part_of_a_key_can_pose_as_another() -> None:
    keys = {
        scoped_key("k", method="POST", path="/a"),
        scoped_key("k", method="POST", path="/a b"),
        scoped_key("k", method="POST", path="/a", caller="b"),
        scoped_key("k", method="POST", path="/a%20b"),
        scoped_key("k", method="POST", path="/a", caller="b c"),
        scoped_key("k", method="POST", path="/a", caller="b%20c"),
    }
    assert len(keys) == 6
    long = scoped_key("k", method="POST", path="/a", caller="b" * 41)
    posing = long.split()[2]
    assert long != scoped_key("k", method="POST", path="/a", caller=posing)


def test_the_longest_key_is_one_that_a_receipt_takes() -> None:
    long = scoped_key("k" * 128, method="OPTIONS", path="/" + "p" * 76, caller="c" * 40)
    assert len(long) == 255
    assert len(scoped_key("k" * 128, method="OPTIONS", path="/é" * 500, caller="€" * 500)) < 255


def test_a_fingerprint_tells_the_parts_apart() -> None:
    parts = [("POST", "/a", "", b""), ("POST", "/", "a", b""), ("POST", "/", "", b"a")]
    assert len({fingerprint_of(*each) for each in parts}) == 3
    assert len(fingerprint_of("POST", "/", "", b"")) == 64
