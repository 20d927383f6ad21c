"""FS007: a client-side timeout or cancellation around a commit."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from failstop.scan._context import Context, confidence_of
from failstop.scan._database import Touch
from failstop.scan._finding import Finding
from failstop.scan._model import Function, last_part

_CALLS = ("wait_for",)
_BLOCKS = ("timeout", "timeout_at", "move_on_after", "fail_after", "move_on_at", "fail_at")
_OWNERS = ("asyncio", "anyio", "trio", "async_timeout")


def find(context: Context) -> Iterator[Finding]:
    """Timeouts whose block or awaited call commits."""
    for function in context.module.functions:
        for statement in function.statements():
            for call in context.databases.calls(statement):
                yield from _waited(context, function, call)
        for block in function.withs:
            yield from _limited(context, function, block)


def _waited(context: Context, function: Function, call: ast.Call) -> Iterator[Finding]:
    name = context.module.name_of(call.func)
    if last_part(name) not in _CALLS or name.partition(".")[0] not in _OWNERS or not call.args:
        return
    work = call.args[0]
    if not isinstance(work, ast.Call):
        work = _task(context, function, work)
    if not isinstance(work, ast.Call):
        return
    commits = _commits_of_call(context, function, work)
    if commits:
        yield _finding(context, call, commits, name)


def _task(context: Context, function: Function, work: ast.expr) -> ast.expr:
    """`task = asyncio.create_task(save())` followed by `wait_for(task)`."""
    if isinstance(work, ast.Name):
        for _, value in context.databases.assigned(function).get(work.id, ()):
            if isinstance(value, ast.Call):
                inner = value.args[0] if value.args else None
                made = last_part(context.module.name_of(value.func))
                if made in ("create_task", "ensure_future") and isinstance(inner, ast.Call):
                    return inner
                return value
    return work


def _commits_of_call(context: Context, function: Function, work: ast.Call) -> list[Touch]:
    """What the awaited call commits, its arguments' calls included (gather, create_task)."""
    statement = ast.copy_location(ast.Expr(work), work)
    return context.commits([statement], function)


def _limited(
    context: Context, function: Function, block: ast.With | ast.AsyncWith
) -> Iterator[Finding]:
    for item in block.items:
        call = item.context_expr
        if not isinstance(call, ast.Call):
            continue
        name = context.module.name_of(call.func)
        if last_part(name) in _BLOCKS and name.partition(".")[0] in _OWNERS:
            commits = context.commits(block.body, function)
            if commits:
                yield _finding(context, block, commits, name)


def _finding(context: Context, node: ast.AST, commits: list[Touch], name: str) -> Finding:
    best = max(commits, key=lambda touch: touch.strength)
    return context.finding(
        "FS007",
        node,
        confidence_of(best.strength),
        f"{name} can cancel a commit (line {best.node.lineno}) whose outcome then is unknown",
        flow=(f"commit (line {best.node.lineno})", name, "cancelled, outcome unknown"),
        line=getattr(node, "lineno", None),
    )
