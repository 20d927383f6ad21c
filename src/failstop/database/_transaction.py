"""What the guard knows of one transaction: its phase, and what has become of the work."""

from __future__ import annotations

from datetime import UTC, datetime

from failstop.database._receipts import Receipt
from failstop.diagnosis import Phase, Verdict
from failstop.errors import Outcome

__all__ = ["Transaction", "outcome_of"]


class Transaction:
    """One transaction; the work that a response speaks of.

    `epoch` is the FailSafe's when it began; `is_told` is true once a failure of it was raised,
    `is_open` until its outcome changes no more. `receipt` is what its BEGIN writes, None where it
    writes none, and `backend` the number of the server's process that began it. `is_kept` is true
    once the store holds that its outcome is in doubt; `verdict` is what its last failure meant.
    """

    __slots__ = (
        "backend",
        "epoch",
        "has_statements",
        "is_kept",
        "is_open",
        "is_read_only",
        "is_told",
        "outcome",
        "phase",
        "receipt",
        "since",
        "verdict",
    )

    def __init__(
        self, epoch: int, *, is_read_only: bool, receipt: Receipt | None, backend: int | None
    ) -> None:
        self.epoch = epoch
        self.receipt = receipt
        self.backend = backend
        self.since = datetime.now(UTC)
        self.is_read_only = is_read_only
        self.has_statements = False
        self.is_open = True
        self.is_told = False
        self.is_kept = False
        self.verdict: Verdict | None = None
        self.phase = Phase.BEGIN
        self.outcome = Outcome.NOT_STARTED

    @property
    def is_accounted(self) -> bool:
        """True where the outcome is proven, or the store holds that it is not."""
        return self.outcome is not Outcome.UNKNOWN or self.is_kept

    @property
    def is_ending(self) -> bool:
        """True while COMMIT or ROLLBACK is under way, or has been."""
        return self.phase in (Phase.COMMIT, Phase.ROLLBACK)

    def enter(self, phase: Phase) -> None:
        """Begin a phase; the outcome says what holds if nothing more is ever heard."""
        self.phase = phase
        if phase is Phase.STATEMENT:
            self.has_statements = True
            self.outcome = Outcome.ROLLED_BACK
        elif phase is Phase.COMMIT and self.has_statements:
            self.outcome = Outcome.UNKNOWN

    def settle(self, outcome: Outcome) -> None:
        """Write down what is proven of the work."""
        self.outcome = outcome


def outcome_of(phase: Phase, *, is_known: bool = False) -> Outcome:
    """Return what a failure in `phase` leaves of the work.

    Args:
        phase: what was being done.
        is_known: whether the failure itself proves that nothing was committed.
    """
    if phase in (Phase.CHECKOUT, Phase.CONNECT, Phase.PING, Phase.BEGIN):
        return Outcome.NOT_STARTED
    if phase is Phase.COMMIT and not is_known:
        return Outcome.UNKNOWN
    return Outcome.ROLLED_BACK
