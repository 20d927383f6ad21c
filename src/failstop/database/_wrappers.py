"""Who stands between the guard and the driver, or around the engine: retry libraries, foreign code.

Seen is what hangs on the engine itself. A loop in the service's own functions is not (`failstop
scan` finds that), nor one of a proxy, a pooler or a driver.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

from sqlalchemy.engine import Engine

__all__ = ["foreign_places", "retried_places"]

RETRIERS = frozenset({"backoff", "opnieuw", "retry", "retrying", "riprova", "stamina", "tenacity"})
"""Python's retry libraries, by the names they are imported by."""

OURS = frozenset({"failstop", "sqlalchemy"})

ENGINE = ("begin", "connect", "raw_connection")
CONNECTION = ("begin", "commit", "exec_driver_sql", "execute", "scalar", "scalars")
DIALECT = ("connect", "do_begin", "do_commit", "do_execute", "do_executemany", "do_rollback")


def retried_places(engine: Any, sync_engine: Engine) -> list[str]:
    """Return, in words, where a retry library was found.

    Args:
        engine: what the service uses, sync or async.
        sync_engine: the engine that is guarded.
    """
    found = [
        f"{library} in {place}"
        for place, function in _places(engine, sync_engine)
        for library in sorted(RETRIERS & set(_packages(function)))
    ]
    return list(dict.fromkeys(found))


def foreign_places(engine: Any, sync_engine: Engine) -> list[str]:
    """Return, in words, whose code stands in the place of SQLAlchemy's; see `retried_places()`."""
    known = OURS | RETRIERS | sys.stdlib_module_names
    found = [
        f"code of {package} in {place}"
        for place, function in _methods(engine, sync_engine)
        for package in [_package(layer) for layer in _layers(function)]
        if package not in known
    ]
    return list(dict.fromkeys(found))


def _places(engine: Any, sync_engine: Engine) -> Iterator[tuple[str, object]]:
    yield from _methods(engine, sync_engine)
    yield "the creator of connections", sync_engine.pool._creator_arg  # noqa: SLF001 - no public way
    for listener in sync_engine.dialect.dispatch.do_connect:
        yield "a listener of do_connect", listener


def _methods(engine: Any, sync_engine: Engine) -> Iterator[tuple[str, object]]:
    """Give each method that matters, in every class that defines it, and where it was replaced."""
    connection = sync_engine._connection_cls  # noqa: SLF001 - no public way
    dialect = sync_engine.dialect
    owners = (
        ("engine", (engine, *type(engine).__mro__), ENGINE),
        ("engine", (sync_engine, *type(sync_engine).__mro__), ENGINE),
        ("Connection", connection.__mro__, CONNECTION),
        ("dialect", (dialect, *type(dialect).__mro__), DIALECT),
    )
    for what, holders, names in owners:
        for holder in holders:
            defined = getattr(holder, "__dict__", {})
            for name in names:
                if name in defined:
                    yield f"the {what}'s {name}()", defined[name]


def _packages(function: object) -> Iterator[str]:
    """Give the package of each layer, and of what the code of a foreign one names."""
    for layer in _layers(function):
        package = _package(layer)
        yield package
        if package not in OURS:
            for name in layer.__code__.co_names:
                yield from _owners(layer.__globals__.get(name))


def _owners(value: object) -> Iterator[str]:
    if isinstance(value, ModuleType):
        yield _top(value.__name__)
        return
    yield _top(getattr(value, "__module__", None))
    for layer in _layers(value):
        yield _package(layer)


def _layers(function: object) -> Iterator[FunctionType]:
    """Give the functions of which one is made: wrapped, bound, partial or closed over."""
    seen: set[int] = set()
    waiting: list[Any] = [function]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or not callable(each):
            continue
        seen.add(id(each))
        if isinstance(each, FunctionType):
            yield each
            waiting += [_content(cell) for cell in each.__closure__ or ()]
        elif isinstance(each, MethodType):
            waiting.append(each.__func__)
        elif isinstance(each, functools.partial):
            waiting.append(each.func)
        waiting.append(getattr(each, "__wrapped__", None))


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # the function is not made yet
        return None


def _package(function: FunctionType) -> str:
    """Return who wrote the code: `functools.wraps()` changes `__module__`, and never this."""
    return _top(function.__globals__.get("__name__"))


def _top(module: object) -> str:
    return module.partition(".")[0] if isinstance(module, str) else ""
