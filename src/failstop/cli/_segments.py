"""The sealed rows of a journal: the files beside a store that its rows say were moved out.

Each must hold the rows that its seal names and end with the hash that the seal names, so all of
them hang on the journal in the store. Never here: a word to the user.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from failstop import journal as books
from failstop.errors import ConfigurationError
from failstop.journal import Row, Verdict

__all__ = ["Segment", "facts_of", "segments_of", "verify_file"]


@dataclass(frozen=True, slots=True)
class Segment:
    """The rows `first` to `last`, sealed in `file`; `hashes` are those of its rows."""

    file: str
    first: int
    last: int
    head: str
    is_there: bool
    problems: tuple[str, ...] = ()
    hashes: frozenset[str] = frozenset()


def segments_of(path: Path, first: int) -> list[Segment]:
    """Return the segments before the row `first` of an intact store, the latest first.

    It ends with the first one that is not there or not whole: what that says proves nothing.
    """
    found: list[Segment] = []
    rows = books.rows(path)
    while first > 1 and all(each.is_there and not each.problems for each in found):
        seal = _seal_before(rows, first)
        if seal is None:
            problem = f"no row says where the rows before row {first} are sealed"
            return [*found, Segment("", 1, first - 1, "", False, (problem,))]
        segment, sealed = _read(path.resolve().parent, seal)
        found.append(segment)
        rows += sealed  # an older seal is in the store still, or in the segment that came after
        first = segment.first
    return found


def _seal_before(rows: Iterable[Row], first: int) -> Segment | None:
    """Return what the seal that ends just before the row `first` says."""
    for facts in map(facts_of, rows):
        is_seal = facts.get("event") == "Sealed" and facts.get("last") == first - 1
        if is_seal and isinstance(facts.get("first"), int):
            name = Path(str(facts.get("file"))).name
            return Segment(name, facts["first"], first - 1, str(facts.get("head")), False)
    return None


def _read(directory: Path, seal: Segment) -> tuple[Segment, list[Row]]:
    place = directory / seal.file
    if not place.is_file():
        return seal, []
    verdict, rows = verify_file(place, head=seal.head)
    problems = [f"{seal.file}: {problem}" for problem in verdict.problems]
    if not problems and (verdict.first, verdict.last) != (seal.first, seal.last):
        problems = [f"{seal.file}: it does not hold the rows {seal.first} to {seal.last}"]
    hashes = frozenset(row.hash for row in rows)
    read = Segment(seal.file, seal.first, seal.last, seal.head, True, tuple(problems), hashes)
    return read, rows


def verify_file(
    path: Path, *, previous: str | None = None, head: str | None = None
) -> tuple[Verdict, list[Row]]:
    """Check an export or a segment; a line that is no row is a finding, as an edit may leave one.

    Raises:
        OSError: it cannot be read.
    """
    text = path.read_text("utf-8", "replace").splitlines()
    try:
        verdict = books.verify_export(text, previous=previous, head=head)
        return verdict, [_row(line) for line in text]
    except ConfigurationError as error:
        return Verdict(0, 0, 0, "", (str(error),)), []
    except (ValueError, ArithmeticError, RecursionError):
        return Verdict(0, 0, 0, "", ("a line is no row of a journal",)), []


def _row(line: str) -> Row:
    facts = json.loads(line)
    return Row(int(facts["seq"]), line, str(facts["hash"]))


def facts_of(row: Row) -> dict[str, Any]:
    """Return what a row says; its bare text where it was changed into something else."""
    try:
        facts: object = row.facts
    except (ValueError, RecursionError):
        facts = None
    return facts if isinstance(facts, dict) else {"event": "?", "text": row.body}
