"""FS005: a swallowed statement error inside a transaction that then commits."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from failstop.scan._context import Attempt, Context, confidence_of
from failstop.scan._database import Touch
from failstop.scan._finding import Confidence, Finding
from failstop.scan._model import Function, dotted, last_part, statements_in
from failstop.scan._vocabulary import Effect

_STATEMENT = Effect.READ | Effect.WRITE | Effect.SCHEMA
_KINDS = ("session", "connection", "cursor", "query", "database")


def find(context: Context) -> Iterator[Finding]:
    """Handlers that keep a statement's error while the transaction goes on to its commit."""
    for attempt in context.attempts:
        commit = _commit_after(context, attempt)
        if commit is None:
            continue
        line, confidence = commit
        yield context.finding(
            "FS005",
            attempt.handler or attempt.statement,
            confidence,
            f"the error of {attempt.flow_to('')[0]} is swallowed and the transaction is committed "
            f"all the same (line {line})",
            flow=attempt.flow_to(f"commit (line {line})"),
            line=attempt.line,
            end_line=attempt.end_line,
        )


def _commit_after(context: Context, attempt: Attempt) -> tuple[int, Confidence] | None:
    statements = [t for t in attempt.touches if t.effect & _STATEMENT and t.kind in _KINDS]
    if not statements or attempt.is_cleanup or _has_savepoint(context, attempt):
        return None
    commits_inside = attempt.effect & Effect.COMMIT
    if commits_inside or all(p.end == "raise" for p in attempt.paths):
        return None
    if any(t.kind == "guarded" for t in attempt.touches) or _connects_again(context, attempt):
        return None
    rolled = _rolls_back(context, attempt)
    found = _own_commit(context, attempt) or _block_commit(context, attempt)
    if found is None and not rolled:
        found = _flush_commit(attempt) or _callers_commit(context, attempt, statements)
    if found is None:
        return None
    confidence = confidence_of(max(t.strength for t in statements))
    if rolled:
        return (found, Confidence.MEDIUM) if _in_loop(context, attempt) else None
    if context.databases.embedded:
        return found, Confidence.LOW
    return found, confidence


def _has_savepoint(context: Context, attempt: Attempt) -> bool:
    """True where a savepoint stands between the statement and the transaction."""
    for touch in attempt.touches:
        if touch.effect & Effect.SAVEPOINT:
            return True
    for statement in statements_in(attempt.body):
        if isinstance(statement, (ast.With, ast.AsyncWith)) and any(
            _is_savepoint(i.context_expr)
            or context.commits_at_exit(i.context_expr, attempt.function)
            for i in statement.items
        ):
            return True
    for statement in attempt.body:
        for touch in context.databases.touches_of(statement, attempt.function):
            if touch.effect & Effect.BEGIN:
                return True
    return False


def _connects_again(context: Context, attempt: Attempt) -> bool:
    """True where the handler makes a new connection: the failed transaction is gone."""
    return any(
        "connect" in (last_part(dotted(call.func)) or getattr(call.func, "attr", ""))
        for statement in statements_in(attempt.answer)
        for call in context.databases.calls(statement)
    )


def _in_savepoint(context: Context, statement: ast.stmt) -> bool:
    return any(
        _is_savepoint(item.context_expr)
        for parent, place in context.module.ancestors(statement)
        if place.part == "body" and isinstance(parent, (ast.With, ast.AsyncWith))
        for item in parent.items
    )


def _is_savepoint(node: ast.expr) -> bool:
    """True for `session.begin_nested()` and for helpers named like it."""
    func = node.func if isinstance(node, ast.Call) else node
    name = (last_part(dotted(func)) or getattr(func, "attr", "")).lower()
    return "nested" in name or "savepoint" in name


def _rolls_back(context: Context, attempt: Attempt) -> bool:
    return any(
        t.effect & Effect.ROLLBACK
        for t in context.databases.within(attempt.answer, attempt.function)
    ) or any(
        isinstance(s, ast.Expr) and "rollback" in ast.dump(s.value).lower()
        for s in statements_in(attempt.answer)
    )


def _own_commit(context: Context, attempt: Attempt) -> int | None:
    """The line of a commit that every swallowed error still reaches in this function."""
    for path in attempt.paths:
        if path.end == "raise":
            continue
        for statement in path.trail:
            for inner in statements_in([statement]):
                for touch in context.databases.touches_of(inner, attempt.function):
                    after = touch.node.lineno > attempt.line
                    if (
                        touch.effect & Effect.ROLLBACK
                        and after
                        and not touch.effect & Effect.COMMIT
                    ):
                        return None
                    if touch.effect & Effect.COMMIT and after and touch.via is None:
                        return touch.node.lineno
    return None


def _block_commit(context: Context, attempt: Attempt) -> int | None:
    """The end of a surrounding `with` or decorated function that commits."""
    if _in_savepoint(context, attempt.statement):
        return None
    over = context.transaction_over(attempt.statement)
    if over is not None:
        kind = [i for i in over.items if context.commits_at_exit(i.context_expr, attempt.function)]
        guarded = any(_is_guarded(context, i.context_expr, attempt.function) for i in kind)
        return None if guarded else over.end_lineno or over.lineno
    if context.is_atomic(attempt.function) and attempt.function.node is not None:
        return attempt.function.node.end_lineno
    return None


def _is_guarded(context: Context, node: ast.expr, function: Function) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        kind = context.databases.kind_of(node.func.value, function)
        return kind is not None and kind.name == "guarded"
    return False


def _flush_commit(attempt: Attempt) -> int | None:
    """For a mapper event (`after_insert`): the flush that called it, in whose transaction it is."""
    for decorator in attempt.function.decorators:
        if isinstance(decorator, ast.Call) and len(decorator.args) > 1:
            name = decorator.args[1]
            event = name.value if isinstance(name, ast.Constant) else ""
            if isinstance(event, str) and event.startswith(("after_", "before_")):
                given = {parameter.arg for parameter in attempt.function.parameters()}
                return decorator.lineno if "connection" in given else None
    return None


def _callers_commit(context: Context, attempt: Attempt, touches: list[Touch]) -> int | None:
    """For a helper that was given the cursor or session: its caller's commit afterwards."""
    given = {parameter.arg for parameter in attempt.function.parameters()}
    receivers = {
        dotted(t.node.func.value).split(".")[0]
        for t in touches
        if isinstance(t.node.func, ast.Attribute)
    }
    if not (given - {"self", "cls"}) & receivers:
        return None
    for caller, statement, _ in context.callers(attempt.function):
        if _in_savepoint(context, statement):
            continue
        over = context.transaction_over(statement)
        if over is not None:
            return over.end_lineno or over.lineno
        for inner in statements_in(caller.body):
            for touch in context.databases.touches_of(inner, caller):
                after = touch.node.lineno > statement.lineno
                if touch.effect & Effect.COMMIT and after and touch.via is None:
                    return touch.node.lineno
    return None


def _in_loop(context: Context, attempt: Attempt) -> bool:
    for parent, place in context.module.ancestors(attempt.statement):
        if isinstance(parent, (ast.For, ast.AsyncFor, ast.While)) and place.part == "body":
            return True
    return False
