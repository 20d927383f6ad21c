"""`CapturingSink` keeps what it was sent."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from failstop.alerts import Alert, AlertAction, AlertSink, Severity
from failstop.errors import ErrorCode
from failstop.testing import CapturingSink


def make_alert(action: AlertAction = AlertAction.TRIGGER, occurrences: int = 1) -> Alert:
    return Alert(
        action=action,
        kind="database_unavailable",
        severity=Severity.CRITICAL,
        title="the database is unavailable",
        message="no answer",
        error_code=ErrorCode.DB_UNAVAILABLE,
        incident_id="incident",
        dedup_key="key",
        service="service",
        host="host",
        occurrences=occurrences,
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_it_is_a_sink_with_the_name_it_was_given() -> None:
    assert isinstance(CapturingSink(), AlertSink)
    assert CapturingSink("pager").name == "pager"


def test_it_keeps_alerts_in_the_order_they_came() -> None:
    sink = CapturingSink()
    first, second = make_alert(), make_alert(AlertAction.RESOLVE)
    sink.send(first)
    sink.send(second)
    assert sink.alerts == [first, second]
    sink.clear()
    assert sink.alerts == []


def test_the_list_it_gives_is_a_copy() -> None:
    sink = CapturingSink()
    sink.alerts.append(make_alert())
    assert sink.alerts == []


def test_wait_for_returns_when_another_thread_has_sent_enough() -> None:
    sink = CapturingSink()
    alerts = [make_alert(occurrences=n) for n in range(3)]
    threads = [threading.Thread(target=sink.send, args=[alert]) for alert in alerts]
    for thread in threads:
        thread.start()
    assert sorted(a.occurrences for a in sink.wait_for(3, timeout=20)) == [0, 1, 2]
    for thread in threads:
        thread.join()


def test_wait_for_a_function_returns_only_what_it_is_true_for() -> None:
    sink = CapturingSink()
    sink.send(make_alert())
    resolved = make_alert(AlertAction.RESOLVE)
    timer = threading.Timer(0.05, sink.send, [resolved])
    timer.start()
    assert sink.wait_for(lambda a: a.action is AlertAction.RESOLVE, timeout=20) == [resolved]
    timer.join()


def test_wait_for_holds_no_lock_while_it_calls_the_function() -> None:
    sink = CapturingSink()
    sink.send(make_alert())
    assert sink.wait_for(lambda _: bool(sink.alerts), timeout=20)


def test_waiting_in_vain_says_what_came() -> None:
    sink = CapturingSink()
    sink.send(make_alert())
    with pytest.raises(TimeoutError, match="came: trigger database_unavailable"):
        sink.wait_for(2, timeout=0.05)


def test_it_fails_on_demand() -> None:
    sink = CapturingSink()
    sink.failure = OSError("unreachable")
    with pytest.raises(OSError, match="unreachable"):
        sink.send(make_alert())
    sink.failure = None
    sink.send(make_alert())
    assert len(sink.alerts) == 1
