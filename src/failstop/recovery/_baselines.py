"""The baselines: what is accepted of each database, and what another one than that means.

A database answers, takes writes and is yet not the one that was trusted: another cluster under the
same URL, a standby that was promoted, a backup that was restored. Never here: how it is asked.
"""

from __future__ import annotations

from dataclasses import replace

from failstop._evidence import Known, Sighting
from failstop._keeper import Keeper
from failstop._storefile import StoreError
from failstop.errors import CriticalDatabaseError, Outcome

__all__ = ["Baselines", "finding", "receipts_lost"]

CLUSTER = (
    "find out which server answers, and lead the URL back to the right one; a reset with force "
    "accepts this one"
)
TIMELINE = (
    "find out why another server took over and compare the last orders with the exchange; a "
    "reset with actor and reason then accepts it"
)
LOST = (
    "find the lost work in your own records and with the exchange and enter it again; a reset "
    "with force then accepts the database as it is"
)


class Baselines:
    """What `keeper` has of each database.

    While a store that others keep busy for a moment cannot be asked, what it said last holds.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._last: dict[str, tuple[str, Known | None]] = {}

    def known(self, database: str) -> tuple[str, Known | None]:
        """Return the store's id, which is the witness's key, and what is known of a database.

        Raises:
            StoreError: the store cannot be read.
        """
        try:
            found = self._keeper.store.evidence(database)
        except StoreError as error:
            last = self._last.get(database)
            if last is None or not self._keeper.is_tolerable(error):
                raise
            return last
        self._last[database] = found
        return found

    def note(self, database: str, seen: Sighting, *, is_intact: bool) -> None:
        """Keep what was seen; see `failstop._evidence.note`.

        Raises:
            StoreError: the store cannot be written.
        """
        try:
            self._keeper.store.note_evidence(database, seen, is_intact=is_intact)
        except StoreError as error:
            if not is_intact or not self._keeper.is_tolerable(error):
                raise
            self._remember(database, seen)

    def _remember(self, database: str, seen: Sighting) -> None:
        """Keep in memory what was acknowledged and could not be written."""
        store_id, known = self._last[database]
        baseline = seen if known is None else replace(known.baseline, witness=seen.witness)
        known = Known(baseline, seen) if known is None else replace(known, baseline=baseline)
        self._last[database] = store_id, known

    def note_lost(self, database: str, lost: int) -> None:
        """Keep that acknowledged transactions are missing.

        Raises:
            StoreError: the store cannot be written.
        """
        self._keeper.store.note_lost(database, lost)


def finding(name: str, known: Known | None, seen: Sighting) -> CriticalDatabaseError | None:
    """Return what is wrong with a database that is not the one that was accepted, gravest first."""
    if known is None:
        return None
    baseline = known.baseline
    if seen.cluster != baseline.cluster:
        text = f"database {name!r} is another one than before under the same URL"
        return _held(text, "cluster_changed", CLUSTER)
    moved = ""
    if seen.timeline != baseline.timeline:
        moved = (
            f"database {name!r} is on timeline {seen.timeline} and was on {baseline.timeline}, so "
            "another server took over or a backup was restored"
        )
    if baseline.witness is not None and (seen.witness is None or seen.witness < baseline.witness):
        at = "gone" if seen.witness is None else f"at {seen.witness}"
        text = f"the witness is {at}, {baseline.witness} was acknowledged"
        return _lost(name, text, moved)
    if known.lost:
        return _lost(name, _missing(known.lost), moved)
    if moved:
        witness = "whether writes were lost is not known, as no witness is kept here"
        if seen.witness is not None:
            witness = f"the witness is intact at {seen.witness}"
        return _held(f"{moved}; {witness}", "timeline_changed", TIMELINE, is_acceptable=True)
    return None


def receipts_lost(name: str, lost: int) -> CriticalDatabaseError:
    """Return the failure that acknowledged transactions which are missing are."""
    return _lost(name, _missing(lost), "")


def _missing(lost: int) -> str:
    if lost == 1:
        return "at least 1 transaction that was acknowledged is missing"
    return f"at least {lost} transactions that were acknowledged are missing"


def _lost(name: str, what: str, moved: str) -> CriticalDatabaseError:
    text = f"database {name!r} has lost committed writes: {what}"
    return _held(f"{text}; {moved}" if moved else text, "writes_lost", LOST)


def _held(
    text: str, kind: str, action: str, *, is_acceptable: bool = False
) -> CriticalDatabaseError:
    error = CriticalDatabaseError(text, kind=kind, outcome=Outcome.NOT_STARTED)
    error.action = action
    error.needs_person = True
    error.is_acceptable = is_acceptable
    return error
