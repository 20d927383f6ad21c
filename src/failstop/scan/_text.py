"""The findings as a reader at a terminal takes them.

Lives here: rich, which the `cli` extra brings. Never here: a verdict.
"""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.markup import escape

from failstop.scan._engine import Report
from failstop.scan._finding import RULES, Finding

__all__ = ["as_text"]

_STYLES = {"high": "bold red", "medium": "yellow", "low": "dim"}


def as_text(findings: list[Finding], report: Report, took: float, *, is_plain: bool) -> str:
    """Every finding with its way, its why and its mend, then what was skipped and a sum.

    Args:
        findings: what is shown.
        report: what the scan gave besides.
        took: the scan's seconds.
        is_plain: without colours, for a file.
    """
    console = Console(soft_wrap=True, highlight=False, force_terminal=False if is_plain else None)
    with console.capture() as captured:
        for each in findings:
            _finding(console, each)
        for path, word in sorted(report.skipped):
            console.print(f"[dim]skipped {escape(path)}: {escape(word)}[/dim]")
        console.print(_sum(findings, report, took))
    return captured.get().rstrip("\n")


def _finding(console: Console, finding: Finding) -> None:
    style = _STYLES[finding.confidence.value]
    rule = RULES[finding.rule]
    place = f"[bold]{escape(finding.path)}:{finding.line}[/bold]"
    console.print(f"{place} [{style}]{finding.rule} {finding.confidence}[/{style}] {rule.title}")
    rows = {
        "what": finding.message,
        "way": " → ".join(finding.flow),
        "why": rule.why,
        "mend": rule.mend,
        "docs": rule.url,
    }
    for name, said in rows.items():
        console.print(f"    [dim]{name:<4}[/dim]  {escape(said)}")


def _sum(findings: list[Finding], report: Report, took: float) -> str:
    counts = Counter(each.rule for each in findings)
    rules = ", ".join(f"{rule} {count}" for rule, count in sorted(counts.items()))
    told = f"{_counted(len(findings), 'finding')} ({rules})" if findings else "no findings"
    known = f", {report.known} in the baseline" if report.known else ""
    allowed = f", {report.allowed} allowed by comment" if report.allowed else ""
    files, lines = _counted(report.files, "file"), _counted(report.lines, "line")
    return f"{told}{known}{allowed} in {files}, {lines}, {took:.1f} s"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
