"""Safety actions: begun once an incident on a host, isolated, bounded, their failures told."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.forking import exit_code
from tests.waiting import wait_until

from failstop import FailSafe, _actions, _departure, offline
from failstop._latch import State
from failstop._process import this_process
from failstop.alerts import AlertAction, Severity
from failstop.errors import ConfigurationError, DatabaseUnavailableError, ResetRefusedError
from failstop.events import ActionState, Event, Incident
from failstop.journal import rows, verify
from failstop.recovery import Recovery
from failstop.testing import CapturingSink, HttpAnswer, HttpReceiver

SLOW = Recovery(mode="manual", probe_interval=60.0)
"""Rounds only when asked: what a test does is all that happens."""
FAST = Recovery(probe_interval=0.01, consecutive=2)

Make = Callable[..., FailSafe]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "failstop.db"


@pytest.fixture
def make(path: Path) -> Iterator[Make]:
    made: list[FailSafe] = []

    def make_one(**settings: Any) -> FailSafe:
        failsafe = FailSafe("api", **{"store": path, "recovery": SLOW, **settings})
        made.append(failsafe)
        return failsafe

    yield make_one
    for failsafe in made:
        failsafe.close()


class Called:
    """An action that notes the incidents it was called with, and waits where its gate is shut."""

    def __init__(self) -> None:
        self.incidents: list[Incident] = []
        self.gate = threading.Event()
        self.gate.set()
        self.__name__ = "called"

    def __call__(self, incident: Incident) -> None:
        self.incidents.append(incident)
        assert self.gate.wait(20)

    @property
    def count(self) -> int:
        return len(self.incidents)


def gone() -> DatabaseUnavailableError:
    return DatabaseUnavailableError("the server is gone", kind="refused")


def states(failsafe: FailSafe) -> dict[str, ActionState]:
    return {each.name: each.state for each in failsafe.status().actions}


def wait_for(failsafe: FailSafe, name: str, state: ActionState) -> None:
    wait_until(lambda: states(failsafe).get(name) is state)


def journaled(path: Path, *events: str) -> list[dict[str, Any]]:
    wanted = events or ("ActionBegan", "ActionEnded", "ActionFailed")
    return [row.facts for row in rows(path) if row.facts["event"] in wanted]


def words(path: Path) -> list[tuple[str, str, str | None]]:
    """Return what the journal says of actions, in a word each."""
    return [
        (facts["event"].removeprefix("Action"), facts["action"], facts.get("state"))
        for facts in journaled(path)
    ]


def action_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("failstop-action")]


@contextlib.contextmanager
def unwritable(path: Path) -> Iterator[None]:
    """Hold the store's write lock, as a process does that hangs in a transaction."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


# When they are called


@pytest.mark.parametrize("cause", ["trip", "halt"])
def test_an_action_is_called_with_the_incident(make: Make, cause: str) -> None:
    plain, given = Called(), Called()
    given.__name__ = "given"
    failsafe = make(actions=(given,))
    failsafe.on_trip(plain)
    heard: list[str] = []

    @failsafe.on_trip(timeout=9.0)
    async def awaited(incident: Incident) -> None:
        await asyncio.sleep(0)
        heard.append(incident.incident_id)

    failsafe.start()
    if cause == "trip":
        failsafe.trip(gone())
    else:
        failsafe.halt(actor="alice", reason="wrong prices")
    incident = failsafe.incident
    assert incident is not None
    for name in ("called", "given", "awaited"):
        wait_for(failsafe, name, ActionState.ENDED)
    assert [each.incident_id for each in (*plain.incidents, *given.incidents)] == [
        incident.incident_id
    ] * 2
    assert heard == [incident.incident_id]


def test_a_decorated_function_stays_what_it_was(make: Make) -> None:
    failsafe = make()

    def cancel_orders(incident: Incident) -> str:
        return "done"

    assert failsafe.on_trip(cancel_orders) is cancel_orders
    assert failsafe.on_trip(timeout=1.0, name="again")(cancel_orders) is cancel_orders


def test_a_counted_trip_does_not_repeat_them_and_a_new_incident_does(make: Make) -> None:
    called = Called()
    failsafe = make(actions=(called,))
    failsafe.start()
    failsafe.trip(gone())
    failsafe.trip(gone())
    failsafe.halt(actor="alice", reason="too many failures")
    wait_for(failsafe, "called", ActionState.ENDED)
    assert called.count == 1
    failsafe.reset(actor="alice", reason="mended")
    failsafe.trip(gone())
    wait_until(lambda: called.count == 2)
    assert len({each.incident_id for each in called.incidents}) == 2
    assert len(journaled(failsafe._keeper.store.path or Path(), "ActionBegan")) == 2


def test_a_trip_waits_for_no_action_and_no_action_for_an_observer(make: Make) -> None:
    slow, gate, aborted = Called(), threading.Event(), []
    slow.gate.clear()
    failsafe = make(actions=(slow,))

    class Line:
        name = "line"

        def probe(self) -> str:
            return "well"

        def suspend(self, incident: Incident) -> None:
            aborted.append(slow.count)

        def close(self) -> None: ...

    failsafe.watch(Line())
    failsafe.start()

    def listener(event: Event) -> None:
        assert gate.wait(20)

    failsafe.subscribe(listener)
    tripping = threading.Thread(target=failsafe.trip, args=(gone(),))
    tripping.start()
    wait_until(lambda: slow.count == 1)  # while the observer keeps the thread that tripped
    assert aborted == [0]
    assert tripping.is_alive()
    gate.set()
    tripping.join(20)
    assert not slow.gate.is_set()
    slow.gate.set()


def test_one_that_raises_hangs_or_leaves_stops_none_and_delays_none(make: Make) -> None:
    hanging, called = Called(), Called()
    hanging.gate.clear()

    def raising(incident: Incident) -> None:
        raise ValueError("secret")

    def leaving(incident: Incident) -> None:
        raise SystemExit(3)

    hanging.__name__ = "hanging"
    failsafe = make(actions=(raising, hanging, leaving, called))
    failsafe.start()
    failsafe.trip(gone())
    wait_for(failsafe, "called", ActionState.ENDED)
    wait_for(failsafe, "raising", ActionState.FAILED)
    wait_for(failsafe, "leaving", ActionState.FAILED)
    assert states(failsafe)["hanging"] is ActionState.BEGUN
    assert {each.name: each.error for each in failsafe.status().actions} == {
        "raising": "ValueError",
        "hanging": None,
        "leaving": "SystemExit",
        "called": None,
    }
    hanging.gate.set()


# How long, and on what


def test_an_async_action_is_cancelled_when_its_time_is_up(make: Make, path: Path) -> None:
    failsafe = make()
    cancelled = threading.Event()

    @failsafe.on_trip(timeout=0.05)
    async def cancel_orders(incident: Incident) -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    failsafe.start()
    failsafe.trip(gone())
    wait_for(failsafe, "cancel_orders", ActionState.NOT_ENDED)
    assert cancelled.wait(5)
    wait_until(lambda: not action_threads())
    assert words(path) == [
        ("Began", "cancel_orders", None),
        ("Failed", "cancel_orders", "NOT_ENDED"),
    ]


def test_a_timeout_of_an_async_action_s_own_is_its_failure(make: Make) -> None:
    failsafe = make()

    @failsafe.on_trip(timeout=9.0)
    async def cancel_orders(incident: Incident) -> None:
        raise TimeoutError

    failsafe.start()
    failsafe.trip(gone())
    wait_for(failsafe, "cancel_orders", ActionState.FAILED)


def test_a_sync_action_is_given_up_and_its_late_end_is_told(make: Make, path: Path) -> None:
    hanging = Called()
    hanging.gate.clear()
    failsafe = make()
    failsafe.on_trip(timeout=0.05, name="hanging")(hanging)
    failsafe.start()
    failsafe.trip(gone())
    wait_for(failsafe, "hanging", ActionState.NOT_ENDED)
    hanging.gate.set()
    wait_for(failsafe, "hanging", ActionState.ENDED)
    assert words(path) == [
        ("Began", "hanging", None),
        ("Failed", "hanging", "NOT_ENDED"),
        ("Ended", "hanging", None),
    ]
    assert journaled(path, "ActionEnded")[0]["duration"] > 0.05
    wait_until(lambda: not action_threads())


def test_a_thread_is_there_only_while_its_action_runs(make: Make) -> None:
    called = Called()
    called.gate.clear()
    failsafe = make(actions=(called,))
    failsafe.start()
    assert action_threads() == []
    failsafe.trip(gone())
    wait_until(lambda: called.count == 1)
    assert action_threads() == ["failstop-action-called"]
    called.gate.set()
    wait_until(lambda: not action_threads())


def test_hanging_actions_do_not_grow_without_bound(make: Make, path: Path) -> None:
    hanging = Called()
    hanging.gate.clear()
    failsafe = make()
    failsafe.on_trip(timeout=0.01, name="hanging")(hanging)
    failsafe.start()
    for _ in range(_actions.MOST_HUNG + 1):
        failsafe.trip(gone())
        wait_for(failsafe, "hanging", ActionState.NOT_ENDED)
        failsafe.reset(actor="alice", reason="mended", force=True)
    assert hanging.count == _actions.MOST_HUNG
    assert len(journaled(path, "ActionFailed")) == _actions.MOST_HUNG + 1
    hanging.gate.set()
    wait_until(lambda: not action_threads())


def test_without_a_thread_the_trip_goes_on_and_the_failure_is_told(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(run: object) -> None:
        raise RuntimeError("can't start new thread")

    sink = CapturingSink()
    failsafe = make(actions=(Called(),), sinks=[sink])
    failsafe.start()
    monkeypatch.setattr(_actions._Run, "start", start)
    assert failsafe.trip(gone()) is not None
    assert failsafe.state is State.FAIL_SAFE
    sink.wait_for(lambda alert: alert.kind == "action_failed")
    assert states(failsafe) == {"called": ActionState.FAILED}


# What is told of them


def test_begin_end_and_failure_are_journaled_without_a_word_of_the_action_s(
    make: Make, path: Path
) -> None:
    def failing(incident: Incident) -> None:
        raise ConnectionError("https://user:secret@venue.example")

    failsafe = make(actions=(Called(), failing))
    failsafe.start()
    incident = failsafe.trip(gone())
    assert incident is not None
    wait_for(failsafe, "called", ActionState.ENDED)
    wait_for(failsafe, "failing", ActionState.FAILED)
    failsafe.close()
    assert sorted(words(path)) == [
        ("Began", "called", None),
        ("Began", "failing", None),
        ("Ended", "called", None),
        ("Failed", "failing", "FAILED"),
    ]
    assert {facts["incident_id"] for facts in journaled(path)} == {incident.incident_id}
    assert journaled(path, "ActionFailed")[0]["error"] == "ConnectionError"
    assert "secret" not in json.dumps([row.facts for row in rows(path)])
    assert verify(path).is_intact


def test_an_action_that_did_not_succeed_wakes_a_person_and_is_in_the_status(make: Make) -> None:
    def failing(incident: Incident) -> None:
        raise ConnectionError

    sink = CapturingSink()
    failsafe = make(actions=(failing, Called()), sinks=[sink])
    failsafe.start()
    incident = failsafe.trip(gone())
    assert incident is not None
    (alert,) = sink.wait_for(lambda alert: alert.kind == "action_failed")
    assert (alert.action, alert.severity) == (AlertAction.UPDATE, Severity.CRITICAL)
    assert alert.incident_id == incident.incident_id
    assert "'failing' failed (ConnectionError)" in alert.message
    status = failsafe.status()
    assert "'failing'" in status.recommendations[0]
    told = {each["name"]: each for each in status.to_dict()["actions"]}
    assert told["failing"]["state"] == "FAILED"
    assert told["failing"]["error"] == "ConnectionError"
    assert told["failing"]["since"].endswith("Z")


def test_one_that_fails_after_the_incident_is_over_is_told_all_the_same(make: Make) -> None:
    hanging, sink = Called(), CapturingSink()
    hanging.gate.clear()

    def failing(incident: Incident) -> None:
        hanging(incident)
        raise ValueError

    failsafe = make(actions=(failing,), sinks=[sink])
    failsafe.start()
    failsafe.trip(gone())
    failsafe.reset(actor="alice", reason="it must go on", force=True)
    hanging.gate.set()
    (alert,) = sink.wait_for(lambda alert: alert.kind == "action_failed")
    assert alert.action is AlertAction.TRIGGER
    assert alert.incident_id.startswith("note-")
    assert alert.severity is Severity.CRITICAL
    assert failsafe.status().actions == ()


def test_recovery_does_not_overtake_an_action(make: Make) -> None:
    called = Called()
    called.gate.clear()
    failsafe = make(actions=(called,), recovery=FAST)
    failsafe.start()
    failsafe.trip(gone())
    wait_until(lambda: called.count == 1)
    plan = failsafe.plan_reset()
    assert plan.missing == ("safety actions",)
    with pytest.raises(ResetRefusedError, match="safety actions"):
        failsafe.reset(actor="alice", reason="mended")
    assert failsafe.state is not State.NORMAL
    called.gate.set()
    wait_until(lambda: failsafe.state is State.NORMAL)


def test_close_waits_for_what_is_under_way_and_tells_how_it_ended(make: Make, path: Path) -> None:
    called, sink = Called(), CapturingSink()
    called.gate.clear()

    def failing(incident: Incident) -> None:
        called(incident)
        raise ValueError

    failsafe = make(actions=(failing,), sinks=[sink])
    failsafe.start()
    failsafe.trip(gone())
    wait_until(lambda: called.count == 1)
    threading.Timer(0.8, called.gate.set).start()
    failsafe.close()
    assert [word for word, _, _ in words(path)] == ["Began", "Failed"]
    assert [alert.kind for alert in sink.alerts] == ["refused", "action_failed"]


# A store that cannot be written


def test_with_a_store_that_cannot_be_written_they_run_once_and_are_journaled_late(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_actions, "CLAIM_PATIENCE", 0.1)

    def failing(incident: Incident) -> None:
        raise ValueError

    called, sink = Called(), CapturingSink()
    failsafe = make(actions=(called, failing), sinks=[sink])
    failsafe.start()
    with unwritable(path):
        failsafe.trip(gone())
        wait_until(lambda: called.count == 1)
        sink.wait_for(lambda alert: alert.kind == "action_failed")
        failsafe.trip(gone())
        assert states(failsafe) == {"called": ActionState.ENDED, "failing": ActionState.FAILED}
    failsafe.plan_reset()  # a round
    wait_until(lambda: len(words(path)) == 4)
    assert sorted(words(path)) == [
        ("Began", "called", None),
        ("Began", "failing", None),
        ("Ended", "called", None),
        ("Failed", "failing", "FAILED"),
    ]
    assert called.count == 1
    assert verify(path).is_intact
    with FailSafe("api", store=path, recovery=SLOW, actions=(called,)) as other:
        assert states(other)["called"] is ActionState.ENDED
    assert called.count == 1


def test_an_end_that_can_be_written_again_follows_its_beginning(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be found begun and not ended by whoever starts next."""
    monkeypatch.setattr(_actions, "CLAIM_PATIENCE", 0.1)
    called = Called()
    called.gate.clear()
    failsafe = make(actions=(called,))
    failsafe.start()
    with unwritable(path):
        failsafe.trip(gone())
        wait_until(lambda: called.count == 1)
    called.gate.set()
    wait_until(lambda: len(words(path)) == 2)
    assert words(path) == [("Began", "called", None), ("Ended", "called", None)]
    failsafe.plan_reset()
    assert failsafe._keeper.store.interrupted_actions(datetime.now(UTC)) == ()
    assert states(failsafe) == {"called": ActionState.ENDED}


def test_without_a_store_they_run_too(make: Make) -> None:
    called = Called()
    failsafe = make(store=None, actions=(called,))
    failsafe.start()
    failsafe.trip(gone())
    wait_for(failsafe, "called", ActionState.ENDED)
    failsafe.plan_reset()
    assert called.count == 1


# Other processes

WORKER = """
import os, sys, time
from failstop import FailSafe
from failstop.errors import DatabaseUnavailableError
from failstop.recovery import Recovery

path, log, mode = sys.argv[1:]
failsafe = FailSafe("api", store=path, recovery=Recovery(mode="manual", probe_interval=0.02))

@failsafe.on_trip(timeout=30.0)
def cancel_orders(incident):
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\\n")
    if mode == "hang":
        time.sleep(60)

failsafe.start()
print(failsafe.state, flush=True)
if mode in ("trip", "hang"):
    failsafe.trip(DatabaseUnavailableError("gone", kind="refused"))
sys.stdin.readline()
failsafe.close()
"""


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def says(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@contextlib.contextmanager
def worker(path: Path, log: Path, mode: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WORKER, str(path), str(log), mode]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    with process:
        try:
            assert says(process) in ("NORMAL", "FAIL_SAFE")
            yield process
        finally:
            if process.poll() is None:
                tell(process)
                assert process.wait(60) == 0


def pids(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def test_the_workers_of_a_host_begin_it_once_and_a_restart_does_not_repeat_it(
    path: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with (
        worker(path, log, "stay"),
        worker(path, log, "stay"),
        worker(path, log, "trip"),
    ):
        wait_until(lambda: [word for word, _, _ in words(path)] == ["Began", "Ended"])
        rounds = len(rows(path))
        wait_until(lambda: len(rows(path)) >= rounds)
    with worker(path, log, "stay"):
        pass
    assert len(pids(log)) == 1
    assert [word for word, _, _ in words(path)] == ["Began", "Ended"]


def test_one_that_was_interrupted_by_a_kill_is_found_and_told_and_not_repeated(
    make: Make, path: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with worker(path, log, "hang") as process:
        wait_until(lambda: len(pids(log)) == 1)
        process.kill()
        process.wait(20)
    sink, called = CapturingSink(), Called()
    failsafe = make(sinks=[sink])
    failsafe.on_trip(name="cancel_orders")(called)
    failsafe.start()
    (alert,) = sink.wait_for(lambda alert: alert.kind == "action_interrupted")
    assert "is not repeated" in alert.message
    assert states(failsafe) == {"cancel_orders": ActionState.INTERRUPTED}
    assert words(path) == [
        ("Began", "cancel_orders", None),
        ("Failed", "cancel_orders", "INTERRUPTED"),
    ]
    failsafe.plan_reset()
    assert called.count == 0
    assert len(words(path)) == 2


@pytest.mark.parametrize(
    ("begun", "is_found"), [("2026-01-01T00:00:00+00:00", True), (None, False)]
)
def test_one_of_a_container_that_is_gone_holds_the_recovery_for_a_time_only(
    make: Make, path: Path, begun: str | None, is_found: bool
) -> None:
    """Nothing can be known of its process, but its time is over, and nobody wrote how it ended."""
    sink = CapturingSink()
    failsafe = make(sinks=[sink], actions=(Called(),))
    failsafe.start()
    failsafe.trip(gone())
    wait_until(lambda: states(failsafe) == {"called": ActionState.ENDED})
    failsafe.halt(actor="ann", reason="so that it stays open")
    boot, _, pid, started = this_process().split("/")
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as store, store:
        store.execute(
            "UPDATE action SET state = 'BEGUN', runner = ?, since = coalesce(?, since)",
            (f"{boot}/pid:[1]/{pid}/{started}#1", begun),
        )
    missing = failsafe.plan_reset().missing
    assert missing == (() if is_found else ("safety actions",))
    if is_found:
        assert sink.wait_for(lambda alert: alert.kind == "action_interrupted")


def test_a_worker_that_lives_finds_the_interruption_while_the_incident_is_open(
    path: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with worker(path, log, "stay"), worker(path, log, "hang") as process:
        wait_until(lambda: len(pids(log)) == 1)
        (runner,) = pids(log)
        os.kill(runner, signal.SIGKILL)
        if process.pid == runner:
            process.wait(20)
        wait_until(lambda: len(words(path)) == 2)
    assert words(path)[1] == ("Failed", "cancel_orders", "INTERRUPTED")


def test_whoever_trips_second_aborts_its_own_work_too(make: Make) -> None:
    """For the store its failure is a further one of an incident that is open."""
    aborted: list[str] = []

    class Line:
        name = "line"

        def probe(self) -> str:
            return "well"

        def suspend(self, incident: Incident) -> None:
            aborted.append(incident.incident_id)

        def close(self) -> None: ...

    called = Called()
    first, second = make(actions=(called,)), make(actions=(called,))
    second.watch(Line())
    first.start()
    second.start()
    incident = first.trip(gone())
    assert second.trip(gone()) == second.incident
    assert incident is not None
    assert aborted == [incident.incident_id]
    second.trip(gone())
    assert len(aborted) == 1
    wait_for(second, "called", ActionState.ENDED)
    assert called.count == 1


def test_what_nobody_began_is_begun_by_the_next_start(make: Make, path: Path) -> None:
    """The process died between the trip and the action, or a person halted a dead service."""
    with FailSafe("api", store=path, recovery=SLOW):
        pass
    incident = offline.halt(path, actor="alice", reason="wrong prices").incident
    called = Called()
    failsafe = make(actions=(called,))
    failsafe.start()
    wait_for(failsafe, "called", ActionState.ENDED)
    assert [each.incident_id for each in called.incidents] == [incident.incident_id]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("is_durable", [True, False])
def test_a_forked_child_does_not_run_the_parent_s(
    make: Make, path: Path, tmp_path: Path, is_durable: bool
) -> None:
    log = tmp_path / "log"
    gate = threading.Event()

    def cancel_orders(incident: Incident) -> None:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        assert gate.wait(20)

    failsafe = make(store=path if is_durable else None, actions=(cancel_orders,))
    failsafe.start()
    failsafe.trip(gone())
    wait_until(lambda: len(pids(log)) == 1)
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            failsafe.plan_reset()  # a round of the child's own
            failsafe._actions.wait(5.0)
            os._exit(0 if len(pids(log)) == 1 else 1)
        os._exit(2)
    assert exit_code(child) == 0
    gate.set()
    wait_for(failsafe, "cancel_orders", ActionState.ENDED)
    assert pids(log) == [os.getpid()]


# What is refused


def test_names_are_unique_and_settings_checked(make: Make) -> None:
    failsafe = make()

    def cancel_orders(incident: Incident) -> None: ...

    failsafe.on_trip(cancel_orders)
    with pytest.raises(ConfigurationError, match="two safety actions are named 'cancel_orders'"):
        failsafe.on_trip(cancel_orders)
    failsafe.on_trip(name="again")(cancel_orders)
    with pytest.raises(ConfigurationError, match="timeout"):
        failsafe.on_trip(timeout=0.0, name="other")(cancel_orders)
    with pytest.raises(ConfigurationError, match="printable"):
        failsafe.on_trip(name="a\nb")(cancel_orders)
    with pytest.raises(TypeError, match="callable, not str"):
        failsafe.on_trip(name="text")("cancel_orders")  # type: ignore[type-var]
    with pytest.raises(ConfigurationError, match="partial"):
        make(store=None, actions=[functools.partial(cancel_orders) for _ in range(2)])


# Leaving

LEAVER = """
import sys, time
from failstop import FailSafe
from failstop.alerts import WebhookSink
from failstop.errors import DatabaseUnavailableError
from failstop.recovery import Recovery

path, log, url, mode = sys.argv[1:]
sinks = [WebhookSink(url, secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")] if url else []
failsafe = FailSafe(
    "api", store=path, sinks=sinks, on_trip="exit",
    recovery=Recovery(mode="manual", probe_interval=0.02),
)

@failsafe.on_trip(timeout=5.0)
def cancel_orders(incident):
    time.sleep(0.8)  # longer than it stays without an action
    with open(log, "a") as file:
        file.write("cancelled ")

failsafe.start()
print(failsafe.state, flush=True)
if mode == "told":
    sys.stdin.readline()
if mode != "stay":
    failsafe.trip(DatabaseUnavailableError("gone", kind="refused"))
    print("tripped", flush=True)
sys.stdin.readline()
failsafe.close()
print("closed", flush=True)
"""


@contextlib.contextmanager
def leaver(path: Path, log: Path, url: str, mode: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", LEAVER, str(path), str(log), url, mode]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def test_the_process_leaves_with_70_after_its_actions_and_its_page(
    path: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    answers = iter([HttpAnswer(503)])  # the page arrives at the second try, a second later
    with HttpReceiver(lambda _: next(answers, HttpAnswer())) as receiver:
        url = f"{receiver.url}/hook"
        with leaver(path, log, url, "trip") as process:
            assert says(process) == "NORMAL"
            assert process.wait(30) == 70
        assert log.read_text() == "cancelled "
        assert [json.loads(each.body)["action"] for each in receiver.requests] == ["trigger"] * 2
        assert [each["action"] for each in journaled(path, "AlertDelivered")] == ["trigger"]
        with leaver(path, log, url, "stay") as process:
            assert says(process) == "FAIL_SAFE"  # the latch is still tripped
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(4 * _departure.LEAST_STAY)  # and it stays: no loop of restarts
            tell(process)
            assert says(process) == "closed"
            assert process.wait(30) == 0
    assert log.read_text() == "cancelled "
    assert [facts["code"] for facts in journaled(path, "Exiting")] == [70]
    assert journaled(path, "Exiting")[0]["incident_id"] == journaled(path)[0]["incident_id"]


def test_every_worker_of_the_host_leaves_and_none_that_starts_in_the_incident(
    path: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with leaver(path, log, "", "stay") as other, leaver(path, log, "", "stay") as late:
        assert says(other) == "NORMAL"
        assert says(late) == "NORMAL"
        with leaver(path, log, "", "trip") as first:
            assert first.wait(30) == 70
        assert other.wait(30) == 70
        assert late.wait(30) == 70
    assert log.read_text() == "cancelled "
    assert len(journaled(path, "Exiting")) == 3


def test_it_stays_while_its_incident_cannot_be_written(path: Path, tmp_path: Path) -> None:
    """Whoever is started next would find no incident, and trade."""
    log = tmp_path / "log"
    with leaver(path, log, "", "told") as process:
        assert says(process) == "NORMAL"
        with unwritable(path):
            tell(process)
            assert says(process) == "tripped"
            wait_until(lambda: log.exists() and log.read_text() == "cancelled ")
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(4 * _departure.RETRY)
            assert "Tripped" not in {row.facts["event"] for row in rows(path)}
        assert process.wait(30) == 70
    told = [row.facts["event"] for row in rows(path)]
    assert told.index("Tripped") < told.index("Exiting")


@pytest.mark.parametrize("policy", ["restart", None, True])
def test_another_policy_is_refused(policy: Any) -> None:
    with pytest.raises(ConfigurationError, match="on_trip must be"):
        FailSafe("api", on_trip=policy)


def test_leaving_needs_a_store() -> None:
    with pytest.raises(ConfigurationError, match="needs a store"):
        FailSafe("api", on_trip="exit")
