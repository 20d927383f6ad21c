"""Which files a scan reads: discovery without following links in circles.

Lives here: the walk over directories. Never here: reading what the files say.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from failstop.errors import ConfigurationError
from failstop.scan._settings import Settings

__all__ = ["Found", "Source", "discover"]

_NEVER = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        "__pycache__",
        ".tox",
        ".nox",
        ".venv",
        "venv",
        "env",
        "node_modules",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".eggs",
        "build",
        "dist",
        ".idea",
    }
)


@dataclass(frozen=True, slots=True)
class Source:
    """A file to scan: where it is, how it is shown, and its path below the scanned root."""

    path: str
    name: str
    below: str


@dataclass(slots=True)
class Found:
    """The files to scan, and those left out with a word."""

    sources: list[Source] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def discover(paths: list[str], settings: Settings) -> Found:
    """The Python files at and below the paths, each once, sorted within a directory.

    Raises:
        ConfigurationError: a path does not exist.
    """
    found = Found()
    seen: set[str] = set()
    for path in paths:
        if os.path.isdir(path):
            for file in _walk(path, settings):
                _add(found, seen, file, os.path.relpath(file, path), settings)
        elif os.path.exists(path):
            _add(found, seen, path, os.path.basename(path), settings)
        else:
            raise ConfigurationError(f"no such file or directory: {path}")
    return found


def _add(found: Found, seen: set[str], path: str, below: str, settings: Settings) -> None:
    real = os.path.realpath(path)
    if real in seen or settings.excludes(below.replace(os.sep, "/")):
        return
    seen.add(real)
    name = os.path.normpath(path)
    if path.endswith(".ipynb"):
        found.skipped.append((name, "a notebook"))
    elif os.path.isfile(real):
        found.sources.append(Source(path, name, below.replace(os.sep, "/")))
    else:
        found.skipped.append((name, "not a regular file"))


def _walk(root: str, settings: Settings) -> Iterator[str]:
    """Python files and notebooks below a root; a directory reached twice is walked once."""
    entered: set[str] = set()
    for folder, names, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in entered:
            names.clear()
            continue
        entered.add(real)
        names[:] = sorted(n for n in names if n not in _NEVER and not n.endswith(".egg-info"))
        below = os.path.relpath(folder, root)
        names[:] = [n for n in names if not settings.excludes(_join(below, n))]
        for file in sorted(files):
            if fnmatch.fnmatch(file, "*.py") or file.endswith((".pyw", ".ipynb")):
                yield os.path.join(folder, file)


def _join(below: str, name: str) -> str:
    return name if below == os.curdir else f"{below}/{name}".replace(os.sep, "/")
