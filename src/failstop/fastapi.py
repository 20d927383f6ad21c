"""The FastAPI adapter: every route is protected, and the endpoints are there."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from failstop import ConfigurationError, Dependency, FailSafe, FailureResponse
from failstop.asgi import FailStopMiddleware
from failstop.web import Endpoints

__all__ = ["install", "respond"]

KEY = "failstop"


def install(
    app: FastAPI,
    *,
    failsafe: FailSafe,
    database: Dependency | None = None,
    exempt: Iterable[str] = (),
) -> None:
    """Protect every route of `app`, and answer the endpoints.

    Unless the state is NORMAL, requests are answered 503. The FailSafe is in `app.state.failstop`;
    starting and closing it is the lifespan's.

    Args:
        app: the application, not serving yet.
        failsafe: what must be NORMAL.
        database: the database of `/api/database/health`; None for the first one.
        exempt: paths which are served in every state and without protection; one that ends with
            "/" stands for all below it.

    Raises:
        ConfigurationError: a setting is wrong, or the application is protected already.
    """
    if hasattr(app.state, KEY):
        raise ConfigurationError("this FastAPI application is protected already")
    paths = tuple(exempt)
    Endpoints(failsafe, database=database, exempt=paths)  # FastAPI makes the middleware later
    setattr(app.state, KEY, failsafe)
    app.add_middleware(FailStopMiddleware, failsafe=failsafe, database=database, exempt=paths)


def respond(failure: FailureResponse) -> JSONResponse:
    """Return the failure response as FastAPI's own, for a decorated route without `install()`."""
    return JSONResponse(failure.body, failure.status, failure.headers)
