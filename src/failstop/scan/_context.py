"""What the rules ask of one module: its attempts, endpoints, transactions and callers.

Lives here: facts shared by several rules, each worked out once. Never here: a finding's verdict.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath

from failstop.scan import _vocabulary as words
from failstop.scan._catching import Catch, catch_of_types, reaching
from failstop.scan._database import Databases, Touch, union
from failstop.scan._finding import Confidence, Finding
from failstop.scan._flow import Flow, Path
from failstop.scan._kinds import STRONG
from failstop.scan._model import (
    TRY,
    Block,
    Function,
    Module,
    TryNode,
    calls_in,
    dotted,
    last_part,
    own_expressions,
    statements_in,
    strings_in,
)
from failstop.scan._vocabulary import Effect

__all__ = ["Attempt", "Context"]

_IDLE = Effect.CLOSE | Effect.ROLLBACK
#: Context managers that commit when they are left well, by name, and by the kind that gives them.
_ATOMIC = ("django.db.transaction.atomic", "django.db.transaction.atomic.__call__")
_COMMITTING = (
    "psycopg.connect",
    "psycopg2.connect",
    "sqlite3.connect",
    "psycopg.AsyncConnection.connect",
)
_BEGINNINGS = ("begin", "transaction", "atomic", "start_transaction")
_HOLDERS = ("engine", "session", "connection", "factory", "database", "guarded", "pool")
_GUARDABLE = ("guarded", "engine", "session", "factory")
_GIVEN = (("pool", "connection"), ("guarded", "session"))
_VIEWS = ("View", "Resource", "Handler", "ViewSet", "MethodView", "Endpoint")


@dataclass(slots=True, eq=False)
class Attempt:
    """A block that touches a database, and the handler (or `suppress`) that takes its failure."""

    context: Context
    function: Function
    statement: TryNode | ast.With | ast.AsyncWith
    handler: ast.ExceptHandler | None
    catch: Catch
    touches: list[Touch]
    _paths: list[Path] | None = field(default=None)

    @property
    def body(self) -> Block:
        """The guarded block."""
        return self.statement.body

    @property
    def answer(self) -> Block:
        """The handler's block; empty for `suppress`."""
        return self.handler.body if self.handler else []

    @property
    def effect(self) -> Effect:
        """All that the block does to the database."""
        return union(self.touches)

    @property
    def strength(self) -> int:
        """How sure it is that the block touches a database: 3, 2 or 1."""
        return max((t.strength for t in self.touches if not t.effect & _IDLE), default=0)

    @property
    def source(self) -> Touch:
        """The touch that a reader would point at."""
        busy = [t for t in self.touches if not t.effect & _IDLE] or self.touches
        return max(busy, key=lambda touch: (touch.strength, -touch.node.lineno))

    @property
    def line(self) -> int:
        """Where a finding on this handler stands."""
        return self.handler.lineno if self.handler else self.statement.lineno

    @property
    def end_line(self) -> int:
        """The last line of the handler, or of the `with`'s head."""
        if self.handler:
            return self.handler.end_lineno or self.handler.lineno
        return self.statement.lineno

    @property
    def paths(self) -> list[Path]:
        """The ways from the handler to the ends of the function."""
        if self._paths is None:
            flow = Flow(self.function.module, self.function, self.context.databases)
            if isinstance(self.statement, TRY) and self.handler:
                self._paths = flow.from_handler(self.statement, self.handler)
            elif isinstance(self.statement, (ast.With, ast.AsyncWith)):
                self._paths = flow.from_suppress(self.statement)
            else:
                self._paths = []
        return self._paths

    @property
    def loop(self) -> ast.For | ast.AsyncFor | None:
        """The innermost `for` around the block."""
        for parent, place in self.context.module.ancestors(self.statement):
            if isinstance(parent, (ast.For, ast.AsyncFor)) and place.part == "body":
                return parent
        return None

    @property
    def in_item_loop(self) -> bool:
        """True inside a loop over items, where one failure is one item's."""
        return self.loop is not None and not self.is_repeated

    @property
    def is_repeated(self) -> bool:
        """True inside a loop over attempts of one and the same work."""
        loop = self.loop
        if loop is None:
            return False
        call = loop.iter
        counted = isinstance(call, ast.Call) and last_part(dotted(call.func)) in ("range", "count")
        names = {dotted(node) for each in self.body for node in ast.walk(each)}
        return counted and (
            dotted(loop.target) not in names or bool(words.ATTEMPT_NAME.search(dotted(loop.target)))
        )

    @property
    def is_cleanup(self) -> bool:
        """True for the closing of things at the end of their life."""
        effects = [t.effect for t in self.touches]
        if all(effect & _IDLE or effect == Effect.TOUCH for effect in effects):
            return all(not self._runs_statement(t) for t in self.touches)
        named = bool(words.SHUTDOWN.search(self.function.name)) and not self.function.is_module
        return named and not union(self.touches) & (Effect.WRITE | Effect.COMMIT | Effect.READ)

    @staticmethod
    def _runs_statement(touch: Touch) -> bool:
        name = getattr(touch.node.func, "attr", "")
        return touch.effect == Effect.TOUCH and name.startswith(("execute", "cursor", "prepare"))

    def flow_to(self, end: str) -> tuple[str, ...]:
        """The way of the data, for a finding."""
        source = self.source
        said = f"{show(source.node)} (line {source.node.lineno})"
        return said, f"{self.catch.text} (line {self.line})", end


class Context:
    """One module as the rules see it."""

    def __init__(self, module: Module, name: str) -> None:
        self.module = module
        self.name = name
        self.databases: Databases = Databases(module)
        self._commits: dict[int, list[Touch]] = {}
        self._managers: dict[int, bool] = {}

    @cached_property
    def is_test(self) -> bool:
        """True for test code, by its path below the scanned root."""
        path = PurePosixPath(self.name)
        stem = path.name
        if stem.startswith("test_") or stem.endswith("_test.py") or stem == "conftest.py":
            return True
        return any(part in ("tests", "test", "testing", "fixtures") for part in path.parts[:-1])

    @cached_property
    def uses_failstop(self) -> bool:
        """True where the module imports failstop."""
        return self.module.uses("failstop")

    @cached_property
    def attempts(self) -> list[Attempt]:
        """Every handler that a failure of a database can reach."""
        return [
            attempt
            for function in self.module.functions
            for attempt in (*self._handlers(function), *self._suppressions(function))
        ]

    def _handlers(self, function: Function) -> Iterator[Attempt]:
        for statement in function.tries:
            touches: list[Touch] | None = None
            for handler in statement.handlers:
                catch = reaching(statement, handler, self.module)
                if catch is None or (catch.reach == "network" and not self._is_network_driver):
                    continue
                if touches is None:
                    touches = list(self.databases.escaping(statement.body, function))
                left = self._unguarded(touches) if catch.is_after_critical else touches
                if left:
                    yield Attempt(self, function, statement, handler, catch, left)

    def _unguarded(self, touches: list[Touch]) -> list[Touch]:
        """The touches whose failures are no CriticalError.

        An engine may be guarded in another module, so what comes from one counts as guarded.
        """
        foreign = words.UNGUARDED_PACKAGES & self.module.packages
        if foreign and not any(touch.kind in _GUARDABLE for touch in touches):
            return touches
        return [
            touch
            for touch in touches
            if self.module.name_of(touch.node.func).partition(".")[0] in foreign
        ]

    @cached_property
    def _is_network_driver(self) -> bool:
        """Asynchronous drivers raise OSError and TimeoutError as they come."""
        return self.module.uses("asyncpg", "databases", "psycopg_pool", "aiomysql")

    def _suppressions(self, function: Function) -> Iterator[Attempt]:
        for statement in function.withs:
            for item in statement.items:
                call = item.context_expr
                if not isinstance(call, ast.Call) or last_part(dotted(call.func)) != "suppress":
                    continue
                catch = catch_of_types(call.args, self.module)
                touches = list(self.databases.escaping(statement.body, function))
                if touches and (catch.is_database or catch.reach == "critical"):
                    yield Attempt(self, function, statement, None, catch, touches)

    # Endpoints

    def route_of(self, function: Function) -> str | None:
        """The path that a function serves, empty where unknown, None for no endpoint."""
        for decorator in function.decorators:
            call = decorator if isinstance(decorator, ast.Call) else None
            target = call.func if call else decorator
            name = last_part(dotted(target)) or getattr(target, "attr", "")
            if isinstance(target, ast.Attribute) and name in words.ROUTE_METHODS:
                first = next(iter(call.args), None) if call else None
                is_text = isinstance(first, ast.Constant) and isinstance(first.value, str)
                return str(first.value) if is_text and isinstance(first, ast.Constant) else ""
            if name in words.VIEW_DECORATORS:
                return ""
        is_view = function.cls is not None and any(b.endswith(_VIEWS) for b in function.cls.bases)
        if is_view and function.name in words.VIEW_METHODS:
            return ""
        first_arg = next(iter(function.parameters()), None)
        if first_arg is not None and first_arg.arg == "request" and self.module.uses("django"):
            return ""
        return None

    def is_health(self, function: Function) -> bool:
        """True for a health, readiness or status answer."""
        if function.is_module:
            return False
        route = self.route_of(function)
        in_health_view = function.cls is not None and words.HEALTH_VIEW.search(function.cls.name)
        if in_health_view and function.name in ("get", "head"):
            return True
        if route:
            return bool(words.HEALTH_PATH.search(route)) or (
                bool(words.HEALTH_NAME.search(function.name)) and "{" not in route
            )
        if words.HEALTH_NAME.search(function.name):
            return True
        return route is not None and bool(words.STATUS_NAME.match(function.name))

    # Transactions

    def transaction_over(self, statement: ast.stmt) -> ast.With | ast.AsyncWith | None:
        """The innermost `with` over a statement that commits when it is left."""
        function = self.module.owner.get(id(statement))
        for parent, place in self.module.ancestors(statement):
            if place.part != "body" or not isinstance(parent, (ast.With, ast.AsyncWith)):
                continue
            if function and any(
                self.commits_at_exit(i.context_expr, function) for i in parent.items
            ):
                return parent
        return None

    def is_atomic(self, function: Function) -> bool:
        """True for a function whose decorator makes it one transaction."""
        for decorator in function.decorators:
            target = decorator.func if isinstance(decorator, ast.Call) else decorator
            name = self.module.name_of(target)
            if last_part(name) in ("atomic", "transactional", "commit_on_success", "db_session"):
                return True
        return False

    def commits_at_exit(self, node: ast.expr, function: Function) -> bool:
        """True for a context manager that commits when its block ends well."""
        if not isinstance(node, ast.Call):
            return self.module.name_of(node) in _ATOMIC or self._leaves_by_commit(node, function)
        name = self.module.name_of(node.func)
        if name in _ATOMIC or name in _COMMITTING:
            return not _is_autocommit(node)
        if isinstance(node.func, ast.Attribute):
            kind = self.databases.kind_of(node.func.value, function)
            if kind is not None and node.func.attr in _BEGINNINGS:
                return kind.name in _HOLDERS
            if kind is not None and (kind.name, node.func.attr) in _GIVEN:
                return kind.name == "guarded" or self.module.uses("psycopg_pool")
        callee = self.module.callee(node, function)
        if callee is not None:
            return self._manager_commits(callee)
        return bool(words.TRANSACTION_GIVERS.match(last_part(name)))

    def _leaves_by_commit(self, node: ast.expr, function: Function) -> bool:
        """True for a connection whose own `with` commits, as those of psycopg and sqlite3 do."""
        kind = self.databases.kind_of(node, function)
        commits = self.module.uses("psycopg", "psycopg2", "sqlite3")
        return kind is not None and kind.name == "connection" and commits

    def _manager_commits(self, function: Function) -> bool:
        """True for a local generator context manager that commits after its yield."""
        if id(function) not in self._managers:
            self._managers[id(function)] = False  # while it is looked at: managers call each other
            self._managers[id(function)] = self._commits_after_yield(function)
        return self._managers[id(function)]

    def _commits_after_yield(self, function: Function) -> bool:
        seen_yield = False
        for statement in statements_in(function.body):
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Yield):
                seen_yield = True
            if seen_yield and any(
                t.effect & Effect.COMMIT for t in self.databases.touches_of(statement, function)
            ):
                return True
            if (
                seen_yield is False
                and isinstance(statement, (ast.With, ast.AsyncWith))
                and any(
                    self.commits_at_exit(item.context_expr, function) for item in statement.items
                )
                and any(
                    isinstance(s, ast.Expr) and isinstance(s.value, ast.Yield)
                    for s in statements_in(statement.body)
                )
            ):
                return True
        return False

    def commits(self, block: Block, function: Function, depth: int = 4) -> list[Touch]:
        """The touches of a block that commit something, through functions of this module."""
        found: list[Touch] = []
        for statement in statements_in(block):
            for touch in self.databases.touches_of(statement, function):
                commits = touch.effect & (Effect.COMMIT | Effect.AUTOCOMMIT)
                if commits and touch.via is None:
                    found.append(touch)
            if isinstance(statement, (ast.With, ast.AsyncWith)):
                found.extend(self._exit_commit(statement, function))
            for call in self.databases.calls(statement):
                callee = self.module.callee(call, function) if depth else None
                if callee is not None:
                    inner = self._commits_of(callee, depth)
                    found.extend(Touch(call, t.effect, t.strength, t.kind, callee) for t in inner)
        return found

    def _commits_of(self, function: Function, depth: int) -> list[Touch]:
        known = self._commits.get(id(function))
        if known is None:
            self._commits[id(function)] = []
            known = self.commits(function.body, function, depth - 1)
            if not known and self.is_atomic(function):
                known = [
                    t
                    for t in self.databases.within(function.body, function)
                    if t.effect & Effect.WRITE
                ]
            self._commits[id(function)] = known
        return known

    def _exit_commit(
        self, statement: ast.With | ast.AsyncWith, function: Function
    ) -> Iterator[Touch]:
        for item in statement.items:
            call = item.context_expr
            if not self.commits_at_exit(call, function):
                continue
            inside = list(self.databases.within(statement.body, function))
            writes = [t for t in inside if t.effect & (Effect.WRITE | Effect.UPSERT)]
            if writes:
                strength = max(t.strength for t in writes)
                node = call if isinstance(call, ast.Call) else writes[0].node
                yield Touch(node, Effect.COMMIT | Effect.WRITE, strength, "transaction")

    def is_idempotent(self, block: Block, function: Function, depth: int = 3) -> bool:
        """True where the writes of a block carry a key that makes a repetition harmless."""
        for statement in statements_in(block):
            for expression in own_expressions(statement):
                if _has_key(expression):
                    return True
            for touch in self.databases.touches_of(statement, function):
                if touch.effect & Effect.UPSERT:
                    return True
            for call in self.databases.calls(statement) if depth else ():
                callee = self.module.callee(call, function)
                if (
                    callee
                    and callee is not function
                    and self.is_idempotent(callee.body, callee, depth - 1)
                ):
                    return True
        return False

    # Callers

    @cached_property
    def call_sites(self) -> dict[int, list[tuple[Function, ast.stmt, ast.Call]]]:
        """Where each function of this module is called in this module."""
        sites: dict[int, list[tuple[Function, ast.stmt, ast.Call]]] = {}
        names = {f.name for f in self.module.functions}
        for function in self.module.functions:
            for statement in function.statements():
                for call in self.databases.calls(statement):
                    if last_part(dotted(call.func)) not in names:
                        continue
                    callee = self.module.callee(call, function)
                    if callee is not None:
                        sites.setdefault(id(callee), []).append((function, statement, call))
        return sites

    def callers(self, function: Function) -> list[tuple[Function, ast.stmt, ast.Call]]:
        """The call sites of a function in this module."""
        return self.call_sites.get(id(function), [])

    # Findings

    def finding(
        self,
        rule: str,
        node: ast.AST,
        confidence: Confidence,
        message: str,
        *,
        flow: tuple[str, ...] = (),
        line: int | None = None,
        end_line: int | None = None,
    ) -> Finding:
        """A finding at a node of this module; in test code it is low."""
        if self.is_test:
            confidence = Confidence.LOW
        start = line or int(getattr(node, "lineno", 1))
        end = end_line or int(getattr(node, "end_lineno", None) or start)
        function = self.module.owner.get(id(node))
        return Finding(
            self.name,
            start,
            max(start, end),
            rule,
            confidence,
            message,
            flow,
            getattr(node, "col_offset", 0) + 1,
            function.qualname if function else "",
        )


def _is_autocommit(call: ast.Call) -> bool:
    return any(
        k.arg == "autocommit" and isinstance(k.value, ast.Constant) and k.value.value is True
        for k in call.keywords
    )


def _has_key(expression: ast.AST) -> bool:
    for call in calls_in(expression):
        for keyword in call.keywords:
            if keyword.arg and (words.IDEMPOTENT.search(keyword.arg) or keyword.arg == "key"):
                return True
        if words.IDEMPOTENT.search(last_part(dotted(call.func)) or getattr(call.func, "attr", "")):
            return True
    return any(words.IDEMPOTENT.search(text) for text in strings_in(expression))


def show(node: ast.AST) -> str:
    """A call as a reader would name it, without its arguments: they may hold secrets."""
    if isinstance(node, ast.Call):
        parts: list[str] = []
        func: ast.AST = node.func
        while True:
            if isinstance(func, ast.Attribute):
                parts.append(func.attr)
                func = func.value
            elif isinstance(func, ast.Call):
                func = func.func
            elif isinstance(func, (ast.Await, ast.Subscript)):
                func = func.value
            else:
                break
        head = func.id if isinstance(func, ast.Name) else "…"
        return ".".join([head, *reversed(parts)]) + "(…)"
    return dotted(node) or type(node).__name__.lower()


def confidence_of(strength: int, *, explicit: bool = False) -> Confidence:
    """High where the database is certain, medium where only a name says so."""
    if strength >= STRONG or (strength == STRONG - 1 and explicit):
        return Confidence.HIGH
    return Confidence.MEDIUM if strength >= STRONG - 1 else Confidence.LOW


def reports(path: Path) -> bool:
    """True for a way that ends in a failure the caller can see."""
    if path.end == "raise":
        return path.value.sort != "fact"
    return path.end == "return" and path.value.sort in ("failure", "reported", "refused", "error")
