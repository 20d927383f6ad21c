"""Where control goes once a handler has run, and with which value: an abstract interpreter.

Lives here: paths from a statement to the ends of its function. Never here: what is dangerous.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from failstop.scan._database import Databases
from failstop.scan._model import (
    TRY,
    Block,
    Function,
    Module,
    TryNode,
    dotted,
    last_part,
    statements_in,
)
from failstop.scan._values import UNKNOWN, Reader, Value, status_of

__all__ = ["Flow", "Path"]

_LIMIT = 24
_STEPS = 400
Env = dict[str, Value]


@dataclass(slots=True)
class Path:
    """One way through: how it ended (return, raise, fall, break, continue, loop) and what ran."""

    end: str
    value: Value
    node: ast.stmt | None
    env: Env
    trail: list[ast.stmt] = field(default_factory=list)


class Flow:
    """Runs blocks of one function abstractly."""

    def __init__(self, module: Module, function: Function, databases: Databases) -> None:
        self.module = module
        self.function = function
        self.databases = databases
        self.reader = Reader(module, function)
        self.steps = 0

    def from_handler(self, statement: TryNode, handler: ast.ExceptHandler) -> list[Path]:
        """The ways from the first statement of a handler to the ends of the function."""
        if handler.name:
            self.reader.error_names.add(handler.name)
        env = self.before(statement)
        return self.close(self.run(handler.body, env), statement)

    def from_suppress(self, statement: ast.With | ast.AsyncWith) -> list[Path]:
        """The ways on from a `with suppress(...)` whose body failed."""
        return self.after(statement, self.before(statement))

    def before(self, statement: ast.stmt) -> Env:
        """What variables hold when the statement's body fails at its first call."""
        env: Env = {}
        for node in sorted(self.function.assigns, key=lambda each: each.lineno):
            if node.lineno >= statement.lineno:
                break
            self._assign(node, env)
        return env

    def close(self, paths: list[Path], statement: ast.stmt) -> list[Path]:
        """Lead the paths that fall off a block on through what follows it."""
        closed: list[Path] = []
        for path in paths:
            if path.end == "fall":
                closed.extend(self._joined(path, self.after(statement, path.env)))
            elif path.end in ("break", "continue"):
                closed.extend(self._joined(path, self._leave_loop(statement, path)))
            else:
                closed.append(self._through_finally(statement, path))
        return closed[:_LIMIT]

    def _through_finally(self, statement: ast.stmt, path: Path) -> Path:
        """A `return` in a finally block replaces whatever was on its way."""
        final = statement.finalbody if isinstance(statement, TRY) else []
        for node in final:
            if isinstance(node, ast.Return):
                value = self.reader.read(node.value, path.env)
                return Path("return", value, node, path.env, path.trail)
        return path

    @staticmethod
    def _joined(path: Path, tails: list[Path]) -> list[Path]:
        return [Path(t.end, t.value, t.node, t.env, path.trail + t.trail) for t in tails]

    def after(self, statement: ast.stmt, env: Env) -> list[Path]:
        """The ways from just behind a statement to the ends of the function."""
        place = self.module.place(statement)
        head: list[ast.stmt] = []
        if isinstance(statement, TRY):
            head = list(statement.finalbody)
        if place is None:
            return [Path("fall", Value("none"), None, env)]
        rest = head + place.block[place.index + 1 :]
        paths = self.run(rest, env)
        parent = place.parent
        if parent is None or not isinstance(parent, ast.stmt):
            return paths
        return self._climb(paths, parent, place.part)

    def _climb(self, paths: list[Path], parent: ast.stmt, part: str) -> list[Path]:
        closed: list[Path] = []
        is_loop = isinstance(parent, (ast.For, ast.AsyncFor, ast.While)) and part == "body"
        for path in paths:
            on = path.end == "fall" or (is_loop and path.end in ("break", "continue"))
            if not on:
                closed.append(path)
            elif is_loop and path.end != "break" and is_endless(parent):
                closed.append(Path("loop", path.value, parent, path.env, path.trail))
            else:
                closed.extend(self._joined(path, self.after(parent, path.env)))
        return closed[:_LIMIT]

    def _leave_loop(self, statement: ast.stmt, path: Path) -> list[Path]:
        for parent, place in self.module.ancestors(statement):
            if isinstance(parent, (ast.For, ast.AsyncFor, ast.While)) and place.part == "body":
                if path.end == "continue" and is_endless(parent):
                    return [Path("loop", path.value, parent, path.env)]
                return self.after(parent, path.env)
        return [Path("fall", Value("none"), None, path.env)]

    def run(self, block: Block, env: Env) -> list[Path]:
        """The ways through a block; `fall` where its end is reached."""
        done: list[Path] = []
        open_paths = [Path("fall", Value("none"), None, dict(env))]
        for statement in block:
            self.steps += 1
            if self.steps > _STEPS:
                return done
            following: list[Path] = []
            for path in open_paths:
                for result in self._step(statement, path):
                    (following if result.end == "fall" else done).append(result)
            open_paths = following[:_LIMIT]
            if not open_paths:
                break
        return done[:_LIMIT] + open_paths

    def _step(self, statement: ast.stmt, path: Path) -> list[Path]:
        env, trail = path.env, [*path.trail, statement]
        if isinstance(statement, ast.Return):
            value = self.reader.read(statement.value, env)
            if statement.value is None:
                value = Value("bare", statement)
            return [Path("return", value, statement, env, trail)]
        if isinstance(statement, ast.Raise):
            return [Path("raise", self._raised(statement, env), statement, env, trail)]
        if isinstance(statement, (ast.Break, ast.Continue)):
            end = "break" if isinstance(statement, ast.Break) else "continue"
            return [Path(end, path.value, statement, env, trail)]
        if isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            self._assign(statement, env)
        if isinstance(statement, ast.Expr):
            return self._expression(statement, path, trail)
        return self._compound(statement, env, trail)

    def _compound(self, statement: ast.stmt, env: Env, trail: list[ast.stmt]) -> list[Path]:
        if isinstance(statement, ast.If):
            return self._branch(statement, env, trail)
        if isinstance(statement, (ast.With, ast.AsyncWith)):
            return self._prefixed(trail, self.run(statement.body, env))
        if isinstance(statement, TRY):
            whole = [*statement.body, *statement.orelse, *statement.finalbody]
            return self._prefixed(trail, self.run(whole, env))
        if isinstance(statement, (ast.For, ast.AsyncFor)):
            return self._loop(statement, env, trail)
        if isinstance(statement, ast.While):
            return self._prefixed(trail, self._loop_body(statement.body, env))
        if isinstance(statement, ast.Match):
            ways = [p for case in statement.cases for p in self.run(case.body, env)]
            return self._prefixed(trail, ways[:_LIMIT])
        return [Path("fall", Value("none"), None, env, trail)]

    @staticmethod
    def _prefixed(trail: list[ast.stmt], paths: list[Path]) -> list[Path]:
        return [Path(p.end, p.value, p.node, p.env, trail + p.trail) for p in paths]

    def _branch(self, statement: ast.If, env: Env, trail: list[ast.stmt]) -> list[Path]:
        truth = self.reader.truth(statement.test, env)
        paths: list[Path] = []
        if truth is not False:
            paths += self.run(statement.body, env)
        if truth is not True:
            paths += self.run(statement.orelse, env)
        return self._prefixed(trail, paths)

    def _loop(
        self, statement: ast.For | ast.AsyncFor, env: Env, trail: list[ast.stmt]
    ) -> list[Path]:
        over = self.reader.read(statement.iter, env)
        if over.is_falsy:
            return self._prefixed(trail, self.run(statement.orelse, env))
        return self._prefixed(trail, self._loop_body(statement.body, env))

    def _loop_body(self, body: Block, env: Env) -> list[Path]:
        inner = dict(env)
        paths = [p for p in self.run(body, inner) if p.end in ("return", "raise")]
        returns = [p for p in paths if p.end == "return"]
        return [*returns[:2], Path("fall", Value("none"), None, env)]

    def _expression(self, statement: ast.Expr, path: Path, trail: list[ast.stmt]) -> list[Path]:
        call = statement.value.value if isinstance(statement.value, ast.Await) else statement.value
        if isinstance(call, ast.Call):
            name = last_part(dotted(call.func))
            if name in ("exit", "_exit", "quit") and self._is_exit(call):
                return [Path("raise", Value("failure", call), statement, path.env, trail)]
            if name == "abort":
                return [Path("raise", self._aborted(call), statement, path.env, trail)]
            callee = self.module.callee(call, self.function)
            if callee is not None and always_raises(callee):
                return [Path("raise", Value("failure", call), statement, path.env, trail)]
            self._mutate(call, path.env)
        return [Path("fall", path.value, None, path.env, trail)]

    @staticmethod
    def _is_exit(call: ast.Call) -> bool:
        owner = dotted(call.func).rpartition(".")[0]
        return owner in ("sys", "os", "") or "exit" in owner

    @staticmethod
    def _aborted(call: ast.Call) -> Value:
        status = status_of(call.args[0]) if call.args else None
        if status is not None and status in (401, 403, 404, 409, 410):
            return Value("fact", call, status)
        return Value("failure" if status is None or status >= 500 else "refused", call, status)

    @staticmethod
    def _mutate(call: ast.Call, env: Env) -> None:
        """`rows.append(x)` makes an empty list something else, `errors.append` told."""
        if isinstance(call.func, ast.Attribute) and call.func.attr in (
            "append",
            "extend",
            "update",
            "add",
            "insert",
        ):
            name = dotted(call.func.value)
            if name in env:
                env[name] = Value("unknown", call)

    def _raised(self, statement: ast.Raise, env: Env) -> Value:
        """An outage raised as a fact (404) is an answer; all else is a failure."""
        if statement.exc is None:
            return Value("failure", statement)
        value = self.reader.read(statement.exc, env)
        if value.status in (401, 403, 404, 409, 410):
            return Value("fact", statement, value.status)
        if value.status in (400, 422):
            return Value("refused", statement, value.status)
        return Value("failure", statement)

    def _assign(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign, env: Env) -> None:
        if isinstance(node, ast.AugAssign):
            name = dotted(node.target)
            if name in env:
                env[name] = Value("unknown", node)
            return
        if node.value is None:
            return
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            self._bind(target, node.value, env)

    def _bind(self, target: ast.expr, value: ast.expr, env: Env) -> None:
        if isinstance(target, (ast.Tuple, ast.List)):
            parts = value.elts if isinstance(value, (ast.Tuple, ast.List)) else []
            same = len(parts) == len(target.elts)
            for index, inner in enumerate(target.elts):
                bound = self.reader.read(parts[index], env) if same else UNKNOWN
                env[dotted(inner)] = bound
            return
        name = dotted(target)
        if name:
            env[name] = self.reader.read(value, env)
        elif isinstance(target, ast.Subscript):
            self._bind_item(target, value, env)

    def _bind_item(self, target: ast.Subscript, value: ast.expr, env: Env) -> None:
        """`result["error"] = str(e)` turns a prepared answer into one that reports."""
        owner = dotted(target.value)
        if owner not in env:
            return
        key = target.slice.value if isinstance(target.slice, ast.Constant) else ""
        made = ast.Dict([ast.Constant(key)], [value])
        told = self.reader.read(made, env).sort in ("reported", "mixed_report")
        if told:
            env[owner] = Value("reported", target)


def is_endless(loop: ast.stmt) -> bool:
    """True for `while True:` and for a service's own `while self.running:`."""
    if not isinstance(loop, ast.While):
        return False
    test = loop.test
    if isinstance(test, ast.Constant):
        return bool(test.value)
    name = last_part(dotted(test)).lower()
    if isinstance(test, ast.UnaryOp):
        inner = test.operand.func if isinstance(test.operand, ast.Call) else test.operand
        name = last_part(dotted(inner)).lower()
    return any(
        word in name
        for word in (
            "running",
            "stop",
            "alive",
            "active",
            "shutdown",
            "is_set",
            "exit",
            "cancel",
            "keep",
        )
    )


def always_raises(function: Function, depth: int = 3) -> bool:
    """True for a helper that never returns: its annotation says so, or its last statement."""
    node = function.node
    if node is not None and last_part(dotted(node.returns)) in ("NoReturn", "Never"):
        return True
    if function.returns or not function.body:
        return False
    last = function.body[-1]
    if isinstance(last, ast.Raise):
        return True
    call = (
        last.value.value
        if isinstance(last, ast.Expr) and isinstance(last.value, ast.Await)
        else (last.value if isinstance(last, ast.Expr) else None)
    )
    callee = function.module.callee(call, function) if isinstance(call, ast.Call) else None
    return callee is not None and depth > 0 and always_raises(callee, depth - 1)


def reads_of(trail: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a trail without those nested in others of it twice."""
    seen: set[int] = set()
    for statement in trail:
        for inner in statements_in([statement]):
            if id(inner) not in seen:
                seen.add(id(inner))
                yield inner
