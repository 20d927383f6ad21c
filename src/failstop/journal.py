"""The journal and the store, for operators and auditors: read, verify, export, seal.

Everything here but `seal` only reads, and may run beside the service. A head hash that `verify` or
`check` returns, kept elsewhere, is what a cut at the end and a rewritten journal are found by.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from failstop import _chain, _in_doubt
from failstop._chain import Row, Verdict
from failstop._commits import Commits
from failstop._latch import State
from failstop._store import Stored, read_standing, require_head
from failstop._storefile import StoreError, StoreFile, append, cutting, path_of
from failstop.errors import ConfigurationError
from failstop.events import Incident, InDoubt

__all__ = [
    "Row",
    "StoreError",
    "StoreReport",
    "Verdict",
    "check",
    "export",
    "in_doubt",
    "rows",
    "seal",
    "verify",
    "verify_export",
]

MANY = 100_000
"""Rows from which on a journal should be sealed."""


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What a store holds, and what is wrong with it.

    `waiting` counts the alerts of each sink, `in_doubt` the transactions that are in doubt, with
    those that processes which are gone left beside the store.
    """

    name: str
    service: str
    state: State
    epoch: int
    incident: Incident | None
    rows: int
    head: str
    waiting: dict[str, int]
    in_doubt: int
    problems: tuple[str, ...]
    advice: tuple[str, ...]

    @property
    def is_sound(self) -> bool:
        """True where nothing is wrong."""
        return not self.problems


def check(path: str | os.PathLike[str]) -> StoreReport:
    """Read a whole store and say what is wrong with it; change nothing.

    Raises:
        ConfigurationError: there is no file at `path`.
        StoreError: it cannot be read at all.
    """
    with _reading(path) as connection:
        stored = read_standing(connection, _name(path))
        damage = [text for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]
        verdict = _verdict(connection, stored)
        waiting = dict(connection.execute("SELECT sink, COUNT(*) FROM outbox GROUP BY sink"))
        doubts = _in_doubt.open_doubts(connection, _name(path))
    left = Commits(path_of(path)).seen_behind()
    standing = stored.standing
    return StoreReport(
        name=_name(path),
        service=stored.service,
        state=standing.latch.state,
        epoch=standing.latch.epoch,
        incident=standing.incident,
        rows=verdict.rows,
        head=verdict.head,
        waiting=waiting,
        in_doubt=len({*doubts, *left}),
        problems=(*damage, *verdict.problems),
        advice=("seal the journal, it is long",) if verdict.rows > MANY else (),
    )


def in_doubt(path: str | os.PathLike[str]) -> tuple[InDoubt, ...]:
    """Return the transactions that a store holds in doubt, the oldest first.

    Those that processes which are gone left beside it come last.

    Raises:
        ConfigurationError: there is no file at `path`.
        StoreError: it cannot be read.
    """
    with _reading(path) as connection:
        read_standing(connection, _name(path))
        kept = _in_doubt.open_doubts(connection, _name(path))
    left = Commits(path_of(path)).seen_behind()
    return (*kept, *(doubt for doubt in left if doubt not in kept))


def rows(path: str | os.PathLike[str], *, after: int = 0, last: int | None = None) -> list[Row]:
    """Return the journal's rows after number `after`, or only the `last` many of them.

    Raises:
        ConfigurationError: there is no file at `path`.
        StoreError: it cannot be read.
    """
    with _reading(path) as connection:
        found = connection.execute(
            "SELECT seq, body, hash FROM journal WHERE seq > ? ORDER BY seq DESC LIMIT ?",
            (after, -1 if last is None else last),
        )
        return [Row(seq, str(body), str(digest)) for seq, body, digest in found][::-1]


def verify(path: str | os.PathLike[str], *, head: str | None = None) -> Verdict:
    """Check every row of the journal; with `head`, also that the row with that hash is in it.

    Raises:
        ConfigurationError: there is no file at `path`.
        StoreError: it cannot be read.
    """
    with _reading(path) as connection:
        verdict = _verdict(connection, read_standing(connection, _name(path)))
        if head is None or _has_row(connection, head):
            return verdict
    missing = "the journal has no row with the given head: it was cut, rewritten, or sealed since"
    return replace(verdict, problems=(*verdict.problems, missing))


def export(path: str | os.PathLike[str], stream: IO[str]) -> Verdict:
    """Write the journal to `stream`, a JSON object a line, each with its hash; return its verdict.

    Raises:
        ConfigurationError: there is no file at `path`.
        StoreError: it cannot be read.
    """
    with _reading(path) as connection:
        verdict = _verdict(connection, read_standing(connection, _name(path)))
        _write_lines(_rows(connection), stream)
    return verdict


def verify_export(
    lines: Iterable[str], *, previous: str | None = None, head: str | None = None
) -> Verdict:
    """Check what `export` or `seal` wrote.

    Args:
        lines: the lines of the file.
        previous: the hash of the row before the first one, such as the head of the segment before;
            what the first row says where it is None.
        head: the hash that the last row must have.

    Raises:
        ConfigurationError: a line is no row of a journal.
    """
    found = [_row_of(line) for line in lines]
    if not found:
        raise ConfigurationError("the file holds no row of a journal")
    first = found[0]
    before = first.facts.get("prev") if previous is None else previous
    verdict = _chain.verify(found, seq=first.seq - 1, previous=str(before))
    if head is None or verdict.head == head:
        return verdict
    return replace(verdict, problems=(*verdict.problems, "the last row is not the given head"))


def seal(path: str | os.PathLike[str], *, keep: int = 1000) -> Path | None:
    """Move all but the `keep` latest rows of the journal into a file of their own beside it.

    The rows are written out first; the journal then says in a row which ones, and the hash of the
    last, so the chain goes on over the seal. Returns the file, None where there is nothing to move.

    Raises:
        ConfigurationError: there is no file at `path`, or `keep` is below zero.
        StoreError: it cannot be read or written, or the chain is broken: then nothing is moved.
    """
    if keep < 0:
        raise ConfigurationError("keep must be a number of rows, zero or more")
    file = _file(path)
    with contextlib.closing(file), file.writing() as connection:
        verdict = _verdict(connection, read_standing(connection, file.name))
        if not verdict.is_intact:
            raise StoreError(
                f"the journal of {file.name!r} is not intact: {verdict.problems[0]}",
                kind="store_corrupt",
            )
        last = verdict.last - keep
        if last < verdict.first:
            return None
        return _seal(connection, path_of(path), verdict.first, last)


def _seal(connection: sqlite3.Connection, path: Path, first: int, last: int) -> Path:
    target = path.with_name(f"{path.name}.journal-{first:09d}-{last:09d}.jsonl")
    draft = target.with_name(f".{target.name}")
    with draft.open("w", encoding="ascii") as stream:
        _write_lines(_rows(connection, last), stream)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(target)
    head = connection.execute("SELECT hash FROM journal WHERE seq = ?", (last,)).fetchone()[0]
    with cutting(connection):
        connection.execute("DELETE FROM journal WHERE seq <= ?", (last,))
    append(
        connection,
        {"event": "Sealed", "first": first, "last": last, "head": head, "file": target.name},
    )
    return target


# The file


def _name(path: str | os.PathLike[str]) -> str:
    return path_of(path).name


def _file(path: str | os.PathLike[str]) -> StoreFile:
    place = path_of(path)
    if not place.exists():
        raise ConfigurationError(f"there is no store {place.name!r}; give the path of its file")
    return StoreFile(place)


@contextlib.contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[sqlite3.Connection]:
    file = _file(path)
    with contextlib.closing(file), file.reading() as connection:
        yield connection


# The chain


def _rows(connection: sqlite3.Connection, last: int | None = None) -> Iterator[Row]:
    found = connection.execute(
        "SELECT seq, body, hash FROM journal WHERE seq <= ? ORDER BY seq",
        (2**63 - 1 if last is None else last,),
    )
    for seq, body, digest in found:
        yield Row(seq, str(body), str(digest))


def _verdict(connection: sqlite3.Connection, stored: Stored) -> Verdict:
    seq, previous = _base(connection, stored)
    verdict = _chain.verify(_rows(connection), seq=seq, previous=previous)
    try:
        require_head(connection, stored.service)
    except StoreError:
        cut = (
            "the journal does not end where the store says: rows at its end are missing or changed"
        )
        return replace(verdict, problems=(*verdict.problems, cut))
    return verdict


def _base(connection: sqlite3.Connection, stored: Stored) -> tuple[int, str]:
    """Return the number and the hash before the first row: the last seal's, or the beginning."""
    found = connection.execute(
        "SELECT body FROM journal WHERE body LIKE ? ORDER BY seq DESC LIMIT 1",
        ('%"event":"Sealed"%',),
    ).fetchone()
    if found is None:
        return 0, _chain.genesis(stored.store_id)
    try:
        facts: Any = json.loads(found[0])
        return int(facts["last"]), str(facts["head"])
    except (ValueError, TypeError, KeyError):
        return 0, _chain.genesis(stored.store_id)


def _has_row(connection: sqlite3.Connection, head: str) -> bool:
    found = connection.execute("SELECT 1 FROM journal WHERE hash = ?", (head.strip().lower(),))
    return found.fetchone() is not None


# The lines


def _write_lines(found: Iterable[Row], stream: IO[str]) -> None:
    for row in found:
        stream.write(_chain.canonical({**row.facts, "hash": row.hash}) + "\n")


def _row_of(line: str) -> Row:
    try:
        facts: Any = json.loads(line)
        digest = facts.pop("hash")
        return Row(int(facts["seq"]), _chain.canonical(facts), str(digest))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ConfigurationError("a line is no row of a journal") from None
