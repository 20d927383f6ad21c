"""What the commands over a store are shown with: a service that is gone, and real processes."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from failstop import FailSafe
from failstop.testing import CapturingSink

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Tamper = Callable[..., None]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The store of a service that was halted, and is gone."""
    path = tmp_path / "service.db"
    with FailSafe("trading", store=path, sinks=[CapturingSink()]) as failsafe:
        failsafe.halt(actor="alice", reason="a rehearsal")
    return path


@pytest.fixture
def tamper() -> Tamper:
    """Give a function that changes a store as somebody does who may write the file."""

    def change(store: Path, *statements: str) -> None:
        with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as connection:
            connection.execute("DROP TRIGGER journal_is_never_changed")
            connection.execute("DROP TRIGGER journal_is_never_cut")
            for statement in statements:
                connection.execute(statement)

    return change


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Give a function that runs `failstop` as a process, in a directory of its own."""

    def finished(*words: object, through: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        program = Path(sysconfig.get_path("scripts")) / "failstop"
        command = [*through, str(program), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert "Traceback" not in done.stderr
        return done

    return finished


@pytest.fixture
def locked(store: Path) -> Iterator[Path]:
    """The store, while somebody holds it for himself alone."""
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN IMMEDIATE")
        yield store
        connection.execute("ROLLBACK")
