"""Results by content: a file whose bytes were seen before is not read again.

Lives here: the cache file. Never here: what a result means. A broken cache is an empty cache: it
holds nothing that cannot be worked out again.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from functools import cache as remembered
from pathlib import Path
from typing import TYPE_CHECKING, Any

from failstop.scan._files import Source
from failstop.scan._finding import Confidence, Finding

if TYPE_CHECKING:
    from failstop.scan._engine import FileResult

__all__ = ["Cache"]


@remembered
def _version() -> str:
    """A hash over the finder's own source: another finder, another cache."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:20]


class Cache:
    """A JSON file of results, keyed by path, size and time of change."""

    def __init__(self, file: Path | None, known: dict[str, Any]) -> None:
        self.file = file
        self.known = known
        self.fresh: dict[str, Any] = {}

    @classmethod
    def open(cls, folder: Path | None) -> Cache:
        """The cache in a folder, made where it is missing; None gives one that keeps nothing."""
        if folder is None:
            return cls(None, {})
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "scan.json"
        try:
            read = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError):
            read = {}
        same = isinstance(read, dict) and read.get("version") == _version()
        return cls(file, read["files"] if same else {})

    def get(self, source: Source) -> FileResult | None:
        """The known result of a file, None where it changed."""
        if self.file is None:
            return None
        entry = self.known.get(source.path)
        if not isinstance(entry, dict) or entry.get("stamp") != _stamp(source):
            return None
        self.fresh[source.path] = entry
        return _result(entry, source)

    def put(self, source: Source, result: FileResult) -> None:
        """Keep a file's result."""
        if self.file is not None:
            facts = asdict(result)
            facts["stamp"] = _stamp(source)
            self.fresh[source.path] = facts

    def close(self) -> None:
        """Write what was seen in this scan, whole or not at all."""
        if self.file is None:
            return
        text = json.dumps({"version": _version(), "files": {**self.known, **self.fresh}})
        partial = self.file.with_suffix(f".{os.getpid()}.part")
        partial.write_text(text, "utf-8")
        partial.replace(self.file)


def _stamp(source: Source) -> list[Any]:
    try:
        facts = Path(source.path).stat()
    except OSError:
        return []
    return [facts.st_size, facts.st_mtime_ns, source.name, source.below]


def _result(entry: dict[str, Any], source: Source) -> FileResult:
    from failstop.scan._engine import FileResult

    findings = tuple(
        Finding(
            **{**each, "confidence": Confidence(each["confidence"]), "flow": tuple(each["flow"])}
        )
        for each in entry["findings"]
    )
    return FileResult(source.name, findings, entry["skipped"], entry["lines"], entry["allowed"])
