"""`failstop explain`: what a SQLSTATE means to the service, without a server to ask."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import click

from failstop.diagnosis import Diagnosis, kinds, runbook
from failstop.diagnosis import explain as meaning_of

__all__ = ["explain"]


@click.command("explain")
@click.argument("sqlstate")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def explain(sqlstate: str, as_json: bool) -> None:
    """Say what a SQLSTATE such as 57P01, or a kind such as disk_full, means and what to do.

    Exit code 2: it is neither.
    """
    diagnosis = meaning_of(sqlstate)
    if diagnosis.kind == "unknown_sqlstate" and not re.fullmatch("[0-9A-Z]{5}", sqlstate):
        _point_to(sqlstate, as_json)
        return
    facts = {**asdict(diagnosis), "runbook": runbook(diagnosis.kind)}
    click.echo(json.dumps(facts, indent=2) if as_json else _text(sqlstate, diagnosis))


def _point_to(kind: str, as_json: bool) -> None:
    """Say where to read on about what is a kind, and no diagnosis of an exception."""
    if kind not in kinds():
        raise click.BadParameter("neither a SQLSTATE, five of 0-9 and A-Z, nor a known kind")
    facts = {"kind": kind, "runbook": runbook(kind)}
    click.echo(json.dumps(facts, indent=2) if as_json else f"{kind}: see {runbook(kind)}")


def _text(code: str, diagnosis: Diagnosis) -> str:
    trips = "trips the service" if diagnosis.verdict == "critical" else "trips nothing"
    lines = [
        f"{code}: {diagnosis.kind}",
        f"verdict  {diagnosis.verdict.value.upper()}, {trips}",
        f"code     {diagnosis.error_code.value if diagnosis.error_code else 'none'}",
        f"cause    {diagnosis.cause}",
        f"action   {diagnosis.action}",
        f"runbook  {runbook(diagnosis.kind)}",
    ]
    return "\n".join(lines)
