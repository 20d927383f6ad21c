"""What the caller of a function gets once one of its handlers has run.

Lives here: facts about a handler's answer. Never here: a finding.
"""

from __future__ import annotations

import ast
import re

from failstop.scan._catching import may_raise
from failstop.scan._context import Attempt
from failstop.scan._flow import Path
from failstop.scan._model import Function, dotted, last_part, statements_in
from failstop.scan._values import DATA, Reader, Value, is_exit_code
from failstop.scan._vocabulary import LOGGING_METHODS

__all__ = [
    "SAID",
    "answered",
    "answers_data",
    "filled",
    "global_names",
    "is_outcome",
    "is_work",
    "targets",
]

_HANDLER = re.compile(r"(handle|raise|translate|convert|reraise)_\w*(exception|error|exc)")
SAID = {
    "empty": "an empty value",
    "none": "None",
    "false": "False",
    "true": "True",
    "literal": "a literal",
    "invented": "an invented or default value",
    "kept": "a value kept in memory",
    "fact": "a fact (not found, not allowed)",
    "mixed": "data beside the error",
    "mixed_report": "empty data beside the error",
    "page": "a page",
    "redirect": "a redirect",
    "refused": "a refusal that blames the request",
    "reported": "an error inside a successful answer",
}


def answered(attempt: Attempt, path: Path) -> Value | None:
    """What the caller gets on this way, None where it learns of the failure or expects nothing."""
    if path.end == "raise":
        return path.value if path.value.sort == "fact" else None
    if path.end == "fall" and attempt.is_repeated and may_raise(attempt.answer):
        return None
    if path.end == "fall" or (path.end == "return" and path.value.sort == "bare"):
        given = _yielded(attempt)
        if given is not None:
            return given
        if (
            _hands_over(attempt)
            or not _gives_values(attempt)
            or _answers_for_other_work(attempt, path)
        ):
            return None
        return Value("none", path.node)
    if path.end != "return" or is_exit_code(attempt.function, path.value):
        return None
    if path.value.sort == "none" and not _gives_values(attempt):
        return None
    return None if _answers_for_other_work(attempt, path) else path.value


def _answers_for_other_work(attempt: Attempt, path: Path) -> bool:
    """True where the function went on to other work, and its answer is that work's."""
    node = path.node
    if node is not None and node.lineno <= attempt.end_line:
        return False
    value = node.value if isinstance(node, ast.Return) else None
    if value is not None:
        names = filled(attempt.body) | filled(attempt.answer)
        if names & {dotted(each) for each in ast.walk(value)}:
            return False
        if not isinstance(value, ast.Name) and any(
            isinstance(each, ast.Name)
            and each.id in path.env
            and path.env[each.id].sort == "unknown"
            for each in ast.walk(value)
        ):
            return True
    later = [s for s in path.trail if s is not node and s.lineno > attempt.end_line]
    return any(is_work(each, attempt) for each in later)


def is_work(statement: ast.stmt, attempt: Attempt) -> bool:
    """True for a statement that does more than log or close."""
    calls = attempt.context.databases.calls(statement)
    return any(
        last_part(dotted(call.func))
        not in LOGGING_METHODS | {"close", "sleep", "putconn", "rollback", "remove"}
        for call in calls
    )


def filled(block: list[ast.stmt]) -> set[str]:
    """The names that a block binds, or fills by method or item."""
    names = targets(block)
    for statement in statements_in(block):
        if isinstance(statement, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            bound = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in bound:
                inner = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
                names.update(dotted(t.value if isinstance(t, ast.Subscript) else t) for t in inner)
        elif isinstance(statement, (ast.For, ast.AsyncFor)):
            names.add(dotted(statement.target))
        elif isinstance(statement, ast.Expr):
            call = statement.value
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                names.add(dotted(call.func.value))
    return names - {""}


def _hands_over(attempt: Attempt) -> bool:
    """True where the handler gives the error to a function that is named for dealing with it."""
    name = attempt.handler.name if attempt.handler else None
    return any(
        _HANDLER.search(last_part(dotted(call.func)))
        and any(isinstance(arg, ast.Name) and arg.id == name for arg in call.args)
        for statement in attempt.answer
        for call in attempt.context.databases.calls(statement)
    )


def _yielded(attempt: Attempt) -> Value | None:
    """What a handler yields: the value of a dependency or a context manager."""
    for statement in attempt.answer:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Yield):
            reader = Reader(attempt.function.module, attempt.function)
            return reader.read(statement.value.value, {})
    return None


def answers_data(attempt: Attempt) -> bool:
    """True where the caller gets a value on some way from this handler."""
    return any(value.sort in DATA for path in attempt.paths if (value := answered(attempt, path)))


def _gives_values(attempt: Attempt) -> bool:
    """True where the function returns something on another way than this handler's."""
    function = attempt.function
    first, last = attempt.line, attempt.end_line
    for node in function.returns:
        if node.value is None or (first <= node.lineno <= last and attempt.handler):
            continue
        if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            return True
    return False


def targets(block: list[ast.stmt]) -> set[str]:
    names: set[str] = set()
    for statement in statements_in(block):
        if isinstance(statement, ast.Assign):
            names.update(dotted(target) for target in statement.targets)
        elif isinstance(statement, (ast.With, ast.AsyncWith)):
            names.update(dotted(i.optional_vars) for i in statement.items if i.optional_vars)
    return names - {""}


def global_names(function: Function) -> set[str]:
    return {name for node in function.others if isinstance(node, ast.Global) for name in node.names}


def is_outcome(function: Function) -> bool:
    """True where a function answers only True or False: its own success."""
    return all(
        isinstance(node.value, ast.Constant) and isinstance(node.value.value, bool)
        for node in function.returns
        if node.value is not None
    )
