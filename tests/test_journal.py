"""The journal: no edit, deletion, swap, insertion or cut stays unseen."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from failstop import FailSafe
from failstop import _chain as chain
from failstop.errors import ConfigurationError, DatabaseUnavailableError
from failstop.journal import (
    StoreError,
    check,
    export,
    rows,
    seal,
    verify,
    verify_export,
)
from failstop.recovery import Recovery

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def run_a_service(path: Path, *, times: int = 3) -> None:
    with FailSafe("api", store=path, recovery=Recovery(probe_interval=60.0)) as failsafe:
        for number in range(times):
            failsafe.trip(DatabaseUnavailableError("gone", kind="refused"))
            failsafe.halt(actor="ann", reason=f"drill {number}")
            failsafe.reset(actor="ann", reason="done")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("journal") / "failstop.db"
    run_a_service(path)
    return path


@pytest.fixture
def path(story: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(story, tmp_path / "failstop.db"))


def tamper(path: Path, *statements: tuple[str, tuple[Any, ...]]) -> None:
    """Change the file as somebody who knows SQLite would."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER IF EXISTS journal_is_never_cut")
        connection.execute("DROP TRIGGER IF EXISTS journal_is_never_changed")
        for statement, parameters in statements:
            connection.execute(statement, parameters)


def test_an_untouched_journal_is_intact(path: Path) -> None:
    verdict = verify(path)
    assert verdict.is_intact
    assert verdict.rows == verdict.last == len(rows(path))
    assert verify(path, head=verdict.head).is_intact


# Tampering, by property

TAMPERING = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@TAMPERING
@given(st.data())
def test_any_change_of_a_rows_text_is_found(story: Path, tmp_path: Path, data: Any) -> None:
    path = Path(shutil.copy(story, tmp_path / "edited.db"))
    row = data.draw(st.sampled_from(rows(path)))
    place = data.draw(st.integers(0, len(row.body) - 1))
    letter = data.draw(st.characters(exclude_characters=row.body[place], codec="utf-8"))
    edited = row.body[:place] + letter + row.body[place + 1 :]
    tamper(path, ("UPDATE journal SET body = ? WHERE seq = ?", (edited, row.seq)))
    assert not verify(path).is_intact


@TAMPERING
@given(st.data())
def test_an_edit_with_its_hash_made_again_is_found(story: Path, tmp_path: Path, data: Any) -> None:
    """The next row, or what the store says of the end, still holds the old hash."""
    path = Path(shutil.copy(story, tmp_path / "edited.db"))
    row = data.draw(st.sampled_from(rows(path)))
    forged = chain.make_row(row.seq, row.facts["prev"], {**row.facts, "actor": "mallory"})
    tamper(
        path,
        (
            "UPDATE journal SET body = ?, hash = ? WHERE seq = ?",
            (forged.body, forged.hash, row.seq),
        ),
    )
    assert not verify(path).is_intact


@TAMPERING
@given(st.data())
def test_any_deletion_is_found(story: Path, tmp_path: Path, data: Any) -> None:
    path = Path(shutil.copy(story, tmp_path / "deleted.db"))
    gone = data.draw(st.sets(st.integers(1, len(rows(path))), min_size=1))
    tamper(path, *(("DELETE FROM journal WHERE seq = ?", (seq,)) for seq in gone))
    assert not verify(path).is_intact


@TAMPERING
@given(st.data())
def test_any_swap_is_found(story: Path, tmp_path: Path, data: Any) -> None:
    path = Path(shutil.copy(story, tmp_path / "swapped.db"))
    last = len(rows(path))
    one, other = data.draw(
        st.lists(st.integers(1, last), min_size=2, max_size=2, unique=True), label="swap"
    )
    move = "UPDATE journal SET seq = ? WHERE seq = ?"
    tamper(path, (move, (-1, one)), (move, (one, other)), (move, (other, -1)))
    assert not verify(path).is_intact


@TAMPERING
@given(st.data())
def test_deleted_rows_that_are_renumbered_are_found(story: Path, tmp_path: Path, data: Any) -> None:
    path = Path(shutil.copy(story, tmp_path / "renumbered.db"))
    gone = data.draw(st.integers(1, len(rows(path))))
    tamper(
        path,
        ("DELETE FROM journal WHERE seq = ?", (gone,)),
        ("UPDATE journal SET seq = seq - 1 WHERE seq > ?", (gone,)),
    )
    assert not verify(path).is_intact


@TAMPERING
@given(st.data())
def test_a_cut_that_mends_the_stores_own_end_is_found_by_a_head_kept_elsewhere(
    story: Path, tmp_path: Path, data: Any
) -> None:
    path = Path(shutil.copy(story, tmp_path / "cut.db"))
    head = verify(path).head
    last = data.draw(st.integers(1, len(rows(path)) - 1))
    end = rows(path)[last - 1]
    tamper(
        path,
        ("DELETE FROM journal WHERE seq > ?", (last,)),
        ("UPDATE standing SET head_seq = ?, head_hash = ?", (end.seq, end.hash)),
    )
    assert verify(path).is_intact
    verdict = verify(path, head=head)
    assert not verdict.is_intact
    assert "no row with the given head" in verdict.problems[0]


def test_a_whole_journal_of_another_store_is_found(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    run_a_service(other)
    with contextlib.closing(sqlite3.connect(other)) as connection:
        found = connection.execute("SELECT seq, body, hash FROM journal").fetchall()
    end = found[-1]
    tamper(
        path,
        ("DELETE FROM journal", ()),
        *(("INSERT INTO journal VALUES (?, ?, ?)", row) for row in found),
        ("UPDATE standing SET head_seq = ?, head_hash = ?", (end[0], end[2])),
    )
    assert not verify(path).is_intact


@pytest.mark.parametrize("body", ["[]", "null", "{", "[" * 100_000, '"x"', "7"])
def test_a_row_that_is_no_object_is_a_finding_no_crash(path: Path, body: str) -> None:
    forged = chain._hash(body)
    tamper(path, ("UPDATE journal SET body = ?, hash = ? WHERE seq = 2", (body, forged)))
    assert not verify(path).is_intact


def test_the_file_itself_refuses_edits_and_deletions(path: Path) -> None:
    """Against mistakes: who means it can drop the trigger, and is found by the chain."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in ("UPDATE journal SET body = 'x'", "DELETE FROM journal"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_the_canonical_text_survives_a_round_trip(facts: dict[str, Any]) -> None:
    text = chain.canonical(facts)
    assert chain.canonical(json.loads(text)) == text
    assert text.isascii()


# Exporting


def test_an_export_is_json_lines_that_can_be_verified_alone(path: Path) -> None:
    stream = io.StringIO()
    verdict = export(path, stream)
    lines = stream.getvalue().splitlines()
    assert len(lines) == verdict.rows
    assert json.loads(lines[0])["seq"] == 1
    assert verify_export(lines, head=verdict.head).is_intact
    assert not verify_export(lines[:-1], head=verdict.head).is_intact
    assert not verify_export([*lines[:3], *lines[4:]]).is_intact
    assert not verify_export([lines[0].replace("api", "apj"), *lines[1:]]).is_intact


@pytest.mark.parametrize("lines", [[], ["nonsense"], ["{}"], ["[]"], ["7"]])
def test_what_is_no_export_is_refused(lines: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="no row of a journal"):
        verify_export(lines)


def test_only_the_latest_rows_can_be_read(path: Path) -> None:
    everything = rows(path)
    assert rows(path, last=2) == everything[-2:]
    assert rows(path, after=3) == everything[3:]


# Sealing


def test_a_seal_moves_rows_out_and_the_chain_goes_on(path: Path) -> None:
    before = rows(path)
    segment = seal(path, keep=2)
    assert segment is not None
    verdict = verify(path)
    assert verdict.is_intact
    assert verdict.first == len(before) - 1
    moved = verify_export(segment.read_text().splitlines())
    assert moved.is_intact
    assert moved.rows + 2 == len(before)
    sealed = rows(path)[-1].facts
    assert (sealed["event"], sealed["head"]) == ("Sealed", moved.head)
    run_a_service(path)
    assert seal(path, keep=0) is not None
    assert verify(path).is_intact
    assert check(path).is_sound


def test_rows_cut_behind_a_seal_are_found(path: Path) -> None:
    seal(path, keep=4)
    first = rows(path)[0].seq
    tamper(path, ("DELETE FROM journal WHERE seq = ?", (first,)))
    assert not verify(path).is_intact


def test_a_broken_journal_is_not_sealed(path: Path) -> None:
    tamper(path, ("UPDATE journal SET body = '{}' WHERE seq = 2", ()))
    before = rows(path)
    with pytest.raises(StoreError, match="not intact"):
        seal(path, keep=0)
    assert rows(path) == before
    assert [each for each in path.parent.iterdir() if each.suffix == ".jsonl"] == []


def test_a_seal_with_nothing_to_move_moves_nothing(path: Path) -> None:
    before = rows(path)
    assert seal(path) is None
    assert rows(path) == before
    with pytest.raises(ConfigurationError, match="zero or more"):
        seal(path, keep=-1)


def test_a_service_goes_on_while_its_journal_is_sealed(path: Path) -> None:
    with FailSafe("api", store=path, recovery=Recovery(probe_interval=60.0)) as failsafe:
        assert seal(path, keep=0) is not None
        failsafe.halt(actor="ann", reason="drill")
        failsafe.reset(actor="ann", reason="done")
    assert verify(path).is_intact


# The check of the whole store


def test_a_check_says_what_the_store_holds(path: Path) -> None:
    report = check(path)
    assert report.is_sound
    assert (report.service, report.state, report.epoch) == ("api", "NORMAL", 6)
    assert (report.rows, report.head) == (len(rows(path)), verify(path).head)


def test_a_check_finds_a_damaged_journal(path: Path) -> None:
    tamper(path, ("DELETE FROM journal WHERE seq = 2", ()))
    report = check(path)
    assert not report.is_sound
    assert "row 2 is missing" in report.problems[0]


def test_reading_a_store_that_is_not_there_makes_none(tmp_path: Path) -> None:
    for read in (check, verify, rows, seal):
        with pytest.raises(ConfigurationError, match="there is no store"):
            read(tmp_path / "none.db")
    assert list(tmp_path.iterdir()) == []
