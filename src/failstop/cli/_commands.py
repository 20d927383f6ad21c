"""The commands and what becomes of their errors; each command is imported when it is called."""

from __future__ import annotations

import io
import traceback
from collections.abc import Sequence
from importlib import import_module

import click

from failstop.alerts import redact
from failstop.errors import ConfigurationError, CriticalError, ResetRefusedError

__all__ = ["COMMANDS", "dispatch"]

COMMANDS = {
    "alert": "failstop.cli._alert:alert",
    "doctor": "failstop.cli._doctor:doctor",
    "drill": "failstop.cli._drill:drill",
    "explain": "failstop.cli._explain:explain",
    "fleet": "failstop.cli._fleet:fleet",
    "halt": "failstop.cli._reset:halt",
    "indoubt": "failstop.cli._indoubt:indoubt",
    "journal": "failstop.cli._journal:journal",
    "plan": "failstop.cli._reset:plan",
    "receipts": "failstop.cli._receipts:receipts",
    "reset": "failstop.cli._reset:reset",
    "scan": "failstop.scan._command:scan",
    "schema": "failstop.cli._schema:schema",
    "status": "failstop.cli._status:status",
    "store": "failstop.cli._store:store",
    "watch": "failstop.cli._status:watch",
}
"""The place of each command, as an entry point is written."""


class _Commands(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group("failstop", cls=_Commands)
@click.version_option(package_name="failstop")
@click.option("--traceback", is_flag=True, help="Show where an unexpected error came from.")
def failstop(traceback: bool) -> None:
    """Fail-fast primitives for services whose database is the single source of truth.

    Exit codes: 0 done, 1 the answer is no, 2 wrong usage, 3 nothing can be known, as it cannot be
    read or something unexpected happened, 130 interrupted.
    """


def dispatch(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name; everything it raises becomes a sentence and a code."""
    try:
        return int(failstop.main([*arguments], prog_name="failstop", standalone_mode=False) or 0)
    except click.ClickException as error:
        _show(error)
        return 2
    except ConfigurationError as error:
        return _say(str(error), 2)
    except (CriticalError, ResetRefusedError) as error:
        return _say(str(error), 1)
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted", 130)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # noqa: BLE001 - the edge of the process; its text may hold secrets
        if "--traceback" in arguments:
            traceback.print_exc()
        name = type(error).__name__
        return _say(f"unexpected {name}; failstop --traceback … shows where it came from", 3)


def _show(error: click.ClickException) -> None:
    """Print what click says, line by line: a word that was typed may hold a secret."""
    text = io.StringIO()
    error.show(text)
    for line in text.getvalue().splitlines():
        click.echo(redact(line), err=True)


def _say(sentence: str, code: int) -> int:
    click.echo(f"failstop: {redact(sentence)}", err=True)
    return code
