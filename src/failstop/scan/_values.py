"""What an expression is as an answer: data, a sentinel, a cached or invented value, a failure.

Lives here: the reading of one expression under known variables. Never here: control flow.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

from failstop.scan import _vocabulary as words
from failstop.scan._model import Function, Module, dotted, last_part, strings_in, walk_expression

__all__ = ["DATA", "Reader", "Value", "is_exit_code", "status_of"]

#: Sorts that answer as if the database had spoken.
DATA = frozenset({"empty", "none", "false", "true", "literal", "invented", "kept", "fact", "mixed"})
_STATUS = re.compile(r"(?:HTTP_|^)(\d{3})(?:_|$)")
_STATUS_WORDS = {
    "INTERNAL_SERVER_ERROR": 500,
    "SERVICE_UNAVAILABLE": 503,
    "BAD_GATEWAY": 502,
    "GATEWAY_TIMEOUT": 504,
    "NOT_FOUND": 404,
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "BAD_REQUEST": 400,
    "OK": 200,
    "CREATED": 201,
    "CONFLICT": 409,
    "NO_CONTENT": 204,
    "UNPROCESSABLE_ENTITY": 422,
    "ACCEPTED": 202,
}
_PERMISSION = re.compile(
    r"^(success|ok|healthy|allowed|allow|approved|authorized|authenticated|valid|passed|safe|enabled|"
    r"connected|available|can_\w+|is_(valid|allowed|safe|open|ok|healthy|active|tradeable)|"
    r"should_\w+|market_open|proceed)$",
    re.IGNORECASE,
)
_STATUS_CLASSES = {
    "HttpResponseServerError": 500,
    "HttpResponseNotFound": 404,
    "Http404": 404,
    "NotFound": 404,
    "HttpResponseBadRequest": 400,
    "HttpResponseForbidden": 403,
    "PermissionDenied": 403,
    "Unauthorized": 401,
    "NotAuthenticated": 401,
    "AuthenticationFailed": 401,
    "Forbidden": 403,
    "InternalServerError": 500,
    "ServiceUnavailable": 503,
    "BadRequest": 400,
    "credentials_exception": 401,
    "CredentialsException": 401,
}


@dataclass(frozen=True, slots=True)
class Value:
    """One answer.

    `sort`: empty, none, false, true, literal, invented, kept (cached), store, fact, mixed (an error
    beside data), reported (an error told in the answer), failure (a 5xx), refused (400, 422),
    page, error (the exception itself), unknown.
    """

    sort: str
    node: ast.AST | None = None
    status: int | None = None

    @property
    def is_data(self) -> bool:
        """True where the reader of the answer cannot see that the database failed."""
        return self.sort in DATA

    @property
    def is_falsy(self) -> bool | None:
        """The truth of the value where it is known, as `not value`."""
        if self.sort in ("empty", "none", "false"):
            return True
        return False if self.sort in ("true", "literal", "invented", "store") else None


UNKNOWN = Value("unknown")


@dataclass(slots=True)
class Reader:
    """Reads expressions of one function; `error_names` are the handlers' `as` names."""

    module: Module
    function: Function
    error_names: set[str] = field(default_factory=set)
    depth: int = 2

    def read(self, node: ast.expr | None, env: dict[str, Value]) -> Value:
        """What this expression is as an answer."""
        if node is None:
            return Value("none")
        method = getattr(self, f"_read_{type(node).__name__}", None)
        if method is None:
            return Value("unknown", node)
        found: Value = method(node, env)
        return found if found.node is not None else Value(found.sort, node, found.status)

    def _read_Constant(self, node: ast.Constant, env: dict[str, Value]) -> Value:  # noqa: N802
        value = node.value
        if value is None:
            return Value("none", node)
        if value is True or value is False:
            return Value("true" if value else "false", node)
        if isinstance(value, str) and value:
            return self._text(value, node)
        return Value("literal" if value else "empty", node)

    @staticmethod
    def _text(text: str, node: ast.AST) -> Value:
        if words.FACT_TEXT.search(text) and not words.ERROR_TEXT.search(text):
            return Value("fact", node)
        if words.ERROR_TEXT.search(text):
            return Value("reported", node)
        return Value("literal", node)

    def _read_JoinedStr(self, node: ast.JoinedStr, env: dict[str, Value]) -> Value:  # noqa: N802
        text = " ".join(strings_in(node))
        if self._mentions_error(node):
            return Value("reported", node)
        return self._text(text, node) if text.strip() else Value("unknown", node)

    def _read_Await(self, node: ast.Await, env: dict[str, Value]) -> Value:  # noqa: N802
        return self.read(node.value, env)

    def _read_Starred(self, node: ast.Starred, env: dict[str, Value]) -> Value:  # noqa: N802
        return self.read(node.value, env)

    def _read_UnaryOp(self, node: ast.UnaryOp, env: dict[str, Value]) -> Value:  # noqa: N802
        inner = self.read(node.operand, env)
        if isinstance(node.op, ast.Not) and inner.is_falsy is not None:
            return Value("true" if inner.is_falsy else "false", node)
        return Value(inner.sort if isinstance(node.op, ast.USub) else "unknown", node)

    def _read_BoolOp(self, node: ast.BoolOp, env: dict[str, Value]) -> Value:  # noqa: N802
        values = [self.read(each, env) for each in node.values]
        if isinstance(node.op, ast.Or):
            for value in values[:-1]:
                if value.is_falsy is not True:
                    return value
            return values[-1]
        return next((value for value in values if value.is_falsy), values[-1])

    def _read_IfExp(self, node: ast.IfExp, env: dict[str, Value]) -> Value:  # noqa: N802
        truth = self.truth(node.test, env)
        if truth is not None:
            return self.read(node.body if truth else node.orelse, env)
        first, second = self.read(node.body, env), self.read(node.orelse, env)
        return first if first.is_data else second

    def _read_Name(self, node: ast.Name, env: dict[str, Value]) -> Value:  # noqa: N802
        return self._named(node.id, node, env)

    def _read_Attribute(self, node: ast.Attribute, env: dict[str, Value]) -> Value:  # noqa: N802
        return self._named(dotted(node) or node.attr, node, env)

    def _read_Subscript(self, node: ast.Subscript, env: dict[str, Value]) -> Value:  # noqa: N802
        inner = self.read(node.value, env)
        return Value(inner.sort if inner.sort in ("kept", "invented") else "unknown", node)

    def _named(self, name: str, node: ast.AST, env: dict[str, Value]) -> Value:
        if name in env:
            return env[name]
        if name in self.error_names:
            return Value("error", node)
        last = last_part(name)
        status = _STATUS_CLASSES.get(last)
        if status:
            return Value("unknown", node, status)
        if last in ("default", "fallback") or words.INVENTED.search(last):
            return Value("invented", node)
        if words.KEPT.search(last.strip("_")):
            return Value("kept", node)
        if last.isupper() and "." not in name:
            return self._constant(last, node)
        return self.store_of_module(name, node)

    def _constant(self, name: str, node: ast.AST) -> Value:
        for assign in self.module.top.assigns:
            targets = assign.targets if isinstance(assign, ast.Assign) else [assign.target]
            if any(isinstance(t, ast.Name) and t.id == name for t in targets) and assign.value:
                found = self.read(assign.value, {})
                return Value(found.sort if found.is_data else "unknown", node)
        return Value("unknown", node)

    def store_of_module(self, name: str, node: ast.AST) -> Value:
        """A module-level dict or list is data kept in memory."""
        for assign in self.module.top.assigns if "." not in name else ():
            targets = assign.targets if isinstance(assign, ast.Assign) else [assign.target]
            if any(isinstance(t, ast.Name) and t.id == name for t in targets) and isinstance(
                assign.value, (ast.Dict, ast.List, ast.Set, ast.ListComp, ast.DictComp)
            ):
                return Value("kept", node)
        return Value("unknown", node)

    def _read_List(self, node: ast.List, env: dict[str, Value]) -> Value:  # noqa: N802
        return self._sequence(node, node.elts, env)

    def _read_Set(self, node: ast.Set, env: dict[str, Value]) -> Value:  # noqa: N802
        return self._sequence(node, node.elts, env)

    def _read_Tuple(self, node: ast.Tuple, env: dict[str, Value]) -> Value:  # noqa: N802
        if not node.elts:
            return Value("empty", node)
        status = self._tuple_status(node)
        if status is not None:
            return self._with_status(self.read(node.elts[0], env), status, node)
        sorts = [self.read(each, env).sort for each in node.elts]
        if any(sort in ("reported", "error", "fact") for sort in sorts):
            has_rows = any(sort in ("empty", "literal", "kept", "invented") for sort in sorts)
            return Value("mixed_report" if has_rows else "reported", node)
        if all(sort in ("empty", "none", "false") for sort in sorts):
            return Value("empty", node)
        return Value("literal" if all(s != "unknown" for s in sorts) else "unknown", node)

    def _tuple_status(self, node: ast.Tuple) -> int | None:
        for each in node.elts[1:2]:
            found = status_of(each)
            if found is not None and 100 <= found < 600:
                return found
        return None

    @staticmethod
    def _with_status(value: Value, status: int, node: ast.AST) -> Value:
        if status >= 500:
            return Value("failure", node, status)
        if status in (401, 403, 404, 409, 410):
            return Value("fact", node, status)
        if status in (400, 402, 422, 429, 408):
            return Value("refused", node, status)
        return Value(value.sort, node, status)

    def _sequence(self, node: ast.AST, elements: list[ast.expr], env: dict[str, Value]) -> Value:
        if not elements:
            return Value("empty", node)
        sorts = {self.read(each, env).sort for each in elements}
        if sorts & {"reported", "error"}:
            return Value("reported", node)
        if "invented" in sorts:
            return Value("invented", node)
        return Value("literal" if sorts - {"unknown"} else "unknown", node)

    def _read_ListComp(self, node: ast.ListComp, env: dict[str, Value]) -> Value:  # noqa: N802
        return self._comprehended(node, env)

    def _read_SetComp(self, node: ast.SetComp, env: dict[str, Value]) -> Value:  # noqa: N802
        return self._comprehended(node, env)

    def _read_DictComp(self, node: ast.DictComp, env: dict[str, Value]) -> Value:  # noqa: N802
        return self._comprehended(node, env)

    def _read_GeneratorExp(  # noqa: N802
        self, node: ast.GeneratorExp, env: dict[str, Value]
    ) -> Value:
        return self._comprehended(node, env)

    def _comprehended(
        self,
        node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp,
        env: dict[str, Value],
    ) -> Value:
        """A comprehension over nothing is empty; one over kept or invented data is that."""
        over = self.read(node.generators[0].iter, env)
        return Value(over.sort if over.sort in ("empty", "kept", "invented") else "unknown", node)

    def _read_Dict(self, node: ast.Dict, env: dict[str, Value]) -> Value:  # noqa: N802
        if not node.keys:
            return Value("empty", node)
        told, rows, good = False, False, False
        for key, value in zip(node.keys, node.values, strict=True):
            name = key.value if isinstance(key, ast.Constant) else ""
            found = self.read(value, env)
            tells = self._tells_failure(str(name), found, value)
            told = told or tells
            good = good or self._claims_success(str(name), value)
            rows = rows or (not tells and self._is_rows(found, value))
        if told and not good:
            return Value("mixed_report" if rows else "reported", node)
        return Value("mixed" if told else "literal", node)

    def _tells_failure(self, key: str, value: Value, node: ast.expr) -> bool:
        lowered = key.lower()
        if lowered in ("success", "ok", "succeeded", "healthy", "connected", "available"):
            return value.sort == "false"
        if lowered in words.ERROR_KEYS:
            return value.sort not in ("none", "empty", "false")
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_status = lowered in ("status", "result", "state", "message", "msg", "detail")
            return is_status and value.sort == "reported"
        return value.sort in ("error", "reported") and self._mentions_error(node)

    @staticmethod
    def _claims_success(key: str, node: ast.expr) -> bool:
        if not isinstance(node, ast.Constant):
            return False
        if node.value is True and _PERMISSION.search(key):
            return True
        return key.lower() in ("status", "result", "state") and bool(
            isinstance(node.value, str) and words.SUCCESS_TEXT.match(node.value)
        )

    @staticmethod
    def _is_rows(value: Value, node: ast.expr) -> bool:
        if value.sort in ("kept", "invented"):
            return True
        return value.sort == "empty" and not (
            isinstance(node, ast.Constant) and isinstance(node.value, str)
        )

    def _read_Call(self, node: ast.Call, env: dict[str, Value]) -> Value:  # noqa: N802
        name = self.module.name_of(node.func) or getattr(node.func, "attr", "")
        last = last_part(name)
        status = self._call_status(node, last)
        if status is not None and status >= 500:
            return Value("failure", node, status)
        if last in words.WRAPPERS or last in words.PAGES or last.endswith("Response"):
            return self._wrapped(node, last, status, env)
        if status is not None:
            return self._with_status(UNKNOWN, status, node)
        return self._called(node, name, last, env)

    @staticmethod
    def _call_status(node: ast.Call, last: str) -> int | None:
        for keyword in node.keywords:
            if keyword.arg in ("status", "status_code", "code"):
                found = status_of(keyword.value)
                if found is not None:
                    return found
        if last in (
            "abort",
            "HTTPException",
            "APIException",
            "HttpError",
            "error_response",
            "make_response",
            "Response",
            "HTTPError",
            "json_response",
        ):
            for each in node.args[:3]:
                found = status_of(each)
                if found is not None and 300 <= found < 600:
                    return found
        return _STATUS_CLASSES.get(last)

    def _wrapped(
        self, node: ast.Call, last: str, status: int | None, env: dict[str, Value]
    ) -> Value:
        if last in words.PAGES:
            return self._page(node, env)
        inner = self._wrapped_value(node, last, env)
        if status is not None:
            return self._with_status(inner, status, node)
        return Value(inner.sort, node, inner.status)

    def _wrapped_value(self, node: ast.Call, last: str, env: dict[str, Value]) -> Value:
        named = [k for k in node.keywords if k.arg in ("content", "data", "response", "body")]
        first = node.args[0] if node.args else (named[0].value if named else None)
        if first is not None:
            value = self.read(first, env)
            return Value("unknown") if last == "str" and value.sort == "unknown" else value
        keys = [
            k
            for k in node.keywords
            if k.arg
            not in ("status", "status_code", "safe", None, "mimetype", "content_type", "headers")
        ]
        if not keys:
            return Value("empty") if last in words.EMPTY_MAKERS else UNKNOWN
        made = ast.Dict([ast.Constant(k.arg) for k in keys], [k.value for k in keys])
        return Value(self._read_Dict(made, env).sort)

    def _page(self, node: ast.Call, env: dict[str, Value]) -> Value:
        names = " ".join(strings_in(node))
        if words.REPORTING.search(names) or re.search(r"(^|[^0-9])5\d\d([^0-9]|$)", names):
            return Value("reported", node)
        given = [k.value for k in node.keywords if k.arg]
        given += [v for a in node.args for d in [a] if isinstance(d, ast.Dict) for v in d.values]
        keys = [k.arg or "" for k in node.keywords]
        if any(key in words.ERROR_KEYS or "error" in key for key in keys):
            return Value("reported", node)
        if any(self.read(each, env).sort in ("empty", "kept", "invented") for each in given):
            return Value("empty", node)
        return Value("page", node)

    def _called(self, node: ast.Call, name: str, last: str, env: dict[str, Value]) -> Value:
        if words.SUBSTITUTE.search(last):
            return Value("store", node)
        if name.startswith("sqlite3.connect") or last in ("MagicMock", "Mock", "AsyncMock"):
            return Value("store", node)
        if last in ("create_engine", "create_async_engine") and any(
            "sqlite" in text for text in strings_in(node)
        ):
            return Value("store", node)
        if last in words.EMPTY_MAKERS and not node.keywords:
            return self._maybe_empty(node, env)
        if last == "redirect" or last == "RedirectResponse":
            return Value("redirect", node)
        owner = name.rpartition(".")[0]
        if words.KEPT.search(last_part(owner).strip("_")) or words.KEPT.search(last.strip("_")):
            return Value("kept", node)
        if words.INVENTED.search(last) or (owner and words.INVENTED.search(last_part(owner))):
            return Value("invented", node)
        if words.REPORTING.search(last):
            return Value("failure", node)
        return self._by_local_result(node, last, owner, env)

    def _maybe_empty(self, node: ast.Call, env: dict[str, Value]) -> Value:
        if not node.args:
            return Value("empty", node)
        inner = self.read(node.args[0], env)
        if isinstance(node.args[0], ast.Constant) and node.args[0].value in ("0", "0.0", "0.00"):
            return Value("empty", node)
        return Value(inner.sort, node)

    def _by_local_result(
        self, node: ast.Call, last: str, owner: str, env: dict[str, Value]
    ) -> Value:
        """A call of a function here is what that function returns; a class is what it is given."""
        callee = self.module.callee(node, self.function)
        if callee is not None and self.depth and not callee.tries:
            inner = Reader(self.module, callee, set(), self.depth - 1)
            sorts = {inner.read(each.value, {}).sort for each in callee.returns}
            if len(sorts) == 1:
                return Value(sorts.pop(), node)
        if owner and last in ("get", "values", "items", "copy", "keys", "pop", "setdefault"):
            base = self._named(owner, node, env)
            return Value(
                base.sort if base.sort in ("kept", "invented", "empty") else "unknown", node
            )
        if last[:1].isupper() and not last.isupper() and (node.args or node.keywords):
            return self._made(node, env)
        return self._given(node, env)

    def _given(self, node: ast.Call, env: dict[str, Value]) -> Value:
        """What a call that is not known here answers, by what it is given."""
        found = [(k.arg or "", k.value, self.read(k.value, env)) for k in node.keywords]
        found += [("", arg, self.read(arg, env)) for arg in node.args]
        told = any(self._tells_failure(key, value, arg) for key, arg, value in found)
        if any(value.sort == "error" for _, _, value in found):
            return Value("reported", node)
        for _, arg, value in found:
            is_rows = isinstance(arg, (ast.List, ast.Dict)) and value.sort in ("empty", "literal")
            if is_rows or value.sort in ("kept", "invented"):
                return Value("mixed_report" if told else value.sort, node)
        return Value("reported" if told else "unknown", node)

    def _made(self, node: ast.Call, env: dict[str, Value]) -> Value:
        """An object made of literals only is a literal; one told of the error reports it."""
        told, plain = False, True
        for keyword in node.keywords:
            found = self.read(keyword.value, env)
            told = told or self._tells_failure(keyword.arg or "", found, keyword.value)
            plain = plain and found.sort in ("empty", "none", "false", "literal", "true")
        for each in node.args:
            found = self.read(each, env)
            told = told or found.sort in ("error", "reported")
            plain = plain and found.sort in ("empty", "none", "false", "literal", "true")
        if told:
            return Value("reported", node)
        return Value("literal" if plain else "unknown", node)

    def _mentions_error(self, node: ast.AST) -> bool:
        return any(
            isinstance(each, ast.Name) and each.id in self.error_names
            for each in walk_expression(node)
        )

    # Conditions

    def truth(self, test: ast.expr, env: dict[str, Value]) -> bool | None:
        """The truth of a condition under known variables, None where it is open."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            inner = self.truth(test.operand, env)
            return None if inner is None else not inner
        if isinstance(test, ast.BoolOp):
            return self._truth_of_many(test, env)
        if isinstance(test, ast.Compare) and len(test.ops) == 1:
            return self._truth_of_comparison(test, env)
        if isinstance(test, ast.Constant):
            return bool(test.value)
        name = dotted(test)
        value = env.get(name) if name else None
        if value is None or value.is_falsy is None:
            return None
        return not value.is_falsy

    def _truth_of_many(self, test: ast.BoolOp, env: dict[str, Value]) -> bool | None:
        truths = [self.truth(each, env) for each in test.values]
        if isinstance(test.op, ast.Or):
            return True if True in truths else (None if None in truths else False)
        return False if False in truths else (None if None in truths else True)

    @staticmethod
    def _truth_of_comparison(test: ast.Compare, env: dict[str, Value]) -> bool | None:
        name = dotted(test.left)
        value = env.get(name) if name else None
        other = test.comparators[0]
        if value is None or not isinstance(other, ast.Constant):
            return None
        if other.value is None:
            if value.sort == "unknown":
                return None
            same = value.sort == "none"
        elif other.value is False:
            same = value.sort == "false"
        else:
            return None
        if isinstance(test.ops[0], (ast.Is, ast.Eq)):
            return same
        return not same if isinstance(test.ops[0], (ast.IsNot, ast.NotEq)) else None


def is_exit_code(function: Function, value: Value) -> bool:
    """True for the 1 of a function that answers 0 and 1 to its shell: that reports."""
    node = value.node
    if not isinstance(node, ast.Constant) or type(node.value) is not int or node.value <= 0:
        return False
    given = [each.value for each in function.returns]
    codes = [g.value for g in given if isinstance(g, ast.Constant) and type(g.value) is int]
    return 0 in codes and all(
        not isinstance(g, (ast.Dict, ast.List, ast.Tuple, ast.JoinedStr)) for g in given
    )


def status_of(node: ast.expr) -> int | None:
    """An HTTP status: `503`, `status.HTTP_503_SERVICE_UNAVAILABLE`, `HTTPStatus.OK`."""
    if isinstance(node, ast.Constant):
        value = node.value
        return value if isinstance(value, int) and not isinstance(value, bool) else None
    name = last_part(dotted(node))
    if name == "value" and isinstance(node, ast.Attribute):
        name = last_part(dotted(node.value))
    match = _STATUS.search(name)
    return int(match.group(1)) if match else _STATUS_WORDS.get(name)
