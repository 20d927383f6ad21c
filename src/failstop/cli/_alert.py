"""`failstop alert test`: does a human hear of it, before it matters."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import click

from failstop import FailSafe

__all__ = ["alert"]


@click.group("alert")
def alert() -> None:
    """Rehearse the alerts of a service."""


@alert.command("test")
@click.argument("failsafe")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def test(ctx: click.Context, failsafe: str, as_json: bool) -> None:
    """Send a marked test alert through every sink of FAILSAFE and say what arrived.

    FAILSAFE is where your code keeps it, such as service.app:failsafe; it is imported from the
    current directory and not started. Exit code 1: an alert did not arrive, or there is no sink.
    """
    arrivals = _found(failsafe).test_alert()
    if as_json:
        click.echo(json.dumps([asdict(arrival) for arrival in arrivals], indent=2))
    for arrival in () if as_json else arrivals:
        outcome = f"did not arrive: {arrival.error}" if arrival.error else "arrived"
        click.echo(f"{arrival.sink}: {outcome} ({arrival.seconds:.2f} s)")
    if not arrivals:
        click.echo("this FailSafe has no sink: nobody would be woken", err=True)
    ctx.exit(0 if arrivals and all(arrival.is_arrived for arrival in arrivals) else 1)


def _found(place: str) -> FailSafe:
    module, _, name = place.partition(":")
    if not (module and name):
        raise click.UsageError("write MODULE:NAME, such as service.app:failsafe")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = attrgetter(name)(import_module(module))
    except ModuleNotFoundError as missing:
        if not missing.name or not f"{module}.".startswith(f"{missing.name}."):
            raise
        raise click.UsageError(f"there is no module {missing.name} here") from missing
    except AttributeError as missing:
        raise click.UsageError(f"module {module} has no {name}") from missing
    if not isinstance(found, FailSafe):
        raise click.UsageError(f"{place} is a {type(found).__name__}, no FailSafe")
    return found
