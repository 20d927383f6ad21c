"""The command `failstop scan`: options in, findings out, an exit code that a pipeline can trust.

Lives here: click and rich, which the `cli` extra brings. Never here: a rule.

Exit codes: 0 clean, 1 findings, 2 wrong usage, 3 an unexpected error.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from failstop.errors import ConfigurationError
from failstop.scan import _reports
from failstop.scan._baseline import read_baseline, unknown_to, write_baseline
from failstop.scan._engine import Report, scan_paths
from failstop.scan._finding import RULES, Finding
from failstop.scan._settings import Settings, confidence_of, rules_of

__all__ = ["main", "scan"]

_FORMATS = ("text", "json", "sarif", "github")
_BAR_FROM = 300
_STYLES = {"high": "bold red", "medium": "yellow", "low": "dim"}


@click.command("scan")
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option("--format", "form", type=click.Choice(_FORMATS), default="text", help="Output form.")
@click.option("--output", type=click.Path(path_type=Path), help="Write to this file.")
@click.option(
    "--confidence", type=click.Choice(["high", "medium", "low"]), help="The least that is shown."
)
@click.option("--rule", "rules", multiple=True, help="Only these rules; may repeat.")
@click.option("--exclude", multiple=True, help="Leave out paths by pattern; may repeat.")
@click.option("--baseline", type=click.Path(path_type=Path), help="Findings that are known.")
@click.option("--write-baseline", type=click.Path(path_type=Path), help="Write all as known.")
@click.option("--cache", type=click.Path(path_type=Path), help="A directory for results.")
@click.option("--processes", type=click.IntRange(0), help="Processes; 0 for one a core.")
@click.option("--config", type=click.Path(path_type=Path), help="A pyproject.toml.")
@click.option("--fix", is_flag=True, help="Mend in place what can be mended safely.")
@click.pass_context
def scan(
    ctx: click.Context,
    paths: tuple[str, ...],
    form: str,
    output: Path | None,
    confidence: str | None,
    rules: tuple[str, ...],
    exclude: tuple[str, ...],
    baseline: Path | None,
    write_baseline: Path | None,
    cache: Path | None,
    processes: int | None,
    config: Path | None,
    fix: bool,
) -> None:
    """Find dangerous fallbacks in Python code, without running it.

    Exit codes: 0 clean, 1 findings, 2 wrong usage, 3 unexpected.
    """
    given = {
        "confidence": confidence and confidence_of(confidence),
        "exclude": exclude or None,
        "baseline": baseline,
        "cache": cache,
        "processes": processes,
    }
    try:
        settings = _settings(config, paths, rules).changed(**given)
        code = _run(paths, settings, form, output, write_baseline, fix=fix)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    ctx.exit(code)


def _settings(config: Path | None, paths: tuple[str, ...], rules: tuple[str, ...]) -> Settings:
    if config is not None:
        settings = Settings.read(config)
    else:
        first = Path(paths[0])
        settings = Settings.near(first if first.is_dir() else first.parent)
    return settings.changed(rules=rules_of(list(rules)) if rules else None)


def _run(
    paths: tuple[str, ...],
    settings: Settings,
    form: str,
    output: Path | None,
    baseline: Path | None,
    *,
    fix: bool,
) -> int:
    began = time.monotonic()
    report = _scanned(paths, settings)
    shown = [f for f in report.findings if f.confidence.rank >= settings.confidence.rank]
    if baseline is not None:
        write_baseline(baseline, shown)
        click.echo(f"{len(shown)} findings written to {baseline}", err=True)
        return 0
    if settings.baseline is not None:
        shown, report.known = unknown_to(read_baseline(settings.baseline), shown)
    if fix:
        shown = _fixed(shown)
    _put(_text(shown, report, form, time.monotonic() - began, to_file=output is not None), output)
    return 1 if shown else 0


def _scanned(paths: tuple[str, ...], settings: Settings) -> Report:
    """Scan, with a bar on a terminal where the tree is large."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return scan_paths(paths, settings)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("scanning", total=None, visible=False)

        def advance(done: int, total: int) -> None:
            if total >= _BAR_FROM and (done % 16 == 0 or done == total):
                progress.update(task, completed=done, total=total, visible=True)

        return scan_paths(paths, settings, progress=advance)


def _fixed(findings: list[Finding]) -> list[Finding]:
    """Mend what can be mended and give the findings that are left."""
    try:
        from failstop.scan._fix import fix_files
    except ImportError as error:
        raise ConfigurationError("--fix needs libcst: pip install 'failstop[scan]'") from error
    mended = fix_files(findings)
    click.echo(f"{len(mended)} findings mended", err=True)
    return [each for each in findings if each not in mended]


def _text(findings: list[Finding], report: Report, form: str, took: float, *, to_file: bool) -> str:
    if form == "json":
        return _reports.as_json(findings)
    if form == "sarif":
        return _reports.as_sarif(findings, version("failstop"))
    if form == "github":
        return _reports.as_github(findings)
    return _as_text(findings, report, took, to_file=to_file)


def _as_text(findings: list[Finding], report: Report, took: float, *, to_file: bool) -> str:
    """The findings as a reader at a terminal takes them."""
    console = Console(soft_wrap=True, highlight=False, no_color=True if to_file else None)
    with console.capture() as captured:
        for each in findings:
            _one(console, each)
        for path, word in report.skipped:
            console.print(f"[dim]skipped {escape(path)}: {escape(word)}[/dim]")
        console.print(_summary(findings, report, took))
    return captured.get().rstrip("\n")


def _one(console: Console, finding: Finding) -> None:
    style = _STYLES[finding.confidence.value]
    rule = RULES[finding.rule]
    place = f"[bold]{escape(finding.path)}:{finding.line}[/bold]"
    console.print(f"{place} [{style}]{finding.rule} {finding.confidence}[/{style}] {rule.title}")
    console.print(f"    {escape(' → '.join(finding.flow))}")
    console.print(f"    {escape(finding.message)}")
    console.print(f"    [dim]why [/dim] {escape(rule.why)}")
    console.print(f"    [dim]mend[/dim] {escape(rule.mend)}")
    console.print(f"    [dim]{rule.url}[/dim]")


def _summary(findings: list[Finding], report: Report, took: float) -> str:
    counts = Counter(each.rule for each in findings)
    each = ", ".join(f"{rule} {count}" for rule, count in sorted(counts.items()))
    told = f"{len(findings)} findings ({each})" if findings else "no findings"
    known = f", {report.known} in the baseline" if report.known else ""
    allowed = f", {report.allowed} allowed by comment" if report.allowed else ""
    scanned = f"{report.files} files, {report.lines} lines, {took:.1f} s"
    return f"{told}{known}{allowed} in {scanned}"


def _put(text: str, output: Path | None) -> None:
    if output is not None:
        output.write_text(text + "\n", "utf-8")
    elif text:
        click.echo(text)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and give its exit code: 0, 1, 2, 3 or 130."""
    try:
        code = scan.main(args=arguments, prog_name="failstop scan", standalone_mode=False)
        return int(code or 0)
    except click.exceptions.Exit as request:
        return request.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (click.exceptions.Abort, KeyboardInterrupt):
        return 130
    except Exception as error:  # noqa: BLE001 - the edge of the process: told, with its own code
        click.echo(f"failstop scan: unexpected {type(error).__name__}: {error}", file=sys.stderr)
        return 3
