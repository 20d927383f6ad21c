"""The boundary: a call that is refused unless NORMAL, and that can hide no critical failure.

A protected call opens a scope. The guard marks it when it sees a critical failure; a marked scope
ends in the failure response, whatever the handler then returned or raised, unless that is an HTTP
answer of 500 or above already. Never here: a framework, or a way to answer with anything else.

The rules are in `Protection` once; the shells for the kinds of handlers only enter and leave.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
)
from contextvars import Token
from types import AsyncGeneratorType, CoroutineType, GeneratorType, TracebackType
from typing import Any, Generic, Literal, Never, ParamSpec, Self, TypeVar, overload

from failstop._failsafe import FailSafe
from failstop._reduction import Permission
from failstop._response import FailureResponse, is_failure_answer, response_for
from failstop._scope import Scope, current_scope
from failstop.errors import ConfigurationError, CriticalError, OperationsSuspendedError

__all__ = ["ProtectedCall", "Protection", "with_fail_fast_protection"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
Y = TypeVar("Y")
X = TypeVar("X")
Handler = Callable[..., Any]
Respond = Callable[[FailureResponse], Any] | Literal["raise"]

logger = logging.getLogger("failstop")

ELSEWHERE = "a suspended call was closed by the garbage collector, in a context not its own"
LATER = frozenset({CoroutineType, GeneratorType, AsyncGeneratorType})
"""What a plain function may return whose work has not begun yet."""


class ProtectedCall:
    """One protected call, for whoever writes an adapter.

    `with call:` makes it the current one of the context, around an `await` too. It may be entered
    again, for each piece of a streamed answer, never twice at once. It neither refuses nor answers:
    call `failsafe.require()` inside of it, and send `response()` where `error` is set.

    Args:
        failsafe: what a critical failure trips that the code raised by hand.
        scope: for failstop itself, the scope to go on in.
        operation: what the call does, as the FailSafe's `reduce_only` names it; None for nothing
            that is let through in a halt.

    Raises:
        ConfigurationError: no such operation is named there.
    """

    def __init__(
        self,
        failsafe: FailSafe | None = None,
        scope: Scope | None = None,
        *,
        operation: str | None = None,
    ) -> None:
        self._failsafe = failsafe
        self._scope = scope or Scope()
        self._token: Token[Scope | None] | None = None
        self._permission = _permission(failsafe, operation)

    @property
    def error(self) -> CriticalError | None:
        """The first critical failure that was seen in this call, swallowed or not."""
        return self._scope.error

    @property
    def has_open_work(self) -> bool:
        """True while a guarded operation of this call has not ended."""
        return self._scope.has_open_work

    def take(self, error: Exception) -> None:
        """Record a critical error that a framework caught before it could leave the call.

        Other errors do not count. Inside of `with call:`, what is raised is recorded by itself.
        """
        _take(self._scope, error, self._failsafe)

    def response(self) -> FailureResponse:
        """Return the failure response; its outcome speaks for the whole call.

        Raises:
            ValueError: nothing critical was seen.
        """
        if self._scope.error is None:
            raise ValueError("this call saw no critical failure, so there is nothing to answer")
        return response_for(self._scope.error, self._scope.outcome, self._failsafe)

    def abort(self) -> Never:
        """Raise the critical failure, to break off an answer that is under way.

        Raises:
            CriticalError: the first one; its outcome now speaks for the whole call.
            ValueError: nothing critical was seen.
        """
        if self._scope.error is None:
            raise ValueError("this call saw no critical failure, so there is nothing to abort")
        raise _spoken(self._scope)

    def close(self) -> None:
        """End the call: operations of tasks that outlive it are no longer counted with it."""
        self._scope.is_closed = True
        if self._permission is not None:
            self._permission.close()

    def __enter__(self) -> Self:
        if self._token is not None:
            raise RuntimeError("this protected call is entered already; leave it first")
        self._token = current_scope.set(self._scope)
        self._scope.token = self._scope.token or self._token
        if self._permission is not None:
            self._permission.enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            _take(self._scope, error, self._failsafe)
        if self._permission is not None:
            self._permission.leave()
        token, self._token = self._token, None
        assert token is not None
        try:
            current_scope.reset(token)
        except ValueError:
            logger.debug(ELSEWHERE)


def _permission(failsafe: FailSafe | None, operation: str | None) -> Permission | None:
    """Return the permission for `operation`, None where none is asked for.

    Raises:
        ConfigurationError: there is no FailSafe, or it names no such operation.
    """
    if operation is None:
        return None
    if failsafe is None:
        raise ConfigurationError("operation= needs failsafe=, which says what is let through")
    return failsafe.allow(operation)


def _spoken(scope: Scope) -> CriticalError:
    """Return the scope's error with the outcome of the whole call."""
    error = scope.error
    assert error is not None
    error.outcome = scope.outcome
    return error


def _take(scope: Scope, error: BaseException, failsafe: FailSafe | None) -> None:
    """Mark the scope with a critical failure that left the handler.

    One that no guard saw was raised by hand: it trips here. A refusal is no failure of its own.
    """
    critical = _critical_in(error)
    if critical is None:
        return
    is_new = scope.error is None and not isinstance(critical, OperationsSuspendedError)
    if is_new and failsafe is not None:
        failsafe.trip(critical)
    scope.mark(critical)


def _critical_in(error: BaseException) -> CriticalError | None:
    if isinstance(error, CriticalError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_critical_in, error.exceptions)), None)
    return None


class Protection(Generic[S]):
    """What `with_fail_fast_protection(…)` returns: call it with a handler to protect that.

    `S` is what a protected handler may return beside its own answer.
    """

    def __init__(
        self, failsafe: FailSafe | None, respond: Respond, operation: str | None = None
    ) -> None:
        if failsafe is not None and not isinstance(failsafe, FailSafe):
            raise ConfigurationError(f"failsafe= takes a FailSafe, not {type(failsafe).__name__}")
        if respond != "raise" and not callable(respond):
            raise ConfigurationError('respond= takes a function of the FailureResponse, or "raise"')
        self._failsafe = failsafe
        self._bell = None if failsafe is None else failsafe.doorbell
        self._respond = respond
        self._operation = operation
        _permission(failsafe, operation)

    @overload
    def __call__(
        self, handler: Callable[P, Coroutine[Any, Any, R]], /
    ) -> Callable[P, Coroutine[Any, Any, R | S]]: ...

    @overload
    def __call__(
        self, handler: Callable[P, AsyncGenerator[Y, X]], /
    ) -> Callable[P, AsyncGenerator[Y, X]]: ...

    @overload
    def __call__(
        self, handler: Callable[P, Generator[Y, X, R]], /
    ) -> Callable[P, Generator[Y, X, R]]: ...

    @overload
    def __call__(
        self, handler: Callable[P, AsyncIterator[Y]], /
    ) -> Callable[P, AsyncIterator[Y]]: ...

    @overload
    def __call__(self, handler: Callable[P, Iterator[Y]], /) -> Callable[P, Iterator[Y]]: ...

    @overload
    def __call__(self, handler: Callable[P, R], /) -> Callable[P, R | S]: ...

    def __call__(self, handler: Any, /) -> Any:
        """Return `handler` protected, with its name, its signature and its kind.

        Raises:
            TypeError: it is not callable, or a class.
            ConfigurationError: `respond=` does not fit this kind of handler.
        """
        if isinstance(handler, staticmethod | classmethod):
            return type(handler)(self(handler.__func__))
        if isinstance(handler, type) or not callable(handler):
            what = "a class" if isinstance(handler, type) else type(handler).__name__
            raise TypeError(f"fail-fast protection is for a function or a method, not {what}")
        protected = self._permitted(self._shell(handler), handler)
        functools.update_wrapper(protected, handler)
        if not hasattr(handler, "__name__"):
            protected.__name__ = type(handler).__name__
        return protected

    def _permitted(self, shell: Handler, handler: Handler) -> Handler:
        """Return `shell` as the operation that it is, so that its first look finds that."""
        failsafe, operation = self._failsafe, self._operation
        if operation is None or failsafe is None:
            return shell
        if _is(inspect.isasyncgenfunction, handler) or _is(inspect.isgeneratorfunction, handler):
            raise ConfigurationError(
                "operation= is not for generators; use failsafe.allow() around what they do"
            )
        if _is(inspect.iscoroutinefunction, handler):

            async def awaited(*args: Any, **kwargs: Any) -> Any:
                with failsafe.allow(operation):
                    return await shell(*args, **kwargs)

            return awaited

        def called(*args: Any, **kwargs: Any) -> Any:
            with failsafe.allow(operation):
                return shell(*args, **kwargs)

        return called

    def _shell(self, handler: Handler) -> Handler:
        if _is(inspect.iscoroutinefunction, handler):
            return self._coroutine_shell(handler)
        if _is(inspect.isasyncgenfunction, handler):
            self._require_no_answer()
            return self._async_stream_shell(handler)
        if _is(inspect.isgeneratorfunction, handler):
            self._require_no_answer()
            return self._stream_shell(handler)
        if _is(inspect.iscoroutinefunction, self._respond):
            raise ConfigurationError("respond= is a coroutine function, but the handler is none")
        return self._function_shell(handler)

    def _require_no_answer(self) -> None:
        if self._respond not in (_as_it_is, "raise"):
            raise ConfigurationError(
                "respond= is not for generators: a stream is broken off by raising, never answered"
            )

    # The rules

    def _passes(self, scope: Scope, error: Exception) -> bool:
        """Take what a handler raised; say whether that leaves as it is."""
        _take(scope, error, self._failsafe)
        if scope.error is None:
            return True
        return self._respond != "raise" and is_failure_answer(error)

    def _stands(self, scope: Scope, answer: object) -> bool:
        """Say whether what a handler returned is the answer."""
        if scope.error is None:
            return True
        return self._respond != "raise" and is_failure_answer(answer)

    def _answer(self, scope: Scope) -> Any:
        """Return the response of a call that failed, or raise its failure."""
        error = _spoken(scope)
        if self._respond == "raise":
            raise error
        return self._respond(response_for(error, error.outcome, self._failsafe))

    def _require_normal(self) -> None:
        if self._failsafe is not None:
            self._failsafe.require()

    # The shells

    def _function_shell(self, handler: Handler) -> Handler:
        bell, require = self._bell, self._require_normal
        enter, leave = current_scope.set, current_scope.reset

        def protected(*args: Any, **kwargs: Any) -> Any:
            scope = Scope()
            scope.token = token = enter(scope)
            try:
                if bell is not None and bell.word[0] != bell.ticket:
                    require()
                answer = handler(*args, **kwargs)
            except Exception as error:
                if self._passes(scope, error):
                    raise
            else:
                if type(answer) in LATER:
                    return self._later(scope, answer)
                if scope.error is None or self._stands(scope, answer):
                    return answer
            finally:
                scope.is_closed = True
                leave(token)
            return self._answer(scope)

        return protected

    def _coroutine_shell(
        self, handler: Handler, make_scope: Callable[[], Scope] = Scope
    ) -> Handler:
        bell, require = self._bell, self._require_normal
        enter, leave = current_scope.set, current_scope.reset

        async def protected(*args: Any, **kwargs: Any) -> Any:
            scope = make_scope()
            scope.token = token = enter(scope)
            try:
                if bell is not None and bell.word[0] != bell.ticket:
                    require()
                answer = await handler(*args, **kwargs)
            except Exception as error:
                if self._passes(scope, error):
                    raise
            else:
                if scope.error is None or self._stands(scope, answer):
                    return answer
            finally:
                scope.is_closed = True
                try:
                    leave(token)
                except ValueError:
                    logger.debug(ELSEWHERE)
            response = self._answer(scope)
            return await response if inspect.isawaitable(response) else response

        return protected

    def _later(self, scope: Scope, answer: Any) -> Any:
        """Go on in the scope with work that a plain function only handed over."""
        kind = type(answer)
        if scope.error is not None and kind is not CoroutineType:
            return self._answer(scope)
        again = Scope()
        vars(again).update(vars(scope))
        if kind is CoroutineType:
            return self._coroutine_shell(lambda: answer, lambda: again)()
        shell = self._stream_shell if kind is GeneratorType else self._async_stream_shell
        return shell(lambda: answer, again)()

    @contextlib.contextmanager
    def _piece(self, call: ProtectedCall) -> Iterator[None]:
        """Make one piece of a stream; raise where anything critical was seen, swallowed or not."""
        try:
            with call:
                self._require_normal()
                yield
        except Exception as error:
            if call.error is None or is_failure_answer(error):
                raise
        if call.error is not None:
            call.abort()

    def _stream_shell(self, handler: Handler, scope: Scope | None = None) -> Handler:
        def protected(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            call = ProtectedCall(self._failsafe, scope)
            stream = handler(*args, **kwargs)
            resume: Callable[[Any], Any] = stream.send
            value: Any = None
            try:
                while True:
                    try:
                        with self._piece(call):
                            item = resume(value)
                    except StopIteration as end:
                        return end.value
                    try:
                        resume, value = stream.send, (yield item)
                    except GeneratorExit:
                        raise
                    except BaseException as error:  # noqa: BLE001 - the handler's to judge
                        resume, value = stream.throw, error
            finally:
                with call:
                    stream.close()
                call.close()

        return protected

    def _async_stream_shell(self, handler: Handler, scope: Scope | None = None) -> Handler:
        async def protected(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            call = ProtectedCall(self._failsafe, scope)
            stream = handler(*args, **kwargs)
            resume: Callable[[Any], Awaitable[Any]] = stream.asend
            value: Any = None
            try:
                while True:
                    try:
                        with self._piece(call):
                            item = await resume(value)
                    except StopAsyncIteration:
                        return
                    try:
                        resume, value = stream.asend, (yield item)
                    except GeneratorExit:
                        raise
                    except BaseException as error:  # noqa: BLE001 - the handler's to judge
                        resume, value = stream.athrow, error
            finally:
                with call:
                    await stream.aclose()
                call.close()

        return protected


def _is(predicate: Callable[[Any], bool], handler: Any) -> bool:
    """Ask `predicate` of a function, of what a partial holds, or of an object's `__call__`."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    return predicate(handler) or predicate(type(handler).__call__)


def _as_it_is(failure: FailureResponse) -> FailureResponse:
    return failure


@overload
def with_fail_fast_protection(
    handler: Callable[P, Coroutine[Any, Any, R]], /
) -> Callable[P, Coroutine[Any, Any, R | FailureResponse]]: ...


@overload
def with_fail_fast_protection(
    handler: Callable[P, AsyncGenerator[Y, X]], /
) -> Callable[P, AsyncGenerator[Y, X]]: ...


@overload
def with_fail_fast_protection(
    handler: Callable[P, Generator[Y, X, R]], /
) -> Callable[P, Generator[Y, X, R]]: ...


@overload
def with_fail_fast_protection(
    handler: Callable[P, AsyncIterator[Y]], /
) -> Callable[P, AsyncIterator[Y]]: ...


@overload
def with_fail_fast_protection(handler: Callable[P, Iterator[Y]], /) -> Callable[P, Iterator[Y]]: ...


@overload
def with_fail_fast_protection(handler: Callable[P, R], /) -> Callable[P, R | FailureResponse]: ...


@overload
def with_fail_fast_protection(
    *, failsafe: FailSafe | None = None, operation: str | None = None
) -> Protection[FailureResponse]: ...


@overload
def with_fail_fast_protection(
    *, failsafe: FailSafe | None = None, respond: Literal["raise"], operation: str | None = None
) -> Protection[Never]: ...


@overload
def with_fail_fast_protection(
    *,
    failsafe: FailSafe | None = None,
    respond: Callable[[FailureResponse], Coroutine[Any, Any, S]],
    operation: str | None = None,
) -> Protection[S]: ...


@overload
def with_fail_fast_protection(
    *,
    failsafe: FailSafe | None = None,
    respond: Callable[[FailureResponse], S],
    operation: str | None = None,
) -> Protection[S]: ...


def with_fail_fast_protection(
    *handlers: Any,
    failsafe: FailSafe | None = None,
    respond: Respond = _as_it_is,
    operation: str | None = None,
) -> Any:
    """Protect a handler: a critical failure in it ends in the failure response, always.

    Works on functions, coroutine functions, methods, callable objects, `functools.partial`,
    generators and async generators. With a `failsafe` the handler does not run unless that is
    NORMAL, and a CriticalError raised by hand trips it.

    Args:
        *handlers: the handler, where the decorator is written without parentheses.
        failsafe: what must be NORMAL; None refuses nothing.
        respond: makes the handler's answer from the FailureResponse, which is the answer itself
            by default; a coroutine function only for handlers that are one. "raise" raises the
            critical failure, for consumers and jobs. Generators always raise.
        operation: what the handler does, as the FailSafe's `reduce_only` names it: it runs in a
            halt too, where `FailSafe.allow()` lets it through. Not for generators.

    Raises:
        TypeError: the handler is not callable, or a class.
        ConfigurationError: a setting is wrong, or `respond` does not fit the handler.
    """
    protection: Protection[Any] = Protection(failsafe, respond, operation)
    return protection(*handlers) if handlers else protection
