"""FS010: a fallback by environment on a path that answers data."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from failstop.scan import _vocabulary as words
from failstop.scan._context import Context
from failstop.scan._finding import Confidence, Finding
from failstop.scan._flow import Flow, Path
from failstop.scan._model import Function, dotted, last_part, strings_in
from failstop.scan._values import is_exit_code

_FAKE = ("invented", "store", "kept")


def find(context: Context) -> Iterator[Finding]:
    """Conditions on the environment whose branch answers fake, empty or in-memory data."""
    if context.is_test:
        return
    for function in context.module.functions:
        for statement in function.ifs:
            found = _condition(context, function, statement)
            if found:
                yield found


def _condition(context: Context, function: Function, statement: ast.If) -> Finding | None:
    name = _asked(statement.test)
    if not name:
        return None
    flow = Flow(context.module, function, context.databases)
    env = flow.before(statement)
    for block in (statement.body, statement.orelse):
        for path in flow.run(block, env):
            confidence = _judge(context, function, path, name)
            if confidence is None:
                continue
            return context.finding(
                "FS010",
                statement,
                confidence,
                f"{name} decides whether the answer is real",
                flow=(
                    name,
                    f"if (line {statement.lineno})",
                    f"answers invented data (line {getattr(path.node, 'lineno', 0)})",
                ),
                end_line=block[-1].end_lineno,
            )
    return None


def _judge(context: Context, function: Function, path: Path, name: str) -> Confidence | None:
    if path.end != "return" or path.node is None or is_exit_code(function, path.value):
        return None
    sort = path.value.sort
    answers = context.route_of(function) is not None or any(
        True for _ in context.databases.within(function.body, function)
    )
    named = any(word in name.lower() for word in ("mock", "fake", "sample"))
    if sort in _FAKE:
        return Confidence.HIGH if answers or named or sort == "store" else Confidence.MEDIUM
    if sort not in ("literal", "empty", "true"):
        return None
    if answers:
        return Confidence.HIGH if named or _is_rows(path) else Confidence.MEDIUM
    return Confidence.MEDIUM if named and sort != "true" else None


def _is_rows(path: Path) -> bool:
    node = path.value.node
    return isinstance(node, (ast.List, ast.Dict, ast.Call, ast.Name, ast.ListComp))


def _asked(test: ast.expr) -> str:
    """The name of the environment that a condition asks for."""
    for node in ast.walk(test):
        if isinstance(node, ast.Compare):
            if _values(node) and (name := _environment(node.left)):
                return name
            if isinstance(node.ops[0], (ast.Eq, ast.NotEq)) and (name := _lookup(node.left)):
                return name
        elif isinstance(node, (ast.Name, ast.Attribute)):
            name = dotted(node)
            last = last_part(name)
            if name and words.ENVIRONMENT_FLAG.search(last):
                return name
        elif isinstance(node, (ast.Call, ast.Subscript)):
            name = _lookup(node)
            if name and words.ENVIRONMENT_FLAG.search(name):
                return name
    return ""


def _values(node: ast.Compare) -> bool:
    texts = [text for each in node.comparators for text in strings_in(each)]
    return any(words.ENVIRONMENT_VALUE.match(text) for text in texts)


def _environment(node: ast.expr) -> str:
    name = dotted(node)
    if name and words.ENVIRONMENT_NAME.search(last_part(name)):
        return name
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("lower", "upper", "strip")
    ):
        return _environment(node.func.value)
    return _lookup(node)


def _lookup(node: ast.AST) -> str:
    """`os.getenv("ENV")`, `config["ENV"]`, `os.environ.get("APP_ENV")`."""
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("lower", "upper", "strip"):
            return _lookup(node.func.value)
        last = last_part(dotted(node.func)) or getattr(node.func, "attr", "")
        first = node.args[0] if node.args else None
        key = first.value if isinstance(first, ast.Constant) else ""
        if last in ("get", "getenv", "env", "config", "getattr") and isinstance(key, str):
            return key if words.ENVIRONMENT_NAME.search(key) else ""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        key = node.slice.value
        return key if isinstance(key, str) and words.ENVIRONMENT_NAME.search(key) else ""
    return ""
