"""FS008: a health, readiness or status answer that cannot fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from failstop.scan import _vocabulary as words
from failstop.scan._context import Attempt, Context, confidence_of
from failstop.scan._finding import Confidence, Finding
from failstop.scan._flow import Path
from failstop.scan._model import Function, strings_in
from failstop.scan._values import Reader

_CLAIMS = ("database", "db", "postgres", "storage", "mysql", "postgresql", "redis")


def find(context: Context) -> Iterator[Finding]:
    """Health answers that say 200 for a failure, and those that never ask."""
    judged: set[int] = set()
    for attempt in context.attempts:
        if context.is_health(attempt.function):
            judged.add(id(attempt.function))
            found = _handler(context, attempt)
            if found:
                yield found
    for function in context.module.functions:
        if id(function) not in judged and context.route_of(function) is not None:
            found = _constant(context, function)
            if found:
                yield found


def _handler(context: Context, attempt: Attempt) -> Finding | None:
    if attempt.is_cleanup:
        return None
    is_route = context.route_of(attempt.function) is not None
    bad = [path for path in attempt.paths if _answers_well(path, attempt, is_route)]
    if not bad:
        return None
    base = confidence_of(attempt.strength, explicit=attempt.catch.reach == "database")
    if not is_route:
        base = min(base, Confidence.MEDIUM, key=lambda each: each.rank)
    if all(path.value.sort == "unknown" for path in bad):
        base = min(base, Confidence.MEDIUM, key=lambda each: each.rank)
    return context.finding(
        "FS008",
        attempt.handler or attempt.statement,
        base,
        "the health answer is a success (200) although the database failed",
        flow=attempt.flow_to("answers 200"),
        line=attempt.line,
        end_line=attempt.end_line,
    )


def _answers_well(path: Path, attempt: Attempt, is_route: bool) -> bool:
    """True where this way ends in an HTTP success, or in a success value where there is no HTTP."""
    if path.end == "raise":
        return False
    if path.end == "return" and path.value.status is not None:
        return path.value.status < 400
    if path.value.sort == "failure":
        return False
    if is_route:
        return path.end in ("return", "fall") and not _sets_status(path, attempt)
    return path.end == "return" and path.value.sort in ("true", "kept", "invented", "literal")


def _sets_status(path: Path, attempt: Attempt) -> bool:
    """True where a status of failure is set on a response object or a variable for it."""
    for statement in path.trail:
        for node in ast.walk(statement):
            if isinstance(node, ast.Assign):
                names = [ast.unparse(target) for target in node.targets]
                if any("status" in name.lower() and "code" in name.lower() for name in names):
                    return True
                if any(
                    isinstance(v, ast.Constant) and v.value in (500, 502, 503)
                    for v in ast.walk(node.value)
                ):
                    return True
            if isinstance(node, ast.Constant) and node.value in (500, 502, 503):
                return True
            if isinstance(node, ast.Attribute) and "50" in node.attr:
                return True
    return False


def _constant(context: Context, function: Function) -> Finding | None:
    """A readiness or health answer that is the same whatever happens."""
    route = context.route_of(function) or ""
    name = f"{route} {function.name}"
    if words.LIVENESS.search(route) or words.LIVENESS.search(function.name):
        return None
    if not context.is_health(function) or function.node is None or function.name == "__init__":
        return None
    if not _is_constant(context, function):
        return None
    claims = _claims_database(function)
    ready = bool(words.READINESS.search(route) or words.READINESS.search(function.name))
    confidence = Confidence.HIGH if claims or ready else Confidence.MEDIUM
    if not (claims or ready) and not words.HEALTH_NAME.search(name.replace("/", "_")):
        confidence = Confidence.LOW
    return context.finding(
        "FS008",
        function.node,
        confidence,
        "this health answer is constant: it says the same when the database is gone",
        flow=(route or function.name, "no check", "answers 200"),
        line=function.node.lineno,
        end_line=function.node.end_lineno,
    )


def _is_constant(context: Context, function: Function) -> bool:
    if not function.returns or function.tries or function.ifs or function.withs or function.loops:
        return False
    reader = Reader(context.module, function)
    for node in function.returns:
        if node.value is None or reader.read(node.value, {}).sort not in ("literal", "true"):
            return False
        if any(_asks(call) for call in ast.walk(node.value) if isinstance(call, ast.Call)):
            return False
    return (
        not any(True for _ in context.databases.within(function.body, function))
        and not any(
            isinstance(each, ast.Await) for s in function.statements() for each in ast.walk(s)
        )
        and not _calls_something(context, function)
    )


def _calls_something(context: Context, function: Function) -> bool:
    allowed = words.WRAPPERS | {
        "time",
        "now",
        "utcnow",
        "isoformat",
        "info",
        "debug",
        "get",
        "getenv",
    }
    for statement in function.statements():
        for call in context.databases.calls(statement):
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            if name not in allowed:
                return True
    return False


def _asks(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    return any(word in name.lower() for word in ("check", "ping", "health", "status", "state"))


def _claims_database(function: Function) -> bool:
    for node in function.returns:
        for each in ast.walk(node):
            if isinstance(each, ast.Dict):
                for key, value in zip(each.keys, each.values, strict=True):
                    text = key.value if isinstance(key, ast.Constant) else ""
                    said = " ".join(strings_in(value))
                    good = words.SUCCESS_TEXT.match(said) or (
                        isinstance(value, ast.Constant) and value.value is True
                    )
                    if isinstance(text, str) and any(c in text.lower() for c in _CLAIMS) and good:
                        return True
    return False
