"""`failstop journal`: the audit trail of a store, with the service running or dead."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

import click

from failstop import journal as books
from failstop.cli._segments import Segment, facts_of, segments_of, verify_file
from failstop.cli._store import PATH, explained, failed, print_json, print_lines
from failstop.errors import ConfigurationError
from failstop.journal import Row, StoreError, Verdict

__all__ = ["journal"]

IN_MEMORY = 16 * 1024 * 1024
"""Bytes of an export from which on it is gathered in a file."""
KEEP_IT = "keep this head where nobody who may write the store can write"
_STYLES = {"Tripped": "red", "Halted": "red", "AlertFailed": "red", "Reset": "green", "?": "red"}
_TOLD = ("event", "occurred_at", "seq", "prev", "service", "host", "pid")


def _hash(ctx: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    if not re.fullmatch("[0-9a-f]{64}", value.strip().lower()):
        raise click.BadParameter("a hash is 64 digits of 0-9 and a-f", ctx, option)
    return value.strip().lower()


@click.group("journal")
def journal() -> None:
    """Read, verify, export and seal the journal of a store."""


# Showing


@journal.command("show")
@click.argument("path", type=PATH)
@click.option("--last", type=click.IntRange(1), help="Only so many of the latest rows.")
@click.option("--after", type=click.IntRange(0), default=0, help="Only rows after this number.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line, with its hash.")
def show(path: Path, last: int | None, after: int, as_json: bool) -> None:
    """Show the rows, the oldest first; whether they are as they were written, `verify` says.

    Exit code 1: the file cannot be read.
    """
    with explained(path, as_json):
        found = books.rows(path, after=after, last=last)
    if not as_json:
        print_lines(map(_line, found))
    for row in found if as_json else ():
        click.echo(json.dumps({**facts_of(row), "seq": row.seq, "hash": row.hash}))


def _line(row: Row) -> tuple[str, str]:
    facts = facts_of(row)
    event, at = str(facts.get("event", "?")), str(facts.get("occurred_at", ""))
    told = (_told(name, value) for name, value in facts.items() if name not in _TOLD)
    line = f"{row.seq:>6}  {at[:23]:<23}  {event:<14}  {', '.join(filter(None, told))}"
    return line.rstrip(), _STYLES.get(event, "")


def _told(name: str, value: Any) -> str:
    """Return a fact in a few words; `--json` has it whole."""
    if isinstance(value, dict):
        return f"{name} {value.get('incident_id')} ({value.get('cause')})"
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        marks = (f"{each.get('name')} {_passed(each)}" for each in value)
        return f"{name} {', '.join(marks)}"
    return f"{name} {value}" if value not in (None, [], "") else ""


def _passed(result: dict[str, Any]) -> str:
    return "passed" if result.get("is_passed") is True else f"failed: {result.get('detail')}"


# Verifying


@journal.command("verify")
@click.argument("path", type=PATH)
@click.option("--head", callback=_hash, help="A hash that was kept elsewhere; it must be there.")
@click.option("--sealed-elsewhere", is_flag=True, help="Sealed rows need not be beside the store.")
@click.option("--export", "is_export", is_flag=True, help="PATH is an export or a sealed segment.")
@click.option("--previous", callback=_hash, help="With --export: the head of the segment before.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def verify(
    ctx: click.Context,
    path: Path,
    head: str | None,
    sealed_elsewhere: bool,
    is_export: bool,
    previous: str | None,
    as_json: bool,
) -> None:
    """Check every row, those in the sealed segments beside the store too.

    Exit code 1: a row was edited, deleted, moved or added, a segment is missing, or the head that
    was kept elsewhere is not there. An export must end with that head, a store must have it.
    """
    if is_export and sealed_elsewhere:
        raise click.UsageError("--sealed-elsewhere goes with a store")
    if previous is not None and not is_export:
        raise click.UsageError("--previous goes with --export")
    segments: list[Segment] = []
    with explained(path, as_json):
        if is_export:
            verdict, _ = verify_file(path, previous=previous, head=head)
        else:
            verdict, segments = _verify_store(path, head, sealed_elsewhere)
    _tell(verdict, segments, as_json)
    ctx.exit(0 if verdict.is_intact else 1)


def _verify_store(
    path: Path, head: str | None, sealed_elsewhere: bool
) -> tuple[Verdict, list[Segment]]:
    verdict = books.verify(path)
    segments = segments_of(path, verdict.first) if verdict.is_intact else []
    if head is not None and not any(head in segment.hashes for segment in segments):
        verdict = books.verify(path, head=head)
    problems = [problem for segment in segments for problem in segment.problems]
    absent = [each.file for each in segments if not (each.is_there or each.problems)]
    if absent and not sealed_elsewhere:
        problems.append(f"{absent[0]} is not beside the store; see --sealed-elsewhere")
    return replace(verdict, problems=(*verdict.problems, *problems)), segments


def _tell(verdict: Verdict, segments: list[Segment], as_json: bool, *, err: bool = False) -> None:
    if as_json:
        sealed = [_facts(segment) for segment in segments]
        print_json({"is_intact": verdict.is_intact, **asdict(verdict), "sealed": sealed}, err=err)
    else:
        print_lines(_lines(verdict, segments), err=err)


def _facts(segment: Segment) -> dict[str, Any]:
    names = ("file", "first", "last", "head", "is_there", "problems")
    return {name: getattr(segment, name) for name in names}


def _lines(verdict: Verdict, segments: list[Segment]) -> Iterator[tuple[str, str]]:
    if verdict.is_intact:
        yield f"intact: {verdict.rows} rows, {verdict.first} to {verdict.last}", "green"
    for segment in segments:
        where = "intact" if segment.is_there else "not here"
        if not segment.problems:
            yield f"sealed: rows {segment.first} to {segment.last} in {segment.file}, {where}", ""
    yield from ((f"broken: {problem}", "bold red") for problem in verdict.problems)
    if verdict.is_intact:
        yield f"head: {verdict.head}", ""
        yield KEEP_IT, "dim"


# Exporting and sealing


@journal.command("export")
@click.argument("path", type=PATH)
@click.option("--output", type=PATH, help="Write to this file, which must not exist.")
@click.option("--json", "as_json", is_flag=True, help="The verdict for machines too.")
@click.pass_context
def export(ctx: click.Context, path: Path, output: Path | None, as_json: bool) -> None:
    """Write the journal as JSON lines, each with its hash, and say whether it is intact.

    Sealed rows are in their segments in the same form. Without --output the lines go to standard
    output and the verdict to standard error. Exit code 1: the journal is not intact.
    """
    with SpooledTemporaryFile(IN_MEMORY, "w+", encoding="ascii") as draft:
        with explained(path, as_json):
            verdict = _export(path, draft)
        draft.seek(0)
        _copy(draft, output, as_json)
    _tell(verdict, [], as_json, err=output is None)
    ctx.exit(0 if verdict.is_intact else 1)


def _export(path: Path, draft: IO[str]) -> Verdict:
    try:
        return books.export(path, draft)
    except ConfigurationError:
        raise
    except (ValueError, TypeError, RecursionError):
        broken = "a row is no JSON any more, so nothing was exported; `journal verify` names it"
        raise StoreError(broken, kind="store_corrupt") from None


def _copy(draft: IO[str], output: Path | None, as_json: bool) -> None:
    """Write an export where it was asked for; what was begun and failed is no export."""
    name = "standard output" if output is None else repr(output.name)
    try:
        _write(draft, output)
    except BrokenPipeError:  # who reads it has enough; click ends the process for that
        raise
    except FileExistsError:
        sentence = f"{name} exists already; give the name of a new file"
        raise click.UsageError(sentence) from None
    except OSError as error:
        what = f"{name} cannot be written ({type(error).__name__})"
        raise failed(f"{what}; give another place", "output_failed", as_json) from error


def _write(draft: IO[str], output: Path | None) -> None:
    if output is None:
        shutil.copyfileobj(draft, sys.stdout)
        sys.stdout.flush()
        return
    with output.open("x", encoding="ascii") as stream:
        try:
            shutil.copyfileobj(draft, stream)
            stream.flush()
        except OSError:
            output.unlink()
            raise


@journal.command("seal")
@click.argument("path", type=PATH)
@click.option("--keep", type=click.IntRange(0), default=1000, show_default=True, help="Rows kept.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def seal(path: Path, keep: int, as_json: bool) -> None:
    """Move all but the latest rows into a file beside the store; the chain goes on over it.

    Exit code 1: the journal is not intact, so nothing was moved.
    """
    with explained(path, as_json):
        place = books.seal(path, keep=keep)
        verdict = verify_file(place)[0] if place else None
    if as_json:
        print_json({"file": place and place.name, **(asdict(verdict) if verdict else {})})
    elif place is None or verdict is None:
        click.echo("nothing to seal")
    else:
        click.echo(f"sealed: rows {verdict.first} to {verdict.last} into {place}")
        click.echo(f"head: {verdict.head}")
