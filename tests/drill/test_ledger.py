"""The books of the drill find what they are there to find."""

from __future__ import annotations

import pytest

from failstop.drill._ledger import reconcile
from failstop.drill._traffic import Answer, Order, fault_of


def answered(*statuses: int | None, outcome: str | None = None, quantity: int = 1) -> Order:
    body = {"status": 503, "details": {"outcome": outcome, "errorCode": "DB_UNAVAILABLE"}}
    answers = [
        Answer(False, 0.0, 1.0, status, body if status == 503 else {}) for status in statuses
    ]
    return Order("order-1", quantity, answers)


def test_an_order_that_was_accepted_and_is_there_once_is_in_order() -> None:
    books = reconcile([answered(201)], [("order-1", 1)])
    assert not books.broken
    assert (books.sent, books.accepted, books.rows) == (1, 1, 1)


def test_an_accepted_order_without_a_row_is_lost() -> None:
    assert reconcile([answered(201)], []).lost == ["order-1"]


def test_an_accepted_order_that_only_the_server_before_a_failover_has_is_not_hidden() -> None:
    books = reconcile([answered(201)], [], [("order-1", 1)])
    assert (books.lost, books.failed_over) == ([], ["order-1"])
    books = reconcile([answered(503, outcome="ROLLED_BACK")], [], [("order-1", 1)])
    assert (books.lost, books.failed_over) == ([], [])


def test_an_order_answered_as_committed_without_a_row_is_lost() -> None:
    assert reconcile([answered(503, outcome="COMMITTED")], []).lost == ["order-1"]


@pytest.mark.parametrize("order", [answered(201), answered(503, outcome="UNKNOWN")])
def test_an_order_with_two_rows_is_duplicated(order: Order) -> None:
    assert reconcile([order], [("order-1", 1), ("order-1", 1)]).duplicated == ["order-1"]


def test_a_row_that_nobody_sent_is_invented() -> None:
    assert reconcile([answered(201)], [("order-1", 1), ("order-2", 1)]).invented == ["order-2"]


def test_a_row_with_another_quantity_is_invented() -> None:
    assert reconcile([answered(201, quantity=1)], [("order-1", 2)]).invented == ["order-1"]


@pytest.mark.parametrize("outcome", ["NOT_STARTED", "ROLLED_BACK"])
def test_a_row_of_an_order_that_was_said_to_have_no_effect_is_contradicted(outcome: str) -> None:
    order = answered(503, outcome=outcome)
    assert reconcile([order], [("order-1", 1)]).contradicted == ["order-1"]


def test_an_order_sent_again_and_accepted_then_is_no_contradiction() -> None:
    order = answered(503, 201, outcome="NOT_STARTED")
    assert not reconcile([order], [("order-1", 1)]).broken


@pytest.mark.parametrize("rows", [[], [("order-1", 1)]])
def test_an_unknown_order_may_be_there_or_not(rows: list[tuple[str, int]]) -> None:
    order = answered(503, outcome="UNKNOWN")
    accepted = Order("order-0", 1, answered(201).answers)
    books = reconcile([accepted, order], [("order-0", 1), *rows])
    assert not books.broken
    assert books.unknown == 1


def test_an_order_without_an_answer_is_unanswered() -> None:
    assert reconcile([answered(None)], []).unanswered == ["order-1"]


def test_books_without_an_accepted_order_prove_nothing() -> None:
    assert reconcile([], []).broken == ["no order was accepted"]


def failure(outcome: str, is_safe: bool) -> dict[str, object]:
    details = {"outcome": outcome, "safeToRetry": is_safe, "errorCode": "DB_UNAVAILABLE"}
    return {"status": 503, "details": details}


FAILURE = failure("UNKNOWN", False)


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (503, FAILURE, None),
        (503, failure("NOT_STARTED", True), None),
        (503, failure("UNKNOWN", True), "a 503 said UNKNOWN and safeToRetry True"),
        (503, failure("COMMITTED", True), "a 503 said COMMITTED and safeToRetry True"),
        (503, failure("ROLLED_BACK", False), "a 503 said ROLLED_BACK and safeToRetry False"),
        (None, None, "a request was not answered"),
        (200, {"orders": []}, "a request was answered 200"),
        (500, FAILURE, "a request was answered 500"),
        (500, None, "a request was answered 500"),
        (503, None, "a 503 had not the body of a failure response"),
        (503, {**FAILURE, "orders": []}, "a 503 held data"),
        (503, {"status": 503, "details": {}}, "a 503 had not the body of a failure response"),
        (503, {"status": 503}, "a 503 had not the body of a failure response"),
    ],
)
def test_an_answer_while_down_is_a_failure_response_or_a_fault(
    status: int | None, body: object, fault: str | None
) -> None:
    assert fault_of(Answer(True, 0.0, 1.0, status, body)) == fault
