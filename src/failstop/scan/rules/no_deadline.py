"""FS009: an engine or pool with no deadline at all."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from failstop.scan import _vocabulary as words
from failstop.scan._context import Context
from failstop.scan._finding import Confidence, Finding
from failstop.scan._model import Function, dotted, last_part, strings_in

_MAKERS: dict[str, tuple[str, ...]] = {
    "create_engine": ("sqlalchemy", "sqlmodel"),
    "create_async_engine": ("sqlalchemy", "sqlmodel"),
    "async_engine_from_config": ("sqlalchemy",),
    "ConnectionPool": ("psycopg_pool",),
    "AsyncConnectionPool": ("psycopg_pool",),
    "NullConnectionPool": ("psycopg_pool",),
    "AsyncNullConnectionPool": ("psycopg_pool",),
    "SimpleConnectionPool": ("psycopg2",),
    "ThreadedConnectionPool": ("psycopg2",),
    "create_pool": ("asyncpg", "aiopg", "aiomysql", "asyncmy"),
    "MySQLConnectionPool": ("mysql",),
    "PostgresqlDatabase": ("peewee",),
    "MySQLDatabase": ("peewee",),
    "PooledPostgresqlDatabase": ("playhouse",),
    "PooledPostgresqlExtDatabase": ("playhouse",),
    "PooledMySQLDatabase": ("playhouse",),
    "PostgresqlExtDatabase": ("playhouse",),
    "PooledDB": ("dbutils",),
}
_SERVER = re.compile(r"postgres|mysql|mariadb|oracle|mssql|cockroach", re.IGNORECASE)
_SQLITE = re.compile(r"^sqlite|:memory:", re.IGNORECASE)
_TIMEOUTS = frozenset(
    (
        "timeout",
        "command_timeout",
        "connect_timeout",
        "connection_timeout",
        "read_timeout",
        "write_timeout",
        "statement_timeout",
        "options",
        "login_timeout",
    )
)


def find(context: Context) -> Iterator[Finding]:
    """Engines and pools without connect timeout and without statement or command timeout."""
    if context.uses_failstop and _is_guarded(context):
        return
    for function in context.module.functions:
        for statement in function.statements():
            for call in context.databases.calls(statement):
                found = _made(context, function, call)
                if found:
                    yield found
    yield from _django(context)
    yield from _flask(context)


def _is_guarded(context: Context) -> bool:
    return any(
        context.module.name_of(call.func).startswith(
            ("failstop.Database", "failstop.AsyncDatabase")
        )
        for function in context.module.functions
        for statement in function.statements()
        for call in context.databases.calls(statement)
    )


def _sets_elsewhere(context: Context) -> bool:
    """True where the module names a timeout of the database anywhere (an event, a SET)."""
    return bool(
        re.search(r"statement_timeout|command_timeout|max_execution_time", context.module.source)
    )


def _made(context: Context, function: Function, call: ast.Call) -> Finding | None:
    name = context.module.name_of(call.func)
    last = last_part(name)
    packages = _MAKERS.get(last)
    if packages is None or not (name.startswith(packages) or context.module.uses(*packages)):
        return None
    if name and "." in name and not name.startswith(packages):
        return None
    if _has_deadline(context, function, call, last) or _sets_elsewhere(context):
        return None
    confidence = _sureness(context, function, call, last)
    if confidence is None:
        return None
    return context.finding(
        "FS009",
        call,
        confidence,
        f"{last} has neither a connect timeout nor a statement or command timeout",
        flow=(f"{last}(…)", "no deadline", "a frozen server holds every worker"),
        line=call.lineno,
    )


def _has_deadline(context: Context, function: Function, call: ast.Call, last: str) -> bool:
    for keyword in call.keywords:
        if keyword.arg is None:
            if _unknown_or_timed(context, function, keyword.value):
                return True
        elif keyword.arg in _TIMEOUTS and (keyword.arg != "timeout" or last == "create_pool"):
            return True
        elif keyword.arg in (
            "connect_args",
            "kwargs",
            "server_settings",
            "connect_kwargs",
            "options",
        ):
            if _unknown_or_timed(context, function, keyword.value):
                return True
        elif keyword.arg in ("creator", "async_creator", "configure", "setup", "init"):
            return True
    return any(words.DEADLINES.search(text) for text in _texts(context, function, call))


def _texts(context: Context, function: Function, call: ast.Call) -> Iterator[str]:
    """The strings of a call, its arguments' names looked up once."""
    yield from strings_in(call)
    for argument in call.args:
        name = dotted(argument)
        for scope in (function, context.module.top) if name else ():
            for _, value in context.databases.assigned(scope).get(name, ()):
                yield from strings_in(value)


def _unknown_or_timed(context: Context, function: Function, value: ast.expr) -> bool:
    """True where options hold a timeout, or cannot be read."""
    if isinstance(value, ast.Dict):
        keys = [key.value for key in value.keys if isinstance(key, ast.Constant)]
        if any(str(k) in _TIMEOUTS or words.DEADLINES.search(str(k)) for k in keys):
            return True
        if any(key is None for key in value.keys):
            return True
        return any(
            _unknown_or_timed(context, function, v)
            for v in value.values
            if isinstance(v, (ast.Dict, ast.Call))
        ) or any(words.DEADLINES.search(text) for text in strings_in(value))
    if isinstance(value, ast.Call) and last_part(dotted(value.func)) == "dict":
        return any(k.arg in _TIMEOUTS or k.arg is None for k in value.keywords)
    if isinstance(value, ast.IfExp):
        return _unknown_or_timed(context, function, value.body) or _unknown_or_timed(
            context, function, value.orelse
        )
    name = dotted(value)
    if any(parameter.arg == name for parameter in function.parameters()):
        return True
    for scope in (function, context.module.top) if name else ():
        bound = [v for _, v in context.databases.assigned(scope).get(name, ())]
        if bound:
            timed = any(
                _unknown_or_timed(context, function, each)
                for each in bound
                if isinstance(each, (ast.Dict, ast.Call, ast.IfExp))
            )
            return timed or _filled_later(scope, name)
    return True


def _filled_later(function: Function, name: str) -> bool:
    """True where a timeout is put into the options by item."""
    for node in function.assigns:
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target in targets:
            if isinstance(target, ast.Subscript) and dotted(target.value) == name:
                texts = " ".join([*strings_in(target), *strings_in(node)])
                if words.DEADLINES.search(texts) or "timeout" in texts:
                    return True
    return False


def _sureness(context: Context, function: Function, call: ast.Call, last: str) -> Confidence | None:
    if last not in ("create_engine", "create_async_engine"):
        return Confidence.LOW if last.endswith("from_config") else Confidence.HIGH
    texts = list(_texts(context, function, call))
    sqlite = any(_SQLITE.match(text.strip()) for text in texts)
    server = any(_SERVER.search(text) for text in texts)
    source = context.module.source
    if sqlite and not server:
        return Confidence.LOW if _SERVER.search(source) else None
    if server:
        return Confidence.HIGH
    if "sqlite" in source.lower():
        return Confidence.MEDIUM if _SERVER.search(source) else None
    if "alembic" in source or "env.py" in context.name:
        return Confidence.LOW
    return Confidence.HIGH if _SERVER.search(source) or not call.args else Confidence.MEDIUM


def _django(context: Context) -> Iterator[Finding]:
    for node in context.module.top.assigns:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if not any(dotted(target) == "DATABASES" for target in targets):
            continue
        if not isinstance(node.value, ast.Dict):
            continue
        for alias, entry in zip(node.value.keys, node.value.values, strict=True):
            found = _django_entry(context, node, alias, entry)
            if found:
                yield found
                break


def _django_entry(
    context: Context, node: ast.stmt, alias: ast.expr | None, entry: ast.expr
) -> Finding | None:
    texts = list(strings_in(entry))
    if any(words.DEADLINES.search(text) for text in texts) or _sets_elsewhere(context):
        return None
    if "connect_timeout" in context.module.source:
        return None
    if isinstance(entry, ast.Dict):
        server = any(re.search(r"postgres|postgis|mysql|oracle", text) for text in texts)
        if not server:
            return None
        confidence = Confidence.HIGH
    elif isinstance(entry, ast.Call) and "dj_database_url" in dotted(entry.func):
        if any(text.startswith("sqlite") for text in texts):
            return None
        confidence = Confidence.MEDIUM
    else:
        return None
    return context.finding(
        "FS009",
        node,
        confidence,
        "DATABASES sets no connect_timeout and no statement_timeout",
        flow=("DATABASES", "no OPTIONS", "a frozen server holds every worker"),
        line=node.lineno,
    )


def _flask(context: Context) -> Iterator[Finding]:
    """Flask-SQLAlchemy: a URI without SQLALCHEMY_ENGINE_OPTIONS."""
    module = context.module
    source = module.source
    has_options = "SQLALCHEMY_ENGINE_OPTIONS" in source or "engine_options" in source
    if has_options and words.DEADLINES.search(source):
        return
    if "SQLALCHEMY_DATABASE_URI" not in source or _sets_elsewhere(context):
        return
    uri = _uri(context)
    made = next(
        (
            call
            for function in module.functions
            for statement in function.statements()
            for call in context.databases.calls(statement)
            if module.name_of(call.func) == "flask_sqlalchemy.SQLAlchemy"
        ),
        None,
    )
    if uri is None:
        return
    node, value = uri
    texts = list(strings_in(value)) if value is not None else []
    for name in [dotted(n) for n in ast.walk(value)] if value is not None else []:
        for _, bound in context.databases.assigned(module.top).get(name, ()) if name else ():
            texts.extend(strings_in(bound))
    if any(_SQLITE.match(text) for text in texts):
        return
    server = any(_SERVER.search(text) for text in texts)
    confidence = Confidence.HIGH if server else Confidence.MEDIUM
    yield context.finding(
        "FS009",
        made or node,
        confidence,
        "Flask-SQLAlchemy is given no SQLALCHEMY_ENGINE_OPTIONS with a timeout",
        flow=("SQLALCHEMY_DATABASE_URI", "no deadline", "a frozen server holds every worker"),
        line=(made or node).lineno,
    )


def _uri(context: Context) -> tuple[ast.stmt, ast.expr | None] | None:
    for function in context.module.functions:
        for node in function.assigns:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                text = dotted(target) or " ".join(strings_in(target))
                if "SQLALCHEMY_DATABASE_URI" in text:
                    return node, node.value
    return None
