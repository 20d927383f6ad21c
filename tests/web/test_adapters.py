"""What every adapter promises, over real HTTP: the same routes on FastAPI, Flask, ASGI and WSGI."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NoReturn

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from flask import Flask, Response, abort

import failstop.asgi
import failstop.fastapi
import failstop.flask
import failstop.wsgi
from failstop import ConnectionFailedError, CriticalDatabaseError, FailSafe, Outcome, State

JSON = [(b"content-type", b"application/json")]


class Deeds:
    """What the handlers of every framework do."""

    def __init__(self, failsafe: FailSafe) -> None:
        self.failsafe = failsafe
        self.ran: list[str] = []

    def trip(self) -> NoReturn:
        """Fail as the guard does: trip first, then raise."""
        error = ConnectionFailedError("connection lost", outcome=Outcome.ROLLED_BACK)
        self.failsafe.trip(error)
        raise error

    def swallow(self) -> list[str]:
        with contextlib.suppress(Exception):
            self.trip()
        return []

    def hand(self) -> NoReturn:
        raise CriticalDatabaseError("the ledger is gone", "DB_UNAVAILABLE")

    def bug(self) -> NoReturn:
        raise LookupError("a bug")

    def late(self) -> Iterator[bytes]:
        yield b"real"
        self.swallow()
        yield b"fallback"

    def early(self) -> Iterator[bytes]:
        self.swallow()
        yield b"fallback"

    def whole(self) -> Iterator[bytes]:
        yield from (b"a", b"", b"b", b"c")


def flask_app(deeds: Deeds) -> Flask:
    app = Flask("trading")
    failstop.flask.FailStop(app, failsafe=deeds.failsafe, exempt=["/exempt", "/static/"])

    @app.get("/fine")
    @app.get("/exempt")
    @app.get("/static/logo")
    def fine() -> dict[str, str]:
        deeds.ran.append("fine")
        return {"trades": "real"}

    @app.get("/swallow")
    def swallow() -> list[str]:
        return deeds.swallow()

    @app.get("/raise")
    def raises() -> NoReturn:
        deeds.trip()

    @app.get("/swallow-then-raise")
    def swallow_then_raise() -> NoReturn:
        deeds.swallow()
        deeds.bug()

    @app.get("/swallow-then-404")
    def swallow_then_404() -> NoReturn:
        deeds.swallow()
        abort(404)

    @app.get("/own")
    def own() -> tuple[dict[str, str], int]:
        deeds.swallow()
        return {"own": "answer"}, 503

    @app.get("/hand")
    def hand() -> NoReturn:
        deeds.hand()

    @app.get("/bug")
    def bug() -> NoReturn:
        deeds.bug()

    for name in ("late", "early", "whole"):
        app.add_url_rule(f"/{name}", name, lambda name=name: Response(getattr(deeds, name)()))
    return app


def fastapi_app(deeds: Deeds) -> FastAPI:
    app = FastAPI()
    failstop.fastapi.install(app, failsafe=deeds.failsafe, exempt=["/exempt", "/static/"])

    @app.get("/fine")
    @app.get("/exempt")
    @app.get("/static/logo")
    def fine() -> dict[str, str]:
        deeds.ran.append("fine")
        return {"trades": "real"}

    @app.get("/swallow")
    def swallow() -> list[str]:
        return deeds.swallow()

    @app.get("/raise")
    async def raises() -> None:
        deeds.trip()

    @app.get("/swallow-then-raise")
    def swallow_then_raise() -> None:
        deeds.swallow()
        deeds.bug()

    @app.get("/swallow-then-404")
    async def swallow_then_404() -> None:
        deeds.swallow()
        raise HTTPException(404)

    @app.get("/own")
    def own() -> None:
        deeds.swallow()
        raise HTTPException(503, "own answer")

    @app.get("/hand")
    async def hand() -> None:
        deeds.hand()

    @app.get("/bug")
    def bug() -> None:
        deeds.bug()

    @app.get("/late")
    def late() -> StreamingResponse:
        return StreamingResponse(deeds.late())

    @app.get("/early")
    def early() -> StreamingResponse:
        return StreamingResponse(deeds.early())

    @app.get("/whole")
    async def whole() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            for piece in deeds.whole():
                yield piece

        return StreamingResponse(pieces())

    return app


def wsgi_app(deeds: Deeds) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        """Everything in a generator: the start comes with the first piece."""
        path = environ["PATH_INFO"].strip("/")
        if path in ("late", "early", "whole"):
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield from getattr(deeds, path)()
            return
        status, body = plain_answer(deeds, path)
        start_response(f"{status} Whatever", [("Content-Type", "application/json")])
        yield json.dumps(body).encode()

    return failstop.wsgi.FailStopMiddleware(
        app, failsafe=deeds.failsafe, exempt=["/exempt", "/static/"]
    )


def asgi_app(deeds: Deeds) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        path = scope["path"].strip("/")
        if path in ("late", "early", "whole"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for piece in getattr(deeds, path)():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body"})
            return
        status, body = plain_answer(deeds, path)
        await send({"type": "http.response.start", "status": status, "headers": JSON})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})

    return failstop.asgi.FailStopMiddleware(
        app, failsafe=deeds.failsafe, exempt=["/exempt", "/static/"]
    )


def plain_answer(deeds: Deeds, path: str) -> tuple[int, object]:
    """Do what `path` says; the frameworks' own ways are theirs."""
    match path:
        case "fine" | "exempt" | "static/logo":
            deeds.ran.append("fine")
            return 200, {"trades": "real"}
        case "swallow":
            return 200, deeds.swallow()
        case "raise":
            deeds.trip()
        case "swallow-then-raise":
            deeds.swallow()
            deeds.bug()
        case "swallow-then-404":
            deeds.swallow()
            return 404, {}
        case "own":
            deeds.swallow()
            return 503, {"detail": "own answer"}
        case "hand":
            deeds.hand()
    raise LookupError("a bug")


ADAPTERS: dict[str, Callable[[Deeds], Any]] = {
    "flask": flask_app,
    "fastapi": fastapi_app,
    "wsgi": wsgi_app,
    "asgi": asgi_app,
}


@pytest.fixture
def deeds(failsafe: FailSafe) -> Deeds:
    return Deeds(failsafe)


@pytest.fixture(params=ADAPTERS)
def client(request: pytest.FixtureRequest, deeds: Deeds) -> httpx.Client:
    serve = "serve_wsgi" if request.param in ("flask", "wsgi") else "serve_asgi"
    made: httpx.Client = request.getfixturevalue(serve)(ADAPTERS[request.param](deeds))
    return made


def assert_failure_response(answer: httpx.Response, failsafe: FailSafe) -> None:
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["error"] == "Trading system temporarily unavailable"
    assert body["code"] == "SYSTEM_FAILURE"
    assert failsafe.incident is not None
    assert body["details"]["incidentId"] == failsafe.incident.incident_id
    assert failsafe.state is State.FAIL_SAFE


def test_a_good_answer_passes(client: httpx.Client) -> None:
    answer = client.get("/fine")
    assert (answer.status_code, answer.json()) == (200, {"trades": "real"})


@pytest.mark.parametrize(
    "path", ["swallow", "raise", "swallow-then-raise", "swallow-then-404", "early"]
)
def test_a_critical_failure_ends_in_the_failure_response(
    path: str, client: httpx.Client, failsafe: FailSafe
) -> None:
    """Whatever the handler made of it, and the same for a stream that had not begun."""
    answer = client.get(f"/{path}")
    assert_failure_response(answer, failsafe)
    assert answer.json()["details"]["outcome"] == "ROLLED_BACK"
    assert answer.headers["retry-after"] == "180"


def test_an_answer_of_500_or_above_stands(client: httpx.Client) -> None:
    answer = client.get("/own")
    assert answer.status_code == 503
    assert "own" in answer.text
    assert answer.headers["content-type"] != "application/problem+json"


def test_a_critical_error_raised_by_hand_trips(client: httpx.Client, failsafe: FailSafe) -> None:
    answer = client.get("/hand")
    assert_failure_response(answer, failsafe)
    assert answer.json()["details"]["outcome"] == "UNKNOWN"
    assert "retry-after" not in answer.headers


def test_another_error_is_the_frameworks(client: httpx.Client, failsafe: FailSafe) -> None:
    answer = client.get("/bug")
    assert answer.status_code == 500
    assert "failstop" not in answer.text
    assert failsafe.is_normal


def test_a_whole_stream_passes(client: httpx.Client) -> None:
    answer = client.get("/whole")
    assert (answer.status_code, answer.content) == (200, b"abc")


def test_a_stream_under_way_is_broken_off(client: httpx.Client, failsafe: FailSafe) -> None:
    """The client can tell: it is not the clean end of a short answer."""
    got = b""
    with client.stream("GET", "/late") as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            for piece in answer.iter_raw():
                got += piece
    assert got == b"real"
    assert failsafe.state is State.FAIL_SAFE


def test_no_handler_runs_unless_normal(
    client: httpx.Client, deeds: Deeds, failsafe: FailSafe
) -> None:
    failsafe.halt(actor="ann", reason="drill")
    answer = client.get("/fine")
    assert_failure_response(answer, failsafe)
    assert answer.json()["details"]["outcome"] == "NOT_STARTED"
    assert "retry-after" not in answer.headers  # a person halted it
    assert deeds.ran == []


@pytest.mark.parametrize("path", ["/exempt", "/static/logo"])
def test_an_exempt_path_is_served_in_every_state(
    path: str, client: httpx.Client, failsafe: FailSafe
) -> None:
    failsafe.halt(actor="ann", reason="drill")
    assert client.get(path).status_code == 200


def test_a_head_request_gets_the_failure_without_a_body(
    client: httpx.Client, failsafe: FailSafe
) -> None:
    failsafe.halt(actor="ann", reason="drill")
    answer = client.head("/fine")
    assert (answer.status_code, answer.content) == (503, b"")
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_handler_runs_again_after_the_reset(client: httpx.Client, failsafe: FailSafe) -> None:
    client.get("/swallow")
    assert client.get("/fine").status_code == 503
    failsafe.reset(actor="ann", reason="over")
    assert client.get("/fine").status_code == 200


# The endpoints, through every adapter


def test_the_status_in_normal(client: httpx.Client) -> None:
    answer = client.get("/api/system/status")
    body = answer.json()
    assert (answer.status_code, body["status"]) == (200, "operational")
    assert body["tradingSafety"] == {"safe": True, "reasons": []}
    assert answer.headers["cache-control"] == "no-store"


def test_the_status_in_fail_safe_mode(client: httpx.Client, failsafe: FailSafe) -> None:
    client.get("/swallow")
    answer = client.get("/api/system/status")
    body = answer.json()
    assert (answer.status_code, body["status"]) == (503, "critical")
    assert failsafe.incident is not None
    assert body["failSafeMode"]["active"] is True
    assert body["failSafeMode"]["incidentId"] == failsafe.incident.incident_id
    assert body["tradingSafety"]["safe"] is False


def test_a_database_that_nobody_watches_is_not_up(client: httpx.Client) -> None:
    answer = client.get("/api/database/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "unknown")


def test_liveness_and_readiness(client: httpx.Client, failsafe: FailSafe) -> None:
    def seen() -> tuple[int, int]:
        return client.get("/livez").status_code, client.get("/readyz").status_code

    assert seen() == (200, 200)
    failsafe.halt(actor="ann", reason="drill")
    assert seen() == (200, 503)
    assert client.head("/readyz").status_code == 503


def test_an_endpoint_answers_no_post(client: httpx.Client) -> None:
    assert client.post("/api/system/status").status_code not in (200, 503)
