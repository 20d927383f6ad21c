"""The model of one module: names, functions, statements and where each stands.

Lives here: what the syntax says. Never here: an opinion on what a call or a handler means.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = [
    "TRY",
    "Block",
    "Class",
    "Function",
    "Module",
    "Place",
    "TryNode",
    "calls_in",
    "child_blocks",
    "dotted",
    "last_part",
    "own_expressions",
    "statements_in",
    "strings_in",
    "walk_expression",
]

Block: TypeAlias = list[ast.stmt]
FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
TryNode: TypeAlias = ast.Try | ast.TryStar
#: `try` in both its forms: `except` and `except*`.
TRY = (ast.Try, ast.TryStar)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_OPAQUE = (ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_LEAVES = (ast.Constant, ast.Name, ast.expr_context, ast.operator, ast.cmpop, ast.unaryop)


@dataclass(slots=True)
class Place:
    """Where a statement stands: its parent, the block that holds it and its index there."""

    parent: ast.AST | None
    part: str
    block: Block
    index: int
    handler: ast.ExceptHandler | None = None


@dataclass(slots=True, eq=False)
class Class:
    """A class: its methods by name and the names of its bases."""

    name: str
    node: ast.ClassDef
    bases: list[str]
    methods: dict[str, Function] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Function:
    """A function, method or the module's own top level, with its statements by sort."""

    module: Module
    name: str
    qualname: str
    node: FunctionNode | None
    body: Block
    cls: Class | None = None
    outer: Function | None = None
    tries: list[TryNode] = field(default_factory=list)
    withs: list[ast.With | ast.AsyncWith] = field(default_factory=list)
    loops: list[ast.For | ast.AsyncFor | ast.While] = field(default_factory=list)
    ifs: list[ast.If] = field(default_factory=list)
    returns: list[ast.Return] = field(default_factory=list)
    assigns: list[ast.Assign | ast.AnnAssign | ast.AugAssign] = field(default_factory=list)
    others: Block = field(default_factory=list)
    nested: list[Function] = field(default_factory=list)

    @property
    def is_module(self) -> bool:
        """True for the top level of the module."""
        return self.node is None

    @property
    def is_async(self) -> bool:
        """True for `async def`."""
        return isinstance(self.node, ast.AsyncFunctionDef)

    @property
    def decorators(self) -> list[ast.expr]:
        """The decorators, outermost first."""
        return self.node.decorator_list if self.node else []

    def parameters(self) -> list[ast.arg]:
        """All parameters that have a name."""
        if self.node is None:
            return []
        every = self.node.args
        extra = [arg for arg in (every.vararg, every.kwarg) if arg]
        return [*every.posonlyargs, *every.args, *every.kwonlyargs, *extra]

    def statements(self) -> Iterator[ast.stmt]:
        """Every statement of this function itself, in no promised order."""
        for group in (self.tries, self.withs, self.loops, self.ifs, self.returns, self.assigns):
            yield from group
        yield from self.others


@dataclass(slots=True, eq=False)
class Module:
    """One parsed file."""

    path: str
    source: str
    tree: ast.Module
    imports: dict[str, str] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)
    functions: list[Function] = field(default_factory=list)
    classes: dict[str, Class] = field(default_factory=dict)
    top: Function = field(init=False)
    by_name: dict[str, Function] = field(default_factory=dict)
    methods_by_name: dict[str, list[Function]] = field(default_factory=dict)
    places: dict[int, Place] = field(default_factory=dict)
    owner: dict[int, Function] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.top = Function(self, "<module>", "", None, self.tree.body)
        self.functions.append(self.top)
        _Indexer(self).run()

    def resolve(self, name: str) -> str:
        """A dotted name with its first part replaced by what the import says it is."""
        head, dot, rest = name.partition(".")
        target = self.imports.get(head)
        return name if target is None else target + dot + rest

    def name_of(self, node: ast.AST) -> str:
        """The resolved dotted name of an expression, or the empty string."""
        text = dotted(node)
        return self.resolve(text) if text else ""

    def uses(self, *packages: str) -> bool:
        """True where one of these top-level packages is imported."""
        return any(package in self.packages for package in packages)

    def callee(self, call: ast.Call, inside: Function) -> Function | None:
        """The function of this module that a call runs, as far as names tell."""
        func = call.func
        if isinstance(func, ast.Name):
            return self._plain_callee(func.id, inside)
        if isinstance(func, ast.Attribute):
            return self._method_callee(func, inside)
        return None

    def _plain_callee(self, name: str, inside: Function) -> Function | None:
        scope: Function | None = inside
        while scope is not None:
            for nested in scope.nested:
                if nested.name == name:
                    return nested
            scope = scope.outer
        return self.by_name.get(name)

    def _method_callee(self, func: ast.Attribute, inside: Function) -> Function | None:
        receiver = func.value
        if isinstance(receiver, ast.Name) and receiver.id in ("self", "cls"):
            return self._own_method(func.attr, inside)
        if isinstance(receiver, ast.Call) and dotted(receiver.func) == "super":
            return self._own_method(func.attr, inside, above=True)
        known = isinstance(receiver, ast.Name) and self.classes.get(receiver.id)
        if known:
            return known.methods.get(func.attr)
        found = self.methods_by_name.get(func.attr, ())
        distinctive = "_" in func.attr.strip("_") and len(func.attr) > 7
        return found[0] if len(found) == 1 and distinctive else None

    def _own_method(self, name: str, inside: Function, above: bool = False) -> Function | None:
        scope: Function | None = inside
        while scope is not None and scope.cls is None:
            scope = scope.outer
        if scope is None or scope.cls is None:
            return None
        if not above:
            return self._method_of(scope.cls, name, 4)
        parents = [self.classes[base] for base in scope.cls.bases if base in self.classes]
        found = [method for each in parents if (method := self._method_of(each, name, 3))]
        return found[0] if found else None

    def _method_of(self, cls: Class, name: str, depth: int) -> Function | None:
        if name in cls.methods:
            return cls.methods[name]
        for base in cls.bases if depth else ():
            parent = self.classes.get(base)
            found = self._method_of(parent, name, depth - 1) if parent else None
            if found:
                return found
        return None

    def place(self, statement: ast.stmt) -> Place | None:
        """Where a statement stands, None for what was made up."""
        return self.places.get(id(statement))

    def ancestors(self, statement: ast.stmt) -> Iterator[tuple[ast.AST, Place]]:
        """The enclosing statements within the same function, innermost first."""
        place = self.places.get(id(statement))
        while place is not None and place.parent is not None:
            yield place.parent, place
            place = self.places.get(id(place.parent))


class _Indexer:
    """One walk over all statements, without recursion: deep nesting is no danger."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.stack: list[tuple[Function, Class | None, ast.AST | None, str, Block, object]] = []

    def run(self) -> None:
        module = self.module
        self.stack.append((module.top, None, None, "body", module.tree.body, None))
        while self.stack:
            self._block(*self.stack.pop())

    def _block(
        self,
        function: Function,
        cls: Class | None,
        parent: ast.AST | None,
        part: str,
        block: Block,
        handler: object,
    ) -> None:
        places, owner = self.module.places, self.module.owner
        in_handler = handler if isinstance(handler, ast.ExceptHandler) else None
        for index, statement in enumerate(block):
            places[id(statement)] = Place(parent, part, block, index, in_handler)
            owner[id(statement)] = function
            self._statement(function, cls, statement)

    def _statement(self, function: Function, cls: Class | None, node: ast.stmt) -> None:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            self._import(node)
        elif isinstance(node, ast.ClassDef):
            self._class(function, node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self._function(function, cls, node)
        else:
            self._sort(function, node)
            for part, block, handler in child_blocks(node):
                if handler is not None:
                    self.module.owner[id(handler)] = function
                self.stack.append((function, cls, node, part, block, handler))

    @staticmethod
    def _sort(function: Function, node: ast.stmt) -> None:
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            function.assigns.append(node)
        elif isinstance(node, ast.If):
            function.ifs.append(node)
        elif isinstance(node, ast.Return):
            function.returns.append(node)
        elif isinstance(node, TRY):
            function.tries.append(node)
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            function.withs.append(node)
        elif isinstance(node, (ast.For, ast.AsyncFor, ast.While)):
            function.loops.append(node)
        else:
            function.others.append(node)

    def _class(self, function: Function, node: ast.ClassDef) -> None:
        cls = Class(node.name, node, [last_part(dotted(base)) for base in node.bases])
        self.module.classes.setdefault(node.name, cls)
        self.stack.append((function, cls, None, "body", node.body, None))

    def _function(self, outer: Function, cls: Class | None, node: FunctionNode) -> None:
        prefix = f"{cls.name}." if cls else (f"{outer.qualname}." if outer.qualname else "")
        function = Function(self.module, node.name, prefix + node.name, node, node.body, cls, outer)
        self.module.functions.append(function)
        if cls is not None:
            cls.methods.setdefault(node.name, function)
            self.module.methods_by_name.setdefault(node.name, []).append(function)
        elif outer.is_module:
            self.module.by_name[node.name] = function
        else:
            outer.nested.append(function)
        self.stack.append((function, None, None, "body", node.body, None))

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        module = self.module
        if isinstance(node, ast.Import):
            for alias in node.names:
                module.packages.add(alias.name.partition(".")[0])
                if alias.asname:
                    module.imports[alias.asname] = alias.name
                else:
                    head = alias.name.partition(".")[0]
                    module.imports[head] = head
            return
        origin = "." * node.level + (node.module or "")
        if not node.level:
            module.packages.add(origin.partition(".")[0])
        for alias in node.names:
            glue = "" if origin.endswith(".") else "."
            module.imports[alias.asname or alias.name] = f"{origin}{glue}{alias.name}"


def child_blocks(node: ast.AST) -> Iterator[tuple[str, Block, ast.ExceptHandler | None]]:
    """The blocks of statements in a statement: part, block and the handler it is, if one."""
    if isinstance(node, (ast.Try, ast.TryStar)):
        yield "body", node.body, None
        for handler in node.handlers:
            yield "handler", handler.body, handler
        yield "orelse", node.orelse, None
        yield "finalbody", node.finalbody, None
    elif isinstance(node, (ast.If, ast.For, ast.AsyncFor, ast.While)):
        yield "body", node.body, None
        if node.orelse:
            yield "orelse", node.orelse, None
    elif isinstance(node, (ast.With, ast.AsyncWith)):
        yield "body", node.body, None
    elif isinstance(node, ast.Match):
        for case in node.cases:
            yield "case", case.body, None


def statements_in(block: Block) -> Iterator[ast.stmt]:
    """Every statement of a block and of the blocks in it, source order."""
    stack: list[ast.stmt] = list(reversed(block))
    while stack:
        statement = stack.pop()
        yield statement
        inner = [child for _, below, _ in child_blocks(statement) for child in below]
        stack.extend(reversed(inner))


def own_expressions(node: ast.stmt) -> Iterator[ast.AST]:
    """The expressions of a statement itself, not of the statements in it."""
    if isinstance(node, (*_SCOPES, *TRY)):
        return
    if isinstance(node, (ast.If, ast.While)):
        yield node.test
    elif isinstance(node, (ast.For, ast.AsyncFor)):
        yield node.iter
    elif isinstance(node, (ast.With, ast.AsyncWith)):
        for item in node.items:
            yield item.context_expr
    elif isinstance(node, ast.Match):
        yield node.subject
    else:
        yield node


def walk_expression(root: ast.AST) -> Iterator[ast.AST]:
    """Every node below, source order, without entering lambdas or definitions."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, _LEAVES) or (isinstance(node, _OPAQUE) and node is not root):
            continue
        below: list[ast.AST] = []
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, list):
                below.extend(item for item in value if isinstance(item, ast.AST))
            elif isinstance(value, ast.AST):
                below.append(value)
        stack.extend(reversed(below))


def calls_in(root: ast.AST) -> Iterator[ast.Call]:
    """The calls below, source order, without entering lambdas or definitions."""
    for node in walk_expression(root):
        if isinstance(node, ast.Call):
            yield node


def strings_in(root: ast.AST) -> Iterator[str]:
    """The string constants below, f-string parts included."""
    for node in walk_expression(root):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def dotted(node: ast.AST | None) -> str:
    """`a.b.c` for names and attributes, seen through calls of no name; else the empty string."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    parts.append(node.id)
    return ".".join(reversed(parts))


def last_part(name: str) -> str:
    """The part after the last dot."""
    return name.rpartition(".")[2]
