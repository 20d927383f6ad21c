"""The WSGI middleware: every request is a protected call, whatever framework is behind it.

Only failstop's public face. The start of an answer is held back until the first piece of its body
is there; what is under way already is broken off by raising, never ended cleanly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, TypeAlias

from failstop import Dependency, FailSafe, ProtectedCall
from failstop.web import (
    MOST_BODY,
    AdminToken,
    Answer,
    Endpoints,
    Operations,
    Request,
    failure_answer,
    headers_of,
)

__all__ = ["CALL", "FailStopMiddleware"]

CALL = "failstop.call"
"""The key of the request's ProtectedCall in the WSGI environment."""

Environ = dict[str, Any]
ExcInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None] | None
)
Write = Callable[[bytes], object]
StartResponse = Callable[..., Write]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


class FailStopMiddleware:
    """Protect every request of `app`, and answer the endpoints.

    Unless the state is NORMAL, requests are answered 503.

    Args:
        app: the WSGI application.
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
        ConfigurationError: a setting is wrong.
    """

    def __init__(
        self,
        app: App,
        *,
        failsafe: FailSafe,
        database: Dependency | None = None,
        exempt: Iterable[str] = (),
        operations: Mapping[str, str] | None = None,
        admin_token: AdminToken = None,
    ) -> None:
        self._app = app
        self._failsafe = failsafe
        self._endpoints = Endpoints(
            failsafe, database=database, exempt=exempt, admin_token=admin_token
        )
        self._operations = Operations(failsafe, operations)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request, as WSGI has it."""
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        endpoint = self._endpoints.find(method, path)
        if endpoint is not None:
            body = _body(environ) if endpoint.takes_body else b""
            return _send(endpoint.answer(_request(environ, body)), start_response, method)
        if self._endpoints.is_exempt(path):
            return self._app(environ, start_response)
        return self._protect(environ, start_response)

    def _protect(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        operation = self._operations.find(method, path)
        call = ProtectedCall(self._failsafe, operation=operation)
        environ[CALL] = call
        held = _HeldAnswer(call, start_response)
        try:
            with call:
                self._failsafe.require()
                held.take(self._app(environ, held.start_response))
            held.begin()
        except Exception:
            held.close()
            if call.error is None or held.is_under_way:
                raise
        else:
            if held.is_under_way or not held.is_refuted:
                return held
            held.close()
        return _send(failure_answer(call.response()), start_response, environ["REQUEST_METHOD"])


class _HeldAnswer:
    """The answer of one protected call, on its way from the application to the server."""

    def __init__(self, call: ProtectedCall, start_response: StartResponse) -> None:
        self._call = call
        self._start_response = start_response
        self._start: tuple[Any, ...] | None = None
        self._status = 0
        self._first: list[bytes] = []
        self._pieces: Iterator[bytes] = iter(())
        self._close: Callable[[], object] | None = None
        self._write: Write | None = None
        self.is_under_way = False

    @property
    def is_refuted(self) -> bool:
        """True where a critical failure was seen, and the answer does not say so."""
        return self._call.error is not None and self._status < 500

    # What the application calls

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo = None
    ) -> Write:
        """Hold the start; with `exc_info`, replace what is held or let the server judge."""
        if self.is_under_way:
            return self._start_response(status, headers, exc_info)
        if self._start is not None and exc_info is None:
            raise AssertionError("start_response() was called twice without exc_info")
        self._start = (status, headers) if exc_info is None else (status, headers, exc_info)
        self._status = int(status[:3])
        return self.write

    def write(self, piece: bytes) -> None:
        """Send a piece at once, as the older of WSGI's two ways has it."""
        if self.is_refuted:
            self._call.abort()
        if not self.is_under_way:
            self._go()
        assert self._write is not None
        self._write(piece)

    # What the middleware and the server call

    def take(self, pieces: Iterable[bytes]) -> None:
        """Take the body from the application."""
        self._close = getattr(pieces, "close", None)
        self._pieces = iter(pieces)

    def begin(self) -> None:
        """Make the body's first piece that is not empty, and begin to send where nothing failed."""
        for piece in iter(self._piece, None):
            if piece:
                self._first = [piece]
                break
        if not self.is_under_way and not self.is_refuted:
            self._go()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._first:
            return self._first.pop()
        piece = self._piece()
        if self.is_refuted:
            self._call.abort()
        if piece is None:
            raise StopIteration
        return piece

    def close(self) -> None:
        """Close the application's body, in the call, and end the call."""
        close, self._close = self._close, None
        try:
            with self._call:
                if close is not None:
                    close()
        finally:
            self._call.close()

    def _piece(self) -> bytes | None:
        with self._call:
            return next(self._pieces, None)

    def _go(self) -> None:
        if self._start is None:
            raise AssertionError("the application sent a body before start_response()")
        self.is_under_way = True
        self._write = self._start_response(*self._start)


def _request(environ: Environ, body: bytes) -> Request:
    pairs = [
        (name.removeprefix("HTTP_").replace("_", "-"), value)
        for name, value in environ.items()
        if name.startswith("HTTP_") or name == "CONTENT_TYPE"
    ]
    return Request(
        method=environ["REQUEST_METHOD"],
        path=environ.get("PATH_INFO", ""),
        query=environ.get("QUERY_STRING", ""),
        headers=headers_of(pairs),
        body=body,
        client=environ.get("REMOTE_ADDR", ""),
    )


def _body(environ: Environ) -> bytes:
    """Return the body, or a piece of it that shows that it is too long."""
    length, most = environ.get("CONTENT_LENGTH") or "", MOST_BODY + 1
    if length.isdecimal():
        most = min(int(length[:9]), most)
    elif not environ.get("wsgi.input_terminated"):
        most = 0
    body: bytes = environ["wsgi.input"].read(most)
    return body


def _send(answer: Answer, start_response: StartResponse, method: str) -> Iterable[bytes]:
    status = f"{answer.status} {HTTPStatus(answer.status).phrase}"
    start_response(status, list(answer.headers.items()))
    return [b"" if method == "HEAD" else answer.body]
