"""Names that hold None or False where making a connection failed, and who asks them.

`connect()` answers None for an outage, its callers answer empty data or skip the write: the second
half of FS001.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from failstop.scan._context import Context, reports
from failstop.scan._finding import Confidence, Finding
from failstop.scan._flow import Flow, Path
from failstop.scan._kinds import FAIR, STRONG
from failstop.scan._model import Function, dotted, last_part
from failstop.scan._values import DATA, Value
from failstop.scan._vocabulary import ABSENT_FLAG, Effect
from failstop.scan.rules._answers import SAID, answered, global_names, is_outcome, targets

__all__ = ["Sentinels"]

_WRITES = Effect.WRITE | Effect.COMMIT | Effect.SCHEMA


class Sentinels:
    """Names that hold None or False where making a connection failed, and who asks them."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.module = context.module
        self._givers: dict[int, str | None] = {}
        self._absent: dict[str, int] | None = None

    # Who gives a sentinel

    def gives(self, function: Function) -> str | None:
        """`none`, `false` or `empty` where a function answers that for a failure of a database."""
        if id(function) in self._givers:
            return self._givers[id(function)]
        self._givers[id(function)] = None
        found = None
        for attempt in self.context.attempts:
            if attempt.function is not function or attempt.is_cleanup:
                continue
            sorts = {v.sort for p in attempt.paths if (v := answered(attempt, p))}
            found = next((s for s in ("none", "false", "empty") if s in sorts), None)
            if found:
                break
        self._givers[id(function)] = found
        return found

    def callers_report(self, function: Function, sort: str) -> bool:
        """True where this module calls the function and every caller reports that sentinel."""
        sites = self.context.callers(function)
        return bool(sites) and all(self._site_reports(*site, sort) for site in sites)

    def _site_reports(
        self, caller: Function, statement: ast.stmt, call: ast.Call, sort: str
    ) -> bool:
        flow = Flow(self.module, caller, self.context.databases)
        value = Value(sort, call)
        if isinstance(statement, ast.Assign) and _unwrapped(statement.value) is call:
            env = flow.before(statement)
            for target in statement.targets:
                env[dotted(target)] = value
            paths = flow.after(statement, env)
        elif isinstance(statement, ast.If):
            taken = _branch_for(statement.test, call, sort)
            if taken is None:
                return False
            block = statement.body if taken else statement.orelse
            paths = flow.run(block, flow.before(statement))
            if any(path.end == "fall" for path in paths):
                return False
        else:
            return False
        return bool(paths) and all(reports(path) for path in paths)

    # Who asks one

    def find(self) -> Iterator[Finding]:
        """The conditions that answer data, or skip the write, because a sentinel is there."""
        for function in self.module.functions:
            if self.context.is_health(function):
                continue
            for statement in function.ifs:
                found = self._condition(function, statement)
                if found:
                    yield found

    def _condition(self, function: Function, statement: ast.If) -> Finding | None:
        asked = _asked(statement.test)
        if asked is None:
            return None
        name, node, absent_in_body = asked
        strength = self._strength(name, node, function, statement)
        block = statement.body if absent_in_body else statement.orelse
        if not strength or not block:
            return None
        flow = Flow(self.module, function, self.context.databases)
        sort = "none"
        env = flow.before(statement)
        if name:
            env[name] = Value(sort, node)
        paths = flow.run(block, env)
        paths = flow.close([p for p in paths if p.end != "fall"], statement)
        return self._answer(function, statement, block, paths, strength, name or "the call")

    def _answer(
        self,
        function: Function,
        statement: ast.If,
        block: list[ast.stmt],
        paths: list[Path],
        strength: int,
        name: str,
    ) -> Finding | None:
        for path in paths:
            value = path.value
            is_bare = path.end == "return" and value.sort in ("bare", "none")
            if is_bare and not self._skips(function, statement):
                is_data = bool(_returns_values(function)) and value.sort != "bare"
            else:
                is_data = is_bare or (path.end in ("return", "raise") and value.sort in DATA)
            if path.end == "raise" and value.sort != "fact":
                is_data = False
            if not is_data:
                continue
            confidence = Confidence.HIGH if strength >= STRONG else Confidence.MEDIUM
            if value.sort == "false" and is_outcome(function):
                confidence = Confidence.LOW
            said = SAID.get(value.sort, "nothing: the work is skipped")
            return self.context.finding(
                "FS001",
                statement,
                confidence,
                f"{name} is absent because the database could not be reached, and the answer is "
                f"{said}",
                flow=(
                    f"{name} (absent after a failure)",
                    f"if (line {statement.lineno})",
                    f"answers {said}",
                ),
                end_line=block[-1].end_lineno,
            )
        return None

    def _skips(self, function: Function, statement: ast.If) -> bool:
        """True where work on the database follows that a bare return skips."""
        rest = [
            t
            for t in self.context.databases.within(function.body, function)
            if t.node.lineno > (statement.end_lineno or statement.lineno)
        ]
        return any(t.effect & (_WRITES | Effect.READ) for t in rest)

    def _strength(self, name: str, node: ast.expr, function: Function, statement: ast.If) -> int:
        """How sure it is that this name is absent because a database failed; 0 for not at all."""
        if isinstance(node, ast.Call):
            callee = self.module.callee(node, function)
            gives = self.gives(callee) if callee else None
            return STRONG if gives in ("none", "false") else 0
        if self._set_absent(name, function):
            return STRONG
        for _, value in self.context.databases.assigned(function).get(name, ()):
            inner = _unwrapped(value)
            if not isinstance(inner, ast.Call) or value.lineno > statement.lineno:
                continue
            callee = self.module.callee(inner, function)
            if callee is not None:
                return self._from_callee(callee)
            kind = self.context.databases.kind_of(inner, function)
            imported = last_part(dotted(inner.func)) in self.module.imports
            if kind is not None and kind.name in ("connection", "database", "pool") and imported:
                return FAIR
        return 0

    def _from_callee(self, callee: Function) -> int:
        gives = self.gives(callee)
        kind = self.context.databases.gives(callee)
        is_connection = kind is not None and kind.name in (
            "connection",
            "session",
            "cursor",
            "engine",
            "pool",
            "database",
            "mongo",
        )
        return STRONG if gives == "none" and is_connection else 0

    def _set_absent(self, name: str, function: Function) -> bool:
        """True where some handler sets this attribute or global to None or False."""
        if self._absent is None:
            self._absent = self._collect_absent()
        return self._absent.get(name, 0) > 0 and bool(
            self._is_database_name(name, function) or ABSENT_FLAG.search(last_part(name))
        )

    def _is_database_name(self, name: str, function: Function) -> bool:
        node = ast.parse(name, mode="eval").body
        kind = self.context.databases.kind_of(node, function)
        return kind is not None and kind.name not in (
            "http",
            "cache",
            "cloud",
            "memory",
            "other",
            "smtp",
            "flask_session",
        )

    def _collect_absent(self) -> dict[str, int]:
        """Names bound to None or False in a handler around making or using a connection."""
        found: dict[str, int] = {}
        for attempt in self.context.attempts:
            for statement in attempt.answer:
                if not isinstance(statement, ast.Assign) or not _is_absence(statement.value):
                    continue
                for target in statement.targets:
                    name = dotted(target)
                    is_kept = "." in name or name in global_names(attempt.function)
                    if name and (is_kept or attempt.function.is_module):
                        found[name] = found.get(name, 0) + 1
            if not attempt.answer or any(p.end == "raise" for p in attempt.paths):
                continue
            if attempt.effect & Effect.CONNECT:
                for name in targets(attempt.body):
                    if "." in name or name in global_names(attempt.function):
                        found[name] = found.get(name, 0) + 1
        return found


def _is_absence(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value in (None, False)


def _asked(test: ast.expr) -> tuple[str, ast.expr, bool] | None:
    """What a condition asks for: its name, its node and whether the body is for its absence."""
    if isinstance(test, ast.BoolOp):
        for each in test.values:
            found = _asked(each)
            if found is not None and (isinstance(test.op, ast.Or) or not found[2]):
                return found if isinstance(test.op, ast.Or) and found[2] else None
        return None
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = _unwrapped(test.operand)
        if isinstance(inner, ast.Call) or dotted(inner):
            return dotted(inner), inner, True
        return None
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        other = test.comparators[0]
        is_none = isinstance(other, ast.Constant) and other.value in (None, False)
        inner = _unwrapped(test.left)
        if is_none and (dotted(inner) or isinstance(inner, ast.Call)):
            absent = isinstance(test.ops[0], (ast.Is, ast.Eq))
            return dotted(inner), inner, absent
        return None
    inner = _unwrapped(test)
    if isinstance(inner, ast.Call) or dotted(inner):
        return dotted(inner), inner, False
    return None


def _unwrapped(node: ast.expr) -> ast.expr:
    while isinstance(node, (ast.Await, ast.NamedExpr)):
        node = node.value
    return node


def _branch_for(test: ast.expr, call: ast.Call, sort: str) -> bool | None:
    """Which branch runs where the call gave the sentinel: True for the body."""
    asked = _asked(test)
    return asked[2] if asked is not None and asked[1] is call else None


def _returns_values(function: Function) -> bool:
    return any(
        node.value is not None
        and not (isinstance(node.value, ast.Constant) and node.value.value is None)
        for node in function.returns
    )
