"""From paths to findings: one source, one file, a whole tree; in parallel and cached.

Lives here: the order of the steps and the precedence of rules. Never here: a rule, or output.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path

from failstop.scan import _source
from failstop.scan._allow import without_allowed
from failstop.scan._cache import Cache
from failstop.scan._context import Context
from failstop.scan._files import Source, discover
from failstop.scan._finding import PRECEDENCE, Confidence, Finding
from failstop.scan._model import Module
from failstop.scan._settings import Settings
from failstop.scan.rules import FINDERS

__all__ = ["FileResult", "Report", "scan_paths", "scan_source"]

_PARALLEL_FROM = 60
_SHARE = 16
"""Files that a worker is given at a time."""
_RANK = {rule: index for index, rule in enumerate(PRECEDENCE)}


@dataclass(frozen=True, slots=True)
class FileResult:
    """What one file gave: findings, or the word why it was skipped."""

    path: str
    findings: tuple[Finding, ...] = ()
    skipped: str = ""
    lines: int = 0
    allowed: int = 0


@dataclass(slots=True)
class Report:
    """What a scan gave, sorted by path and line."""

    findings: list[Finding] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    files: int = 0
    lines: int = 0
    allowed: int = 0
    known: int = 0

    def add(self, result: FileResult) -> None:
        """Take one file's result in."""
        self.files += 1
        self.lines += result.lines
        self.allowed += result.allowed
        self.findings.extend(result.findings)
        if result.skipped:
            self.skipped.append((result.path, result.skipped))


def scan_source(
    text: str, name: str = "<source>", *, root_name: str | None = None
) -> list[Finding]:
    """The findings of one source text, all confidences, sorted by line.

    Args:
        text: the source of a module.
        name: the path that the findings carry.
        root_name: the path below the scanned root, which says whether this is test code.

    Raises:
        Skipped: the text is not Python.
    """
    findings, _ = _scan_text(text, name, root_name or name)
    return findings


def _scan_text(text: str, name: str, root_name: str) -> tuple[list[Finding], int]:
    module = Module(name, text, _source.parse(text, name))
    context = Context(module, root_name)
    found = [each for finder in FINDERS.values() for each in finder(context)]
    kept = _first_by_precedence(found)
    return without_allowed(_named(kept, text, name), text)


def _first_by_precedence(findings: list[Finding]) -> list[Finding]:
    """One finding a place: the first in the order of precedence, shown ones before hidden ones."""
    best: dict[int, Finding] = {}
    for each in findings:
        other = best.get(each.line)
        if other is None or _order(each) < _order(other):
            best[each.line] = each
    return sorted(best.values(), key=lambda each: (each.line, each.rule))


def _order(finding: Finding) -> tuple[int, int]:
    """The precedence decides; a finding that is hidden by default never hides one that is shown."""
    return int(finding.confidence is Confidence.LOW), _RANK[finding.rule]


def _named(findings: list[Finding], text: str, name: str) -> list[Finding]:
    lines = text.split("\n")
    seen: dict[tuple[str, str, str], int] = {}
    named = []
    for each in findings:
        code = lines[each.line - 1] if each.line <= len(lines) else ""
        key = (each.rule, each.symbol, code.strip())
        seen[key] = seen.get(key, 0) + 1
        mark = _source.fingerprint(each.rule, each.symbol, code, seen[key])
        named.append(replace(each, path=name, fingerprint=mark))
    return named


def scan_file(source: Source, root: str = "") -> FileResult:
    """The result of one file; whatever is wrong with it becomes a word, never a traceback."""
    try:
        data = Path(source.path).read_bytes()
    except OSError as error:
        return FileResult(source.name, skipped=f"unreadable ({type(error).__name__})")
    with _collector_at_rest():
        return scan_bytes(data, source)


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Spare the collector from walking a tree again and again that lives until the end anyway."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def scan_bytes(data: bytes, source: Source) -> FileResult:
    """The result of one file's bytes."""
    lines = data.count(b"\n") + 1
    try:
        text = _source.decode(data)
        if not _source.can_matter(data):
            _source.parse(text, source.name)  # for its word: wrong syntax is told of every file
            return FileResult(source.name, lines=lines)
        findings, allowed = _scan_text(text, source.name, source.below)
    except _source.Skipped as word:
        return FileResult(source.name, skipped=str(word), lines=lines)
    except RecursionError:
        return FileResult(source.name, skipped="nested too deeply", lines=lines)
    except Exception as error:
        error.add_note(f"while reading {source.name}")
        raise
    return FileResult(source.name, tuple(findings), lines=lines, allowed=allowed)


def scan_paths(
    paths: Iterable[str | os.PathLike[str]],
    settings: Settings | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """The findings of all Python files below the paths, all confidences.

    Args:
        paths: files and directories.
        settings: what to leave out, how many processes, the cache; the defaults where None.
        progress: called with files done and files in all.

    Raises:
        ConfigurationError: a path does not exist.
    """
    chosen = settings or Settings()
    found = discover([os.fspath(path) for path in paths], chosen)
    report = Report(skipped=list(found.skipped))
    cache = Cache.open(chosen.cache)
    for done, result in enumerate(_results(found.sources, chosen, cache), 1):
        report.add(result)
        if progress is not None:
            progress(done, len(found.sources))
    cache.close()
    report.findings = sorted(
        (each for each in report.findings if each.rule in chosen.rules),
        key=lambda each: (each.path, each.line, each.rule),
    )
    return report


def _results(sources: list[Source], settings: Settings, cache: Cache) -> Iterator[FileResult]:
    """One result a file: from the cache where the bytes are known, else worked out."""
    fresh: list[Source] = []
    for source in sources:
        known = cache.get(source)
        if known is None:
            fresh.append(source)
        else:
            yield known
    for source, result in zip(fresh, _worked(fresh, settings), strict=True):
        cache.put(source, result)
        yield result


def _worked(sources: list[Source], settings: Settings) -> Iterator[FileResult]:
    workers = settings.processes or os.cpu_count() or 1
    if workers == 1 or len(sources) < _PARALLEL_FROM:
        yield from map(scan_file, sources)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _follow_parent) as pool:
        others = set(active_children())
        with _interrupts_held():  # the workers start here, and inherit it
            shares = [
                pool.submit(_scan_files, sources[first : first + _SHARE])
                for first in range(0, len(sources), _SHARE)
            ]
        try:
            for share in shares:
                yield from share.result()
        except BaseException:  # whoever interrupts does not wait for what is under way
            for worker in set(active_children()) - others:
                worker.terminate()
            raise


def _scan_files(sources: list[Source]) -> list[FileResult]:
    return [scan_file(source) for source in sources]


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let an interrupt wait: it is the command's to tell, and its workers' never."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _follow_parent() -> None:
    """End a worker when its parent has ended, however it did.

    A second interrupt takes the parent out of its wait for the workers; they hold both ends of
    the pipe that they read from, so without this they would wait for work for ever.
    """
    parent = parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
