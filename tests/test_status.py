"""The status: what is known, how old it is, and never "up" on a guess."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from failstop import FailSafe
from failstop._latch import State
from failstop.errors import DatabaseUnavailableError, ErrorCode
from failstop.events import CheckResult, Incident, InDoubt
from failstop.recovery import Recovery
from failstop.status import (
    Delivery,
    History,
    Moment,
    PastIncident,
    ResetPlan,
    SinkStatus,
    SystemStatus,
    masked,
    timestamp,
)
from failstop.testing import CapturingSink

NOW = datetime(2026, 1, 1, 12, 0, 1, tzinfo=UTC)
INCIDENT = Incident(
    incident_id="f00d",
    epoch=1,
    error_code=ErrorCode.DB_UNAVAILABLE,
    kind="refused",
    reason="Database unavailable",
    cause="the server is gone",
    action="start the server",
    since=NOW,
)
WELL = CheckResult("database", True, "committed a write", NOW, 0.002)
NORMAL = SystemStatus(
    service="api",
    noun="Trading system",
    state=State.NORMAL,
    epoch=0,
    incident=None,
    checks=(WELL,),
    databases=("database",),
    is_automatic=True,
    is_durable=True,
    store_error=None,
    sinks=(SinkStatus("pager", 0, None, None),),
    age=0.5,
    is_fresh=True,
    observed_at=NOW,
)
TRIPPED = replace(
    NORMAL,
    state=State.FAIL_SAFE,
    epoch=1,
    incident=INCIDENT,
    checks=(replace(WELL, is_passed=False, detail="refused"),),
)


def test_normal_with_a_fresh_observation_is_operational() -> None:
    report = NORMAL.to_dict()
    assert report["status"] == "operational"
    assert report["tradingSafety"] == {"safe": True, "reasons": []}
    assert report["database"]["status"] == "up"
    assert report["message"] == "Trading system operational."
    assert report["failSafeMode"]["active"] is False


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (replace(NORMAL, is_fresh=False), "critical"),
        (replace(NORMAL, checks=TRIPPED.checks), "critical"),
        (replace(NORMAL, age=None, is_fresh=False, observed_at=None, checks=()), "critical"),
        (replace(NORMAL, state=State.STARTING), "recovering"),
        (replace(TRIPPED, state=State.RECOVERING), "recovering"),
        (replace(NORMAL, state=State.CLOSED), "critical"),
        (TRIPPED, "critical"),
    ],
)
def test_anything_less_is_not_safe(status: SystemStatus, word: str) -> None:
    report = status.to_dict()
    assert report["status"] == word
    assert report["tradingSafety"]["safe"] is False
    assert report["tradingSafety"]["reasons"]
    assert not status.is_operational


def test_an_old_observation_is_unknown_never_up() -> None:
    assert replace(NORMAL, is_fresh=False).database()["status"] == "unknown"
    assert replace(NORMAL, checks=()).database()["status"] == "unknown"
    assert NORMAL.database("other")["status"] == "unknown"
    assert TRIPPED.database()["status"] == "down"


def test_fail_safe_mode_says_why_and_since_when() -> None:
    assert TRIPPED.to_dict()["failSafeMode"] == {
        "active": True,
        "state": "FAIL_SAFE",
        "reason": "Database unavailable",
        "since": "2026-01-01T12:00:01.000Z",
        "incidentId": "f00d",
        "halted": False,
        "needsPerson": False,
        "acknowledgedBy": None,
        "epoch": 1,
        "runbook": "https://failstop.dev/runbook",
    }


def test_the_recommendations_say_what_to_do_in_order() -> None:
    assert TRIPPED.recommendations == (
        "start the server",
        "nothing more: operations resume when recovery is proven",
    )
    manual = replace(TRIPPED, is_automatic=False, is_durable=False, store_error="the store is full")
    assert manual.recommendations == (
        "start the server",
        "the store is full",
        "reset with actor and reason when the checks pass",
        "give the FailSafe a store: this state is lost when the process ends",
    )


def test_alerts_tell_what_waits_and_what_went_wrong() -> None:
    sinks = (SinkStatus("pager", 2, 12.3456, "TimeoutError"), SinkStatus("chat", 1, 1.0, None))
    report = replace(NORMAL, sinks=sinks).to_dict()["alerts"]
    assert report["pending"] == 3
    assert report["lastError"] == "pager: TimeoutError"
    assert report["sinks"][0] == {
        "name": "pager",
        "pending": 2,
        "oldestSeconds": 12.346,
        "lastError": "TimeoutError",
    }


@pytest.mark.parametrize("status", [NORMAL, TRIPPED, replace(NORMAL, age=None, observed_at=None)])
def test_the_report_is_plain_json(status: SystemStatus) -> None:
    report = status.to_dict()
    assert json.loads(json.dumps(report)) == report


def test_a_halt_is_advised_once() -> None:
    halted = replace(INCIDENT, actor="ann", needs_person=True, action="reset when it is gone")
    assert replace(TRIPPED, incident=halted).recommendations == ("reset when it is gone",)


def test_a_key_in_doubt_is_masked_for_whoever_may_not_see_it() -> None:
    status = replace(NORMAL, in_doubt=(InDoubt("database", "order-4711-a", NOW),), salt="pepper")
    [shown] = status.to_dict()["inDoubt"]
    assert "4711" not in json.dumps(status.to_dict())
    assert shown["key"] == masked("order-4711-a", "pepper")
    [whole] = status.to_dict(has_whole_keys=True)["inDoubt"]
    assert (whole["key"], whole["mask"]) == ("order-4711-a", shown["key"])
    assert "pepper" not in repr(status)


def test_a_mask_shows_no_more_than_a_quarter_of_a_key() -> None:
    assert masked("order-4711-a").startswith("ord…")
    assert masked("ab12").startswith("a…")
    assert masked("abc").startswith("…")
    assert masked("abc", "one") != masked("abc", "other")
    assert len(masked("x" * 255)) == 3 + 1 + 8


def test_the_history_is_told() -> None:
    past = PastIncident("0", 1, "refused", "Down", "gone", NOW, NOW, 3, "ann", ("database",))
    deliveries = (Delivery(NOW, "pager", "trigger"), Delivery(NOW, "chat", "trigger", "OSError"))
    moments = (Moment(NOW, "Tripped", "fail-safe mode"),)
    history = History("f00d", moments, 2, deliveries, (past,), NOW, "it was cut")
    report = replace(TRIPPED, history=history).to_dict()
    assert report["alerts"]["delivered"] == [
        {"at": "2026-01-01T12:00:01.000Z", "sink": "pager", "action": "trigger"}
    ]
    assert report["timeline"]["incidentId"] == "f00d"
    assert report["timeline"]["leftOut"] == 2
    assert report["timeline"]["moments"][0]["text"] == "fail-safe mode"
    assert report["history"]["problem"] == "it was cut"
    assert report["history"]["incidents"][0]["leftBy"] == "ann"
    assert report["history"]["incidents"][0]["overruled"] == ["database"]
    assert json.loads(json.dumps(report)) == report


def test_timestamps_are_utc_with_milliseconds() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert timestamp(NOW) == timestamp(elsewhere) == "2026-01-01T12:00:01.000Z"


def test_a_plan_is_allowed_only_with_an_incident_and_nothing_missing() -> None:
    plan = ResetPlan(1, State.FAIL_SAFE, INCIDENT, (WELL,), ())
    assert plan.is_allowed
    assert not replace(plan, missing=("database",)).is_allowed
    assert not replace(plan, state=State.NORMAL).is_allowed


def test_a_plan_needs_no_force_for_what_a_person_accepts() -> None:
    moved = replace(WELL, is_passed=False, needs_person=True, detail="the timeline changed")
    plan = ResetPlan(1, State.RECOVERING, INCIDENT, (moved,), (), ("database",))
    assert plan.is_allowed
    assert plan.releases == (
        "ends incident f00d: the server is gone",
        "guarded operations are sent again",
        "accepts what 'database' found: the timeline changed",
    )


def test_a_plan_says_what_is_missing_and_why() -> None:
    lost = replace(WELL, is_passed=False, detail="2 committed writes are lost")
    plan = ResetPlan(1, State.FAIL_SAFE, INCIDENT, (lost,), ("database", "monitor"))
    assert plan.why == (
        "database: 2 committed writes are lost",
        "monitor: did not answer in time",
    )
    assert replace(plan, state=State.NORMAL, incident=None).releases == ()


def test_a_plan_is_plain_json() -> None:
    plan = ResetPlan(1, State.FAIL_SAFE, INCIDENT, (WELL,), ("database",))
    told = plan.to_dict()
    assert json.loads(json.dumps(told)) == told
    assert told["allowed"] is False
    assert told["incident"]["incidentId"] == "f00d"
    assert told["checks"][0]["needsPerson"] is False
    assert replace(plan, incident=None).to_dict()["incident"] is None


def test_the_status_of_a_running_service_asks_nobody() -> None:
    with FailSafe("api", recovery=Recovery(probe_interval=60.0)) as failsafe:
        before = failsafe._rounds.last
        status = failsafe.status()
        assert failsafe._rounds.last is before
        assert status.is_operational
        assert status.age is not None
        assert status.age < 3.0


def test_the_status_shows_what_waits_for_a_sink() -> None:
    sink = CapturingSink()
    sink.failure = OSError()
    with FailSafe("api", sinks=[sink], recovery=Recovery(probe_interval=60.0)) as failsafe:
        failsafe.trip(DatabaseUnavailableError("gone", kind="refused"))
        shown = failsafe.status().sinks[0]
        assert shown.pending == 1
        assert shown.oldest is not None
        assert timedelta(seconds=shown.oldest) < timedelta(minutes=1)
        sink.failure = None
