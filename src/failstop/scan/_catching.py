"""What a handler catches, and what an earlier one left for it.

Lives here: the reading of `except` clauses and of `suppress`. Never here: what the handler does.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace

from failstop.scan import _vocabulary as words
from failstop.scan._model import Module, TryNode, child_blocks, dotted, last_part

__all__ = ["Catch", "catch_of", "catch_of_types", "swallows_all"]


@dataclass(frozen=True, slots=True)
class Catch:
    """The errors a clause takes.

    `reach`: broad, database, network, business, critical or other. `is_after_critical` is true
    where an earlier clause took the failures that a guard tells.
    """

    reach: str
    names: tuple[str, ...]
    is_after_critical: bool = False

    @property
    def is_database(self) -> bool:
        """True where a failure of the database itself is caught."""
        return self.reach in ("broad", "database")

    @property
    def is_critical(self) -> bool:
        """True where failstop's CriticalError is caught."""
        return self.reach in ("broad", "critical") and not self.is_after_critical

    @property
    def text(self) -> str:
        """The clause as a reader would say it."""
        return f"except {', '.join(self.names)}" if self.names else "bare except"


def catch_of(handler: ast.ExceptHandler, module: Module) -> Catch:
    """What one handler catches, by its own clause alone."""
    if handler.type is None:
        return Catch("broad", ())
    return catch_of_types(_types(handler.type, module, 3), module)


def catch_of_types(types: list[ast.expr], module: Module) -> Catch:
    """What a list of exception classes catches together."""
    names = tuple(dotted(node) or "…" for node in types)
    reaches = {_reach(module.resolve(name), module, 3) for name in names}
    for reach in ("broad", "database", "critical", "network", "business"):
        if reach in reaches:
            return Catch(reach, names)
    return Catch("other", names)


def _types(node: ast.expr, module: Module, depth: int) -> list[ast.expr]:
    """The classes in a clause; a module-level tuple is looked up."""
    if isinstance(node, (ast.Tuple, ast.List)):
        return [inner for each in node.elts for inner in _types(each, module, depth)]
    if isinstance(node, ast.Starred):
        return _types(node.value, module, depth)
    if isinstance(node, ast.BinOp):
        return _types(node.left, module, depth) + _types(node.right, module, depth)
    if isinstance(node, ast.Name) and depth:
        for assign in module.top.assigns:
            targets = assign.targets if isinstance(assign, ast.Assign) else [assign.target]
            if any(isinstance(t, ast.Name) and t.id == node.id for t in targets):
                value = assign.value
                if isinstance(value, (ast.Tuple, ast.BinOp)):
                    return _types(value, module, depth - 1)
    return [node]


def _reach(name: str, module: Module, depth: int) -> str:
    last = last_part(name)
    if last in words.BROAD_ERRORS:
        return "broad"
    if last in words.CRITICAL_ERRORS and module.uses("failstop"):
        return "critical"
    if last in words.BUSINESS_ERRORS:
        return "business"
    if last in ("Error", "Warning", "timeout"):
        return _by_package(name)
    if last in words.DATABASE_ERRORS:
        return "database"
    if last in words.NETWORK_ERRORS:
        return "network"
    local = module.classes.get(last)
    if local is not None and depth:
        for base in local.bases:
            reach = _reach(base, module, depth - 1)
            if reach in ("database", "critical"):
                return reach
    if words.DATABASE_ERROR_NAME.search(last):
        return "database"
    return "other"


def _by_package(name: str) -> str:
    """`psycopg2.Error` is a database's, `binascii.Error` is not."""
    head = name.partition(".")[0]
    if head in words.DATABASE_PACKAGES:
        return "database"
    owner = name.rpartition(".")[0].lower()
    is_driver = any(t in owner for t in ("sql", "psycopg", "mysql", "db", "postgres", "pg"))
    if is_driver:
        return "database"
    return "network" if name.startswith("socket") else "other"


def covers_database(catch: Catch, module: Module) -> bool:
    """True where after this clause no failure of the database is left for a later one."""
    if catch.reach == "broad":
        return True
    return catch.reach == "database" and bool(_lasts(catch, module) & words.ALL_DATABASE_ERRORS)


def covers_critical(catch: Catch, module: Module) -> bool:
    """True where after this clause no failure of a guarded database is left for a later one."""
    is_named = bool(_lasts(catch, module) & words.ALL_CRITICAL_ERRORS)
    return is_named and module.uses("failstop")


def _lasts(catch: Catch, module: Module) -> set[str]:
    return {last_part(module.resolve(name)) for name in catch.names}


def reaching(statement: TryNode, handler: ast.ExceptHandler, module: Module) -> Catch | None:
    """What the earlier handlers leave for this one; None where it is nothing of a database."""
    catch = catch_of(handler, module)
    for earlier in statement.handlers[: statement.handlers.index(handler)]:
        taken = catch_of(earlier, module)
        if covers_database(taken, module):
            return None
        if covers_critical(taken, module):
            catch = replace(catch, is_after_critical=True)
    if catch.reach == "critical":
        return None if catch.is_after_critical else catch
    return catch if catch.reach in ("broad", "database", "network") else None


def swallows_all(statement: TryNode, module: Module) -> bool:
    """True where no failure of the database leaves this try: some handler takes it and keeps it."""
    for handler in statement.handlers:
        catch = catch_of(handler, module)
        if catch.is_database and covers_database(catch, module):
            return not may_raise(handler.body)
        if catch.is_database and may_raise(handler.body):
            return False
    return False


def may_raise(block: list[ast.stmt]) -> bool:
    """True where a handler's block has a raise anywhere in it."""
    stack = list(block)
    while stack:
        statement = stack.pop()
        if isinstance(statement, ast.Raise):
            return True
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            name = last_part(dotted(statement.value.func))
            if name in ("abort", "exit", "_exit"):
                return True
        stack.extend(inner for _, below, _ in child_blocks(statement) for inner in below)
    return False
