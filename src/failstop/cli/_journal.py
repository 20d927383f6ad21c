"""`failstop journal` and `failstop store`: the audit trail, with the service running or dead."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from failstop import journal as books
from failstop.journal import Row, StoreReport, Verdict

__all__ = ["journal", "store"]

STORE = click.Path(dir_okay=False, path_type=Path)


@click.group("journal")
def journal() -> None:
    """Read, verify, export and seal the journal of a store."""


@journal.command("show")
@click.argument("path", type=STORE)
@click.option("--last", type=click.IntRange(1), help="Only so many of the latest rows.")
@click.option("--after", type=click.IntRange(0), default=0, help="Only rows after this number.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line, with its hash.")
def show(path: Path, last: int | None, after: int, as_json: bool) -> None:
    """Show the rows, the oldest first."""
    for row in books.rows(path, after=after, last=last):
        click.echo(json.dumps({**row.facts, "hash": row.hash}) if as_json else _line(row))


@journal.command("verify")
@click.argument("path", type=STORE)
@click.option("--head", help="A hash that was kept elsewhere and must be in the journal.")
@click.option("--export", "is_export", is_flag=True, help="PATH is an export or a sealed segment.")
@click.option("--previous", help="With --export: the head of the segment before.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def verify(
    ctx: click.Context,
    path: Path,
    head: str | None,
    is_export: bool,
    previous: str | None,
    as_json: bool,
) -> None:
    """Check every row; exit code 1 where one was edited, deleted or moved."""
    if previous is not None and not is_export:
        raise click.UsageError("--previous goes with --export")
    if is_export:
        with click.open_file(str(path), encoding="ascii") as lines:
            verdict = books.verify_export(lines, previous=previous, head=head)
    else:
        verdict = books.verify(path, head=head)
    _tell(asdict(verdict), as_json, _verdict_text(verdict))
    ctx.exit(0 if verdict.is_intact else 1)


@journal.command("export")
@click.argument("path", type=STORE)
@click.option("--output", type=STORE, help="Write to this file, which must not exist.")
@click.pass_context
def export(ctx: click.Context, path: Path, output: Path | None) -> None:
    """Write the journal as JSON lines; its verdict goes to standard error."""
    if output is None:
        verdict = books.export(path, sys.stdout)
    elif output.exists():
        raise click.UsageError(f"{output.name} exists already; give the name of a new file")
    else:
        with output.open("w", encoding="ascii") as stream:
            verdict = books.export(path, stream)
    click.echo(_verdict_text(verdict), err=True)
    ctx.exit(0 if verdict.is_intact else 1)


@journal.command("seal")
@click.argument("path", type=STORE)
@click.option("--keep", type=click.IntRange(0), default=1000, show_default=True, help="Rows kept.")
def seal(path: Path, keep: int) -> None:
    """Move all but the latest rows into a file beside the store; the chain goes on over it."""
    sealed = books.seal(path, keep=keep)
    click.echo(f"sealed into {sealed}" if sealed else "nothing to seal")


@click.group("store")
def store() -> None:
    """Look after the store of a service."""


@store.command("check")
@click.argument("path", type=STORE)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def check(ctx: click.Context, path: Path, as_json: bool) -> None:
    """Read a whole store and say what it holds; exit code 1 where something is wrong with it."""
    report = books.check(path)
    _tell(asdict(report), as_json, _report_text(report))
    ctx.exit(0 if report.is_sound else 1)


def _tell(facts: dict[str, Any], as_json: bool, text: str) -> None:
    click.echo(json.dumps(facts, indent=2, default=str) if as_json else text)


def _line(row: Row) -> str:
    facts = row.facts
    event = facts.pop("event", "?")
    at = facts.pop("occurred_at", "")
    rest = {name: value for name, value in facts.items() if name not in ("seq", "prev")}
    return f"{row.seq:>6}  {at}  {event}  {json.dumps(rest)}"


def _verdict_text(verdict: Verdict) -> str:
    if verdict.problems:
        return "\n".join(f"broken: {problem}" for problem in verdict.problems)
    return f"intact: {verdict.rows} rows, {verdict.first} to {verdict.last}, head {verdict.head}"


def _report_text(report: StoreReport) -> str:
    incident = report.incident
    waiting = ", ".join(f"{count} for {sink}" for sink, count in report.waiting.items())
    lines = [
        f"store    {report.name} of {report.service}",
        f"state    {report.state.value}, epoch {report.epoch}",
        f"incident {f'{incident.incident_id}: {incident.cause}' if incident else 'none'}",
        f"journal  {report.rows} rows, head {report.head}",
        f"alerts   {waiting or 'none'} waiting",
        *(f"broken: {problem}" for problem in report.problems),
        *(f"advice: {advice}" for advice in report.advice),
    ]
    return "\n".join(lines)
