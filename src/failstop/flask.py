"""The Flask extension: every route is protected, and the endpoints are there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from flask import Flask, Response, after_this_request, request
from flask.typing import ResponseReturnValue
from sqlalchemy.engine import Connection
from werkzeug.exceptions import InternalServerError

from failstop import (
    ConfigurationError,
    CriticalError,
    Database,
    Dependency,
    FailSafe,
    ProtectedCall,
)
from failstop.web import (
    ANYBODY,
    IDEMPOTENCY_KEY,
    KEY_ERRORS,
    REPLAYED,
    AdminToken,
    Once,
    Tokens,
    fingerprint_of,
    is_async_database,
    key_answer,
    read_key,
    scoped_key,
)
from failstop.wsgi import CALL, FailStopMiddleware

if TYPE_CHECKING:
    from failstop.database import IsolationLevel

__all__ = ["FailStop", "Idempotent", "idempotent"]

T = TypeVar("T")

KEY = "failstop"
ONCE = "failstop.once"
"""The key of the request's work in the WSGI environment."""


class FailStop:
    """Protect every route of `app`, answer the endpoints and what an Idempotency-Key means.

    Unless the state is NORMAL, requests are answered 503. The FailSafe is in
    `app.extensions["failstop"]`; starting and closing it stays yours, a server with several
    processes does it in each.

    Args:
        app: the application; None for `init_app()` later.
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

    def __init__(
        self,
        app: Flask | None = None,
        *,
        failsafe: FailSafe,
        database: Dependency | None = None,
        exempt: Iterable[str] = (),
        operations: Mapping[str, str] | None = None,
        admin_token: AdminToken = None,
    ) -> None:
        self.failsafe = failsafe
        self._database = database
        self._exempt = exempt
        self._operations = operations
        self._tokens = Tokens.of(admin_token)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Protect `app`.

        Raises:
            ConfigurationError: a setting is wrong, or the application is protected already.
        """
        if KEY in app.extensions:
            raise ConfigurationError("this Flask application is protected already")
        protected = FailStopMiddleware(
            app.wsgi_app,
            failsafe=self.failsafe,
            database=self._database,
            exempt=self._exempt,
            operations=self._operations,
            admin_token=self._tokens,
        )
        app.extensions[KEY] = self.failsafe
        app.register_error_handler(CriticalError, self._answer)
        app.register_error_handler(InternalServerError, self._answer_unhandled)
        for error in KEY_ERRORS:
            app.register_error_handler(error, _answer_key)
        app.wsgi_app = protected  # type: ignore[method-assign]  # the way that Flask documents

    def _answer(self, error: CriticalError) -> ResponseReturnValue:
        call = _call(self.failsafe)
        call.take(error)
        return call.response()

    def _answer_unhandled(self, error: InternalServerError) -> ResponseReturnValue:
        """Tell a critical failure instead of the 500 that Flask makes of an error it caused."""
        call = _call(self.failsafe)
        if error.original_exception is None or call.error is None:
            return error
        return call.response()


def _call(failsafe: FailSafe) -> ProtectedCall:
    """Return the request's call; one of its own for an exempt path, which has none."""
    found: ProtectedCall = request.environ.get(CALL) or ProtectedCall(failsafe)
    return found


def _answer_key(error: Exception) -> ResponseReturnValue:
    answer = key_answer(error)
    return Response(answer.body, answer.status, answer.headers)


def idempotent(database: Database, *, caller: Callable[[], str] | None = None) -> Idempotent:
    """Return what does a view's work once for each `Idempotency-Key`.

    `once = idempotent(database)` beside the views, `return once(work)` in them. A replay has the
    header `Idempotency-Replayed: true`. `FailStop` answers 400, 409, 410 and 422 for what a key
    means.

    Args:
        database: where the work is done and the receipts are.
        caller: returns the identity of whoever sends the request, as a text that stays the same
            when they log in anew. Without it all clients share the keys of a path: whoever sends
            another's key and request is given the other's answer.

    Raises:
        ConfigurationError: the database is none, or an AsyncDatabase.
    """
    return Idempotent(database, caller)


class Idempotent:
    """What `idempotent()` returns: call it in a view."""

    def __init__(self, database: Database, caller: Callable[[], str] | None) -> None:
        if is_async_database(database):
            raise ConfigurationError("idempotent() takes a Database here, not an AsyncDatabase")
        self._database = database
        self._caller = caller

    @property
    def is_replayed(self) -> bool:
        """Whether this request's work was done by an earlier one; False before the call."""
        once: Once | None = request.environ.get(ONCE)
        return once is not None and once.is_replayed

    def __call__(
        self,
        work: Callable[[Connection], T],
        *,
        isolation_level: IsolationLevel | None = None,
        deadline: float | None = None,
    ) -> T:
        """Do `work` in a transaction, once for each key; return what it returned the first time.

        Whatever `work` raises rolls it back and stores nothing.

        Args:
            work: as in `Database.run_once()`.
            isolation_level: as in `Database.run_once()`.
            deadline: as in `Database.run_once()`; a twin waits so long for the first request.

        Raises:
            KeyRequiredError: the request has no `Idempotency-Key`, or one that is none.
            RuntimeError: it was called before for this request, which has one key for one work.
            TypeError: what `work` returned is no JSON; nothing is committed.
            IdempotencyConflictError: the key was used for another request.
            KeyInFlightError: the first request is still under way.
            ReceiptExpiredError: the work was done, but its result is kept no more.
            CriticalDatabaseError: the database failed; `outcome` says what became of the work.
            ConfigurationError: the body was read before, so that nobody can compare it.
        """
        once = request.environ.get(ONCE) or self._once()
        request.environ[ONCE] = once
        done: T = once(work, isolation_level=isolation_level, deadline=deadline)
        return done

    def _once(self) -> Once:
        path = request.root_path + request.path
        key = scoped_key(
            read_key(request.headers.get(IDEMPOTENCY_KEY)),
            method=request.method,
            path=path,
            caller=ANYBODY if self._caller is None else self._caller(),
        )
        query = request.query_string.decode("latin-1")
        fingerprint = fingerprint_of(request.method, path, query, _body())
        return Once(self._database, key, fingerprint, lambda: after_this_request(_tell_replay))


def _body() -> bytes:
    """Return the request's body.

    Raises:
        ConfigurationError: not all of it is there: it was read before.
    """
    body, length = request.get_data(), request.content_length
    if length is None:
        is_whole = bool(body) or "Transfer-Encoding" not in request.headers
    else:
        is_whole = len(body) == length
    if is_whole:
        return body
    raise ConfigurationError(
        "once() needs the body of the request, but it was read as a form or a stream; call "
        "request.get_data() first"
    )


def _tell_replay(response: Response) -> Response:
    response.headers[REPLAYED] = "true"
    return response
