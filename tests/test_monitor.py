"""The monitor: rounds in every state, one that hangs or cannot be made is a failure."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from failstop import FailSafe
from failstop._latch import State
from failstop._watchdog import Watchdog
from failstop.errors import ConfigurationError, CriticalError, DatabaseUnavailableError
from failstop.events import Incident
from failstop.recovery import Check, Monitor, Recovery, _monitor, require_seconds
from failstop.recovery._monitor import Round, make_round
from failstop.recovery._pulse import TICK, Pulse
from failstop.recovery._streak import Streak
from failstop.recovery._user_check import UserCheck


def wait_until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    limit = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.002)


class Bench:
    """A monitor on its own, whose rounds the test holds."""

    def __init__(
        self, *, interval: float = 60.0, patience: float = 60.0, bound: float | None = None
    ) -> None:
        self.watchdog = Watchdog()
        self.gate = threading.Event()
        self.gate.set()
        self.failure: BaseException | None = None
        self.began: list[bool] = []
        self.hung = 0
        self.silences = 0
        self.monitor = Monitor(
            self.step,
            interval,
            patience,
            self.count_hung,
            self.watchdog,
            bound=lambda: bound,
            silent=self.count_silence,
        )

    def step(self, is_full: bool) -> Round:
        self.began.append(is_full)
        number = len(self.began)
        assert self.gate.wait(20)
        if self.failure is not None:
            raise self.failure
        return Round(number, (), None, time.monotonic(), datetime.now(UTC))

    def count_hung(self) -> None:
        self.hung += 1

    def count_silence(self) -> None:
        self.silences += 1


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**settings: float) -> Bench:
        made.append(Bench(**settings))
        made[-1].monitor.start()
        return made[-1]

    yield make
    for each in made:
        each.gate.set()
        each.monitor.close(10)
        each.watchdog.close(10)


def test_rounds_are_made_every_interval(bench: Callable[..., Bench]) -> None:
    made = bench(interval=0.01)
    wait_until(lambda: len(made.began) > 5)
    assert set(made.began) == {False}


def test_a_round_that_is_asked_for_is_full_and_begins_after_the_asking(
    bench: Callable[..., Bench],
) -> None:
    made = bench()
    made.gate.clear()
    first: list[Round | None] = []
    asking = threading.Thread(target=lambda: first.append(made.monitor.round_now(20)))
    asking.start()
    wait_until(lambda: len(made.began) == 1)
    second: list[Round | None] = []
    later = threading.Thread(target=lambda: second.append(made.monitor.round_now(20)))
    later.start()
    made.gate.set()
    asking.join(20)
    later.join(20)
    assert first[0] is not None
    assert second[0] is not None
    assert second[0].revision == 2, "a round that was under way does not answer a later question"
    assert made.began == [True, True]


def test_asking_from_within_a_round_does_not_wait_for_itself() -> None:
    answers: list[Round | None] = []
    watchdog = Watchdog()

    def step(is_full: bool) -> Round:
        answers.append(monitor.round_now(20))
        return make_round([], 0)

    monitor = Monitor(step, 60.0, 60.0, lambda: None, watchdog)
    monitor.start()
    assert monitor.round_now(20) is not None
    assert answers == [None]
    monitor.close(10)
    watchdog.close(10)


def test_an_answer_that_does_not_come_in_time_is_none(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.gate.clear()
    assert made.monitor.round_now(0.05) is None


def test_a_round_that_hangs_is_told_once(bench: Callable[..., Bench]) -> None:
    made = bench(interval=0.005, patience=0.05)
    made.gate.clear()
    wait_until(lambda: made.hung == 1)
    made.gate.set()
    rounds = len(made.began)
    wait_until(lambda: len(made.began) > rounds + 3)
    assert made.hung == 1


def test_a_round_that_ends_in_time_is_not_told(bench: Callable[..., Bench]) -> None:
    made = bench(interval=0.005, patience=30.0)
    wait_until(lambda: len(made.began) > 10)
    assert made.hung == 0


def test_a_round_that_cannot_be_made_is_told_and_the_next_one_comes(
    bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    made = bench(interval=0.005)
    made.failure = RuntimeError("no more threads")
    wait_until(lambda: made.hung >= 2)
    assert made.monitor.round_now(10) is None
    made.failure = None
    assert made.monitor.round_now(10) is not None
    assert "could not be made" in caplog.text


# Silence


@pytest.fixture
def no_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_monitor, "SLACK", 0.0)


@pytest.mark.usefixtures("no_slack")
def test_a_plain_round_that_outlasts_its_probes_deadlines_is_told_as_silence_once(
    bench: Callable[..., Bench],
) -> None:
    made = bench(interval=0.005, bound=0.1)
    made.gate.clear()
    wait_until(lambda: made.silences == 1)
    made.gate.set()
    rounds = len(made.began)
    wait_until(lambda: len(made.began) > rounds + 3)
    assert (made.silences, made.hung) == (1, 0)


@pytest.mark.usefixtures("no_slack")
def test_a_full_round_has_its_own_patience(bench: Callable[..., Bench]) -> None:
    made = bench(interval=0.05, bound=0.1)
    made.gate.clear()
    assert made.monitor.round_now(0.6) is None
    assert made.silences == 0


@pytest.mark.usefixtures("no_slack")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_monitor_whose_thread_has_died_is_silent_and_looks_again(
    bench: Callable[..., Bench],
) -> None:
    made = bench(interval=0.02)
    thread = made.monitor._thread
    assert thread is not None
    made.failure = SystemExit()
    wait_until(lambda: made.silences == 1)
    assert not thread.is_alive()
    made.failure = None
    wait_until(lambda: made.monitor.round_now(1.0) is not None)


def test_rounds_that_end_in_time_are_no_silence(bench: Callable[..., Bench]) -> None:
    made = bench(interval=0.01, bound=0.0)
    wait_until(lambda: len(made.began) > 50)
    assert made.silences == 0


def test_time_in_which_the_process_did_not_run_is_no_silence() -> None:
    """A process that was stopped and goes on has let nothing pass in between."""
    beats: list[tuple[float | None, float]] = []
    pulse = Pulse(Watchdog(), lambda *found: beats.append(found))
    pulse._last = 100.0
    pulse.begin()
    for now in (100.2, 100.4, 160.0, 160.2):
        pulse._count(now)
    assert pulse._silence == pytest.approx(0.2 + 0.2 + 2 * TICK + 0.2)
    assert pulse._under_way == pytest.approx(0.2 + 2 * TICK + 0.2)
    pulse.end()
    pulse._count(160.4)
    assert (pulse._silence, pulse._under_way) == (0.0, None)


# Checks


def test_every_check_is_made_even_where_one_fails() -> None:
    def fails() -> str:
        raise DatabaseUnavailableError("down", kind="refused")

    def cancelled() -> str:
        raise KeyboardInterrupt

    done = make_round(
        [Check("a", fails), Check("b", cancelled), Check("c", lambda: "well")], revision=7
    )
    assert [result.is_passed for result in done.results] == [False, False, True]
    assert done.failed == ("a", "b")
    assert isinstance(done.error, DatabaseUnavailableError)
    assert done.revision == 7


def test_what_a_check_says_tells_no_secret() -> None:
    def fails() -> str:
        raise CriticalError("no answer from postgresql://u:hunter2@db/x", kind="lost")

    done = make_round([Check("a", fails), Check("b", lambda: "at https://hunter2@x")], 0)
    assert "hunter2" not in str([result.detail for result in done.results])


@pytest.mark.parametrize("answer", [False, None, 1, "yes", 0.5, object()])
def test_only_true_passes(answer: Any) -> None:
    done = make_round([Check("mine", UserCheck(lambda: answer, 10.0))], 0)
    assert done.failed
    assert done.error is None, "a user's check proves nothing, but it is no critical failure"


def asked(check: UserCheck) -> str:
    [result] = make_round([Check("mine", check)], 0).results
    assert not result.is_passed
    return result.detail


def test_an_async_check_that_hangs_fails_in_words() -> None:
    async def hang() -> bool:
        await asyncio.sleep(60)
        return True

    assert asked(UserCheck(hang, 0.05)) == "did not end within 0.05 seconds"


def test_a_check_that_hangs_is_not_called_again_before_it_has_ended() -> None:
    gate, calls = threading.Event(), list[str]()

    def hang() -> bool:
        calls.append(threading.current_thread().name)
        return gate.wait(30)

    check = UserCheck(hang, 0.05)
    assert asked(check) == "did not end within 0.05 seconds"
    assert asked(check) == "hangs since 0 seconds; it is not called again meanwhile"
    assert calls == ["failstop-check"]
    gate.set()
    wait_until(lambda: "failstop-check" not in [each.name for each in threading.enumerate()])
    assert check() == "passed"
    assert len(calls) == 2


def test_a_check_that_raises_fails_by_the_name_of_what_it_raised() -> None:
    def fails() -> bool:
        raise LookupError("postgresql://u:hunter2@db/x")

    assert asked(UserCheck(fails, 10.0)) == "raised LookupError"


def test_a_check_that_raises_a_timeout_of_its_own_did_not_hang() -> None:
    def fails() -> bool:
        raise TimeoutError

    assert asked(UserCheck(fails, 10.0)) == "raised TimeoutError"


def test_a_check_that_lies_in_type_fails_and_is_told_which() -> None:
    assert asked(UserCheck(lambda: 1, 10.0)) == "returned int, not True"  # type: ignore[arg-type,return-value] # the lie


# The streak of rounds that passed


def passed(began: float, *, revision: int = 0, took: float = 0.0) -> Round:
    return Round(revision, (), None, began + took, datetime.now(UTC), took)


def test_rounds_count_only_where_about_an_interval_lies_between_them() -> None:
    streak = Streak(1.0, 3.0)
    counts = [streak.count(passed(began)) for began in (10.0, 10.2, 10.4, 11.0, 11.1, 12.0)]
    assert counts == [1, 1, 1, 2, 2, 3]


def test_rounds_that_take_long_count_too() -> None:
    streak = Streak(1.0, 3.0)
    assert [streak.count(passed(10.0 * n, took=9.0)) for n in range(3)] == [1, 2, 3]


def test_rounds_from_before_a_pause_or_a_failure_prove_nothing() -> None:
    streak = Streak(1.0, 3.0)
    assert [streak.count(passed(began)) for began in (10.0, 11.0, 14.5)] == [1, 2, 1]
    assert streak.count(passed(15.5, revision=1)) == 1
    streak.end()
    assert streak.count(passed(16.5, revision=1)) == 1


# With a FailSafe


class Hanging:
    name = "database"

    def __init__(self) -> None:
        self.gate = threading.Event()

    def probe(self) -> str:
        assert self.gate.wait(30)
        return "well"

    def suspend(self, incident: Incident) -> None: ...

    def close(self) -> None: ...


def test_a_start_whose_checks_hang_ends_in_fail_safe() -> None:
    hanging = Hanging()
    failsafe = FailSafe("api", recovery=Recovery(probe_interval=60.0, round_timeout=0.05))
    failsafe.watch(hanging)
    failsafe.start()
    assert failsafe.state is State.FAIL_SAFE
    assert failsafe.incident is not None
    assert failsafe.incident.kind == "check_hung"
    hanging.gate.set()
    failsafe.close()


def test_a_probe_that_hangs_in_normal_trips_and_recovers_when_it_ends() -> None:
    hanging = Hanging()
    hanging.gate.set()
    recovery = Recovery(probe_interval=0.01, consecutive=1, round_timeout=0.3)
    with FailSafe("api", recovery=recovery) as failsafe:
        failsafe.watch(hanging)
        assert failsafe.is_normal
        hanging.gate.clear()
        wait_until(lambda: not failsafe.is_normal)
        assert failsafe.incident is not None
        assert failsafe.incident.kind == "check_hung"
        hanging.gate.set()
        wait_until(lambda: failsafe.is_normal)


class Late:
    """A dependency that says how long its probe may take, and does not keep to it."""

    name = "database"
    probe_seconds = 0.1

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()

    def probe(self) -> str:
        assert self.gate.wait(30)
        return "well"

    def suspend(self, incident: Incident) -> None: ...

    def close(self) -> None: ...


@pytest.mark.usefixtures("no_slack")
def test_a_silent_monitor_trips_long_before_a_round_is_hung_and_recovers() -> None:
    late = Late()
    recovery = Recovery(probe_interval=0.05, consecutive=1, round_timeout=60.0)
    with FailSafe("api", recovery=recovery) as failsafe:
        failsafe.watch(late)
        assert failsafe.is_normal
        late.gate.clear()
        wait_until(lambda: not failsafe.is_normal)
        assert failsafe.incident is not None
        assert failsafe.incident.kind == "monitor_silent"
        late.gate.set()
        wait_until(lambda: failsafe.is_normal)


# Settings


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "sometimes"},
        {"probe_interval": 0},
        {"probe_interval": float("nan")},
        {"probe_interval": "1"},
        {"round_timeout": -1},
        {"consecutive": 0},
        {"consecutive": 1.5},
        {"consecutive": True},
        {"checks": ["x"]},
    ],
)
def test_recovery_is_checked_at_construction(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Recovery(**settings)


@pytest.mark.parametrize("value", [True, None, "5", 0, -1, float("inf"), float("nan")])
def test_seconds_are_a_finite_number_above_zero(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="deadline must be a"):
        require_seconds("deadline", value)
    assert require_seconds("deadline", 2) == 2.0
