"""`failstop alert`: does a human hear of it, before it matters."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from failstop import FailSafe
from failstop.alerts import Arrival
from failstop.cli._store import failed, print_json, print_lines
from failstop.errors import ConfigurationError, CriticalError
from failstop.status import SinkStatus

__all__ = ["alert"]

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group("alert")
def alert() -> None:
    """Rehearse the alerts of a service."""


@alert.command("test")
@click.argument("failsafe")
@click.option("--app-dir", type=_FOLDER, default=".", help="Where the code is, if not here.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def test(ctx: click.Context, failsafe: str, app_dir: Path, as_json: bool) -> None:
    """Send a marked test alert through every sink of FAILSAFE and say what arrived.

    FAILSAFE is where your code keeps it, such as service.app:failsafe. Its module is imported, so
    it must not serve when it is; the FailSafe is neither started nor tripped, and no database is
    asked. Exit code 1: an alert did not arrive, there is no sink, or the import failed.
    """
    found = _found(failsafe, app_dir.resolve(), as_json)
    with _quiet(), contextlib.closing(found):
        arrivals = found.test_alert()
        sinks = {status.name: status for status in found.status().sinks}
    if not arrivals:
        sentence = "this FailSafe has no sink, nobody would be woken; give it sinks="
        raise failed(sentence, "no_sink", as_json)
    pairs = [(arrival, sinks[arrival.sink]) for arrival in arrivals]
    if as_json:
        print_json([_facts(*pair) for pair in pairs])
    else:
        print_lines(_lines(pairs))
    ctx.exit(0 if all(arrival.is_arrived for arrival in arrivals) else 1)


def _quiet() -> contextlib.AbstractContextManager[object]:
    """Let what foreign code prints go to standard error: it is no answer of this command."""
    return contextlib.redirect_stdout(sys.stderr)


def _facts(arrival: Arrival, waiting: SinkStatus) -> dict[str, Any]:
    left = {"pending": waiting.pending, "oldest": waiting.oldest, "last_error": waiting.error}
    return {**asdict(arrival), "is_arrived": arrival.is_arrived, **left}


def _lines(pairs: list[tuple[Arrival, SinkStatus]]) -> Iterator[tuple[str, str]]:
    for arrival, waiting in pairs:
        outcome = f"did not arrive: {arrival.error}" if arrival.error else "arrived"
        style = "green" if arrival.is_arrived else "bold red"
        yield f"{arrival.sink}: {outcome} ({arrival.seconds:.2f} s)", style
        if waiting.pending != 0:
            yield f"  alerts that wait for it: {_waiting(waiting)}", "yellow"


def _waiting(status: SinkStatus) -> str:
    if status.pending is None:
        return f"unknown, {status.error}"
    error = f", last error {status.error}" if status.error else ""
    return f"{status.pending}, the oldest for {status.oldest or 0.0:.0f} s{error}"


# Finding it


def _found(place: str, app_dir: Path, as_json: bool) -> FailSafe:
    name, _, attribute = place.partition(":")
    if not (name and attribute):
        raise click.UsageError("write MODULE:NAME, such as service.app:failsafe")
    sys.path.insert(0, str(app_dir))
    module = _imported(name, as_json)
    try:
        found = attrgetter(attribute)(module)
    except AttributeError as missing:
        raise click.UsageError(f"module {name} has no {attribute}") from missing
    if not isinstance(found, FailSafe):
        raise click.UsageError(f"{place} is a {type(found).__name__}, no FailSafe")
    return found


def _imported(name: str, as_json: bool) -> ModuleType:
    """Import a module of the user's; what it raises is told by its class, as texts hold secrets."""
    try:
        with _quiet():
            return import_module(name)
    except (ConfigurationError, CriticalError) as error:
        why = str(error)
    except ModuleNotFoundError as missing:
        if missing.name and f"{name}.".startswith(f"{missing.name}."):
            sentence = f"there is no module {missing.name} here; give --app-dir"
            raise click.UsageError(sentence) from missing
        why = f"it needs the module {missing.name}, which is missing here"
    except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code, whatever it raises
        why = type(error).__name__
    mend = f"run it where `python -c 'import {name}'` works, with the environment of the service"
    raise failed(f"importing {name} failed: {why}; {mend}", "import_failed", as_json)
