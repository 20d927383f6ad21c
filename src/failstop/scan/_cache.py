"""Results by content: a file whose bytes were seen before is not parsed again.

Lives here: the cache file. Never here: what a result means. A broken cache is an empty cache: it
holds nothing that cannot be worked out again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import asdict
from functools import cache as remembered
from pathlib import Path
from typing import TYPE_CHECKING, Any

from failstop.errors import ConfigurationError
from failstop.scan._files import Source
from failstop.scan._finding import Confidence, Finding

if TYPE_CHECKING:
    from failstop.scan._engine import FileResult

__all__ = ["Cache"]

#: Results that are kept; the ones that were not used for longest go first.
_MOST = 200_000


@remembered
def _version() -> str:
    """The finder's own source and the running parser: another of either, another cache."""
    digest = hashlib.sha256(repr(sys.version_info[:3]).encode())
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:20]


class Cache:
    """Results in a file, keyed by a source's bytes and its path below the scanned root.

    Settings are no part of the key: a result holds all rules and all confidences.
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.known = _read(file) if file else {}
        self.fresh: dict[str, Any] = {}
        self._keys: dict[str, str] = {}

    @classmethod
    def open(cls, folder: Path | None) -> Cache:
        """The cache in a folder, made where it is missing; None gives one that keeps nothing.

        Raises:
            ConfigurationError: the folder cannot be made.
        """
        if folder is None:
            return cls(None)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"the cache {folder} cannot be made: {error}") from error
        return cls(folder / "scan.cache")

    def get(self, source: Source) -> FileResult | None:
        """The known result of a file, None where its bytes are new."""
        if self.file is None:
            return None
        key = self._keys[source.path] = _key(source)
        entry = self.known.get(key)
        if entry is None:
            return None
        self.fresh[key] = entry
        return _result(entry, source)

    def put(self, source: Source, result: FileResult) -> None:
        """Keep a file's result."""
        key = self._keys.get(source.path)
        if key:
            self.fresh[key] = _entry(result)

    def close(self) -> None:
        """Write what was seen in this scan, whole or not at all.

        Raises:
            ConfigurationError: the folder cannot be written to.
        """
        if self.file is None or self.fresh.keys() <= self.known.keys():
            return
        older = {key: entry for key, entry in self.known.items() if key not in self.fresh}
        body = json.dumps(dict(list({**older, **self.fresh}.items())[-_MOST:]))
        partial = self.file.with_suffix(f".{os.getpid()}.part")
        try:
            partial.write_text(f"{_version()} {_digest(body)}\n{body}", "utf-8")
            partial.replace(self.file)
        except OSError as error:
            raise ConfigurationError(f"the cache {self.file} cannot be written: {error}") from error


def _read(file: Path) -> dict[str, Any]:
    """What a cache file holds: nothing where another finder wrote it, or one byte is wrong."""
    try:
        head, _, body = file.read_text("utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return {}
    known: dict[str, Any] = json.loads(body) if head == f"{_version()} {_digest(body)}" else {}
    return known


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _key(source: Source) -> str:
    """The name of a file's content and place; empty where the file cannot be read."""
    try:
        digest = hashlib.sha256(Path(source.path).read_bytes())
    except OSError:
        return ""
    digest.update(b"\0" + source.below.encode())
    return digest.hexdigest()


def _entry(result: FileResult) -> dict[str, Any]:
    """A result without paths: the same bytes may be scanned from another directory."""
    facts = asdict(result)
    for each in (facts, *facts["findings"]):
        del each["path"]
    return facts


def _result(entry: dict[str, Any], source: Source) -> FileResult:
    from failstop.scan._engine import FileResult

    findings = tuple(_finding(each, source) for each in entry["findings"])
    return FileResult(**{**entry, "path": source.name, "findings": findings})


def _finding(entry: dict[str, Any], source: Source) -> Finding:
    facts = {**entry, "path": source.name, "flow": tuple(entry["flow"])}
    return Finding(**{**facts, "confidence": Confidence(entry["confidence"])})
