"""The store's table of evidence: what is accepted of each database, and what was seen of it last.

What a probe sees never changes what is accepted, except that a witness which rose is acknowledged.
Only a person's reset accepts what was seen, in the transaction that ends the incident. Never here:
what a difference means, a database, or a transaction of its own.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from failstop._storefile import problem

__all__ = ["Known", "Sighting", "accept", "note", "note_lost", "read"]


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a probe saw of a database: which one it is, on which timeline, the witness at what.

    `timeline` and `witness` are None where the database has none.
    """

    cluster: str
    timeline: int | None = None
    witness: int | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What is accepted of a database, with the witness as it was acknowledged last.

    `lost` counts the acknowledged transactions that were found missing since a person accepted
    what was seen, which was in the epoch `accepted`.
    """

    baseline: Sighting
    seen: Sighting
    lost: int = 0
    accepted: int = 0


def read(connection: sqlite3.Connection, name: str, database: str) -> Known | None:
    """Return what is known of a database, None where it was never seen.

    Raises:
        StoreError: the row makes no sense.
    """
    row = connection.execute(
        "SELECT cluster, timeline, witness, seen_cluster, seen_timeline, seen_witness, "
        "lost, accepted FROM evidence WHERE database = ?",
        (database,),
    ).fetchone()
    if row is None:
        return None
    cluster, timeline, witness, seen_cluster, seen_timeline, seen_witness, lost, accepted = row
    may_be_none = (timeline, witness, seen_timeline, seen_witness)
    numbers = (lost, accepted, *(each for each in may_be_none if each is not None))
    if not all(map(_is_cluster, (cluster, seen_cluster))) or not all(map(_is_natural, numbers)):
        raise problem("store_corrupt", name, "holds evidence that makes no sense")
    seen = Sighting(seen_cluster, seen_timeline, seen_witness)
    return Known(Sighting(cluster, timeline, witness), seen, lost, accepted)


def _is_cluster(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_natural(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def note(connection: sqlite3.Connection, database: str, seen: Sighting, *, is_intact: bool) -> None:
    """Write what was seen; where it is intact the witness counts as acknowledged.

    What was never seen before is accepted as it is: there is nothing to compare it with.
    """
    facts = {
        "database": database,
        "cluster": seen.cluster,
        "timeline": seen.timeline,
        "witness": seen.witness,
    }
    connection.execute(
        "INSERT INTO evidence (database, cluster, timeline, witness, seen_cluster, seen_timeline, "
        "seen_witness) VALUES (:database, :cluster, :timeline, :witness, :cluster, :timeline, "
        ":witness) ON CONFLICT (database) DO UPDATE SET seen_cluster = excluded.seen_cluster, "
        "seen_timeline = excluded.seen_timeline, seen_witness = excluded.seen_witness",
        facts,
    )
    if is_intact and seen.witness is not None:
        connection.execute(
            "UPDATE evidence SET witness = max(coalesce(witness, 0), :witness), "
            "seen_witness = max(coalesce(witness, 0), :witness) WHERE database = :database",
            facts,
        )


def note_lost(connection: sqlite3.Connection, database: str, lost: int) -> None:
    """Write that acknowledged transactions are missing, until a person accepts it."""
    connection.execute(
        "UPDATE evidence SET lost = max(lost, ?) WHERE database = ?", (lost, database)
    )


def accept(
    connection: sqlite3.Connection, epoch: int, moved: Sequence[str], *, is_forced: bool
) -> None:
    """Accept of every database what was seen of it last; a person has said so in `epoch`.

    Without force only of those that are what they were, and of those in `moved` that they changed
    their timeline: a round that is under way may have seen what that person has not.
    """
    connection.execute(
        "UPDATE evidence SET cluster = seen_cluster, timeline = seen_timeline, "
        "witness = seen_witness, lost = 0, accepted = :epoch "
        "WHERE :is_forced OR (lost = 0 AND seen_cluster = cluster "
        "AND coalesce(seen_witness, -1) >= coalesce(witness, -1) "
        "AND (seen_timeline IS timeline OR database IN (SELECT value FROM json_each(:moved))))",
        {"epoch": epoch, "is_forced": is_forced, "moved": json.dumps(moved)},
    )
