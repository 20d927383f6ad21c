"""Delivery: at least once, in order, one thread a sink, each incident one page."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from failstop import FailSafe, _failsafe, _keeper, _store
from failstop.alerts import Alert, AlertAction, DeliveryError, LoggingSink, Route, Severity
from failstop.alerts import _dispatcher as dispatcher
from failstop.alerts._outbox import Outbox
from failstop.errors import ConfigurationError, DatabaseUnavailableError, GatewayUnavailableError
from failstop.events import AlertDelivered, AlertFailed, Checked, Event
from failstop.journal import check, rows
from failstop.recovery import Recovery
from failstop.testing import CapturingSink

FAST = Recovery(mode="manual", probe_interval=0.01)
TRIGGER, UPDATE = AlertAction.TRIGGER, AlertAction.UPDATE
ACKNOWLEDGE, RESOLVE = AlertAction.ACKNOWLEDGE, AlertAction.RESOLVE


def wait_until(condition: Callable[[], bool], timeout: float = 15.0) -> None:
    limit = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.005)


def wait_for_rounds(failsafe: FailSafe, count: int = 2) -> None:
    """Wait until `count` more check rounds were made: with two, one began after this call."""
    seen = list[Checked]()

    def note(event: Event) -> None:
        if isinstance(event, Checked):
            seen.append(event)

    end = failsafe.subscribe(note)
    wait_until(lambda: len(seen) >= count)
    end()


def gone() -> DatabaseUnavailableError:
    return DatabaseUnavailableError("the server is gone", kind="refused")


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once: the waits themselves are asserted as numbers."""
    monkeypatch.setattr(dispatcher, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(dispatcher, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(dispatcher, "POLL", 0.05)
    monkeypatch.setattr(_failsafe, "CLOSE_TIMEOUT", 0.5)


Make = Callable[..., FailSafe]


@pytest.fixture(params=["file", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    store = tmp_path / "failstop.db" if request.param == "file" else None
    yield from maker(store)


@pytest.fixture
def make_durable(tmp_path: Path) -> Iterator[Make]:
    yield from maker(tmp_path / "failstop.db")


def maker(store: Path | None) -> Iterator[Make]:
    made: list[FailSafe] = []

    def make_one(*sinks: Any, **settings: Any) -> FailSafe:
        settings = {"store": store, "recovery": FAST, **settings}
        failsafe = FailSafe("api", sinks=sinks, **settings)
        made.append(failsafe)
        failsafe.start()
        return failsafe

    yield make_one
    for failsafe in made:
        failsafe.close()


def actions(sink: CapturingSink) -> list[AlertAction]:
    return [alert.action for alert in sink.alerts]


class Gate(CapturingSink):
    """A sink that hangs until the gate is open."""

    def __init__(self, name: str = "gate") -> None:
        super().__init__(name)
        self.gate = threading.Event()
        self.entered = threading.Event()

    def send(self, alert: Alert) -> None:
        self.entered.set()
        self.gate.wait(30)
        super().send(alert)


# Off the request path, once each


def test_a_sink_that_hangs_delays_neither_the_trip_nor_another_sink(make: Make) -> None:
    slow, quick = Gate(), CapturingSink("quick")
    failsafe = make(slow, quick)
    failsafe.trip(gone())
    assert slow.entered.wait(10)
    assert quick.wait_for(1)[0].action is TRIGGER
    assert not failsafe.is_normal
    failsafe.reset(actor="ann", reason="done")
    assert len(quick.wait_for(2)) == 2
    slow.gate.set()
    assert failsafe.flush(10)
    assert actions(slow) == [TRIGGER, RESOLVE]


def test_an_alert_says_everything_a_sink_needs(make: Make) -> None:
    sink = CapturingSink()
    failsafe = make(sink)
    incident = failsafe.trip(gone())
    alert = sink.wait_for(1)[0]
    assert incident is not None
    assert alert.dedup_key == f"failstop/api/{incident.incident_id}"
    assert (alert.kind, alert.severity, alert.occurrences) == ("refused", Severity.CRITICAL, 1)
    assert alert.occurred_at == incident.since
    assert alert.service == "api"


def test_one_incident_is_one_page_however_many_failures(make: Make) -> None:
    sink = CapturingSink()
    failsafe = make(sink)
    for _ in range(300):
        failsafe.trip(gone())
    failsafe.reset(actor="ann", reason="done")
    assert failsafe.flush(10)
    assert actions(sink) == [TRIGGER, RESOLVE]
    assert sink.alerts[-1].occurrences == 300


def test_flush_says_when_something_is_left(make: Make) -> None:
    sink = CapturingSink()
    sink.failure = OSError()
    failsafe = make(sink)
    assert failsafe.flush(0.05)
    failsafe.trip(gone())
    assert not failsafe.flush(0.05)
    sink.failure = None
    assert failsafe.flush(10)
    assert len(sink.alerts) == 1


# Trying again


def test_what_did_not_arrive_is_tried_until_it_does_and_in_order(make: Make) -> None:
    sink, events = CapturingSink(), list[Event]()
    sink.failure = OSError("hunter2")
    failsafe = make(sink)
    failsafe.subscribe(events.append)
    failsafe.trip(gone())
    failsafe.halt(actor="ann", reason="drill")
    failsafe.reset(actor="ann", reason="done")
    wait_until(lambda: sum(isinstance(event, AlertFailed) for event in events) >= 3)
    status = failsafe.status()
    assert status.alerts_pending == 3
    assert status.alerts_error == "capturing: OSError"
    sink.failure = None
    assert failsafe.flush(10)
    assert actions(sink) == [TRIGGER, UPDATE, RESOLVE]
    wait_until(lambda: failsafe.status().alerts_error is None)


def test_nothing_overtakes_a_trigger_that_waits(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Shy(CapturingSink):
        refused = 0

        def send(self, alert: Alert) -> None:
            if alert.action is TRIGGER and self.refused < 1:
                self.refused += 1
                raise OSError
            super().send(alert)

    monkeypatch.setattr(dispatcher, "FIRST_WAIT", 0.6)
    monkeypatch.setattr(dispatcher, "LONGEST_WAIT", 0.6)
    sink = Shy()
    failsafe = make(sink)
    failsafe.trip(gone())
    wait_until(lambda: sink.refused == 1)
    failsafe.halt(actor="ann", reason="drill")
    failsafe.reset(actor="ann", reason="done")
    assert failsafe.flush(10)
    assert actions(sink) == [TRIGGER, UPDATE, RESOLVE]


def test_an_alert_that_is_refused_for_ever_does_not_hold_other_incidents(make: Make) -> None:
    class Picky(CapturingSink):
        refused: str | None = None

        def send(self, alert: Alert) -> None:
            self.refused = self.refused or alert.incident_id
            if alert.incident_id == self.refused:
                raise DeliveryError("the key is wrong", is_permanent=True)
            super().send(alert)

    sink = Picky()
    failsafe = make(sink)
    failsafe.trip(gone())
    wait_until(lambda: sink.refused is not None)
    failsafe.reset(actor="ann", reason="done")
    second = failsafe.trip(gone())
    assert second is not None
    assert sink.wait_for(1)[0].incident_id == second.incident_id
    wait_until(lambda: failsafe.status().alerts_pending == 2)
    wait_for_rounds(failsafe)
    assert failsafe.status().alerts_pending == 2, "it is kept, never dropped"


def test_waits_grow_with_jitter_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "FIRST_WAIT", 1.0)
    monkeypatch.setattr(dispatcher, "LONGEST_WAIT", 300.0)
    for attempts in range(40):
        ideal = min(300.0, 2.0**attempts)
        waits = {dispatcher._waits(attempts, OSError())[0] for _ in range(20)}
        assert all(ideal / 2 <= wait <= ideal for wait in waits)
        assert len(waits) > 1


@pytest.mark.parametrize(
    ("asked", "expected"), [(7.0, 7.0), (0.0, 0.0), (-5.0, 0.0), (1e9, dispatcher.LONGEST_PAUSE)]
)
def test_retry_after_is_obeyed_within_reason(asked: float, expected: float) -> None:
    wait, pause = dispatcher._waits(0, DeliveryError("429", retry_after=asked))
    assert pause == expected
    assert wait >= expected


def test_retry_after_holds_back_everything_for_that_sink(make: Make) -> None:
    class Limited(CapturingSink):
        calls = 0

        def send(self, alert: Alert) -> None:
            self.calls += 1
            if self.calls == 1:
                raise DeliveryError("429", retry_after=1.0)
            super().send(alert)

    sink = Limited()
    failsafe = make(sink)
    began = time.monotonic()
    failsafe.trip(gone())
    wait_until(lambda: sink.calls == 1)
    failsafe.reset(actor="ann", reason="done")
    failsafe.trip(gone())
    sink.wait_for(3, timeout=15)
    assert time.monotonic() - began >= 0.9


# Sinks that misbehave


def test_a_send_that_hangs_is_told_and_its_sink_goes_on(make: Make) -> None:
    sink, events = Gate(), list[Event]()
    failsafe = make(Route(sink, timeout=0.05))
    failsafe.subscribe(events.append)
    failsafe.trip(gone())
    wait_until(lambda: any(isinstance(event, AlertFailed) for event in events))
    assert failsafe.status().alerts_error == "gate: TimeoutError"
    hung = [t for t in threading.enumerate() if t.name == "failstop-alerts-gate"]
    assert len(hung) <= 1 + dispatcher.MOST_HUNG
    sink.gate.set()
    assert failsafe.flush(10)
    assert set(actions(sink)) == {TRIGGER}
    wait_until(lambda: sum(t.name == "failstop-alerts-gate" for t in threading.enumerate()) == 1)


@pytest.mark.parametrize("failure", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_whatever_a_sink_raises_its_thread_lives(make: Make, failure: BaseException) -> None:
    sink = CapturingSink()
    sink.failure = failure  # type: ignore[assignment] # worse than what it may raise
    failsafe = make(sink)
    failsafe.trip(gone())
    wait_until(lambda: failsafe.status().alerts_error is not None)
    sink.failure = None
    assert failsafe.flush(10)


def test_what_a_sink_raises_is_told_without_its_text(make_durable: Make, tmp_path: Path) -> None:
    sink = CapturingSink()
    sink.failure = RuntimeError("https://hooks.example/T0/hunter2")
    failsafe = make_durable(sink)
    failsafe.trip(gone())
    wait_until(lambda: failsafe.status().alerts_error is not None)
    sink.failure = DeliveryError("answered 403 at https://hooks.example/T0/hunter2")
    wait_until(lambda: "403" in str(failsafe.status().alerts_error))
    assert "hunter2" not in str(failsafe.status().to_dict())
    failsafe.close()
    assert "hunter2" not in " ".join(row.body for row in rows(tmp_path / "failstop.db"))


# Whom it concerns


def test_a_sink_gets_what_is_severe_enough(make: Make) -> None:
    pager = CapturingSink("pager")
    chat = CapturingSink("chat")
    failsafe = make(Route(pager, min_severity=Severity.CRITICAL), chat)
    failsafe.halt(actor="ann", reason="planned")
    failsafe.reset(actor="ann", reason="done")
    failsafe.trip(gone())
    assert failsafe.flush(10)
    assert actions(chat) == [TRIGGER, RESOLVE, TRIGGER]
    assert actions(pager) == [TRIGGER]
    assert pager.alerts[0].kind == "refused"


def test_a_sink_gets_the_kinds_it_wants_and_how_these_end(make: Make) -> None:
    class Desk(CapturingSink):
        kinds = ("upstream_down",)

    desk = Desk("desk")
    failsafe = make(desk)
    failsafe.trip(gone())
    failsafe.reset(actor="ann", reason="done")
    failsafe.trip(GatewayUnavailableError("gone", kind="upstream_down"))
    failsafe.reset(actor="ann", reason="done")
    assert failsafe.flush(10)
    assert actions(desk) == [TRIGGER, RESOLVE]


@pytest.mark.parametrize(
    "settings",
    [
        {"min_severity": "loud"},
        {"kinds": "refused"},
        {"timeout": 0},
        {"timeout": 601},
        {"escalate_after": -1},
        {"remind_every": float("inf")},
        {"name": " "},
    ],
)
def test_a_route_is_checked_at_construction(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Route(CapturingSink(), **settings)


# Reminders and escalation


def test_a_page_is_repeated_until_somebody_acknowledges(make: Make) -> None:
    sink = CapturingSink()
    failsafe = make(Route(sink, remind_every=0.05))
    failsafe.trip(gone())
    again = sink.wait_for(3)
    assert {alert.action for alert in again} == {TRIGGER}
    assert len({alert.dedup_key for alert in again}) == 1
    assert "page 2" in again[1].message
    failsafe.acknowledge(actor="ann")
    sink.wait_for(lambda alert: alert.action is ACKNOWLEDGE)
    assert failsafe.incident is not None
    assert failsafe.incident.acknowledged_by == "ann"
    count = len(sink.alerts)
    wait_for_rounds(failsafe, 15)
    assert len(sink.alerts) == count


def test_pages_end_when_the_incident_is_over(make: Make) -> None:
    sink = CapturingSink()
    failsafe = make(Route(sink, remind_every=0.05))
    failsafe.trip(gone())
    sink.wait_for(2)
    failsafe.reset(actor="ann", reason="done")
    sink.wait_for(lambda alert: alert.action is RESOLVE)
    assert failsafe.flush(10)
    assert actions(sink)[-1] is RESOLVE
    assert actions(sink).count(RESOLVE) == 1


def test_an_escalation_comes_when_nobody_acknowledged_in_time(make: Make) -> None:
    first, second = CapturingSink("first"), CapturingSink("second")
    first.failure = OSError()
    failsafe = make(first, Route(second, escalate_after=0.2))
    began = time.monotonic()
    failsafe.trip(gone())
    assert second.wait_for(1)[0].action is TRIGGER
    assert time.monotonic() - began >= 0.2
    failsafe.reset(actor="ann", reason="done")
    second.wait_for(2)
    assert actions(second) == [TRIGGER, RESOLVE]


@pytest.mark.parametrize("end", ["acknowledge", "reset"])
def test_no_escalation_where_somebody_was_in_time(make: Make, end: str) -> None:
    first, second = CapturingSink("first"), CapturingSink("second")
    failsafe = make(first, Route(second, escalate_after=3600))
    failsafe.trip(gone())
    first.wait_for(1)
    assert failsafe.flush(10), "an escalation whose time has not come does not wait"
    if end == "acknowledge":
        failsafe.acknowledge(actor="ann")
    else:
        failsafe.reset(actor="ann", reason="done")
    first.wait_for(2)
    assert failsafe._keeper.store.outbox.idle("second") is None
    assert second.alerts == []


def test_there_must_be_an_incident_to_acknowledge(make: Make) -> None:
    failsafe = make(CapturingSink())
    with pytest.raises(ConfigurationError, match="no open incident"):
        failsafe.acknowledge(actor="ann")


def test_updates_on_the_count_are_rare(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = CapturingSink()
    failsafe = make(sink)
    failsafe.trip(gone())
    failsafe.trip(gone())
    sink.wait_for(1)
    failsafe.plan_reset()
    assert failsafe.flush(10)
    assert actions(sink) == [TRIGGER]
    monkeypatch.setattr(_store, "UPDATE_EVERY", 0.0)
    monkeypatch.setattr(_keeper, "COUNT_EVERY", 0.0)
    told = sink.wait_for(lambda alert: alert.action is UPDATE)[0]
    assert told.occurrences == 2
    wait_for_rounds(failsafe)
    assert failsafe.flush(10)
    assert actions(sink) == [TRIGGER, UPDATE]


# Across processes and restarts


def test_what_waited_is_delivered_after_a_restart(make_durable: Make) -> None:
    sink = CapturingSink()
    sink.failure = OSError()
    first = make_durable(sink)
    first.trip(gone())
    wait_until(lambda: first.status().alerts_error is not None)
    first._dispatcher._couriers[0].close()
    first._dispatcher._couriers[0].join(10)
    sink.failure = None
    second = make_durable(sink)
    assert second.flush(10)
    assert actions(sink) == [TRIGGER]


def test_two_processes_do_not_both_send(make_durable: Make, tmp_path: Path) -> None:
    """Each has a courier for the sink; the one that holds the lane sends, the other waits."""
    sink = Gate("shared")
    one, other = make_durable(sink), make_durable(sink)
    one.trip(gone())
    assert sink.entered.wait(10)
    for each in (one, other):
        each._dispatcher.wake()
    outboxes = [each._keeper.store.outbox for each in (one, other)]
    third = Outbox(outboxes[0]._file, is_journaled=True)
    assert third.claim("shared", 10.0) is None
    sink.gate.set()
    assert one.flush(10)
    assert other.flush(10)
    assert actions(sink) == [TRIGGER]
    assert [row.facts["event"] for row in rows(tmp_path / "failstop.db")].count(
        "AlertDelivered"
    ) == 1


def test_a_lane_of_a_process_that_died_is_free_at_once(make_durable: Make, tmp_path: Path) -> None:
    code = """
        import os, sys
        from failstop import FailSafe, _failsafe, _keeper, _store
        from failstop.errors import DatabaseUnavailableError
        def dead(alert):
            print("sending", flush=True)
            os._exit(9)
        failsafe = FailSafe("api", store=sys.argv[1], sinks=[dead])
        failsafe.start()
        failsafe.trip(DatabaseUnavailableError("gone", kind="refused"))
        failsafe.flush(30)
    """
    path = tmp_path / "failstop.db"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (9, "sending\n")
    assert check(path).waiting == {"dead": 1}
    sink = CapturingSink("dead")
    began = time.monotonic()
    failsafe = make_durable(sink)
    assert failsafe.flush(20)
    assert time.monotonic() - began < 20
    assert actions(sink) == [TRIGGER]


# The rehearsal


def test_a_test_alert_goes_through_every_sink_and_says_what_arrived(make: Make) -> None:
    well, broken, stuck = CapturingSink("well"), CapturingSink("broken"), Gate("stuck")
    broken.failure = RuntimeError("hunter2")
    failsafe = make(well, broken, Route(stuck, timeout=0.2))
    arrivals = {each.sink: each for each in failsafe.test_alert()}
    stuck.gate.set()
    assert arrivals["well"].is_arrived
    assert arrivals["broken"].error == "RuntimeError"
    assert arrivals["stuck"].error == "no answer in 0.2 s"
    assert [(alert.action, alert.kind) for alert in well.alerts] == [
        (TRIGGER, "test"),
        (RESOLVE, "test"),
    ]
    assert "TEST" in well.alerts[0].title
    assert failsafe.is_normal


def test_deliveries_are_events(make: Make) -> None:
    events = list[Event]()
    failsafe = make(CapturingSink())
    failsafe.subscribe(events.append)
    failsafe.trip(gone())
    assert failsafe.flush(10)
    wait_until(lambda: any(isinstance(event, AlertDelivered) for event in events))
    delivered = next(event for event in events if isinstance(event, AlertDelivered))
    assert (delivered.sink, delivered.action, delivered.epoch) == ("capturing", "trigger", 1)


def test_the_logging_sink_writes_a_record_with_the_facts(caplog: pytest.LogCaptureFixture) -> None:
    with FailSafe("api", sinks=[LoggingSink()], recovery=FAST) as failsafe:
        failsafe.trip(gone())
        assert failsafe.flush(10)
    record = next(each for each in caplog.records if each.name == "failstop.alerts")
    assert record.levelname == "CRITICAL"
    assert record.getMessage() == "trigger: api: Database unavailable: the server is gone"
    facts = vars(record)["failstop"]
    assert (facts["kind"], facts["error_code"], facts["occurrences"]) == (
        "refused",
        "DB_UNAVAILABLE",
        1,
    )


def test_a_delivery_error_survives_a_pickle() -> None:
    error = DeliveryError("429", retry_after=7.0, is_permanent=True)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.retry_after, again.is_permanent) == ("429", 7.0, True)
