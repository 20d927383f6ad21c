"""The doorbell: a page beside the store by which its processes hear of one another at once.

A small file that every process of the host maps into memory. Whoever trips, halts or resets writes
a new word into it when the store has the change; the others compare the word at their next call,
which costs no system call, and then ask the store. Beside the word there is room for one note,
which whoever likes may read.

Lives here: the file, its mapping, the word and the note. Never here: what the store says, and what
a note means.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import secrets
from pathlib import Path

from failstop._storefile import StoreError, problem

__all__ = ["Doorbell"]

MAGIC = b"failbell"
WORD = 8
"""The bytes of a word, and where it stands: behind the magic, so that it is aligned."""
HEAD = 16
DIGEST = 16
NOTE = HEAD + DIGEST + 4
"""Where the note begins, behind its digest and its length."""
SIZE = 1 << 16
MEND = "give the service's user the right to write it and its directory, and restart"


class Doorbell:
    """The page beside the store at `store`; where that is None nobody else is there to hear.

    `word[0]` is the last word. `heard` is the last one that was acted on, and `ticket` is the same
    while the state is NORMAL, else None: a call may go on exactly where it equals the word.
    """

    __slots__ = ("_inode", "_page", "_store", "heard", "mine", "path", "ticket", "word")

    def __init__(self, store: Path | None) -> None:
        self._store = store
        self.path: Path | None = (
            None if store is None else store.with_name(f"{store.name}-doorbell")
        )
        self.word: memoryview | list[int] = [0]
        self.heard: int = 0
        self.mine: int = 0
        self.ticket: int | None = None
        self._page: mmap.mmap | None = None
        self._inode: tuple[int, int] | None = None

    @property
    def rings(self) -> bool:
        """True where another process has rung since this one heard last."""
        return self.word[0] not in (self.heard, self.mine)

    def open(self) -> None:
        """Map the page, made where there is none; again does nothing.

        Raises:
            StoreError: it cannot be made or mapped, or is no doorbell.
        """
        if self.path is not None and self._page is None:
            try:
                self._map(self.path)
            except OSError as error:
                raise self._problem(
                    "doorbell_unreachable", f"cannot be opened ({type(error).__name__})", MEND
                ) from error

    def require_in_place(self) -> None:
        """Return where the page is the one at its path; else use that one from now on and raise.

        Raises:
            StoreError: it was removed or replaced, or cannot be mapped.
        """
        if self.path is None:
            return
        if self._page is not None and _inode(self.path) != self._inode:
            self._page = None
            self.open()
            raise self._problem(
                "doorbell_replaced",
                "was removed or replaced while the service runs",
                "find out who did that; the one that is there now is in use",
            )
        self.open()

    def ring(self) -> None:
        """Have every other process ask the store; it must have the change already.

        Never raises: whoever does not hear it asks the store in its next check round.
        """
        with contextlib.suppress(Exception):
            self.open()
        self.mine = secrets.randbits(63) | 1  # a word that nobody wrote needs no lock
        self.word[0] = self.mine

    # The note

    def post(self, note: bytes) -> None:
        """Put up `note` in the place of the one before.

        Raises:
            StoreError: there is no page, or no room on it.
        """
        page = self._page
        if page is None or len(note) > SIZE - NOTE:
            what = "has no room for what was observed" if page else "is not there"
            raise self._problem("doorbell_unreachable", what, MEND)
        page[NOTE : NOTE + len(note)] = note
        page[HEAD:NOTE] = _digest(note) + len(note).to_bytes(4)

    def note(self) -> bytes | None:
        """Return the note that is up; None where there is none that is whole."""
        page = self._page
        if page is None:
            return None
        head = page[HEAD:NOTE]
        length = int.from_bytes(head[DIGEST:])
        note = page[NOTE : NOTE + length]
        return note if length and _digest(note) == head[:DIGEST] else None

    # The file

    def _map(self, path: Path) -> None:
        if not path.exists():
            self._make(path)
        with path.open("r+b") as file:
            found = os.fstat(file.fileno())
            if found.st_size != SIZE or file.read(WORD) != MAGIC:
                raise self._problem(
                    "doorbell_corrupt", "is no doorbell of failstop", "remove it, and restart"
                )
            page = mmap.mmap(file.fileno(), SIZE)
        self._inode = found.st_dev, found.st_ino
        self._page = page
        self.word = memoryview(page)[WORD : 2 * WORD].cast("Q")

    def _make(self, path: Path) -> None:
        """Make a page whole, and then link it there: nobody ever maps a part of one."""
        assert self._store is not None
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            with draft.open("xb") as file:
                _give(draft, self._store.stat())
                file.write(MAGIC.ljust(SIZE, b"\0"))  # a hole that cannot be filled would kill
            with contextlib.suppress(FileExistsError):  # another process was first
                os.link(draft, path)
        finally:
            draft.unlink(missing_ok=True)

    def _problem(self, kind: str, what: str, action: str) -> StoreError:
        assert self._store is not None
        return problem(kind, self._store.name, f"has a doorbell that {what}", action)


def _give(draft: Path, store: os.stat_result) -> None:
    """Give `draft` the rights of the store, and its owner where it is root who makes it."""
    if os.geteuid() == 0:
        os.chown(draft, store.st_uid, store.st_gid)
    draft.chmod(store.st_mode & 0o770)


def _digest(note: bytes) -> bytes:
    return hashlib.blake2b(note, digest_size=DIGEST).digest()


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
