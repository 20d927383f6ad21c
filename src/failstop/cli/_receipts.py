"""`failstop receipts`: what becomes of receipts that are old."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import click

from failstop import journal
from failstop.cli._database import connected, database_options
from failstop.cli._store import PATH, explained
from failstop.database import Pruned
from failstop.events import InDoubt

__all__ = ["receipts"]

UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def _age(ctx: click.Context, param: click.Parameter, value: str) -> timedelta:
    """Read an age of a day or more, such as 90d, 36h or 2880m."""
    found = re.fullmatch(r"([0-9]{1,6})([mhd])", value)
    if found is None:
        raise click.BadParameter(
            "give a number and its unit, such as 90d, 36h or 2880m", ctx, param
        )
    age = timedelta(**{UNITS[found[2]]: int(found[1])})
    if age < timedelta(days=1):
        raise click.BadParameter(
            "younger receipts may still be asked for; give 1d or more", ctx, param
        )
    return age


@click.group("receipts")
def receipts() -> None:
    """Look after the receipts of a service."""


@receipts.command("prune")
@database_options
@click.option(
    "--older-than", required=True, metavar="AGE", callback=_age, help="The age, such as 90d or 36h."
)
@click.option(
    "--store", "stores", type=PATH, multiple=True, help="Spare what it holds in doubt; may repeat."
)
@click.option("--dry-run", is_flag=True, help="Count only.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def prune(
    url: str | None,
    deadline: float,
    older_than: timedelta,
    stores: Sequence[Path],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete old receipts under automatic keys; empty those under the service's own keys.

    A key of the service's own never takes effect twice, so its receipt stays, without its result.
    Give the store of every host of the service: what is in doubt there is spared. The role must be
    one that may delete. Exit code 1: the database failed; run it again.
    """
    doubts = [doubt for path in stores for doubt in _in_doubt(path, as_json)]
    with connected(url, deadline) as database:
        pruned = database.prune_receipts(
            older_than,
            spared={doubt.key for doubt in doubts},
            doubted_since=min((doubt.since for doubt in doubts), default=None),
            is_rehearsed=dry_run,
        )
    if as_json:
        told = {"is_rehearsed": dry_run, "in_doubt": len(doubts), **asdict(pruned)}
        click.echo(json.dumps(told, indent=2, default=str))
    else:
        click.echo(_text(pruned, len(doubts), is_rehearsed=dry_run))


def _in_doubt(path: Path, as_json: bool) -> tuple[InDoubt, ...]:
    with explained(path, as_json):
        return journal.in_doubt(path)


def _text(pruned: Pruned, doubted: int, *, is_rehearsed: bool) -> str:
    would = "would have " if is_rehearsed else ""
    spared = f"; {doubted} in doubt spared" if doubted else ""
    return (
        f"{would}deleted {pruned.deleted} receipts under automatic keys, emptied {pruned.emptied} "
        f"under the service's own, from before {pruned.before:%Y-%m-%d %H:%M:%S%z}{spared}"
    )
