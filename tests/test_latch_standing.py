"""Decisions: what a failure, a halt and a reset make of the latch with its incident."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failstop._latch import IllegalSignalError, Latch, State
from failstop._standing import Acknowledge, Failure, Halt, Leave, Standing, Trip
from failstop.errors import CriticalError, DatabaseUnavailableError, ErrorCode
from failstop.events import FailureCounted, Halted, Reset, Tripped

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NORMAL = Standing(Latch(State.NORMAL))


def trip(error: CriticalError | None = None, **facts: object) -> Trip:
    failure = Failure.of(error or DatabaseUnavailableError("gone", kind="refused"))
    return Trip("api", failure, NOW, "seed", **facts)  # type: ignore[arg-type] # named by the test


def leave(standing: Standing, actor: str | None = "ann", **facts: object) -> Leave:
    latch = standing.latch
    wanted = {"epoch": latch.epoch, "revision": latch.revision, **facts}
    return Leave("api", actor, "proven", NOW, **wanted)  # type: ignore[arg-type] # as above


def test_the_first_cause_is_kept_and_later_ones_are_counted() -> None:
    first = trip()(NORMAL)
    second = trip(CriticalError("other", "TRANSACTION_FAILED", kind="commit"))(first.standing)
    assert isinstance(first.event, Tripped)
    assert isinstance(second.event, FailureCounted)
    assert second.event.kind == "commit"
    incident = second.incident
    assert incident.incident_id == first.incident.incident_id
    assert incident.error_code is ErrorCode.DB_UNAVAILABLE
    assert (incident.cause, incident.occurrences) == ("gone", 2)


@given(st.lists(st.integers(1, 5), max_size=8))
def test_occurrences_are_the_sum_of_what_was_counted(counts: list[int]) -> None:
    standing = trip()(NORMAL).standing
    for count in counts:
        standing = trip(count=count)(standing).standing
    assert standing.incident is not None
    assert standing.incident.occurrences == 1 + sum(counts)
    assert standing.latch.epoch == 1


def test_two_processes_that_share_a_store_speak_of_one_incident() -> None:
    assert trip()(NORMAL).incident.incident_id == trip()(NORMAL).incident.incident_id


def test_two_incidents_never_share_an_id() -> None:
    first = trip()(NORMAL)
    standing = leave(first.standing)(first.standing).standing
    assert trip()(standing).incident.incident_id != first.incident.incident_id


def test_a_halt_of_an_open_incident_keeps_its_cause_and_waits_for_a_person() -> None:
    tripped = trip()(NORMAL)
    halted = Halt("api", "ann", "drill", NOW, "seed")(tripped.standing)
    assert isinstance(halted.event, Halted)
    assert halted.incident.cause == "gone"
    assert halted.incident.needs_person
    assert halted.standing.latch.is_held
    assert halted.standing.latch.epoch == tripped.standing.latch.epoch + 1


def test_evidence_cannot_end_a_halt() -> None:
    halted = Halt("api", "ann", "drill", NOW, "seed")(NORMAL).standing
    with pytest.raises(IllegalSignalError, match="waits for a person"):
        leave(halted, actor=None)(halted)


def test_a_reset_is_refused_when_the_epoch_moved_on() -> None:
    seen = trip()(NORMAL).standing
    halted = Halt("api", "bob", "again", NOW, "seed")(seen).standing
    with pytest.raises(IllegalSignalError, match="saw epoch 1"):
        leave(seen, force=True)(halted)


def test_a_reset_is_refused_when_a_failure_came_during_its_checks_unless_forced() -> None:
    seen = trip()(NORMAL).standing
    later = trip()(seen).standing
    with pytest.raises(IllegalSignalError, match="while the checks were made"):
        leave(seen)(later)
    assert leave(seen, force=True)(later).standing.latch.state is State.NORMAL


def test_a_reset_carries_what_it_rests_on() -> None:
    standing = trip()(NORMAL).standing
    event = leave(standing)(standing).event
    assert isinstance(event, Reset)
    assert (event.actor, event.reason, event.failed) == ("ann", "proven", ())


def test_nothing_can_be_reset_or_acknowledged_without_an_incident() -> None:
    for decision in (leave(NORMAL), Acknowledge("api", "ann", NOW)):
        with pytest.raises(IllegalSignalError, match="no open incident"):
            decision(NORMAL)


def test_a_failure_tells_no_secret_of_the_error_it_comes_from() -> None:
    failure = Failure.of(CriticalError("lost postgresql://u:hunter2@db/x", kind="lost"))
    assert "hunter2" not in failure.cause
