"""FS001: a database failure answered with data.

Two shapes: a handler whose value reaches the caller, and a condition on a sentinel (a connection
that is None because its making failed) that answers data or skips the write.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from failstop.scan._catching import catch_of_types, may_raise
from failstop.scan._context import Attempt, Context, confidence_of, reports
from failstop.scan._finding import Confidence, Finding
from failstop.scan._flow import Flow, Path
from failstop.scan._model import calls_in, dotted, last_part, statements_in
from failstop.scan._values import DATA, Reader, Value
from failstop.scan._vocabulary import Effect
from failstop.scan.rules._answers import SAID, answered, global_names, is_outcome, is_work, targets
from failstop.scan.rules._sentinels import Sentinels

_ORDER = (
    "invented",
    "kept",
    "true",
    "literal",
    "empty",
    "fact",
    "mixed",
    "none",
    "false",
    "mixed_report",
    "page",
    "redirect",
    "refused",
    "reported",
)
_ERROR_HANDLERS = (
    "errorhandler",
    "app_errorhandler",
    "exception_handler",
    "register_error_handler",
)
_PROBE = re.compile(
    r"^_?(test|check|verify|ping|validate|is|has|wait|can)_?(for_)?_?(the_)?"
    r"(db|database|conn|connection|connected|alive|healthy|available|ready|postgres|mysql|pool|"
    r"connectivity|reachable|connect)|^_?(is|has)_\w*(usable|closed)$|^_?(supports|has)_\w+_(field|"
    r"column|table|index|feature|extension|support)$|^_?supports_",
    re.IGNORECASE,
)
_WRITES = Effect.WRITE | Effect.COMMIT | Effect.SCHEMA


def find(context: Context) -> Iterator[Finding]:
    """The handlers and conditions that answer data for a database that failed."""
    sentinels = Sentinels(context)
    for attempt in context.attempts:
        if attempt.is_cleanup or context.is_health(attempt.function):
            continue
        judged = _judge(context, attempt, sentinels)
        if judged:
            yield judged
    yield from sentinels.find()
    yield from _error_handlers(context)


def _error_handlers(context: Context) -> Iterator[Finding]:
    """`@app.errorhandler(SQLAlchemyError)` and its like, where they answer data."""
    for function in context.module.functions:
        for decorator in function.decorators:
            name = last_part(dotted(decorator.func)) if isinstance(decorator, ast.Call) else ""
            if not isinstance(decorator, ast.Call) or name not in _ERROR_HANDLERS:
                continue
            catch = catch_of_types(decorator.args[:1], context.module)
            reader = Reader(context.module, function, {p.arg for p in function.parameters()})
            for node in function.returns:
                value = reader.read(node.value, {})
                if catch.reach == "database" and value.sort in DATA and node.value is not None:
                    yield context.finding(
                        "FS001",
                        decorator,
                        Confidence.HIGH if value.sort != "fact" else Confidence.MEDIUM,
                        f"every {catch.names[0]} of this app is answered with {SAID[value.sort]}; "
                        "the caller cannot tell an outage from an answer",
                        flow=(catch.names[0], name, f"answers {SAID[value.sort]}"),
                        line=function.node.lineno if function.node else None,
                        end_line=node.end_lineno,
                    )
                    break


def _judge(context: Context, attempt: Attempt, sentinels: Sentinels) -> Finding | None:
    if _asks_which(context, attempt):
        return None
    answers = [(value, path) for path in attempt.paths if (value := answered(attempt, path))]
    for sort in _ORDER:
        for value, path in answers:
            if value.sort == sort:
                return _report(context, attempt, value, path, sentinels)
    return _bound(context, attempt) or _substituted(context, attempt)


def _substituted(context: Context, attempt: Attempt) -> Finding | None:
    """A value that the handler puts in the place of what was read, and that the function uses."""
    if not attempt.answer or not any(t.effect & Effect.READ for t in attempt.touches):
        return None
    if all(path.end == "raise" or reports(path) for path in attempt.paths):
        return None
    filled = targets(attempt.body)
    flow = Flow(context.module, attempt.function, context.databases)
    for statement in attempt.answer:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            continue
        name = statement.targets[0].id
        value = flow.reader.read(statement.value, {})
        if name in filled and value.sort in DATA and _is_used(attempt, name):
            base = confidence_of(attempt.strength, explicit=attempt.catch.reach == "database")
            said = f"replaced by {SAID[value.sort]} (line {statement.lineno})"
            return context.finding(
                "FS001",
                attempt.handler or attempt.statement,
                min_of(base, Confidence.MEDIUM),
                f"a failure of {show_source(attempt)} is hidden: {name} is {said} and used",
                flow=attempt.flow_to(f"{name} {said}"),
                line=attempt.line,
                end_line=attempt.end_line,
            )
    return None


def _is_used(attempt: Attempt, name: str) -> bool:
    """True where a name is read behind the handler by more than a log call."""
    later = [s for path in attempt.paths for s in path.trail if s.lineno > attempt.end_line]
    return any(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
        for statement in later
        if not isinstance(statement, ast.Expr) or is_work(statement, attempt)
        for node in ast.walk(statement)
    )


def _asks_which(context: Context, attempt: Attempt) -> bool:
    """True where the handler asks which error it is, answers one and raises the rest."""
    handler = attempt.handler
    if handler is None or not handler.name or not may_raise(handler.body):
        return False
    names = {handler.name}
    for statement in statements_in(handler.body):
        if isinstance(statement, ast.Assign) and _mentions(statement.value, names):
            names |= {dotted(target) for target in statement.targets}
        if isinstance(statement, ast.If) and _mentions(statement.test, names):
            return not _asks_for_outage(context, statement.test)
    return False


def _mentions(node: ast.AST, names: set[str]) -> bool:
    return any(isinstance(each, ast.Name) and each.id in names for each in ast.walk(node))


def _asks_for_outage(context: Context, test: ast.expr) -> bool:
    """True for `isinstance(e, OperationalError)`: that is the outage itself."""
    for call in calls_in(test):
        if dotted(call.func) == "isinstance" and len(call.args) > 1:
            kinds = call.args[1]
            types = kinds.elts if isinstance(kinds, ast.Tuple) else [kinds]
            if catch_of_types(types, context.module).reach == "database":
                return True
    return False


def _report(
    context: Context, attempt: Attempt, value: Value, path: Path, sentinels: Sentinels
) -> Finding | None:
    confidence = _confidence(context, attempt, value, sentinels)
    if confidence is None:
        return None
    if attempt.in_item_loop and getattr(path.node, "lineno", 0) > attempt.end_line:
        confidence = min_of(confidence, Confidence.MEDIUM)
    where = getattr(value.node, "lineno", None)
    said = SAID.get(value.sort, value.sort)
    end = f"answers {said}" + (f" (line {where})" if where else "")
    message = (
        f"a failure of {show_source(attempt)} is answered with {said}; "
        "the caller cannot tell an outage from an answer"
    )
    return context.finding(
        "FS001",
        attempt.handler or attempt.statement,
        confidence,
        message,
        flow=attempt.flow_to(end),
        line=attempt.line,
        end_line=attempt.end_line,
    )


def show_source(attempt: Attempt) -> str:
    """The guarded call, as the message names it."""
    return attempt.flow_to("")[0]


def _confidence(
    context: Context, attempt: Attempt, value: Value, sentinels: Sentinels
) -> Confidence | None:
    base = confidence_of(attempt.strength, explicit=attempt.catch.reach == "database")
    if attempt.catch.reach == "network":
        base = min_of(base, Confidence.MEDIUM)
    sort = value.sort
    if sort in ("reported", "refused"):
        return Confidence.LOW
    if sort in ("page", "redirect", "mixed_report"):
        return min_of(base, Confidence.MEDIUM if sort == "mixed_report" else Confidence.LOW)
    if sort in ("none", "false", "empty") and sentinels.callers_report(attempt.function, sort):
        return None
    if sort in ("none", "false", "true") and _PROBE.match(attempt.function.name):
        return Confidence.LOW
    if sort == "false" and attempt.effect & _WRITES and is_outcome(attempt.function):
        return min_of(base, Confidence.MEDIUM)
    if sort not in DATA:
        return None
    return base


def min_of(first: Confidence, second: Confidence) -> Confidence:
    """The lesser confidence."""
    return first if first.rank < second.rank else second


def _bound(context: Context, attempt: Attempt) -> Finding | None:
    """A handler that sets an attribute or global which the guarded block would have filled."""
    filled = targets(attempt.body)
    flow = Flow(context.module, attempt.function, context.databases)
    for statement in attempt.answer:
        if not isinstance(statement, ast.Assign) or any(p.end == "raise" for p in attempt.paths):
            continue
        for target in statement.targets:
            name = dotted(target)
            is_kept = (
                "." in name or attempt.function.is_module or name in global_names(attempt.function)
            )
            value = flow.reader.read(statement.value, {})
            if not (is_kept and name in filled and value.sort in DATA - {"fact"}):
                continue
            confidence = confidence_of(attempt.strength, explicit=attempt.catch.reach == "database")
            if value.sort == "kept":
                confidence = min_of(confidence, Confidence.MEDIUM)
            said = f"sets {name} to {SAID[value.sort]} (line {statement.lineno})"
            return context.finding(
                "FS001",
                attempt.handler or attempt.statement,
                confidence,
                f"a failure of {show_source(attempt)} {said}; its readers take it for an answer",
                flow=attempt.flow_to(said),
                line=attempt.line,
                end_line=attempt.end_line,
            )
    return None
