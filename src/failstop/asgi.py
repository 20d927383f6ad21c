"""The ASGI middleware: every HTTP request is a protected call, whatever framework is behind it.

Pure ASGI, and only failstop's public face. An endpoint that may wait does so on a thread of its
own, where the event loop is asyncio's. An answer is held back until it is certain: the start
until the first piece of the body, the last piece while a guarded operation is open (a framework
may commit in a dependency that ends after the answer). What is under way already is broken off by
raising, never ended cleanly.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from concurrent.futures import Future
from typing import Any

from failstop import CriticalError, Dependency, FailSafe, ProtectedCall
from failstop.web import (
    MOST_BODY,
    AdminToken,
    Answer,
    Endpoint,
    Endpoints,
    Operations,
    Request,
    failure_answer,
    headers_of,
    problem_answer,
)

__all__ = ["FailStopMiddleware"]

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

START = "http.response.start"
PIECES = frozenset(
    {
        "http.response.body",
        "http.response.pathsend",
        "http.response.trailers",
        "http.response.zerocopysend",
    }
)
TRY_AGAIN_LATER = 1013
MOST_WAITING = 16
"""Requests for the status that may wait for the store at one time."""
BUSY = problem_answer(
    503,
    {
        "type": "https://failstop.dev/problems/busy",
        "title": "Too many requests for the status at one time",
        "status": 503,
    },
    {"Retry-After": "1"},
)


class FailStopMiddleware:
    """Protect every HTTP request of `app`, and answer the endpoints.

    Unless the state is NORMAL, requests are answered 503 and WebSockets are denied before they
    open. A WebSocket that is open has no answer to replace: protect what handles its messages.
    Lifespan passes through.

    Args:
        app: the ASGI application.
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
        self._waiting = threading.BoundedSemaphore(MOST_WAITING)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI has it."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._open(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = _path(scope)
        endpoint = self._endpoints.find(scope["method"], path)
        if endpoint is not None:
            await self._answer(endpoint, _Asked(scope, path), receive, send)
        elif self._endpoints.is_exempt(path):
            await self._app(scope, receive, send)
        else:
            operation = self._operations.find(scope["method"], path)
            await self._protect(
                ProtectedCall(self._failsafe, operation=operation), scope, receive, send
            )

    async def _answer(
        self, endpoint: Endpoint, asked: _Asked, receive: Receive, send: Send
    ) -> None:
        body = await _body(receive) if endpoint.takes_body else b""
        if body is None:
            return
        request = asked.request(body)
        if not endpoint.is_blocking:
            answer = endpoint.answer(request)
        elif endpoint.takes_body:  # an order must not wait for those who only look
            answer = await _apart(lambda: endpoint.answer(request))
        elif self._waiting.acquire(blocking=False):
            try:
                answer = await _apart(lambda: endpoint.answer(request))
            finally:
                self._waiting.release()
        else:
            answer = BUSY
        await _send(answer, send, request.method)

    async def _protect(
        self, call: ProtectedCall, scope: Scope, receive: Receive, send: Send
    ) -> None:
        held = _HeldAnswer(call, send)
        try:
            with call:
                self._failsafe.require()
                await self._app(scope, receive, held.send)
        except Exception:
            if call.error is None or held.is_under_way:
                raise
            await _send(failure_answer(call.response()), send, scope["method"])
        else:
            if held.is_refuted and not held.is_under_way:
                await _send(failure_answer(call.response()), send, scope["method"])
            else:
                await held.end()
        finally:
            call.close()

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = ProtectedCall(self._failsafe)
        try:
            with call:
                self._failsafe.require()
        except CriticalError:
            await receive()  # websocket.connect
            await _deny(failure_answer(call.response()), send, scope)
        else:
            await self._app(scope, receive, send)


class _Asked:
    """What was asked for, but for the body."""

    def __init__(self, scope: Scope, path: str) -> None:
        self._scope = scope
        self._path = path

    def request(self, body: bytes) -> Request:
        """Return the request with its body."""
        scope = self._scope
        client = scope.get("client")
        pairs = (
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in scope.get("headers", ())
        )
        return Request(
            method=scope["method"],
            path=self._path,
            query=scope.get("query_string", b"").decode("latin-1"),
            headers=headers_of(pairs),
            body=body,
            client=client[0] if client else "",
        )


class _HeldAnswer:
    """The answer of one protected call, on its way from the application to the server."""

    def __init__(self, call: ProtectedCall, send: Send) -> None:
        self._call = call
        self._send = send
        self._held: list[Message] = []
        self._status = 0
        self._has_trailers = False
        self._is_whole = False
        self.is_under_way = False

    @property
    def is_refuted(self) -> bool:
        """True where a critical failure was seen, and the answer does not say so."""
        return self._call.error is not None and self._status < 500

    async def send(self, message: Message) -> None:
        """Take a message from the application."""
        if message["type"] == START:
            self._status = message["status"]
            self._has_trailers = message.get("trailers", False)
            self._held.append(message)
        elif message["type"] not in PIECES:
            await self._send(message)
        elif self._is_last(message):
            self._held.append(message)
            if self._call.error is None and not self._call.has_open_work:
                await self._release()
                self._is_whole = True
        else:
            if self.is_refuted:
                self._call.abort()
            self._held.append(message)
            await self._release()

    async def end(self) -> None:
        """Send what is held, now that the application is done.

        Raises:
            CriticalError: one was seen while the answer was under way.
        """
        if self.is_refuted and not self._is_whole:
            self._call.abort()
        await self._release()

    async def _release(self) -> None:
        self.is_under_way = True
        held, self._held = self._held, []
        for message in held:
            await self._send(message)

    def _is_last(self, message: Message) -> bool:
        if message["type"] == "http.response.trailers":
            return not message.get("more_trailers", False)
        return not (message.get("more_body", False) or self._has_trailers)


async def _body(receive: Receive) -> bytes | None:
    """Return the body, or a piece of it that shows that it is too long; None where nobody waits."""
    body = bytearray()
    while len(body) <= MOST_BODY:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return bytes(body[: MOST_BODY + 1])


async def _apart(work: Callable[[], Answer]) -> Answer:
    """Do what may wait on a thread of its own; here, where the loop is not asyncio's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    done: Future[Answer] = Future()
    thread = threading.Thread(
        target=_settle, args=(work, done), name="failstop-endpoint", daemon=True
    )
    thread.start()
    return await asyncio.wrap_future(done)


def _settle(work: Callable[[], Answer], done: Future[Answer]) -> None:
    done.set_running_or_notify_cancel()  # an order that is under way is done, whoever waits
    try:
        done.set_result(work())
    except BaseException as error:  # noqa: BLE001 - raised where it is waited for
        done.set_exception(error)


def _path(scope: Scope) -> str:
    """Return the path below the point at which the application is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    is_below = root and (path == root or path.startswith(root.rstrip("/") + "/"))
    return path[len(root.rstrip("/")) :] if is_below else path


async def _send(answer: Answer, send: Send, method: str) -> None:
    await send({"type": START, "status": answer.status, "headers": _headers(answer)})
    body = b"" if method == "HEAD" else answer.body
    await send({"type": "http.response.body", "body": body})


async def _deny(answer: Answer, send: Send, scope: Scope) -> None:
    """Refuse a WebSocket: with the answer where the server can send one, else it says 403."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": "suspended"})
        return
    start = {"type": "websocket.http.response.start", "status": answer.status}
    await send({**start, "headers": _headers(answer)})
    await send({"type": "websocket.http.response.body", "body": answer.body})


def _headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in answer.headers.items()
    ]
