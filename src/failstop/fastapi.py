"""The FastAPI adapter: every route is protected, and the endpoints are there."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, overload

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.responses import JSONResponse

from failstop import ConfigurationError, Database, Dependency, FailSafe, FailureResponse
from failstop.asgi import FailStopMiddleware
from failstop.web import (
    ANYBODY,
    IDEMPOTENCY_KEY,
    KEY_ERRORS,
    REPLAYED,
    AdminToken,
    AsyncOnce,
    Endpoints,
    Once,
    Operations,
    Tokens,
    fingerprint_of,
    is_async_database,
    key_answer,
    read_key,
    scoped_key,
)

if TYPE_CHECKING:
    from failstop import AsyncDatabase

__all__ = ["AsyncOnce", "Once", "idempotent", "install", "respond"]

KEY = "failstop"


def install(
    app: FastAPI,
    *,
    failsafe: FailSafe,
    database: Dependency | None = None,
    exempt: Iterable[str] = (),
    operations: Mapping[str, str] | None = None,
    admin_token: AdminToken = None,
) -> None:
    """Protect every route of `app`, answer the endpoints and what an Idempotency-Key means.

    Unless the state is NORMAL, requests are answered 503. The FailSafe is in `app.state.failstop`;
    starting and closing it is the lifespan's.

    Args:
        app: the application, not serving yet.
        failsafe: what must be NORMAL.
        database: the database of `/api/database/health`; None for the first one.
        exempt: paths which are served in every state and without protection; one that ends with
            "/" stands for all below it.
        operations: what requests do that `reduce_only` lets through in a halt: the operation by
            `"DELETE /orders/{id}"`, or by `"/orders/cancel"` for all methods. The whole request is
            then that operation, whichever handler it comes to.
        admin_token: one token, or several by name, with which a person may halt and reset over
            HTTP; without one there is nothing at `/admin/…`.

    Raises:
        ConfigurationError: a setting is wrong, or the application is protected already.
    """
    if hasattr(app.state, KEY):
        raise ConfigurationError("this FastAPI application is protected already")
    paths = tuple(exempt)
    tokens = Tokens.of(admin_token)  # which shows none, where FastAPI shows the middleware
    Endpoints(failsafe, database=database, exempt=paths)  # FastAPI makes the middleware later
    Operations(failsafe, operations)
    setattr(app.state, KEY, failsafe)
    for error in KEY_ERRORS:
        app.add_exception_handler(error, _answer_key)
    app.add_middleware(
        FailStopMiddleware,
        failsafe=failsafe,
        database=database,
        exempt=paths,
        operations=operations,
        admin_token=tokens,
    )


def respond(failure: FailureResponse) -> JSONResponse:
    """Return the failure response as FastAPI's own, for a decorated route without `install()`."""
    return JSONResponse(failure.body, failure.status, failure.headers)


async def _answer_key(request: Request, error: Exception) -> Response:
    answer = key_answer(error)
    return Response(answer.body, answer.status, answer.headers)


@overload
def idempotent(
    database: Database, *, caller: Callable[..., object] | None = None
) -> Callable[..., Coroutine[Any, Any, Once]]: ...


@overload
def idempotent(
    database: AsyncDatabase, *, caller: Callable[..., object] | None = None
) -> Callable[..., Coroutine[Any, Any, AsyncOnce]]: ...


def idempotent(database: Any, *, caller: Callable[..., object] | None = None) -> Any:
    """Return the dependency that does a route's work once for each `Idempotency-Key`.

    `once: Annotated[AsyncOnce, Depends(idempotent(database))]`, then `return await once(work)`;
    with a Database it is `Once`, in a route that is a plain function. A replay has the header
    `Idempotency-Replayed: true`; where the route makes a Response of its own, that is the route's
    to set from `once.is_replayed`. `install()` answers 400, 409, 410 and 422 for what a key means.

    Args:
        database: where the work is done and the receipts are.
        caller: a dependency that returns the identity of whoever sends the request, as a text that
            stays the same when they log in anew. Without it all clients share the keys of a path:
            whoever sends another's key and request is given the other's answer.

    Raises:
        ConfigurationError: the database is none.
    """
    kind = AsyncOnce if is_async_database(database) else Once

    async def dependency(
        request: Request,
        response: Response,
        idempotency_key: Annotated[str | None, Header()] = None,  # described to clients with it
        who: Any = Depends(caller or _nobody),  # noqa: B008 - how FastAPI is told
    ) -> Any:
        key = scoped_key(
            read_key(", ".join(request.headers.getlist(IDEMPOTENCY_KEY))),
            method=request.method,
            path=request.scope["path"],
            caller=ANYBODY if caller is None else who,
        )

        def tell_replay() -> None:
            response.headers[REPLAYED] = "true"

        return kind(database, key, await _fingerprint(request), tell_replay)

    return dependency


async def _nobody() -> None:
    return None


async def _fingerprint(request: Request) -> str:
    try:
        body = await request.body()
    except RuntimeError as error:
        raise ConfigurationError(
            "idempotent() needs the body of the request, but it was read as a form or a stream; "
            "take it as JSON"
        ) from error
    return fingerprint_of(request.method, request.scope["path"], request.url.query, body)
