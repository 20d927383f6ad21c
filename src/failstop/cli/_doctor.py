"""`failstop doctor`: which settings of a database void a claim, before a service relies on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import click

from failstop.cli._database import connected, database_options
from failstop.database import Finding

__all__ = ["doctor"]


@click.command("doctor")
@database_options
@click.option("--no-receipts", is_flag=True, help="For a service that has receipts=False.")
@click.option("--no-fence", is_flag=True, help="For a service that has fence=False.")
@click.option(
    "--listen-url", envvar="DATABASE_LISTEN_URL", help="For a service that has listen_url=."
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def doctor(
    ctx: click.Context,
    url: str | None,
    deadline: float,
    no_receipts: bool,
    no_fence: bool,
    listen_url: str | None,
    as_json: bool,
) -> None:
    """Connect as a service would and name each setting that voids or weakens a claim.

    Changes nothing and shows neither URL nor password. Exit code 1: a setting is refused, or the
    database does not answer.
    """
    with connected(
        url, deadline, receipts=not no_receipts, fence=not no_fence, listen_url=listen_url
    ) as database:
        found = database.findings()
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        click.echo(_text(found))
    ctx.exit(1 if any(finding.is_refused for finding in found) else 0)


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
