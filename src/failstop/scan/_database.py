"""Which calls touch a database, and what they do to it.

Lives here: kinds of objects (session, connection, cursor, …) as imports, annotations, assignments
and names tell them, and the touches of statements and functions. Never here: handlers.
"""

# ruff: noqa: SIM905 - long lists of words read better as text

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from failstop.scan import _vocabulary as words
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
    strings_in,
)
from failstop.scan._vocabulary import Effect

__all__ = ["Databases", "Kind", "Touch", "union"]

STRONG, FAIR, WEAK = 3, 2, 1
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
    "print isinstance hasattr getattr setattr closing aclosing append add len str repr id type info "
    "debug warning error exception list set dict close next override partial bool callable "
    "iscoroutine gather put isawaitable super".split()
)
_FOREIGN = frozenset(
    {"http", "cache", "cloud", "memory", "other", "smtp", "flask_session", "messages"}
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What an object is, and how sure that is: 3 by import or type, 2 by name, 1 by a guess."""

    name: str
    strength: int


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


class Databases:
    """Answers for one module: the kind of an expression, the touches of a statement or function."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self._kinds: dict[tuple[int, str], Kind | None] = {}
        self._assigned: dict[int, dict[str, list[tuple[str, ast.expr]]]] = {}
        self._attributes: dict[int, dict[str, list[tuple[str, ast.expr, Function]]]] = {}
        self._own: dict[int, list[Touch]] = {}
        self._calls: dict[int, list[ast.Call]] = {}
        self._summaries: dict[int, list[Touch]] = {}
        self._gives: dict[int, Kind | None] = {}
        self._busy: set[tuple[str, int]] = set()
        self.is_database_module = bool(module.packages & words.DATABASE_PACKAGES)
        self.embedded = self._embedded()

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
        from failstop.scan._catching import swallows_all

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
                    if not sealed and handler is None:
                        stack.append(inner)
                    elif handler is not None:
                        stack.append(inner)

    # One call

    def direct(self, call: ast.Call, function: Function) -> Touch | None:
        """What this call itself does to a database, None where it does nothing."""
        func = call.func
        resolved = self.module.name_of(func)
        maker = words.CONSTRUCTORS.get(resolved)
        if maker in ("connection",):
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
        if kind is not None and kind.name in _FOREIGN:
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
        if kind.name == "factory" and method in ("begin",):
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
                return Touch(call, self._chain_effect(call), FAIR, "supabase")
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
        return self.effect_of_statement(call.args[0], function, 3)

    def effect_of_statement(self, node: ast.expr, function: Function, depth: int) -> Effect | None:
        """What a statement (text, f-string, SQLAlchemy construct or a name for one) does."""
        text = sql_text(node)
        if text is not None:
            return sql_effect(text)
        if isinstance(node, ast.Call):
            return self._construct_effect(node, function, depth)
        if isinstance(node, ast.Name) and depth:
            for how, value in self.assigned(function).get(node.id, ()):
                effect = (
                    self.effect_of_statement(value, function, depth - 1) if how == "=" else None
                )
                if effect is not None:
                    return effect
            if not function.is_module:
                return self.effect_of_statement(node, self.module.top, depth - 1)
        if isinstance(node, ast.BinOp):
            return self.effect_of_statement(node.left, function, depth)
        return None

    def _construct_effect(self, node: ast.Call, function: Function, depth: int) -> Effect | None:
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
            return self.effect_of_statement(node.args[0], function, depth - 1)
        found = {
            "select": Effect.READ,
            "insert": Effect.WRITE,
            "update": Effect.WRITE,
            "delete": Effect.WRITE,
            "pg_insert": Effect.WRITE,
        }.get(name)
        if found is None and name in ("format", "join", "dedent", "strip") and depth:
            inner = func.value if isinstance(func, ast.Attribute) else (node.args or [None])[0]
            return None if inner is None else self.effect_of_statement(inner, function, depth - 1)
        return found

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
        if manager and (root[:1].isupper() or chain[0] in ("objects",) or root in ("cls", "self")):
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

    # Kinds

    def kind_of(self, node: ast.expr, function: Function) -> Kind | None:
        """What an expression is, as far as can be told."""
        if isinstance(node, (ast.Await, ast.NamedExpr)):
            return self.kind_of(node.value, function)
        if isinstance(node, ast.Call):
            return self._kind_of_call(node, function)
        if isinstance(node, ast.BoolOp):
            return next(filter(None, (self.kind_of(v, function) for v in node.values)), None)
        if isinstance(node, ast.Subscript):
            inner = self.kind_of(node.value, function)
            is_documents = inner is not None and inner.name in ("database", "mongo")
            return Kind("mongo", inner.strength) if inner and is_documents else None
        name = dotted(node)
        if isinstance(node, ast.Attribute) and node.attr in ("query", "objects"):
            if last_part(dotted(node.value))[:1].isupper():
                return Kind("query", STRONG)
        return self._kind_of_name(name, function) if name else None

    def _kind_of_call(self, node: ast.Call, function: Function) -> Kind | None:
        func = node.func
        resolved = self.module.name_of(func)
        made = words.CONSTRUCTORS.get(resolved)
        if made:
            return Kind(made, STRONG)
        name = last_part(resolved) or getattr(func, "attr", "")
        if name in (
            "next",
            "anext",
            "closing",
            "aclosing",
            "Depends",
            "cast",
            "contextmanager",
            "getattr",
        ):
            return self._kind_of_argument(node, name, function)
        callee = self.module.callee(node, function)
        if callee is not None:
            return self.gives(callee) or self._by_giver(name)
        if isinstance(func, ast.Attribute):
            receiver = self.kind_of(func.value, function)
            if receiver is not None:
                derived = words.DERIVED.get((receiver.name, func.attr))
                if derived:
                    return Kind(derived, receiver.strength)
                if receiver.name == "query" and func.attr not in ("first", "get", "one", "count"):
                    return receiver
                if receiver.name in _FOREIGN:
                    return receiver
        receiver = self.kind_of(func, function)
        if receiver is not None and receiver.name == "factory":
            return Kind("session", receiver.strength)
        return self._by_giver(name)

    def _kind_of_argument(self, node: ast.Call, name: str, function: Function) -> Kind | None:
        if not node.args:
            return None
        if name == "getattr" and len(node.args) > 1:
            attribute = node.args[1]
            text = attribute.value if isinstance(attribute, ast.Constant) else ""
            return self._by_spelling(text) if isinstance(text, str) else None
        first = node.args[0]
        if isinstance(first, ast.Name) and name == "Depends":
            called = self.module.by_name.get(first.id)
            return (self.gives(called) if called else None) or self._by_giver(first.id)
        return self.kind_of(first, function)

    def _by_giver(self, name: str) -> Kind | None:
        giver = self._giver(name)
        if giver is None:
            return None
        origin = self.module.imports.get(name, "").rpartition(".")[0]
        at_home = bool(origin) and bool(words.DATABASE_MODULES.search(origin))
        return Kind(giver, STRONG if at_home else self._sureness(giver, name.lower()))

    @staticmethod
    def _giver(name: str) -> str | None:
        for pattern, kind in words.GIVERS:
            if pattern.match(name):
                return kind
        return None

    def gives(self, function: Function) -> Kind | None:
        """The kind of object a function returns or yields."""
        if id(function) in self._gives:
            return self._gives[id(function)]
        self._gives[id(function)] = None
        found: Kind | None = None
        for value in results_of(function):
            found = self.kind_of(value, function)
            if found is not None:
                break
        self._gives[id(function)] = found
        return found

    def _kind_of_name(self, name: str, function: Function) -> Kind | None:
        key = (id(function), name)
        if key in self._kinds:
            return self._kinds[key]
        self._kinds[key] = None
        found = self._look_up(name, function)
        self._kinds[key] = found
        return found

    def _look_up(self, name: str, function: Function) -> Kind | None:
        scope: Function | None = function
        while scope is not None:
            found = self._local(name, scope)
            if found is not None:
                return None if found.name == "unknown" else found
            scope = scope.outer
        if name.startswith("self."):
            found = self._attribute(name, function)
            if found is not None:
                return None if found.name == "unknown" else found
        return self._imported(name) or self._derived_name(name, function)

    def _local(self, name: str, function: Function) -> Kind | None:
        """The kind from this function's parameters and assignments; `unknown` hides names."""
        if "." in name:
            head = name.split(".")[0]
            if head == "self":
                return None
        for how, value in self.assigned(function).get(name, ()):
            found = self._from_binding(how, value, function, name)
            if found is not None:
                return found
        for parameter in function.parameters():
            if parameter.arg == name:
                return self._from_annotation(parameter) or self._default_kind(function, name)
        return None

    def _from_binding(
        self, how: str, value: ast.expr, function: Function, name: str
    ) -> Kind | None:
        if how == "in":
            return None
        kind = self.kind_of(value, function)
        if kind is not None:
            return kind
        if how == "=" and isinstance(value, (ast.Dict, ast.List, ast.Set, ast.ListComp)):
            return Kind("memory", STRONG)
        return None

    def _default_kind(self, function: Function, name: str) -> Kind | None:
        node = function.node
        if node is None:
            return None
        names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args)]
        defaults = dict(zip(reversed(names), reversed(node.args.defaults), strict=False))
        defaults |= {
            a.arg: d
            for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            if d is not None
        }
        value = defaults.get(name)
        return self.kind_of(value, function) if isinstance(value, ast.Call) else None

    def _from_annotation(self, parameter: ast.arg) -> Kind | None:
        node = parameter.annotation
        if node is None:
            return None
        return self.kind_of_annotation(node)

    def kind_of_annotation(self, node: ast.expr) -> Kind | None:
        """What a type annotation says: `Session`, `Optional[asyncpg.Pool]`, `"Session"`."""
        for part in ast.walk(node):
            text = ""
            if isinstance(part, (ast.Name, ast.Attribute)):
                text = dotted(part)
            elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                text = part.value.strip("\"' ").split("[")[0].split(" ")[0]
            resolved = self.module.resolve(text) if text else ""
            made = words.CONSTRUCTORS.get(resolved)
            if made:
                return Kind(made, STRONG)
            kind = words.ANNOTATIONS.get(last_part(text))
            if kind and not resolved.startswith(("requests", "boto3", "flask.", "multiprocessing")):
                return Kind(kind, STRONG)
        return None

    def _attribute(self, name: str, function: Function) -> Kind | None:
        scope: Function | None = function
        while scope is not None and scope.cls is None:
            scope = scope.outer
        if scope is None or scope.cls is None:
            return None
        table = self.attributes(scope)
        for how, value, where in table.get(name, ()):
            found = self._from_binding(how, value, where, name)
            if found is not None:
                return found
        return None

    def attributes(self, method: Function) -> dict[str, list[tuple[str, ast.expr, Function]]]:
        """What is bound to each `self.x` anywhere in the class."""
        cls = method.cls
        if cls is None:
            return {}
        table = self._attributes.get(id(cls))
        if table is None:
            table = {}
            self._attributes[id(cls)] = table
            for each in cls.methods.values():
                for name, bindings in self.assigned(each).items():
                    if name.startswith("self."):
                        table.setdefault(name, []).extend((h, v, each) for h, v in bindings)
        return table

    def _imported(self, name: str) -> Kind | None:
        head = name.partition(".")[0]
        if head not in self.module.imports:
            return None
        target = self.module.resolve(name)
        if target in ("flask.session", "flask.g", "flask.request", "flask.cache"):
            return Kind("flask_session", STRONG) if target != "flask.g" else None
        made = words.CONSTRUCTORS.get(target)
        if made:
            return Kind("other", STRONG) if made not in _FOREIGN else None
        if target.startswith(
            (
                "requests.",
                "aiohttp.",
                "boto3.",
                "logging.",
                "concurrent.",
                "multiprocessing.",
                "socket.",
            )
        ):
            return Kind("other", STRONG)
        if target == "django.db.connection" or target.startswith("django.db.connection."):
            return Kind("connection", STRONG) if target == "django.db.connection" else None
        if target in ("django.db.transaction",):
            return None
        if name == head and target.partition(".")[0] == target and target in self.module.packages:
            return Kind("unknown", WEAK)
        return None

    def _derived_name(self, name: str, function: Function) -> Kind | None:
        """From the spelling: `db.session` is a session, `self._conn` a connection."""
        parent, _, last = name.rpartition(".")
        if parent:
            kind = self._kind_of_name(parent, function)
            if kind is not None and kind.name in _FOREIGN:
                return kind
            if kind is not None:
                derived = words.DERIVED.get((kind.name, last))
                if derived:
                    return Kind(derived, STRONG)
                if kind.name == "repository":
                    return Kind("repository", kind.strength)
            if name.endswith("db.session"):
                return Kind("session", STRONG)
            if parent.split(".")[0] == "request" and last == "session":
                return Kind("flask_session", FAIR)
        if last[:1].isupper() and last.isidentifier() and not last.isupper():
            giver = self._by_giver(last)
            is_session = giver is not None and giver.name == "session"
            return Kind("factory", giver.strength) if giver and is_session else None
        return self._by_spelling(last, name)

    def _by_spelling(self, last: str, full: str = "") -> Kind | None:
        bare = last.strip("_").lower()
        for pattern, kind in words.NAMES:
            if pattern.match(bare):
                return self._spelled(kind, bare, full or last)
        return None

    def _spelled(self, kind: str, bare: str, full: str) -> Kind | None:
        """A kind by name, unless the module's imports make the name mean something else."""
        module = self.module
        if (
            kind == "session"
            and not self.is_database_module
            and module.uses(
                "requests", "aiohttp", "httpx", "boto3", "curl_cffi", "tensorflow", "onnxruntime"
            )
        ):
            return None
        if kind == "pool" and not self.is_database_module:
            return None
        if kind == "pool" and module.uses("multiprocessing", "concurrent") and bare == "pool":
            return Kind(kind, WEAK) if module.uses("asyncpg", "psycopg_pool") else None
        if kind == "engine" and not self.is_database_module:
            return None
        if kind == "engine" and bare != "engine" and not re_db(bare):
            return None
        if (
            kind == "connection"
            and not self.is_database_module
            and module.uses(
                "socket",
                "pika",
                "websockets",
                "paramiko",
                "serial",
                "ssl",
                "http",
                "multiprocessing",
                "websocket",
                "imaplib",
                "ftplib",
                "ldap3",
                "kombu",
                "aio_pika",
                "boto3",
                "redis",
                "pydbus",
            )
        ):
            return None
        if kind == "repository" and module.uses("git", "github", "huggingface_hub", "pygit2"):
            return None
        return Kind(kind, self._sureness(kind, bare))

    def _sureness(self, kind: str, bare: str) -> int:
        """A name is proof enough where the module imports what such a name is of."""
        module = self.module
        if kind == "session":
            speaks = module.uses("sqlalchemy", "sqlmodel", "flask_sqlalchemy")
            other = module.uses("requests", "aiohttp", "httpx", "curl_cffi", "boto3")
            return STRONG if speaks and (not other or "db" in bare) else FAIR
        if kind in ("connection", "cursor", "engine", "pool"):
            speaks = bool(module.packages & (words.DATABASE_PACKAGES - words.ACTIVE_RECORDS))
            return STRONG if speaks else FAIR
        return FAIR

    # Assignments

    def assigned(self, function: Function) -> dict[str, list[tuple[str, ast.expr]]]:
        """What is bound to each dotted name in a function: (`=`, `with`, `in` or `:`), value."""
        table = self._assigned.get(id(function))
        if table is None:
            table = {}
            self._assigned[id(function)] = table
            for node in function.assigns:
                _bind_assignment(table, node)
            for block in function.withs:
                for item in block.items:
                    if item.optional_vars is not None:
                        _bind(table, item.optional_vars, "with", item.context_expr)
            for loop in function.loops:
                if not isinstance(loop, ast.While):
                    _bind(table, loop.target, "in", loop.iter)
        return table


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


def _bind_assignment(
    table: dict[str, list[tuple[str, ast.expr]]],
    node: ast.Assign | ast.AnnAssign | ast.AugAssign,
) -> None:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            _bind(table, target, "=", node.value)
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        _bind(table, node.target, "=", node.value)


def _bind(
    table: dict[str, list[tuple[str, ast.expr]]], target: ast.expr, how: str, value: ast.expr
) -> None:
    if isinstance(target, (ast.Tuple, ast.List)):
        values = value.elts if isinstance(value, (ast.Tuple, ast.List)) else []
        if len(values) == len(target.elts):
            for inner, bound in zip(target.elts, values, strict=True):
                _bind(table, inner, how, bound)
        return
    name = dotted(target)
    if name:
        table.setdefault(name, []).append((how, value))


def statements_in(block: Block) -> Iterator[ast.stmt]:
    """Every statement of a block and of the blocks in it, source order."""
    stack: list[ast.stmt] = list(reversed(block))
    while stack:
        statement = stack.pop()
        yield statement
        inner = [child for _, below, _ in child_blocks(statement) for child in below]
        stack.extend(reversed(inner))


def results_of(function: Function) -> Iterator[ast.expr]:
    """The expressions that a function returns or yields."""
    for node in function.returns:
        if node.value is not None:
            yield node.value
    for other in function.others:
        if isinstance(other, ast.Expr) and isinstance(other.value, (ast.Yield, ast.YieldFrom)):
            value = other.value.value
            if value is not None:
                yield value


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


def re_db(name: str) -> bool:
    """True where an engine's name says that it is a database's."""
    return any(token in name for token in ("db", "sql", "pg", "postgres", "async_engine", "sync"))


def verb_effect(method: str) -> Effect | None:
    """What the verb in a wrapper's method name says it does."""
    bare = method.lstrip("_")
    if words.SCHEMA_VERBS.match(bare):
        return Effect.SCHEMA | Effect.WRITE
    if bare in ("connect", "reconnect", "open", "ensure_connection", "acquire", "connect_db"):
        return Effect.CONNECT
    if bare in ("commit",):
        return Effect.COMMIT
    if bare in ("rollback",):
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


def mentions(node: ast.AST, *fragments: str) -> bool:
    """True where a string constant below holds one of these fragments."""
    return any(f in text.lower() for text in strings_in(node) for f in fragments)
