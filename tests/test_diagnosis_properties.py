"""Any exception object gets a verdict, none makes the diagnosis raise, and none leaks its text."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError, InvalidRequestError, StatementError

from failstop.diagnosis import Diagnoser, Diagnosis, Phase, Verdict, diagnose, to_error
from failstop.errors import CriticalDatabaseError, ErrorCode, Outcome

SECRET = "s3cret-hunter2"
READ = (
    *("orig", "driver_exception", "connection_invalidated", "args", "kind", "exceptions"),
    *("sqlstate", "pgcode", "diag", "severity", "severity_en", "severity_nonlocalized"),
    *("source_file", "source_function", "server_source_filename", "server_source_function"),
    *("message", "message_primary", "sqlite_errorname"),
    *("__cause__", "__context__", "__class__"),
)
"""What the diagnosis reads, and more."""
PACKAGES = [
    "psycopg.errors",
    "psycopg2",
    "asyncpg.exceptions",
    "sqlite3",
    "pymysql.err",
    "mine",
    "",
]
NAMES = ["OperationalError", "InterfaceError", "DataError", "IntegrityError", "PoolTimeout", "Mine"]
BASES = (Exception, BaseException, ValueError, OSError, KeyError, RuntimeError, InvalidRequestError)


class Hostile:
    """Answers no question without raising."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(SECRET)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError(SECRET)

    def __hash__(self) -> int:
        raise RuntimeError(SECRET)

    def __bool__(self) -> bool:
        raise RuntimeError(SECRET)

    def __str__(self) -> str:
        raise RuntimeError(SECRET)


def raising(_: object) -> Any:
    raise RuntimeError(SECRET)


CONSTANTS = (
    *(None, True, False, 0, 1213, 2006, b"57P01", SECRET, "57P01", "23505", "40001", "0", ""),
    *("ERROR", "FATAL", "PANIC", "md.c", "SQLITE_FULL", "exec_stmt_raise", "disk_full"),
    *((), (SECRET,), (1213, SECRET), ("the connection is closed",)),
)
MAKERS: tuple[Callable[[], Any], ...] = (
    *(partial(lambda value: value, constant) for constant in CONSTANTS),
    *(partial(lambda value: property(lambda _: value), constant) for constant in CONSTANTS),
    Hostile,
    lambda: (Hostile(),),
    lambda: property(raising),
)
"""Hypothesis draws makers, for it would itself trip over what they make."""
attributes = st.dictionaries(st.sampled_from(READ), st.sampled_from(MAKERS), max_size=8)


@st.composite
def plain_exceptions(draw: st.DrawFn) -> BaseException:
    """An exception of an odd class, whose attributes are odd values or raise."""
    namespace = {name: make() for name, make in draw(attributes).items()}
    namespace["__module__"] = draw(st.sampled_from(PACKAGES))
    base = draw(st.sampled_from(BASES))
    cls = type(draw(st.sampled_from(NAMES)), (base,), namespace)
    error = cls(SECRET)
    assert isinstance(error, BaseException)
    return error


def wrapped(cls: type[StatementError], orig: BaseException, gone: bool) -> BaseException:
    """Wrap as SQLAlchemy does, though it would itself trip over hostile attributes."""
    error = (
        cls(SECRET, (), Exception(SECRET)) if cls is DBAPIError else cls(SECRET, SECRET, (), None)
    )
    error.orig = orig
    vars(error)["connection_invalidated"] = gone
    return error


def grouped(some: list[BaseException]) -> BaseException:
    """Group them; the group asks each for its class, and one may answer that by raising."""
    try:
        return BaseExceptionGroup(SECRET, some)
    except RuntimeError:
        return some[0]


def wrap(inner: st.SearchStrategy[BaseException]) -> st.SearchStrategy[BaseException]:
    return st.one_of(
        st.builds(wrapped, st.sampled_from([DBAPIError, StatementError]), inner, st.booleans()),
        st.lists(inner, min_size=1, max_size=3).map(grouped),
    )


exceptions = st.recursive(plain_exceptions(), wrap, max_leaves=6)
nodes = st.lists(exceptions, min_size=1, max_size=5)
phases = st.sampled_from(list(Phase))


def link(errors: list[BaseException], data: st.DataObject) -> BaseException:
    """Chain exceptions at random, cycles included, where their classes allow it."""
    for error in errors:
        for name in ("__cause__", "__context__"):
            target = data.draw(st.integers(0, len(errors)))
            with contextlib.suppress(AttributeError, TypeError):
                setattr(error, name, [*errors, None][target])
    return errors[0]


def require_sound(diagnosis: Diagnosis) -> None:
    assert type(diagnosis.verdict) is Verdict
    assert type(diagnosis.kind) is str
    has_code = diagnosis.verdict in (Verdict.CRITICAL, Verdict.CONFLICT)
    assert (type(diagnosis.error_code) is ErrorCode) is has_code
    assert diagnosis.cause.endswith(".")
    assert diagnosis.action.endswith(".")
    assert SECRET not in repr(diagnosis)


@settings(max_examples=300)
@given(nodes, phases, st.booleans(), st.sampled_from([None, True, False]), st.data())
def test_every_exception_gets_a_verdict_and_none_raises(
    errors: list[BaseException],
    phase: Phase,
    read_only: bool,
    invalidated: bool | None,
    data: st.DataObject,
) -> None:
    diagnosis = Diagnoser().diagnose(
        link(errors, data), phase=phase, read_only=read_only, connection_invalidated=invalidated
    )
    require_sound(diagnosis)
    if phase in (Phase.CONNECT, Phase.CHECKOUT, Phase.PING):
        assert diagnosis.verdict in (Verdict.CRITICAL, Verdict.NONE)
    if phase is Phase.COMMIT and not diagnosis.outcome_known:
        assert diagnosis.verdict is Verdict.CRITICAL


@given(exceptions, phases, st.sampled_from(list(Outcome)))
def test_every_diagnosis_makes_an_error_without_the_exceptions_text(
    exc: BaseException, phase: Phase, outcome: Outcome
) -> None:
    error = to_error(diagnose(exc, phase=phase), outcome=outcome, name="orders")
    assert isinstance(error, CriticalDatabaseError)
    assert error.outcome is outcome
    assert SECRET not in f"{error} {error!r} {vars(error)}"


@given(nodes, st.data())
def test_strict_never_says_less_than_the_default(
    errors: list[BaseException], data: st.DataObject
) -> None:
    exc = link(errors, data)
    verdict = Diagnoser.strict().diagnose(exc).verdict
    assert verdict is Verdict.CRITICAL or diagnose(exc).verdict is Verdict.NONE


@pytest.mark.parametrize("make", [type(None), int, str, object, Hostile, list])
def test_what_is_no_exception_gets_a_verdict(make: Callable[[], Any]) -> None:
    require_sound(diagnose(make()))


def test_attributes_that_make_new_exceptions_for_ever_come_to_an_end() -> None:
    class EndlessError(Exception):
        @property
        def __cause__(self) -> BaseException:  # type: ignore[override]  # hostile on purpose
            return EndlessError()

    assert diagnose(EndlessError()).verdict is Verdict.CRITICAL
