"""Which calls touch a database, and what they do to it.

Lives here: the touches of statements and functions. Never here: handlers.
"""

# ruff: noqa: SIM905 - long lists of words read better as text

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from failstop.scan import _vocabulary as words
from failstop.scan._catching import swallows_all
from failstop.scan._kinds import FAIR, FOREIGN, STRONG, WEAK, Kind, Kinds
from failstop.scan._model import (
    TRY,
    Block,
    Function,
    Module,
    calls_in,
    child_blocks,
    dotted,
    last_part,
    own_expressions,
    statements_in,
)
from failstop.scan._statements import effect_of, verb_effect
from failstop.scan._vocabulary import Effect

__all__ = ["Databases", "Touch", "union"]

_DATABASE_KINDS = frozenset(
    {
        "session",
        "connection",
        "cursor",
        "engine",
        "pool",
        "database",
        "repository",
        "query",
        "mongo",
        "factory",
        "guarded",
        "supabase",
        "mysql_extension",
    }
)
_ASIDE = frozenset(
    "print isinstance hasattr getattr setattr closing aclosing append add len str repr id type "
    "info debug warning error exception list set dict close next override partial bool callable "
    "iscoroutine gather put isawaitable super".split()
)


@dataclass(frozen=True, slots=True)
class Touch:
    """A call that reaches a database."""

    node: ast.Call
    effect: Effect
    strength: int
    kind: str
    via: Function | None = None


def union(touches: Iterable[Touch]) -> Effect:
    """All effects together."""
    effect = Effect.TOUCH
    for touch in touches:
        effect |= touch.effect
    return effect


class Databases(Kinds):
    """Answers for one module: the kind of an expression, the touches of a statement or function."""

    def __init__(self, module: Module) -> None:
        super().__init__(module)
        self._own: dict[int, list[Touch]] = {}
        self._calls: dict[int, list[ast.Call]] = {}
        self._summaries: dict[int, list[Touch]] = {}
        self._busy: set[tuple[str, int]] = set()
        self.embedded: bool = self._embedded()

    def _embedded(self) -> bool:
        """True where the only drivers are in-process ones (SQLite by design)."""
        drivers = self.module.packages & (words.DATABASE_PACKAGES - {"records"})
        return bool(drivers) and drivers <= words.EMBEDDED_DRIVERS

    # Calls and touches

    def calls(self, statement: ast.stmt) -> list[ast.Call]:
        """The calls in a statement's own expressions."""
        found = self._calls.get(id(statement))
        if found is None:
            written = [call for part in own_expressions(statement) for call in calls_in(part)]
            found = [each for call in written for each in (call, _handed_over(call)) if each]
            self._calls[id(statement)] = found
        return found

    def touches_of(self, statement: ast.stmt, function: Function) -> list[Touch]:
        """The touches in a statement's own expressions, those of called functions included."""
        found = self._own.get(id(statement))
        if found is None:
            found = []
            self._own[id(statement)] = found
            for call in self.calls(statement):
                found.extend(self.touches_of_call(call, function))
        return found

    def touches_of_call(self, call: ast.Call, function: Function) -> list[Touch]:
        """The touches of one call, through functions of this module."""
        direct = self.direct(call, function)
        callee = self.module.callee(call, function)
        if callee is not None:
            inner = self.summary(callee)
            passed = [Touch(call, t.effect, t.strength, t.kind, callee) for t in inner]
            if passed:
                return passed
            if direct and direct.strength < STRONG:
                return []
        if direct is None and callee is None:
            wrapped = self._wrapped(call, function)
            if wrapped:
                return wrapped
            given = self._given(call, function)
            return [given] if given else []
        return [direct] if direct else []

    def _wrapped(self, call: ast.Call, function: Function) -> list[Touch]:
        """The touches of `func(*args)` in a decorator of this module: its functions' touches."""
        if not isinstance(call.func, ast.Name):
            return []
        scope: Function | None = function.outer
        while scope is not None and all(p.arg != call.func.id for p in scope.parameters()):
            scope = scope.outer
        if scope is None or scope.is_module:
            return []
        makers = {scope.name, scope.outer.name if scope.outer else ""}
        inner = [
            (each, touch)
            for name in makers & self.decorated.keys()
            for each in self.decorated[name]
            for touch in self.summary(each)
        ]
        return [Touch(call, t.effect, t.strength, t.kind, each) for each, t in inner]

    @cached_property
    def decorated(self) -> dict[str, list[Function]]:
        """The functions of this module by the name of each decorator."""
        found: dict[str, list[Function]] = {}
        for function in self.module.functions:
            for decorator in function.decorators:
                target = decorator.func if isinstance(decorator, ast.Call) else decorator
                found.setdefault(last_part(dotted(target)), []).append(function)
        return found

    def _given(self, call: ast.Call, function: Function) -> Touch | None:
        """A call that is given a session, connection or cursor touches its database."""
        name = last_part(dotted(call.func)) or getattr(call.func, "attr", "")
        if not name or name[:1].isupper() or name in _ASIDE or words.SHUTDOWN.search(name):
            return None
        for argument in (*call.args, *(k.value for k in call.keywords)):
            if not isinstance(argument, (ast.Name, ast.Attribute)):
                continue
            kind = self.kind_of(argument, function)
            if kind is not None and kind.name in ("session", "connection", "cursor"):
                if kind.name == "connection" and kind.strength < STRONG:
                    continue
                effect = verb_effect(name)
                if effect is None:
                    effect = Effect.READ
                return Touch(call, effect & ~Effect.AUTOCOMMIT, FAIR, "given")
        return None

    def summary(self, function: Function) -> list[Touch]:
        """The touches of a function that may raise out of it (those it swallows do not count)."""
        known = self._summaries.get(id(function))
        if known is not None:
            return known
        key = ("summary", id(function))
        if key in self._busy or len(self._busy) > 40:
            return []
        self._busy.add(key)
        try:
            found = list(self.escaping(function.body, function))
        finally:
            self._busy.discard(key)
        self._summaries[id(function)] = found
        return found

    def within(self, block: Block, function: Function) -> Iterator[Touch]:
        """Every touch in a block, nested blocks included."""
        for statement in statements_in(block):
            yield from self.touches_of(statement, function)

    def escaping(self, block: Block, function: Function) -> Iterator[Touch]:
        """The touches in a block whose error leaves the block."""
        stack: list[Block] = [block]
        while stack:
            for statement in stack.pop():
                yield from self.touches_of(statement, function)
                for part, inner, handler in child_blocks(statement):
                    sealed = (
                        part == "body"
                        and isinstance(statement, TRY)
                        and swallows_all(statement, self.module)
                    )
                    if handler is not None or not sealed:
                        stack.append(inner)

    # One call

    def direct(self, call: ast.Call, function: Function) -> Touch | None:
        """What this call itself does to a database, None where it does nothing."""
        func = call.func
        resolved = self.module.name_of(func)
        maker = words.CONSTRUCTORS.get(resolved)
        if maker == "connection":
            return Touch(call, Effect.CONNECT, STRONG, "connection")
        if resolved in ("asyncpg.create_pool", "aiopg.create_pool", "aiomysql.create_pool"):
            return Touch(call, Effect.CONNECT, STRONG, "pool")
        if isinstance(func, ast.Attribute):
            return self._method(call, func, function, resolved)
        if isinstance(func, ast.Name):
            return self._plain(call, func.id, resolved, function)
        return None

    def _plain(self, call: ast.Call, name: str, resolved: str, function: Function) -> Touch | None:
        if name in ("get_object_or_404", "get_list_or_404", "aget_object_or_404"):
            return Touch(call, Effect.READ, STRONG, "query")
        if resolved.startswith("psycopg2.extras.execute"):
            return Touch(call, Effect.WRITE, STRONG, "cursor")
        if name in self.module.by_name:
            return None
        origin = resolved.rpartition(".")[0]
        if words.DATABASE_MODULES.search(origin) and not origin.startswith("sqlalchemy"):
            found = self._by_verb(call, name, FAIR, "database")
            plain = name[:1].islower() and not words.CONVERSIONS.match(name)
            unsure = Touch(call, Effect.READ, WEAK, "database") if plain else None
            return found or unsure
        giver = self._giver(name)
        if giver and not name[:1].isupper():
            return Touch(call, Effect.CONNECT, FAIR, giver)
        return None

    def _method(
        self, call: ast.Call, func: ast.Attribute, function: Function, resolved: str
    ) -> Touch | None:
        method = func.attr
        by_model = self._by_model(call, func, function)
        if by_model:
            return by_model
        kind = self.kind_of(func.value, function)
        if kind is not None and kind.name in FOREIGN:
            return None
        if method in ("execute", "exec_driver_sql", "exec") or (
            method
            in (
                "fetch",
                "fetchrow",
                "fetchval",
                "fetch_all",
                "fetch_one",
                "executemany",
                "executescript",
                "execute_query",
                "query",
                "fetch_val",
                "execute_async",
            )
        ):
            statement = self._execute(call, method, kind, function)
            if statement:
                return statement
        if kind is not None and kind.name in _DATABASE_KINDS:
            return self._by_kind(call, method, kind)
        return self._unknown(call, func, resolved, function)

    def _by_kind(self, call: ast.Call, method: str, kind: Kind) -> Touch | None:
        table = words.METHODS.get(kind.name)
        if table and method in table:
            if method == "get" and kind.name == "session" and not self._is_entity_get(call, kind):
                return None
            return Touch(call, table[method], kind.strength, kind.name)
        if kind.name == "factory" and method == "begin":
            return Touch(call, Effect.BEGIN, kind.strength, "session")
        if kind.name == "session" and method == "exec":
            return Touch(call, Effect.READ, kind.strength, "session")
        session_like = self._session_like(call, method) if kind.name == "database" else None
        if session_like is not None:
            return Touch(call, session_like, STRONG, "session")
        if kind.name in ("database", "repository"):
            return self._by_verb(call, method, min(kind.strength, FAIR), kind.name)
        if kind.name == "supabase" and method == "execute":
            return Touch(call, Effect.READ, FAIR, "supabase")
        return None

    @staticmethod
    def _is_entity_get(call: ast.Call, kind: Kind) -> bool:
        """True for `session.get(Model, key)`, which an HTTP session's get is not."""
        first = call.args[0] if call.args else None
        name = last_part(dotted(first)) if first is not None else ""
        return kind.strength == STRONG or (name[:1].isupper() and len(call.args) > 1)

    def _session_like(self, call: ast.Call, method: str) -> Effect | None:
        """`db.query(User)`, `db.commit()`: what is called db here is a session."""
        first = call.args[0] if call.args else None
        if method == "query":
            name = last_part(dotted(first)) if first is not None else ""
            named = name[:1].isupper() or (
                first is not None and "." in dotted(first) and dotted(first)[:1].isupper()
            )
            return Effect.READ if named or isinstance(first, ast.Call) else None
        if method in ("commit", "rollback", "flush", "scalars", "scalar", "add_all", "refresh"):
            return words.METHODS["session"][method]
        is_add = method in ("add", "delete") and len(call.args) == 1 and not call.keywords
        return Effect.WRITE if is_add and isinstance(first, (ast.Name, ast.Call)) else None

    def _by_verb(self, call: ast.Call, method: str, strength: int, kind: str) -> Touch | None:
        """What the name of a method of a database wrapper says."""
        effect = verb_effect(method)
        return None if effect is None else Touch(call, effect, strength, kind)

    def _execute(
        self, call: ast.Call, method: str, kind: Kind | None, function: Function
    ) -> Touch | None:
        """A call that carries a statement: its text says what it does."""
        known = kind is not None and kind.name in _DATABASE_KINDS
        effect = self._statement_effect(call, function)
        if effect is None and not known:
            if method == "execute" and self._is_chain_on_table(call):
                sure = STRONG if self.module.uses("supabase", "postgrest") else FAIR
                return Touch(call, self._chain_effect(call), sure, "supabase")
            return None
        name = kind.name if kind is not None and known else "connection"
        strength = kind.strength if kind is not None and known else STRONG
        if effect is None:
            if method == "query" and name != "session":
                return Touch(call, Effect.READ, strength, name)
            if method in words.METHODS.get(name, {}) and method not in ("execute", "executemany"):
                return Touch(call, words.METHODS[name][method], strength, name)
            effect = Effect.WRITE if method == "executemany" else Effect.TOUCH | Effect.READ
        elif kind is not None and kind.strength < STRONG:
            strength = STRONG
        if effect & (Effect.WRITE | Effect.SCHEMA) and name in ("pool", "database"):
            effect |= Effect.AUTOCOMMIT
        if effect & Effect.WRITE and self.module.uses("asyncpg", "databases"):
            effect |= Effect.AUTOCOMMIT
        return Touch(call, effect, strength, name)

    def _statement_effect(self, call: ast.Call, function: Function) -> Effect | None:
        """What the first argument does, where it can be read as a statement."""
        if not call.args:
            return None
        return effect_of(call.args[0], function, self)

    @staticmethod
    def _is_chain_on_table(call: ast.Call) -> bool:
        """True for `client.table("x").select("*").execute()`."""
        return any(
            last_part(dotted(inner.func) or getattr(inner.func, "attr", "")) in ("table", "from_")
            for inner in calls_in(call)
        )

    @staticmethod
    def _chain_effect(call: ast.Call) -> Effect:
        names = {getattr(inner.func, "attr", "") for inner in calls_in(call)}
        if "upsert" in names:
            return Effect.WRITE | Effect.AUTOCOMMIT | Effect.UPSERT
        if names & {"insert", "update", "delete"}:
            return Effect.WRITE | Effect.AUTOCOMMIT
        return Effect.READ

    def _by_model(self, call: ast.Call, func: ast.Attribute, function: Function) -> Touch | None:
        """`Order.objects.filter()`, `Order.query.all()`, `Order.get_or_none()`."""
        chain, root = _chain(func)
        manager = next(
            (part for part in chain if part in ("objects", "query", "_default_manager")), None
        )
        if manager and (root[:1].isupper() or chain[0] == "objects" or root in ("cls", "self")):
            effect = words.MANAGER.get(func.attr)
            if effect is None or func.attr == manager:
                return None
            auto = Effect.AUTOCOMMIT if effect & (Effect.WRITE | Effect.UPSERT) else Effect.TOUCH
            if effect & Effect.UPSERT:
                auto |= Effect.WRITE
            if manager == "query":
                auto = Effect.TOUCH
            return Touch(call, effect | auto, STRONG, "query")
        if root[:1].isupper() and self.module.uses("peewee", "playhouse", "tortoise", "beanie"):
            effect = words.PEEWEE.get(func.attr)
            if effect is None and func.attr in ("execute", "count", "exists", "dicts", "first"):
                effect = next((words.PEEWEE[p] for p in chain if p in words.PEEWEE), None)
            if effect is not None and root not in self.module.packages:
                return Touch(call, effect | _auto(effect), STRONG, "query")
        return None

    def _unknown(
        self, call: ast.Call, func: ast.Attribute, resolved: str, function: Function
    ) -> Touch | None:
        """A method on something that is not known: only telling methods count."""
        method = func.attr
        if method in words.UNIVERSAL:
            effect = words.UNIVERSAL[method]
            if effect & Effect.UPSERT:
                effect |= Effect.WRITE | Effect.AUTOCOMMIT
            sure = self.is_database_module or dotted(func.value).endswith("metadata")
            return Touch(call, effect, STRONG if sure else FAIR, "query")
        if method in ("commit", "rollback") and not call.args:
            if self.module.uses("git", "pygit2", "github", "dulwich") or not (
                self.is_database_module or self._speaks_database()
            ):
                return None
            effect = Effect.COMMIT if method == "commit" else Effect.ROLLBACK
            return Touch(call, effect, FAIR, "connection")
        if method in ("save", "delete", "refresh_from_db", "asave", "adelete"):
            return self._instance(call, func, function)
        origin = resolved.rpartition(".")[0]
        if "." in resolved and self._is_database_origin(func.value):
            return self._by_verb(call, method, FAIR, "database")
        if (
            origin
            and method in ("connect", "connect_db")
            and self.is_database_module
            and (words.DATABASE_MODULES.search(origin))
        ):
            return Touch(call, Effect.CONNECT, FAIR, "database")
        return None

    def _speaks_database(self) -> bool:
        return any(words.DATABASE_MODULES.search(target) for target in self.module.imports.values())

    def _is_database_origin(self, receiver: ast.expr) -> bool:
        """True for a module that was imported and is named like a database layer."""
        name = dotted(receiver)
        head = name.partition(".")[0]
        if head not in self.module.imports:
            return False
        target = self.module.resolve(name)
        if target.partition(".")[0] in words.DATABASE_PACKAGES | {"celery", "flask", "os"}:
            return False
        return bool(words.DATABASE_MODULES.search(target))

    def _instance(self, call: ast.Call, func: ast.Attribute, function: Function) -> Touch | None:
        """`order.save()` where the module speaks Django, peewee or another active record."""
        records = self.module.uses(
            "django", "peewee", "mongoengine", "tortoise", "rest_framework", "playhouse", "beanie"
        )
        if not records and not any(
            words.MODEL_MODULES.search(target) for target in self.module.imports.values()
        ):
            return None
        if call.args or "." in dotted(func.value).removeprefix("self."):
            return None
        name = last_part(dotted(func.value))
        if not name or any(
            token in name
            for token in (
                "img",
                "image",
                "fig",
                "book",
                "doc",
                "file",
                "cache",
                "path",
                "wb",
                "plot",
                "model",
            )
        ):
            return None
        if func.attr == "delete" and not self._from_model(func.value, function):
            return None
        strength = (
            STRONG
            if self._from_model(func.value, function) and records
            else (FAIR if records else WEAK)
        )
        effect = Effect.READ if func.attr.startswith("refresh") else Effect.WRITE
        return Touch(call, effect | _auto(effect), strength, "query")

    def _from_model(self, receiver: ast.expr, function: Function) -> bool:
        """True where the receiver was made by a class or a manager's call."""
        name = dotted(receiver)
        if name == "self" or name.startswith(("form", "serializer")):
            return True
        for _, value in self.assigned(function).get(name, ()):
            inner = value.value if isinstance(value, ast.Await) else value
            if isinstance(inner, ast.Call):
                _, root = _chain(inner.func)
                if root[:1].isupper() or "get_object_or_404" in root:
                    return True
        return False


def _handed_over(call: ast.Call) -> ast.Call | None:
    """`to_thread(save, order)` and its like run what they are given: the call `save(order)`."""
    name = last_part(dotted(call.func)) or getattr(call.func, "attr", "")
    if name in ("run_in_executor", "submit") and isinstance(call.func, ast.Attribute):
        first = 1 if name == "run_in_executor" else 0
    elif name in words.RUNNERS:
        first = 0
    else:
        return None
    if len(call.args) <= first:
        return None
    work = call.args[first]
    if isinstance(work, ast.Call) and last_part(dotted(work.func)) == "partial" and work.args:
        return ast.copy_location(ast.Call(work.args[0], work.args[1:], work.keywords), call)
    if not isinstance(work, (ast.Name, ast.Attribute)):
        return None
    return ast.copy_location(ast.Call(work, call.args[first + 1 :], call.keywords), call)


def _chain(node: ast.expr) -> tuple[list[str], str]:
    """The attribute names of a chain of calls, outermost last, and the name it starts from."""
    parts: list[str] = []
    while True:
        if isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        elif isinstance(node, ast.Call):
            node = node.func
        elif isinstance(node, (ast.Await, ast.Subscript)):
            node = node.value
        else:
            break
    root = node.id if isinstance(node, ast.Name) else ""
    owners = [part for part in reversed(parts) if part[:1].isupper()]
    return list(reversed(parts)), owners[-1] if owners else root


def _auto(effect: Effect) -> Effect:
    return Effect.AUTOCOMMIT if effect & Effect.WRITE else Effect.TOUCH
