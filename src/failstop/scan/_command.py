"""The command `failstop scan`: options in, findings out, an exit code that a pipeline can trust.

Lives here: click, which the `cli` extra brings. Never here: a rule, or a form of output.

Exit codes: 0 clean, 1 findings, 2 wrong usage or settings, 3 an unexpected error, 130 interrupted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from failstop.errors import ConfigurationError
from failstop.scan import _reports
from failstop.scan._baseline import unknown_to, write_baseline
from failstop.scan._engine import Report, scan_paths
from failstop.scan._finding import Finding
from failstop.scan._settings import Settings, confidence_of, rules_of
from failstop.scan._text import as_text

__all__ = ["main", "scan"]

_BAR_FROM = 300
_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command("scan")
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "sarif", "github"]),
    default="text",
    show_default=True,
    help="The form of the output.",
)
@click.option("--output", type=_FILE, help="Write to this file.")
@click.option(
    "--confidence",
    type=click.Choice(["high", "medium", "low"]),
    help="The least that is shown and that counts.  [default: medium]",
)
@click.option("--rule", "rules", multiple=True, help="Only this rule; may repeat.")
@click.option("--exclude", multiple=True, help="Leave out paths by glob pattern; may repeat.")
@click.option("--baseline", type=_FILE, help="A file of findings that are known.")
@click.option("--write-baseline", type=_FILE, help="Write all that is found as known.")
@click.option("--cache", type=_FOLDER, help="A directory for results.")
@click.option("--processes", type=click.IntRange(0), help="Processes.  [default: one a core]")
@click.option("--config", type=_FILE, help="The pyproject.toml to read.")
@click.option("--fix", is_flag=True, help="Mend in place what can be mended safely.")
@click.pass_context
def scan(ctx: click.Context, /, **options: Any) -> None:
    """Find dangerous fallbacks in Python code, without running it.

    Settings come from [tool.failstop.scan] of the pyproject.toml at or above the first path.
    Exit codes: 0 clean, 1 findings, 2 wrong usage or settings, 3 unexpected, 130 interrupted.
    """
    try:
        code = _run(_Request(**options))
    except ConfigurationError as error:
        raise click.UsageError(str(error), ctx) from error
    ctx.exit(code)


@dataclass(frozen=True, slots=True)
class _Request:
    """What the command line said."""

    paths: tuple[str, ...]
    form: str
    output: Path | None
    confidence: str | None
    rules: tuple[str, ...]
    exclude: tuple[str, ...]
    baseline: Path | None
    write_baseline: Path | None
    cache: Path | None
    processes: int | None
    config: Path | None
    fix: bool

    def settings(self) -> Settings:
        """The settings of pyproject.toml, changed by what the command line said."""
        first = Path(self.paths[0])
        start = first if first.is_dir() else first.parent
        read = Settings.read(self.config) if self.config else Settings.near(start)
        return read.changed(
            rules=rules_of(list(self.rules)) if self.rules else None,
            confidence=confidence_of(self.confidence) if self.confidence else None,
            exclude=(*read.exclude, *self.exclude),
            baseline=self.baseline,
            cache=self.cache,
            processes=self.processes,
        )


def _run(request: _Request) -> int:
    """Scan, mend where asked, show: 1 where something is left to show."""
    began = time.monotonic()
    settings = request.settings()
    report = _scanned(request.paths, settings)
    shown = _shown(report, settings)
    if request.write_baseline is not None:
        write_baseline(request.write_baseline, shown)
        click.echo(f"{len(shown)} findings written to {request.write_baseline}", err=True)
        return 0
    if request.fix and _mend(_unknown(shown, report, settings)):
        report = _scanned(request.paths, settings)
        shown = _shown(report, settings)
    shown = _unknown(shown, report, settings)
    _put(_formed(request, shown, report, time.monotonic() - began), request.output)
    return 1 if shown else 0


def _shown(report: Report, settings: Settings) -> list[Finding]:
    return [each for each in report.findings if each.confidence.rank >= settings.confidence.rank]


def _unknown(shown: list[Finding], report: Report, settings: Settings) -> list[Finding]:
    """What the baseline does not hold."""
    if settings.baseline is None:
        return shown
    fresh, report.known = unknown_to(settings.baseline, shown)
    return fresh


def _scanned(paths: tuple[str, ...], settings: Settings) -> Report:
    """Scan, with a bar on a terminal where the tree is large."""
    if not sys.stderr.isatty():
        return scan_paths(paths, settings)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        return scan_paths(paths, settings, progress=_bar(progress))


def _bar(progress: Progress) -> Callable[[int, int], None]:
    task = progress.add_task("scanning", total=None, visible=False)

    def advance(done: int, total: int) -> None:
        if total >= _BAR_FROM:
            progress.update(task, completed=done, total=total, visible=True)

    return advance


def _mend(findings: list[Finding]) -> int:
    """Mend what can be mended safely; the number of places changed."""
    try:
        from failstop.scan._fixes import mend
    except ImportError as error:
        raise ConfigurationError("--fix needs libcst: pip install 'failstop[scan]'") from error
    mended = mend(findings)
    for path, word in mended.refused:
        click.echo(f"not mended {path}: {word}", err=True)
    click.echo(f"{mended.places} mended", err=True)
    return mended.places


def _formed(request: _Request, shown: list[Finding], report: Report, took: float) -> str:
    if request.form == "text":
        return as_text(shown, report, took, is_plain=request.output is not None)
    for path, word in sorted(report.skipped):
        click.echo(f"skipped {path}: {word}", err=True)
    if request.form == "sarif":
        return _reports.as_sarif(shown, report.skipped, version("failstop"))
    return _reports.as_json(shown) if request.form == "json" else _reports.as_github(shown)


def _put(text: str, output: Path | None) -> None:
    if output is None:
        encoding = sys.stdout.encoding or "utf-8"
        if text:
            click.echo(text.encode(encoding, "backslashreplace").decode(encoding))
        return
    try:
        output.write_text(text + "\n", "utf-8")
    except OSError as error:
        raise ConfigurationError(f"{output} cannot be written: {error}") from error


def main(arguments: list[str] | None = None) -> int:
    """Run the command and give its exit code: 0, 1, 2, 3 or 130."""
    try:
        code = scan.main(args=arguments, prog_name="failstop scan", standalone_mode=False)
        return int(code or 0)
    except click.ClickException as error:
        error.show()
        return 2
    except (click.exceptions.Abort, KeyboardInterrupt):
        return 130
    except Exception as error:  # noqa: BLE001 - the edge of the process: told, with its own code
        notes = "".join(f", {note}" for note in getattr(error, "__notes__", ()))
        click.echo(f"failstop scan: unexpected {type(error).__name__}{notes}", err=True)
        return 3
