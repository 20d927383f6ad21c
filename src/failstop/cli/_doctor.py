"""`failstop doctor`: which settings of a database void a claim, before a service relies on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from failstop import FailSafe
from failstop.database import Database, Finding
from failstop.errors import ConfigurationError

if TYPE_CHECKING:
    from failstop.database import AsyncDatabase

__all__ = ["doctor"]


@click.command("doctor")
@click.option("--url", envvar="DATABASE_URL", help="The database's URL; else DATABASE_URL.")
@click.option(
    "--deadline", type=float, default=5.0, show_default=True, help="Of a call, in seconds."
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def doctor(ctx: click.Context, url: str | None, deadline: float, as_json: bool) -> None:
    """Connect as a service would and name each setting that voids or weakens a claim.

    Changes nothing and shows neither URL nor password. Exit code 1: a setting is refused, or the
    database does not answer.
    """
    if not url:
        raise click.UsageError("no database URL: give --url or set DATABASE_URL")
    found = _examine(url, deadline)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        click.echo(_text(found))
    ctx.exit(1 if any(finding.is_refused for finding in found) else 0)


def _examine(url: str, deadline: float) -> tuple[Finding, ...]:
    failsafe = FailSafe("failstop-doctor")
    try:
        return _connect(url, failsafe, deadline).findings()
    except NoSuchModuleError:
        raise ConfigurationError(
            "the database URL names a kind or driver that SQLAlchemy does not know; "
            "begin it with postgresql+psycopg"
        ) from None
    finally:
        failsafe.close()


def _connect(url: str, failsafe: FailSafe, deadline: float) -> Database | AsyncDatabase:
    if not _is_async(url):
        return Database.connect(url, failsafe, deadline=deadline)
    from failstop.database import AsyncDatabase

    return AsyncDatabase.connect(url, failsafe, deadline=deadline)


def _is_async(url: str) -> bool:
    """Say whether the URL's driver is async; one that cannot be read is for `connect()` to tell."""
    try:
        return make_url(url).get_dialect().is_async
    except (ArgumentError, ValueError):
        return False


def _text(found: Sequence[Finding]) -> str:
    if not found:
        return "no setting voids or weakens a claim"
    paragraphs = [
        f"{finding.severity:7}  {finding.setting} ({finding.claim})\n"
        f"         {finding.cause}\n"
        f"         {finding.mend}"
        for finding in found
    ]
    return "\n".join(paragraphs)
