"""The commits under way in each process of a host, so that a killed one leaves no doubt unsaid.

Each process has a file of its own beside the store, mapped into memory, with a slot for every
COMMIT that was sent and is not answered. What is written there outlives the process, not the
machine, and costs no system call. A file whose owner is gone holds what that left in doubt.

Lives here: slots, files and their owners' locks. Never here: what becomes of a doubt.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import secrets
import threading
from collections.abc import Callable, Generator, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Literal

from failstop.events import InDoubt

__all__ = ["Commits"]

SLOT = 2048
"""Bytes of a slot: a length, then the facts as JSON; room for the longest key and name."""
SLOTS = 256
HEADER = 2


class Commits:
    """Keep the commits under way of this process beside the store at `path`; nowhere for None.

    `in_question` counts those that got no answer and whose outcome is asked for now.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.in_question: int = 0
        self._begin_anew()

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Count one more COMMIT without an answer in `in_question`, while the block asks."""
        with self._lock:
            self.in_question += 1
        try:
            yield
        finally:
            with self._lock:
                self.in_question -= 1

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._files: list[_File] = []
        self._free: list[tuple[_File, int]] = []

    @contextlib.contextmanager
    def under_way(self, doubt: InDoubt, is_accounted: Callable[[], bool]) -> Iterator[None]:
        """Keep `doubt` while the block sends its COMMIT and finds out what became of it.

        Where it does not end so that `is_accounted` holds, the doubt is left for the next process.

        Raises:
            OSError: there is no place for it; nothing may be sent then.
        """
        if self._path is None:
            yield
            return
        file, number = self._take(self._path)
        file.write(number, _text(doubt))
        try:
            yield
        finally:
            if is_accounted():
                file.clear(number)
                self._free.append((file, number))

    def _take(self, path: Path) -> tuple[_File, int]:
        with contextlib.suppress(IndexError):
            return self._free.pop()
        with self._lock:
            file = _File.make(path)
            self._files.append(file)
            self._free.extend((file, number) for number in range(1, SLOTS))
        return file, 0

    def left_behind(self) -> Generator[tuple[InDoubt, ...], None, None]:
        """Give what each process that is gone left in doubt; its file goes when that is kept.

        The caller keeps the doubts before it asks for the next.
        """
        for place, doubts in self._of_the_gone("r+b"):
            yield doubts
            place.unlink(missing_ok=True)

    def seen_behind(self) -> tuple[InDoubt, ...]:
        """Return what processes that are gone left in doubt, and leave it where it is."""
        return tuple(doubt for _, doubts in self._of_the_gone("rb") for doubt in doubts)

    def _of_the_gone(
        self, mode: Literal["rb", "r+b"]
    ) -> Iterator[tuple[Path, tuple[InDoubt, ...]]]:
        if self._path is None:
            return
        for found in sorted(self._path.parent.iterdir()):
            if not found.name.startswith(_prefix(self._path)):
                continue
            with contextlib.suppress(FileNotFoundError), found.open(mode) as file:
                if not _is_owned(file):
                    yield found, tuple(_read(file.read()))

    def close(self) -> None:
        """Give back the files in which no commit is under way; the others are left behind."""
        with self._lock:
            self._files = [file for file in self._files if not file.close()]
            self._free.clear()

    def after_fork(self) -> None:
        """In a forked child: the files are the parent's, and must not outlive it in this one."""
        for file in self._files:
            file.forsake()
        self.in_question = 0
        self._begin_anew()


class _File:
    """The slots of one file; its owner holds the lock on it for as long as it lives."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path = path
        self._file = file
        self._map = mmap.mmap(file.fileno(), SLOT * SLOTS)

    @classmethod
    def make(cls, store: Path) -> _File:
        """Make a file that is locked before anybody can find it."""
        name = f"{_prefix(store)}{os.getpid()}-{secrets.token_hex(4)}"
        draft = store.with_name(f".{name}")
        file = draft.open("x+b")
        try:
            draft.chmod(store.stat().st_mode & 0o770)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(bytes(SLOT * SLOTS))  # a hole that cannot be filled later would kill
            file.flush()
            made = cls(store.with_name(name), file)
            draft.rename(made._path)
        except BaseException:
            file.close()
            draft.unlink(missing_ok=True)
            raise
        return made

    def write(self, number: int, text: bytes) -> None:
        """Fill a slot; the length comes last, so that no half of one is ever read."""
        start = number * SLOT
        self._map[start + HEADER : start + HEADER + len(text)] = text
        self._map[start : start + HEADER] = len(text).to_bytes(HEADER)

    def clear(self, number: int) -> None:
        self._map[number * SLOT : number * SLOT + HEADER] = b"\0\0"

    def close(self) -> bool:
        """Remove the file where no slot is taken; say whether it did."""
        is_empty = not any(_read(self._map[:]))
        if is_empty:
            self._path.unlink(missing_ok=True)
            self.forsake()
        return is_empty

    def forsake(self) -> None:
        with contextlib.suppress(BufferError):
            self._map.close()
        self._file.close()


def _prefix(store: Path) -> str:
    return f"{store.name}-commits-"


def _is_owned(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _text(doubt: InDoubt) -> bytes:
    facts = (doubt.database, doubt.key, doubt.since.isoformat(), doubt.backend_pid)
    text = json.dumps(facts, ensure_ascii=False).encode()
    if len(text) > SLOT - HEADER:
        raise OSError("the facts of a COMMIT under way are too long to be kept")
    return text


def _read(content: bytes) -> Iterator[InDoubt]:
    for start in range(0, len(content) - HEADER, SLOT):
        length = int.from_bytes(content[start : start + HEADER])
        if length:
            text = content[start + HEADER : start + HEADER + length]
            database, key, since, backend = json.loads(text)
            yield InDoubt(database, key, datetime.fromisoformat(since), backend)
