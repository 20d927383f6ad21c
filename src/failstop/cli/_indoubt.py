"""`failstop indoubt`: transactions whose outcome nobody knows yet, and what is said of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from failstop import journal, offline
from failstop.cli._database import connected, database_options
from failstop.cli._reset import confirm
from failstop.cli._store import PATH, FailedError, described, print_json
from failstop.cli._target import UNKNOWN, json_option, telling
from failstop.errors import CriticalError, Outcome
from failstop.events import InDoubt
from failstop.status import timestamp

__all__ = ["indoubt"]

OUTCOMES = (Outcome.COMMITTED.value, Outcome.ROLLED_BACK.value)
SAID = "whoever waits for it is told by the next check round of the service"


@click.group("indoubt")
def indoubt() -> None:
    """Look after transactions whose outcome is not known yet."""


_STORE = click.option("--store", type=PATH, required=True, help="The store's file, on this host.")


@indoubt.command("list")
@_STORE
@json_option
def list_(store: Path, as_json: bool) -> None:
    """List what a store holds in doubt, with whole keys, the oldest first; change nothing.

    Exit codes: 0 done, also where nothing is in doubt, 2 wrong usage, 3 it cannot be read.
    """
    with telling(as_json):
        found = _read(store)
    if as_json:
        print_json([_facts(doubt) for doubt in found])
    else:
        click.echo("\n".join(_lines(found)) or "nothing is in doubt")


@indoubt.command("resolve")
@click.argument("key")
@_STORE
@click.option("--database", help="Its name in the service, where the key alone is not enough.")
@click.option("--outcome", type=click.Choice(OUTCOMES), help="What a person says became of it.")
@click.option("--actor", help="Who says it; with --outcome.")
@click.option("--reason", help="How that person knows; with --outcome.")
@click.option("--yes", is_flag=True, help="Do not ask whether it is meant.")
@database_options
@json_option
def resolve(
    key: str,
    store: Path,
    database: str | None,
    outcome: str | None,
    actor: str | None,
    reason: str | None,
    yes: bool,
    url: str | None,
    deadline: float,
    as_json: bool,
) -> None:
    """Ask the database what became of KEY, or, where nobody can ask any more, say it.

    Without --outcome the database is asked, at --url or DATABASE_URL: its answer is for good. With
    --outcome a person answers, with --actor and --reason, for a database that is gone; a wrong
    answer loses or doubles the work. Exit codes: 0 resolved, 1 it is not in doubt, or the database
    does not know, 2 wrong usage, 3 the store or the database cannot be asked.
    """
    if outcome is None:
        _require_none(actor=actor, reason=reason)
    elif not (actor and reason):
        raise click.UsageError("--outcome is a person's word: give --actor and --reason")
    with telling(as_json):
        doubt = _chosen(_read(store), key, database)
        if outcome is None:
            found = _asked(doubt, url, deadline)
        else:
            found = Outcome(outcome)
            confirm(f"Is {key} {found} for certain? Nobody asks again.", is_given=yes)
        told = _write(store, doubt, found, actor, reason)
    if as_json:
        print_json(told)
    else:
        click.echo(f"{doubt.key} of {doubt.database} is {found}; {SAID}")


def _require_none(**given: str | None) -> None:
    for name, value in given.items():
        if value is not None:
            raise click.UsageError(f"--{name} goes with --outcome; the database is asked without")


def _read(store: Path) -> tuple[InDoubt, ...]:
    with described(store, UNKNOWN):
        return journal.in_doubt(store)


def _chosen(found: tuple[InDoubt, ...], key: str, database: str | None) -> InDoubt:
    named = [each for each in found if each.key == key and database in (None, each.database)]
    if not named:
        raise FailedError("this key is not in doubt there; see failstop indoubt list", "not_found")
    if len(named) > 1:
        names = ", ".join(each.database for each in named)
        raise click.UsageError(f"the key is in doubt in {names}: give --database")
    return named[0]


def _asked(doubt: InDoubt, url: str | None, deadline: float) -> Outcome:
    """Ask the database, as a service would.

    Raises:
        FailedError: it cannot be asked, or does not know yet.
    """
    try:
        with connected(url, deadline, name=doubt.database) as database:
            outcome = database.resolve(doubt)
    except CriticalError as error:
        raise FailedError(str(error), error.kind, UNKNOWN) from error
    if outcome.value not in OUTCOMES:
        sentence = "the database cannot tell now; ask again, or look at what holds it"
        raise FailedError(sentence, "unknown")
    return outcome


def _write(
    store: Path, doubt: InDoubt, outcome: Outcome, actor: str | None, reason: str | None
) -> dict[str, Any]:
    with described(store, UNKNOWN):
        is_first = offline.resolve(store, doubt, outcome, actor=actor, reason=reason)
    if not is_first:
        raise FailedError("another process has resolved it just now", "not_found")
    return {**_facts(doubt), "outcome": outcome.value, "actor": actor, "note": SAID}


def _facts(doubt: InDoubt) -> dict[str, Any]:
    return {
        "key": doubt.key,
        "database": doubt.database,
        "since": timestamp(doubt.since),
        "backendPid": doubt.backend_pid,
    }


def _lines(found: tuple[InDoubt, ...]) -> Iterator[str]:
    for doubt in found:
        shown = replace(doubt, key=_printable(doubt.key), database=_printable(doubt.database))
        process = "unknown" if doubt.backend_pid is None else doubt.backend_pid
        since = timestamp(doubt.since)
        yield f"{shown.key}\n  of {shown.database} since {since}, server process {process}"


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)
