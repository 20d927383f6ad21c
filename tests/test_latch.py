"""The latch as a table, against a model that is written without one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from failstop._latch import TRANSITIONS, IllegalSignalError, Latch, Signal, State

EVIDENCE = (Signal.VERIFIED, Signal.PASSED, Signal.PROVEN)


@dataclass
class Model:
    """What a person would say of the service, in plain flags."""

    is_closed: bool = False
    has_verified: bool = False
    is_tripped: bool = False
    is_recovering: bool = False
    waits_for_person: bool = False
    trips: int = 0
    failures: int = 0

    @property
    def state(self) -> str:
        if self.is_closed:
            return "CLOSED"
        if self.is_tripped:
            return "RECOVERING" if self.is_recovering else "FAIL_SAFE"
        return "NORMAL" if self.has_verified else "STARTING"

    def fail(self, *, by_person: bool, hold: bool) -> bool:
        if self.is_closed:
            return False
        self.trips += 1 if by_person or not self.is_tripped else 0
        self.failures += 1
        self.is_tripped, self.is_recovering, self.has_verified = True, False, True
        self.waits_for_person = self.waits_for_person or by_person or hold
        return True

    def check_fails(self) -> bool:
        if self.is_closed or not self.is_recovering:
            return False
        self.failures += 1
        self.is_recovering = False
        return True

    def verify(self, seen: int) -> bool:
        if self.is_closed or self.has_verified or seen != self.failures:
            return False
        self.has_verified = True
        return True

    def passes(self, seen: int) -> bool:
        if self.is_closed or not self.is_tripped or self.is_recovering or seen != self.failures:
            return False
        self.is_recovering = True
        return True

    def proves(self, seen: int) -> bool:
        is_ready = self.is_recovering and not self.is_closed and not self.waits_for_person
        return is_ready and seen == self.failures and self._leave()

    def person_resets(self, seen: int) -> bool:
        return self.is_tripped and not self.is_closed and seen == self.trips and self._leave()

    def _leave(self) -> bool:
        self.is_tripped = self.is_recovering = self.waits_for_person = False
        return True

    def close(self) -> bool:
        if self.is_closed:
            return False
        self.is_closed = True
        return True


class LatchAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.latch = Latch()
        self.model = Model()
        self.highest = (0, 0)

    def step(self, is_legal: bool, signal: Signal, **facts: object) -> None:
        before = self.latch
        try:
            self.latch = self.latch.step(signal, **facts)  # type: ignore[arg-type] # drawn by rule
        except IllegalSignalError:
            assert not is_legal
            assert self.latch is before
        else:
            assert is_legal

    @rule(hold=st.booleans())
    def trip(self, hold: bool) -> None:
        self.step(self.model.fail(by_person=False, hold=hold), Signal.TRIP, hold=hold)

    @rule()
    def halt(self) -> None:
        self.step(self.model.fail(by_person=True, hold=False), Signal.HALT)

    @rule()
    def check_failed(self) -> None:
        self.step(self.model.check_fails(), Signal.CHECK_FAILED)

    @rule(age=st.integers(0, 2))
    def verified(self, age: int) -> None:
        seen = self.model.failures - age
        self.step(self.model.verify(seen), Signal.VERIFIED, revision=seen)

    @rule(age=st.integers(0, 2))
    def passed(self, age: int) -> None:
        seen = self.model.failures - age
        self.step(self.model.passes(seen), Signal.PASSED, revision=seen)

    @rule(age=st.integers(0, 2))
    def proven(self, age: int) -> None:
        seen = self.model.failures - age
        self.step(self.model.proves(seen), Signal.PROVEN, revision=seen)

    @rule(age=st.integers(0, 2))
    def reset(self, age: int) -> None:
        seen = self.model.trips - age
        self.step(self.model.person_resets(seen), Signal.RESET, epoch=seen)

    @rule()
    def close(self) -> None:
        self.step(self.model.close(), Signal.CLOSE)

    @invariant()
    def says_what_the_model_says(self) -> None:
        latch = self.latch
        assert latch.state == self.model.state
        assert (latch.epoch, latch.revision) == (self.model.trips, self.model.failures)
        if latch.state is not State.CLOSED:
            assert latch.is_held == self.model.waits_for_person

    @invariant()
    def epoch_and_revision_never_fall(self) -> None:
        assert self.latch.epoch >= self.highest[0]
        assert self.latch.revision >= self.highest[1]
        self.highest = (self.latch.epoch, self.latch.revision)


LatchAgainstModel.TestCase.settings = settings(max_examples=300, stateful_step_count=40)
TestLatchAgainstModel = LatchAgainstModel.TestCase


def test_the_table_has_exactly_the_ways_of_the_design() -> None:
    ways = {
        (before.value, after.value)
        for before, row in TRANSITIONS.items()
        for after in row.values()
        if after is not State.CLOSED
    }
    assert ways == {
        ("STARTING", "NORMAL"),
        ("STARTING", "FAIL_SAFE"),
        ("NORMAL", "FAIL_SAFE"),
        ("FAIL_SAFE", "FAIL_SAFE"),
        ("FAIL_SAFE", "RECOVERING"),
        ("FAIL_SAFE", "NORMAL"),
        ("RECOVERING", "FAIL_SAFE"),
        ("RECOVERING", "NORMAL"),
    }


def test_nothing_leads_out_of_closed() -> None:
    closed = Latch().step(Signal.CLOSE)
    for signal in Signal:
        with pytest.raises(IllegalSignalError, match="illegal in state CLOSED"):
            closed.step(signal, revision=0, epoch=0)


@pytest.mark.parametrize("signal", EVIDENCE)
def test_evidence_that_names_no_revision_proves_nothing(signal: Signal) -> None:
    for state in (State.STARTING, State.FAIL_SAFE, State.RECOVERING):
        with pytest.raises(IllegalSignalError):
            Latch(state).step(signal)


def test_a_success_that_began_before_a_trip_changes_nothing() -> None:
    tripped = Latch(State.NORMAL).step(Signal.TRIP)
    began = tripped.revision
    recovering = tripped.step(Signal.PASSED, revision=began)
    again = recovering.step(Signal.TRIP).step(Signal.PASSED, revision=began + 1)
    with pytest.raises(IllegalSignalError, match="rests on revision"):
        again.step(Signal.PROVEN, revision=began)
