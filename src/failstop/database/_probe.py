"""The proof that a database is the one that was trusted, and takes and keeps writes.

Made by the monitor on connections of its own: a cheap one while the service is NORMAL, all of it
else. Never here: what is known of the database, and what another one than that means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.engine import Connection, Engine

from failstop._evidence import Known, Sighting
from failstop.database._recall import Recall
from failstop.errors import CriticalDatabaseError, DatabaseUnavailableError, Outcome
from failstop.recovery._baselines import Baselines, finding

__all__ = ["Probe", "require_writable"]

IN_RECOVERY = text("SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'")
FACTS = text(
    "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on', "
    "to_regclass('failstop.witness') IS NOT NULL, "
    "system_identifier::text || '/' || (SELECT oid FROM pg_database "
    "WHERE datname = current_database())::text, "
    # the control file lags behind a promotion by a checkpoint
    "CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_lsn()) END, "
    "pg_postmaster_start_time()::text FROM pg_control_system()"
)
RAISE_WITNESS = text(
    "INSERT INTO failstop.witness AS witness (process, counter) VALUES (:key, 1) "
    "ON CONFLICT (process) DO UPDATE SET counter = witness.counter + 1, seen_at = now() "
    "RETURNING counter"
)
READ_WITNESS = text("SELECT counter FROM failstop.witness WHERE process = :key")
SLOTS = text(
    "SELECT current_setting('max_connections')::int "
    "- current_setting('superuser_reserved_connections')::int "
    "- coalesce(current_setting('reserved_connections', true), '0')::int "
    "- (SELECT sum(numbackends) FROM pg_stat_database)::int"
)


Evidence = tuple[str, CriticalDatabaseError | None]
"""What was proven, in a sentence, and what only a person may accept of it."""


class Server(NamedTuple):
    """What a server says of itself; `started` differs after each start of any server."""

    has_witness: bool
    sighting: Sighting
    started: str


class Probe:
    """Prove of the database `name` what can be proven now.

    Args:
        name: the database's.
        baselines: what is known of it.
        recall: the transactions that were acknowledged last.
        second: makes each of its connections anew.
    """

    def __init__(self, name: str, baselines: Baselines, recall: Recall, second: Engine) -> None:
        self._name = name
        self._baselines = baselines
        self._recall = recall
        self._second = second
        self._started: str | None = None

    def prove(
        self, connection: Connection, verify: Callable[[Connection], object] | None
    ) -> tuple[str, CriticalDatabaseError | None]:
        """Return the evidence, in a sentence, and what only a person may accept of it.

        Args:
            connection: to the database, in no transaction.
            verify: refuses what voids a claim, and has all else proven too; None in NORMAL.

        Raises:
            CriticalDatabaseError: it takes no writes, or is not the one that was trusted.
            ConfigurationError: `verify` refuses.
            StoreError: what is known of it cannot be read or written.
        """
        prove = {"postgresql": self._prove_postgresql, "sqlite": self._prove_sqlite}
        said, found = prove.get(connection.dialect.name, _prove_other)(connection, verify)
        if verify is not None:
            verify(connection)
        return said, found

    def _prove_sqlite(self, connection: Connection, _: object) -> Evidence:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.rollback()
        seen = Sighting(_file_of(connection, self._name))
        _store, known = self._baselines.known(self._name)
        self._judge(known, seen)
        if not self._recall.is_empty:
            self._recall.check(connection)
            connection.rollback()
        return "took a write lock, in the file that is known", None

    def _prove_postgresql(self, connection: Connection, is_full: object) -> Evidence:
        server = _facts(connection, self._name)
        key, known = self._baselines.known(self._name)
        seen = self._raise_witness(connection, server, key, known)
        found = self._judge(known, seen)
        said = "answered in a transaction that may write; no schema, so nothing was written"
        if seen.witness is not None:
            said = f"committed a write, witness at {seen.witness}"
        if is_full is not None or server.started != self._started:
            said += self._prove_on_second(seen, key)
            self._started = server.started
        return said, found

    def _judge(self, known: Known | None, seen: Sighting) -> CriticalDatabaseError | None:
        """Keep what was seen; raise what nobody may accept, return what a person may."""
        found = finding(self._name, known, seen)
        self._baselines.note(self._name, seen, is_intact=found is None)
        if found is not None and not found.is_acceptable:
            raise found
        return found

    def _raise_witness(
        self, connection: Connection, server: Server, key: str, known: Known | None
    ) -> Sighting:
        """Raise the witness; one below what was acknowledged stays as it is, to be seen again."""
        seen, baseline = server.sighting, None if known is None else known.baseline
        is_other = baseline is not None and baseline.cluster != seen.cluster
        if not server.has_witness or is_other:
            connection.rollback()
            return seen
        raised: int = connection.execute(RAISE_WITNESS, {"key": key}).scalar_one()
        acknowledged = None if baseline is None else baseline.witness
        if acknowledged is not None and raised <= acknowledged:
            connection.rollback()
            return replace(seen, witness=raised - 1)
        connection.commit()
        return replace(seen, witness=raised)

    def _prove_on_second(self, seen: Sighting, key: str) -> str:
        """Read the write back on a second connection, and recall there what was acknowledged."""
        with self._second.connect() as other:
            if seen.witness is not None:
                self._require_kept(other, seen.witness, key)
            if not self._recall.is_empty:
                self._recall.check(other)
            left = other.execute(SLOTS).scalar_one()
        read = ", and read it back on a second connection" if seen.witness is not None else ""
        return f"{read}; about {left} connections are free"

    def _require_kept(self, other: Connection, raised: int, key: str) -> None:
        kept = other.execute(READ_WITNESS, {"key": key}).scalar()
        if kept is None or kept < raised:
            raise DatabaseUnavailableError(
                f"database {self._name!r} does not show a committed write to a second connection",
                kind="write_not_read_back",
                outcome=Outcome.NOT_STARTED,
            )


def require_writable(connection: Connection, name: str) -> None:
    """Return where the database takes writes, as far as it says itself.

    Raises:
        DatabaseUnavailableError: it is a standby, or read-only.
    """
    if connection.dialect.name != "postgresql":
        return
    in_recovery, is_read_only = connection.execute(IN_RECOVERY).one()
    connection.rollback()
    _refuse_read_only(name, in_recovery=in_recovery, is_read_only=is_read_only)


def _refuse_read_only(name: str, *, in_recovery: bool, is_read_only: bool) -> None:
    if in_recovery or is_read_only:
        what = "is a standby" if in_recovery else "is read-only"
        raise DatabaseUnavailableError(
            f"database {name!r} {what}", kind="read_only", outcome=Outcome.NOT_STARTED
        )


def _facts(connection: Connection, name: str) -> Server:
    in_recovery, is_read_only, has_witness, cluster, wal, started = connection.execute(FACTS).one()
    _refuse_read_only(name, in_recovery=in_recovery, is_read_only=is_read_only)
    timeline = int(wal[:8], 16)  # the first of the three numbers in the name of a WAL file
    return Server(has_witness, Sighting(cluster, timeline), started)


def _prove_other(connection: Connection, _: object) -> Evidence:
    connection.execute(text("SELECT 1"))
    return "answered a SELECT; nothing is written on this kind of database", None


def _file_of(connection: Connection, name: str) -> str:
    """Return which file an SQLite database is; one that was replaced is another."""
    rows = connection.exec_driver_sql("PRAGMA database_list").all()
    file = next((str(row.file) for row in rows if row.name == "main" and row.file), None)
    if file is None:
        return "memory"
    try:
        return f"file {Path(file).stat().st_ino}"
    except OSError as error:
        raise DatabaseUnavailableError(
            f"the file of database {name!r} cannot be found ({type(error).__name__})",
            kind="file_gone",
            outcome=Outcome.NOT_STARTED,
        ) from error
