"""The fleet: what the databases' fences say to this host, and what this host says through them.

A fence that says halted is cleared by a person only. Until then it is a check that has not passed;
a host that was halted elsewhere goes on when it is cleared, and its own checks have passed.

Never here: how a fence is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, runtime_checkable

from failstop._fence import FencedHalt, FenceRow
from failstop.errors import CriticalError, ResetRefusedError
from failstop.events import Incident
from failstop.recovery._monitor import Dependency, UnprovenError

__all__ = ["CHECK", "ELSEWHERE", "Fence", "Fenced", "Fleet"]

logger = logging.getLogger("failstop")

CHECK = "fence"
"""The name of the check."""

ELSEWHERE = "halted_elsewhere"
"""The kind of an incident that another host's halt has opened."""


class Fence(Protocol):
    """The fence of one database."""

    @property
    def is_fenced(self) -> bool:
        """True where transactions pass a fence."""

    @property
    def rows(self) -> tuple[FenceRow, ...] | None:
        """The rows that hold this service, as the last probe saw them; None where none has."""

    def halt(
        self,
        *,
        scope: str,
        incident_id: str,
        actor: str,
        reason: str,
        seconds: float | None,
        terminate: bool,
    ) -> FencedHalt:
        """Halt on every host, and say what that came to."""

    def reopen(
        self, *, actor: str, reason: str, incident_id: str, seen: tuple[FenceRow, ...] | None
    ) -> None:
        """Clear the halts among the rows `seen`; where that is None, those of the incident.

        Raises:
            ResetRefusedError: one of them was halted again since, or another halt stands.
            CriticalError: the database does not answer.
        """


@runtime_checkable
class Fenced(Protocol):
    """A dependency that may have a fence."""

    @property
    def fence(self) -> Fence:
        """Its fence."""

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes that hold it: the whole, and its own."""


class Fleet:
    """Speak through the fences of `dependencies`."""

    def __init__(self, dependencies: Mapping[str, Dependency]) -> None:
        self._dependencies = dependencies
        self._known: dict[tuple[Fence, str], FenceRow] = {}
        self._told: dict[str, FenceRow] = {}
        self._judged: dict[Fence, tuple[FenceRow, ...] | None] = {}
        self.last: tuple[FencedHalt, ...] = ()

    def _fences(self) -> Iterator[Fence]:
        for dependency in tuple(self._dependencies.values()):
            if isinstance(dependency, Fenced):
                yield dependency.fence

    @property
    def has_fences(self) -> bool:
        """True where there is anything to halt behind."""
        return any(fence.is_fenced for fence in self._fences())

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes that hold this service."""
        found = [each for each in self._dependencies.values() if isinstance(each, Fenced)]
        return frozenset(scope for each in found for scope in each.scopes)

    # What the fences say

    def halted(self) -> FenceRow | None:
        """Return the halt that stands, as far as was seen; the one of the whole first."""
        rows = [row for fence in self._fences() for row in _halts(fence.rows)]
        return min(rows, key=lambda row: row.scope, default=None)

    def news(self, incident: Incident | None) -> FenceRow | None:
        """Return a halt that stands, where this process has not told it yet.

        One of the open incident's own is told already. What holds no news is what a reset clears.
        """
        seen = {fence: fence.rows for fence in self._fences()}
        halts = [(fence, row) for fence, rows in seen.items() for row in _halts(rows)]
        news = [row for fence, row in halts if self._is_news(fence, row, incident)]
        if not news:
            self._judged = seen
        return min(news, key=lambda row: row.scope, default=None)

    def _is_news(self, fence: Fence, row: FenceRow, incident: Incident | None) -> bool:
        place = (fence, row.scope)
        known, self._known[place] = self._known.get(place), row
        if self._told.get(row.scope) == row:
            return False
        if known is None or known.incident_id != row.incident_id:
            return incident is None or incident.incident_id != row.incident_id
        return row.epoch > known.epoch

    def know(self, row: FenceRow) -> None:
        """Note that a halt was told here already; a later one than that is news."""
        self._told[row.scope] = row

    def prove(self) -> str:
        """Return where no fence that was read says halted; one that was not fails its database.

        Raises:
            UnprovenError: one does.
        """
        row = self.halted()
        if row is not None:
            text = f"{row}; a person's reset opens the fence, on every host"
            raise UnprovenError(text, needs_person=True)
        return "no fence that was read says halted"

    def reset_of(self, incident: Incident | None, *, is_held: bool) -> FenceRow | None:
        """Return who has reset the halt that an incident is, where all fences are open since.

        None where something else holds it: a halt of this host's own counts only where nothing
        else came to its incident.
        """
        if incident is None or self.halted() is not None:
            return None
        is_own = incident.kind == "halt" and incident.occurrences == 1
        if not is_own and (is_held or incident.kind != ELSEWHERE):
            return None
        rows = [row for fence in self._fences() for row in fence.rows or ()]
        return next((row for row in rows if row.incident_id == incident.incident_id), None)

    # What this host says

    def halt(
        self,
        incident: Incident,
        *,
        scope: str,
        actor: str,
        reason: str,
        seconds: float | None,
        terminate: bool,
    ) -> tuple[FencedHalt, ...]:
        """Halt behind every fence, all at once, and say what each came to."""

        def work(fence: Fence) -> FencedHalt:
            return fence.halt(
                scope=scope,
                incident_id=incident.incident_id,
                actor=actor,
                reason=reason,
                seconds=seconds,
                terminate=terminate,
            )

        self.last = _each(work, tuple(self._fences()))
        for halt in self.last:
            logger.log(logging.WARNING if halt.is_exact else logging.ERROR, "halt: %s", halt)
        return self.last

    def reopen(
        self, incident: Incident, *, actor: str, reason: str, force: bool
    ) -> tuple[str, ...]:
        """Clear the halts that the last round has seen; return what could not be.

        Where it could see none, that is the one of the incident: no other was told here. With
        `force` what could not be cleared stops nothing.

        Raises:
            ResetRefusedError: a newer halt stands, or a fence could not be cleared.
        """
        failed = []
        for fence in self._fences():
            is_due = fence.rows is None or any(row.is_halted for row in fence.rows)
            if not fence.is_fenced or not is_due:
                continue
            try:
                said = {"actor": actor, "reason": reason, "incident_id": incident.incident_id}
                fence.reopen(**said, seen=self._judged.get(fence))
            except CriticalError as error:
                failed.append(f"a fence could not be asked ({error.kind}), so its halt stands")
        if failed and not force:
            raise ResetRefusedError("; ".join(failed), (CHECK,))
        return tuple(failed)

    def advice(self) -> tuple[str, ...]:
        """Return what the last halt could not promise, a sentence for each database."""
        return tuple(f"the halt is not exact: {halt}" for halt in self.last if not halt.is_exact)


def _halts(rows: Iterable[FenceRow] | None) -> list[FenceRow]:
    return [row for row in rows or () if row.is_halted]


def _each(work: Callable[[Fence], FencedHalt], fences: tuple[Fence, ...]) -> tuple[FencedHalt, ...]:
    """Do `work` for each; a database that does not answer takes no time from the others."""
    if len(fences) < 2:
        return tuple(map(work, fences))
    with ThreadPoolExecutor(len(fences), thread_name_prefix="failstop-halt") as threads:
        return tuple(threads.map(work, fences))
