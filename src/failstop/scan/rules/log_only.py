"""FS011: a log-only handler around database work whose loss matters."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from failstop.scan import _vocabulary as words
from failstop.scan._context import Attempt, Context, confidence_of
from failstop.scan._finding import Confidence, Finding
from failstop.scan._model import calls_in, dotted, last_part, statements_in
from failstop.scan._vocabulary import Effect
from failstop.scan.rules._answers import answers_data

_LOSS = Effect.WRITE | Effect.COMMIT | Effect.SCHEMA | Effect.UPSERT
_HOUSEKEEPING = re.compile(
    r"(^|_)(prune|purge|clean|cleanup|retention|expire|expired|cache|metric|metrics|telemetry|latency|"
    r"analytics|heartbeat|last_seen|touch|log|stats|vacuum|optimi[sz]e|analyze|warm|warmup)(_|$)",
    re.IGNORECASE,
)
_KEEPERS = re.compile(r"Metric|Cache|Telemetry|Analytics|Stats|Heartbeat|Log(ger|Store)?$")
_RECORD = re.compile(
    r"fail|error|dead|reject|skipp|unprocessed|retry|problem|bad|invalid|missed", re.IGNORECASE
)


def find(context: Context) -> Iterator[Finding]:
    """Handlers that only log, around writes, migrations, startup connects and supervisors."""
    for attempt in context.attempts:
        if attempt.is_cleanup or context.is_health(attempt.function):
            continue
        confidence = _judge(context, attempt)
        if confidence is None:
            continue
        yield context.finding(
            "FS011",
            attempt.handler or attempt.statement,
            confidence,
            f"a failure of {attempt.flow_to('')[0]} is only logged; {_lost(attempt)} is gone",
            flow=attempt.flow_to("goes on"),
            line=attempt.line,
            end_line=attempt.end_line,
        )


def _lost(attempt: Attempt) -> str:
    if attempt.effect & Effect.SCHEMA:
        return "the schema change"
    return "the write" if attempt.effect & _LOSS else "the connection"


def _judge(context: Context, attempt: Attempt) -> Confidence | None:
    if not attempt.paths or any(path.end == "raise" for path in attempt.paths):
        return None
    if (
        answers_data(attempt)
        or not _is_log_only(context, attempt)
        or _is_nested_cleanup(context, attempt)
    ):
        return None
    base = confidence_of(attempt.strength, explicit=attempt.catch.reach == "database")
    if attempt.effect & _LOSS:
        name = attempt.function.name
        keeper = attempt.function.cls.name if attempt.function.cls else ""
        aside = _HOUSEKEEPING.search(name) or _KEEPERS.search(keeper)
        if aside and not words.BUSINESS.search(name):
            base = _lower(base)
        if attempt.in_item_loop:
            return None if _records(attempt) else _lower(base)
        return base
    if attempt.effect & Effect.CONNECT and not attempt.effect & Effect.READ:
        starts = words.STARTUP.search(attempt.function.name) or attempt.function.is_module
        connects = "connect" in attempt.function.name or attempt.function.name == "__init__"
        return base if starts or connects else _lower(base)
    if any(path.end == "loop" for path in attempt.paths):
        return _lower(base)
    return Confidence.LOW


def _lower(confidence: Confidence) -> Confidence:
    return Confidence.MEDIUM if confidence is Confidence.HIGH else Confidence.LOW


def _is_nested_cleanup(context: Context, attempt: Attempt) -> bool:
    """True inside another handler, around a rollback or a note of the failure."""
    place = context.module.place(attempt.statement)
    inside = place is not None and (place.handler is not None or place.part == "finalbody")
    return inside and not attempt.effect & (Effect.COMMIT | Effect.WRITE)


def _is_log_only(context: Context, attempt: Attempt) -> bool:
    """True where the handler logs, rolls back, sleeps or goes on, and does nothing else."""
    for statement in statements_in(attempt.answer):
        if isinstance(statement, ast.Return):
            plain = statement.value is None or isinstance(statement.value, ast.Constant)
            if not plain:
                return False
        elif isinstance(statement, ast.Expr):
            if not _is_idle(context, attempt, statement.value):
                return False
        elif isinstance(statement, ast.AugAssign):
            continue
        elif isinstance(statement, ast.Assign):
            if not _is_note(statement):
                return False
        elif isinstance(statement, ast.Raise):
            return False
    return True


def _is_note(statement: ast.Assign) -> bool:
    """True for an assignment that only prepares the log line or a counter."""
    names = [last_part(dotted(target)) for target in statement.targets]
    called = {last_part(dotted(call.func)) for call in calls_in(statement.value)}
    is_local = all(isinstance(target, ast.Name) for target in statement.targets)
    if is_local and called and called <= {"getattr", "str", "repr", "type", "time", "format_exc"}:
        return True
    return all(
        re.search(
            r"msg|message|text|err|error|count|delay|wait|sleep|trace|detail|now|"
            r"retry|attempt|backoff|last_\w+|success|ok$",
            name,
        )
        for name in names
    )


def _is_idle(context: Context, attempt: Attempt, node: ast.expr) -> bool:
    """True for a call that logs, rolls back, closes or sleeps."""
    if isinstance(node, (ast.Await, ast.YieldFrom)):
        return _is_idle(context, attempt, node.value)
    if isinstance(node, ast.Constant):
        return True
    if not isinstance(node, ast.Call):
        return False
    func = node.func
    last = func.attr if isinstance(func, ast.Attribute) else last_part(dotted(func))
    owner = dotted(func.value) if isinstance(func, ast.Attribute) else ""
    if last_part(owner) in ("messages", "st", "streamlit"):
        return False
    if last in words.LOGGING_METHODS or last in (
        "sleep",
        "rollback",
        "close",
        "print",
        "expunge_all",
        "log_error",
        "logger",
        "dispose",
        "remove",
    ):
        return True
    if re.search(r"^_?(log|print|debug|warn|report_progress|emit_log)", last):
        return True
    if owner and words.LOGGERS.search(last_part(owner)):
        return True
    return last in ("append", "add") and not _records(attempt)


def _records(attempt: Attempt) -> bool:
    """True where the handler keeps the failed item for somebody."""
    for statement in statements_in(attempt.answer):
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            func = statement.value.func
            if isinstance(func, ast.Attribute) and func.attr in (
                "append",
                "add",
                "put",
                "extend",
                "put_nowait",
            ):
                return True
            name = last_part(dotted(func))
            is_log = name in words.LOGGING_METHODS or name.startswith("log")
            if _RECORD.search(name) and not is_log:
                return True
        if isinstance(statement, ast.Assign) and any(
            isinstance(target, ast.Subscript) for target in statement.targets
        ):
            return True
    return False
