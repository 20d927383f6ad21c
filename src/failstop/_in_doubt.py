"""The store's table of transactions in doubt: who asks, what was answered, who has to be told.

An answer is written before anybody is told, and its row is forgotten when they were: so each is
told at least once, and once only unless the *teller*, the process that tells it, dies in between.

Never here: the question, a listener, an alert, the journal, or a transaction of its own.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from failstop import _chain
from failstop._process import is_gone
from failstop._storefile import problem
from failstop.errors import Outcome
from failstop.events import InDoubt

__all__ = [
    "ANSWERS",
    "Answered",
    "claim",
    "empty",
    "forget",
    "is_waiting",
    "keep",
    "open_doubts",
    "write_answer",
]

ANSWERS = frozenset({Outcome.COMMITTED, Outcome.ROLLED_BACK})
"""What ends a doubt: all else leaves it open."""
HOLD = 300.0
"""Seconds after which a teller is believed to be gone where that cannot be proven."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A doubt that is over, with what became of the work."""

    doubt: InDoubt
    outcome: Outcome


def keep(connection: sqlite3.Connection, doubt: InDoubt) -> None:
    """Write an open doubt; where the key is in doubt already, the later one stands for both.

    The very same doubt is one, and keeps its answer.
    """
    connection.execute(
        "INSERT INTO in_doubt (database, key, facts) VALUES (?, ?, ?) "
        "ON CONFLICT (database, key) DO UPDATE "
        "SET facts = excluded.facts, answer = NULL, teller = NULL, until = NULL "
        "WHERE facts != excluded.facts",
        (doubt.database, doubt.key, _text(doubt)),
    )


def open_doubts(connection: sqlite3.Connection, name: str) -> tuple[InDoubt, ...]:
    """Return the doubts that have no answer, the oldest first.

    Raises:
        StoreError: a row makes no sense.
    """
    rows = connection.execute(
        "SELECT database, key, facts FROM in_doubt WHERE answer IS NULL ORDER BY rowid"
    ).fetchall()
    return tuple(_doubt(name, *row) for row in rows)


def write_answer(
    connection: sqlite3.Connection, doubt: InDoubt, outcome: Outcome, teller: str | None
) -> bool:
    """Write what became of `doubt`; False where it is answered already, or is another one by now.

    Whoever wrote it is the one who tells it; the next process that tells any, where it is None.
    """
    done = connection.execute(
        "UPDATE in_doubt SET answer = ?, teller = ?, until = ? "
        "WHERE database = ? AND key = ? AND facts = ? AND answer IS NULL",
        (outcome.value, teller, time.monotonic() + HOLD, *_identity(doubt)),
    )
    return done.rowcount == 1


def claim(connection: sqlite3.Connection, name: str, teller: str) -> tuple[Answered, ...]:
    """Return the answers that `teller` has to tell: its own, and those of processes that are gone.

    Raises:
        StoreError: a row makes no sense.
    """
    now = time.monotonic()
    rows = connection.execute(
        "SELECT database, key, facts, answer, teller, until FROM in_doubt "
        "WHERE answer IS NOT NULL ORDER BY rowid"
    ).fetchall()
    found = []
    for database, key, facts, answer, *holder in rows:
        answered = _answered(name, _doubt(name, database, key, facts), answer)
        if _is_held(holder, teller, now):
            continue
        connection.execute(
            "UPDATE in_doubt SET teller = ?, until = ? WHERE database = ? AND key = ?",
            (teller, now + HOLD, database, key),
        )
        found.append(answered)
    return tuple(found)


def _is_held(holder: Sequence[Any], teller: str, now: float) -> bool:
    """Say whether another process tells it; a clock of another boot may say any time."""
    other, until = holder
    if other is None or until is None or other == teller or not now < until <= now + HOLD:
        return False
    return not is_gone(other.partition("#")[0])


def is_waiting(connection: sqlite3.Connection) -> bool:
    """Say whether there is an answer that somebody has to tell."""
    found = connection.execute("SELECT 1 FROM in_doubt WHERE answer IS NOT NULL LIMIT 1")
    return found.fetchone() is not None


def forget(connection: sqlite3.Connection, doubt: InDoubt, teller: str) -> None:
    """Take out a doubt whose answer `teller` has told."""
    connection.execute(
        "DELETE FROM in_doubt WHERE database = ? AND key = ? AND facts = ? AND teller = ?",
        (*_identity(doubt), teller),
    )


def empty(connection: sqlite3.Connection) -> None:
    """In a forked child with a store in memory: what is in doubt is the parent's to ask."""
    connection.execute("DELETE FROM in_doubt")


def _identity(doubt: InDoubt) -> tuple[str, str, str]:
    """A key may come into doubt again: an answer to the first is none to the second."""
    return doubt.database, doubt.key, _text(doubt)


def _text(doubt: InDoubt) -> str:
    return _chain.canonical(_chain.plain(doubt))


def _doubt(name: str, database: str, key: str, text: str) -> InDoubt:
    try:
        facts = json.loads(text)
        if set(facts) != {field.name for field in fields(InDoubt)}:
            raise ValueError("a doubt of another version")
        facts["since"] = datetime.fromisoformat(facts["since"])
        return replace(InDoubt(**facts), database=database, key=key)  # the text may be cut
    except (TypeError, ValueError) as error:
        raise problem("store_corrupt", name, "holds a doubt that makes no sense") from error


def _answered(name: str, doubt: InDoubt, answer: str) -> Answered:
    try:
        return Answered(doubt, Outcome(answer))
    except ValueError as error:
        raise problem("store_corrupt", name, "holds an answer that makes no sense") from error
