"""The gateway guard: an upstream service that is declared critical trips the latch when it fails.

Clients raise what they like, so failures are known by the names in their class's ancestry: no
client is imported. Never here: a retry, a second address, or what to answer instead.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Never, Self, TypeVar

from failstop._failsafe import FailSafe
from failstop._scope import current_scope
from failstop.errors import ConfigurationError, CriticalError, GatewayUnavailableError, Outcome
from failstop.events import Incident

__all__ = ["Gateway", "GatewayCall"]

R = TypeVar("R")

PROBE_TIMEOUT = 10.0
"""Seconds that a probe which is a coroutine function may take."""

NOT_SENT = frozenset(
    {
        ("builtins", "ConnectionRefusedError"),
        ("socket", "gaierror"),
        ("httpx", "ConnectError"),
        ("httpx", "ConnectTimeout"),
        ("httpx", "PoolTimeout"),
        ("httpcore", "ConnectError"),
        ("httpcore", "ConnectTimeout"),
        ("httpcore", "PoolTimeout"),
        ("requests", "ConnectTimeout"),
        ("urllib3", "NewConnectionError"),
        ("urllib3", "ConnectTimeoutError"),
        ("aiohttp", "ClientConnectorError"),
        ("aiohttp", "ConnectionTimeoutError"),
    }
)
"""Failures that prove that no request left: there was no connection to send it on."""

SILENT = frozenset(
    {
        ("builtins", "OSError"),
        ("http", "BadStatusLine"),
        ("http", "IncompleteRead"),
        ("httpx", "TransportError"),
        ("httpcore", "NetworkError"),
        ("httpcore", "ProtocolError"),
        ("httpcore", "TimeoutException"),
        ("requests", "ChunkedEncodingError"),
        ("requests", "ConnectionError"),
        ("requests", "RetryError"),
        ("requests", "Timeout"),
        ("urllib3", "PoolError"),
        ("urllib3", "ProtocolError"),
        ("urllib3", "TimeoutError"),
        ("aiohttp", "ClientConnectionError"),
        ("aiohttp", "ClientPayloadError"),
    }
)
"""Failures after which the request may have been executed."""

CALLERS = frozenset(
    {
        ("httpx", "LocalProtocolError"),
        ("httpx", "UnsupportedProtocol"),
        ("httpcore", "LocalProtocolError"),
        ("httpcore", "UnsupportedProtocol"),
    }
)
"""The caller's own mistakes, although their class is one of those above."""


class Gateway:
    """An upstream service that `failsafe` watches and that trips it when it fails.

    Args:
        name: the name in the status and in every message, unique in the FailSafe.
        failsafe: what a failure trips.
        probe: asks the gateway whether it works; called by the monitor in every round, and the
            only proof of its recovery, so there is no default. Passes by returning True or an
            HTTP response below 400. It must not use `guard()`, which is refused in fail-safe mode,
            and its client needs a timeout; a coroutine function has 10 seconds.

    Raises:
        ConfigurationError: the name is empty or taken, or there is no probe.
    """

    def __init__(
        self,
        name: str,
        failsafe: FailSafe,
        *,
        probe: Callable[[], object] | None = None,
    ) -> None:
        if not isinstance(failsafe, FailSafe):
            raise ConfigurationError("a gateway is guarded by a FailSafe; give it one")
        if not name or not name.strip():
            raise ConfigurationError("a gateway's name must be a text that is not empty")
        if not callable(probe):
            raise ConfigurationError(
                f"gateway {name!r} has no probe, so nothing could prove its recovery; give probe="
            )
        self._name = name
        self._failsafe = failsafe
        self._probe = probe
        failsafe.watch(self)

    @property
    def name(self) -> str:
        """The gateway's name, in the status and in every message."""
        return self._name

    def guard(self, *, reads_only: bool = False) -> GatewayCall:
        """Guard one call of the gateway; a plain `with`, around an `await` too.

        Connection errors, timeouts and answers of 500 or above that the client raises become a
        GatewayUnavailableError and trip; all else passes untouched. Put the call alone into the
        block, and give its client no retries: they would hide what was sent.

        Args:
            reads_only: whether the call changes nothing at the gateway, so that a call that
                failed may be made again.

        Raises:
            OperationsSuspendedError: at the entry, refused in fail-safe mode.
            GatewayUnavailableError: at the end, the gateway failed; `outcome` says whether the
                request may have been executed.
        """
        return GatewayCall(self._failsafe, self._fail, reads_only=reads_only)

    def check(self, response: R, *, reads_only: bool = False) -> R:
        """Return `response` unless its status is 500 or above; for code that lets none be raised.

        Args:
            response: has an integer `status_code` or `status`.
            reads_only: as in `guard()`.

        Raises:
            GatewayUnavailableError: the status is 500 or above.
            TypeError: it has no status.
        """
        status = _status(response)
        if status is None:
            raise TypeError(f"{type(response).__name__} has neither status_code nor status")
        if status >= 500:
            self._fail(None, Outcome.ROLLED_BACK if reads_only else Outcome.UNKNOWN, status)
        return response

    def _fail(self, error: BaseException | None, outcome: Outcome, status: int | None) -> Never:
        if status is not None:
            failure = self._failure(f"answered {status}", outcome, "gateway_status")
        elif outcome is Outcome.NOT_STARTED:
            said = f"cannot be reached ({type(error).__name__})"
            failure = self._failure(said, outcome, "gateway_unreachable")
        else:
            said = f"gave no answer ({type(error).__name__})"
            failure = self._failure(said, outcome, "gateway_silent")
        self._failsafe.trip(failure)
        raise failure from error

    def _failure(self, said: str, outcome: Outcome, kind: str) -> GatewayUnavailableError:
        text = f"gateway {self._name!r} {said}"
        failure = GatewayUnavailableError(text, outcome=outcome, kind=kind)
        failure.action = f"bring the gateway {self._name!r} back; its probe proves the recovery"
        return failure

    def probe(self) -> str:
        """Ask whether the gateway works and return the evidence; called by the monitor.

        Raises:
            GatewayUnavailableError: the probe raised, or returned neither True nor an HTTP
                response below 400.
        """
        try:
            answer = self._probe()
            if inspect.isawaitable(answer):
                answer = asyncio.run(_bounded(answer))
        except Exception as error:
            raise self._failed_probe(f"failed its probe ({type(error).__name__})") from error
        status = _status(answer)
        if status is not None and status >= 400:
            raise self._failed_probe(f"answered its probe with {status}")
        if status is None and answer is not True:
            raise self._failed_probe(
                f"has a probe that returned a {type(answer).__name__}; "
                "True or an HTTP response would pass"
            )
        return "the probe passed" if status is None else f"answered its probe with {status}"

    def _failed_probe(self, said: str) -> GatewayUnavailableError:
        return self._failure(said, Outcome.NOT_STARTED, "gateway_probe")

    def close(self) -> None:
        """Do nothing: the client is the user's."""

    def suspend(self, incident: Incident) -> None:
        """Do nothing: a call under way ends by its client's timeout; called on every trip."""


class GatewayCall:
    """One guarded call; the work that a response speaks of.

    `outcome` is what happened to it, as far as it is known: COMMITTED where the gateway answered.
    """

    def __init__(
        self,
        failsafe: FailSafe,
        fail: Callable[[BaseException, Outcome, int | None], Never],
        *,
        reads_only: bool,
    ) -> None:
        self._failsafe = failsafe
        self._fail = fail
        self._reads_only = reads_only
        self._before: BaseException | None = None
        self.is_open: bool = True
        self.outcome: Outcome = Outcome.NOT_STARTED

    def __enter__(self) -> Self:
        self._failsafe.require()
        self._before = sys.exc_info()[1]
        self.outcome = self._unless_read(Outcome.UNKNOWN)
        scope = current_scope.get()
        if scope is not None:
            scope.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.is_open = False
        before, self._before = self._before, None
        if error is None:
            self.outcome = self._unless_read(Outcome.COMMITTED)
            return
        if not isinstance(error, Exception) or isinstance(error, CriticalError):
            return
        outcome = _judge(error, before)
        if outcome is Outcome.UNKNOWN:
            self._fail(error, self.outcome, _answered(error))
        if outcome is Outcome.NOT_STARTED:
            self.outcome = outcome
            self._fail(error, outcome, None)

    def _unless_read(self, outcome: Outcome) -> Outcome:
        return Outcome.ROLLED_BACK if self._reads_only else outcome


async def _bounded(answer: Awaitable[object]) -> object:
    return await asyncio.wait_for(answer, PROBE_TIMEOUT)


# What a client's exception means


def _judge(error: BaseException, before: BaseException | None) -> Outcome | None:
    """Return the outcome of the call where `error` means that the gateway failed, else None.

    What the client names as the cause proves that nothing was sent, unless an earlier try was
    handled that may have been: such a try proves only that something failed. `before` was being
    handled when the guard was entered, so it has nothing to do with the call.
    """
    if isinstance(error, BaseExceptionGroup):
        found = {_judge(each, before) for each in error.exceptions}
        return next(
            (each for each in (Outcome.UNKNOWN, Outcome.NOT_STARTED) if each in found), None
        )
    chain = list(_causes(error))
    status = _answered(error)
    if status is not None:
        return Outcome.UNKNOWN if status >= 500 else None
    tries = {_judge(each, before) for each in _handled_before(chain) if each is not before}
    ancestry = set().union(*map(_ancestry, chain))
    if ancestry & CALLERS:
        return None
    if ancestry & NOT_SENT:
        return Outcome.UNKNOWN if Outcome.UNKNOWN in tries else Outcome.NOT_STARTED
    is_failure = any(map(_is_silent, chain)) or bool(tries - {None})
    return Outcome.UNKNOWN if is_failure else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Walk from an error to its cause, as clients name it: `reason`, an argument, `__cause__`."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        named = (getattr(error, "reason", None), *error.args, error.__cause__)
        error = next((each for each in named if isinstance(each, BaseException)), None)


def _handled_before(chain: Sequence[BaseException]) -> Iterator[BaseException]:
    """Return what was being handled when the errors of a chain were raised, and is none of it."""
    for each in chain:
        if each.__context__ is not None and all(each.__context__ is not link for link in chain):
            yield each.__context__


def _ancestry(error: BaseException) -> set[tuple[str, str]]:
    """Return the names of an error's class and its ancestors, each with its package."""
    return {(each.__module__.partition(".")[0], each.__name__) for each in type(error).__mro__}


def _is_silent(error: BaseException) -> bool:
    ancestry = _ancestry(error)
    if ("requests", "RequestException") in ancestry:  # an OSError, a wrong URL too
        ancestry.discard(("builtins", "OSError"))
    return not ancestry.isdisjoint(SILENT)


def _answered(error: BaseException) -> int | None:
    """Return the HTTP status that an error tells; a connection that broke tells none.

    Whatever is in it: aiohttp's aborted body has a cause with the code 400, which nobody answered.
    """
    for each in _causes(error):
        status = _status_of_error(each)
        if status is not None or _is_silent(each):
            return status
    return None


def _status_of_error(error: BaseException) -> int | None:
    status = _status(getattr(error, "response", None))
    return _status(error, "code") if status is None else status


def _status(answer: Any, *more: str) -> int | None:
    """Return the HTTP status of a response or an error, None where it has none."""
    for name in ("status_code", "status", *more):
        status = getattr(answer, name, None)
        if isinstance(status, int) and 100 <= status < 600:
            return int(status)
    return None
