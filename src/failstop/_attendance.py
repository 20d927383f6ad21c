"""The attendance: which processes of a host share a store, each with a small file beside it.

A process holds the lock on its file for as long as it lives, and takes the file away when it goes
in order; a file without its lock is of one that was killed. Never here: what a process does.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import logging
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

__all__ = ["Attendance", "Attendant"]

logger = logging.getLogger("failstop")


def _version() -> str:
    try:
        return version("failstop")
    except PackageNotFoundError:
        return "unknown"


VERSION = _version()
"""Read when this is loaded: a process that gives up its rights may not read it later."""


@dataclass(frozen=True, slots=True)
class Attendant:
    """A process that is there, and one FailSafe in it; `version` is failstop's."""

    id: str = field(default_factory=lambda: secrets.token_hex(8))
    pid: int = field(default_factory=os.getpid)
    version: str = VERSION


class Attendance:
    """Who is there, beside the store at `path`; without a store this process alone."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.me: Attendant = Attendant()
        self._file: IO[str] | None = None

    def enter(self) -> None:
        """Be there from now on; again does nothing.

        Never raises: who cannot be seen here works all the same, and is logged.
        """
        if self._path is None or self._file is not None:
            return
        try:
            self._file = _locked(self._place(self.me.id), self.me)
        except OSError as error:
            logger.warning("this process is not on the roll (%s)", type(error).__name__)

    def leave(self) -> None:
        """Be there no more, in order."""
        file, self._file = self._file, None
        if file is not None:
            self._place(self.me.id).unlink(missing_ok=True)
            file.close()

    def look(self) -> tuple[frozenset[Attendant], frozenset[str]]:
        """Return who is there, and the ids of those that were killed since the last look."""
        found, killed = {self.me}, set()
        for place in self._places():
            with contextlib.suppress(OSError, ValueError, TypeError), place.open() as file:
                attendant = Attendant(**json.load(file))
                if attendant.id == self.me.id or not _is_free(file):
                    found.add(attendant)
                else:
                    place.unlink()
                    killed.add(attendant.id)
        return frozenset(found), frozenset(killed)

    def _places(self) -> Iterator[Path]:
        if self._path is not None:
            with contextlib.suppress(OSError):  # the store tells of a directory that is gone
                yield from self._path.parent.glob(f"{glob.escape(self._path.name)}-process-*")

    def _place(self, identity: str) -> Path:
        assert self._path is not None
        return self._path.with_name(f"{self._path.name}-process-{identity}")

    def after_fork(self, *, is_started: bool) -> None:
        """In a forked child: the file is the parent's, this one has one of its own."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
        self.me = Attendant()
        if is_started:
            self.enter()


def _locked(place: Path, me: Attendant) -> IO[str]:
    """Make a file whole and locked, and only then put it at its place."""
    draft = place.with_name(f".{place.name}")
    file = draft.open("x")
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump(asdict(me), file)
        file.flush()
        draft.rename(place)
    except BaseException:
        file.close()
        draft.unlink(missing_ok=True)
        raise
    return file


def _is_free(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
