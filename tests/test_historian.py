"""The history: what happened, from the journal where there is one, bounded, and never a guess."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from failstop import CriticalError, FailSafe, Recovery, journal
from failstop._chain import event_facts
from failstop._historian import MOST_ROWS, Historian
from failstop._history import FIRST, LAST, MOST_INCIDENTS, IncidentLog
from failstop._storefile import StoreFile, append
from failstop.errors import DatabaseUnavailableError, ErrorCode, Outcome
from failstop.events import (
    AlertDelivered,
    Doubted,
    FailureCounted,
    Incident,
    InDoubt,
    Recovering,
    RecoveryFailed,
    Reset,
    Resolved,
    Tripped,
)
from failstop.testing import CapturingSink

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def incident(number: int = 1) -> Incident:
    return Incident(
        incident_id=f"id-{number}",
        epoch=number,
        error_code=ErrorCode.DB_UNAVAILABLE,
        kind="refused",
        reason="Database unavailable",
        cause="the server is gone",
        action="start the server",
        since=NOW,
    )


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.fixture(params=["memory", "store"])
def failsafe(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FailSafe]:
    store = tmp_path / "failstop.db" if request.param == "store" else None
    slow = Recovery(probe_interval=60.0)
    with FailSafe("api", store=store, sinks=[CapturingSink()], recovery=slow) as made:
        yield made


def fail(failsafe: FailSafe) -> None:
    failsafe.trip(DatabaseUnavailableError("the server is gone", kind="refused"))
    assert failsafe.flush(10)


def test_an_incident_is_told_from_its_trip_to_its_end(failsafe: FailSafe) -> None:
    fail(failsafe)
    failsafe.acknowledge(actor="ann")
    failsafe.reset(actor="ann", reason="the server is back")
    assert failsafe.flush(10)
    history = failsafe.status().history
    told = [(moment.event, moment.text) for moment in history.moments]
    assert told[0] == ("Tripped", "fail-safe mode: the server is gone")
    assert ("Acknowledged", "taken by ann") in told
    assert ("Reset", "left by ann: the server is back") in told
    assert [each.action for each in history.delivered] == ["trigger", "acknowledge", "resolve"]
    [past] = history.past
    assert (past.left_by, past.kind, past.overruled) == ("ann", "refused", ())
    assert past.seconds >= 0
    assert history.problem is None
    assert history.begins is not None


def test_a_new_incident_begins_a_new_timeline(failsafe: FailSafe) -> None:
    fail(failsafe)
    failsafe.reset(actor="ann", reason="back")
    halted = failsafe.halt(actor="bob", reason="drill").incident
    history = failsafe.status().history
    assert history.incident_id == halted.incident_id
    assert history.moments[0].text == "halted by bob: drill"
    assert len(history.past) == 1


def test_another_process_tells_the_same_from_the_store(tmp_path: Path) -> None:
    store = tmp_path / "failstop.db"
    with FailSafe("api", store=store, recovery=Recovery(probe_interval=60.0)) as failsafe:
        fail(failsafe)
        failsafe.reset(actor="ann", reason="back")
        mine = failsafe.status().history
        assert Historian(store).tell() == mine
    with FailSafe("api", store=store, recovery=Recovery(probe_interval=60.0)) as restarted:
        assert restarted.status().history.past == mine.past


# Bounds


def test_a_long_incident_keeps_its_first_and_its_last_moments() -> None:
    log = IncidentLog()
    log.add(event_facts(Tripped("api", 1, NOW, incident())))
    for number in range(500):
        log.add(event_facts(Recovering("api", 1, at(2 * number), incident())))
        failed = (f"check {number}",)
        log.add(event_facts(RecoveryFailed("api", 1, at(2 * number + 1), incident(), failed)))
    history = log.history()
    assert len(history.moments) == FIRST + LAST
    assert history.left_out == 1001 - FIRST - LAST
    assert history.moments[0].event == "Tripped"
    assert history.moments[-1].text == "recovery failed: check 499"


def test_what_happens_again_and_again_is_one_moment() -> None:
    log = IncidentLog()
    log.add(event_facts(Tripped("api", 1, NOW, incident())))
    for number in range(1, 4):
        log.add(event_facts(FailureCounted("api", 1, at(number), incident(), "refused", 5)))
    moment = log.history().moments[-1]
    assert (moment.count, moment.at, moment.until) == (15, at(1), at(3))


def test_past_incidents_are_bounded_and_the_latest_is_first() -> None:
    log = IncidentLog()
    for number in range(1, 2 * MOST_INCIDENTS):
        log.add(event_facts(Tripped("api", number, NOW, incident(number))))
        log.add(event_facts(Reset("api", number, at(1), incident(number), None, "proven")))
    past = log.history().past
    assert len(past) == MOST_INCIDENTS
    assert past[0].incident_id == f"id-{2 * MOST_INCIDENTS - 1}"


def test_a_clock_that_went_back_makes_no_negative_time() -> None:
    log = IncidentLog()
    log.add(event_facts(Tripped("api", 1, NOW, incident())))
    log.add(event_facts(Reset("api", 1, at(-60), incident(), None, "proven")))
    assert log.history().past[0].seconds == 0


def test_a_moment_never_names_a_key() -> None:
    log = IncidentLog()
    doubt = InDoubt("database", "order-secret-4711", NOW)
    log.add(event_facts(Tripped("api", 1, NOW, incident())))
    log.add(event_facts(Doubted("api", 1, NOW, doubt)))
    log.add(event_facts(Resolved("api", 1, NOW, doubt, Outcome.COMMITTED)))
    texts = [moment.text for moment in log.history().moments]
    assert texts[1:] == [
        "a transaction of 'database' is in doubt",
        "a transaction of 'database' was in doubt: COMMITTED",
    ]


def test_the_alert_of_a_warning_is_no_moment_of_an_incident() -> None:
    log = IncidentLog()
    log.add(event_facts(Tripped("api", 1, NOW, incident())))
    log.add(event_facts(AlertDelivered("api", 1, NOW, "pager", "trigger", "note-1")))
    log.add(event_facts(AlertDelivered("api", 1, NOW, "pager", "trigger", "id-1")))
    assert len(log.history().moments) == 2
    assert len(log.history().delivered) == 1


def test_an_event_of_another_version_is_no_event() -> None:
    with pytest.raises(ValueError, match="another version"):
        IncidentLog().add({"event": "Tripped", "occurred_at": NOW.isoformat()})


# The journal


def journaled(store: Path, count: int) -> None:
    """Append rows that say nothing to anybody."""
    with contextlib.closing(StoreFile(store)) as file, file.writing() as connection:
        for _ in range(count):
            append(connection, {"event": "Noise", "occurred_at": NOW.isoformat()})


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one incident that is over."""
    path = tmp_path / "failstop.db"
    with FailSafe("api", store=path, recovery=Recovery(probe_interval=60.0)) as failsafe:
        fail(failsafe)
        failsafe.reset(actor="ann", reason="back")
    return path


def tamper(store: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(store)) as connection:
        connection.execute("DROP TRIGGER journal_is_never_changed")
        connection.execute("DROP TRIGGER journal_is_never_cut")
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("UPDATE journal SET body = replace(body, 'ann', 'eve')", "was changed"),
        ("UPDATE journal SET body = 'x' WHERE seq = 1", "was changed"),
        ("DELETE FROM journal WHERE seq = 2", "is missing"),
    ],
)
def test_a_journal_that_was_edited_is_not_told(store: Path, statement: str, word: str) -> None:
    tamper(store, statement)
    history = Historian(store).tell()
    assert history.problem is not None
    assert word in history.problem
    assert "failstop journal verify" in history.problem
    assert (history.past, history.moments) == ((), ())


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM journal WHERE seq > 1",
        "UPDATE journal SET hash = 'x' WHERE seq = (SELECT MAX(seq) FROM journal)",
    ],
)
def test_a_journal_that_is_cut_while_it_is_read_is_not_told(store: Path, statement: str) -> None:
    """And stays so: one good answer between two bad ones would be a guess."""
    historian = Historian(store)
    assert historian.tell().problem is None
    tamper(store, statement)
    for _ in range(2):
        assert "missing or changed" in str(historian.tell().problem)
        assert historian.tell().past == ()


def test_a_store_that_cannot_be_read_leaves_what_this_process_saw(tmp_path: Path) -> None:
    path = tmp_path / "failstop.db"
    with FailSafe("api", store=path, recovery=Recovery(probe_interval=60.0)) as failsafe:
        fail(failsafe)
        failsafe.reset(actor="ann", reason="back")
        assert failsafe.status().history.past
        path.rename(tmp_path / "away.db")
        failsafe.halt(actor="bob", reason="drill")
        history = failsafe.status().history
        assert "there is no store" in str(history.problem)
        assert history.past == ()
        assert history.moments[0].text == "halted by bob: drill"


def test_a_sealed_journal_is_read_on(store: Path) -> None:
    historian = Historian(store)
    before = historian.tell()
    journaled(store, 30)
    assert journal.seal(store, keep=0) is not None
    assert historian.tell().problem is None
    journaled(store, 5)
    journal.seal(store, keep=2)
    assert historian.tell().problem is None
    assert before.past
    assert historian.tell().begins in (None, before.begins)


def test_more_rows_than_are_read_at_a_time_are_read_from_the_latest(store: Path) -> None:
    historian = Historian(store)
    assert historian.tell().past
    journaled(store, MOST_ROWS + 10)
    history = historian.tell()
    assert (history.problem, history.past) == (None, ())
    fresh = Historian(store).tell()
    assert (fresh.problem, fresh.past) == (None, ())


def test_new_rows_are_added_to_what_was_read(store: Path) -> None:
    historian = Historian(store)
    assert len(historian.tell().past) == 1
    with FailSafe("api", store=store, recovery=Recovery(probe_interval=60.0)) as failsafe:
        failsafe.trip(CriticalError("again", outcome=Outcome.NOT_STARTED))
        failsafe.reset(actor="bob", reason="back")
    assert [each.left_by for each in historian.tell().past] == ["bob", "ann"]
