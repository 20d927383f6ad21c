"""What a drill found: values, and whether they keep the promises."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["ActReport", "Answers", "DrillReport", "Moment", "Reconciliation"]


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened, `at` seconds after the drill began; `act` is None between acts."""

    at: float
    act: str | None
    text: str


@dataclass(slots=True)
class Answers:
    """What the API answered while it was not in NORMAL, and what was wrong with it."""

    total: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, outcome: str, fault: str | None) -> None:
        """Count one answer; each fault is kept once."""
        self.total += 1
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        if fault is not None and fault not in self.wrong:
            self.wrong.append(fault)

    def __str__(self) -> str:
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items())
        quality = "all 503, none with data" if not self.wrong else "; ".join(self.wrong)
        return f"{self.total} answers, {quality}: {outcomes}"


@dataclass(slots=True)
class ActReport:
    """One fault; times in seconds: to the trip from the strike, to recovery from the mend.

    `tells` is the outcome that at least one answer must have told, None where none must. Where
    `waits` are words, the service must wait for a person: `why` is what its plan said then, and
    `is_held` whether it waited and refused a reset without force. `notes` are the alerts that
    belong to no incident, such as the one about a reset with force.
    """

    name: str
    title: str
    tells: str | None = None
    waits: str | None = None
    why: list[str] = field(default_factory=list)
    is_held: bool = False
    trip_after: float | None = None
    error_code: str | None = None
    cause: str | None = None
    pages: int = 0
    notes: list[str] = field(default_factory=list)
    alert: str | None = None
    recovered_after: float | None = None
    is_resolved: bool = False
    answers: Answers = field(default_factory=Answers)

    @property
    def broken(self) -> list[str]:
        """The promises that this act broke, in words."""
        found = list(self.answers.wrong)
        if self.trip_after is None:
            found.append("the service did not trip")
        elif self.answers.total == 0:
            found.append("nothing was answered while the service was down")
        if self.tells is not None and self.tells not in self.answers.outcomes:
            found.append(f"no answer told the outcome {self.tells}")
        if self.pages != 1:
            found.append(f"{self.pages} pages were sent, not one")
        return [*found, *self._broken_after]

    @property
    def _broken_after(self) -> list[str]:
        found = []
        if self.waits is not None and not self.is_held:
            found.append("the service did not wait for a person")
        if self.waits is not None and not any(self.waits in each for each in self.why):
            found.append(f"the plan did not say that the database {self.waits}")
        if self.waits is not None and not self.notes:
            found.append("nobody was told that the reset was forced")
        if self.recovered_after is None:
            how = "by itself" if self.waits is None else "by a person's reset"
            found.append(f"the service did not recover {how}")
        elif not self.is_resolved:
            found.append("the alert was not resolved after recovery")
        return found


@dataclass(slots=True)
class Reconciliation:
    """Every order against the rows of the table.

    `lost` were accepted and are missing; `duplicated` are there twice; `invented` were never sent,
    or hold another quantity; `contradicted` are there although the answer said that they took no
    effect. `failed_over` were accepted, and are on the server alone that a failover left behind.
    """

    sent: int = 0
    accepted: int = 0
    refused: int = 0
    unknown: int = 0
    rows: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    contradicted: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    failed_over: list[str] = field(default_factory=list)

    @property
    def broken(self) -> list[str]:
        """The promises that the books show broken, in words."""
        kinds = ("lost", "duplicated", "invented", "contradicted", "unanswered")
        counts = {kind: len(getattr(self, kind)) for kind in kinds}
        found = [f"{count} orders {kind}" for kind, count in counts.items() if count]
        return found if self.accepted else [*found, "no order was accepted"]


@dataclass(slots=True)
class DrillReport:
    """The whole drill; `duration` in seconds.

    `stray` says what was wrong with answers given at any time, `left_out` why an act could not be
    played, by its name, and `left_behind` what could not be removed from the database, in words.
    """

    acts: list[ActReport]
    books: Reconciliation
    stray: list[str]
    server_version: str
    duration: float
    left_out: dict[str, str] = field(default_factory=dict)
    left_behind: list[str] = field(default_factory=list)

    @property
    def broken(self) -> list[str]:
        """Every broken promise, in words; empty where all were kept."""
        acts = [f"{act.name}: {promise}" for act in self.acts for promise in act.broken]
        return [*acts, *self.stray, *self.books.broken]

    @property
    def is_kept(self) -> bool:
        """True where no promise was broken."""
        return not self.broken

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON's types."""
        return {"kept": self.is_kept, "broken": self.broken, **asdict(self)}
