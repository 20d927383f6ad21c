"""`failstop store check`: what a store holds, and one sentence for whatever is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from failstop import FailSafe
from failstop.cli import main
from failstop.events import InDoubt
from failstop.journal import rows
from failstop.recovery import Recovery

Captured = pytest.CaptureFixture[str]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Tamper = Callable[..., None]

WITHOUT_RIGHTS = """
import ctypes, os, sys
DROP, DAC_OVERRIDE, DAC_READ_SEARCH = 24, 1, 2
for right in (DAC_OVERRIDE, DAC_READ_SEARCH):
    ctypes.CDLL(None).prctl(DROP, right, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a program as a root that has to ask for permission, like everybody else."""


def test_check_says_what_a_store_holds(store: Path, run: Run) -> None:
    done = run("store", "check", store)
    assert done.returncode == 0
    assert "service.db of trading" in done.stdout
    assert "FAIL_SAFE, epoch 1" in done.stdout
    assert "halted by alice: a rehearsal" in done.stdout
    assert done.stdout.endswith("sound\n")
    assert done.stderr == ""


def test_check_gives_json_for_machines(store: Path, capsys: Captured) -> None:
    assert main(["store", "check", str(store), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["is_sound"], told["service"], told["state"]) == (True, "trading", "FAIL_SAFE")
    assert told["incident"]["since"].count("T") == 1


def test_an_edited_journal_makes_a_store_unsound(
    store: Path, tamper: Tamper, capsys: Captured
) -> None:
    tamper(store, "UPDATE journal SET body = replace(body, 'alice', 'bob')")
    assert main(["store", "check", str(store)]) == 1
    assert "broken: row " in capsys.readouterr().out
    assert main(["store", "check", str(store), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["is_sound"]
    assert told["problems"]


def test_a_store_is_checked_while_its_service_runs_and_nothing_changes(
    tmp_path: Path, run: Run
) -> None:
    path = tmp_path / "service.db"
    with FailSafe("trading", store=path, recovery=Recovery(probe_interval=60.0)) as failsafe:
        before = rows(path)
        done = run("store", "check", path)
        assert (done.returncode, failsafe.is_normal) == (0, True)
        assert "NORMAL, epoch 0" in done.stdout
        assert rows(path) == before


def test_check_counts_what_is_in_doubt(store: Path, capsys: Captured) -> None:
    failsafe = FailSafe("trading", store=store)
    failsafe.report_in_doubt(InDoubt("database", "order-1", datetime.now(UTC)))
    failsafe.close()
    assert main(["store", "check", str(store)]) == 0
    assert "in doubt 1\n" in capsys.readouterr().out
    assert main(["store", "check", str(store), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["in_doubt"] == 1


# What can be wrong with the file


def newer(store: Path) -> None:
    connection = sqlite3.connect(store)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def torn(store: Path) -> None:
    content = bytearray(store.read_bytes())
    content[4096:12288] = b"\xff" * 8192
    store.write_bytes(content)


def another_programs(store: Path) -> None:
    store.unlink()
    connection = sqlite3.connect(store)
    connection.execute("CREATE TABLE holiday (day)")
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "said", "mend"),
    [
        (newer, "is of version 99", "install the failstop that wrote it"),
        (torn, "is damaged", "put back a copy"),
        (another_programs, "is no store of failstop", "put back a copy"),
        (lambda store: store.write_text("a letter"), "is no SQLite file", "put back a copy"),
        (lambda store: store.write_bytes(b""), "is empty", "put back a copy"),
    ],
)
def test_a_spoilt_store_is_one_sentence_with_what_to_do(
    spoil: Callable[[Path], object], said: str, mend: str, store: Path, run: Run
) -> None:
    spoil(store)
    done = run("store", "check", store)
    [sentence] = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert said in sentence
    assert mend in sentence


def test_a_spoilt_store_is_json_for_machines(store: Path, capsys: Captured) -> None:
    newer(store)
    assert main(["store", "check", str(store), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "store_newer"
    assert "is of version 99" in told["error"]


@pytest.mark.parametrize("words", [["store", "check"], ["journal", "verify"], ["journal", "seal"]])
def test_a_locked_store_says_who_must_let_go(
    words: list[str], locked: Path, capsys: Captured
) -> None:
    assert main([*words, str(locked)]) == 1
    said = capsys.readouterr().err
    assert "is locked; wait a moment; if it stays locked, end the process" in said


@pytest.mark.parametrize("shut", ["file", "directory"])
def test_a_store_that_may_not_be_read_says_who_may(
    shut: str, tmp_path: Path, store: Path, run: Run
) -> None:
    (tmp_path / "vault").mkdir()
    place = Path(shutil.copy(store, tmp_path / "vault" / "service.db"))
    closed = place if shut == "file" else place.parent
    closed.chmod(0)
    through = (sys.executable, "-c", WITHOUT_RIGHTS) if os.geteuid() == 0 else ()
    try:
        done = run("store", "check", place, through=through)
    finally:
        closed.chmod(0o700)
    [sentence] = done.stderr.splitlines()
    if shut == "directory" and sys.version_info >= (3, 14):  # pathlib takes it for one not there
        assert done.returncode in (1, 2)
    else:
        assert done.returncode == 1
        assert "cannot be opened" in sentence
        assert "run this as the service's user" in sentence


@pytest.mark.parametrize(
    "words", [["store", "check"], ["journal", "show"], ["journal", "verify"], ["journal", "seal"]]
)
def test_a_store_that_is_not_there_is_wrong_usage_and_not_made(
    words: list[str], tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "nothing.db"
    assert main([*words, str(path)]) == 2
    assert "there is no store 'nothing.db'; give the path" in capsys.readouterr().err
    assert not path.exists()


@pytest.mark.parametrize("place", ["", ".", "nowhere/service.db"])
def test_what_cannot_be_a_store_is_wrong_usage(place: str, run: Run) -> None:
    assert run("store", "check", place).returncode == 2


def test_what_a_store_says_can_neither_leak_nor_move_the_cursor(
    store: Path, tamper: Tamper, capsys: Captured
) -> None:
    """Whoever writes the file must not write on the screen of whoever reads it."""
    tamper(store, "UPDATE standing SET service = char(27) || '[2Jpostgresql://u:secret@host/db'")
    assert main(["store", "check", str(store)]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "secret" not in said
