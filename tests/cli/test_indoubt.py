"""`failstop indoubt`: what is in doubt, what the database says of it, and what a person says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from failstop import FailSafe, journal
from failstop.cli import main
from failstop.events import InDoubt
from failstop.testing import PostgresDatabase

Captured = pytest.CaptureFixture[str]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

WHO = ("--actor", "alice", "--reason", "it is in the books of the exchange")
LONG = "order-" + "7" * 200


@pytest.fixture(autouse=True)
def _no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.fixture
def doubtful(tmp_path: Path) -> Path:
    """The store of a service that is gone, with three transactions in doubt."""
    path = tmp_path / "doubtful.db"
    failsafe = FailSafe("trading", store=path)
    for database, key, pid in (
        ("main", LONG, 4711),
        ("main", "order-2", None),
        ("b", "order-2", 1),
    ):
        failsafe.report_in_doubt(InDoubt(database, key, datetime.now(UTC), pid))
    failsafe.close()
    return path


def test_list_shows_whole_keys(doubtful: Path, run: Run) -> None:
    done = run("indoubt", "list", "--store", doubtful)
    assert done.returncode == 0
    first, facts, *_ = done.stdout.splitlines()
    assert first == LONG
    assert facts.startswith("  of main since 2")
    assert facts.endswith("Z, server process 4711")


def test_list_gives_json_for_machines(doubtful: Path, capsys: Captured) -> None:
    assert main(["indoubt", "list", "--store", str(doubtful), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(each["database"], each["key"], each["backendPid"]) for each in told] == [
        ("main", LONG, 4711),
        ("main", "order-2", None),
        ("b", "order-2", 1),
    ]


def test_nothing_in_doubt_is_said(store: Path, capsys: Captured) -> None:
    assert main(["indoubt", "list", "--store", str(store)]) == 0
    assert capsys.readouterr().out == "nothing is in doubt\n"


def test_a_person_answers_where_nobody_can_be_asked(doubtful: Path, run: Run) -> None:
    words = ("--outcome", "COMMITTED", *WHO)
    done = run("indoubt", "resolve", LONG, "--store", doubtful, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{LONG} of main is COMMITTED; whoever waits for it is told" in done.stdout
    assert len(journal.in_doubt(doubtful)) == 2
    row = journal.rows(doubtful)[-1].facts
    assert (row["event"], row["outcome"], row["actor"]) == ("Resolved", "COMMITTED", "alice")


@pytest.mark.parametrize(
    "words",
    [
        ["--outcome", "COMMITTED", "--actor", "alice"],
        ["--outcome", "COMMITTED", "--reason", "so it is"],
        ["--outcome", "UNKNOWN", *WHO],
        ["--actor", "alice"],
        [],  # to ask there must be a database
    ],
)
def test_an_answer_is_a_whole_one(words: list[str], doubtful: Path) -> None:
    assert main(["indoubt", "resolve", LONG, "--store", str(doubtful), *words]) == 2
    assert len(journal.in_doubt(doubtful)) == 3


def test_a_key_of_two_databases_needs_the_database(doubtful: Path, capsys: Captured) -> None:
    words = ["indoubt", "resolve", "order-2", "--store", str(doubtful), "--outcome", "COMMITTED"]
    assert main([*words, *WHO]) == 2
    assert "in doubt in main, b: give --database" in capsys.readouterr().err
    assert main([*words, *WHO, "--database", "b"]) == 0
    assert {each.database for each in journal.in_doubt(doubtful)} == {"main"}


def test_a_key_that_is_not_in_doubt_is_exit_code_1(doubtful: Path, capsys: Captured) -> None:
    words = ["indoubt", "resolve", "order-9", "--store", str(doubtful), "--outcome", "COMMITTED"]
    assert main([*words, *WHO, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["kind"] == "not_found"


@pytest.mark.parametrize("is_there", [True, False])
def test_the_database_is_asked_rather(
    is_there: bool, doubtful: Path, postgres: PostgresDatabase, capsys: Captured
) -> None:
    if is_there:
        postgres.execute("INSERT INTO failstop.receipt (key, service) VALUES (%s, 's')", [LONG])
    words = ["--store", str(doubtful), "--url", postgres.url(), "--json"]
    assert main(["indoubt", "resolve", LONG, *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["outcome"] == ("COMMITTED" if is_there else "ROLLED_BACK")
    assert told["actor"] is None
    assert journal.rows(doubtful)[-1].facts["actor"] is None
    left = postgres.execute("SELECT count(*) FROM failstop.receipt")
    assert left == [(int(is_there),)]


def test_a_database_that_does_not_answer_leaves_the_doubt(doubtful: Path, capsys: Captured) -> None:
    url = "postgresql://trader:hunter2@127.0.0.1:1/trading"
    words = ["--store", str(doubtful), "--url", url]
    assert main(["indoubt", "resolve", LONG, *words]) == 3
    assert "hunter2" not in capsys.readouterr().err
    assert len(journal.in_doubt(doubtful)) == 3
