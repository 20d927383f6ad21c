"""The boundary on generators and async generators: broken off by raising, never ended cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest

from failstop import FailSafe, FailureResponse, with_fail_fast_protection
from failstop._scope import current_scope
from failstop.errors import (
    ConfigurationError,
    ConnectionFailedError,
    OperationsSuspendedError,
    Outcome,
)


@pytest.fixture
def failsafe() -> Iterator[FailSafe]:
    with FailSafe("trading-api") as made:
        yield made


def swallow(failsafe: FailSafe) -> None:
    with contextlib.suppress(ConnectionFailedError):
        failsafe.trip(error := ConnectionFailedError("lost", outcome=Outcome.ROLLED_BACK))
        raise error


async def as_async(stream: Generator[Any, Any, Any]) -> AsyncGenerator[Any, None]:
    for item in stream:
        await asyncio.sleep(0)
        yield item


def read(stream: Iterator[Any] | AsyncIterator[Any], into: list[Any]) -> None:
    """Read a stream of either kind to its end."""
    if isinstance(stream, AsyncIterator):

        async def drain() -> None:
            while True:
                into.append(await anext(stream))

        with contextlib.suppress(StopAsyncIteration):
            asyncio.run(drain())
    else:
        with contextlib.suppress(StopIteration):
            while True:
                into.append(next(stream))


KINDS = ["generator", "async generator", "function that returns a generator"]


def protect(
    kind: str, failsafe: FailSafe | None, body: Callable[[], Generator[Any, Any, Any]]
) -> Callable[[], Any]:
    """Protect a stream with the same body in each of the kinds."""
    decorate = with_fail_fast_protection(failsafe=failsafe)
    if kind == "generator":
        return decorate(body)
    if kind == "async generator":

        async def stream() -> AsyncGenerator[Any, None]:
            async for item in as_async(body()):
                yield item

        return decorate(stream)
    return decorate(lambda: body())


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_stream_passes(kind: str, failsafe: FailSafe) -> None:
    got: list[Any] = []

    def body() -> Generator[int, None, None]:
        yield from range(3)

    read(protect(kind, failsafe, body)(), got)
    assert got == [0, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", ["an item", "the end"])
def test_a_swallowed_failure_breaks_the_stream_off(
    kind: str, after: str, failsafe: FailSafe
) -> None:
    """Neither a fallback item nor a clean end follows."""
    got: list[Any] = []

    def body() -> Generator[str, None, None]:
        yield "real"
        swallow(failsafe)
        if after == "an item":
            yield "fallback"

    with pytest.raises(ConnectionFailedError):
        read(protect(kind, None, body)(), got)
    assert got == ["real"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_before_the_first_item_raises_too(kind: str, failsafe: FailSafe) -> None:
    got: list[Any] = []

    def body() -> Generator[str, None, None]:
        swallow(failsafe)
        yield "fallback"

    with pytest.raises(ConnectionFailedError):
        read(protect(kind, None, body)(), got)
    assert got == []


@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_stream_is_refused_unless_normal(kind: str, failsafe: FailSafe) -> None:
    ran = []

    def body() -> Generator[str, None, None]:
        ran.append(kind)
        yield "never"

    stream = protect(kind, failsafe, body)
    failsafe.halt(actor="ann", reason="drill")
    with pytest.raises(OperationsSuspendedError):
        read(stream(), [])
    assert ran == []


@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_halt_breaks_a_stream_off_before_its_next_item(kind: str, failsafe: FailSafe) -> None:
    got: list[Any] = []

    def body() -> Generator[int, None, None]:
        yield 1
        failsafe.halt(actor="ann", reason="drill")
        yield 2
        got.append("it ran on")

    with pytest.raises(OperationsSuspendedError):
        read(protect(kind, failsafe, body)(), got)
    assert got == [1, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_mark_an_error_passes_untouched(kind: str, failsafe: FailSafe) -> None:
    raised = KeyError("no such symbol")

    def body() -> Generator[int, None, None]:
        yield 1
        raise raised

    with pytest.raises(KeyError) as caught:
        read(protect(kind, failsafe, body)(), [])
    assert caught.value is raised


def test_the_scope_does_not_leak_into_the_consumer(failsafe: FailSafe) -> None:
    seen = []

    @with_fail_fast_protection(failsafe=failsafe)
    def stream() -> Generator[None, None, None]:
        while True:
            seen.append(current_scope.get())
            yield

    pieces = stream()
    for _ in range(2):
        next(pieces)
        assert current_scope.get() is None
    pieces.close()
    assert current_scope.get() is None
    assert seen[0] is seen[1] is not None


def test_what_the_consumer_sends_throws_and_closes_reaches_the_handler() -> None:
    heard: list[object] = []

    @with_fail_fast_protection
    def stream() -> Generator[str, str, str]:
        try:
            heard.append((yield "first"))
            try:
                yield "second"
            except LookupError as error:
                heard.append(type(error))
            yield "third"
        finally:
            heard.append("closed")
        return "never"

    pieces = stream()
    assert next(pieces) == "first"
    assert pieces.send("hello") == "second"
    assert pieces.throw(LookupError()) == "third"
    pieces.close()
    assert heard == ["hello", LookupError, "closed"]


async def test_what_the_consumer_sends_throws_and_closes_reaches_the_async_handler() -> None:
    heard: list[object] = []

    @with_fail_fast_protection
    async def stream() -> AsyncGenerator[str, str]:
        try:
            heard.append((yield "first"))
            try:
                yield "second"
            except LookupError as error:
                heard.append(type(error))
            yield "third"
        finally:
            await asyncio.sleep(0)
            heard.append("closed")

    pieces = stream()
    assert await anext(pieces) == "first"
    assert await pieces.asend("hello") == "second"
    assert await pieces.athrow(LookupError()) == "third"
    await pieces.aclose()
    assert heard == ["hello", LookupError, "closed"]


def test_the_value_of_a_generator_is_returned() -> None:
    @with_fail_fast_protection
    def stream() -> Generator[int, None, str]:
        yield 1
        return "done"

    def outer() -> Generator[int, None, None]:
        assert (yield from stream()) == "done"

    assert list(outer()) == [1]


def test_a_broken_stream_is_closed(failsafe: FailSafe) -> None:
    closed = []

    @with_fail_fast_protection
    def stream() -> Generator[str, None, None]:
        try:
            swallow(failsafe)
            yield "fallback"
        finally:
            closed.append(True)

    with pytest.raises(ConnectionFailedError):
        next(stream())
    assert closed == [True]


def test_the_kind_of_a_stream_is_kept() -> None:
    def stream() -> Generator[int, None, None]:
        yield 1

    async def async_stream() -> AsyncGenerator[int, None]:
        yield 1

    assert inspect.isgeneratorfunction(with_fail_fast_protection(stream))
    assert inspect.isasyncgenfunction(with_fail_fast_protection(async_stream))


def test_respond_is_refused_for_a_stream() -> None:
    def stream() -> Generator[int, None, None]:
        yield 1

    with pytest.raises(ConfigurationError, match="never answered"):
        with_fail_fast_protection(respond=lambda failure: failure.status)(stream)
    assert list(with_fail_fast_protection(respond="raise")(stream)()) == [1]


def test_a_marked_function_that_returns_a_stream_is_answered(failsafe: FailSafe) -> None:
    """Its stream has not begun, so there is an answer to replace."""

    @with_fail_fast_protection
    def handler() -> object:
        swallow(failsafe)
        return (each for each in ["fallback"])

    assert isinstance(handler(), FailureResponse)
