"""The historian: reads what happened from the store's journal, or remembers it where there is none.

It has a connection of its own, so that a reader keeps no failure waiting. A row counts only as a
link of the chain; where one does not fit, the history says so and tells nothing from the journal.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from failstop import _chain, journal
from failstop._chain import Row
from failstop._history import History, IncidentLog
from failstop._storefile import StoreError
from failstop.errors import ConfigurationError
from failstop.events import Event

__all__ = ["Historian"]

MOST_ROWS = 2000
"""Rows of the journal that are read at most at one time: the latest."""


class Historian:
    """Tell what happened.

    Args:
        path: the store's file; None to tell what `note` was called with.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen = IncidentLog()
        self.after_fork()

    def after_fork(self) -> None:
        """Begin with locks of its own, and read anew."""
        self._noting = threading.Lock()
        self._reading = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._read = IncidentLog()
        self._last: Row | None = None

    def note(self, event: Event) -> None:
        """Remember an event of this process; what is remembered is bounded."""
        with self._noting:
            self._seen.add(_chain.event_facts(event))

    def tell(self) -> History:
        """Return what happened, as far as is known; never raises for a store that is broken."""
        if self._path is None:
            return self._remembered(None)
        with self._reading:
            try:
                self._catch_up(self._path)
                return self._read.history()
            except (StoreError, ConfigurationError, ValueError) as error:
                return self._remembered(f"the journal cannot be told: {error}")

    def _remembered(self, problem: str | None) -> History:
        with self._noting:
            found = self._seen.history()
        return replace(found, problem=problem, past=() if problem else found.past)

    def _catch_up(self, path: Path) -> None:
        """Fold the rows that came since the last time.

        Raises:
            ConfigurationError: there is no file.
            StoreError: it cannot be read.
            ValueError: a row is no link of the chain, or no event.
        """
        for row in self._links(self._found(path)):
            self._read.add(row.facts)
            self._last = row

    def _found(self, path: Path) -> Sequence[Row]:
        """Return the last row that was read and those after it; the latest where there is a gap.

        A seal moves rows out, and there may be more new ones than are read at a time.
        """
        last = self._last
        if last is not None:
            found = journal.rows(path, after=last.seq - 1, last=MOST_ROWS)
            if not found or found[0].seq <= last.seq + 1:
                return found
            self._forget()
        return journal.rows(path, last=MOST_ROWS)

    def _links(self, found: Sequence[Row]) -> Sequence[Row]:
        """Return the rows that are new, where each follows the one before it.

        Raises:
            ValueError: one does not, or the last row that was read is there no more.
        """
        last = self._last
        if last is not None and (not found or (found[0].seq == last.seq and found[0] != last)):
            raise ValueError("rows at its end are missing or changed; run failstop journal verify")
        new = found[1:] if found and found[0] == last else found
        if not new:
            return ()
        previous = last.hash if last is not None else _stated_previous(new[0])
        verdict = _chain.verify(new, seq=new[0].seq - 1, previous=previous)
        if not verdict.is_intact:
            raise ValueError(f"{verdict.problems[0]}; run failstop journal verify")
        return new


def _stated_previous(row: Row) -> str:
    """Return what the first row says of the one before it; nothing where it says nothing."""
    try:
        return str(json.loads(row.body)["prev"])
    except (ValueError, TypeError, KeyError):
        return ""
