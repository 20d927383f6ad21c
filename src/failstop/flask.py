"""The Flask extension: every route is protected, and the endpoints are there."""

from __future__ import annotations

from collections.abc import Iterable

from flask import Flask, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import InternalServerError

from failstop import ConfigurationError, CriticalError, Dependency, FailSafe, ProtectedCall
from failstop.wsgi import CALL, FailStopMiddleware

__all__ = ["FailStop"]

KEY = "failstop"


class FailStop:
    """Protect every route of `app`, and answer the endpoints.

    Unless the state is NORMAL, requests are answered 503. The FailSafe is in
    `app.extensions["failstop"]`; starting and closing it stays yours, a server with several
    processes does it in each.

    Args:
        app: the application; None for `init_app()` later.
        failsafe: what must be NORMAL.
        database: the database of `/api/database/health`; None for the first one.
        exempt: paths which are served in every state and without protection; one that ends with
            "/" stands for all below it.

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
    ) -> None:
        self.failsafe = failsafe
        self._database = database
        self._exempt = exempt
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
            app.wsgi_app, failsafe=self.failsafe, database=self._database, exempt=self._exempt
        )
        app.extensions[KEY] = self.failsafe
        app.register_error_handler(CriticalError, self._answer)
        app.register_error_handler(InternalServerError, self._answer_unhandled)
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
