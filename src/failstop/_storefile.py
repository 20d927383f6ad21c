"""The store's file: one SQLite database, made once, whole, and opened by many processes.

Lives here: the schema, the making, transactions, forks, and what SQLite's errors mean for an
operator. Never here: what a row means; a log line, for locks are held; and any way to make the
file again where it is there but cannot be read.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

from failstop import _chain
from failstop.errors import ConfigurationError, CriticalError, Outcome
from failstop.events import Event

__all__ = [
    "FORK_PATIENCE",
    "StoreError",
    "StoreFile",
    "append",
    "append_event",
    "cutting",
    "path_of",
    "problem",
]

APPLICATION_ID = 0x6661696C  # "fail"
VERSION = 1
PATIENCE = 0.2
"""Seconds to wait for the file: a trip is written within a call's deadline and a quarter second."""
FORK_PATIENCE = 2.0

SCHEMA = """
CREATE TABLE standing (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    store_id TEXT NOT NULL, service TEXT NOT NULL,
    state TEXT NOT NULL, epoch INTEGER NOT NULL, revision INTEGER NOT NULL,
    is_held INTEGER NOT NULL, incident TEXT, left_by TEXT,
    head_seq INTEGER NOT NULL, head_hash TEXT NOT NULL,
    told INTEGER NOT NULL, told_at REAL NOT NULL, beat INTEGER NOT NULL
);
CREATE TABLE journal (seq INTEGER PRIMARY KEY, body TEXT NOT NULL, hash TEXT NOT NULL);
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sink TEXT NOT NULL, incident TEXT NOT NULL, action TEXT NOT NULL, why TEXT NOT NULL,
    alert TEXT NOT NULL, made_at REAL NOT NULL, wait_from REAL NOT NULL, wait REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, error TEXT
);
CREATE INDEX outbox_order ON outbox (sink, incident, id);
CREATE TABLE lane (
    sink TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL,
    wait_from REAL NOT NULL DEFAULT 0, wait REAL NOT NULL DEFAULT 0
);
CREATE TABLE page (
    sink TEXT NOT NULL, incident TEXT NOT NULL, paged_at REAL NOT NULL, pages INTEGER NOT NULL,
    PRIMARY KEY (sink, incident)
);
CREATE TABLE in_doubt (
    database TEXT NOT NULL, key TEXT NOT NULL, facts TEXT NOT NULL,
    answer TEXT, teller TEXT, until REAL,
    PRIMARY KEY (database, key)
);
CREATE TABLE action (
    incident TEXT NOT NULL, name TEXT NOT NULL, state TEXT NOT NULL, since TEXT NOT NULL,
    error TEXT, runner TEXT NOT NULL,
    PRIMARY KEY (incident, name)
);
CREATE TABLE evidence (
    database TEXT PRIMARY KEY,
    cluster TEXT NOT NULL, timeline INTEGER, witness INTEGER,
    seen_cluster TEXT NOT NULL, seen_timeline INTEGER, seen_witness INTEGER,
    lost INTEGER NOT NULL DEFAULT 0, accepted INTEGER NOT NULL DEFAULT 0
);
"""
NEVER_CHANGED = """
CREATE TRIGGER journal_is_never_changed BEFORE UPDATE ON journal
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END
"""
NEVER_CUT = """
CREATE TRIGGER journal_is_never_cut BEFORE DELETE ON journal
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END
"""


class StoreError(CriticalError):
    """The store cannot be read or written; `kind` says how, `action` what to do about it."""

    default_outcome = Outcome.NOT_STARTED


PROBLEMS = {
    sqlite3.SQLITE_BUSY: ("store_locked", "is locked", "end the process that holds its lock"),
    sqlite3.SQLITE_LOCKED: ("store_locked", "is locked", "end the process that holds its lock"),
    sqlite3.SQLITE_FULL: ("store_full", "has no space left on its disk", "free space on its disk"),
    sqlite3.SQLITE_READONLY: (
        "store_read_only",
        "cannot be written",
        "give the service's user the right to write the file and its directory",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "store_unreachable",
        "cannot be opened",
        "give the service's user the right to write the file and its directory",
    ),
    sqlite3.SQLITE_PERM: (
        "store_unreachable",
        "cannot be opened",
        "give the service's user the right to write the file and its directory",
    ),
    sqlite3.SQLITE_CORRUPT: ("store_corrupt", "is damaged", ""),
    sqlite3.SQLITE_NOTADB: ("store_corrupt", "is no SQLite file", ""),
}
RESTORE = (
    "keep the file as it is for the audit, put back a copy whose `failstop store check` passes, "
    "or move it away to begin a new one, and restart"
)


def problem(kind: str, name: str, what: str, action: str = "") -> StoreError:
    """Return the error for a store; it names the file, never its directory."""
    error = StoreError(f"the store {name!r} {what}", kind=kind)
    error.action = action or RESTORE
    return error


class StoreFile:
    """One SQLite database: the file at `path`, or one in memory where it is None.

    Raises:
        ConfigurationError: the path cannot be one of a store.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.name: str = path.name if path else "memory"
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._is_closed = False
        self._has_forked = False

    def is_there(self) -> bool:
        """Say whether there is anything at the path."""
        return self.path is not None and os.path.lexists(self.path)

    def make(self, service: str) -> None:
        """Make the file where there is none: whole and under its name in one step."""
        if self.path is None:
            _fill(self._use(_connect(":memory:")), service)
        elif not self.is_there():
            with self._explained():
                _make(self.path, service)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for reads that see one moment.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._held("BEGIN") as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give the connection in a transaction that is lasting when the block has ended.

        Raises:
            StoreError: the file cannot be written; nothing of the block was.
        """
        with self._held("BEGIN IMMEDIATE") as connection:
            yield connection

    def require_in_place(self) -> None:
        """Raise where the file that was opened is no longer the one at its path.

        Raises:
            StoreError: it was removed or replaced.
        """
        if self.path is None or self._inode is None:
            return
        if _inode(self.path) != self._inode:
            raise problem(
                "store_replaced",
                self.name,
                "was removed or replaced while the service runs",
                "put the file back in its place, or restart the service if the new one is right",
            )

    def close(self) -> None:
        """Close the connection; the file is not opened again."""
        with self._lock:
            self._is_closed = True
            self._drop()

    def before_fork(self) -> None:
        """Close the file: SQLite's locks and its connections do not survive a fork."""
        self._has_forked = self._lock.acquire(timeout=FORK_PATIENCE)
        if self._has_forked and self.path is not None:
            self._drop()

    def after_fork_in_parent(self) -> None:
        """Let the file be opened again."""
        if self._has_forked:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin with a lock of the child's own; what is in memory stays."""
        self._lock = threading.Lock()

    # The connection

    @contextlib.contextmanager
    def _held(self, begin: str) -> Iterator[sqlite3.Connection]:
        if not self._lock.acquire(timeout=2 * PATIENCE):
            raise problem("store_locked", self.name, "is busy", "wait; it is asked again")
        try:
            with self._explained():
                connection = self._open()
                connection.execute(begin)
                yield connection
                connection.execute("COMMIT")
        finally:
            self._end()
            self._lock.release()

    def _end(self) -> None:
        """Leave no transaction open, whatever happened; called with the lock held."""
        connection = self._connection
        if connection is not None and connection.in_transaction:
            try:
                connection.execute("ROLLBACK")
            except sqlite3.Error:
                self._drop()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self._drop_unless_busy(error)
            raise self._explain(error) from error
        except OSError as error:
            raise problem(
                "store_unreachable",
                self.name,
                f"cannot be opened ({type(error).__name__})",
                "make its directory one that the service's user may write",
            ) from error

    def _explain(self, error: sqlite3.Error) -> StoreError:
        code = getattr(error, "sqlite_errorcode", None)
        known = PROBLEMS.get(code & 0xFF) if code is not None else None
        if known is None:
            what = f"failed ({getattr(error, 'sqlite_errorname', type(error).__name__)})"
            return problem("store_failed", self.name, what, "look at the disk of the store")
        kind, what, action = known
        return problem(kind, self.name, what, action)

    def _open(self) -> sqlite3.Connection:
        """Return the connection, opened and checked where there is none; called with the lock."""
        if self._is_closed:
            raise problem("store_closed", self.name, "is closed", "make a new FailSafe")
        if self._connection is not None:
            return self._connection
        assert self.path is not None
        self.require_in_place()
        if self.path.stat().st_size == 0:
            raise problem("store_corrupt", self.name, "is empty")
        connection = _checked(_connect(f"{self.path.as_uri()}?mode=rw"), self.name)
        self._inode = self._inode or _inode(self.path)
        return self._use(connection)

    def _use(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        """Keep `connection`, and close it when this goes away: Python warns where one is left."""
        self._connection = connection
        self._closer = weakref.finalize(self, _close, connection)
        self._closer.atexit = False  # a thread may still use it then
        return connection

    def _drop(self) -> None:
        """Close the connection, where it can be; called with the lock held."""
        if self._connection is not None:
            self._connection = None
            self._closer()

    def _drop_unless_busy(self, error: sqlite3.Error) -> None:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if self.path is not None and code not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL):
            self._drop()


def _checked(connection: sqlite3.Connection, name: str) -> sqlite3.Connection:
    """Return `connection` where it leads to a store that this version reads, else close it."""
    try:
        _require_ours(connection, name)
    except BaseException:
        connection.close()
        raise
    return connection


def _require_ours(connection: sqlite3.Connection, name: str) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise problem("store_corrupt", name, "is no store of failstop")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise problem(
            "store_newer",
            name,
            f"is of version {version}, this failstop reads up to {VERSION}",
            "install the failstop that wrote it, or a later one",
        )


def append_event(connection: sqlite3.Connection, event: Event) -> None:
    """Append the row of an event to the journal, with the process that it happened in."""
    process = {"host": socket.gethostname(), "pid": os.getpid()}
    append(connection, {**_chain.event_facts(event), **process})


def append(connection: sqlite3.Connection, facts: Mapping[str, object]) -> None:
    """Append one row to the journal, in the transaction that is open."""
    head = connection.execute("SELECT head_seq, head_hash FROM standing").fetchone()
    if head is None:
        raise problem("store_corrupt", "failstop", "holds no state")
    seq, previous = head
    row = _chain.make_row(seq + 1, previous, facts)
    connection.execute("INSERT INTO journal VALUES (?, ?, ?)", (row.seq, row.body, row.hash))
    connection.execute("UPDATE standing SET head_seq = ?, head_hash = ?", (row.seq, row.hash))


@contextlib.contextmanager
def cutting(connection: sqlite3.Connection) -> Iterator[None]:
    """Let rows of the journal be deleted, in the transaction that is open; for the seal only."""
    connection.execute("DROP TRIGGER journal_is_never_cut")
    yield
    connection.execute(NEVER_CUT)


def _connect(place: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        place, uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _close(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        connection.close()


def _fill(connection: sqlite3.Connection, service: str) -> None:
    store_id = secrets.token_hex(16)
    connection.executescript(SCHEMA)
    connection.execute(NEVER_CHANGED)
    connection.execute(NEVER_CUT)
    connection.execute(
        "INSERT INTO standing VALUES (1, ?, ?, 'NORMAL', 0, 0, 0, NULL, NULL, 0, ?, 0, 0, 0)",
        (store_id, service, _chain.genesis(store_id)),
    )


def _make(path: Path, service: str) -> None:
    """Make a store beside `path` and link it there: nobody ever sees a part of one."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with contextlib.closing(_connect(f"{draft.as_uri()}?mode=rwc")) as connection:
            draft.chmod(draft.stat().st_mode & 0o770)
            _fill(connection, service)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("PRAGMA journal_mode = WAL")
        with contextlib.suppress(FileExistsError):  # another process was first: its store is ours
            os.link(draft, path)
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            draft.with_name(draft.name + suffix).unlink(missing_ok=True)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def path_of(store: object) -> Path:
    """Return the path of a store.

    Raises:
        ConfigurationError: it is no path, a directory, or in a directory that does not exist.
    """
    if not isinstance(store, str | os.PathLike) or not os.fspath(store):
        raise ConfigurationError("store must be the path of a file, or None")
    path = Path(os.fsdecode(os.fspath(store))).absolute()
    if path.is_dir():
        raise ConfigurationError(f"the store {path.name!r} is a directory; name a file in it")
    if not path.parent.is_dir():
        raise ConfigurationError(
            f"the directory {path.parent.name!r} of the store does not exist; make it first"
        )
    return Path(os.path.realpath(path))
