"""Halt and reset through every adapter, over real HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from flask import Flask

import failstop.asgi
import failstop.fastapi
import failstop.flask
import failstop.wsgi
from failstop import ConfigurationError, FailSafe, State
from failstop.web._request import MOST_BODY

TOKEN = "a-token-that-is-long-enough-for-the-adapters"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
WHO = {"actor": "ann", "reason": "a drill"}
ADMIN = ("/admin/halt", "/admin/force-recovery-reset", "/admin/plan", "/admin/status")


def flask_app(failsafe: FailSafe, token: Any) -> Flask:
    app = Flask("trading")
    failstop.flask.FailStop(app, failsafe=failsafe, admin_token=token)
    return app


def fastapi_app(failsafe: FailSafe, token: Any) -> FastAPI:
    app = FastAPI()
    failstop.fastapi.install(app, failsafe=failsafe, admin_token=token)
    return app


def wsgi_app(failsafe: FailSafe, token: Any) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("404 Not Found", [])
        return [b"the application's own"]

    return failstop.wsgi.FailStopMiddleware(app, failsafe=failsafe, admin_token=token)


def asgi_app(failsafe: FailSafe, token: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b"the application's own"})

    return failstop.asgi.FailStopMiddleware(app, failsafe=failsafe, admin_token=token)


ADAPTERS: dict[str, Callable[[FailSafe, Any], Any]] = {
    "flask": flask_app,
    "fastapi": fastapi_app,
    "wsgi": wsgi_app,
    "asgi": asgi_app,
}


def served(request: pytest.FixtureRequest, name: str, app: Any) -> httpx.Client:
    serve = "serve_wsgi" if name in ("flask", "wsgi") else "serve_asgi"
    client: httpx.Client = request.getfixturevalue(serve)(app)
    return client


@pytest.fixture(params=ADAPTERS)
def client(request: pytest.FixtureRequest, failsafe: FailSafe) -> httpx.Client:
    return served(request, request.param, ADAPTERS[request.param](failsafe, {"ops": TOKEN}))


@pytest.mark.parametrize("name", ADAPTERS)
def test_without_a_token_the_paths_are_the_applications(
    name: str, request: pytest.FixtureRequest, failsafe: FailSafe
) -> None:
    client = served(request, name, ADAPTERS[name](failsafe, None))
    for path in ADMIN:
        assert client.post(path, json=WHO, headers=BEARER).status_code == 404
        assert client.get(path, headers=BEARER).status_code == 404
    assert failsafe.is_normal
    page = client.get("/api/system/status", headers={"Accept": "text/html"})
    assert "<form" not in page.text


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_short_token_is_refused_at_once(name: str, failsafe: FailSafe) -> None:
    with pytest.raises(ConfigurationError, match="32 characters") as error:
        ADAPTERS[name](failsafe, "hunter2-hunter2")
    assert "hunter2" not in str(error.value)


def test_a_person_halts_and_resets(client: httpx.Client, failsafe: FailSafe) -> None:
    halted = client.post("/admin/halt", json=WHO, headers=BEARER)
    assert (halted.status_code, halted.json()["result"]) == (200, "halted")
    assert failsafe.incident is not None
    assert failsafe.incident.actor == "ann (token ops)"
    assert client.get("/api/system/status").status_code == 503
    plan = client.get("/admin/plan", headers=BEARER)
    assert (plan.status_code, plan.json()["allowed"]) == (200, True)
    stale = client.post("/admin/force-recovery-reset", json={**WHO, "epoch": 0}, headers=BEARER)
    assert (stale.status_code, stale.json()["epoch"]) == (409, 1)
    reset = client.post("/admin/force-recovery-reset", json={**WHO, "epoch": 1}, headers=BEARER)
    assert (reset.status_code, reset.json()["state"]) == (200, "NORMAL")
    assert client.get("/api/system/status").status_code == 200


def test_a_form_is_answered_with_a_page(client: httpx.Client, failsafe: FailSafe) -> None:
    headers = {"Accept": "text/html"}
    answer = client.post("/admin/halt", data={**WHO, "token": TOKEN}, headers=headers)
    assert (answer.status_code, failsafe.state) == (200, State.FAIL_SAFE)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1" in answer.text


def test_a_wrong_token_is_refused(client: httpx.Client, failsafe: FailSafe) -> None:
    for headers in ({}, {"Authorization": f"Bearer {TOKEN}x"}):
        answer = client.post("/admin/halt", json=WHO, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert failsafe.is_normal


def test_who_tries_too_often_has_to_wait(client: httpx.Client) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    statuses = [client.get("/admin/plan", headers=wrong).status_code for _ in range(12)]
    assert statuses[:10] == [401] * 10
    assert statuses[10:] == [429] * 2
    assert int(client.get("/admin/plan", headers=wrong).headers["retry-after"]) > 0


def test_another_site_is_refused(client: httpx.Client, failsafe: FailSafe) -> None:
    data = {**WHO, "token": TOKEN}
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        assert client.post("/admin/halt", data=data, headers=headers).status_code == 403
    assert failsafe.is_normal
    own = {"Origin": str(client.base_url)}
    assert client.post("/admin/halt", data=data, headers=own).status_code == 200


def test_a_body_that_is_too_long_is_refused(client: httpx.Client, failsafe: FailSafe) -> None:
    def pieces() -> Any:
        for _ in range(20):
            yield b"a" * 1024

    headers = {**BEARER, "Content-Type": "application/json"}
    long = b"x" * (MOST_BODY + 1)
    assert client.post("/admin/halt", content=long, headers=headers).status_code == 413
    assert client.post("/admin/halt", content=pieces(), headers=headers).status_code == 413
    assert failsafe.is_normal


def test_a_body_in_pieces_is_read_whole(client: httpx.Client, failsafe: FailSafe) -> None:
    headers = {**BEARER, "Content-Type": "application/json"}
    content = iter([b'{"actor": "ann",', b' "reason": "drill"}'])
    assert client.post("/admin/halt", content=content, headers=headers).status_code == 200
    assert failsafe.state is State.FAIL_SAFE


def test_methods_over_http(client: httpx.Client) -> None:
    assert client.options("/admin/halt").status_code == 204
    assert client.get("/admin/halt").headers["allow"] == "POST, OPTIONS"
    assert client.head("/admin/plan", headers=BEARER).content == b""


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/health+json", "application/health+json"),
        ("text/html", "text/html; charset=utf-8"),
        ("*/*", "application/json"),
    ],
)
def test_the_status_is_negotiated(client: httpx.Client, accept: str, content_type: str) -> None:
    answer = client.get("/api/system/status", headers={"Accept": accept})
    assert answer.headers["content-type"] == content_type
    assert answer.headers["vary"] == "Accept"


# An event loop


def test_a_check_round_keeps_no_event_loop_waiting(
    serve_asgi: Callable[[Any], httpx.Client], failsafe: FailSafe
) -> None:
    began, may_end = threading.Event(), threading.Event()
    client = serve_asgi(asgi_app(failsafe, TOKEN))
    client.post("/admin/halt", json=WHO, headers=BEARER)

    @failsafe.check
    def slow() -> bool:
        began.set()
        return may_end.wait(20)

    answers: list[httpx.Response] = []

    def reset() -> None:
        order = {**WHO, "epoch": 1}
        path = "/admin/force-recovery-reset"
        url = f"{client.base_url}{path}"
        answers.append(httpx.post(url, json=order, headers=BEARER, timeout=30, trust_env=False))

    person = threading.Thread(target=reset)
    person.start()
    try:
        assert began.wait(20)
        assert client.get("/livez").status_code == 200
        assert client.get("/api/system/status").status_code == 503
        assert not answers
    finally:
        may_end.set()
        person.join(20)
    assert [answer.status_code for answer in answers] == [200]
    assert failsafe.is_normal


def test_fastapi_shows_no_token_of_its_middleware(failsafe: FailSafe) -> None:
    app = fastapi_app(failsafe, TOKEN)
    assert TOKEN not in repr(app.user_middleware)
