"""`failstop status` and `failstop watch`: how a service is, from itself or from its store."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from failstop.alerts import redact
from failstop.cli._store import FailedError, print_json, print_lines
from failstop.cli._target import Asked, Target, target_options, telling

__all__ = ["is_well", "report_lines", "status", "watch"]

WELL = "operational"
STYLES = {WELL: "bold green", "recovering": "bold yellow"}
MANY = 10
"""Transactions in doubt that are shown."""

Line = tuple[str, str]
"""A line with its style."""


@click.command("status")
@target_options
@click.pass_context
def status(
    ctx: click.Context, store: Path | None, url: str | None, timeout: float, as_json: bool
) -> None:
    """Say how a service is: by its own report (--url), or by its store alone (--store).

    Works on the store with the service and the database dead. A store alone is never operational
    unless the service has looked just now. Exit codes: 0 operational, 1 not operational, 2 wrong
    usage, 3 it cannot be read.
    """
    with telling(as_json):
        report = Asked(store, url, timeout).target().status()
    if as_json:
        print_json(report)
    else:
        print_lines(report_lines(report))
    ctx.exit(0 if is_well(report) else 1)


@click.command("watch")
@target_options
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    help="From one look to the next, in seconds.",
)
def watch(
    store: Path | None, url: str | None, timeout: float, as_json: bool, interval: float
) -> None:
    """Show how a service is until Ctrl-C, which ends it with exit code 0.

    With --json, or where the output is no terminal, each look is a line of its own. What cannot be
    read is shown as that, and looked at again. Exit code 2: wrong usage.
    """
    target = Asked(store, url, timeout).target()
    with contextlib.suppress(KeyboardInterrupt):
        if as_json or not sys.stdout.isatty():
            _write(target, interval, as_json)
        else:
            _draw(target, interval)


def _write(target: Target, interval: float, as_json: bool) -> None:
    for report in _looks(target, interval):
        mode = report.get("failSafeMode", {})
        words = (time.strftime("%H:%M:%S"), report["status"], mode.get("reason") or "")
        line = json.dumps(report) if as_json else redact(" ".join(words).strip())
        click.echo(line)
        sys.stdout.flush()


def _draw(target: Target, interval: float) -> None:
    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        for report in _looks(target, interval):
            lines = [Text(redact(line), style=style) for line, style in report_lines(report)]
            live.update(Text("\n").join(lines), refresh=True)


def _looks(target: Target, interval: float) -> Iterator[dict[str, Any]]:
    while True:
        try:
            report = target.status()
        except FailedError as error:
            report = {"status": "unknown", "message": redact(str(error)), "kind": error.kind}
        yield report
        time.sleep(interval)


# The report as lines


def is_well(report: dict[str, Any]) -> bool:
    """Say whether a report says so: anything else, or nothing, is not well."""
    safety = report.get("tradingSafety")
    is_safe = isinstance(safety, dict) and safety.get("safe") is True
    return report.get("status") == WELL and is_safe


def report_lines(report: dict[str, Any]) -> Iterator[Line]:
    """Give a report line by line, the gravest first."""
    mode = _part(report, "failSafeMode")
    word = str(report.get("status"))
    style = STYLES.get(word, "bold red") if word != WELL or is_well(report) else "bold red"
    yield f"{word.upper()}  {report.get('service') or ''}".rstrip(), style
    yield f"          {report.get('message') or ''}".rstrip(), ""
    if not mode:
        return
    yield f"state     {mode.get('state')}, epoch {mode.get('epoch')}", ""
    if mode.get("since"):
        yield f"since     {mode['since']}, incident {mode.get('incidentId')}", ""
    yield from _listed("why", _part(report, "tradingSafety").get("reasons"), "red")
    yield from _listed("next", report.get("recommendations"), "yellow", numbered=True)
    yield from _evidence(report)


def _evidence(report: dict[str, Any]) -> Iterator[Line]:
    for number, check in enumerate(_items(report, "checks")):
        is_passed = check.get("status") == "pass"
        said = f"{check.get('name')}: {check.get('status')}, {check.get('detail')}"
        age = _seconds(check.get("ageSeconds"))
        yield f"{'' if number else 'checks':9} {said} ({age} ago)", "" if is_passed else "red"
    doubts = _items(report, "inDoubt")
    for number, doubt in enumerate(doubts[:MANY]):
        said = f"{doubt.get('key')} of {doubt.get('database')} since {doubt.get('since')}"
        yield f"{'' if number else 'in doubt':9} {said}", "red"
    if len(doubts) > MANY:
        yield f"          and {len(doubts) - MANY} more; see failstop indoubt list", "red"
    yield _alerts(_part(report, "alerts"))
    observed = report.get("observedAt")
    seen = f"{observed}, {_seconds(report.get('ageSeconds'))} ago" if observed else "never"
    yield f"observed  {seen}", "" if observed else "yellow"


def _alerts(alerts: dict[str, Any]) -> Line:
    error = alerts.get("lastError")
    said = f"{alerts.get('pending')} wait" + (f", last error {error}" if error else "")
    return f"alerts    {said}", "yellow" if error or alerts.get("pending") else ""


def _listed(word: str, found: object, style: str, *, numbered: bool = False) -> Iterator[Line]:
    for number, sentence in enumerate(found if isinstance(found, list) else []):
        mark = f"{number + 1}. " if numbered else ""
        yield f"{'' if number else word:9} {mark}{sentence}", style


def _part(report: dict[str, Any], name: str) -> dict[str, Any]:
    found = report.get(name)
    return found if isinstance(found, dict) else {}


def _items(report: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = report.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _seconds(value: object) -> str:
    return f"{value:.1f} s" if isinstance(value, int | float) else "unknown"
