"""`failstop store`: what a store holds, with the service running or dead.

Lives here too: how whatever is wrong with a store's file is told. Never here: what is read.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from failstop import journal as books
from failstop.alerts import redact
from failstop.journal import StoreError, StoreReport

__all__ = [
    "PATH",
    "FailedError",
    "described",
    "explained",
    "failed",
    "print_json",
    "print_lines",
    "store",
]


class _Path(click.Path):
    """The path of a file; one that cannot be read is told of by who reads it."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, readable=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if "://" in str(value):  # the parts of it that errors would name may hold a password
            self.fail("this is a URL; give the path of a file", param, ctx)
        return super().convert(value, param, ctx)


PATH = _Path()

_MAY_NOT = "run this as the service's user, or on a copy of the file and of its -wal file"
_MENDS = {
    "store_locked": "wait a moment; if it stays locked, end the process that holds the lock",
    "store_read_only": _MAY_NOT,
    "store_unreachable": _MAY_NOT,
}
"""What whoever reads a store does, where that is not what its service would do."""


@click.group("store")
def store() -> None:
    """Look after the store of a service."""


@store.command("check")
@click.argument("path", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def check(ctx: click.Context, path: Path, as_json: bool) -> None:
    """Read a whole store and say what it holds; change nothing.

    Exit code 1: something is wrong with it, or it cannot be read.
    """
    with explained(path, as_json):
        report = books.check(path)
    if as_json:
        print_json({"is_sound": report.is_sound, **asdict(report)})
    else:
        print_lines(_lines(report))
    ctx.exit(0 if report.is_sound else 1)


def _lines(report: StoreReport) -> Iterator[tuple[str, str]]:
    """Give each line with its style."""
    incident = report.incident
    waiting = ", ".join(f"{count} for {_name(sink)}" for sink, count in report.waiting.items())
    yield f"store    {report.name} of {report.service}", ""
    yield f"state    {report.state.value}, epoch {report.epoch}", "" if incident is None else "red"
    yield f"incident {f'{incident.incident_id}: {incident.cause}' if incident else 'none'}", ""
    yield f"journal  {report.rows} rows, head {report.head}", ""
    yield f"alerts   {waiting or 'none'} waiting", ""
    yield f"in doubt {report.in_doubt or 'none'}", "red" if report.in_doubt else ""
    yield from ((f"broken: {problem}", "bold red") for problem in report.problems)
    yield from ((f"advice: {advice}", "yellow") for advice in report.advice)
    if report.is_sound:
        yield "sound", "green"


def _name(sink: str) -> str:
    return "whichever process starts next" if sink == "*" else sink


class FailedError(Exception):
    """What a command could not do, with its mend, its exit code, and more for machines."""

    def __init__(self, sentence: str, kind: str, code: int = 1, **facts: object) -> None:
        super().__init__(sentence)
        self.kind = kind
        self.code = code
        self.facts = facts

    def told(self, as_json: bool) -> click.exceptions.Exit:
        """Say it, on standard output where it is for machines; return the exit."""
        return failed(str(self), self.kind, as_json, self.code, **self.facts)


@contextlib.contextmanager
def explained(path: Path, as_json: bool) -> Iterator[None]:
    """Tell what is wrong with a file in one sentence that says the mend, and exit with 1."""
    try:
        with described(path, 1):
            yield
    except FailedError as error:
        raise error.told(as_json) from error


@contextlib.contextmanager
def described(path: Path, code: int) -> Iterator[None]:
    """Make whatever is wrong with a file a FailedError with that exit code."""
    try:
        yield
    except StoreError as error:
        raise FailedError(f"{error}; {_mend(error)}", error.kind, code) from error
    except FileNotFoundError:
        raise click.UsageError(f"there is no file {path.name!r}; give its path") from None
    except OSError as error:
        what = f"{path.name!r} cannot be opened ({type(error).__name__})"
        raise FailedError(f"{what}; {_MAY_NOT}", "store_unreachable", code) from error


def _mend(error: StoreError) -> str:
    if error.action == StoreError.action:  # it has none of its own
        return "keep the file as it is for the audit"
    return _MENDS.get(error.kind, error.action)


def failed(
    sentence: str, kind: str, as_json: bool, code: int = 1, **facts: object
) -> click.exceptions.Exit:
    """Say what went wrong, on standard output where it is for machines; return the exit."""
    if as_json:
        print_json({"error": redact(sentence), "kind": kind, **facts})
    else:
        click.echo(f"failstop: {redact(sentence)}", err=True)
    return click.exceptions.Exit(code)


def print_json(facts: object, *, err: bool = False) -> None:
    """Print facts as a JSON text over several lines."""
    click.echo(json.dumps(facts, indent=2, default=_plain), err=err)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_lines(lines: Iterator[tuple[str, str]], *, err: bool = False) -> None:
    """Print lines, each in its style, without what could be a secret or move the cursor."""
    console = Console(highlight=False, stderr=err)
    for line, style in lines:
        console.print(redact(line), style=style, markup=False, emoji=False, soft_wrap=True)
