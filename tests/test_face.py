"""The house: imports go down the floors only, and the face is light, sorted and complete."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import failstop

ROOT = Path(failstop.__file__).parent

FLOORS = [
    ("counts", "errors", "events", "_fence", "_process", "_redaction", "_settings", "_watchdog"),
    ("_chain", "_latch", "_observers", "_scope", "_standing", "_storefile", "alerts", "diagnosis"),
    (
        "_action_log",
        "_attendance",
        "_commits",
        "_doorbell",
        "_evidence",
        "_history",
        "_in_doubt",
        "_store",
        "status",
    ),
    (
        "_actions",
        "_departure",
        "_failsafe",
        "_historian",
        "_keeper",
        "_reduction",
        "_refusals",
        "journal",
        "offline",
        "recovery",
    ),
    ("_boundary", "_gateway", "_response", "database", "schema"),
    ("", "web"),
    ("asgi", "wsgi", "flask", "fastapi", "prometheus", "testing", "scan"),
    ("drill",),
    ("cli",),
]
"""The modules and packages directly below `failstop`, the ground floor first; "" is the face."""


def modules() -> dict[str, Path]:
    """Return every module of the package by its full name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


@cache
def imports(name: str) -> frozenset[str]:
    """Return the modules of the package that one of them imports when it is imported.

    Not what only a type checker sees. What a function imports when it is called can make no
    circle, but goes down the floors like all else: see `late_imports`.
    """
    return frozenset(_imports(name, tree(name)))


@cache
def late_imports(name: str) -> frozenset[str]:
    """Return what the functions of a module import when they are called."""
    functions = [node for node in ast.walk(tree(name)) if isinstance(node, FUNCTIONS)]
    return frozenset(each for node in functions for each in _imports(name, node))


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _imports(name: str, block: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(block):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            yield from _named(str(node.module), [each.name for each in node.names])
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif not isinstance(node, FUNCTIONS):
            yield from _imports(name, node)


def _named(module: str, names: list[str]) -> Iterator[str]:
    """Return the modules among what is imported from one, and itself for what is none."""
    for name in names:
        full = f"{module}.{name}"
        if full in MODULES or module in MODULES:
            yield full if full in MODULES else module


def top(name: str) -> str:
    """Return the name directly below `failstop`, "" for the face."""
    return name.partition(".")[2].partition(".")[0]


def floor(name: str) -> int:
    return next((number for number, names in enumerate(FLOORS) if top(name) in names), -1)


def test_every_module_has_a_floor() -> None:
    known = {each for names in FLOORS for each in names}
    assert {top(name) for name in MODULES} - known == set(), "say on which floor it lives"


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down_only(name: str) -> None:
    above = {
        each
        for each in {*imports(name), *late_imports(name)}
        if floor(each) > floor(name) and top(each) != top(name)
    }
    assert above == set()


def test_no_imports_go_in_a_circle() -> None:
    graph = {name: set(imports(name)) - {name} for name in MODULES}
    while leaves := [name for name, wanted in graph.items() if not wanted & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert graph == {}


@pytest.mark.parametrize("name", [name for name in MODULES if floor(name) > floor("failstop")])
def test_what_stands_on_the_face_uses_no_machinery(name: str) -> None:
    """An underscored module belongs to its package; above the face nobody else touches it."""
    foreign = {
        each
        for each in {*imports(name), *late_imports(name)}
        if _is_private(each) and top(each) != top(name)
    }
    assert foreign == set()


def _is_private(name: str) -> bool:
    return any(part.startswith("_") for part in name.split("."))


def test_every_underscored_module_is_reached() -> None:
    """From the face, or from a module or a package that users import by its name."""
    reached: set[str] = set()
    waiting = [name for name in MODULES if not _is_private(name)]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [*imports(name), *late_imports(name)]
    machinery = {name for name in MODULES if top(name).startswith("_")}
    assert machinery - reached == set()


# The face


def test_the_face_is_sorted_and_complete() -> None:
    assert failstop.__all__ == sorted(failstop.__all__)
    assert len(set(failstop.__all__)) == len(failstop.__all__)
    for name in failstop.__all__:
        assert getattr(failstop, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        failstop.Nothing  # noqa: B018 - asking is the point


def run(code: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


HEAVY = {
    "aiohttp",
    "apprise",
    "click",
    "fastapi",
    "flask",
    "greenlet",
    "httpx",
    "jinja2",
    "pagerduty",
    "prometheus_client",
    "psutil",
    "pytest",
    "requests",
    "rich",
    "slack_sdk",
    "starlette",
    "uvicorn",
    "werkzeug",
}


def test_the_face_loads_no_framework_and_no_client() -> None:
    run(
        "import sys; before = set(sys.modules)\n"  # what measures the coverage loads greenlet
        f"import failstop; loaded = {HEAVY!r} & set(sys.modules) - before\n"
        "assert not loaded, loaded"
    )


def test_the_face_starts_no_thread() -> None:
    run("import threading, failstop; assert threading.active_count() == 1")


@pytest.mark.parametrize(
    ("module", "own", "foreign"),
    [
        ("asgi", set(), {"fastapi", "flask", "starlette", "werkzeug"}),
        ("wsgi", set(), {"fastapi", "flask", "starlette", "werkzeug"}),
        ("flask", {"flask"}, {"fastapi", "starlette"}),
        ("fastapi", {"fastapi"}, {"flask", "werkzeug"}),
        ("prometheus", {"prometheus_client"}, {"fastapi", "flask", "starlette", "werkzeug"}),
    ],
)
def test_an_adapter_loads_its_own_framework_only(
    module: str, own: set[str], foreign: set[str]
) -> None:
    run(
        f"import sys, failstop.{module}; assert {own!r} <= set(sys.modules); "
        f"loaded = {foreign!r} & set(sys.modules); assert not loaded, loaded"
    )


def test_the_face_needs_no_greenlet() -> None:
    """Only AsyncDatabase does, and says so when it is asked for."""
    run(
        "import sys; sys.modules['greenlet'] = None\n"
        "import failstop\n"
        "try: failstop.AsyncDatabase\n"
        "except ImportError as error: assert 'greenlet' in str(error)\n"
        "else: raise AssertionError('it was found')"
    )
