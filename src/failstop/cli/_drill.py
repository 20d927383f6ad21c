"""`failstop drill`: the proof test, shown as it happens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from failstop.drill import ActReport, DrillReport, Moment, Reconciliation

__all__ = ["drill", "show"]


@click.command("drill")
@click.option("--act", "acts", multiple=True, help="Only this fault; may repeat.")
@click.option(
    "--url",
    envvar="FAILSTOP_DRILL_URL",
    help="A database for staging, instead of a server of the drill's own; or FAILSTOP_DRILL_URL.",
)
@click.option(
    "--yes-this-is-staging",
    "is_staging",
    is_flag=True,
    help="Nobody trades on the database at --url.",
)
@click.option("--json", "as_json", is_flag=True, help="Only the report, for machines.")
@click.pass_context
def drill(
    ctx: click.Context, acts: tuple[str, ...], url: str | None, is_staging: bool, as_json: bool
) -> None:
    """Break a real PostgreSQL under a small trading API and check every promise.

    Needs no database: it brings its own server and removes it. Takes less than a minute.

    With --url it breaks the network to your own database for staging, and what a role may break
    that is no administrator; the other acts are left out and named. What it makes there has names
    of its own and is removed. Exit codes: 0 every promise was kept, 1 one broke, or the database
    does not answer, 2 wrong usage, 3 unexpected.
    """
    from failstop.drill import run_drill

    if is_staging != (url is not None):
        raise click.UsageError("--url and --yes-this-is-staging go together: orders are sent to it")
    console = Console(highlight=False, stderr=as_json, quiet=as_json)
    report = run_drill(_Timeline(console), acts, url=url)
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
    else:
        show(console, report)
    ctx.exit(0 if report.is_kept else 1)


class _Timeline:
    """Print each moment, with a rule where an act begins."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._act: str | None = None

    def __call__(self, moment: Moment) -> None:
        if moment.act is not None and moment.act != self._act:
            self._console.rule(f"[bold]{moment.act}", align="left", style="dim")
        self._act = moment.act
        style = "dim" if moment.act is None else ""
        self._console.print(f"[cyan]{moment.at:6.2f} s[/cyan]  ", end="")
        self._console.print(moment.text, style=style, markup=False, soft_wrap=True)


def show(console: Console, report: DrillReport) -> None:
    """Print what each fault came to, the books, and the verdict."""
    console.rule("[bold]what happened", align="left", style="dim")
    console.print(_acts(report.acts))
    console.print(_books(report.books), soft_wrap=True)
    for name, need in report.left_out.items():
        console.print(f"left out: {name}, which needs {need}", style="yellow", soft_wrap=True)
    for what in report.left_behind:
        console.print(f"left behind: {what}", style="yellow", markup=False, soft_wrap=True)
    facts = f"PostgreSQL {report.server_version}, {report.duration:.0f} s"
    if report.is_kept:
        console.print(f"[bold green]every promise was kept[/bold green] ({facts})")
        return
    for promise in report.broken:
        console.print(f"broken: {promise}", style="bold red", markup=False, soft_wrap=True)
    console.print(f"[bold red]{len(report.broken)} promises broke[/bold red] ({facts})")


def _acts(acts: list[ActReport]) -> Table:
    table = Table("fault", "tripped after", "pages", "answered meanwhile", "recovered after")
    for act in acts:
        trip, recovery = _seconds(act.trip_after), _seconds(act.recovered_after)
        if act.is_held:
            recovery += ", by a person"
        table.add_row(act.name, trip, str(act.pages), str(act.answers), recovery)
    return table


def _books(books: Reconciliation) -> str:
    answers = f"{books.accepted} answered 201, {books.refused} refused, {books.unknown} in doubt"
    kinds = ("lost", "duplicated", "invented", "contradicted", "unanswered")
    found = ", ".join(f"{len(getattr(books, kind))} {kind}" for kind in kinds)
    said = f"{books.sent} orders sent: {answers}\nagainst the table: {found}"
    if books.failed_over:
        said += (
            f"\n{len(books.failed_over)} more were answered 201 and are on the killed server only: "
            "the failover lost them"
        )
    return said


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f} s"
