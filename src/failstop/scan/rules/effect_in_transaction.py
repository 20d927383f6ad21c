"""FS006: an outside effect inside a transaction before its commit."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from failstop.scan import _vocabulary as words
from failstop.scan._context import Context, confidence_of, show
from failstop.scan._database import Touch
from failstop.scan._finding import Confidence, Finding
from failstop.scan._model import TRY, Function, dotted, last_part, statements_in
from failstop.scan._vocabulary import Effect


def find(context: Context) -> Iterator[Finding]:
    """Calls that reach the world while a write of the same transaction is not yet committed."""
    effects = _Effects(context)
    for function in context.module.functions:
        yield from _scan(context, function, effects)


def _scan(context: Context, function: Function, effects: _Effects) -> Iterator[Finding]:
    atomic = context.is_atomic(function)
    ordered = list(statements_in(function.body))
    pending: list[tuple[ast.stmt, Touch]] = []
    for statement in ordered:
        for call in context.databases.calls(statement):
            sureness = effects.of(call, function)
            if sureness is None or _in_handler(context, statement):
                continue
            found = _judge(context, function, statement, call, sureness, pending, atomic)
            if found:
                yield found
        pending = _pending(context, function, statement, pending)


def _pending(
    context: Context, function: Function, statement: ast.stmt, pending: list[tuple[ast.stmt, Touch]]
) -> list[tuple[ast.stmt, Touch]]:
    for touch in context.databases.touches_of(statement, function):
        if touch.effect & (Effect.COMMIT | Effect.ROLLBACK | Effect.AUTOCOMMIT):
            if not isinstance(statement, (ast.With, ast.AsyncWith)):
                return []
        elif touch.effect & (Effect.WRITE | Effect.UPSERT) and not touch.effect & Effect.SCHEMA:
            pending = [*pending, (statement, touch)]
    return pending


def _judge(
    context: Context,
    function: Function,
    statement: ast.stmt,
    call: ast.Call,
    sureness: Confidence,
    pending: list[tuple[ast.stmt, Touch]],
    atomic: bool,
) -> Finding | None:
    over = context.transaction_over(statement)
    if over is not None or atomic:
        where = over or function.node
        if where is None:
            return None
        writes = list(_writes_with(context, function, where, statement))
        if not writes and not atomic:
            return None
        best = max((t.strength for t in writes), default=3)
        return _finding(context, call, sureness, confidence_of(best), where.end_lineno or 0)
    before = [t for s, t in pending if _reaches(context, s, statement)]
    commit = _commit_behind(context, function, statement)
    if not before or commit is None:
        return None
    strength = max(t.strength for t in before)
    return _finding(context, call, sureness, confidence_of(strength), commit)


def _writes_with(
    context: Context, function: Function, where: ast.stmt, effect: ast.stmt
) -> Iterator[Touch]:
    """The writes of a block's own transaction that can run together with the effect."""
    for statement in statements_in(getattr(where, "body", [])):
        for touch in context.databases.touches_of(statement, function):
            if not touch.effect & (Effect.WRITE | Effect.UPSERT):
                continue
            own = context.transaction_over(statement)
            if (own is None or own is where) and not _exclusive(context, statement, effect):
                yield touch


def _exclusive(context: Context, first: ast.stmt, second: ast.stmt) -> bool:
    """True where a branch lets only one of two statements run."""
    blocks = {id(parent): id(place.block) for parent, place in context.module.ancestors(first)}
    return any(
        blocks.get(id(parent), id(place.block)) != id(place.block)
        for parent, place in context.module.ancestors(second)
        if isinstance(parent, (ast.If, ast.Match))
    )


def _finding(
    context: Context, call: ast.Call, sureness: Confidence, base: Confidence, line: int
) -> Finding:
    confidence = min(base, sureness, key=lambda each: each.rank)
    return context.finding(
        "FS006",
        call,
        confidence,
        f"{show(call)} reaches the world before the transaction commits (line {line})",
        flow=("pending write", show(call), f"commit (line {line})"),
        line=call.lineno,
    )


def _reaches(context: Context, first: ast.stmt, later: ast.stmt) -> bool:
    """True where the first statement's block is around or before the later one."""
    place = context.module.place(first)
    other = context.module.place(later)
    while other is not None and place is not None:
        if other.block is place.block:
            return other.index >= place.index
        if not isinstance(other.parent, ast.stmt):
            break
        other = context.module.place(other.parent)
    return _in_plain_block(context, first)


def _in_plain_block(context: Context, statement: ast.stmt) -> bool:
    """True where no branch decides whether the statement runs."""
    for parent, place in context.module.ancestors(statement):
        if isinstance(parent, (ast.If, ast.Match)) or place.handler is not None:
            return False
    return True


def _commit_behind(context: Context, function: Function, statement: ast.stmt) -> int | None:
    """The first commit that follows the statement in its own or an enclosing block."""
    current: ast.stmt | None = statement
    while current is not None:
        place = context.module.place(current)
        if place is None:
            return None
        for later in place.block[place.index + 1 :]:
            for touch in context.databases.within([later], function):
                if touch.effect & Effect.ROLLBACK and not _has_branches(later):
                    return None
                if touch.effect & Effect.COMMIT and touch.node.lineno > statement.lineno:
                    return touch.node.lineno
        current = place.parent if isinstance(place.parent, ast.stmt) else None
    return None


def _has_branches(statement: ast.stmt) -> bool:
    return isinstance(statement, (ast.If, *TRY, ast.For, ast.While, ast.AsyncFor))


def _in_handler(context: Context, statement: ast.stmt) -> bool:
    place = context.module.place(statement)
    if place is not None and place.handler is not None:
        return True
    return any(p.handler is not None for _, p in context.module.ancestors(statement))


class _Effects:
    """Which calls reach the world, through functions of this module."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.module = context.module
        self._known: dict[int, Confidence | None] = {}

    def of(self, call: ast.Call, function: Function) -> Confidence | None:
        """How sure it is that a call has an outside effect; low for reads; None for none."""
        direct = self._direct(call, function)
        if direct is not None:
            return direct
        callee = self.module.callee(call, function)
        return self._summary(callee) if callee is not None else None

    def _summary(self, function: Function) -> Confidence | None:
        if id(function) in self._known:
            return self._known[id(function)]
        self._known[id(function)] = None
        found: list[Confidence] = []
        for statement in function.statements():
            if _in_handler(self.context, statement):
                continue
            for call in self.context.databases.calls(statement):
                sureness = self.of(call, function)
                if sureness is not None:
                    found.append(sureness)
        best = max(found, key=lambda each: each.rank, default=None)
        self._known[id(function)] = best
        return best

    def _direct(self, call: ast.Call, function: Function) -> Confidence | None:
        func = call.func
        name = self.module.name_of(func)
        if words.EFFECT_CALLS.match(name):
            return Confidence.HIGH
        if words.HTTP_READS.match(name):
            return Confidence.LOW
        if not isinstance(func, ast.Attribute):
            return self._plain(name)
        receiver = dotted(func.value)
        kind = self.context.databases.kind_of(func.value, function)
        if kind is not None and kind.name == "http":
            return (
                Confidence.HIGH
                if func.attr in words.HTTP_METHODS
                else (Confidence.LOW if func.attr == "get" else None)
            )
        if kind is not None and kind.name == "messages":
            return Confidence.HIGH if func.attr.startswith(("send", "publish", "produce")) else None
        if func.attr in words.HTTP_METHODS and self._is_client(receiver):
            return Confidence.HIGH if call.args else None
        if func.attr not in words.EFFECT_METHODS:
            return None
        if func.attr in ("delay", "apply_async", "send_task", "kiq"):
            return self._task(func, receiver)
        if func.attr in words.AMBIGUOUS_EFFECTS:
            speaks = self.module.uses(*words.MESSAGING)
            return (Confidence.HIGH if speaks else Confidence.MEDIUM) if receiver else None
        if receiver in ("self", "cls") or receiver.endswith((".db", ".repo", ".repository")):
            return None
        venue = words.VENUES.search(last_part(receiver).strip("_").lower())
        is_mail = "mail" in func.attr or "sms" in func.attr or "publish" in func.attr
        return Confidence.HIGH if venue or is_mail else Confidence.MEDIUM

    def _task(self, func: ast.Attribute, receiver: str) -> Confidence | None:
        if not receiver:
            return None
        return Confidence.HIGH if self._speaks_tasks(receiver) else Confidence.MEDIUM

    def _speaks_tasks(self, receiver: str) -> bool:
        return self.module.uses("celery", "huey", "dramatiq", "rq", "taskiq") or any(
            "task" in part for part in self.module.resolve(receiver).lower().split(".")
        )

    @staticmethod
    def _plain(name: str) -> Confidence | None:
        last = last_part(name)
        if last in ("send_mail", "send_email", "send_sms", "sendmail", "publish_event"):
            return Confidence.HIGH if "." in name else Confidence.MEDIUM
        if last in ("place_order", "submit_order", "send_order", "send_telegram_message"):
            return Confidence.MEDIUM
        return None

    def _is_client(self, receiver: str) -> bool:
        last = last_part(receiver).lower()
        return self.module.uses("httpx", "aiohttp", "requests") and any(
            word in last for word in ("client", "http", "requests")
        )
