"""The hash chain of the journal: each row holds the hash of its predecessor.

A row is the canonical JSON text of what happened, and the SHA-256 of that text. The text holds
the row's number and the hash of the row before it, so an edit, a deletion, an insertion and a
change of order all show. Who can write the file can also compute a whole new chain; only a head
hash that is kept elsewhere shows that, and a cut at the end.

Never here: a file, or when something is written.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from failstop.events import Event

__all__ = ["Row", "Verdict", "canonical", "event_facts", "genesis", "make_row", "plain", "verify"]

MAX_TEXT = 4096
"""Characters after which a text is cut, with a mark."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the journal, as it is stored."""

    seq: int
    body: str
    hash: str

    @property
    def facts(self) -> dict[str, Any]:
        """What the row says."""
        facts: dict[str, Any] = json.loads(self.body)
        return facts


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found; `head` is the hash of the last row, to be kept elsewhere."""

    rows: int
    first: int
    last: int
    head: str
    problems: tuple[str, ...] = ()

    @property
    def is_intact(self) -> bool:
        """True where nothing was found."""
        return not self.problems


def canonical(value: object) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, ASCII."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def plain(value: object) -> Any:
    """Return `value` in JSON's types; a text that is too long is cut, with a mark."""
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {field.name: plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        text = str(value)
        return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… (cut)"
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return value


def event_facts(event: Event) -> dict[str, Any]:
    """Return the journal's facts of an event; `event` is the name of its class."""
    facts: dict[str, Any] = plain(event)
    facts["event"] = type(event).__name__
    return facts


def genesis(store_id: str) -> str:
    """Return what stands for the hash before the first row: no two stores share one."""
    return _hash(f"failstop journal {store_id}")


def make_row(seq: int, previous: str, facts: Mapping[str, Any]) -> Row:
    """Return the row that follows the row with the hash `previous`."""
    body = canonical({**facts, "seq": seq, "prev": previous})
    return Row(seq, body, _hash(body))


def verify(rows: Iterable[Row], *, seq: int, previous: str) -> Verdict:
    """Check rows that follow the row `seq` with the hash `previous`; name every break."""
    problems: list[str] = []
    first, last, count = seq + 1, seq, 0
    for row in rows:
        problems += _problems_of(row, last + 1, previous)
        last, previous, count = row.seq, row.hash, count + 1
    return Verdict(count, first, last, previous, tuple(problems))


def _problems_of(row: Row, seq: int, previous: str) -> list[str]:
    if row.seq != seq:
        return [f"row {seq} is missing; row {row.seq} follows"]
    if _hash(row.body) != row.hash:
        return [f"row {seq} was changed: its text does not have its hash"]
    facts = _facts_of(row)
    if facts.get("seq") != seq:
        return [f"row {seq} was moved: it says it is row {facts.get('seq')}"]
    if facts.get("prev") != previous:
        return [f"row {seq} does not follow the row before it: one of them was replaced"]
    return []


def _facts_of(row: Row) -> dict[str, Any]:
    """Return what a row says, nothing where it is no JSON object."""
    try:
        facts: object = json.loads(row.body)
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
