"""What a scan is told: `[tool.failstop.scan]` in pyproject.toml and the command line.

Lives here: reading and checking settings. Never here: what they do.
"""

from __future__ import annotations

import fnmatch
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from failstop.errors import ConfigurationError
from failstop.scan._finding import RULES, Confidence

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to scan and what to show.

    Args:
        rules: the rules that are looked for.
        confidence: the least confidence that is shown and that makes the exit code 1.
        exclude: glob patterns of paths below the scanned root.
        baseline: a file of known findings, relative to pyproject.toml; None for none.
        cache: a directory for results by content; None for no cache.
        processes: how many processes; 0 for one a core.
    """

    rules: frozenset[str] = frozenset(RULES)
    confidence: Confidence = Confidence.MEDIUM
    exclude: tuple[str, ...] = ()
    baseline: Path | None = None
    cache: Path | None = None
    processes: int = 0

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
        """The settings of the first pyproject.toml at or above a path, else the defaults.

        Raises:
            ConfigurationError: the file or a setting in it is wrong.
        """
        here = start.resolve()
        for folder in (here, *here.parents):
            file = folder / "pyproject.toml"
            if file.is_file():
                return cls.read(file)
        return cls()

    @classmethod
    def read(cls, file: Path) -> Self:
        """The settings of one pyproject.toml.

        Raises:
            ConfigurationError: the file or a setting in it is wrong.
        """
        try:
            table = tomllib.loads(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationError(f"{file} cannot be read: {error}") from error
        given = table.get("tool", {}).get("failstop", {}).get("scan", {})
        if not isinstance(given, dict):
            raise ConfigurationError(f"{file}: [tool.failstop.scan] is no table")
        return cls(**_checked(given, file))


def _checked(given: dict[str, Any], file: Path) -> dict[str, Any]:
    known = {field.name for field in fields(Settings)}
    wrong = sorted(set(given) - known)
    if wrong:
        raise ConfigurationError(
            f"{file}: [tool.failstop.scan] knows no {wrong[0]!r}; it takes {', '.join(sorted(known))}"
        )
    made: dict[str, Any] = dict(given)
    if "rules" in given:
        made["rules"] = rules_of(given["rules"])
    if "confidence" in given:
        made["confidence"] = confidence_of(given["confidence"])
    if "exclude" in given:
        made["exclude"] = tuple(str(each) for each in given["exclude"])
    for key in ("baseline", "cache"):
        if key in given:
            made[key] = file.parent / str(given[key])
    return made


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
