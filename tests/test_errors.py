"""The error tree: what it derives from, what it carries, and that it survives every copy."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg.errors
import pytest
from sqlalchemy.exc import DBAPIError

from failstop import errors
from failstop.errors import (
    CommitOutcomeUnknownError,
    ConfigurationError,
    ConnectionFailedError,
    CriticalDatabaseError,
    CriticalError,
    DatabaseUnavailableError,
    ErrorCode,
    GatewayUnavailableError,
    IdempotencyConflictError,
    KeyInFlightError,
    OperationsSuspendedError,
    Outcome,
    ReceiptExpiredError,
    ResetRefusedError,
    TransactionFailedError,
)

TREE: dict[type[CriticalError], tuple[type[Exception], ErrorCode]] = {
    CriticalError: (Exception, ErrorCode.SYSTEM_FAILURE),
    CriticalDatabaseError: (CriticalError, ErrorCode.DB_UNAVAILABLE),
    DatabaseUnavailableError: (CriticalDatabaseError, ErrorCode.DB_UNAVAILABLE),
    ConnectionFailedError: (CriticalDatabaseError, ErrorCode.CONNECTION_FAILED),
    TransactionFailedError: (CriticalDatabaseError, ErrorCode.TRANSACTION_FAILED),
    CommitOutcomeUnknownError: (TransactionFailedError, ErrorCode.TRANSACTION_FAILED),
    GatewayUnavailableError: (CriticalError, ErrorCode.GATEWAY_UNAVAILABLE),
    OperationsSuspendedError: (CriticalError, ErrorCode.SYSTEM_FAILURE),
}
SEEN = datetime(2026, 1, 1, tzinfo=UTC)


class OddError(CriticalDatabaseError):
    """A user's subclass with a signature of its own."""

    def __init__(self, table: str, *, rows: int) -> None:
        super().__init__(f"table {table} has {rows} rows", kind="odd", occurred_at=SEEN)
        self.table = table
        self.rows = rows


def every_error() -> list[Exception]:
    facts: Any = {"outcome": "UNKNOWN", "incident_id": "i-1", "kind": "k", "occurred_at": SEEN}
    return [
        *(cls("it failed", **facts) for cls in TREE),
        CommitOutcomeUnknownError("it failed", key="order-1", occurred_at=SEEN),
        OperationsSuspendedError(
            "refused", reason="Disk full", cause_code=ErrorCode.DB_UNAVAILABLE
        ),
        OddError("trades", rows=3),
        ConfigurationError("deadline must be positive"),
        ResetRefusedError("not proven", ["witness", "writable"]),
        IdempotencyConflictError("used before", key="order-1"),
        KeyInFlightError("still under way", key="order-1"),
        ReceiptExpiredError("long ago", key="order-1"),
    ]


def pickled(error: Exception) -> Any:
    return pickle.loads(pickle.dumps(error))


COPIES: list[Callable[[Any], Any]] = [pickled, copy.copy, copy.deepcopy]


def class_name(thing: object) -> str:
    return getattr(thing, "__name__", type(thing).__name__)


@pytest.mark.parametrize("cls", TREE, ids=class_name)
def test_the_tree_is_the_designs(cls: type[CriticalError]) -> None:
    parent, code = TREE[cls]
    assert issubclass(cls, parent)
    error = cls("it failed")
    assert error.is_critical is True
    assert error.error_code is code
    assert error.incident_id is None


def test_the_tree_is_whole() -> None:
    def below(cls: type[CriticalError]) -> set[type[CriticalError]]:
        return {cls}.union(*(below(child) for child in cls.__subclasses__()))

    ours = {cls for cls in below(CriticalError) if cls.__module__ == "failstop.errors"}
    assert ours == set(TREE)
    assert set(errors.__all__) == {cls.__name__ for cls in TREE} | {
        *("ConfigurationError", "ErrorCode", "IdempotencyConflictError", "Outcome"),
        *("KeyInFlightError", "ReceiptExpiredError", "ResetRefusedError"),
    }


@pytest.mark.parametrize(
    "cls",
    [
        ConfigurationError,
        ResetRefusedError,
        IdempotencyConflictError,
        KeyInFlightError,
        ReceiptExpiredError,
    ],
    ids=class_name,
)
def test_a_refusal_is_not_critical(cls: type[Exception]) -> None:
    assert not issubclass(cls, CriticalError)
    assert not hasattr(cls, "is_critical")


@pytest.mark.parametrize(
    ("outcome", "safe"),
    [("NOT_STARTED", True), ("ROLLED_BACK", True), ("COMMITTED", False), ("UNKNOWN", False)],
)
def test_only_what_took_no_effect_is_safe_to_retry(outcome: str, safe: bool) -> None:
    assert Outcome(outcome).safe_to_retry is safe
    assert CriticalError("it failed", outcome=outcome).safe_to_retry is safe


def test_the_outcome_is_unknown_until_proven_and_a_refusal_started_nothing() -> None:
    assert TransactionFailedError("it failed").outcome is Outcome.UNKNOWN
    assert OperationsSuspendedError("refused").outcome is Outcome.NOT_STARTED


def test_a_database_error_takes_message_and_code_as_the_design_says() -> None:
    error = CriticalDatabaseError("no server", "CONNECTION_FAILED")
    assert str(error) == "CRITICAL DATABASE ERROR: no server"
    assert error.error_code is ErrorCode.CONNECTION_FAILED


@pytest.mark.parametrize("cls", TREE, ids=class_name)
def test_only_the_databases_errors_have_the_prefix(cls: type[CriticalError]) -> None:
    is_database = issubclass(cls, CriticalDatabaseError)
    assert str(cls("it failed")).startswith("CRITICAL DATABASE ERROR: ") is is_database


@pytest.mark.parametrize("error", every_error(), ids=class_name)
def test_the_args_hold_raw_facts_and_no_formatted_text(error: Exception) -> None:
    assert str(error).endswith(error.args[0])
    assert "CRITICAL DATABASE ERROR" not in repr(error.args)


@pytest.mark.parametrize("wrong", ["DB_GONE", ""])
def test_a_code_or_an_outcome_that_does_not_exist_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="not a valid ErrorCode"):
        CriticalError("it failed", wrong)
    with pytest.raises(ValueError, match="not a valid Outcome"):
        CriticalError("it failed", outcome=wrong)


def test_the_time_has_a_zone() -> None:
    before = datetime.now(UTC)
    assert before <= CriticalError("it failed").occurred_at <= datetime.now(UTC)


@pytest.mark.parametrize("remake", COPIES)
@pytest.mark.parametrize("error", every_error(), ids=class_name)
def test_a_copy_has_the_class_the_text_and_every_fact(
    error: Exception, remake: Callable[[Any], Any]
) -> None:
    error.add_note("seen by the test")
    again = remake(error)
    assert again is not error
    assert type(again) is type(error)
    assert (str(again), again.args) == (str(error), error.args)
    assert vars(again) == vars(error)


@pytest.mark.parametrize("remake", COPIES)
@pytest.mark.parametrize("error", every_error(), ids=class_name)
def test_a_copy_keeps_the_cause(error: Exception, remake: Callable[[Any], Any]) -> None:
    error.__cause__ = ConnectionResetError(104, "reset")
    cause = remake(error).__cause__
    assert type(cause) is ConnectionResetError
    assert cause.args == (104, "reset")


def test_a_pickle_keeps_a_drivers_cause() -> None:
    error = DatabaseUnavailableError("it failed")
    error.__cause__ = DBAPIError("select 1", (), psycopg.errors.DiskFull("no space"))
    cause = pickled(error).__cause__
    assert type(cause) is DBAPIError
    assert type(cause.orig) is psycopg.errors.DiskFull


class UnpicklableError(Exception):
    def __init__(self) -> None:
        super().__init__("password=hunter2")
        self.lock = threading.Lock()


def test_a_cause_that_cannot_be_pickled_leaves_its_class_name_and_no_text() -> None:
    error = DatabaseUnavailableError("it failed")
    error.__cause__ = UnpicklableError()
    cause = pickled(error).__cause__
    assert type(cause) is RuntimeError
    assert str(cause) == f"{__name__}.UnpicklableError"


@pytest.mark.parametrize("remake", [copy.copy, copy.deepcopy])
def test_a_copy_in_the_process_keeps_the_very_same_cause(remake: Callable[[Any], Any]) -> None:
    error = DatabaseUnavailableError("it failed")
    error.__cause__ = UnpicklableError()
    assert remake(error).__cause__ is error.__cause__


@pytest.mark.parametrize("remake", COPIES)
def test_a_copy_without_a_cause_still_shows_its_context(remake: Callable[[Any], Any]) -> None:
    again = remake(DatabaseUnavailableError("it failed"))
    assert again.__cause__ is None
    assert again.__suppress_context__ is False


def test_a_deep_copy_shares_no_mutable_fact() -> None:
    error = OddError("trades", rows=3)
    vars(error)["seen"] = ["a"]
    again = copy.deepcopy(error)
    vars(error)["seen"].append("b")
    assert vars(again)["seen"] == ["a"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol_serves(protocol: int) -> None:
    error = OddError("trades", rows=3)
    assert vars(pickle.loads(pickle.dumps(error, protocol))) == vars(error)


def test_a_refused_reset_names_the_checks_and_a_conflict_its_key() -> None:
    assert ResetRefusedError("not proven", ["witness"]).checks == ("witness",)
    assert IdempotencyConflictError("used before", key="order-1").key == "order-1"
    assert CommitOutcomeUnknownError("it failed", key="order-1").key == "order-1"
