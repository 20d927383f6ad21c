"""The baseline: findings that are known and not shown again.

Lives here: its file. Never here: a finding's verdict.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from failstop.errors import ConfigurationError
from failstop.scan._finding import Finding

__all__ = ["read_baseline", "unknown_to", "write_baseline"]

_VERSION = 1


def write_baseline(file: Path, findings: list[Finding]) -> None:
    """Write all findings as known, sorted: the file is made to be reviewed and committed."""
    entries = [
        {"path": _plain(each.path), "rule": each.rule, "fingerprint": each.fingerprint}
        for each in findings
    ]
    entries.sort(key=lambda entry: (entry["path"], entry["rule"], entry["fingerprint"]))
    text = json.dumps({"version": _VERSION, "findings": entries}, indent=1)
    file.write_text(text + "\n", "utf-8")


def read_baseline(file: Path) -> Counter[tuple[str, str, str]]:
    """The known findings, by path, rule and fingerprint.

    Raises:
        ConfigurationError: the file is missing or is no baseline.
    """
    try:
        read = json.loads(file.read_text("utf-8"))
        if read["version"] != _VERSION:
            raise ConfigurationError(f"{file} is a baseline of another version; write it again")
        return Counter((e["path"], e["rule"], e["fingerprint"]) for e in read["findings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(
            f"{file} is no baseline; write it with --write-baseline"
        ) from error


def unknown_to(
    known: Counter[tuple[str, str, str]], findings: list[Finding]
) -> tuple[list[Finding], int]:
    """The findings that the baseline does not hold, and how many it held."""
    left = Counter(known)
    fresh: list[Finding] = []
    for each in findings:
        key = (_plain(each.path), each.rule, each.fingerprint)
        if left[key] > 0:
            left[key] -= 1
        else:
            fresh.append(each)
    return fresh, len(findings) - len(fresh)


def _plain(path: str) -> str:
    return path.replace("\\", "/")
