"""The mends that `--fix` writes: edits that turn a silence into an error, and touch nothing else.

FS002: `except CriticalError: raise` before a handler that would swallow it.
FS003: a SQLite default of an environment variable taken away; a missing one is a KeyError.
All other rules need a decision that is no tool's: a deadline, a key, what a caller is told.

Lives here: libcst, which the `scan` extra brings. Never here: what a finding is.
"""

from __future__ import annotations

import ast
import os
import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

from failstop.scan import _source
from failstop.scan import _vocabulary as words
from failstop.scan._catching import catch_of
from failstop.scan._context import Attempt, Context
from failstop.scan._finding import Finding
from failstop.scan._model import Module

__all__ = ["Mended", "mend"]

_ERROR = "CriticalError"
_HOMES = ("failstop", "failstop.errors")


@dataclass(slots=True)
class Mended:
    """How many places were changed, and the files that were left as they are, with a word."""

    places: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)


class _Refused(Exception):  # noqa: N818 - no error of ours: a word about the file
    """A file that is not changed, and the word why."""


def mend(findings: list[Finding]) -> Mended:
    """Change the files of the findings in place, each whole or not at all."""
    by_path: dict[str, list[Finding]] = defaultdict(list)
    for each in findings:
        by_path[each.path].append(each)
    mended = Mended()
    for path, found in by_path.items():
        try:
            mended.places += _mend_file(Path(path), found)
        except _Refused as word:
            mended.refused.append((path, str(word)))
        except OSError as error:
            mended.refused.append((path, f"cannot be written ({type(error).__name__})"))
    return mended


def _mend_file(file: Path, findings: list[Finding]) -> int:
    data = file.read_bytes()
    text = _source.decode(data)
    places = _Places.of(text, file.name, {each.line: each.rule for each in findings})
    changed, count = _changed(data, places)
    if not count:
        return 0
    partial = file.with_name(f".{file.name}.{os.getpid()}.part")
    partial.write_bytes(changed)
    shutil.copymode(file, partial)
    partial.replace(file)
    return count


@dataclass(frozen=True, slots=True)
class _Places:
    """Where a file is changed, by line."""

    handlers: frozenset[int]
    """The handlers that get another before them."""
    defaults: frozenset[int]
    """The statements whose SQLite default goes."""
    error: str
    """The name of CriticalError in this module."""
    is_imported: bool

    @classmethod
    def of(cls, text: str, name: str, rules: dict[int, str]) -> _Places:
        """The places that are safe to change among the lines of findings.

        Raises:
            _Refused: one that would be safe cannot be changed in this module.
        """
        context = Context(Module(name, text, _source.parse(text, name)), name)
        swallowing = {each.line for each in context.attempts if _swallows_guarded(each)}
        handlers = frozenset(swallowing & rules.keys())
        defaults = frozenset(line for line, rule in rules.items() if rule == "FS003")
        known = _known_as(context.module.tree)
        if handlers and known is None and _binds(context.module.tree, _ERROR):
            raise _Refused(f"its {_ERROR} is not failstop's")
        return cls(handlers, defaults, known or _ERROR, is_imported=known is not None)


def _swallows_guarded(attempt: Attempt) -> bool:
    """True for a broad handler around calls that are guarded, all of them, that keeps the error."""
    handler, module = attempt.handler, attempt.context.module
    if handler is None or attempt.is_cleanup or module.uses(*words.UNGUARDED_PACKAGES):
        return False
    if catch_of(handler, module).reach != "broad":
        return False
    return any(touch.kind == "guarded" for touch in attempt.touches)


def _known_as(tree: ast.Module) -> str | None:
    """The name under which the module's top level imports CriticalError."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module in _HOMES and not node.level:
            for alias in node.names:
                if alias.name == _ERROR:
                    return alias.asname or alias.name
    return None


def _binds(tree: ast.Module, name: str) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.alias) and (node.asname or node.name) == name:
            return True
        if isinstance(node, ast.Name) and node.id == name:
            return True
        if isinstance(node, ast.ClassDef) and node.name == name:
            return True
    return False


def _changed(data: bytes, places: _Places) -> tuple[bytes, int]:
    """The bytes with the edits, and how many; encoding, newlines and all other text stay."""
    try:
        module = cst.parse_module(data)
    except (cst.ParserSyntaxError, UnicodeDecodeError, RecursionError) as error:
        raise _Refused(f"libcst cannot read it ({type(error).__name__})") from error
    if module.bytes != data:
        raise _Refused("libcst cannot write it back as it was")
    editor = _Editor(places)
    edited = MetadataWrapper(module, unsafe_skip_copy=True).visit(editor)
    if editor.raised and not places.is_imported:
        edited = _importing(edited)
    return edited.bytes, editor.raised + editor.bared


class _Editor(cst.CSTTransformer):
    """The two edits, at the places that were chosen before."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, places: _Places) -> None:
        super().__init__()
        self.places = places
        self.raised = 0
        self.bared = 0

    def _line(self, node: cst.CSTNode) -> int:
        return int(self.get_metadata(PositionProvider, node).start.line)

    def leave_Try(self, original_node: cst.Try, updated_node: cst.Try) -> cst.Try:  # noqa: N802 - libcst
        """Put `except CriticalError: raise` before the chosen handlers; `except*` is no `Try`."""
        handlers: list[cst.ExceptHandler] = []
        for was, now in zip(original_node.handlers, updated_node.handlers, strict=True):
            if self._line(was) in self.places.handlers:
                handlers.append(_reraising(self.places.error))
                self.raised += 1
            handlers.append(now)
        return updated_node.with_changes(handlers=handlers)

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:  # noqa: N802 - libcst
        """Take the SQLite default from `environ.get(NAME, default)` and `getenv(NAME, default)`."""
        if self._line(original_node) not in self.places.defaults:
            return updated_node
        environ = _environ_of(updated_node)
        if environ is None:
            return updated_node
        self.bared += 1
        name = cst.SubscriptElement(cst.Index(updated_node.args[0].value))
        return cst.Subscript(environ, [name], lpar=updated_node.lpar, rpar=updated_node.rpar)


def _reraising(error: str) -> cst.ExceptHandler:
    made = cst.parse_statement(f"try:\n    pass\nexcept {error}:\n    raise\n")
    return cst.ensure_type(made, cst.Try).handlers[0]


def _environ_of(call: cst.Call) -> cst.BaseExpression | None:
    """`os.environ` of a call that reads a variable with a SQLite default, else None."""
    if len(call.args) != 2 or any(arg.keyword or arg.star for arg in call.args):
        return None
    default = call.args[1].value
    if not isinstance(default, cst.SimpleString) or "sqlite" not in default.value[:12]:
        return None
    if not isinstance(call.func, cst.Attribute):
        return None
    owner, name = call.func.value, call.func.attr.value
    if name == "getenv" and isinstance(owner, cst.Name) and owner.value == "os":
        return cst.Attribute(owner, cst.Name("environ"))
    is_environ = isinstance(owner, (cst.Attribute, cst.Name)) and _last(owner) == "environ"
    return owner if name == "get" and is_environ else None


def _last(node: cst.Attribute | cst.Name) -> str:
    return node.attr.value if isinstance(node, cst.Attribute) else node.value


def _importing(module: cst.Module) -> cst.Module:
    """The module with CriticalError imported after its first import of failstop."""
    body = list(module.body)
    for index, statement in enumerate(body):
        if _imports_failstop(statement):
            body.insert(index + 1, cst.parse_statement(f"from failstop.errors import {_ERROR}"))
            return module.with_changes(body=body)
    raise _Refused("failstop is not imported at its top level")


def _imports_failstop(statement: cst.BaseStatement | cst.BaseSmallStatement) -> bool:
    if not isinstance(statement, cst.SimpleStatementLine):
        return False
    code = cst.Module([statement]).code.strip()
    return code.startswith(("import failstop", "from failstop"))
