"""What a statement does: SQL text, SQLAlchemy constructs, and the verbs of wrappers' names.

Lives here: the reading of one statement or verb. Never here: what carries it.
"""

from __future__ import annotations

import ast

from failstop.scan import _vocabulary as words
from failstop.scan._kinds import Kinds
from failstop.scan._model import Function, dotted, last_part
from failstop.scan._vocabulary import Effect

__all__ = ["effect_of", "sql_effect", "sql_text", "verb_effect"]


def effect_of(node: ast.expr, function: Function, kinds: Kinds, depth: int = 3) -> Effect | None:
    """What a statement (text, f-string, SQLAlchemy construct or a name for one) does."""
    text = sql_text(node)
    if text is not None:
        return sql_effect(text)
    if isinstance(node, ast.Call):
        return _construct_effect(node, function, kinds, depth)
    if isinstance(node, ast.Name) and depth:
        for how, value in kinds.assigned(function).get(node.id, ()):
            effect = effect_of(value, function, kinds, depth - 1) if how == "=" else None
            if effect is not None:
                return effect
        if not function.is_module:
            return effect_of(node, kinds.module.top, kinds, depth - 1)
    if isinstance(node, ast.BinOp):
        return effect_of(node.left, function, kinds, depth)
    return None


def _construct_effect(
    node: ast.Call, function: Function, kinds: Kinds, depth: int
) -> Effect | None:
    func = node.func
    while isinstance(func, ast.Attribute):
        name = func.attr
        if name in ("on_conflict_do_nothing", "on_conflict_do_update", "prefix_with"):
            return Effect.WRITE | Effect.UPSERT
        if isinstance(func.value, ast.Call):
            node, func = func.value, func.value.func
            continue
        if name in ("insert", "update", "delete") and not node.args:
            return Effect.WRITE
        if name == "select":
            return Effect.READ
        break
    name = last_part(dotted(func))
    if name in ("text", "SQL") and node.args and depth:
        return effect_of(node.args[0], function, kinds, depth - 1)
    found = {
        "select": Effect.READ,
        "insert": Effect.WRITE,
        "update": Effect.WRITE,
        "delete": Effect.WRITE,
        "pg_insert": Effect.WRITE,
    }.get(name)
    if found is None and name in ("format", "join", "dedent", "strip") and depth:
        if not isinstance(func, ast.Attribute) and not node.args:
            return None
        inner = func.value if isinstance(func, ast.Attribute) else node.args[0]
        return effect_of(inner, function, kinds, depth - 1)
    return found


def sql_text(node: ast.expr) -> str | None:
    """The text of a statement, as far as it is constant."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "x"
            for part in node.values
        )
    return None


def sql_effect(text: str) -> Effect | None:
    """What an SQL text does, None where it is none."""
    match = words.SQL.match(text)
    if match is None:
        return None
    verb = match.group(1).upper()
    if verb in words.SQL_WRITES or (verb == "WITH" and _writes_in_with(text)):
        return Effect.WRITE | (Effect.UPSERT if words.SQL_UPSERT.search(text) else Effect.TOUCH)
    if verb in words.SQL_SCHEMA:
        return Effect.SCHEMA | Effect.WRITE
    plain = {
        "COMMIT": Effect.COMMIT,
        "ROLLBACK": Effect.ROLLBACK,
        "BEGIN": Effect.BEGIN,
        "START": Effect.BEGIN,
        "SAVEPOINT": Effect.SAVEPOINT,
    }
    return plain.get(verb, Effect.READ)


def _writes_in_with(text: str) -> bool:
    upper = text.upper()
    return any(f"{verb} " in upper for verb in ("INSERT INTO", "UPDATE", "DELETE FROM"))


def verb_effect(method: str) -> Effect | None:
    """What the verb in a wrapper's method name says it does."""
    bare = method.lstrip("_")
    if words.SCHEMA_VERBS.match(bare):
        return Effect.SCHEMA | Effect.WRITE
    if bare in ("connect", "reconnect", "open", "ensure_connection", "acquire", "connect_db"):
        return Effect.CONNECT
    if bare == "commit":
        return Effect.COMMIT
    if bare == "rollback":
        return Effect.ROLLBACK
    if bare in ("close", "disconnect", "dispose", "close_all"):
        return Effect.CLOSE
    if bare in ("atomic", "transaction", "begin", "connection_context"):
        return Effect.BEGIN
    if bare in words.WRITE_WORDS or words.WRITE_VERBS.match(bare):
        return Effect.WRITE | Effect.AUTOCOMMIT
    if bare in ("initialize", "init", "setup", "ping", "health_check", "test_connection"):
        return Effect.CONNECT
    if words.READ_VERBS.match(bare) or bare in ("get_conn", "cursor", "execute_query", "session"):
        return Effect.READ
    return None
