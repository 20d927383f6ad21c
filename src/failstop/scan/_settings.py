"""What a scan is told: `[tool.failstop.scan]` in pyproject.toml and the command line.

Lives here: reading and checking settings. Never here: what they do.
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from failstop.errors import ConfigurationError
from failstop.scan._finding import RULES, Confidence

__all__ = ["Settings", "confidence_of", "rules_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to scan and what to show.

    Args:
        rules: the rules that are looked for.
        confidence: the least confidence that is shown and that makes the exit code 1.
        exclude: glob patterns of paths, below the scanned root or as they are shown.
        baseline: a file of known findings, relative to pyproject.toml; None for none.
        cache: a directory for results by content; None for no cache.
        processes: how many processes; 0 for one a core. More than one needs a caller whose main
            module can be imported again, as `multiprocessing` says; the command takes 0.
    """

    rules: frozenset[str] = frozenset(RULES)
    confidence: Confidence = Confidence.MEDIUM
    exclude: tuple[str, ...] = ()
    baseline: Path | None = None
    cache: Path | None = None
    processes: int = 1

    def excludes(self, below: str) -> bool:
        """True where a pattern takes this path or one of its parents."""
        return any(
            fnmatch.fnmatch(below, pattern) or fnmatch.fnmatch(below, pattern.rstrip("/") + "/*")
            for pattern in self.exclude
        )

    def changed(self, **given: Any) -> Self:
        """These settings with what was given; None leaves a setting as it is."""
        return replace(self, **{key: value for key, value in given.items() if value is not None})

    @classmethod
    def near(cls, start: Path) -> Self:
        """The settings of the first pyproject.toml that names failstop, at or above a path.

        The defaults where there is none: a broken file of somebody else's project is not ours.

        Raises:
            ConfigurationError: the file or a setting in it is wrong.
        """
        here = start.resolve()
        for folder in (here, *here.parents):
            file = folder / "pyproject.toml"
            if file.is_file() and b"failstop" in file.read_bytes():
                return cls.read(file)
        return cls(processes=0)

    @classmethod
    def read(cls, file: Path) -> Self:
        """The settings of one pyproject.toml.

        Raises:
            ConfigurationError: the file or a setting in it is wrong.
        """
        try:
            read = tomllib.loads(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationError(f"{file} cannot be read: {error}") from error
        given: Any = read
        for name in ("tool", "failstop", "scan"):
            given = given.get(name, {})
            if not isinstance(given, dict):
                raise ConfigurationError(f"{file}: {name} is no table; write [tool.failstop.scan]")
        try:
            made = {key: _checked(key, value, file.parent) for key, value in given.items()}
            return cls(**{"processes": 0, **made})
        except ConfigurationError as error:
            raise ConfigurationError(f"{file}: [tool.failstop.scan] {error}") from error


def _checked(key: str, value: Any, folder: Path) -> Any:
    """One setting as `Settings` takes it."""
    checks: dict[str, Callable[[], Any]] = {
        "rules": lambda: rules_of(_texts(key, value)),
        "confidence": lambda: confidence_of(_text(key, value)),
        "exclude": lambda: tuple(_texts(key, value)),
        "baseline": lambda: folder / _text(key, value),
        "cache": lambda: folder / _text(key, value),
        "processes": lambda: _count(key, value),
    }
    if key not in checks:
        raise ConfigurationError(f"knows no {key!r}; it takes {', '.join(sorted(checks))}")
    return checks[key]()


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{key} is {value!r}; it is a text")
    return value


def _texts(key: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ConfigurationError(f"{key} is {value!r}; it is a list of texts")
    return [_text(key, each) for each in value]


def _count(key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigurationError(f"{key} is {value!r}; it is a whole number, 0 for one a core")
    return value


def rules_of(names: list[str]) -> frozenset[str]:
    """Rule names, checked.

    Raises:
        ConfigurationError: there is no such rule.
    """
    wrong = sorted(set(names) - set(RULES))
    if wrong:
        raise ConfigurationError(f"there is no rule {wrong[0]!r}; the rules are FS001 to FS012")
    return frozenset(names)


def confidence_of(name: str) -> Confidence:
    """A confidence by name, checked.

    Raises:
        ConfigurationError: it is none of high, medium and low.
    """
    try:
        return Confidence(name)
    except ValueError as error:
        raise ConfigurationError(f"confidence is {name!r}; it is high, medium or low") from error
