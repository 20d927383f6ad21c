"""Reduce only over real HTTP: in a halt the named requests are served, on every adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from flask import Flask

import failstop.asgi
import failstop.fastapi
import failstop.flask
import failstop.wsgi
from failstop import ConfigurationError, DatabaseUnavailableError, FailSafe, Recovery
from failstop.web import Operations

OPERATIONS = {"DELETE /orders/{id}": "cancel", "/orders/cancel-all": "cancel"}


@pytest.fixture
def failsafe() -> Iterator[FailSafe]:
    recovery = Recovery(mode="manual", probe_interval=60.0)
    with FailSafe("trading-api", recovery=recovery, reduce_only=("cancel",)) as made:
        yield made


def flask_app(failsafe: FailSafe) -> Flask:
    app = Flask("trading")
    failstop.flask.FailStop(app, failsafe=failsafe, operations=OPERATIONS)

    @app.delete("/orders/<order>")
    def cancel(order: str) -> dict[str, str]:
        failsafe.require()
        return {"cancelled": order}

    @app.post("/orders/cancel-all")
    def cancel_all() -> dict[str, str]:
        failsafe.require()
        return {"cancelled": "all"}

    @app.post("/orders")
    def place() -> dict[str, str]:
        return {"placed": "1"}

    return app


def fastapi_app(failsafe: FailSafe) -> FastAPI:
    app = FastAPI()
    failstop.fastapi.install(app, failsafe=failsafe, operations=OPERATIONS)

    @app.delete("/orders/{order}")
    def cancel(order: str) -> dict[str, str]:
        failsafe.require()
        return {"cancelled": order}

    @app.post("/orders/cancel-all")
    async def cancel_all() -> dict[str, str]:
        failsafe.require()
        return {"cancelled": "all"}

    @app.post("/orders")
    def place() -> dict[str, str]:
        return {"placed": "1"}

    return app


def wsgi_app(failsafe: FailSafe) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        failsafe.require()  # in the first piece of the body, as in a generator
        start_response("200 OK", [("Content-Type", "application/json")])
        yield b'{"cancelled": "'
        failsafe.require()
        yield b'17"}'

    return failstop.wsgi.FailStopMiddleware(app, failsafe=failsafe, operations=OPERATIONS)


def asgi_app(failsafe: FailSafe) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        failsafe.require()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"cancelled": "17"}'})

    return failstop.asgi.FailStopMiddleware(app, failsafe=failsafe, operations=OPERATIONS)


APPS: dict[str, Callable[[FailSafe], Any]] = {
    "flask": flask_app,
    "fastapi": fastapi_app,
    "wsgi": wsgi_app,
    "asgi": asgi_app,
}


@pytest.fixture(params=APPS)
def client(request: pytest.FixtureRequest, failsafe: FailSafe) -> httpx.Client:
    serve = "serve_wsgi" if request.param in ("flask", "wsgi") else "serve_asgi"
    made: httpx.Client = request.getfixturevalue(serve)(APPS[request.param](failsafe))
    return made


def test_in_a_halt_the_named_requests_are_served_and_no_others(
    client: httpx.Client, failsafe: FailSafe
) -> None:
    assert client.delete("/orders/17").json() == {"cancelled": "17"}
    failsafe.halt(actor="alice", reason="wrong prices")
    assert client.delete("/orders/17").json() == {"cancelled": "17"}
    assert client.post("/orders/cancel-all").status_code == 200
    for refused in (
        client.post("/orders"),
        client.post("/orders/17"),
        client.delete("/orders/"),
        client.delete("/orders/17/"),
        client.delete("/orders/17/18"),
    ):
        assert refused.status_code == 503
        assert refused.json()["details"]["outcome"] == "NOT_STARTED"
    failsafe.trip(DatabaseUnavailableError("gone", kind="refused"))
    assert client.delete("/orders/17").status_code == 503


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("DELETE", "/orders/17", "cancel"),
        ("GET", "/orders/17", None),
        ("DELETE", "/orders/", None),
        ("DELETE", "/orders", None),
        ("DELETE", "//orders/17", None),
        ("DELETE", "/orders/17/items", None),
        ("POST", "/orders/cancel-all", "cancel"),
        ("GET", "/orders/cancel-all", "cancel"),
        ("POST", "/Orders/cancel-all", None),
        ("POST", "", None),
    ],
)
def test_a_request_is_an_operation_by_method_and_whole_path(
    failsafe: FailSafe, method: str, path: str, operation: str | None
) -> None:
    assert Operations(failsafe, OPERATIONS).find(method, path) == operation


def test_none_is_by_default(failsafe: FailSafe) -> None:
    assert Operations(failsafe, None).find("DELETE", "/orders/17") is None


@pytest.mark.parametrize("key", ["orders/cancel", "DELETE orders", "DELETE  /x", "DE-L /x", "", 3])
def test_what_is_no_path_is_refused(failsafe: FailSafe, key: Any) -> None:
    with pytest.raises(ConfigurationError, match="operations= takes paths"):
        Operations(failsafe, {key: "cancel"})


@pytest.mark.parametrize("adapter", APPS)
def test_a_typo_is_refused_where_the_adapter_is_made(adapter: str) -> None:
    with pytest.raises(ConfigurationError, match="knows no operation 'cancel'"):
        APPS[adapter](FailSafe("trading-api", reduce_only=("cancle",)))
