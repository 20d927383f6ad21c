"""What is in doubt: kept before the answer, asked until it is known, told at least once."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from failstop import FailSafe, _in_doubt, _store
from failstop._latch import State
from failstop.alerts import AlertAction, Route, Severity
from failstop.errors import (
    CriticalError,
    DatabaseUnavailableError,
    Outcome,
    ResetRefusedError,
)
from failstop.events import (
    Doubted,
    DurabilityReduced,
    Event,
    Incident,
    InDoubt,
    Reset,
    Resolved,
)
from failstop.journal import rows, verify
from failstop.recovery import Questioned, Recovery
from failstop.testing import CapturingSink

FAST = Recovery(probe_interval=0.01, consecutive=2)
SLOW = Recovery(probe_interval=60.0, consecutive=1)
"""Rounds only when asked: what a test does is all that happens."""

Told = list[tuple[str, Outcome]]


class Ledger:
    """A database that can be asked: a directory with a file for each key whose fate is settled."""

    def __init__(self, directory: Path, name: str = "database") -> None:
        self.name = name
        self.directory = directory
        self.failure: BaseException | None = None
        self.asked: list[str] = []

    def settle(self, key: str, outcome: Outcome = Outcome.COMMITTED) -> None:
        draft = self.directory / f".{key}"
        draft.write_text(outcome)
        draft.rename(self.directory / key)

    def resolve(self, doubt: InDoubt) -> Outcome:
        self.asked.append(doubt.key)
        if self.failure is not None:
            raise self.failure
        settled = self.directory / doubt.key
        return Outcome(settled.read_text()) if settled.exists() else Outcome.UNKNOWN

    def probe(self) -> str:
        return "well"

    def suspend(self, incident: Incident) -> None: ...

    def close(self) -> None: ...


def wait_until(condition: Callable[[], bool], timeout: float = 15.0) -> None:
    limit = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.005)


def doubt(key: str = "order-1", database: str = "database") -> InDoubt:
    return InDoubt(database, key, datetime.now(UTC), 4711)


def gone() -> DatabaseUnavailableError:
    return DatabaseUnavailableError("the server is gone", kind="refused")


Make = Callable[..., FailSafe]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "failstop.db"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    directory = tmp_path / "ledger"
    directory.mkdir()
    return Ledger(directory)


@pytest.fixture
def make(path: Path, ledger: Ledger) -> Iterator[Make]:
    """Make a FailSafe that watches the ledger; `told` is what its listener heard."""
    made: list[FailSafe] = []

    def make_one(*, watched: bool = True, told: Told | None = None, **settings: Any) -> FailSafe:
        failsafe = FailSafe("api", **{"store": path, "recovery": SLOW, **settings})
        made.append(failsafe)
        if watched:
            failsafe.watch(ledger)
        if told is not None:
            failsafe.on_resolved(lambda key, outcome: told.append((key, outcome)))
        return failsafe

    yield make_one
    for failsafe in made:
        failsafe.close()


def facts_of(path: Path, event: str) -> list[dict[str, Any]]:
    return [row.facts for row in rows(path) if row.facts["event"] == event]


def saved(path: Path) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT database, key, answer FROM in_doubt").fetchall()


def failed_checks(failsafe: FailSafe) -> dict[str, str]:
    return {each.name: each.detail for each in failsafe.status().checks if not each.is_passed}


# Keeping


def test_a_doubt_is_in_the_store_and_the_journal_when_the_report_returns(
    make: Make, path: Path
) -> None:
    failsafe, events = make(), list[Event]()
    failsafe.subscribe(events.append)
    reported = doubt()
    failsafe.report_in_doubt(reported)
    assert saved(path) == [("database", "order-1", None)]
    assert failsafe.in_doubt() == (reported,)
    [row] = facts_of(path, "Doubted")
    assert row["doubt"]["key"] == "order-1"
    assert [event.doubt for event in events if isinstance(event, Doubted)] == [reported]
    assert verify(path).is_intact


def test_every_process_of_the_store_lists_it(make: Make) -> None:
    one, other = make(), make()
    reported = doubt()
    one.report_in_doubt(reported)
    assert other.in_doubt() == (reported,)


def test_the_status_lists_it(make: Make) -> None:
    failsafe = make()
    reported = doubt("k")
    failsafe.report_in_doubt(reported)
    status = failsafe.status()
    assert status.in_doubt == (reported,)
    [told] = status.to_dict(has_whole_keys=True)["inDoubt"]
    assert (told["key"], told["database"]) == ("k", "database")
    assert told["since"].endswith("Z")


def test_in_normal_an_open_doubt_trips_nothing_and_is_asked(make: Make, ledger: Ledger) -> None:
    failsafe = make()
    failsafe.start()
    failsafe.report_in_doubt(doubt())
    failsafe.plan_reset()
    assert failsafe.is_normal
    assert ledger.asked == ["order-1"]
    assert "in doubt" not in [each.name for each in failsafe.status().checks]


def test_only_a_doubt_is_taken_and_only_a_function_is_told(make: Make) -> None:
    failsafe = make()
    with pytest.raises(TypeError, match="takes an InDoubt"):
        failsafe.report_in_doubt("order-1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes a function"):
        failsafe.on_resolved("listener")  # type: ignore[type-var]

    def listener(key: str, outcome: Outcome) -> None: ...

    assert failsafe.on_resolved(listener) is listener


def test_a_dependency_that_answers_is_questioned(ledger: Ledger) -> None:
    assert isinstance(ledger, Questioned)


def test_a_key_that_is_in_doubt_again_is_one_doubt_the_later(make: Make) -> None:
    failsafe = make()
    first, second = doubt(), doubt()
    failsafe.report_in_doubt(first)
    failsafe.report_in_doubt(second)
    assert failsafe.in_doubt() == (second,)
    assert not failsafe._keeper.resolve(first, Outcome.ROLLED_BACK)
    assert failsafe.in_doubt() == (second,)


def test_a_doubt_that_is_reported_twice_keeps_its_answer(make: Make, path: Path) -> None:
    failsafe = make()
    reported = doubt()
    failsafe.report_in_doubt(reported)
    assert failsafe._keeper.resolve(reported, Outcome.COMMITTED)
    failsafe.report_in_doubt(reported)
    assert saved(path) == [("database", "order-1", "COMMITTED")]


def test_a_long_key_is_kept_whole(make: Make) -> None:
    failsafe = make()
    failsafe.report_in_doubt(doubt("k" * 10_000))
    assert failsafe.in_doubt()[0].key == "k" * 10_000
    assert failsafe._keeper.resolve(failsafe.in_doubt()[0], Outcome.COMMITTED)


# The store cannot be written


def test_a_doubt_that_cannot_be_written_is_listed_trips_and_is_written_later(
    make: Make, path: Path
) -> None:
    failsafe, other = make(watched=False), make(watched=False)
    failsafe.start()
    reported = doubt()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        failsafe.report_in_doubt(reported)
        assert failsafe.state is State.FAIL_SAFE
        assert failsafe.incident is not None
        assert failsafe.incident.kind == "store_locked"
        assert failsafe.in_doubt() == (reported,)
        assert other.in_doubt() == ()
        blocker.execute("ROLLBACK")
    failsafe.plan_reset()
    assert other.in_doubt() == failsafe.in_doubt() == (reported,)
    assert "in doubt" in failed_checks(failsafe)
    assert len(facts_of(path, "Doubted")) == 1


def test_a_doubt_in_memory_alone_keeps_fail_safe_mode_even_by_force(make: Make, path: Path) -> None:
    failsafe = make()
    failsafe.start()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        failsafe.report_in_doubt(doubt())
        with pytest.raises(ResetRefusedError):
            failsafe.reset(actor="ann", reason="hope", force=True)
        blocker.execute("ROLLBACK")
    assert failsafe.state is State.FAIL_SAFE


def test_an_answer_that_cannot_be_written_is_not_told_until_it_is(
    make: Make, path: Path, ledger: Ledger
) -> None:
    told = Told()
    failsafe = make(told=told)
    failsafe.start()
    failsafe.report_in_doubt(doubt())
    ledger.settle("order-1")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        failsafe.plan_reset()
        assert ledger.asked
        assert told == []
        assert len(failsafe.in_doubt()) == 1
        blocker.execute("ROLLBACK")
    failsafe.plan_reset()
    assert told == [("order-1", Outcome.COMMITTED)]


def test_an_answer_that_cannot_be_forgotten_is_not_told_again(
    make: Make, path: Path, ledger: Ledger
) -> None:
    told = Told()
    failsafe = make(told=told)
    blocker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    @failsafe.on_resolved
    def block(key: str, outcome: Outcome) -> None:
        blocker.execute("BEGIN IMMEDIATE")

    with contextlib.closing(blocker):
        failsafe.start()
        failsafe.report_in_doubt(doubt())
        ledger.settle("order-1")
        failsafe.plan_reset()
        assert saved(path) == [("database", "order-1", "COMMITTED")]
        blocker.execute("ROLLBACK")
    failsafe.plan_reset()
    assert told == [("order-1", Outcome.COMMITTED)]
    assert saved(path) == []


def test_a_doubt_that_makes_no_sense_means_fail_safe(make: Make, path: Path) -> None:
    failsafe = make()
    failsafe.start()
    failsafe.report_in_doubt(doubt())
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE in_doubt SET facts = '{}'")
        other.commit()
    failsafe.plan_reset()
    assert failsafe.incident is not None
    assert failsafe.incident.kind == "store_corrupt"


# Asking


@pytest.mark.parametrize("outcome", [Outcome.COMMITTED, Outcome.ROLLED_BACK])
def test_an_answer_is_journaled_told_and_then_forgotten(
    make: Make, path: Path, ledger: Ledger, outcome: Outcome
) -> None:
    told, events = Told(), list[Event]()
    failsafe = make(told=told)
    failsafe.subscribe(events.append)
    failsafe.start()
    failsafe.report_in_doubt(doubt())
    ledger.settle("order-1", outcome)
    failsafe.plan_reset()
    assert told == [("order-1", outcome)]
    assert failsafe.in_doubt() == ()
    assert saved(path) == []
    [row] = facts_of(path, "Resolved")
    assert (row["doubt"]["key"], row["outcome"]) == ("order-1", outcome)
    assert [event.outcome for event in events if isinstance(event, Resolved)] == [outcome]
    failsafe.plan_reset()
    assert told == [("order-1", outcome)]
    assert verify(path).is_intact


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, Outcome.NOT_STARTED])
def test_what_proves_nothing_leaves_the_doubt_open(
    make: Make, ledger: Ledger, outcome: Outcome
) -> None:
    failsafe = make()
    failsafe.start()
    failsafe.report_in_doubt(doubt())
    ledger.settle("order-1", outcome)
    failsafe.plan_reset()
    failsafe.plan_reset()
    assert len(failsafe.in_doubt()) == 1
    assert ledger.asked == ["order-1", "order-1"]


@pytest.mark.parametrize("failure", [gone(), RuntimeError("bug"), KeyboardInterrupt()])
def test_a_database_that_cannot_be_asked_is_asked_once_a_round(
    make: Make, ledger: Ledger, failure: BaseException
) -> None:
    failsafe = make()
    failsafe.start()
    failsafe.trip(gone())
    for key in ("a", "b", "c"):
        failsafe.report_in_doubt(doubt(key))
    ledger.failure = failure
    plan = failsafe.plan_reset()
    assert plan.missing == ("in doubt",)
    assert len(ledger.asked) == 1
    assert failed_checks(failsafe)["in doubt"] == (
        "3 transactions are in doubt; 'database' cannot be asked now"
    )
    failsafe.plan_reset()
    assert ledger.asked == ["a", "b"], "each has its turn"


def test_a_round_that_has_asked_long_enough_leaves_the_rest_to_the_next(
    make: Make, ledger: Ledger
) -> None:
    failsafe = make()
    failsafe.start()
    for key in ("a", "b"):
        failsafe.report_in_doubt(doubt(key))
    failsafe._doubts._patience = 0.0
    failsafe.plan_reset()
    assert ledger.asked == []
    failsafe._doubts._patience = 10.0
    failsafe.plan_reset()
    assert ledger.asked == ["a", "b"]


def test_a_doubt_of_a_database_that_nobody_watches_stays_open_and_says_so(make: Make) -> None:
    failsafe = make()
    failsafe.start()
    failsafe.trip(gone())
    failsafe.report_in_doubt(doubt(database="orders"))
    assert failsafe.plan_reset().missing == ("in doubt",)
    detail = failed_checks(failsafe)["in doubt"]
    assert detail == "1 transaction is in doubt; no 'orders' is watched that can be asked"
    assert any("watch 'orders' again" in advice for advice in failsafe.status().recommendations)


def test_a_listener_that_raises_stops_nobody(
    make: Make, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    failsafe, told = make(), Told()

    @failsafe.on_resolved
    def broken(key: str, outcome: Outcome) -> None:
        raise RuntimeError("secret")

    failsafe.on_resolved(lambda key, outcome: told.append((key, outcome)))
    failsafe.start()
    failsafe.report_in_doubt(doubt())
    ledger.settle("order-1")
    failsafe.plan_reset()
    assert told == [("order-1", Outcome.COMMITTED)]
    assert failsafe.in_doubt() == ()
    assert "raised RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_a_listener_may_use_the_failsafe(make: Make, ledger: Ledger) -> None:
    """No lock is held while it runs."""
    failsafe, seen = make(), list[object]()

    @failsafe.on_resolved
    def listener(key: str, outcome: Outcome) -> None:
        failsafe.report_in_doubt(doubt("another"))
        failsafe.trip(gone())
        seen.append(failsafe.status().in_doubt[0].key)

    failsafe.start()
    failsafe.report_in_doubt(doubt())
    ledger.settle("order-1")
    failsafe.plan_reset()
    assert seen == ["another"]
    assert failsafe.state is State.FAIL_SAFE


# Recovery


def test_recovery_ends_when_the_answer_is_there_and_not_before(
    make: Make, ledger: Ledger, path: Path
) -> None:
    told = Told()
    failsafe = make(told=told, recovery=FAST)
    failsafe.start()
    failsafe.trip(gone())
    failsafe.report_in_doubt(doubt())
    wait_until(lambda: len(ledger.asked) > 5)
    assert failsafe.state is State.FAIL_SAFE
    assert failed_checks(failsafe) == {"in doubt": "1 transaction is in doubt"}
    ledger.settle("order-1")
    wait_until(lambda: failsafe.is_normal)
    assert told == [("order-1", Outcome.COMMITTED)]
    assert verify(path).is_intact


def test_a_person_may_overrule_it_and_it_stays_listed_and_asked(
    make: Make, ledger: Ledger, path: Path
) -> None:
    told = Told()
    failsafe = make(told=told)
    failsafe.start()
    failsafe.trip(gone())
    failsafe.report_in_doubt(doubt())
    with pytest.raises(ResetRefusedError) as refused:
        failsafe.reset(actor="ann", reason="hope")
    assert refused.value.checks == ("in doubt",)
    failsafe.reset(actor="ann", reason="asked by hand", force=True)
    assert failsafe.is_normal
    assert len(failsafe.in_doubt()) == 1
    assert facts_of(path, "Reset")[0]["failed"] == ["in doubt"]
    ledger.settle("order-1")
    failsafe.plan_reset()
    assert failsafe.is_normal
    assert told == [("order-1", Outcome.COMMITTED)]


def test_the_other_processes_follow_a_forced_reset(make: Make) -> None:
    one, other = make(), make(recovery=FAST)
    one.start()
    other.start()
    one.trip(gone())
    one.report_in_doubt(doubt())
    wait_until(lambda: other.state is State.FAIL_SAFE)
    one.reset(actor="ann", reason="asked by hand", force=True)
    wait_until(lambda: other.is_normal)
    one.plan_reset()
    assert one.is_normal


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_a_doubt_that_comes_within_a_round_voids_what_the_round_proves(
    make: Make, is_elsewhere: bool
) -> None:
    failsafe, other, events = make(), make(), list[Event]()
    failsafe.subscribe(events.append)
    failsafe.start()
    failsafe.trip(gone())

    @failsafe.check
    def late() -> bool:
        reporter = other if is_elsewhere else failsafe
        if not reporter.in_doubt():
            reporter.report_in_doubt(doubt())
        return True

    plan = failsafe.plan_reset()
    assert plan.missing == (), "it came after the check"
    assert failsafe.state is not State.NORMAL
    assert not [event for event in events if isinstance(event, Reset)]
    assert failsafe.plan_reset().missing == ("in doubt",)


def test_a_start_with_open_doubts_asks_in_the_first_round(make: Make, ledger: Ledger) -> None:
    make().report_in_doubt(doubt())
    ledger.settle("order-1")
    told = Told()
    failsafe = make(told=told)
    failsafe.start()
    assert failsafe.is_normal
    assert told == [("order-1", Outcome.COMMITTED)]


def test_a_start_ends_in_fail_safe_mode_while_one_is_open(make: Make, ledger: Ledger) -> None:
    make().report_in_doubt(doubt())
    failsafe = make(recovery=FAST)
    failsafe.start()
    assert failsafe.state is State.FAIL_SAFE
    assert failsafe.incident is not None
    assert "in doubt" in failsafe.incident.cause
    ledger.settle("order-1")
    wait_until(lambda: failsafe.is_normal)


# Alerts


def test_an_answer_goes_with_the_open_incident(make: Make, ledger: Ledger) -> None:
    sink = CapturingSink()
    failsafe = make(sinks=[sink], recovery=Recovery(mode="manual", probe_interval=60))
    failsafe.start()
    incident = failsafe.trip(gone())
    assert incident is not None
    failsafe.report_in_doubt(doubt())
    ledger.settle("order-1", Outcome.ROLLED_BACK)
    failsafe.plan_reset()
    assert failsafe.flush(10)
    trigger, update = sink.alerts
    assert trigger.action is AlertAction.TRIGGER
    assert (update.action, update.kind) == (AlertAction.UPDATE, "in_doubt")
    assert update.dedup_key == trigger.dedup_key
    assert "'order-1'" in update.message
    assert "ROLLED_BACK" in update.message
    assert "4711" not in str(update)


def test_an_answer_without_an_incident_stands_for_itself(
    make: Make, ledger: Ledger, path: Path
) -> None:
    sink, second_line = CapturingSink(), CapturingSink("second-line")
    failsafe = make(sinks=[sink, Route(second_line, escalate_after=600)])
    failsafe.start()
    failsafe.report_in_doubt(doubt())
    ledger.settle("order-1")
    failsafe.plan_reset()
    assert failsafe.flush(10)
    [alert] = sink.alerts
    assert (alert.action, alert.kind) == (AlertAction.TRIGGER, "in_doubt")
    assert alert.severity is Severity.WARNING
    assert "'order-1'" in alert.message
    assert "COMMITTED" in alert.message
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM outbox").fetchone() == (0,)


def test_a_secret_in_a_key_reaches_no_alert(make: Make, ledger: Ledger) -> None:
    sink = CapturingSink()
    failsafe = make(sinks=[sink])
    failsafe.start()
    failsafe.report_in_doubt(doubt("password=hunter2"))
    ledger.settle("password=hunter2")
    failsafe.plan_reset()
    failsafe.report_durability_reduced(database="database", key="password=hunter2")
    assert failsafe.flush(10)
    assert [alert.kind for alert in sink.alerts] == ["in_doubt", "durability_reduced"]
    assert "hunter2" not in str(sink.alerts)


def test_durability_that_was_reduced_warns_and_trips_nothing(make: Make, path: Path) -> None:
    sink, events = CapturingSink(), list[Event]()
    failsafe = make(sinks=[sink])
    failsafe.subscribe(events.append)
    failsafe.start()
    failsafe.report_durability_reduced(database="database", key="order-1")
    assert failsafe.is_normal
    assert failsafe.flush(10)
    [alert] = sink.alerts
    assert (alert.action, alert.kind) == (AlertAction.TRIGGER, "durability_reduced")
    assert alert.severity is Severity.WARNING
    assert "'order-1'" in alert.message
    assert [row["key"] for row in facts_of(path, "DurabilityReduced")] == ["order-1"]
    assert [event.key for event in events if isinstance(event, DurabilityReduced)] == ["order-1"]


def test_repeated_reductions_are_one_alert_a_minute_that_counts_them(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = CapturingSink()
    failsafe, other = make(sinks=[sink]), make(sinks=[sink])
    failsafe.start()
    other.start()
    for number in range(10):
        failsafe.report_durability_reduced(database="database", key=f"order-{number}")
        failsafe.plan_reset()
        other.report_durability_reduced(database="database", key=f"other-{number}")
    assert failsafe.flush(10)
    assert other.flush(10)
    assert [alert.occurrences for alert in sink.alerts] == [1]
    monkeypatch.setattr(_store, "NOTE_EVERY", 0.0)
    failsafe.plan_reset()
    assert failsafe.flush(10)
    other.plan_reset()
    assert other.flush(10)
    assert [alert.occurrences for alert in sink.alerts] == [1, 9, 10]
    assert len({alert.dedup_key for alert in sink.alerts}) == 1
    assert len(facts_of(path, "DurabilityReduced")) == 20


def test_a_reduction_that_cannot_be_written_is_alerted_later(make: Make, path: Path) -> None:
    sink = CapturingSink()
    failsafe = make(sinks=[sink])
    failsafe.start()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        failsafe.report_durability_reduced(database="database", key="order-1")
        blocker.execute("ROLLBACK")
    failsafe.plan_reset()
    assert failsafe.flush(10)
    assert [alert.kind for alert in sink.alerts] == ["durability_reduced"]
    assert len(facts_of(path, "DurabilityReduced")) == 1


def test_old_notes_leave_nothing_in_the_store(
    make: Make, path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_store, "NOTE_EVERY", 0.0)
    failsafe = make(sinks=[CapturingSink()])
    failsafe.start()
    for number in range(5):
        failsafe.report_in_doubt(doubt(f"order-{number}"))
        ledger.settle(f"order-{number}")
        failsafe.plan_reset()
        assert failsafe.flush(10)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM page").fetchone() == (1,)


# Other processes, and their deaths

CHILD = """
    import json, os, sys, time
    from datetime import UTC, datetime
    from pathlib import Path
    from failstop import FailSafe
    from failstop.events import InDoubt
    from failstop.recovery import Recovery
    from test_in_doubt import Ledger, doubt

    path, directory = Path(sys.argv[1]), Path(sys.argv[2])
    failsafe = FailSafe("api", store=path, recovery=Recovery(probe_interval=0.01, consecutive=1))
    ledger = Ledger(directory)
    failsafe.watch(ledger)

    def say(*words):
        os.write(1, (" ".join(words) + "\\n").encode())
"""


def start(code: str, path: Path, ledger: Ledger) -> subprocess.Popen[str]:
    program = textwrap.dedent(CHILD) + textwrap.dedent(code)
    here = str(Path(__file__).parent)
    paths = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-c", program, path, ledger.directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


def line_of(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def kill(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGKILL)
    child.wait(20)
    assert child.returncode == -signal.SIGKILL


def test_a_doubt_survives_a_kill_between_the_report_and_the_answer(
    make: Make, path: Path, ledger: Ledger
) -> None:
    code = """
        failsafe.start()
        failsafe.report_in_doubt(doubt())
        say("reported")
        time.sleep(60)
    """
    with start(code, path, ledger) as child:
        assert line_of(child) == "reported"
        kill(child)
    told = Told()
    failsafe = make(told=told, recovery=FAST)
    failsafe.start()
    assert failsafe.state is State.FAIL_SAFE
    assert [each.key for each in failsafe.in_doubt()] == ["order-1"]
    ledger.settle("order-1")
    wait_until(lambda: failsafe.is_normal)
    assert told == [("order-1", Outcome.COMMITTED)]
    assert verify(path).is_intact


def test_an_answer_is_told_again_after_a_kill_between_the_answer_and_the_listener(
    make: Make, path: Path, ledger: Ledger
) -> None:
    code = """
        @failsafe.on_resolved
        def listener(key, outcome):
            say("telling", key, outcome)
            time.sleep(60)

        failsafe.start()
        failsafe.report_in_doubt(doubt())
        ledger.settle("order-1")
        time.sleep(60)
    """
    with start(code, path, ledger) as child:
        assert line_of(child) == "telling order-1 COMMITTED"
        told = Told()
        beside = make(told=told)
        beside.start()
        assert told == [], "the one that tells it lives"
        kill(child)
    beside.close()
    told.clear()
    ledger.asked.clear()
    failsafe = make(told=told)
    failsafe.start()
    assert failsafe.is_normal
    assert told == [("order-1", Outcome.COMMITTED)]
    assert ledger.asked == [], "the answer is known"
    assert saved(path) == []
    assert len(facts_of(path, "Resolved")) == 1


def test_two_processes_tell_every_answer_once(make: Make, path: Path, ledger: Ledger) -> None:
    code = """
        failsafe.on_resolved(lambda key, outcome: say(key))
        failsafe.start()
        say("started")
        sys.stdin.readline()
        failsafe.close()
    """
    keys = [f"order-{number}" for number in range(40)]
    told = Told()
    failsafe = make(told=told, recovery=FAST)
    failsafe.start()
    with start(code, path, ledger) as child:
        assert line_of(child) == "started"
        for key in keys:
            failsafe.report_in_doubt(doubt(key))
        for key in keys:
            ledger.settle(key)
        wait_until(lambda: saved(path) == [])
        there, _ = child.communicate("end\n", timeout=30)
    here = [key for key, _ in told]
    assert sorted([*there.split(), *here]) == sorted(keys)
    assert len(facts_of(path, "Resolved")) == len(keys)
    assert verify(path).is_intact


def test_a_teller_of_another_container_is_believed_gone_after_a_while(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make()
    reported = doubt()
    first.report_in_doubt(reported)
    assert first._keeper.resolve(reported, Outcome.COMMITTED)
    other = make()._keeper
    assert other.untold() == ()
    monkeypatch.setattr(_in_doubt, "HOLD", 0.0)
    assert [each.outcome for each in other.untold()] == [Outcome.COMMITTED]


# In memory, and forks


def test_without_a_store_it_works_in_memory(make: Make, ledger: Ledger) -> None:
    told = Told()
    failsafe = make(store=None, told=told, recovery=FAST)
    failsafe.start()
    failsafe.trip(gone())
    failsafe.report_in_doubt(doubt())
    wait_until(lambda: len(ledger.asked) > 2)
    assert not failsafe.is_normal
    ledger.settle("order-1")
    wait_until(lambda: failsafe.is_normal)
    assert told == [("order-1", Outcome.COMMITTED)]


def _doubts_in_child(failsafe: FailSafe, answers: Any) -> None:
    if failsafe._is_started:
        failsafe.plan_reset()
    answers.put([each.key for each in failsafe.in_doubt()])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("is_durable", [False, True])
def test_what_is_in_memory_alone_is_the_parents_and_what_is_in_the_store_is_everybodys(
    make: Make, path: Path, is_durable: bool
) -> None:
    failsafe = make(store=path if is_durable else None)
    failsafe.start()
    failsafe.report_in_doubt(doubt())
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_doubts_in_child, args=(failsafe, answers), daemon=True)
    child.start()
    assert answers.get(timeout=20) == (["order-1"] if is_durable else [])
    child.join(20)
    assert child.exitcode == 0
    assert [each.key for each in failsafe.in_doubt()] == ["order-1"]


def test_the_journal_says_of_the_transaction_no_more_than_its_key(make: Make, path: Path) -> None:
    failsafe = make()
    failsafe.report_in_doubt(doubt())
    [row] = facts_of(path, "Doubted")
    known = {"database", "key", "since", "backend_pid", "incident_id"}
    assert set(row["doubt"]) == known
    json.dumps(failsafe.status().to_dict())


def test_a_closed_failsafe_still_takes_a_doubt_and_raises_nothing(make: Make) -> None:
    failsafe = make()
    failsafe.close()
    failsafe.report_in_doubt(doubt())
    assert len(failsafe.in_doubt()) == 1
    assert not isinstance(failsafe.status().store_error, CriticalError)
