"""`failstop schema`: failstop's own tables in a service's database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Sequence

import click

from failstop.cli._database import connected, database_options
from failstop.schema import schema_sql

__all__ = ["schema"]


@click.group("schema")
def schema() -> None:
    """Look after failstop's own tables in a service's database."""


@schema.command("apply")
@database_options
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def apply(url: str | None, deadline: float, as_json: bool) -> None:
    """Create the tables and columns that are missing; change nothing that exists.

    The role must be one that may create them. Exit code 1: the database does not answer, or
    refuses.
    """
    with connected(url, deadline) as database:
        created = database.create_schema()
        made = asyncio.run(created) if isinstance(created, Coroutine) else created
    _tell("created", made, "nothing was missing", as_json)


@schema.command("sql")
@click.option("--role", help="The service's role: grant it the least rights that it needs.")
@click.option(
    "--dialect",
    type=click.Choice(["postgresql", "sqlite"]),
    default="postgresql",
    show_default=True,
    help="The kind of database.",
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def sql(role: str | None, dialect: str, as_json: bool) -> None:
    """Print the statements that create the tables where they are missing; connect nowhere.

    Exit code 2: wrong usage.
    """
    statements = schema_sql(role, dialect=dialect)
    if as_json:
        click.echo(json.dumps({"sql": statements}, indent=2))
    else:
        click.echo(statements, nl=False)


@schema.command("check")
@database_options
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def check(ctx: click.Context, url: str | None, deadline: float, as_json: bool) -> None:
    """Name the tables and columns that are missing; change nothing.

    Exit code 1: something is missing, or the database does not answer.
    """
    with connected(url, deadline) as database:
        absent = database.missing_schema()
    _tell("missing", absent, "nothing is missing", as_json)
    ctx.exit(1 if absent else 0)


def _tell(word: str, names: Sequence[str], otherwise: str, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({word: names}, indent=2))
    else:
        click.echo("\n".join(f"{word} {name}" for name in names) or otherwise)
