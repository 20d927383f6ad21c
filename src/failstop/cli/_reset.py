"""`failstop halt`, `plan` and `reset`: what a person does to a service, on its store or over HTTP.

Never here: what is done, and how a target is reached.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from failstop.alerts import redact
from failstop.cli._store import print_json, print_lines
from failstop.cli._target import Asked, Target, admin_options, telling

__all__ = ["confirm", "halt", "person_options", "plan", "reset"]

Line = tuple[str, str]


def person_options(command: Any) -> Any:
    """Give a command the options that say who acts, and why."""
    reason = click.option("--reason", required=True, help="Why; the journal and alerts tell it.")
    actor = click.option("--actor", required=True, help="Who does it; the journal tells it.")
    return actor(reason(command))


_YES = click.option("--yes", is_flag=True, help="Do not ask whether it is meant.")


@click.command("halt")
@person_options
@_YES
@admin_options
def halt(
    store: Path | None,
    url: str | None,
    timeout: float,
    as_json: bool,
    token_file: Path | None,
    is_insecure: bool,
    actor: str,
    reason: str,
    yes: bool,
) -> None:
    """Stop a service until a person resets it: the kill switch.

    With --store it works with the service and the database dead: the service is stopped when it
    starts next; one that runs adopts it. A terminal is asked first, unless --yes. Exit codes:
    0 halted, 1 refused, 2 wrong usage, 3 the store or the service cannot be read.
    """
    target = Asked(store, url, timeout, token_file, is_insecure).target()
    confirm("Stop the service? Nothing is traded until a person resets it.", is_given=yes)
    with telling(as_json):
        answer = target.halt(actor, reason)
    _tell(answer, "halted", as_json)


@click.command("plan")
@admin_options
@click.pass_context
def plan(
    ctx: click.Context,
    store: Path | None,
    url: str | None,
    timeout: float,
    as_json: bool,
    token_file: Path | None,
    is_insecure: bool,
) -> None:
    """Show what a reset would check and release, what is missing, and why; change nothing.

    With --store nothing is checked: it shows what the service observed last, with its age. Exit
    codes: 0 a reset would be taken, 1 it would be refused, 2 wrong usage, 3 it cannot be read.
    """
    with telling(as_json):
        found = Asked(store, url, timeout, token_file, is_insecure).target().plan()
    if as_json:
        print_json(found)
    else:
        print_lines(_plan_lines(found))
    ctx.exit(0 if found.get("allowed") is True else 1)


@click.command("reset")
@person_options
@click.option("--epoch", type=click.IntRange(0), help="The epoch you saw; else the one just read.")
@click.option("--force", is_flag=True, help="Overrule what is missing; the journal names it.")
@_YES
@admin_options
def reset(
    store: Path | None,
    url: str | None,
    timeout: float,
    as_json: bool,
    token_file: Path | None,
    is_insecure: bool,
    actor: str,
    reason: str,
    epoch: int | None,
    force: bool,
    yes: bool,
) -> None:
    """Leave fail-safe mode by hand: shows the plan first, and names the epoch that it saw.

    Refused where something is missing, unless --force; a trip or halt since the plan refuses it
    always. A terminal is asked first, unless --yes; without a terminal --force needs --yes. Exit
    codes: 0 reset, 1 refused, 2 wrong usage, 3 the store or the service cannot be read.
    """
    target = Asked(store, url, timeout, token_file, is_insecure).target()
    if force and not (yes or _is_terminal()):
        raise click.UsageError("without a terminal, --force needs --yes")
    with telling(as_json):
        answer = _reset(target, actor, reason, epoch, force=force, is_given=yes)
    _tell(answer, "reset", as_json)


def _reset(
    target: Target, actor: str, reason: str, epoch: int | None, *, force: bool, is_given: bool
) -> dict[str, Any]:
    found = target.plan()
    print_lines(_plan_lines(found), err=True)
    if force or found.get("allowed") is True:  # one that is refused needs no question
        confirm(_question(found, force=force), is_given=is_given)
    seen = found["epoch"] if epoch is None else epoch
    return target.reset(actor, reason, seen, force=force)


def _question(found: dict[str, Any], *, force: bool) -> str:
    if force and found.get("missing"):
        return "Trade again although this is missing, and answer for it?"
    return "Trade again?"


def confirm(question: str, *, is_given: bool) -> None:
    """Ask on a terminal whether it is meant; return where it is, or where nobody can be asked.

    Raises:
        click.Abort: it is not.
    """
    if not is_given and _is_terminal():
        click.confirm(question, abort=True, err=True)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


# How it is shown


def _tell(answer: dict[str, Any], word: str, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    facts = ", ".join(
        f"{name} {answer[key]}"
        for name, key in (("incident", "incidentId"), ("epoch", "epoch"))
        if answer.get(key) is not None
    )
    click.echo(redact(f"{word}: {facts}" if facts else word))
    for name in ("cause", "alert", "note"):
        if answer.get(name):
            click.echo(redact(f"{name:5}  {answer[name]}"))


def _plan_lines(found: dict[str, Any]) -> Iterator[Line]:
    yield f"state    {found.get('state')}, epoch {found.get('epoch')}", ""
    incident = found.get("incident")
    if isinstance(incident, dict):
        yield f"incident {incident.get('incidentId')}: {incident.get('cause')}", ""
        yield f"next     {incident.get('action')}", ""
    else:
        yield "incident none", ""
    yield from _listed("missing", found.get("why"), "red")
    yield from _listed("releases", found.get("releases"), "yellow")
    is_allowed = found.get("allowed") is True
    yield _verdict(found, is_allowed=is_allowed), "green" if is_allowed else "bold red"


def _verdict(found: dict[str, Any], *, is_allowed: bool) -> str:
    if is_allowed:
        return "a reset by a person would be taken"
    if not isinstance(found.get("incident"), dict):
        return "there is nothing to reset"
    return "a reset would be refused; --force overrules what is missing"


def _listed(word: str, found: object, style: str) -> Iterator[Line]:
    for number, sentence in enumerate(found if isinstance(found, list) else []):
        yield f"{'' if number else word:8} {sentence}", style
