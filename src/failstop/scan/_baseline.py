"""The baseline: findings that are known and not shown again.

Lives here: its file. Never here: a finding's verdict. A finding is known by its path from the
baseline's directory, its rule and its fingerprint, never by its line: code above it may grow.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from failstop.errors import ConfigurationError
from failstop.scan._finding import Finding

__all__ = ["unknown_to", "write_baseline"]

_VERSION = 1
_Key = tuple[str, str, str]


def write_baseline(file: Path, findings: list[Finding]) -> None:
    """Write all findings as known, sorted: the file is made to be reviewed and committed.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    keys = sorted(_key(each, file) for each in findings)
    entries = [{"path": path, "rule": rule, "fingerprint": mark} for path, rule, mark in keys]
    text = json.dumps({"version": _VERSION, "findings": entries}, indent=1)
    try:
        file.write_text(text + "\n", "utf-8")
    except OSError as error:
        raise ConfigurationError(f"the baseline {file} cannot be written: {error}") from error


def unknown_to(file: Path, findings: list[Finding]) -> tuple[list[Finding], int]:
    """The findings that the baseline does not hold, and how many it held.

    Raises:
        ConfigurationError: the file is missing or is no baseline.
    """
    known = _read(file)
    fresh = [each for each in findings if _key(each, file) not in known]
    return fresh, len(findings) - len(fresh)


def _read(file: Path) -> set[_Key]:
    try:
        read = json.loads(file.read_text("utf-8"))
        version = read["version"]
        known = {(e["path"], e["rule"], e["fingerprint"]) for e in read["findings"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{file} is no baseline; write it with --write-baseline"
        ) from error
    if version != _VERSION:
        raise ConfigurationError(
            f"{file} is a baseline of another version; write it again with --write-baseline"
        )
    return known


def _key(finding: Finding, file: Path) -> _Key:
    """The same wherever the scan was started from, and whichever way the path was given."""
    folder = os.path.realpath(file.parent)
    path = os.path.relpath(os.path.realpath(finding.path), folder).replace(os.sep, "/")
    return path, finding.rule, finding.fingerprint
