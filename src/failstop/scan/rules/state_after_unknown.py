"""FS012: a business state written after a commit or venue call whose outcome is unknown."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from failstop.scan import _vocabulary as words
from failstop.scan._catching import catch_of
from failstop.scan._context import Context
from failstop.scan._finding import Confidence, Finding
from failstop.scan._model import (
    Function,
    TryNode,
    calls_in,
    dotted,
    last_part,
    statements_in,
    strings_in,
)
from failstop.scan._statements import sql_text
from failstop.scan._vocabulary import Effect

_MARK = re.compile(
    r"^_?(mark|set|update)_?(\w+_)?(as_)?(failed|rejected|cancell?ed|failure|error)$"
)
_SQL_STATE = re.compile(
    r"UPDATE\s.*\b(status|state)\s*=\s*'?(rejected|failed|cancell?ed|error)",
    re.IGNORECASE | re.DOTALL,
)
_VENUE_CALLS = re.compile(
    r"^(create|place|submit|send|execute|cancel|modify)_?(\w+_)?(order|trade|payment|charge|transfer|"
    r"transaction)s?$|^(charge|capture|withdraw|payout)$"
)
_UNKNOWN_ERRORS = re.compile(
    r"Timeout|NetworkError|ConnectionError|RequestException|APIError|"
    r"ExchangeError|ApiException|HTTPError|RequestTimeout|APIConnection",
    re.IGNORECASE,
)


def find(context: Context) -> Iterator[Finding]:
    """Handlers that mark work dead although it may have taken effect."""
    for function in context.module.functions:
        for statement in function.tries:
            source = _unknown_work(context, function, statement)
            if source is None:
                continue
            for handler in statement.handlers:
                if not _is_unknown(context, handler):
                    continue
                mark = _mark(handler)
                if mark:
                    yield _finding(context, function, handler, source, mark)


def _finding(
    context: Context,
    function: Function,
    handler: ast.ExceptHandler,
    source: tuple[str, bool],
    mark: str,
) -> Finding:
    said, sure = source
    owner = function.cls.name.lower() if function.cls else ""
    is_business = bool(words.BUSINESS.search(f"{mark} {said} {owner} {function.name}".lower()))
    return context.finding(
        "FS012",
        handler,
        _sureness(sure, is_business),
        f"the outcome of {said} is unknown here, and the handler writes {mark}",
        flow=(said, f"except (line {handler.lineno})", mark),
        line=handler.lineno,
        end_line=handler.end_lineno,
    )


def _sureness(sure: bool, is_business: bool) -> Confidence:
    """High where the work is surely a commit or a venue's, low where no business is named."""
    if not is_business:
        return Confidence.LOW
    return Confidence.HIGH if sure else Confidence.MEDIUM


def _unknown_work(
    context: Context, function: Function, statement: TryNode
) -> tuple[str, bool] | None:
    """A commit or a venue call in the guarded block."""
    for inner in statements_in(statement.body):
        for call in context.databases.calls(inner):
            last = last_part(dotted(call.func)) or getattr(call.func, "attr", "")
            owner = dotted(call.func.value) if isinstance(call.func, ast.Attribute) else ""
            said = f"{last}(…) (line {call.lineno})"
            if _VENUE_CALLS.match(last):
                venue = words.VENUES.search(last_part(owner).strip("_").lower())
                return said, bool(venue)
            if words.PAYMENTS.match(context.module.name_of(call.func)):
                return said, True
    for touch in context.commits(statement.body, function):
        if touch.effect & Effect.COMMIT:
            return f"the commit (line {touch.node.lineno})", touch.strength >= 2
    return None


def _is_unknown(context: Context, handler: ast.ExceptHandler) -> bool:
    catch = catch_of(handler, context.module)
    if catch.reach in ("broad", "database", "network", "critical"):
        return True
    return any(_UNKNOWN_ERRORS.search(last_part(name)) for name in catch.names)


def _mark(handler: ast.ExceptHandler) -> str | None:
    """The dead state that a handler writes."""
    for statement in statements_in(handler.body):
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                if _is_state(target) and (state := _dead(statement.value)):
                    return f"{ast.unparse(target)} = {state}"
        for call in calls_in(statement) if isinstance(statement, (ast.Expr, ast.Assign)) else ():
            name = last_part(dotted(call.func)) or getattr(call.func, "attr", "")
            if _MARK.match(name):
                return f"{name}(…)"
            for keyword in call.keywords:
                if (
                    keyword.arg in ("status", "state", "new_status")
                    and (state := _dead(keyword.value))
                    and not name.endswith(("Response", "jsonify", "dict"))
                ):
                    return f"{keyword.arg}={state}"
            if any(_SQL_STATE.search(sql_text(arg) or "") for arg in call.args):
                return "an UPDATE of the status"
            is_state_call = re.search(r"status|state", name)
            if is_state_call and any(_is_order_state(arg) for arg in call.args):
                return f"{name}(…)"
    return None


def _is_order_state(node: ast.expr) -> bool:
    """A dead state as an argument: `error` alone says too little there."""
    state = _dead(node)
    return state is not None and "error" not in state.lower()


def _is_state(target: ast.expr) -> bool:
    if isinstance(target, ast.Attribute):
        return bool(words.STATE_NAME.search(target.attr))
    if isinstance(target, ast.Subscript):
        owner = last_part(dotted(target.value)).lower()
        texts = list(strings_in(target.slice))
        is_answer = re.search(r"result|response|health|stats|report|info|out|ret", owner)
        return any(words.STATE_NAME.search(t) for t in texts) and not is_answer
    return False


def _dead(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return repr(node.value) if words.DEAD_STATE.match(node.value) else None
    name = dotted(node).removesuffix(".value")
    return name if name and words.DEAD_STATE.match(last_part(name)) else None
