"""The ASGI middleware held against the protocol: what waits, what passes, what breaks off."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from failstop import CriticalError, FailSafe, Outcome
from failstop._scope import current_scope
from failstop.asgi import MOST_WAITING, FailStopMiddleware

Send = Callable[[dict[str, Any]], Awaitable[None]]
Handler = Callable[[Send], Awaitable[None]]

START: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": []}
LAST = {"type": "http.response.body", "body": b"whole"}
PIECE = {"type": "http.response.body", "body": b"piece", "more_body": True}


class Work:
    """A guarded operation as the guard reports it."""

    outcome = Outcome.ROLLED_BACK
    is_open = True


class Server:
    """Calls an application as a server does and keeps what it sends."""

    def __init__(self, failsafe: FailSafe, handler: Handler) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await handler(send)

        self.app = FailStopMiddleware(app, failsafe=failsafe)
        self.sent: list[Any] = []

    async def get(self, **scope: Any) -> list[Any]:
        request = {"type": "http", "method": "GET", "path": "/orders", **scope}
        await self.app(request, self.receive, self.send)
        return self.sent

    async def receive(self) -> Any:
        raise AssertionError("nothing asks for the request's body")

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status


def swallow(failsafe: FailSafe) -> None:
    with contextlib.suppress(CriticalError):
        failsafe.trip(error := CriticalError("lost"))
        raise error


async def test_a_good_answer_passes_message_by_message(failsafe: FailSafe) -> None:
    async def handler(send: Send) -> None:
        await send(START)
        await send(LAST)

    assert await Server(failsafe, handler).get() == [START, LAST]


async def test_the_start_waits_for_the_first_piece(failsafe: FailSafe) -> None:
    async def handler(send: Send) -> None:
        await send(START)
        assert server.sent == []
        await send(PIECE)
        assert server.sent == [START, PIECE]
        await send(LAST)

    server = Server(failsafe, handler)
    assert await server.get() == [START, PIECE, LAST]


@pytest.mark.parametrize("pieces", [[], [PIECE]])
async def test_the_last_piece_waits_while_a_guarded_operation_is_open(
    pieces: list[Any], failsafe: FailSafe
) -> None:
    work = Work()

    async def handler(send: Send) -> None:
        scope = current_scope.get()
        assert scope is not None
        scope.add(work)
        for message in [START, *pieces, LAST]:
            await send(message)
        assert LAST not in server.sent
        work.is_open = False

    server = Server(failsafe, handler)
    assert await server.get() == [START, *pieces, LAST]


async def test_an_operation_that_fails_after_the_last_piece_is_told(failsafe: FailSafe) -> None:
    async def handler(send: Send) -> None:
        scope = current_scope.get()
        assert scope is not None
        scope.add(Work())
        await send(START)
        await send(LAST)
        swallow(failsafe)

    server = Server(failsafe, handler)
    await server.get()
    assert server.status == 503


async def test_what_fails_after_a_whole_answer_changes_it_no_more(failsafe: FailSafe) -> None:
    """As in a background task: the answer was true when it was sent."""

    async def handler(send: Send) -> None:
        await send(START)
        await send(LAST)
        swallow(failsafe)

    assert await Server(failsafe, handler).get() == [START, LAST]


@pytest.mark.parametrize("rest", [[], [LAST], [PIECE], [PIECE, LAST]])
async def test_an_answer_under_way_is_never_ended(rest: list[Any], failsafe: FailSafe) -> None:
    async def handler(send: Send) -> None:
        await send(START)
        await send(PIECE)
        swallow(failsafe)
        for message in rest:
            with contextlib.suppress(Exception):
                await send(message)

    server = Server(failsafe, handler)
    with pytest.raises(CriticalError, match="lost"):
        await server.get()
    assert server.sent == [START, PIECE]


async def test_an_error_page_of_500_under_way_may_end(failsafe: FailSafe) -> None:
    start = {**START, "status": 500}

    async def handler(send: Send) -> None:
        swallow(failsafe)
        for message in [start, PIECE, LAST]:
            await send(message)

    assert await Server(failsafe, handler).get() == [start, PIECE, LAST]


async def test_a_framework_that_answers_500_and_raises_is_replaced(failsafe: FailSafe) -> None:
    async def handler(send: Send) -> None:
        swallow(failsafe)
        await send({**START, "status": 500})
        await send(LAST)
        raise LookupError("a bug")

    server = Server(failsafe, handler)
    await server.get()
    assert server.status == 503


@pytest.mark.parametrize(
    "last",
    [
        {"type": "http.response.pathsend", "path": "/dev/null"},
        {"type": "http.response.zerocopysend", "file": 3},
    ],
)
async def test_a_file_is_an_answer_like_any_other(last: Any, failsafe: FailSafe) -> None:
    fails = False

    async def handler(send: Send) -> None:
        if fails:
            swallow(failsafe)
        await send(START)
        await send(last)

    assert await Server(failsafe, handler).get() == [START, last]
    fails = True
    server = Server(failsafe, handler)
    await server.get()
    assert server.status == 503


async def test_trailers_end_an_answer_that_has_them(failsafe: FailSafe) -> None:
    start = {**START, "trailers": True}
    trailers = {"type": "http.response.trailers", "headers": []}
    more = {**trailers, "more_trailers": True}

    async def handler(send: Send) -> None:
        for message in [start, LAST, more]:
            await send(message)
        if fails:
            swallow(failsafe)
        await send(trailers)

    fails = False
    assert await Server(failsafe, handler).get() == [start, LAST, more, trailers]
    fails = True
    server = Server(failsafe, handler)
    with pytest.raises(CriticalError):
        await server.get()
    assert server.sent == [start, LAST, more]


async def test_what_is_no_answer_passes_at_once(failsafe: FailSafe) -> None:
    hint = {"type": "http.response.early_hint", "links": []}

    async def handler(send: Send) -> None:
        await send(hint)
        assert server.sent == [hint]
        await send(START)
        await send(LAST)

    server = Server(failsafe, handler)
    assert await server.get() == [hint, START, LAST]


async def test_an_application_that_answers_nothing_is_the_servers_to_judge(
    failsafe: FailSafe,
) -> None:
    async def handler(send: Send) -> None:
        pass

    assert await Server(failsafe, handler).get() == []


@pytest.mark.parametrize(
    ("root", "path", "status"),
    [
        ("", "/livez", 200),
        ("/trading", "/trading/livez", 200),
        ("/trading/", "/trading/livez", 200),
        ("/trading", "/livez", 200),
        ("/trad", "/trading/livez", 201),
    ],
)
async def test_the_root_path_is_cut_off_at_a_slash(
    root: str, path: str, status: int, failsafe: FailSafe
) -> None:
    async def handler(send: Send) -> None:
        await send({**START, "status": 201})
        await send(LAST)

    server = Server(failsafe, handler)
    await server.get(root_path=root, path=path)
    assert server.status == status


async def test_each_request_has_a_call_of_its_own(failsafe: FailSafe) -> None:
    seen = []

    async def handler(send: Send) -> None:
        seen.append(current_scope.get())
        await send(START)
        await send(LAST)

    server = Server(failsafe, handler)
    await server.get()
    await server.get()
    assert current_scope.get() is None
    assert seen[0] is not seen[1]
    assert all(scope is not None and scope.is_closed for scope in seen)


# What answers itself


TOKEN = "a-token-that-is-long-enough-for-the-middleware"


def asked(path: str, **scope: Any) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": path, "headers": [], **scope}


async def nothing() -> Any:
    raise AssertionError("nothing asks for the request's body")


async def test_who_only_looks_waits_in_no_endless_queue(failsafe: FailSafe) -> None:
    """While the store keeps those that look waiting, more are told to come again; orders pass."""
    server = Server(failsafe, handler=lambda send: send(LAST))
    for _ in range(MOST_WAITING):
        assert server.app._waiting.acquire(blocking=False)
    await server.app(asked("/api/system/status"), nothing, server.send)
    assert server.status == 503
    assert (b"retry-after", b"1") in server.sent[0]["headers"]
    server.sent.clear()
    await server.app(asked("/readyz"), nothing, server.send)
    assert server.status == 200


async def test_an_order_whose_body_never_comes_is_dropped(failsafe: FailSafe) -> None:
    app = FailStopMiddleware(Server(failsafe, lambda send: send(LAST)).app, failsafe=failsafe)
    app = FailStopMiddleware(app, failsafe=failsafe, admin_token=TOKEN)
    sent: list[Any] = []

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(asked("/admin/halt", method="POST"), gone, send)
    assert sent == []
    assert failsafe.is_normal


def test_the_status_is_answered_on_another_loop_than_asyncios(failsafe: FailSafe) -> None:
    server = Server(failsafe, handler=lambda send: send(LAST))
    call = server.app(asked("/api/system/status"), nothing, server.send)
    with pytest.raises(StopIteration):
        call.send(None)  # as a loop drives it
    assert server.status == 200


async def test_what_an_endpoint_raises_reaches_the_server(failsafe: FailSafe) -> None:
    server = Server(failsafe, handler=lambda send: send(LAST))
    failsafe.status = None  # type: ignore[method-assign,assignment]
    with pytest.raises(TypeError):
        await server.app(asked("/api/system/status"), nothing, server.send)
    assert server.app._waiting.acquire(blocking=False)
