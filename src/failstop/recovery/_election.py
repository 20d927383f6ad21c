"""The election: one process of a host asks the dependencies, the others take over what it saw.

Elected is who holds the lock on the doorbell's file; the kernel takes it back from a process that
died. What the elected one saw is the note on the doorbell's page, and its age is told by the clock
that all processes of one boot share. Never here: what an observation means for the latch.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import IO, Any

from failstop import _chain
from failstop._doorbell import Doorbell
from failstop._process import this_clock, this_process
from failstop._redaction import redact
from failstop.errors import CriticalError, ErrorCode, Outcome
from failstop.events import CheckResult
from failstop.recovery._monitor import Check, Round

__all__ = ["Election", "Observation", "read_observation"]

VOID = -1
"""The revision of what proves nothing: the latch never is at it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a critical error says, for another process to say it too."""

    error_code: str
    kind: str
    message: str
    action: str
    needs_person: bool
    is_acceptable: bool

    @classmethod
    def of(cls, error: CriticalError) -> Finding:
        """Return what `error` says, without a secret."""
        said = (redact(error.kind), redact(error.message), redact(error.action))
        return cls(error.error_code.value, *said, error.needs_person, error.is_acceptable)

    def error(self) -> CriticalError:
        """Return the error."""
        code, outcome = ErrorCode(self.error_code), Outcome.NOT_STARTED
        error = CriticalError(self.message, error_code=code, kind=self.kind, outcome=outcome)
        error.action = self.action
        error.needs_person = self.needs_person
        error.is_acceptable = self.is_acceptable
        return error


@dataclass(frozen=True, slots=True)
class Observation:
    """A check round of the elected process, whose name is `process`.

    `revision` is the store's when the round began, `at` the moment of `time.monotonic()` at which
    it ended, and `finding` what was gravest of what it found. It proves something for `freshness`
    seconds.
    """

    process: str
    revision: int
    at: float
    ended_at: datetime
    took: float
    results: tuple[CheckResult, ...]
    finding: Finding | None
    freshness: float = 0.0

    @property
    def age(self) -> float:
        """Seconds since it ended, by the clock that all processes of this boot share."""
        return time.monotonic() - self.at

    @property
    def is_fresh(self) -> bool:
        """True where it still proves what it says, by the settings of the process that made it."""
        return 0.0 <= self.age <= self.freshness

    def left(self, checks: Sequence[Check]) -> list[Check]:
        """Return those of `checks` that another process cannot make, or did not."""
        names = {result.name for result in self.results}
        return [check for check in checks if not (check.is_shared and check.name in names)]

    def joined(self, made: Round, checks: Sequence[Check], revision: int) -> Round:
        """Return the round of `checks` that this and what was `made` here are together.

        It proves nothing where the store is at another `revision` by now than it was then.
        """
        seen = {result.name: result for result in self.results}
        own = {result.name: result for result in made.results}
        results = tuple(own.get(check.name) or seen[check.name] for check in checks)
        is_current = revision == self.revision
        theirs = self.finding.error() if self.finding and is_current else None
        return Round(
            made.revision if is_current else VOID,
            results,
            made.error or theirs,
            self.at,
            self.ended_at,
            self.took,
        )


class Election:
    """Stand for the place of the process that asks the dependencies, and tell what it saw.

    Args:
        bell: the doorbell of the store; without a store there is nobody else.
        freshness: seconds after which an observation says nothing any more.
    """

    def __init__(self, bell: Doorbell, freshness: float) -> None:
        self._bell = bell
        self._freshness = freshness
        self._lock: IO[bytes] | None = None

    @property
    def is_elected(self) -> bool:
        """True where this process held the place when it stood last."""
        return self._bell.path is None or self._lock is not None

    def stand(self) -> bool:
        """Take the place where it is free; say whether this process has it."""
        path = self._bell.path
        if path is None:
            return True
        if self._lock is not None and not _is_at(path, self._lock):
            self.resign()
        if self._lock is None:
            self._lock = _locked(path)
        return self._lock is not None

    def resign(self) -> None:
        """Give the place back; in a forked child the parent keeps it."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    def publish(self, done: Round, revision: int) -> None:
        """Put up what the elected process saw, when the store was at `revision`.

        Raises:
            StoreError: the page cannot take it.
        """
        clock = this_clock()
        if self._lock is None or clock is None:
            return
        facts = {
            "clock": clock,
            "process": this_process(),
            "revision": revision,
            "at": done.ended,
            "took": done.took,
            "ended_at": done.ended_at.isoformat(),
            "results": [_chain.plain(result) for result in done.results],
            "freshness": self._freshness,
            "finding": done.error and _chain.plain(Finding.of(done.error)),
        }
        self._bell.post(json.dumps(facts).encode())

    def observation(self) -> Observation | None:
        """Return what another process saw; None where that is too old, not whole, or not there."""
        found = read_observation(self._bell)
        is_fresh = found is not None and 0.0 <= time.monotonic() - found.at <= self._freshness
        return found if is_fresh else None


def read_observation(bell: Doorbell) -> Observation | None:
    """Return the last observation of this boot, however old; None where there is none."""
    note = bell.note()
    if note is None:
        return None
    try:
        facts = json.loads(note)
        return _observation(facts) if facts["clock"] == this_clock() else None
    except (KeyError, TypeError, ValueError):  # of another version of failstop
        return None


def _observation(facts: dict[str, Any]) -> Observation:
    finding = facts["finding"]
    return Observation(
        process=str(facts["process"]),
        revision=int(facts["revision"]),
        at=float(facts["at"]),
        ended_at=datetime.fromisoformat(facts["ended_at"]),
        took=float(facts["took"]),
        results=tuple(_result(each) for each in facts["results"]),
        finding=finding and Finding(**finding),
        freshness=float(facts["freshness"]),
    )


def _result(facts: dict[str, Any]) -> CheckResult:
    if set(facts) != {field.name for field in fields(CheckResult)}:
        raise ValueError("a result of another version")
    return CheckResult(**{**facts, "observed_at": datetime.fromisoformat(facts["observed_at"])})


def _locked(path: os.PathLike[str]) -> IO[bytes] | None:
    """Return the file with its lock; None where another process has it, or there is no file."""
    try:
        file = open(path, "rb")  # noqa: PTH123, SIM115 - it is kept for as long as the lock
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def _is_at(path: os.PathLike[str], file: IO[bytes]) -> bool:
    """Say whether a file that is open is the one at `path` still."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))  # noqa: PTH116
    except OSError:
        return False
