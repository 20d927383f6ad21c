"""FS004: a retry around a commit that catches more than proven rollbacks."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from failstop.scan import _vocabulary as words
from failstop.scan._catching import catch_of
from failstop.scan._context import Context, confidence_of
from failstop.scan._database import Touch
from failstop.scan._finding import Confidence, Finding
from failstop.scan._flow import is_endless
from failstop.scan._model import (
    TRY,
    Function,
    TryNode,
    calls_in,
    dotted,
    last_part,
    statements_in,
    strings_in,
    walk_expression,
)
from failstop.scan._vocabulary import Effect

_PROOFS = (
    "40001",
    "40p01",
    "deadlock",
    "serializ",
    "could not serialize",
    "locked",
    "1213",
    "1205",
)
_DECORATORS = ("retry", "retrying", "on_exception", "on_predicate", "retry_context", "retriable")


def find(context: Context) -> Iterator[Finding]:
    """Retry decorators and retry loops over functions that commit."""
    for function in context.module.functions:
        yield from _decorated(context, function)
        yield from _loops(context, function)
        yield from _contexts(context, function)


def _decorated(context: Context, function: Function) -> Iterator[Finding]:
    for decorator in function.decorators:
        said = _retrying(context, decorator)
        if not said or _only_rollbacks(context, decorator):
            continue
        commits = _commits(context, function.body, function)
        if commits and not context.is_idempotent(function.body, function):
            yield _finding(context, decorator, commits, said, function)


def _retrying(context: Context, decorator: ast.expr) -> str:
    """The name of a decorator that sends its function again."""
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = context.module.name_of(target)
    last = last_part(name) or getattr(target, "attr", "")
    keywords = {k.arg for k in decorator.keywords} if isinstance(decorator, ast.Call) else set()
    if "autoretry_for" in keywords:
        return f"{last}(autoretry_for=…)"
    head = name.partition(".")[0]
    if head in ("tenacity", "stamina", "backoff", "retrying", "retry", "retry2", "retrypy"):
        return name
    local = context.module.by_name.get(last)
    if words.RETRY_NAME.search(last) or last in _DECORATORS:
        return last
    if local is not None and any(
        _is_retry_loop(loop, context)
        for f in [local, *local.nested]
        for g in [f, *f.nested]
        for loop in g.loops
    ):
        return last
    return ""


def _only_rollbacks(context: Context, decorator: ast.expr) -> bool:
    """True where the retried errors are proven rollbacks alone, or no error of the database."""
    names = {
        last_part(dotted(node))
        for node in ast.walk(decorator)
        if isinstance(node, (ast.Name, ast.Attribute)) and last_part(dotted(node))[:1].isupper()
    }
    errors = {
        n
        for n in names
        if n.endswith(
            ("Error", "Exception", "Failure", "Detected", "Timeout", "Rollback", "Refused")
        )
    }
    if errors:
        proven = errors <= words.ROLLED_BACK_ERRORS
        foreign = errors <= {
            "HTTPError",
            "RequestException",
            "Timeout",
            "SMTPException",
            "ClientError",
            "NetworkError",
            "RateLimitExceeded",
            "HTTPStatusError",
            "TransportError",
            "ConnectTimeout",
            "SMTPServerDisconnected",
            "ReadTimeout",
            "IntegrityError",
            "BotoCoreError",
            "RateLimitError",
        }
        return proven or foreign
    predicates = [
        last_part(dotted(n)).lower()
        for n in ast.walk(decorator)
        if isinstance(n, (ast.Name, ast.Attribute))
    ]
    return any(t in p for p in predicates for t in ("serializ", "deadlock", "rolled_back"))


def _commits(context: Context, block: list[ast.stmt], function: Function) -> list[Touch]:
    found = context.commits(block, function)
    if context.is_atomic(function) and block is function.body:
        found += [t for t in context.databases.within(block, function) if t.effect & Effect.WRITE]
    return found


def _loops(context: Context, function: Function) -> Iterator[Finding]:
    for loop in function.loops:
        if not _is_retry_loop(loop, context):
            continue
        for statement in loop.body:
            if not isinstance(statement, TRY) or not _goes_again(context, statement):
                continue
            commits = _commits(context, statement.body, function)
            if commits and not context.is_idempotent(statement.body, function):
                yield _finding(context, loop, commits, "a loop", function)
                break


def _is_retry_loop(loop: ast.stmt, context: Context) -> bool:
    """True for a loop over attempts of one and the same work."""
    body = getattr(loop, "body", [])
    tries = [s for s in body if isinstance(s, TRY)]
    if not tries:
        return False
    if isinstance(loop, (ast.For, ast.AsyncFor)):
        call = loop.iter
        name = last_part(dotted(call.func)) if isinstance(call, ast.Call) else ""
        counted = name in ("range", "count", "expo", "Retrying", "retry_context", "islice")
        delays = "delay" in dotted(call).lower() or "backoff" in dotted(call).lower()
        target = dotted(loop.target).lower()
        used = any(
            isinstance(n, ast.Name) and n.id == dotted(loop.target)
            for s in tries
            for b in s.body
            for n in ast.walk(b)
        )
        named = bool(words.ATTEMPT_NAME.search(target)) or any(
            words.ATTEMPT_NAME.search(dotted(n)) for n in ast.walk(call) if isinstance(n, ast.Name)
        )
        return (counted and (named or not used) and _leaves(tries)) or delays or (counted and named)
    if isinstance(loop, ast.While) and not is_endless(loop):
        names = [dotted(n) for n in ast.walk(loop.test) if isinstance(n, (ast.Name, ast.Attribute))]
        return any(
            words.ATTEMPT_NAME.search(n) or n in ("success", "done", "committed") for n in names
        )
    return isinstance(loop, ast.While) and _leaves(tries) and not _is_supervisor(loop)


def _is_supervisor(loop: ast.While) -> bool:
    names = [dotted(n) for n in ast.walk(loop.test) if isinstance(n, (ast.Name, ast.Attribute))]
    return bool(names)


def _leaves(tries: list[TryNode]) -> bool:
    """True where success leaves the loop."""
    for statement in tries:
        for inner in statements_in([*statement.body, *statement.orelse]):
            if isinstance(inner, (ast.Return, ast.Break)):
                return True
    return False


def _goes_again(context: Context, statement: TryNode) -> bool:
    """True where a handler takes an unproven failure of the database and lets the loop go on."""
    for handler in statement.handlers:
        catch = catch_of(handler, context.module)
        lasts = {last_part(name) for name in catch.names}
        if not catch.is_database or (lasts and lasts <= words.ROLLED_BACK_ERRORS):
            continue
        if _asks_proof(context, handler):
            continue
        if isinstance(handler.body[-1], (ast.Raise, ast.Return, ast.Break)):
            continue
        return True
    return False


def _asks_proof(context: Context, handler: ast.ExceptHandler) -> bool:
    """True where the handler looks at the SQLSTATE or class and raises all else."""
    raises = any(isinstance(s, ast.Raise) for s in statements_in(handler.body))
    if not raises:
        return False
    for statement in handler.body:
        for node in walk_expression(statement):
            name = last_part(dotted(node)) if isinstance(node, (ast.Name, ast.Attribute)) else ""
            if name in ("sqlstate", "pgcode") or name in words.ROLLED_BACK_ERRORS:
                return True
            if any(t in name.lower() for t in ("serializ", "deadlock", "is_retryable_tx")):
                return True
        if _names_proof(statement) or _asks_helper(context, statement):
            return True
    return False


def _names_proof(node: ast.AST) -> bool:
    return any(proof in text.lower() for text in strings_in(node) for proof in _PROOFS)


def _asks_helper(context: Context, statement: ast.stmt) -> bool:
    """True where a condition asks a function of this module that knows the SQLSTATEs."""
    if not isinstance(statement, ast.If):
        return False
    for call in calls_in(statement.test):
        callee = context.module.by_name.get(dotted(call.func))
        for inner in statements_in(callee.body) if callee else ():
            names = {dotted(n) for n in ast.walk(inner) if isinstance(n, (ast.Name, ast.Attribute))}
            if _names_proof(inner) or any(
                last_part(n) in ("sqlstate", "pgcode") or last_part(n) in words.ROLLED_BACK_ERRORS
                for n in names
            ):
                return True
    return False


def _contexts(context: Context, function: Function) -> Iterator[Finding]:
    """`for attempt in Retrying(): with attempt:` of tenacity and stamina."""
    for loop in function.loops:
        if isinstance(loop, ast.While) or not isinstance(loop.iter, ast.Call):
            continue
        name = context.module.name_of(loop.iter.func)
        if last_part(name) not in ("Retrying", "AsyncRetrying", "retry_context"):
            continue
        commits = _commits(context, loop.body, function)
        idempotent = context.is_idempotent(loop.body, function)
        if commits and not idempotent and not _only_rollbacks(context, loop.iter):
            yield _finding(context, loop, commits, name, function)


def _finding(
    context: Context, node: ast.AST, commits: list[Touch], said: str, function: Function
) -> Finding:
    best = max(commits, key=lambda touch: touch.strength)
    confidence = confidence_of(best.strength)
    if (
        not any(t.effect & Effect.COMMIT for t in commits)
        and confidence is Confidence.HIGH
        and (best.kind == "database")
    ):
        confidence = Confidence.MEDIUM
    end = getattr(node, "end_lineno", None) if isinstance(node, ast.expr) else None
    return context.finding(
        "FS004",
        node,
        confidence,
        f"{said} sends a commit again (line {best.node.lineno}) after failures that do not prove a "
        "rollback",
        flow=(f"commit (line {best.node.lineno})", said, "sent again"),
        end_line=end,
    )
