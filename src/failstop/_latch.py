"""The latch: the states of a service and the only ways between them.

Rules for whoever changes this file:

1. No I/O, no clock, no lock: a `Latch` is a value, `step()` a pure function of it. Who calls it
   holds the lock, writes the store and tells the observers.
2. Whatever is not in TRANSITIONS is illegal: it raises and changes nothing. Never add a way into
   NORMAL without evidence or a person.
3. The epoch only rises: by one whenever a trip opens an incident, and at every halt. A person's
   reset names the epoch it saw.
4. The revision rises with every failure, counted ones too. Evidence names the revision at which
   its gathering began: a success that began before a failure changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

__all__ = ["TRANSITIONS", "IllegalSignalError", "Latch", "Signal", "State"]


class State(StrEnum):
    """Where a service stands; guarded operations are sent in NORMAL only."""

    STARTING = "STARTING"
    NORMAL = "NORMAL"
    FAIL_SAFE = "FAIL_SAFE"
    RECOVERING = "RECOVERING"
    CLOSED = "CLOSED"


class Signal(StrEnum):
    """What can happen to a latch."""

    VERIFIED = "VERIFIED"
    TRIP = "TRIP"
    HALT = "HALT"
    PASSED = "PASSED"
    CHECK_FAILED = "CHECK_FAILED"
    PROVEN = "PROVEN"
    RESET = "RESET"
    CLOSE = "CLOSE"


TRANSITIONS: dict[State, dict[Signal, State]] = {
    State.STARTING: {
        Signal.VERIFIED: State.NORMAL,
        Signal.TRIP: State.FAIL_SAFE,
        Signal.HALT: State.FAIL_SAFE,
        Signal.CLOSE: State.CLOSED,
    },
    State.NORMAL: {
        Signal.TRIP: State.FAIL_SAFE,
        Signal.HALT: State.FAIL_SAFE,
        Signal.CLOSE: State.CLOSED,
    },
    State.FAIL_SAFE: {
        Signal.TRIP: State.FAIL_SAFE,
        Signal.HALT: State.FAIL_SAFE,
        Signal.PASSED: State.RECOVERING,
        Signal.RESET: State.NORMAL,
        Signal.CLOSE: State.CLOSED,
    },
    State.RECOVERING: {
        Signal.CHECK_FAILED: State.FAIL_SAFE,
        Signal.TRIP: State.FAIL_SAFE,
        Signal.HALT: State.FAIL_SAFE,
        Signal.PROVEN: State.NORMAL,
        Signal.RESET: State.NORMAL,
        Signal.CLOSE: State.CLOSED,
    },
    State.CLOSED: {},
}

EVIDENCE = frozenset({Signal.VERIFIED, Signal.PASSED, Signal.PROVEN})
FAILURES = frozenset({Signal.TRIP, Signal.HALT, Signal.CHECK_FAILED})


class IllegalSignalError(Exception):
    """The signal means nothing in this state, or rests on evidence that is out of date."""


@dataclass(frozen=True, slots=True)
class Latch:
    """A state with its epoch (trips so far) and revision (failures so far).

    `is_held` is true while only a person may lead back to NORMAL.
    """

    state: State = State.STARTING
    epoch: int = 0
    revision: int = 0
    is_held: bool = False

    def step(
        self,
        signal: Signal,
        *,
        revision: int | None = None,
        epoch: int | None = None,
        hold: bool = False,
    ) -> Latch:
        """Return the latch after `signal`.

        Args:
            signal: what happened.
            revision: for evidence, the revision at which its gathering began.
            epoch: for a reset, the epoch that the person saw.
            hold: for a failure, whether only a person may lead back.

        Raises:
            IllegalSignalError: the signal is illegal here, out of date, or needs a person.
        """
        target = TRANSITIONS[self.state].get(signal)
        if target is None:
            raise IllegalSignalError(f"{signal} is illegal in state {self.state}")
        self._require_current(signal, revision, epoch)
        if signal in FAILURES:
            return self._failed(signal, target, hold)
        return replace(self, state=target, is_held=self.is_held and target is not State.NORMAL)

    def _require_current(self, signal: Signal, revision: int | None, epoch: int | None) -> None:
        if signal in EVIDENCE and revision != self.revision:
            raise IllegalSignalError(
                f"{signal} rests on revision {revision}, the latch is at {self.revision}"
            )
        if signal is Signal.RESET and epoch != self.epoch:
            raise IllegalSignalError(f"the reset saw epoch {epoch}, the latch is at {self.epoch}")
        if signal is Signal.PROVEN and self.is_held:
            raise IllegalSignalError("this incident waits for a person")

    def _failed(self, signal: Signal, target: State, hold: bool) -> Latch:
        opens = self.state in (State.STARTING, State.NORMAL)
        rises = signal is Signal.HALT or (signal is Signal.TRIP and opens)
        return Latch(
            state=target,
            epoch=self.epoch + rises,
            revision=self.revision + 1,
            is_held=self.is_held or hold or signal is Signal.HALT,
        )
