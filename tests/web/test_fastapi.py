"""FastAPI: dependency injection, commits that come after the answer, streams, WebSockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Protocol

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from sqlalchemy import text
from sqlalchemy.orm import Session
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.responses import Response
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from failstop import (
    ConfigurationError,
    ConnectionFailedError,
    Database,
    FailSafe,
    Outcome,
    State,
    with_fail_fast_protection,
)
from failstop.asgi import FailStopMiddleware
from failstop.fastapi import install, respond
from failstop.testing import PostgresDatabase


class Serve(Protocol):
    def __call__(self, app: Any) -> httpx.Client: ...


@pytest.fixture
def app(failsafe: FailSafe) -> FastAPI:
    made = FastAPI()
    install(made, failsafe=failsafe)
    return made


@pytest.fixture
def database(postgres: PostgresDatabase, failsafe: FailSafe) -> Iterator[Database]:
    made = Database.connect(postgres.url(), failsafe, deadline=5.0)
    with made.transaction() as connection:
        connection.execute(text("CREATE TABLE orders (id int PRIMARY KEY DEFERRABLE)"))
    yield made
    made.engine.dispose()


def swallow(failsafe: FailSafe) -> list[str]:
    try:
        failsafe.trip(error := ConnectionFailedError("lost", outcome=Outcome.ROLLED_BACK))
        raise error
    except ConnectionFailedError:
        return []


# Decorated routes


class Query:
    """A dependency whose name only this module knows, for annotations that are text."""

    def __init__(self, symbol: str, limit: int = 10) -> None:
        self.symbol = symbol
        self.limit = limit


def test_dependencies_see_through_the_decorator(
    app: FastAPI, failsafe: FailSafe, serve_asgi: Serve
) -> None:
    protect = with_fail_fast_protection(failsafe=failsafe)

    @app.get("/plain/{order}")
    @protect
    def plain(order: int, query: Annotated[Query, Depends()], request: Request) -> dict[str, Any]:
        return {"order": order, "symbol": query.symbol, "path": request.url.path}

    @app.get("/coroutine/{order}")
    @protect
    async def coroutine(order: int, query: Annotated[Query, Depends()]) -> dict[str, Any]:
        return {"order": order, "limit": query.limit}

    client = serve_asgi(app)
    answer = client.get("/plain/7", params={"symbol": "BTC"})
    assert answer.json() == {"order": 7, "symbol": "BTC", "path": "/plain/7"}
    answer = client.get("/coroutine/7", params={"symbol": "BTC", "limit": 3})
    assert answer.json() == {"order": 7, "limit": 3}
    assert client.get("/plain/x", params={"symbol": "BTC"}).status_code == 422


def test_a_decorated_route_is_answered_with_503(
    app: FastAPI, failsafe: FailSafe, serve_asgi: Serve
) -> None:
    """FastAPI knows no tuple of body and status; the middleware sets the answer right."""

    @app.get("/orders")
    @with_fail_fast_protection(failsafe=failsafe)
    def orders() -> Any:
        return swallow(failsafe)

    answer = serve_asgi(app).get("/orders")
    assert answer.status_code == 503
    assert answer.json()["details"]["outcome"] == "ROLLED_BACK"


def test_respond_makes_fastapis_own_response(failsafe: FailSafe, serve_asgi: Serve) -> None:
    """For one decorated route in an application that is not protected as a whole."""
    app = FastAPI()

    @app.get("/orders")
    @with_fail_fast_protection(failsafe=failsafe, respond=respond)
    async def orders() -> Any:
        return swallow(failsafe)

    answer = serve_asgi(app).get("/orders")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "SYSTEM_FAILURE"


# A commit after the answer


def open_session(request: Request) -> Iterator[Session]:
    """The dependency that everybody writes: FastAPI ends it after it has sent the answer."""
    with request.app.state.database.session() as session:
        yield session
        request.app.state.before_commit()


def add_place(app: FastAPI, database: Database) -> None:
    app.state.database = database
    app.state.before_commit = lambda: None

    @app.post("/orders/{order}", status_code=201)
    def place(order: int, session: Annotated[Session, Depends(open_session)]) -> dict[str, int]:
        session.execute(text("SET CONSTRAINTS ALL DEFERRED"))
        session.execute(text("INSERT INTO orders VALUES (:id)"), {"id": order})
        return {"order": order}


def test_an_answer_waits_for_the_commit_of_a_dependency(
    app: FastAPI, database: Database, failsafe: FailSafe, serve_asgi: Serve
) -> None:
    add_place(app, database)
    client = serve_asgi(app)
    assert client.post("/orders/1").status_code == 201
    app.state.before_commit = lambda: failsafe.halt(actor="ann", reason="before the commit")
    answer = client.post("/orders/2")
    assert answer.status_code == 503
    assert answer.json()["details"]["outcome"] == "ROLLED_BACK"
    failsafe.reset(actor="ann", reason="over")
    assert [row.id for row in database.query("SELECT id FROM orders")] == [1]


def test_an_answer_whose_commit_fails_is_no_success(
    app: FastAPI, database: Database, failsafe: FailSafe, serve_asgi: Serve
) -> None:
    """A duplicate found at the commit is no outage, and no 201 either."""
    add_place(app, database)
    client = serve_asgi(app)
    assert client.post("/orders/1").status_code == 201
    assert client.post("/orders/1").status_code == 500
    assert failsafe.is_normal


def test_a_background_task_does_not_hold_the_answer_back(
    app: FastAPI, database: Database, serve_asgi: Serve
) -> None:
    """The answer's own work is done, so it goes out while the task is still running."""
    answered, ran = threading.Event(), threading.Event()

    def task() -> None:
        if answered.wait(20):
            ran.set()

    @app.get("/orders")
    def orders(tasks: BackgroundTasks) -> list[int]:
        tasks.add_task(task)
        return [row.id for row in database.query("SELECT id FROM orders")]

    assert serve_asgi(app).get("/orders").json() == []
    answered.set()
    assert ran.wait(20)


# Between the route and the middleware


def test_a_middleware_that_streams_every_answer_hides_nothing(
    app: FastAPI, failsafe: FailSafe, serve_asgi: Serve
) -> None:
    failed = FastAPI()

    class Timing(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
            answer = await call_next(request)
            answer.headers["x-time"] = "1"
            return answer

    failed.add_middleware(Timing)
    install(failed, failsafe=failsafe)

    @failed.get("/orders")
    def orders() -> list[str]:
        return swallow(failsafe)

    assert serve_asgi(failed).get("/orders").status_code == 503


def test_a_handler_of_every_exception_hides_nothing(
    app: FastAPI, failsafe: FailSafe, serve_asgi: Serve
) -> None:
    @app.exception_handler(ConnectionFailedError)
    def handle(request: Request, error: Exception) -> Response:
        return Response("[]", 200)

    @app.get("/orders")
    def orders() -> list[str]:
        failsafe.trip(error := ConnectionFailedError("lost"))
        raise error

    answer = serve_asgi(app).get("/orders")
    assert answer.status_code == 503
    assert answer.json()["details"]["errorCode"] == "CONNECTION_FAILED"


def test_around_the_whole_application_the_answer_is_the_same(
    failsafe: FailSafe, serve_asgi: Serve
) -> None:
    """FastAPI itself answers 500 and raises then; the failure is told in its place."""
    app = FastAPI()

    @app.get("/orders")
    def orders() -> list[str]:
        failsafe.trip(error := ConnectionFailedError("lost"))
        raise error

    answer = serve_asgi(FailStopMiddleware(app, failsafe=failsafe)).get("/orders")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"


def test_below_a_mount_the_endpoints_and_exempt_paths_are_found(
    failsafe: FailSafe, serve_asgi: Serve
) -> None:
    inner, outer = FastAPI(), FastAPI()
    install(inner, failsafe=failsafe, exempt=["/metrics"])
    outer.mount("/trading", inner)

    @inner.get("/metrics")
    def metrics() -> str:
        return "up 1"

    client = serve_asgi(outer)
    failsafe.halt(actor="ann", reason="drill")
    assert client.get("/trading/readyz").status_code == 503
    assert client.get("/trading/livez").status_code == 200
    assert client.get("/trading/metrics").status_code == 200
    assert client.get("/trading/orders").status_code == 503
    assert client.get("/livez").status_code == 404


def test_a_protected_stream_is_broken_off_when_the_service_halts(
    app: FastAPI, failsafe: FailSafe, serve_asgi: Serve
) -> None:
    @with_fail_fast_protection(failsafe=failsafe)
    async def quotes() -> AsyncIterator[bytes]:
        yield b"1"
        await asyncio.to_thread(failsafe.halt, actor="ann", reason="drill")
        yield b"2"
        yield b"3"

    @app.get("/quotes")
    async def stream() -> StreamingResponse:
        return StreamingResponse(quotes())

    got = b""
    client = serve_asgi(app)
    with client.stream("GET", "/quotes") as answer, pytest.raises(httpx.RemoteProtocolError):
        for piece in answer.iter_raw():
            got += piece
    assert got == b"12"


# WebSockets


def test_a_websocket_opens_in_normal_and_is_denied_otherwise(
    app: FastAPI, failsafe: FailSafe, serve_asgi: Serve
) -> None:
    @app.websocket("/quotes")
    async def quotes(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("BTC 1")
        await socket.close()

    url = str(serve_asgi(app).base_url).replace("http", "ws") + "/quotes"
    with connect(url) as socket:
        assert socket.recv(20) == "BTC 1"
    failsafe.halt(actor="ann", reason="drill")
    with pytest.raises(InvalidStatus) as caught:
        connect(url)
    assert caught.value.response.status_code == 503
    assert b"Operations suspended" in caught.value.response.body


async def test_a_server_that_can_send_no_denial_is_told_to_close(failsafe: FailSafe) -> None:
    """The rarer server: without the extension it makes a 403 of a close before the accept."""
    sent: list[Any] = []
    failsafe.halt(actor="ann", reason="drill")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("it ran")

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/quotes"}
    await FailStopMiddleware(app, failsafe=failsafe)(scope, receive, send)
    assert [(each["type"], each["code"]) for each in sent] == [("websocket.close", 1013)]


# Settings


def test_the_lifespan_passes_through(failsafe: FailSafe, serve_asgi: Serve) -> None:
    unstarted = FailSafe("early")
    seen = []

    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with unstarted:
            seen.append(unstarted.state)
            yield

    app = FastAPI(lifespan=asynccontextmanager(lifespan))
    install(app, failsafe=unstarted)
    assert serve_asgi(app).get("/readyz").status_code == 200
    assert seen == [State.NORMAL]


def test_an_application_is_protected_once(app: FastAPI, failsafe: FailSafe) -> None:
    assert app.state.failstop is failsafe
    with pytest.raises(ConfigurationError, match="already"):
        install(app, failsafe=failsafe)


def test_wrong_settings_are_refused_at_once(failsafe: FailSafe) -> None:
    wrong: Any = None
    with pytest.raises(ConfigurationError, match="FailSafe"):
        install(FastAPI(), failsafe=wrong)
    with pytest.raises(ConfigurationError, match="begin with"):
        install(FastAPI(), failsafe=failsafe, exempt=["metrics"])
