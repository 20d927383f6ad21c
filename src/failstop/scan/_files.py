"""Which files a scan reads: discovery without following links in circles.

Lives here: the walk over directories. Never here: reading what the files say.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from failstop.errors import ConfigurationError
from failstop.scan._settings import Settings

__all__ = ["Found", "Source", "discover", "printable"]

_NEVER = frozenset(
    {
        ".eggs",
        ".git",
        ".hg",
        ".idea",
        ".mypy_cache",
        ".nox",
        ".pytest_cache",
        ".ruff_cache",
        ".svn",
        ".tox",
        ".venv",
        "__pycache__",
        "build",
        "dist",
        "node_modules",
        "venv",
    }
)
_SUFFIXES = (".py", ".pyw", ".ipynb")


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
    seen: set[Path] = set()
    for path in map(Path, paths):
        if path.is_dir():
            for file in _walk(path, settings, found):
                _add(found, seen, file, file.relative_to(path), settings)
        elif path.exists() or path.is_symlink():
            _add(found, seen, path, Path(path.name), settings)
        else:
            raise ConfigurationError(f"no such file or directory: {printable(path)}")
    return found


def printable(path: Path) -> str:
    """A path as any output can carry it: slashes, and bytes that are no UTF-8 as escapes."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def _add(found: Found, seen: set[Path], path: Path, below: Path, settings: Settings) -> None:
    real = Path(os.path.realpath(path))
    if real in seen or _is_excluded(path, below, settings):
        return
    seen.add(real)
    if path.suffix == ".ipynb":
        found.skipped.append((printable(path), "a notebook"))
    elif real.is_file():
        found.sources.append(Source(str(path), printable(path), printable(below)))
    else:
        found.skipped.append((printable(path), "not a regular file"))


def _walk(root: Path, settings: Settings, found: Found) -> Iterator[Path]:
    """Python files and notebooks below a root; a directory reached twice is walked once."""

    def told(error: OSError) -> None:
        word = f"unreadable ({type(error).__name__})"
        found.skipped.append((printable(Path(error.filename)), word))

    entered: set[str] = set()
    for name, names, files in os.walk(root, followlinks=True, onerror=told):
        folder, real = Path(name), os.path.realpath(name)
        is_environment = folder != root and "pyvenv.cfg" in files
        if real in entered or is_environment:
            names.clear()
            continue
        entered.add(real)
        names[:] = sorted(each for each in names if _is_entered(root, folder / each, settings))
        yield from (folder / file for file in sorted(files) if file.endswith(_SUFFIXES))


def _is_entered(root: Path, folder: Path, settings: Settings) -> bool:
    if folder.name in _NEVER or folder.suffix == ".egg-info":
        return False
    return not _is_excluded(folder, folder.relative_to(root), settings)


def _is_excluded(path: Path, below: Path, settings: Settings) -> bool:
    """By its path below the root, or as given: pre-commit names file by file."""
    return settings.excludes(printable(below)) or settings.excludes(printable(path))
