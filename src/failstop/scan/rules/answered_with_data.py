"""FS001: a database failure answered with data.

Two shapes: a handler whose value reaches the caller, and a condition on a sentinel (a connection
that is None because its making failed) that answers data or skips the write.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from failstop.scan._catching import catch_of_types, may_raise
from failstop.scan._context import Attempt, Context, confidence_of, reports
from failstop.scan._database import FAIR, STRONG, statements_in
from failstop.scan._finding import Confidence, Finding
from failstop.scan._flow import Flow, Path
from failstop.scan._model import Function, calls_in, dotted, last_part
from failstop.scan._values import DATA, Reader, Value
from failstop.scan._vocabulary import ABSENT_FLAG, LOGGING_METHODS, Effect

_SAID = {
    "empty": "an empty value",
    "none": "None",
    "false": "False",
    "true": "True",
    "literal": "a literal",
    "invented": "an invented or default value",
    "kept": "a value kept in memory",
    "fact": "a fact (not found, not allowed)",
    "mixed": "data beside the error",
    "mixed_report": "empty data beside the error",
    "page": "a page",
    "redirect": "a redirect",
    "refused": "a refusal that blames the request",
    "reported": "an error inside a successful answer",
}
_ORDER = (
    "invented",
    "kept",
    "true",
    "literal",
    "empty",
    "fact",
    "mixed",
    "none",
    "false",
    "mixed_report",
    "page",
    "redirect",
    "refused",
    "reported",
)
_ERROR_HANDLERS = (
    "errorhandler",
    "app_errorhandler",
    "exception_handler",
    "register_error_handler",
)
_PROBE = re.compile(
    r"^_?(test|check|verify|ping|validate|is|has|wait|can)_?(for_)?_?(the_)?"
    r"(db|database|conn|connection|connected|alive|healthy|available|ready|postgres|mysql|pool|"
    r"connectivity|reachable|connect)|^_?(is|has)_\w*(usable|closed)$|^_?(supports|has)_\w+_(field|"
    r"column|table|index|feature|extension|support)$|^_?supports_",
    re.IGNORECASE,
)
_WRITES = Effect.WRITE | Effect.COMMIT | Effect.SCHEMA


def find(context: Context) -> Iterator[Finding]:
    """The handlers and conditions that answer data for a database that failed."""
    sentinels = _Sentinels(context)
    for attempt in context.attempts:
        if attempt.is_cleanup or context.is_health(attempt.function):
            continue
        judged = _judge(context, attempt, sentinels)
        if judged:
            yield judged
    yield from sentinels.find()
    yield from _error_handlers(context)


def _error_handlers(context: Context) -> Iterator[Finding]:
    """`@app.errorhandler(SQLAlchemyError)` and its like, where they answer data."""
    for function in context.module.functions:
        for decorator in function.decorators:
            name = last_part(dotted(decorator.func)) if isinstance(decorator, ast.Call) else ""
            if not isinstance(decorator, ast.Call) or name not in _ERROR_HANDLERS:
                continue
            catch = catch_of_types(decorator.args[:1], context.module)
            reader = Reader(context.module, function, {p.arg for p in function.parameters()})
            for node in function.returns:
                value = reader.read(node.value, {})
                if catch.reach == "database" and value.sort in DATA and node.value is not None:
                    yield context.finding(
                        "FS001",
                        decorator,
                        Confidence.HIGH if value.sort != "fact" else Confidence.MEDIUM,
                        f"every {catch.names[0]} of this app is answered with {_SAID[value.sort]}; "
                        "the caller cannot tell an outage from an answer",
                        flow=(catch.names[0], name, f"answers {_SAID[value.sort]}"),
                        line=function.node.lineno if function.node else None,
                        end_line=node.end_lineno,
                    )
                    break


def _judge(context: Context, attempt: Attempt, sentinels: _Sentinels) -> Finding | None:
    if _asks_which(context, attempt):
        return None
    answers = [(value, path) for path in attempt.paths if (value := _answered(attempt, path))]
    for sort in _ORDER:
        for value, path in answers:
            if value.sort == sort:
                return _report(context, attempt, value, path, sentinels)
    return _bound(context, attempt) or _substituted(context, attempt)


def _substituted(context: Context, attempt: Attempt) -> Finding | None:
    """A value that the handler puts in the place of what was read, and that the function uses."""
    if not attempt.answer or not any(t.effect & Effect.READ for t in attempt.touches):
        return None
    if all(path.end == "raise" or reports(path) for path in attempt.paths):
        return None
    filled = _targets(attempt.body)
    flow = Flow(context.module, attempt.function, context.databases)
    for statement in attempt.answer:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            continue
        name = statement.targets[0].id
        value = flow.reader.read(statement.value, {})
        if name in filled and value.sort in DATA and _is_used(attempt, name):
            base = confidence_of(attempt.strength, explicit=attempt.catch.reach == "database")
            said = f"replaced by {_SAID[value.sort]} (line {statement.lineno})"
            return context.finding(
                "FS001",
                attempt.handler or attempt.statement,
                min_of(base, Confidence.MEDIUM),
                f"a failure of {show_source(attempt)} is hidden: {name} is {said} and used",
                flow=attempt.flow_to(f"{name} {said}"),
                line=attempt.line,
                end_line=attempt.end_line,
            )
    return None


def _is_used(attempt: Attempt, name: str) -> bool:
    """True where a name is read behind the handler by more than a log call."""
    later = [s for path in attempt.paths for s in path.trail if s.lineno > attempt.end_line]
    return any(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
        for statement in later
        if not isinstance(statement, ast.Expr) or is_work(statement, attempt)
        for node in ast.walk(statement)
    )


def _asks_which(context: Context, attempt: Attempt) -> bool:
    """True where the handler asks which error it is, answers one and raises the rest."""
    handler = attempt.handler
    if handler is None or not handler.name or not may_raise(handler.body):
        return False
    names = {handler.name}
    for statement in statements_in(handler.body):
        if isinstance(statement, ast.Assign) and _mentions(statement.value, names):
            names |= {dotted(target) for target in statement.targets}
        if isinstance(statement, ast.If) and _mentions(statement.test, names):
            return not _asks_for_outage(context, statement.test)
    return False


def _mentions(node: ast.AST, names: set[str]) -> bool:
    return any(isinstance(each, ast.Name) and each.id in names for each in ast.walk(node))


def _asks_for_outage(context: Context, test: ast.expr) -> bool:
    """True for `isinstance(e, OperationalError)`: that is the outage itself."""
    for call in calls_in(test):
        if dotted(call.func) == "isinstance" and len(call.args) > 1:
            kinds = call.args[1]
            types = kinds.elts if isinstance(kinds, ast.Tuple) else [kinds]
            if catch_of_types(types, context.module).reach == "database":
                return True
    return False


def _answered(attempt: Attempt, path: Path) -> Value | None:
    """What the caller gets on this way, None where it learns of the failure or expects nothing."""
    if path.end == "raise":
        return path.value if path.value.sort == "fact" else None
    if path.end == "fall" and attempt.is_repeated and may_raise(attempt.answer):
        return None
    if path.end == "fall" or (path.end == "return" and path.value.sort == "bare"):
        given = _yielded(attempt)
        if given is not None:
            return given
        if not _gives_values(attempt) or _answers_for_other_work(attempt, path):
            return None
        return Value("none", path.node)
    if path.end != "return" or _is_exit_code(attempt.function, path.value):
        return None
    if path.value.sort == "none" and not _gives_values(attempt):
        return None
    return None if _answers_for_other_work(attempt, path) else path.value


def _is_exit_code(function: Function, value: Value) -> bool:
    """True for the 1 of a function that answers 0 and 1 to its shell: that reports."""
    node = value.node
    if not isinstance(node, ast.Constant) or type(node.value) is not int or node.value <= 0:
        return False
    given = [each.value for each in function.returns]
    codes = [g.value for g in given if isinstance(g, ast.Constant) and type(g.value) is int]
    return 0 in codes and all(
        not isinstance(g, (ast.Dict, ast.List, ast.Tuple, ast.JoinedStr)) for g in given
    )


def _answers_for_other_work(attempt: Attempt, path: Path) -> bool:
    """True where the function went on to other work, and its answer is that work's."""
    node = path.node
    if node is not None and node.lineno <= attempt.end_line:
        return False
    value = node.value if isinstance(node, ast.Return) else None
    if value is not None:
        filled = _filled(attempt.body) | _filled(attempt.answer)
        if filled & {dotted(each) for each in ast.walk(value)}:
            return False
    later = [s for s in path.trail if s is not node and s.lineno > attempt.end_line]
    return any(is_work(each, attempt) for each in later)


def is_work(statement: ast.stmt, attempt: Attempt) -> bool:
    """True for a statement that does more than log or close."""
    calls = attempt.context.databases.calls(statement)
    return any(
        last_part(dotted(call.func)) not in LOGGING_METHODS | {"close", "sleep", "putconn"}
        for call in calls
    )


def _filled(block: list[ast.stmt]) -> set[str]:
    """The names that a block binds, or fills by method or item."""
    names = _targets(block)
    for statement in statements_in(block):
        if isinstance(statement, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                inner = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
                names.update(dotted(t.value if isinstance(t, ast.Subscript) else t) for t in inner)
        elif isinstance(statement, (ast.For, ast.AsyncFor)):
            names.add(dotted(statement.target))
        elif isinstance(statement, ast.Expr):
            call = statement.value
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                names.add(dotted(call.func.value))
    return names - {""}


def _yielded(attempt: Attempt) -> Value | None:
    """What a handler yields: the value of a dependency or a context manager."""
    for statement in attempt.answer:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Yield):
            reader = Reader(attempt.function.module, attempt.function)
            return reader.read(statement.value.value, {})
    return None


def answers_data(attempt: Attempt) -> bool:
    """True where the caller gets a value on some way from this handler."""
    return any(value.sort in DATA for path in attempt.paths if (value := _answered(attempt, path)))


def _gives_values(attempt: Attempt) -> bool:
    """True where the function returns something on another way than this handler's."""
    function = attempt.function
    first, last = attempt.line, attempt.end_line
    for node in function.returns:
        if node.value is None or (first <= node.lineno <= last and attempt.handler):
            continue
        if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            return True
    return False


def _report(
    context: Context, attempt: Attempt, value: Value, path: Path, sentinels: _Sentinels
) -> Finding | None:
    confidence = _confidence(context, attempt, value, sentinels)
    if confidence is None:
        return None
    if attempt.in_item_loop and getattr(path.node, "lineno", 0) > attempt.end_line:
        confidence = min_of(confidence, Confidence.MEDIUM)
    where = getattr(value.node, "lineno", None)
    said = _SAID.get(value.sort, value.sort)
    end = f"answers {said}" + (f" (line {where})" if where else "")
    message = (
        f"a failure of {show_source(attempt)} is answered with {said}; "
        "the caller cannot tell an outage from an answer"
    )
    return context.finding(
        "FS001",
        attempt.handler or attempt.statement,
        confidence,
        message,
        flow=attempt.flow_to(end),
        line=attempt.line,
        end_line=attempt.end_line,
    )


def show_source(attempt: Attempt) -> str:
    """The guarded call, as the message names it."""
    return attempt.flow_to("")[0]


def _confidence(
    context: Context, attempt: Attempt, value: Value, sentinels: _Sentinels
) -> Confidence | None:
    base = confidence_of(attempt.strength, explicit=attempt.catch.reach == "database")
    if attempt.catch.reach == "network":
        base = min_of(base, Confidence.MEDIUM)
    sort = value.sort
    if sort in ("reported", "refused"):
        return Confidence.LOW
    if sort in ("page", "redirect", "mixed_report"):
        return min_of(base, Confidence.MEDIUM if sort == "mixed_report" else Confidence.LOW)
    if sort in ("none", "false", "empty") and sentinels.callers_report(attempt.function, sort):
        return None
    if sort in ("none", "false", "true") and _PROBE.match(attempt.function.name):
        return Confidence.LOW
    if sort == "false" and attempt.effect & _WRITES and _is_outcome(attempt.function):
        return min_of(base, Confidence.MEDIUM)
    if sort not in DATA:
        return None
    return base


def _is_outcome(function: Function) -> bool:
    """True where a function answers only True or False: its own success."""
    return all(
        isinstance(node.value, ast.Constant) and isinstance(node.value.value, bool)
        for node in function.returns
        if node.value is not None
    )


def min_of(first: Confidence, second: Confidence) -> Confidence:
    """The lesser confidence."""
    return first if first.rank < second.rank else second


def _bound(context: Context, attempt: Attempt) -> Finding | None:
    """A handler that sets an attribute or global which the guarded block would have filled."""
    filled = _targets(attempt.body)
    flow = Flow(context.module, attempt.function, context.databases)
    for statement in attempt.answer:
        if not isinstance(statement, ast.Assign) or any(p.end == "raise" for p in attempt.paths):
            continue
        for target in statement.targets:
            name = dotted(target)
            is_kept = (
                "." in name or attempt.function.is_module or name in _globals(attempt.function)
            )
            value = flow.reader.read(statement.value, {})
            if not (is_kept and name in filled and value.sort in DATA - {"fact"}):
                continue
            confidence = confidence_of(attempt.strength, explicit=attempt.catch.reach == "database")
            said = f"sets {name} to {_SAID[value.sort]} (line {statement.lineno})"
            return context.finding(
                "FS001",
                attempt.handler or attempt.statement,
                confidence,
                f"a failure of {show_source(attempt)} {said}; its readers take it for an answer",
                flow=attempt.flow_to(said),
                line=attempt.line,
                end_line=attempt.end_line,
            )
    return None


def _targets(block: list[ast.stmt]) -> set[str]:
    names: set[str] = set()
    for statement in statements_in(block):
        if isinstance(statement, ast.Assign):
            names.update(dotted(target) for target in statement.targets)
        elif isinstance(statement, (ast.With, ast.AsyncWith)):
            names.update(dotted(i.optional_vars) for i in statement.items if i.optional_vars)
    return names - {""}


def _globals(function: Function) -> set[str]:
    return {name for node in function.others if isinstance(node, ast.Global) for name in node.names}


class _Sentinels:
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
            sorts = {v.sort for p in attempt.paths if (v := _answered(attempt, p))}
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
        paths = flow._close([p for p in paths if p.end != "fall"], statement)
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
            said = _SAID.get(value.sort, "nothing: the work is skipped")
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
                if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
                    if statement.value.value in (None, False):
                        for target in statement.targets:
                            name = dotted(target)
                            is_kept = "." in name or name in _globals(attempt.function)
                            if name and (is_kept or attempt.function.is_module):
                                found[name] = found.get(name, 0) + 1
            if not attempt.answer or any(p.end == "raise" for p in attempt.paths):
                continue
            if attempt.effect & Effect.CONNECT:
                for name in _targets(attempt.body):
                    if "." in name or name in _globals(attempt.function):
                        found[name] = found.get(name, 0) + 1
        return found


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
