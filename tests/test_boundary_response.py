"""The failure response: its body, its headers, and the outcome that speaks for the whole call."""

from __future__ import annotations

import contextvars
import dataclasses
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from failstop import FailSafe, FailureResponse, with_fail_fast_protection
from failstop._response import response_for
from failstop._scope import GRAVITY, MANY, Scope, current_scope
from failstop.errors import (
    CommitOutcomeUnknownError,
    CriticalError,
    DatabaseUnavailableError,
    GatewayUnavailableError,
    Outcome,
    TransactionFailedError,
)
from failstop.recovery import Recovery

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def failsafe() -> Iterator[FailSafe]:
    with FailSafe("trading-api") as made:
        yield made


@dataclasses.dataclass
class Work:
    outcome: Outcome
    is_open: bool = False


def test_the_body_of_a_refusal_is_exactly_the_documented_one(failsafe: FailSafe) -> None:
    error = DatabaseUnavailableError("gone", outcome=Outcome.NOT_STARTED, occurred_at=MOMENT)
    failsafe.trip(error)
    answer = response_for(error, error.outcome, failsafe)
    assert json.loads(json.dumps(answer.body)) == {
        "type": "https://failstop.dev/problems/suspended",
        "title": "Trading system temporarily unavailable",
        "status": 503,
        "error": "Trading system temporarily unavailable",
        "code": "SYSTEM_FAILURE",
        "message": "Operations suspended for safety.",
        "details": {
            "reason": "Database unavailable",
            "errorCode": "DB_UNAVAILABLE",
            "outcome": "NOT_STARTED",
            "safeToRetry": True,
            "incidentId": error.incident_id,
            "timestamp": "2026-01-01T00:00:00.000Z",
        },
    }
    assert list(answer.body) == [
        "type",
        "title",
        "status",
        "error",
        "code",
        "message",
        "details",
    ]
    assert answer.status == 503
    assert answer.headers == {
        "Content-Type": "application/problem+json",
        "Cache-Control": "no-store",
        "Retry-After": "3",
    }


def test_a_later_refusal_tells_the_cause_of_the_incident(failsafe: FailSafe) -> None:
    failsafe.trip(GatewayUnavailableError("gateway 'broker' answered 500"))
    answer = with_fail_fast_protection(failsafe=failsafe)(lambda: None)()
    assert isinstance(answer, FailureResponse)
    assert answer.body["code"] == "GATEWAY_UNAVAILABLE"
    assert answer.body["details"]["errorCode"] == "GATEWAY_UNAVAILABLE"
    assert answer.body["details"]["reason"] == "Gateway unavailable"


def test_the_noun_is_a_setting() -> None:
    answer = response_for(CriticalError("x"), Outcome.UNKNOWN, FailSafe("ledger", noun="Ledger"))
    assert answer.body["title"] == answer.body["error"] == "Ledger temporarily unavailable"


@pytest.mark.parametrize(
    ("outcome", "problem", "is_safe"),
    [
        (Outcome.NOT_STARTED, "suspended", True),
        (Outcome.ROLLED_BACK, "failed", True),
        (Outcome.UNKNOWN, "in-doubt", False),
        (Outcome.COMMITTED, "in-doubt", False),
    ],
)
def test_the_outcome_decides_the_problem_and_the_retry(
    outcome: Outcome, problem: str, is_safe: bool, failsafe: FailSafe
) -> None:
    answer = response_for(CriticalError("x"), outcome, failsafe)
    assert answer.body["type"] == f"https://failstop.dev/problems/{problem}"
    assert answer.body["details"]["safeToRetry"] is is_safe
    assert ("Retry-After" in answer.headers) is is_safe


def refused(failsafe: FailSafe) -> FailureResponse:
    answer = with_fail_fast_protection(failsafe=failsafe)(lambda: None)()
    assert isinstance(answer, FailureResponse)
    return answer


def test_retry_after_is_left_out_where_a_person_is_needed(failsafe: FailSafe) -> None:
    failsafe.halt(actor="ann", reason="drill")
    assert "Retry-After" not in refused(failsafe).headers


def test_retry_after_is_left_out_where_recovery_is_manual() -> None:
    with FailSafe("manual", recovery=Recovery(mode="manual")) as failsafe:
        failsafe.trip(CriticalError("x"))
        assert "Retry-After" not in refused(failsafe).headers


def test_retry_after_is_the_time_that_recovery_takes_at_least() -> None:
    recovery = Recovery(probe_interval=0.3, consecutive=5)
    with FailSafe("slow", recovery=recovery) as failsafe:
        failsafe.trip(CriticalError("x"))
        assert refused(failsafe).headers["Retry-After"] == "2"


@pytest.mark.parametrize("gravest", range(len(GRAVITY)))
def test_the_response_speaks_with_the_gravest_outcome(gravest: int) -> None:
    @with_fail_fast_protection
    def handler() -> None:
        scope = current_scope.get()
        assert scope is not None
        for outcome in reversed(GRAVITY[gravest:]):
            scope.add(Work(outcome))
        raise TransactionFailedError("x", outcome=Outcome.NOT_STARTED)

    answer = handler()
    assert isinstance(answer, FailureResponse)
    assert answer.body["details"]["outcome"] == GRAVITY[gravest]


def test_a_work_of_an_inner_call_speaks_in_the_outer_one() -> None:
    @with_fail_fast_protection
    def commit() -> None:
        scope = current_scope.get()
        assert scope is not None
        scope.add(Work(Outcome.COMMITTED))

    @with_fail_fast_protection
    def handler() -> None:
        commit()
        raise DatabaseUnavailableError("gone", outcome=Outcome.NOT_STARTED)

    answer = handler()
    assert isinstance(answer, FailureResponse)
    assert answer.body["details"]["outcome"] == "COMMITTED"


def test_the_outcome_is_read_when_the_response_is_made() -> None:
    work = Work(Outcome.UNKNOWN)

    @with_fail_fast_protection
    def handler() -> None:
        scope = current_scope.get()
        assert scope is not None
        scope.add(work)
        work.outcome = Outcome.ROLLED_BACK
        raise CriticalError("x", outcome=Outcome.NOT_STARTED)

    answer = handler()
    assert isinstance(answer, FailureResponse)
    assert answer.body["details"]["outcome"] == "ROLLED_BACK"


def test_a_second_failure_makes_the_outcome_no_better(failsafe: FailSafe) -> None:
    @with_fail_fast_protection
    def handler() -> None:
        failsafe.trip(CommitOutcomeUnknownError("no answer", outcome=Outcome.UNKNOWN))
        failsafe.require()

    answer = handler()
    assert isinstance(answer, FailureResponse)
    assert answer.body["details"]["errorCode"] == "TRANSACTION_FAILED"
    assert answer.body["details"]["outcome"] == "UNKNOWN"


def test_a_raised_failure_carries_the_outcome_of_the_whole_call(failsafe: FailSafe) -> None:
    """A consumer decides by it whether the message may be delivered again."""

    @with_fail_fast_protection(failsafe=failsafe, respond="raise")
    def handler() -> None:
        scope = current_scope.get()
        assert scope is not None
        scope.add(Work(Outcome.COMMITTED))
        raise DatabaseUnavailableError("gone", outcome=Outcome.NOT_STARTED)

    with pytest.raises(DatabaseUnavailableError) as caught:
        handler()
    assert caught.value.outcome is Outcome.COMMITTED
    assert not caught.value.safe_to_retry


def test_a_task_that_outlives_its_call_adds_nothing_to_it() -> None:
    kept: list[contextvars.Context] = []

    @with_fail_fast_protection
    def handler() -> None:
        kept.append(contextvars.copy_context())

    handler()
    scope = kept[0][current_scope]
    assert scope is not None
    kept[0].run(scope.add, Work(Outcome.COMMITTED))
    assert len(scope.works) == 0


def test_a_call_that_never_ends_stays_small() -> None:
    scope = Scope()
    running = Work(Outcome.ROLLED_BACK, is_open=True)
    scope.add(running)
    scope.add(Work(Outcome.COMMITTED))
    for _ in range(20 * MANY):
        scope.add(Work(Outcome.ROLLED_BACK))
    assert len(scope.works) <= MANY + 1
    assert scope.has_open_work
    assert str(scope.outcome) == "COMMITTED"
    running.outcome, running.is_open = Outcome.UNKNOWN, False
    assert str(scope.outcome) == "UNKNOWN"


def test_many_threads_lose_no_work_of_a_call() -> None:
    scope = Scope()
    works = [[Work(Outcome.COMMITTED, is_open=True) for _ in range(500)] for _ in range(8)]
    start = threading.Barrier(len(works))

    def add(mine: list[Work]) -> None:
        start.wait()
        for work in mine:
            scope.add(work)

    threads = [threading.Thread(target=add, args=(mine,)) for mine in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {id(work) for work in scope.works} == {id(work) for mine in works for work in mine}
