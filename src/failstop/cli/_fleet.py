"""`failstop fleet`: every process that shares a database, and when it was last heard of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import click

from failstop.cli._database import connected, database_options
from failstop.cli._store import print_json, print_lines
from failstop.database import Process

__all__ = ["fleet"]

HEADS = ("service", "scope", "host", "pid", "version", "state", "epoch", "last heard")


@click.command("fleet")
@database_options
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def fleet(ctx: click.Context, url: str | None, deadline: float, as_json: bool) -> None:
    """Show every process of the fleet, as the database knows it.

    A process that died, hangs or does not reach the database is silent; it stays for a day. Exit
    code 1: one is silent, or there is none.
    """
    with connected(url, deadline) as database:
        found = database.processes()
    if as_json:
        print_json([{**asdict(each), "is_silent": each.is_silent} for each in found])
    else:
        print_lines(_lines(found))
    ctx.exit(1 if not found or any(each.is_silent for each in found) else 0)


def _lines(found: Sequence[Process]) -> Iterator[tuple[str, str]]:
    """Give each line with its style."""
    if not found:
        yield "no process is known here; one is when it was started and has probed once", ""
        return
    rows = [HEADS, *map(_cells, found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    styles = ["bold", *map(_style, found)]
    for row, style in zip(rows, styles, strict=True):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip(), style


def _cells(each: Process) -> tuple[str, ...]:
    heard = f"{each.age:.1f} s ago{', SILENT' if each.is_silent else ''}"
    place = (each.service, each.scope or "(all)", each.host, str(each.pid), each.version)
    return (*place, each.state, str(each.epoch), heard)


def _style(each: Process) -> str:
    if each.is_silent:
        return "yellow"
    return "" if each.state == "NORMAL" else "red"
