"""What the finder reports: a place, the way of the data, the rule and how sure it is.

Lives here: the frozen facts and the table of rules. Never here: anything that reads source code.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

__all__ = ["PRECEDENCE", "RULES", "Confidence", "Finding", "Rule"]

_DOCS = "https://failstop.dev/scan"


class Confidence(StrEnum):
    """How sure a finding is; `low` is shown on demand only."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"

    @property
    def rank(self) -> int:
        """3 for high, 2 for medium, 1 for low."""
        return {"high": 3, "medium": 2, "low": 1}[self.value]


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of dangerous fallback: its name, why it loses trades and its mend."""

    id: str
    name: str
    title: str
    why: str
    mend: str

    @property
    def url(self) -> str:
        """The documentation page of this rule."""
        return f"{_DOCS}/{self.id}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One dangerous fallback at one place.

    `line` and `end_line` count from 1; `flow` is the way of the data, source first.
    """

    path: str
    line: int
    end_line: int
    rule: str
    confidence: Confidence
    message: str
    flow: tuple[str, ...] = ()
    column: int = 1
    symbol: str = ""
    fingerprint: str = ""

    @property
    def facts(self) -> Rule:
        """The rule that this finding breaks."""
        return RULES[self.rule]

    def to_dict(self) -> dict[str, Any]:
        """All facts as JSON takes them, with the rule's why, mend and page."""
        facts = asdict(self)
        facts["confidence"] = self.confidence.value
        facts["flow"] = list(self.flow)
        rule = self.facts
        return facts | {"why": rule.why, "mend": rule.mend, "url": rule.url}


_TABLE = (
    Rule(
        "FS001",
        "failure-answered-with-data",
        "a database failure answered with data",
        "the caller cannot tell an outage from an empty or invented book and trades on it",
        "let the error pass, guard the engine with failstop.Database and protect the handler "
        "with with_fail_fast_protection: it answers 503 and pages",
    ),
    Rule(
        "FS002",
        "swallowed-critical-error",
        "a swallowed CriticalError",
        "the code goes on as if the guarded call had worked; its next step acts on nothing",
        "put `except CriticalError: raise` before this handler, or catch only the errors it means",
    ),
    Rule(
        "FS003",
        "another-store-in-its-place",
        "another store in the place of the database",
        "orders land in a store that no other process sees and that the next start forgets",
        "use Database.connect(url, failsafe): a missing URL is a DatabaseUnavailableError, "
        "never a default",
    ),
    Rule(
        "FS004",
        "retry-around-commit",
        "a retry around a commit",
        "a commit whose answer was lost may have taken effect; sending it again doubles the trade",
        "do the work with Database.run_once(key, work), which does it once for each key however "
        "often it is called, or retry only serialization failures and deadlocks",
    ),
    Rule(
        "FS005",
        "swallowed-statement-error",
        "a swallowed statement error inside a transaction that then commits",
        "PostgreSQL answers ROLLBACK to that COMMIT and nobody looks: the work is lost silently",
        "let the error end the transaction (Database.transaction() raises and rolls back), or put "
        "a savepoint around the statement that may fail",
    ),
    Rule(
        "FS006",
        "effect-before-commit",
        "an outside effect inside a transaction before its commit",
        "the order is out in the world while its row may still roll back",
        "commit the intent first (Database.transaction(key=...)), act afterwards, and record the "
        "result in a transaction of its own",
    ),
    Rule(
        "FS007",
        "timeout-around-commit",
        "a client-side timeout or cancellation around a commit",
        "the timeout fires while the server commits: the caller is told it failed and it did not",
        "give the deadline to AsyncDatabase.transaction(key=..., deadline=...): it cancels no "
        "commit, and asks what became of one that got no answer",
    ),
    Rule(
        "FS008",
        "health-that-cannot-fail",
        "a health answer that cannot fail",
        "the load balancer keeps sending orders to a service that has lost its database",
        "serve failstop's /readyz and /api/database/health, which answer 503 when the state is not "
        "NORMAL",
    ),
    Rule(
        "FS009",
        "no-deadline",
        "an engine or pool with no deadline at all",
        "a frozen server holds every worker for ever, with orders in their hands",
        "guard the engine with Database(engine, failsafe, deadline=...), or set a connect timeout "
        "and a statement timeout",
    ),
    Rule(
        "FS010",
        "fallback-by-environment",
        "a fallback by environment",
        "one wrong variable in production and the service answers invented data",
        "move the double into the tests (failstop.testing); let one path serve every environment",
    ),
    Rule(
        "FS011",
        "log-only-handler",
        "a log-only handler around database work whose loss matters",
        "the write is gone and only a log line knows",
        "let the error pass: a guarded engine trips the FailSafe and wakes a human",
    ),
    Rule(
        "FS012",
        "state-after-unknown-commit",
        "a business state written after an unknown commit",
        "the order is marked dead while it may be live at the venue or in the database",
        "write with Database.transaction(key=...) and read error.outcome: only NOT_STARTED and "
        "ROLLED_BACK prove that nothing happened; what is UNKNOWN is told to failsafe.on_resolved",
    ),
)

RULES: dict[str, Rule] = {rule.id: rule for rule in _TABLE}

PRECEDENCE: tuple[str, ...] = (
    "FS005",
    "FS004",
    "FS007",
    "FS006",
    "FS001",
    "FS010",
    "FS003",
    "FS008",
    "FS011",
    "FS002",
    "FS009",
    "FS012",
)
