"""What an object is (session, connection, cursor, …) as imports, annotations and names tell.

Lives here: kinds of expressions. Never here: what a call does to a database.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from failstop.scan import _vocabulary as words
from failstop.scan._model import Function, Module, dotted, last_part

__all__ = ["FAIR", "FOREIGN", "STRONG", "WEAK", "Kind", "Kinds"]

STRONG, FAIR, WEAK = 3, 2, 1
_CODE_HOSTS = ("git", "github", "huggingface_hub", "pygit2")
#: Packages whose sessions and connections are no database's.
_ELSEWHERE: dict[str, tuple[str, ...]] = {
    "session": ("requests", "aiohttp", "httpx", "boto3", "curl_cffi", "tensorflow", "onnxruntime"),
    "connection": (
        *("socket", "ssl", "http", "multiprocessing", "imaplib", "ftplib", "ldap3", "paramiko"),
        *("websocket", "websockets", "serial", "pika", "aio_pika", "kombu", "boto3", "redis"),
        "pydbus",
    ),
}
FOREIGN = frozenset(
    {"http", "cache", "cloud", "memory", "other", "smtp", "flask_session", "messages"}
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What an object is, and how sure that is: 3 by import or type, 2 by name, 1 by a guess."""

    name: str
    strength: int


class Kinds:
    """The kinds of one module's expressions."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self._kinds: dict[tuple[int, str], Kind | None] = {}
        self._assigned: dict[int, dict[str, list[tuple[str, ast.expr]]]] = {}
        self._attributes: dict[int, dict[str, list[tuple[str, ast.expr, Function]]]] = {}
        self._gives: dict[int, Kind | None] = {}
        self.is_database_module: bool = bool(module.packages & words.DATABASE_PACKAGES)

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
        manager = isinstance(node, ast.Attribute) and node.attr in ("query", "objects")
        if manager and last_part(name.rpartition(".")[0])[:1].isupper():
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
                if receiver.name in FOREIGN:
                    return receiver
        receiver = self.kind_of(func, function)
        if receiver is not None and receiver.name == "factory":
            return Kind("session", receiver.strength)
        return self._by_giver(name) or self._built_on(node, name, function)

    def _built_on(self, node: ast.Call, name: str, function: Function) -> Kind | None:
        """`OrderService(session)`: what is built on a session or pool speaks to its database."""
        if not words.LAYERS.search(name):
            return None
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        for each in given:
            kind = (
                self.kind_of(each, function)
                if isinstance(each, (ast.Name, ast.Attribute))
                else None
            )
            if kind is not None and kind.name in ("session", "connection", "pool", "database"):
                return Kind("repository", FAIR)
        return None

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
        for value in _results_of(function):
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
            return Kind("other", STRONG) if made not in FOREIGN else None
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
        if target == "django.db.transaction":
            return None
        if name == head and target.partition(".")[0] == target and target in self.module.packages:
            return Kind("unknown", WEAK)
        return None

    def _derived_name(self, name: str, function: Function) -> Kind | None:
        """From the spelling: `db.session` is a session, `self._conn` a connection."""
        parent, _, last = name.rpartition(".")
        if parent:
            kind = self._kind_of_name(parent, function)
            if kind is not None and kind.name in FOREIGN:
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
        module, at_home = self.module, self.is_database_module
        if kind in ("pool", "engine") and not at_home:
            return None
        if kind in _ELSEWHERE and not at_home and module.uses(*_ELSEWHERE[kind]):
            return None
        if kind == "pool" and module.uses("multiprocessing", "concurrent") and bare == "pool":
            return Kind(kind, WEAK) if module.uses("asyncpg", "psycopg_pool") else None
        if kind == "engine" and bare != "engine" and not _is_database_engine(bare):
            return None
        if kind == "repository" and module.uses(*_CODE_HOSTS):
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


def _results_of(function: Function) -> Iterator[ast.expr]:
    """The expressions that a function returns or yields."""
    for node in function.returns:
        if node.value is not None:
            yield node.value
    for other in function.others:
        if isinstance(other, ast.Expr) and isinstance(other.value, (ast.Yield, ast.YieldFrom)):
            value = other.value.value
            if value is not None:
                yield value


def _is_database_engine(name: str) -> bool:
    """True where an engine's name says that it is a database's."""
    return any(token in name for token in ("db", "sql", "pg", "postgres", "async_engine", "sync"))
