"""What a command works on: a store on this host, or a service over HTTP.

Lives here: the options that name it, and how what is wrong with it is told. Never here: how an
answer is shown.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from failstop import offline
from failstop.cli._http import Answer, Service, UnreachableError, read_token
from failstop.cli._store import PATH, FailedError, described
from failstop.errors import ResetRefusedError
from failstop.events import Incident
from failstop.status import timestamp

__all__ = [
    "UNKNOWN",
    "Asked",
    "Target",
    "admin_options",
    "json_option",
    "target_options",
    "telling",
]

Command = TypeVar("Command", bound=Callable[..., Any])

UNKNOWN = 3
"""The exit code where nothing can be known."""
TOKEN = "FAILSTOP_ADMIN_TOKEN"  # noqa: S105 - the name of the variable that holds it
STATUS, PLAN = "/api/system/status", "/admin/plan"
HALT, RESET = "/admin/halt", "/admin/force-recovery-reset"
LATER = "waits in the store; a process of the service that has sinks sends it"
FOLLOWS = "a service that runs follows when its own checks find no failure"


class Target(Protocol):
    """A service, reached in one way or the other; every answer is JSON's types.

    Each method raises FailedError where it could not be done.
    """

    def status(self) -> dict[str, Any]:
        """Return the report of the service."""

    def plan(self) -> dict[str, Any]:
        """Return what a reset would check and release."""

    def halt(self, actor: str, reason: str) -> dict[str, Any]:
        """Stop the service by hand."""

    def reset(self, actor: str, reason: str, epoch: int, *, force: bool) -> dict[str, Any]:
        """Leave fail-safe mode by hand, as seen at `epoch`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a command names its target."""

    store: Path | None
    url: str | None
    timeout: float
    token_file: Path | None = None
    is_insecure: bool = False

    def target(self) -> Target:
        """Return the target.

        Raises:
            click.UsageError: there is none or two, or its URL or token is wrong.
        """
        if (self.store is None) == (self.url is None):
            raise click.UsageError("give one of --store PATH and --url URL")
        if self.store is not None:
            return _Store(self.store)
        return _Remote(self._service(str(self.url)))

    def _service(self, url: str) -> Service:
        token = read_token(self.token_file, os.environ.get(TOKEN))
        return Service(url, timeout=self.timeout, token=token, is_insecure=self.is_insecure)


@contextlib.contextmanager
def telling(as_json: bool) -> Iterator[None]:
    """Say what could not be done, and end the command with its exit code."""
    try:
        yield
    except FailedError as error:
        raise error.told(as_json) from error


def json_option(command: Command) -> Command:
    """Give a command the option `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="For machines.")(command)


def target_options(command: Command) -> Command:
    """Give a command the options that name its target."""
    for option in (
        click.option(
            "--timeout",
            type=click.FloatRange(0.1, 600),
            default=40.0,  # a plan makes every check of the service, which may take 30 s
            show_default=True,
            help="Of one answer over HTTP, in seconds.",
        ),
        click.option("--url", help="The service, such as https://host:8000."),
        click.option("--store", type=PATH, help="The store's file, on this host."),
    ):
        command = option(command)
    return json_option(command)


def admin_options(command: Command) -> Command:
    """Give a command the options that name its target and who may change it."""
    insecure = click.option(
        "--insecure", "is_insecure", is_flag=True, help="Send the token over plain http too."
    )
    token = click.option(
        "--token-file", type=PATH, help=f"Holds the admin token; else the variable {TOKEN}."
    )
    return insecure(token(target_options(command)))


# A store on this host


class _Store:
    def __init__(self, path: Path) -> None:
        self._path = path

    def status(self) -> dict[str, Any]:
        with self._explained():
            return offline.status(self._path).to_dict(has_whole_keys=True)

    def plan(self) -> dict[str, Any]:
        with self._explained():
            return offline.plan(self._path).to_dict()

    def halt(self, actor: str, reason: str) -> dict[str, Any]:
        with self._explained():
            event = offline.halt(self._path, actor=actor, reason=reason)
        facts = {**_facts(event.incident), "epoch": event.epoch}
        return {"halted": True, **facts, "alert": LATER}

    def reset(self, actor: str, reason: str, epoch: int, *, force: bool) -> dict[str, Any]:
        with self._explained():
            incident, overruled = offline.reset(
                self._path, actor=actor, reason=reason, epoch=epoch, force=force
            )
        facts = {**_facts(incident), "epoch": epoch, "overruled": list(overruled)}
        return {"reset": True, **facts, "alert": LATER, "note": FOLLOWS}

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with described(self._path, UNKNOWN):
                yield
        except ResetRefusedError as refused:
            missing = list(refused.checks)
            raise FailedError(str(refused), "refused", missing=missing) from refused


def _facts(incident: Incident) -> dict[str, Any]:
    return {
        "incidentId": incident.incident_id,
        "cause": incident.cause,
        "since": timestamp(incident.since),
    }


# A service over HTTP


class _Remote:
    def __init__(self, service: Service) -> None:
        self._service = service

    def status(self) -> dict[str, Any]:
        with self._reaching():
            code, found = self._service.get(STATUS)
        if code not in (200, 503) or not isinstance(found.get("failSafeMode"), dict):
            raise _unreachable("what answers there is no status of failstop; look at --url")
        return found

    def plan(self) -> dict[str, Any]:
        with self._reaching():
            answer = self._service.get(PLAN)
        return self._taken(answer)

    def halt(self, actor: str, reason: str) -> dict[str, Any]:
        return self._act(HALT, {"actor": actor, "reason": reason})

    def reset(self, actor: str, reason: str, epoch: int, *, force: bool) -> dict[str, Any]:
        facts = {"actor": actor, "reason": reason, "epoch": epoch, "force": force}
        return self._act(RESET, facts)

    def _act(self, path: str, facts: dict[str, Any]) -> dict[str, Any]:
        with self._reaching("; it may have acted, look at its status"):
            answer = self._service.post(path, facts)
        return self._taken(answer)

    @contextlib.contextmanager
    def _reaching(self, warning: str = "") -> Iterator[None]:
        try:
            yield
        except UnreachableError as error:
            raise _unreachable(f"{error}{warning}") from error

    def _taken(self, answer: Answer) -> dict[str, Any]:
        """Return what was answered to who may ask; raise where it was refused."""
        code, found = answer
        if 200 <= code < 300:
            return found
        kind, mend = REFUSED.get(code, ("unreachable", f"the service answered {code}"))
        said = next((str(found[name]) for name in SAID if found.get(name)), None)
        sentence = mend if said is None else f"{mend}: {said}"
        exit_code = 1 if code in REFUSED else UNKNOWN
        raise FailedError(sentence, kind, exit_code, answer=found)


def _unreachable(sentence: str) -> FailedError:
    return FailedError(sentence, "unreachable", UNKNOWN)


SAID = ("detail", "message", "error")
"""Where an answer may say why."""
REFUSED = {
    400: ("refused", "the service does not take it"),
    401: ("unauthorized", f"the service wants a token that it knows; see --token-file and {TOKEN}"),
    403: ("unauthorized", "the service does not take this token"),
    404: ("not_configured", "the service has no admin endpoints; give it an admin token"),
    409: ("refused", "the service refuses"),
    422: ("refused", "the service does not take it"),
    429: ("too_many", "the service was asked too often; wait"),
}
"""What a refusal over HTTP means, with its mend."""
