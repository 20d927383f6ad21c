"""The FailSafe in one process: trip, halt, reset, recovery, observers, refusals, fork, close."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.forking import exit_code

from failstop import FailSafe, offline
from failstop._latch import State
from failstop._scope import Scope, current_scope
from failstop.alerts import Alert, AlertAction, Route
from failstop.errors import (
    ConfigurationError,
    ConnectionFailedError,
    CriticalError,
    DatabaseUnavailableError,
    ErrorCode,
    OperationsSuspendedError,
    Outcome,
    ResetRefusedError,
)
from failstop.events import (
    Checked,
    Event,
    FailureCounted,
    Halted,
    Incident,
    Recovering,
    RecoveryFailed,
    Reset,
    Tripped,
    Verified,
)
from failstop.recovery import Recovery
from failstop.testing import CapturingSink

FAST = Recovery(probe_interval=0.01, consecutive=3)
SLOW = Recovery(probe_interval=60.0)
"""Rounds only when asked: what a test does is all that happens."""
MANUAL = Recovery(mode="manual", probe_interval=0.01, consecutive=1)


class Switch:
    """A dependency that is well or not, as the test says."""

    def __init__(self, name: str = "database") -> None:
        self.name = name
        self.failure: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.suspended: list[Incident] = []
        self.probes = 0
        self.closed = 0

    def probe(self) -> str:
        self.probes += 1
        assert self.gate.wait(20)
        if self.failure is not None:
            raise self.failure
        return "well"

    def suspend(self, incident: Incident) -> None:
        self.suspended.append(incident)

    def close(self) -> None:
        self.closed += 1


def wait_until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    limit = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.002)


def wait_for_rounds(failsafe: FailSafe, count: int = 2) -> None:
    """Wait until `count` more check rounds were made: with two, one began after this call."""
    seen = list[Checked]()

    def note(event: Event) -> None:
        if isinstance(event, Checked):
            seen.append(event)

    end = failsafe.subscribe(note)
    wait_until(lambda: len(seen) >= count)
    end()


@pytest.fixture
def make() -> Iterator[Callable[..., FailSafe]]:
    made: list[FailSafe] = []

    def make_one(service: str = "api", **settings: Any) -> FailSafe:
        failsafe = FailSafe(service, **{"recovery": SLOW, **settings})
        made.append(failsafe)
        return failsafe

    yield make_one
    for failsafe in made:
        failsafe.close()


Make = Callable[..., FailSafe]


def gone() -> DatabaseUnavailableError:
    return DatabaseUnavailableError("the server is gone", kind="refused")


# Starting


def test_starting_refuses(make: Make) -> None:
    failsafe = make()
    assert failsafe.state is State.STARTING
    with pytest.raises(OperationsSuspendedError, match="STARTING") as refused:
        failsafe.require()
    assert refused.value.outcome is Outcome.NOT_STARTED


def test_start_verifies_before_it_returns(make: Make) -> None:
    failsafe, switch = make(), Switch()
    failsafe.watch(switch)
    failsafe.start()
    assert switch.probes == 1
    assert failsafe.state is State.NORMAL
    failsafe.require()


def test_start_ends_in_fail_safe_where_a_dependency_is_down(make: Make) -> None:
    failsafe, switch = make(), Switch()
    switch.failure = gone()
    failsafe.watch(switch)
    failsafe.start()
    assert failsafe.state is State.FAIL_SAFE
    assert failsafe.incident is not None
    assert failsafe.incident.error_code is ErrorCode.DB_UNAVAILABLE


def test_start_ends_in_fail_safe_where_a_users_check_does_not_pass(make: Make) -> None:
    failsafe = make(recovery=Recovery(probe_interval=60.0, checks=[_says_nothing]))
    failsafe.start()
    assert failsafe.state is State.FAIL_SAFE
    assert failsafe.incident is not None
    assert failsafe.incident.kind == "check_failed"


def _says_nothing() -> bool:
    return None  # type: ignore[return-value] # a check that forgot to answer is not passed


def test_a_probe_that_raises_anything_is_a_critical_failure(make: Make) -> None:
    failsafe, switch = make(), Switch()
    switch.failure = KeyError("x")
    failsafe.watch(switch)
    failsafe.start()
    assert failsafe.incident is not None
    assert failsafe.incident.kind == "probe_failed"


def test_starting_twice_does_nothing(make: Make) -> None:
    failsafe, switch = make(), Switch()
    failsafe.watch(switch)
    failsafe.start()
    failsafe.start()
    assert switch.probes == 1


def test_watching_while_it_runs_verifies_at_once(make: Make) -> None:
    failsafe, switch = make(), Switch()
    failsafe.start()
    switch.failure = gone()
    failsafe.watch(switch)
    assert failsafe.state is State.FAIL_SAFE


# Tripping


def test_a_trip_refuses_suspends_and_marks_the_scope(make: Make) -> None:
    failsafe, switch = make(), Switch()
    failsafe.watch(switch)
    failsafe.start()
    scope, error = Scope(), gone()
    token = current_scope.set(scope)
    try:
        incident = failsafe.trip(error)
    finally:
        current_scope.reset(token)
    assert incident is not None
    assert error.incident_id == incident.incident_id
    assert scope.error is error
    assert switch.suspended == [incident]
    with pytest.raises(OperationsSuspendedError) as refused:
        failsafe.require()
    assert refused.value.incident_id == incident.incident_id
    assert refused.value.cause_code is ErrorCode.DB_UNAVAILABLE


def test_an_error_that_tripped_is_not_counted_again(make: Make) -> None:
    failsafe = make()
    failsafe.start()
    error = gone()
    failsafe.trip(error)
    failsafe.trip(error)
    failsafe.trip(pickle.loads(pickle.dumps(error)))
    assert failsafe.incident is not None
    assert failsafe.incident.occurrences == 1


def test_an_error_of_another_failsafe_trips_this_one_too(make: Make) -> None:
    one, other = make("one"), make("other")
    one.start()
    other.start()
    error = gone()
    one.trip(error)
    other.require()
    other.trip(error)
    with pytest.raises(OperationsSuspendedError):
        other.require()
    assert one.incident is not None
    assert other.incident is not None
    assert one.incident.incident_id != other.incident.incident_id


def test_an_error_of_an_incident_that_is_over_does_not_trip_again(make: Make) -> None:
    failsafe = make()
    failsafe.start()
    error = gone()
    failsafe.trip(error)
    failsafe.reset(actor="ann", reason="mended")
    failsafe.trip(error)
    assert failsafe.state is State.NORMAL


def test_only_critical_errors_trip(make: Make) -> None:
    failsafe = make()
    failsafe.start()
    with pytest.raises(TypeError, match="CriticalError"):
        failsafe.trip(ValueError())  # type: ignore[arg-type] # the point of the test
    assert failsafe.state is State.NORMAL


def test_the_first_cause_stays_while_later_failures_are_counted(make: Make) -> None:
    failsafe = make()
    failsafe.start()
    first = failsafe.trip(gone())
    failsafe.trip(ConnectionFailedError("later", kind="lost"))
    incident = failsafe.incident
    assert first is not None
    assert incident is not None
    assert (incident.incident_id, incident.kind) == (first.incident_id, "refused")
    assert (incident.occurrences, failsafe.epoch) == (2, 1)


def test_many_threads_that_trip_make_one_incident_and_one_page(make: Make) -> None:
    sink = CapturingSink()
    failsafe = make(sinks=[sink])
    failsafe.start()
    barrier = threading.Barrier(16)

    def fail() -> str | None:
        barrier.wait(10)
        error = gone()
        failsafe.trip(error)
        return error.incident_id

    with ThreadPoolExecutor(16) as pool:
        ids = {future.result(10) for future in [pool.submit(fail) for _ in range(16)]}
    assert failsafe.incident is not None
    assert ids == {failsafe.incident.incident_id}
    assert (failsafe.incident.occurrences, failsafe.epoch) == (16, 1)
    assert failsafe.flush(10)
    assert [alert.action for alert in sink.alerts] == [AlertAction.TRIGGER]


def test_many_threads_that_trip_halt_and_reset_leave_it_sound(make: Make) -> None:
    """The epoch only rises, NORMAL has no incident, and fail-safe mode always has one."""
    failsafe = make(recovery=Recovery(probe_interval=0.001, consecutive=1))
    failsafe.start()
    stop = time.monotonic() + 2.0
    faults: list[str] = []

    def disturb(number: int) -> None:
        while time.monotonic() < stop:
            if number % 3 == 0:
                failsafe.trip(gone())
            elif number % 3 == 1:
                failsafe.halt(actor="ann", reason="drill")
            else:
                try:
                    failsafe.reset(actor="bob", reason="go on", force=True)
                except ResetRefusedError:
                    continue

    def watch() -> None:
        last = 0
        while time.monotonic() < stop:
            standing = failsafe._keeper.standing
            if standing.latch.epoch < last:
                faults.append(f"epoch fell to {standing.latch.epoch} from {last}")
            last = standing.latch.epoch
            if (standing.latch.state is State.NORMAL) != (standing.incident is None):
                faults.append(f"{standing.latch.state} with {standing.incident}")

    with ThreadPoolExecutor(8) as pool:
        for future in [*[pool.submit(disturb, n) for n in range(6)], pool.submit(watch)]:
            future.result(30)
    assert faults == []
    stored = failsafe._keeper.store.read().standing
    assert stored.latch.epoch == failsafe.epoch
    failsafe.halt(actor="ann", reason="end")
    failsafe.reset(actor="ann", reason="end", force=True)
    assert failsafe.state is State.NORMAL


# Refusals


def test_refusals_are_counted_exactly_by_many_threads(make: Make) -> None:
    failsafe = make()
    failsafe.start()
    failsafe.trip(gone())

    def be_refused() -> None:
        for number in range(500):
            with pytest.raises(OperationsSuspendedError):
                failsafe.require()
            if number % 50 == 0:
                assert failsafe.refusals > 0

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(be_refused) for _ in range(8)]:
            future.result(30)
    assert failsafe.refusals == 4000
    assert failsafe.refusals == 4000


def test_each_refusal_is_its_own_error_with_its_own_time(make: Make) -> None:
    failsafe = make()
    refused = []
    for _ in range(2):
        with pytest.raises(OperationsSuspendedError) as caught:
            failsafe.require()
        refused.append(caught.value)
    assert refused[0] is not refused[1]
    assert refused[0].occurred_at <= refused[1].occurred_at
    again = pickle.loads(pickle.dumps(refused[0]))
    assert str(again) == str(refused[0])


@pytest.mark.parametrize("is_protected", [False, True])
def test_a_refusal_leaves_nothing_for_the_garbage_collector(make: Make, is_protected: bool) -> None:
    """It is made thousands of times a second: a cycle each would be most of its cost."""
    failsafe = make()
    refused = []
    token = current_scope.set(Scope() if is_protected else None)
    gc.collect()
    gc.disable()
    try:
        try:
            failsafe.require()
        except OperationsSuspendedError as error:
            refused.append(weakref.ref(error))
    finally:
        current_scope.reset(token)
        gc.enable()
    del token  # it holds the context's value, the scope, which was marked with the error
    assert refused[0]() is None


def test_a_refusal_says_the_way_out(make: Make) -> None:
    failsafe = make()
    failsafe.start()
    failsafe.trip(gone())
    with pytest.raises(OperationsSuspendedError, match="resume after verified recovery"):
        failsafe.require()
    failsafe.halt(actor="ann", reason="drill")
    with pytest.raises(OperationsSuspendedError, match="resume after a reset by a person"):
        failsafe.require()


# Recovery


def test_recovery_is_automatic_once_enough_rounds_passed(make: Make) -> None:
    failsafe, switch, events = make(recovery=FAST), Switch(), list[Event]()
    failsafe.watch(switch)
    failsafe.subscribe(events.append)
    failsafe.start()
    switch.failure = gone()
    wait_until(lambda: failsafe.state is State.FAIL_SAFE)
    probes = switch.probes
    switch.failure = None
    wait_until(lambda: any(isinstance(event, Reset) for event in events))
    assert failsafe.is_normal
    assert switch.probes >= probes + FAST.consecutive - 1, "one may have been under way"
    wait_until(lambda: any(isinstance(event, Reset) for event in events))  # told after the change
    resets = [event for event in events if isinstance(event, Reset)]
    assert [event.actor for event in resets] == [None]
    assert [result.name for result in resets[0].evidence] == ["database", "in doubt"]
    assert any(isinstance(event, Recovering) for event in events)


def test_rounds_that_passed_before_a_failed_one_do_not_count(make: Make) -> None:
    failsafe, switch = make(recovery=Recovery(probe_interval=0.01, consecutive=3)), Switch()
    answers = iter([None, gone(), None, None, gone(), None, None, None])

    class Scripted(Switch):
        def probe(self) -> str:
            self.failure = next(answers, None)
            return super().probe()

    switch, events = Scripted(), list[Event]()
    failsafe.watch(switch)
    failsafe.subscribe(events.append)
    failsafe.start()
    wait_until(lambda: any(isinstance(event, Reset) for event in events))
    assert switch.probes >= 8
    assert any(isinstance(event, RecoveryFailed) for event in events)


def test_a_check_round_that_began_before_a_trip_changes_nothing(make: Make) -> None:
    recovery = Recovery(probe_interval=0.01, consecutive=1)
    failsafe, switch, events = make(recovery=recovery), Switch(), list[Event]()
    failsafe.watch(switch)
    failsafe.start()
    failsafe.subscribe(events.append)
    switch.gate.clear()
    probes = switch.probes
    wait_until(lambda: switch.probes > probes)  # a round is under way
    failsafe.trip(gone())
    switch.gate.set()
    wait_until(lambda: any(isinstance(event, Reset) for event in events))
    kinds = [type(event) for event in events]
    before = kinds[kinds.index(Tripped) : kinds.index(Reset)]
    assert before.count(Checked) >= 2, "the round that was under way at the trip was taken as proof"


def test_a_manual_recovery_waits_for_a_person(make: Make) -> None:
    failsafe = make(recovery=MANUAL)
    failsafe.start()
    failsafe.trip(gone())
    wait_until(lambda: failsafe.state is State.RECOVERING)
    wait_for_rounds(failsafe)
    assert failsafe.state is State.RECOVERING
    failsafe.reset(actor="ann", reason="looked at it")
    assert failsafe.is_normal


def test_a_halt_waits_for_a_person_even_where_recovery_is_automatic(make: Make) -> None:
    failsafe = make(recovery=Recovery(probe_interval=0.01, consecutive=1))
    failsafe.start()
    incident = failsafe.halt(actor="ann", reason="odd fills").incident
    assert incident.is_halt
    assert incident.needs_person
    wait_until(lambda: failsafe.state is State.RECOVERING)
    wait_for_rounds(failsafe)
    assert failsafe.state is State.RECOVERING
    failsafe.reset(actor="ann", reason="explained")
    assert failsafe.is_normal


def test_a_failure_that_needs_a_person_waits_for_one(make: Make) -> None:
    failsafe = make(recovery=Recovery(probe_interval=0.01, consecutive=1))
    failsafe.start()
    failsafe.trip(gone())
    failsafe.trip(CriticalError("writes were lost", kind="lost_writes"), needs_person=True)
    wait_until(lambda: failsafe.state is State.RECOVERING)
    wait_for_rounds(failsafe)
    assert failsafe.state is State.RECOVERING


def test_a_users_check_holds_recovery_back(make: Make) -> None:
    failsafe = make(recovery=Recovery(probe_interval=0.01, consecutive=1))
    is_well = False

    @failsafe.check
    def broker_session() -> bool:
        return is_well

    is_well = True
    failsafe.start()
    is_well = False
    failsafe.trip(gone())
    wait_for_rounds(failsafe)
    assert failsafe.state is State.FAIL_SAFE
    is_well = True
    wait_until(lambda: failsafe.state is State.NORMAL)


def test_an_async_check_is_awaited(make: Make) -> None:
    async def broker_session() -> bool:
        return True

    failsafe = make(recovery=Recovery(probe_interval=60.0, checks=[broker_session]))
    failsafe.start()
    assert failsafe.state is State.NORMAL


# Resetting


def test_a_reset_is_refused_while_a_check_fails_unless_forced(make: Make) -> None:
    failsafe, switch, events = make(), Switch(), list[Event]()
    failsafe.watch(switch)
    failsafe.start()
    failsafe.subscribe(events.append)
    failsafe.trip(gone())
    switch.failure = gone()
    with pytest.raises(ResetRefusedError, match="these checks failed: database") as refused:
        failsafe.reset(actor="ann", reason="hope")
    assert refused.value.checks == ("database",)
    assert not failsafe.plan_reset().is_allowed
    failsafe.reset(actor="ann", reason="we must", force=True)
    resets = [event for event in events if isinstance(event, Reset)]
    assert [(event.actor, event.failed) for event in resets] == [("ann", ("database",))]


def test_a_reset_that_names_an_older_epoch_is_refused(make: Make) -> None:
    failsafe = make()
    failsafe.start()
    failsafe.halt(actor="ann", reason="first")
    seen = failsafe.epoch
    failsafe.halt(actor="bob", reason="second")
    with pytest.raises(ResetRefusedError, match="saw epoch 1"):
        failsafe.reset(actor="ann", reason="mine is over", epoch=seen)
    assert failsafe.state is not State.NORMAL


def test_there_must_be_something_to_reset(make: Make) -> None:
    failsafe = make()
    failsafe.start()
    with pytest.raises(ResetRefusedError, match="not in fail-safe mode"):
        failsafe.reset(actor="ann", reason="just so")


def test_a_plan_changes_nothing_and_says_what_is_missing(make: Make) -> None:
    failsafe, switch = make(), Switch()
    failsafe.watch(switch)
    failsafe.start()
    failsafe.halt(actor="ann", reason="drill")
    plan = failsafe.plan_reset()
    assert plan.is_allowed
    assert (plan.epoch, plan.missing) == (1, ())
    assert failsafe.state is not State.NORMAL


@pytest.mark.parametrize(("actor", "reason"), [("", "r"), ("  ", "r"), ("a", ""), (None, "r")])
def test_a_person_has_a_name_and_a_reason(make: Make, actor: Any, reason: Any) -> None:
    failsafe = make()
    failsafe.start()
    for verb in (failsafe.halt, failsafe.reset):
        with pytest.raises(ConfigurationError, match="must be a text that is not empty"):
            verb(actor=actor, reason=reason)
    assert failsafe.state is State.NORMAL


def test_what_a_person_says_tells_no_secret(make: Make) -> None:
    failsafe = make()
    failsafe.start()
    incident = failsafe.halt(actor="ann", reason="bad postgresql://u:hunter2@db/x").incident
    assert "hunter2" not in incident.cause


# Observers


def test_observers_get_every_event_in_order(make: Make) -> None:
    failsafe, events = make(), list[Event]()
    failsafe.subscribe(events.append)
    failsafe.start()
    failsafe.trip(gone())
    failsafe.trip(gone())
    failsafe.halt(actor="ann", reason="drill")
    failsafe.reset(actor="ann", reason="done")
    kinds = [type(event) for event in events if not isinstance(event, Checked)]
    assert [kind for kind in kinds if kind is not Recovering] == [
        Verified,
        Tripped,
        FailureCounted,
        Halted,
        Reset,
    ]


def test_an_observer_that_raises_stops_neither_the_trip_nor_the_others(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    failsafe, switch, events = make(), Switch(), list[Event]()

    def broken(event: Event) -> None:
        raise RuntimeError("hunter2")

    failsafe.watch(switch)
    failsafe.subscribe(broken)
    failsafe.subscribe(events.append)
    failsafe.start()
    failsafe.trip(gone())
    assert any(isinstance(event, Tripped) for event in events)
    assert "broken raised RuntimeError" in caplog.text
    assert "hunter2" not in caplog.text


def test_an_observer_may_call_every_verb(make: Make) -> None:
    """No lock is held while it runs, so it can neither wait for one nor for itself."""
    failsafe, seen = make(), list[str]()

    def meddle(event: Event) -> None:
        seen.append(type(event).__name__)
        if isinstance(event, Tripped):
            failsafe.trip(gone())
            failsafe.halt(actor="observer", reason="me too")
            failsafe.status()
            with pytest.raises(OperationsSuspendedError):
                failsafe.require()

    failsafe.start()
    failsafe.subscribe(meddle)
    caller = threading.Thread(target=failsafe.trip, args=[gone()], daemon=True)
    caller.start()
    caller.join(10)
    assert not caller.is_alive()
    assert seen == ["Tripped", "FailureCounted", "Halted"]


def test_an_observer_that_hangs_keeps_nobody_but_its_caller(make: Make) -> None:
    failsafe, switch, gate = make(), Switch(), threading.Event()
    failsafe.watch(switch)
    failsafe.start()

    def hang(event: Event) -> None:
        gate.wait(20)

    failsafe.subscribe(hang)
    caller = threading.Thread(target=failsafe.trip, args=[gone()], daemon=True)
    caller.start()
    wait_until(lambda: len(switch.suspended) == 1)
    try:
        failsafe.trip(gone())
        assert failsafe.halt(actor="ann", reason="drill").incident.occurrences == 3
        with pytest.raises(OperationsSuspendedError):
            failsafe.require()
        assert failsafe.status().state is State.FAIL_SAFE
        assert caller.is_alive()
    finally:
        gate.set()
        caller.join(10)


def test_a_subscription_ends_alone(make: Make) -> None:
    failsafe, events = make(), list[Event]()
    end = failsafe.subscribe(events.append)
    failsafe.subscribe(events.append)
    failsafe.start()
    end()
    end()
    events.clear()
    failsafe.trip(gone())
    assert len(events) == 1


def test_a_listener_must_be_callable(make: Make) -> None:
    with pytest.raises(TypeError, match="callable"):
        make().subscribe("log")  # type: ignore[arg-type] # the point of the test


def test_a_dependency_that_raises_in_suspend_stops_neither_the_trip_nor_the_others(
    make: Make,
) -> None:
    class Broken(Switch):
        def suspend(self, incident: Incident) -> None:
            raise RuntimeError

    failsafe, well = make(), Switch("other")
    failsafe.watch(Broken())
    failsafe.watch(well)
    failsafe.start()
    failsafe.trip(gone())
    assert len(well.suspended) == 1


# Settings, and more than one


def test_two_failsafes_share_nothing(make: Make) -> None:
    one, other = make("one"), make("other")
    one.start()
    other.start()
    one.trip(gone())
    with pytest.raises(OperationsSuspendedError):
        one.require()
    other.require()
    assert (other.epoch, other.refusals, other.incident) == (0, 0, None)


@pytest.mark.parametrize("service", ["", "  ", None, 7])
def test_a_service_has_a_name(service: Any) -> None:
    with pytest.raises(ConfigurationError, match="service must be a text"):
        FailSafe(service)


def test_two_dependencies_have_two_names(make: Make) -> None:
    failsafe = make()
    failsafe.watch(Switch())
    with pytest.raises(ConfigurationError, match="give name="):
        failsafe.watch(Switch())


def test_two_sinks_have_two_names() -> None:
    with pytest.raises(ConfigurationError, match="same name"):
        FailSafe("api", sinks=[CapturingSink(), CapturingSink()])


@pytest.mark.parametrize("sink", [object(), "slack", CapturingSink, None])
def test_what_is_no_sink_is_refused(sink: Any) -> None:
    with pytest.raises(ConfigurationError, match="is no sink"):
        FailSafe("api", sinks=[sink])


def test_a_sink_without_a_name_is_refused_with_the_mend() -> None:
    class Nameless:
        def send(self, alert: Alert) -> None: ...

    with pytest.raises(ConfigurationError, match="a sink's name"):
        FailSafe("api", sinks=[Nameless()])  # type: ignore[list-item] # the point of the test
    FailSafe("api", sinks=[Route(Nameless(), name="mine")]).close()  # type: ignore[arg-type]


def test_a_plain_function_is_a_sink(make: Make) -> None:
    arrived: list[Alert] = []

    def tell_the_desk(alert: Alert) -> None:
        arrived.append(alert)

    failsafe = make(sinks=[tell_the_desk])
    failsafe.start()
    failsafe.trip(gone())
    assert failsafe.flush(10)
    assert [alert.action for alert in arrived] == [AlertAction.TRIGGER]
    assert failsafe.status().sinks[0].name == "tell_the_desk"


# Forks and the end


def _state_in_child(failsafe: FailSafe, answers: Any) -> None:
    failsafe.trip(gone())
    threads = sorted(thread.name for thread in threading.enumerate())
    answers.put((failsafe.state.value, failsafe.flush(10), threads))
    answers.close()
    answers.join_thread()
    failsafe.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own_and_its_own_state(make: Make) -> None:
    sink = CapturingSink()
    failsafe = make(sinks=[sink])
    failsafe.start()
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_state_in_child, args=(failsafe, answers), daemon=True)
    child.start()
    state, is_flushed, threads = answers.get(timeout=20)
    child.join(20)
    assert (state, is_flushed, child.exitcode) == ("FAIL_SAFE", True, 0)
    assert "failstop-monitor" in threads
    assert "failstop-alerts-capturing" in threads
    assert failsafe.state is State.NORMAL
    assert sink.alerts == []
    failsafe.trip(gone())
    assert failsafe.flush(10)


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Have another process keep the store busy."""
    work = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('BEGIN IMMEDIATE')"
    command = [sys.executable, "-c", f"{work}; print(flush=True); sys.stdin.read()", str(store)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            yield
        finally:
            holder.kill()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_holds_to_a_halt_that_could_not_be_written(tmp_path: Path) -> None:
    store = tmp_path / "api.db"
    with FailSafe("api", store=store, recovery=SLOW) as failsafe:
        is_free, freed = os.pipe()
        with locked(store):
            failsafe.halt(actor="alice", reason="stop")
            child = os.fork()
            if not child:
                os.read(is_free, 1)
                failsafe.plan_reset()
                is_kept = failsafe.incident == offline.status(store).incident
                os._exit(0 if is_kept and not failsafe.is_normal else 1)
        os.write(freed, b"1")
        assert exit_code(child) == 0
        incident = failsafe.incident
        failsafe.plan_reset()
        assert incident is not None
        assert failsafe.incident is not None
        assert failsafe.incident.incident_id == incident.incident_id
        failsafe.reset(actor="bob", reason="it is over")
        assert failsafe.is_normal


def test_close_refuses_ends_the_threads_and_delivers_first(make: Make) -> None:
    sink, switch = CapturingSink(), Switch()
    failsafe = make("closing", sinks=[sink])
    failsafe.watch(switch)
    before = set(threading.enumerate())
    failsafe.start()
    failsafe.trip(gone())
    failsafe.close()
    failsafe.close()
    assert len(sink.alerts) == 1
    assert switch.closed >= 1
    wait_until(lambda: set(threading.enumerate()) <= before)
    assert failsafe.state is State.CLOSED
    with pytest.raises(OperationsSuspendedError, match="is in fail-safe mode"):
        failsafe.require()


def test_nothing_opens_a_closed_failsafe(make: Make) -> None:
    failsafe = make()
    failsafe.start()
    failsafe.close()
    assert failsafe.trip(gone()) is None
    for attempt in (
        failsafe.start,
        lambda: failsafe.halt(actor="ann", reason="late"),
        lambda: failsafe.reset(actor="ann", reason="late"),
    ):
        with pytest.raises(ConfigurationError):
            attempt()
    assert failsafe.state is State.CLOSED


def test_all_threads_are_daemons_named_failstop(make: Make) -> None:
    before = set(threading.enumerate())
    failsafe = make(sinks=[CapturingSink()])
    assert set(threading.enumerate()) == before
    failsafe.start()
    for thread in set(threading.enumerate()) - before:
        assert thread.name.startswith("failstop-")
        assert thread.daemon
