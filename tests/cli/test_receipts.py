"""`failstop receipts prune`: old receipts go, what may be in doubt stays."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from failstop import FailSafe
from failstop.cli import main
from failstop.events import InDoubt
from failstop.recovery import Recovery
from failstop.testing import CapturingSink, PostgresDatabase


@pytest.fixture
def database(postgres: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> PostgresDatabase:
    """A database with four receipts, two of them 100 days old."""
    monkeypatch.setenv("DATABASE_URL", postgres.url())
    postgres.execute(
        "INSERT INTO failstop.receipt (key, result, service, committed_at, is_automatic) VALUES "
        "('auto-old', NULL, 's', now() - interval '100 days', true), "
        "('order-old', '1', 's', now() - interval '100 days', false), "
        "('auto-young', NULL, 's', now() - interval '80 days', true), "
        "('order-young', '1', 's', now() - interval '80 days', false)"
    )
    return postgres


def left(database: PostgresDatabase) -> set[tuple[str, str | None]]:
    return {
        (key, result)
        for key, result in database.execute("SELECT key, result FROM failstop.receipt")
    }


ALL = {("auto-old", None), ("order-old", "1"), ("auto-young", None), ("order-young", "1")}
PRUNED = {("order-old", None), ("auto-young", None), ("order-young", "1")}


def test_old_receipts_are_deleted_or_emptied(
    database: PostgresDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["receipts", "prune", "--older-than", "90d"]) == 0
    said, noise = capsys.readouterr()
    assert said.startswith(
        "deleted 1 receipts under automatic keys, emptied 1 under the service's own, from before 2"
    )
    assert noise == ""
    assert left(database) == PRUNED


@pytest.mark.parametrize("age", ["90d", "2160h", "129600m"])
def test_an_age_has_a_unit(age: str, database: PostgresDatabase) -> None:
    assert main(["receipts", "prune", "--older-than", age]) == 0
    assert left(database) == PRUNED


@pytest.mark.parametrize("age", ["23h", "1439m", "0d", "90", "1.5d", "-3d", "90 d", "for ever"])
def test_less_than_a_day_and_what_is_no_age_are_refused(
    age: str, database: PostgresDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["receipts", "prune", f"--older-than={age}"]) == 2
    assert "give" in capsys.readouterr().err
    assert left(database) == ALL


def test_a_dry_run_counts_and_changes_nothing(
    database: PostgresDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["receipts", "prune", "--older-than", "90d", "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("would have deleted 1 receipts")
    assert left(database) == ALL


def test_json_is_for_machines(
    database: PostgresDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["receipts", "prune", "--older-than", "90d", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert datetime.fromisoformat(told.pop("before")) < datetime.now(UTC) - timedelta(days=89)
    assert told == {"is_rehearsed": False, "in_doubt": 0, "deleted": 1, "emptied": 1}


def doubted(path: Path, key: str, days: float) -> None:
    """Leave the store of a service that has a transaction in doubt."""
    since = datetime.now(UTC) - timedelta(days=days)
    with FailSafe(
        "trading", store=path, sinks=[CapturingSink()], recovery=Recovery(probe_interval=60)
    ) as failsafe:
        failsafe.report_in_doubt(InDoubt("database", key, since))


def test_what_a_store_holds_in_doubt_is_spared(
    database: PostgresDatabase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stores = [tmp_path / "one.db", tmp_path / "two.db"]
    doubted(stores[0], "auto-old", days=1)
    doubted(stores[1], "order-old", days=2)
    words = [word for path in stores for word in ("--store", str(path))]
    assert main(["receipts", "prune", "--older-than", "90d", *words]) == 0
    assert capsys.readouterr().out.endswith("; 2 in doubt spared\n")
    assert left(database) == ALL


def test_a_doubt_keeps_every_receipt_that_is_not_older(
    database: PostgresDatabase, tmp_path: Path
) -> None:
    doubted(tmp_path / "one.db", "another", days=100)
    words = ["--store", str(tmp_path / "one.db")]
    assert main(["receipts", "prune", "--older-than", "90d", *words]) == 0
    assert left(database) == ALL


def test_a_store_that_cannot_be_read_stops_it(
    database: PostgresDatabase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.db").write_bytes(b"no store at all")
    prune = ["receipts", "prune", "--older-than", "90d", "--store"]
    assert main([*prune, str(tmp_path / "broken.db")]) == 1
    assert "broken.db" in capsys.readouterr().err
    assert main([*prune, str(tmp_path / "absent.db")]) == 2
    assert left(database) == ALL


def test_without_a_schema_the_mend_is_named(
    database: PostgresDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    database.execute("DROP SCHEMA failstop CASCADE")
    assert main(["receipts", "prune", "--older-than", "90d"]) == 2
    assert "run failstop schema apply" in capsys.readouterr().err


def test_without_a_url_the_mend_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert main(["receipts", "prune", "--older-than", "90d"]) == 2
    assert "give --url or set DATABASE_URL" in capsys.readouterr().err
