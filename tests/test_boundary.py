"""The boundary on functions, coroutine functions, methods, objects and partials."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
from collections.abc import Awaitable, Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest

from failstop import (
    FailSafe,
    FailureResponse,
    ProtectedCall,
    State,
    with_fail_fast_protection,
)
from failstop.errors import (
    ConfigurationError,
    ConnectionFailedError,
    CriticalDatabaseError,
    ErrorCode,
    OperationsSuspendedError,
    Outcome,
    TransactionFailedError,
)


@pytest.fixture
def failsafe() -> Iterator[FailSafe]:
    with FailSafe("trading-api") as made:
        assert made.state is State.NORMAL
        yield made


def lost() -> ConnectionFailedError:
    return ConnectionFailedError("connection lost", outcome=Outcome.ROLLED_BACK)


def call(handler: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a handler of either kind to its end."""
    answer = handler(*args, **kwargs)
    return asyncio.run(answer) if inspect.iscoroutine(answer) else answer


class HTTPAnswer(Exception):  # noqa: N818 - the frameworks' shape
    def __init__(self, status_code: int) -> None:
        super().__init__(status_code)
        self.status_code = status_code


# A handler of each kind that swallows the guard's error: the same body for all


def swallow(failsafe: FailSafe) -> list[str]:
    """Answer with an empty list although the guard saw a critical failure."""
    try:
        failsafe.trip(error := lost())
        raise error
    except Exception:
        return []


class Service:
    def __init__(self, failsafe: FailSafe) -> None:
        self.failsafe = failsafe

    @with_fail_fast_protection
    def method(self) -> list[str]:
        return swallow(self.failsafe)

    @with_fail_fast_protection
    async def async_method(self) -> list[str]:
        await asyncio.sleep(0)
        return swallow(self.failsafe)

    @with_fail_fast_protection
    @staticmethod
    def static(failsafe: FailSafe) -> list[str]:
        return swallow(failsafe)

    @staticmethod
    @with_fail_fast_protection
    def static_inside(failsafe: FailSafe) -> list[str]:
        return swallow(failsafe)

    @with_fail_fast_protection
    @classmethod
    def of_class(cls, failsafe: FailSafe) -> list[str]:
        assert cls is Service
        return swallow(failsafe)


class CallableHandler:
    def __call__(self, failsafe: FailSafe) -> list[str]:
        return swallow(failsafe)


class AsyncCallableHandler:
    async def __call__(self, failsafe: FailSafe) -> list[str]:
        await asyncio.sleep(0)
        return swallow(failsafe)


async def async_swallow(failsafe: FailSafe) -> list[str]:
    await asyncio.sleep(0)
    return swallow(failsafe)


def hidden_coroutine(failsafe: FailSafe) -> Awaitable[list[str]]:
    return async_swallow(failsafe)


HANDLERS: dict[str, Callable[[FailSafe], Callable[[], Any]]] = {
    "function": lambda f: functools.partial(with_fail_fast_protection(swallow), f),
    "coroutine function": lambda f: functools.partial(with_fail_fast_protection(async_swallow), f),
    "method": lambda f: Service(f).method,
    "async method": lambda f: Service(f).async_method,
    "bound method": lambda f: with_fail_fast_protection(Service(f).method),
    "staticmethod object": lambda f: functools.partial(Service.static, f),
    "function in a staticmethod": lambda f: functools.partial(Service.static_inside, f),
    "classmethod object": lambda f: functools.partial(Service.of_class, f),
    "callable object": lambda f: functools.partial(with_fail_fast_protection(CallableHandler()), f),
    "async callable object": lambda f: functools.partial(
        with_fail_fast_protection(AsyncCallableHandler()), f
    ),
    "partial": lambda f: with_fail_fast_protection(functools.partial(swallow, f)),
    "partial of a coroutine function": lambda f: with_fail_fast_protection(
        functools.partial(async_swallow, f)
    ),
    "partial of an async callable object": lambda f: with_fail_fast_protection(
        functools.partial(AsyncCallableHandler(), f)
    ),
    "function that returns a coroutine": lambda f: functools.partial(
        with_fail_fast_protection(hidden_coroutine), f
    ),
}


@pytest.mark.parametrize("kind", HANDLERS)
def test_a_swallowed_failure_ends_in_the_failure_response(kind: str, failsafe: FailSafe) -> None:
    answer = call(HANDLERS[kind](failsafe))
    assert isinstance(answer, FailureResponse)
    assert answer.status == 503
    assert answer.body["details"]["errorCode"] == "CONNECTION_FAILED"
    assert answer.body["details"]["incidentId"] == getattr(failsafe.incident, "incident_id", None)


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_handler_does_not_run_unless_normal(kind: str, failsafe: FailSafe) -> None:
    ran = []

    def plain() -> None:
        ran.append("plain")

    async def coroutine() -> None:
        ran.append("coroutine")

    protect = with_fail_fast_protection(failsafe=failsafe)
    handler = {"plain": protect(plain), "coroutine": protect(coroutine)}[kind]
    failsafe.halt(actor="ann", reason="drill")
    answer = call(handler)
    assert isinstance(answer, FailureResponse)
    assert answer.body["details"]["outcome"] == "NOT_STARTED"
    assert ran == []


def test_a_handler_does_not_run_before_the_start() -> None:
    ran: list[str] = []
    protect = with_fail_fast_protection(failsafe=FailSafe("early"), respond="raise")
    with pytest.raises(OperationsSuspendedError):
        protect(ran.append)("it")
    assert ran == []


def test_a_handler_runs_again_after_the_reset(failsafe: FailSafe) -> None:
    handler = with_fail_fast_protection(failsafe=failsafe)(lambda: "placed")
    failsafe.halt(actor="ann", reason="drill")
    assert isinstance(handler(), FailureResponse)
    failsafe.reset(actor="ann", reason="over")
    assert handler() == "placed"


@pytest.mark.parametrize("answer", [None, [], {"orders": 1}, "text", ("a", 200), 503])
def test_without_a_mark_the_answer_passes_untouched(answer: object, failsafe: FailSafe) -> None:
    assert with_fail_fast_protection(failsafe=failsafe)(lambda: answer)() is answer


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_without_a_mark_other_errors_pass_untouched(kind: str, failsafe: FailSafe) -> None:
    raised = ValueError("no such order")

    def plain() -> None:
        raise raised

    async def coroutine() -> None:
        raise raised

    protect = with_fail_fast_protection(failsafe=failsafe)
    handler = {"plain": protect(plain), "coroutine": protect(coroutine)}[kind]
    with pytest.raises(ValueError, match="no such order") as caught:
        call(handler)
    assert caught.value is raised
    assert raised.__context__ is None
    assert failsafe.is_normal


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_marked_call_hides_no_failure_behind_another_error(kind: str, failsafe: FailSafe) -> None:
    def plain() -> None:
        swallow(failsafe)
        raise KeyError("cache")

    async def coroutine() -> None:
        plain()

    handler = {
        "plain": with_fail_fast_protection(plain),
        "coroutine": with_fail_fast_protection(coroutine),
    }[kind]
    assert call(handler).status == 503


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_what_is_no_exception_is_never_swallowed(
    error: type[BaseException], failsafe: FailSafe
) -> None:
    @with_fail_fast_protection(failsafe=failsafe)
    def handler() -> None:
        swallow(failsafe)
        raise error

    with pytest.raises(error):
        handler()


async def test_a_cancelled_call_is_cancelled(failsafe: FailSafe) -> None:
    begun = asyncio.Event()

    @with_fail_fast_protection(failsafe=failsafe)
    async def handler() -> None:
        swallow(failsafe)
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(handler())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def response(**shape: Any) -> Any:
    return type("Response", (), shape)()


@pytest.mark.parametrize(
    "answer",
    [
        ({"error": "down"}, 503),
        ("down", 500, {"X-Reason": "database"}),
        ("down", "503 SERVICE UNAVAILABLE"),
        response(status_code=502),
        response(status=599),
    ],
    ids=repr,
)
def test_an_answer_of_500_or_above_stands(answer: Any, failsafe: FailSafe) -> None:
    @with_fail_fast_protection
    def handler() -> object:
        swallow(failsafe)
        return answer

    assert handler() is answer


@pytest.mark.parametrize(
    "answer",
    [
        ([], 200),
        ([], 404, {}),
        ([], {"X-Status": "500"}),
        ([], "200 OK"),
        ([], True),
        ("BTC", 600),
        response(status_code=200),
        response(status_code="503"),
        response(code=503),
        503,
        {"status": 503},
    ],
    ids=repr,
)
def test_an_answer_below_500_does_not_stand(answer: Any, failsafe: FailSafe) -> None:
    @with_fail_fast_protection
    def handler() -> object:
        swallow(failsafe)
        return answer

    if getattr(answer, "status_code", None) == "503":
        assert handler() is answer  # a status in text, as some frameworks have it
    else:
        assert isinstance(handler(), FailureResponse)


def test_a_raised_http_answer_of_500_or_above_passes(failsafe: FailSafe) -> None:
    @with_fail_fast_protection
    def handler(status: int) -> None:
        swallow(failsafe)
        raise HTTPAnswer(status)

    with pytest.raises(HTTPAnswer):
        handler(503)
    assert isinstance(handler(404), FailureResponse)


# respond=


def test_respond_makes_the_answer(failsafe: FailSafe) -> None:
    def respond(failure: FailureResponse) -> str:
        return f"{failure.status} {failure.body['code']}"

    @with_fail_fast_protection(failsafe=failsafe, respond=respond)
    def handler() -> list[str]:
        return swallow(failsafe)

    assert handler() == "503 SYSTEM_FAILURE"


async def test_respond_may_be_a_coroutine_function_for_one(failsafe: FailSafe) -> None:
    async def respond(failure: FailureResponse) -> int:
        await asyncio.sleep(0)
        return failure.status

    @with_fail_fast_protection(failsafe=failsafe, respond=respond)
    async def handler() -> list[str]:
        return swallow(failsafe)

    assert await handler() == 503


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_respond_raise_raises_the_marked_error(kind: str, failsafe: FailSafe) -> None:
    protect = with_fail_fast_protection(failsafe=failsafe, respond="raise")
    handler = {"plain": protect(swallow), "coroutine": protect(async_swallow)}[kind]
    with pytest.raises(ConnectionFailedError, match="connection lost") as caught:
        call(handler, failsafe)
    assert caught.value.incident_id == getattr(failsafe.incident, "incident_id", None)


def test_respond_raise_keeps_the_cause_of_the_marked_error(failsafe: FailSafe) -> None:
    cause = OSError("reset by peer")

    @with_fail_fast_protection(failsafe=failsafe, respond="raise")
    def handler() -> None:
        error = lost()
        error.__cause__ = cause
        failsafe.trip(error)
        raise ValueError("something else")

    with pytest.raises(ConnectionFailedError) as caught:
        handler()
    assert caught.value.__cause__ is cause


def test_respond_raise_raises_even_over_an_answer_of_503(failsafe: FailSafe) -> None:
    """A consumer has no HTTP answers: what looks like one is data."""

    @with_fail_fast_protection(failsafe=failsafe, respond="raise")
    def handler() -> tuple[str, int]:
        swallow(failsafe)
        return "quantity", 503

    with pytest.raises(ConnectionFailedError):
        handler()


# Errors raised by hand


def test_a_critical_error_raised_by_hand_trips(failsafe: FailSafe) -> None:
    @with_fail_fast_protection(failsafe=failsafe)
    def handler() -> None:
        raise CriticalDatabaseError("the ledger is gone", "DB_UNAVAILABLE")

    answer = handler()
    assert isinstance(answer, FailureResponse)
    assert failsafe.state is State.FAIL_SAFE
    assert failsafe.incident is not None
    assert answer.body["details"]["incidentId"] == failsafe.incident.incident_id


def test_an_error_that_the_guard_marked_without_a_trip_trips_nothing(failsafe: FailSafe) -> None:
    """A rolled back transaction whose statement's error was swallowed is the application's."""
    from failstop._scope import mark

    @with_fail_fast_protection(failsafe=failsafe)
    def handler() -> None:
        error = TransactionFailedError("rolled back", outcome=Outcome.ROLLED_BACK)
        mark(error)
        raise error

    assert isinstance(handler(), FailureResponse)
    assert failsafe.is_normal


def test_a_critical_error_in_a_group_is_found(failsafe: FailSafe) -> None:
    @with_fail_fast_protection(failsafe=failsafe)
    def handler() -> None:
        raise ExceptionGroup("tasks", [ValueError(), ExceptionGroup("inner", [lost()])])

    answer = handler()
    assert isinstance(answer, FailureResponse)
    assert failsafe.state is State.FAIL_SAFE


def test_without_a_failsafe_a_critical_error_is_answered_all_the_same() -> None:
    @with_fail_fast_protection
    def handler() -> None:
        raise lost()

    answer = handler()
    assert isinstance(answer, FailureResponse)
    assert "Retry-After" not in answer.headers


# What is kept, and what is refused at decoration


def place(order: str, *, quantity: int = 1) -> str:
    """Place an order."""
    return order * quantity


protected_place = with_fail_fast_protection(place)


def test_the_signature_name_and_text_are_kept() -> None:
    assert inspect.signature(protected_place) == inspect.signature(place)
    assert (protected_place.__name__, protected_place.__doc__) == ("place", "Place an order.")
    assert protected_place("x", quantity=3) == "xxx"


@pytest.mark.parametrize(
    ("kind", "handler"),
    [
        (inspect.iscoroutinefunction, async_swallow),
        (inspect.iscoroutinefunction, functools.partial(async_swallow)),
        (inspect.iscoroutinefunction, AsyncCallableHandler()),
    ],
)
def test_a_coroutine_function_stays_one(
    kind: Callable[[object], bool], handler: Callable[..., Any]
) -> None:
    assert kind(with_fail_fast_protection(handler))
    assert not kind(with_fail_fast_protection(place))


def test_an_object_without_a_name_gets_that_of_its_class() -> None:
    """Flask names its endpoints so; two protected objects must not be one."""
    assert with_fail_fast_protection(CallableHandler()).__name__ == "CallableHandler"


@with_fail_fast_protection
def job() -> str:
    return "done"


def test_a_protected_function_can_be_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(job)) is job


@pytest.mark.parametrize("handler", [None, 3, "place", property(lambda self: 1), Service])
def test_what_is_no_function_is_refused_at_decoration(handler: Any) -> None:
    with pytest.raises(TypeError, match="a function or a method"):
        with_fail_fast_protection(handler)
    with pytest.raises(TypeError, match="a function or a method"):
        with_fail_fast_protection(failsafe=None)(handler)


def test_settings_that_do_not_fit_are_refused_at_decoration(failsafe: FailSafe) -> None:
    async def respond(failure: FailureResponse) -> int:
        return failure.status

    wrong: Any = "return"
    with pytest.raises(ConfigurationError, match="respond="):
        with_fail_fast_protection(respond=wrong)
    with pytest.raises(ConfigurationError, match="takes a FailSafe"):
        with_fail_fast_protection(failsafe=wrong)
    with pytest.raises(ConfigurationError, match="coroutine function"):
        with_fail_fast_protection(respond=respond)(place)


# The scope's reach


def test_a_nested_failure_reaches_the_outer_call(failsafe: FailSafe) -> None:
    inner = with_fail_fast_protection(swallow)

    @with_fail_fast_protection
    def outer() -> str:
        inner(failsafe)
        return "all well"

    assert isinstance(outer(), FailureResponse)


def test_a_failure_in_a_sibling_does_not_reach_the_next_call(failsafe: FailSafe) -> None:
    inner = with_fail_fast_protection(swallow)
    assert isinstance(inner(failsafe), FailureResponse)
    assert with_fail_fast_protection(lambda: "fine")() == "fine"


async def test_a_failure_in_a_worker_thread_reaches_the_call(failsafe: FailSafe) -> None:
    @with_fail_fast_protection
    async def handler() -> list[str]:
        return await asyncio.to_thread(swallow, failsafe)

    assert isinstance(await handler(), FailureResponse)


async def test_a_failure_in_a_task_reaches_the_call(failsafe: FailSafe) -> None:
    @with_fail_fast_protection
    async def handler() -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(async_swallow(failsafe))
        return "done"

    assert isinstance(await handler(), FailureResponse)


async def test_concurrent_calls_do_not_mark_each_other(failsafe: FailSafe) -> None:
    both = asyncio.Barrier(2)

    @with_fail_fast_protection
    async def handler(fails: bool) -> str:
        await both.wait()
        if fails:
            swallow(failsafe)
        await both.wait()
        return "well"

    failed, well = await asyncio.gather(handler(True), handler(False))
    assert isinstance(failed, FailureResponse)
    assert well == "well"


def test_a_call_closed_in_another_context_raises_nothing() -> None:
    """The garbage collector closes a suspended coroutine wherever it happens to run."""

    @with_fail_fast_protection
    async def handler() -> None:
        await asyncio.sleep(0)

    coroutine = handler()
    copy_context().run(coroutine.send, None)
    with ProtectedCall() as other:
        coroutine.close()
        from failstop._scope import current_scope, mark

        mark(lost())
        assert current_scope.get() is not None
    assert other.error is not None


def test_a_protected_call_is_not_entered_twice_at_once() -> None:
    with ProtectedCall() as made, pytest.raises(RuntimeError, match="leave it first"):
        made.__enter__()


def test_a_call_without_a_failure_has_nothing_to_answer() -> None:
    with pytest.raises(ValueError, match="no critical failure"):
        ProtectedCall().response()
    with pytest.raises(ValueError, match="no critical failure"):
        ProtectedCall().abort()


def test_error_codes_are_plain_text_in_the_body() -> None:
    @with_fail_fast_protection
    def handler() -> None:
        raise lost()

    answer = handler()
    assert isinstance(answer, FailureResponse)
    assert type(answer.body["details"]["errorCode"]) is str
    assert answer.body["details"]["errorCode"] == ErrorCode.CONNECTION_FAILED
