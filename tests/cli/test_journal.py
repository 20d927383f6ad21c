"""The commands over a store: they work with the service dead, and find what was changed."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from failstop import FailSafe
from failstop.cli import main
from failstop.testing import CapturingSink

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The store of a service that was halted, and is gone."""
    path = tmp_path / "service.db"
    with FailSafe("trading", store=path, sinks=[CapturingSink()]) as failsafe:
        failsafe.halt(actor="alice", reason="a rehearsal")
    return path


def edit(store: Path) -> None:
    """Change a row as somebody does who may write the file."""
    connection = sqlite3.connect(store)
    triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
    for (name,) in triggers.fetchall():
        connection.execute(f'DROP TRIGGER "{name}"')
    connection.execute("UPDATE journal SET body = replace(body, 'alice', 'bob')")
    connection.commit()
    connection.close()


def test_show_tells_what_happened(store: Path, capsys: Captured) -> None:
    assert main(["journal", "show", str(store)]) == 0
    said = capsys.readouterr().out
    assert "Halted" in said
    assert "a rehearsal" in said


def test_show_gives_the_latest_rows_as_json(store: Path, capsys: Captured) -> None:
    assert main(["journal", "show", str(store), "--last", "1", "--json"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert {"seq", "hash", "event"} <= json.loads(line).keys()


def test_an_untouched_journal_is_intact(store: Path, capsys: Captured) -> None:
    assert main(["journal", "verify", str(store)]) == 0
    assert capsys.readouterr().out.startswith("intact: ")


def test_an_edited_journal_is_exit_code_1(store: Path, capsys: Captured) -> None:
    edit(store)
    assert main(["journal", "verify", str(store)]) == 1
    assert "broken: " in capsys.readouterr().out
    assert main(["store", "check", str(store)]) == 1
    assert "broken: " in capsys.readouterr().out


def test_a_head_that_was_kept_elsewhere_must_be_there(store: Path, capsys: Captured) -> None:
    main(["journal", "verify", str(store), "--json"])
    head = json.loads(capsys.readouterr().out)["head"]
    assert main(["journal", "verify", str(store), "--head", head]) == 0
    assert main(["journal", "verify", str(store), "--head", "0" * 64]) == 1


def test_an_export_can_be_verified_alone(store: Path, tmp_path: Path, capsys: Captured) -> None:
    exported = tmp_path / "journal.jsonl"
    assert main(["journal", "export", str(store), "--output", str(exported)]) == 0
    assert main(["journal", "verify", "--export", str(exported)]) == 0
    exported.write_text(exported.read_text().replace("alice", "bob"))
    assert main(["journal", "verify", "--export", str(exported)]) == 1


def test_an_export_goes_to_standard_output_and_over_no_file(store: Path, capsys: Captured) -> None:
    assert main(["journal", "export", str(store)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert main(["journal", "export", str(store), "--output", str(store)]) == 2


def test_a_sealed_segment_can_be_verified_alone(store: Path, capsys: Captured) -> None:
    assert main(["journal", "seal", str(store), "--keep", "0"]) == 0
    [segment] = store.parent.glob("*.jsonl")
    assert str(segment) in capsys.readouterr().out
    assert main(["journal", "verify", "--export", str(segment)]) == 0
    assert main(["journal", "verify", str(store)]) == 0
    capsys.readouterr()
    assert main(["journal", "seal", str(store)]) == 0
    assert capsys.readouterr().out == "nothing to seal\n"


def test_check_says_what_a_store_holds(store: Path, capsys: Captured) -> None:
    assert main(["store", "check", str(store)]) == 0
    said = capsys.readouterr().out
    assert "FAIL_SAFE, epoch 1" in said
    assert "halted by alice: a rehearsal" in said
    assert main(["store", "check", str(store), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["service"] == "trading"


@pytest.mark.parametrize(
    "words", [["store", "check"], ["journal", "show"], ["journal", "verify"], ["journal", "seal"]]
)
def test_a_store_that_is_not_there_is_wrong_usage_and_not_made(
    words: list[str], tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "nothing.db"
    assert main([*words, str(path)]) == 2
    assert "there is no store 'nothing.db'" in capsys.readouterr().err
    assert not path.exists()


def test_a_file_that_is_no_store_is_exit_code_1(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "other.db"
    path.write_bytes(b"something else altogether" * 100)
    assert main(["store", "check", str(path)]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_previous_goes_with_an_export(store: Path) -> None:
    assert main(["journal", "verify", str(store), "--previous", "0" * 64]) == 2
