"""The WSGI middleware held against the standard, by the standard library's own validator."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from failstop import CriticalError, FailSafe
from failstop.wsgi import FailStopMiddleware

HEADERS = [("Content-Type", "text/plain")]


class Server:
    """Calls an application as a server does, both sides validated."""

    def __init__(self, app: Any, failsafe: FailSafe) -> None:
        self.app = validator(FailStopMiddleware(validator(app), failsafe=failsafe))
        self.status = ""
        self.written: list[bytes] = []

    def start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        if exc_info and self.written:
            raise exc_info[1]
        self.status = status
        return self.written.append

    def get(self) -> bytes:
        environ: dict[str, Any] = {"QUERY_STRING": ""}
        setup_testing_defaults(environ)
        pieces: Any = self.app(environ, self.start_response)
        try:
            for piece in pieces:
                assert self.status, "a body came before the start"
                self.written.append(piece)
        finally:
            pieces.close()
        return b"".join(self.written)


def swallow(failsafe: FailSafe) -> None:
    with contextlib.suppress(CriticalError):
        failsafe.trip(error := CriticalError("lost"))
        raise error


class Body:
    """A body that tells when it is closed."""

    def __init__(self, pieces: Iterable[bytes], on_close: Callable[[], None]) -> None:
        self._pieces = iter(pieces)
        self.close = on_close

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces


def test_a_good_answer_passes_and_its_body_is_closed(failsafe: FailSafe) -> None:
    closed: list[str] = []

    def app(environ: Any, start_response: Any) -> Body:
        start_response("200 OK", HEADERS)
        return Body([b"", b"a", b"b"], lambda: closed.append("once"))

    server = Server(app, failsafe)
    assert (server.get(), server.status, closed) == (b"ab", "200 OK", ["once"])


def test_a_replaced_body_is_closed(failsafe: FailSafe) -> None:
    closed: list[str] = []

    def app(environ: Any, start_response: Any) -> Body:
        swallow(failsafe)
        start_response("200 OK", HEADERS)
        return Body([b"fallback"], lambda: closed.append("once"))

    server = Server(app, failsafe)
    assert b"SYSTEM_FAILURE" in server.get()
    assert (server.status, closed) == ("503 Service Unavailable", ["once"])


def test_an_answer_without_a_body_passes(failsafe: FailSafe) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("204 No Content", [])
        return []

    server = Server(app, failsafe)
    assert (server.get(), server.status) == (b"", "204 No Content")


def test_what_is_written_at_once_passes(failsafe: FailSafe) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", HEADERS)
        write(b"a")
        return [b"b"]

    server = Server(app, failsafe)
    assert (server.get(), server.status) == (b"ab", "200 OK")


def test_a_failure_before_the_first_write_is_answered(failsafe: FailSafe) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", HEADERS)
        swallow(failsafe)
        write(b"fallback")
        return []

    server = Server(app, failsafe)
    assert b"fallback" not in server.get()
    assert server.status == "503 Service Unavailable"


@pytest.mark.parametrize("writes_on", [True, False])
def test_a_failure_after_the_first_write_breaks_off(writes_on: bool, failsafe: FailSafe) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", HEADERS)
        write(b"real")
        swallow(failsafe)
        if writes_on:
            write(b"fallback")
        return []

    server = Server(app, failsafe)
    with pytest.raises(CriticalError):
        server.get()
    assert server.written == [b"real"]


def test_an_error_page_replaces_the_start_that_is_held(failsafe: FailSafe) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", HEADERS)
        try:
            raise ValueError
        except ValueError as error:
            start_response("500 Oh", HEADERS, (ValueError, error, error.__traceback__))
        return [b"a page"]

    server = Server(app, failsafe)
    assert (server.get(), server.status) == (b"a page", "500 Oh")


def test_an_error_page_after_the_start_is_the_servers_to_judge(failsafe: FailSafe) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", HEADERS)
        yield b"real"
        try:
            raise ValueError
        except ValueError as error:
            start_response("500 Oh", HEADERS, (ValueError, error, error.__traceback__))
        yield b"a page"

    server = Server(app, failsafe)
    with pytest.raises(ValueError, match=r"^$"):
        server.get()
    assert (server.written, server.status) == ([b"real"], "200 OK")


def test_a_second_start_without_an_error_is_a_mistake(failsafe: FailSafe) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", HEADERS)
        start_response("200 OK", HEADERS)
        return []

    with pytest.raises(AssertionError, match="twice"):
        Server(app, failsafe).get()


def test_a_body_without_a_start_is_a_mistake(failsafe: FailSafe) -> None:
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    protected = FailStopMiddleware(lambda environ, start_response: [b"a"], failsafe=failsafe)
    with pytest.raises(AssertionError, match="before start_response"):
        protected(environ, lambda *_: lambda piece: None)


def test_the_call_ends_with_the_body(failsafe: FailSafe) -> None:
    """What the application does while it closes its body is still part of the call."""
    from failstop._scope import Scope, current_scope

    seen: list[Scope | None] = []

    def app(environ: Any, start_response: Any) -> Body:
        seen.append(current_scope.get())
        start_response("200 OK", HEADERS)
        return Body([b"a"], lambda: seen.append(current_scope.get()))

    Server(app, failsafe).get()
    assert current_scope.get() is None
    assert seen[0] is seen[1]
    assert seen[0] is not None
    assert seen[0].is_closed
