"""FS003: another store in the place of a missing or unreachable database."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from failstop.scan import _vocabulary as words
from failstop.scan._context import Attempt, Context
from failstop.scan._finding import Confidence, Finding
from failstop.scan._kinds import STRONG
from failstop.scan._model import Function, calls_in, dotted, last_part, statements_in, strings_in
from failstop.scan._values import Reader, Value

_SERVER = re.compile(
    r"postgres|mysql|mariadb|psycopg|asyncpg|oracle|mssql|cockroach", re.IGNORECASE
)
_SQLITE = re.compile(r"^sqlite(\+\w+)?:", re.IGNORECASE)
_DRIVERS = ("psycopg", "psycopg2", "asyncpg", "MySQLdb", "pymysql", "aiomysql", "psycopg_pool")


def find(context: Context) -> Iterator[Finding]:
    """Handlers that swap the store, conditions on the URL, and default URLs of SQLite."""
    yield from _handlers(context)
    for function in context.module.functions:
        for statement in function.ifs:
            found = _condition(context, function, statement)
            if found:
                yield found
    yield from _defaults(context)


def _handlers(context: Context) -> Iterator[Finding]:
    seen: set[int] = set()
    for attempt in context.attempts:
        swap = _swap(context, attempt)
        if swap and id(attempt.handler) not in seen:
            seen.add(id(attempt.handler))
            said, confidence = swap
            yield context.finding(
                "FS003",
                attempt.handler or attempt.statement,
                confidence,
                f"a failure of {attempt.flow_to('')[0]} {said}",
                flow=attempt.flow_to(said),
                line=attempt.line,
                end_line=attempt.end_line,
            )


def _swap(context: Context, attempt: Attempt) -> tuple[str, Confidence] | None:
    """What a handler puts in the database's place."""
    reader = Reader(context.module, attempt.function)
    for statement in statements_in(attempt.answer):
        given = statement.value if isinstance(statement, ast.Return) else None
        if given is not None and reader.read(given, {}).sort == "store":
            return "returns another store", Confidence.HIGH
        if not isinstance(statement, ast.Assign):
            continue
        value = reader.read(statement.value, {})
        names = [dotted(target) for target in statement.targets]
        if value.sort == "store" or _is_sqlite(statement.value):
            return f"puts another store into {names[0] or 'its place'}", Confidence.HIGH
        flag = _flag(names, value)
        if flag:
            return f"switches to another store ({flag})", Confidence.HIGH
    return _memory_write(context, attempt)


def _flag(names: list[str], value: Value) -> str | None:
    for name in names:
        last = last_part(name)
        if value.sort == "true" and (
            words.PRESENT_FLAG.search(last) or re.search(r"^_?use_(sqlite|json|file|local)", last)
        ):
            return name
        if value.sort == "false" and re.search(r"^_?use_", last) and words.ABSENT_FLAG.search(last):
            return name
    return None


def _memory_write(context: Context, attempt: Attempt) -> tuple[str, Confidence] | None:
    """`MEMORY[order.id] = order` in a handler around a write."""
    if not attempt.effect & (words.Effect.WRITE | words.Effect.COMMIT):
        return None
    for statement in statements_in(attempt.answer):
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                owner = dotted(target.value) if isinstance(target, ast.Subscript) else ""
                if owner and _is_memory(context, attempt.function, owner):
                    return f"is answered by writing to {owner} in memory", Confidence.HIGH
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            func = statement.value.func
            if isinstance(func, ast.Attribute) and func.attr in ("append", "update", "add"):
                owner = dotted(func.value)
                if owner and _is_memory(context, attempt.function, owner):
                    return f"is answered by writing to {owner} in memory", Confidence.MEDIUM
    return None


def _is_memory(context: Context, function: Function, owner: str) -> bool:
    last = last_part(owner).strip("_").lower()
    if any(token in last for token in ("fail", "error", "dead", "retry", "result", "skip")):
        return False
    if re.search(r"memory|fallback|in_mem|local_|mock|offline|buffer|pending", last):
        return True
    value = Reader(context.module, function).store_of_module(owner, ast.Name(owner))
    return value.sort == "kept"


def _condition(context: Context, function: Function, statement: ast.If) -> Finding | None:
    """`if not DATABASE_URL: … sqlite …` and its like."""
    name = "" if _asks_kind(statement.test) else _url_asked(statement.test)
    if not name:
        return None
    by_design = not (name.isupper() or _SERVER.search(context.module.source))
    for block in _blocks_for_absence(statement):
        for inner in statements_in(block):
            said = _puts_store(context, function, inner)
            if said:
                return context.finding(
                    "FS003",
                    statement,
                    Confidence.LOW if by_design else Confidence.HIGH,
                    f"where {name} is missing or unreachable, {said}",
                    flow=(name, f"if (line {statement.lineno})", said),
                    end_line=statement.body[-1].end_lineno,
                )
    return None


def _asks_kind(test: ast.expr) -> bool:
    """True where a condition asks which kind of database a URL names."""
    return any(_SQLITE.match(text + ":") or _SERVER.search(text) for text in strings_in(test)) and (
        not any(words.URL_NAME.search(text) for text in strings_in(test))
    )


def _blocks_for_absence(statement: ast.If) -> list[list[ast.stmt]]:
    """The blocks that run where what is asked for is missing."""
    test = statement.test
    if isinstance(test, ast.BoolOp):
        negative = any(isinstance(v, ast.UnaryOp) for v in test.values)
        return [statement.body] if negative or isinstance(test.op, ast.Or) else [statement.orelse]
    if isinstance(test, ast.UnaryOp):
        return [statement.body]
    if isinstance(test, ast.Compare):
        other = test.comparators[0]
        empty = isinstance(other, ast.Constant) and not other.value
        if isinstance(test.ops[0], ast.NotIn):
            return [statement.body]
        if isinstance(test.ops[0], ast.In):
            return [statement.orelse]
        if not empty:
            return []
        absent = isinstance(test.ops[0], (ast.Is, ast.Eq))
        return [statement.body] if absent else [statement.orelse]
    if isinstance(test, ast.Call) and last_part(dotted(test.func)) in ("startswith", "endswith"):
        return []
    name = last_part(dotted(test))
    present = bool(name and words.PRESENT_FLAG.search(name) and not words.ABSENT_FLAG.search(name))
    return [statement.body] if present else [statement.orelse]


def _url_asked(test: ast.expr) -> str:
    """The database's URL or flag that a condition asks for."""
    for node in ast.walk(test):
        name = last_part(dotted(node)) if isinstance(node, (ast.Name, ast.Attribute)) else ""
        if isinstance(node, ast.Call):
            name = last_part(dotted(node.func))
            text = next((t for t in strings_in(node) if words.URL_NAME.search(t)), "")
            if name in ("get", "getenv", "getattr", "environ", "config") and text:
                return text
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Constant):
            text = str(node.left.value)
            if words.URL_NAME.search(text):
                return text
        if name and (
            words.URL_NAME.search(name)
            or words.ABSENT_FLAG.search(name)
            or words.PRESENT_FLAG.search(name)
        ):
            return name
    return ""


def _puts_store(context: Context, function: Function, statement: ast.stmt) -> str:
    value = None
    if isinstance(statement, (ast.Assign, ast.AnnAssign, ast.Return)):
        value = statement.value
    if value is None:
        return ""
    if _is_sqlite(value):
        return "SQLite takes its place"
    if Reader(context.module, function).read(value, {}).sort == "store":
        return f"another store takes its place (line {statement.lineno})"
    return ""


def _is_sqlite(node: ast.AST) -> bool:
    for text in strings_in(node):
        if _SQLITE.match(text) or text in (":memory:", "django.db.backends.sqlite3"):
            return True
    return any(
        dotted(call.func) in ("sqlite3.connect", "SqliteDatabase") for call in calls_in(node)
    )


def _defaults(context: Context) -> Iterator[Finding]:
    """`environ.get("DATABASE_URL", "sqlite://…")` where a server is also meant."""
    for function in context.module.functions:
        for statement in function.statements():
            for call in context.databases.calls(statement):
                if _defaults_to_sqlite(call):
                    yield from _default(context, call, STRONG)
            yield from _or_default(context, statement)


def _or_default(context: Context, statement: ast.stmt) -> Iterator[Finding]:
    value = getattr(statement, "value", None)
    if not isinstance(value, ast.BoolOp) or not isinstance(value.op, ast.Or):
        return
    first, last = value.values[0], value.values[-1]
    asks = any(words.URL_NAME.search(text) for text in strings_in(first)) or words.URL_NAME.search(
        last_part(dotted(first))
    )
    if asks and any(_SQLITE.match(text) for text in strings_in(last)):
        yield from _default(context, value, STRONG)


def _defaults_to_sqlite(call: ast.Call) -> bool:
    name = last_part(dotted(call.func)) or getattr(call.func, "attr", "")
    if name not in ("get", "getenv", "config", "env", "str", "db", "url", "get_env", "Field"):
        return False
    first = call.args[0] if call.args else None
    key = first.value if isinstance(first, ast.Constant) else ""
    if not (isinstance(key, str) and words.URL_NAME.search(key)):
        return False
    defaults = [*call.args[1:], *(k.value for k in call.keywords if k.arg == "default")]
    return any(_SQLITE.match(text) for each in defaults for text in strings_in(each))


def _default(context: Context, node: ast.expr, strength: int) -> Iterator[Finding]:
    served = _SERVER.search(context.module.source) or context.module.uses(*_DRIVERS)
    confidence = Confidence.MEDIUM if served else Confidence.LOW
    yield context.finding(
        "FS003",
        node,
        confidence,
        "a missing database URL becomes SQLite by default",
        flow=("environment variable (missing)", "default", "sqlite"),
    )
