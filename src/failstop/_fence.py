"""The fence as its readers see it, and what a halt came to: facts only.

A fence is a row in the database that every guarded transaction reads under a lock; where it says
halted, none commits. Never here: SQL, I/O, a decision.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from failstop.errors import ConfigurationError
from failstop.events import Incident

__all__ = ["WHOLE", "FenceRow", "FencedHalt", "HaltReport", "Straggler", "require_scope"]

WHOLE = ""
"""The scope that stands above all others."""

SCOPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}\Z")


def require_scope(scope: object) -> str:
    """Return `scope`.

    Raises:
        ConfigurationError: it is neither the whole nor a name of letters, digits and `_.:/-`.
    """
    if not isinstance(scope, str) or (scope != WHOLE and not SCOPE.match(scope)):
        raise ConfigurationError(
            "a scope must be a name of at most 100 letters, digits and _.:/- such as 'venue-a', "
            "or empty for the whole"
        )
    return scope


@dataclass(frozen=True, slots=True)
class FenceRow:
    """One scope of a fence; `epoch` rises with every halt and every reset.

    `incident_id` is that of the last halt, `actor` and `reason` are those of the last change.
    """

    scope: str
    epoch: int
    is_halted: bool
    incident_id: str
    actor: str
    reason: str
    changed_at: datetime

    def __str__(self) -> str:
        where = f"scope {self.scope!r}" if self.scope else "everything"
        did = "halted" if self.is_halted else "reset"
        return f"{self.actor} {did} {where} at {self.changed_at:%Y-%m-%d %H:%M:%SZ}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Straggler:
    """A transaction that had begun before a halt and has not ended; it may still commit.

    `pid` is the server's process, None for a prepared transaction; `service` and `seconds` (its
    age) are None where this role may not see them.
    """

    pid: int | None
    service: str | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        service = "" if self.service is None else f" of {self.service!r}"
        age = "" if self.seconds is None else f", open for {self.seconds:.1f} s"
        return f"{'a prepared one' if self.pid is None else f'process {self.pid}'}{service}{age}"


@dataclass(frozen=True, slots=True)
class FencedHalt:
    """What a halt came to in one database.

    `is_exact` is true where no guarded transaction commits there any more, on any host. `epoch` is
    the fence's, None where nothing is known to be written there; `terminated` counts the
    transactions that were ended by force.
    """

    database: str
    is_exact: bool
    detail: str
    epoch: int | None = None
    stragglers: tuple[Straggler, ...] = ()
    terminated: int = 0

    def __str__(self) -> str:
        return f"database {self.database!r}: {self.detail}"


@dataclass(frozen=True, slots=True)
class HaltReport:
    """What `halt()` did: this host is stopped, and each database as it says itself."""

    incident: Incident
    databases: tuple[FencedHalt, ...] = ()

    @property
    def is_exact(self) -> bool:
        """True where no guarded transaction commits any more in any of the databases, anywhere."""
        return all(each.is_exact for each in self.databases)

    @property
    def incident_id(self) -> str:
        """The id of the incident."""
        return self.incident.incident_id

    @property
    def unproven(self) -> tuple[str, ...]:
        """What could not be promised, a sentence for each database."""
        return tuple(str(each) for each in self.databases if not each.is_exact)
