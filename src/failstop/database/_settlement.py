"""The settlement: what became of a COMMIT that failed or got no answer, and what is said of it.

Decides what is asked, and which error the answer makes. How a receipt is asked for lives in
`_question.py`. Never here: a retry.
"""

from __future__ import annotations

import logging
import time

from sqlalchemy.engine import Connection, Engine

from failstop._failsafe import FailSafe
from failstop._scope import mark as mark_scope
from failstop.database._deadline import current_limit
from failstop.database._deadline import deadline as limited
from failstop.database._line import Cut, Line
from failstop.database._question import put_question
from failstop.database._transaction import Transaction
from failstop.diagnosis import Diagnoser, Diagnosis, Phase, Verdict, to_error
from failstop.errors import (
    CommitOutcomeUnknownError,
    CriticalError,
    ErrorCode,
    OperationsSuspendedError,
    Outcome,
    TransactionFailedError,
)
from failstop.events import InDoubt

__all__ = ["SILENT", "Settlement", "suspended"]

logger = logging.getLogger("failstop")

LEAST = 0.01
"""Seconds with which it is worth to ask."""

SILENT = Diagnosis(
    verdict=Verdict.CRITICAL,
    error_code=ErrorCode.DB_UNAVAILABLE,
    kind="deadline_exceeded",
    cause="The server did not answer by the deadline.",
    action="Check that the server runs, is not frozen, and that the network lets packets by.",
    outcome_known=False,
    sqlstate=None,
)


class Settlement:
    """Find out what became of the transactions of one database.

    Args:
        failsafe: what a lost answer trips, and who keeps what stays in doubt.
        name: the database's.
        deadline: seconds for a question where no call sets an end.
        diagnoser: what an exception means.
        engine: makes the connections on which is asked, each anew.
    """

    def __init__(
        self,
        failsafe: FailSafe,
        *,
        name: str,
        deadline: float,
        diagnoser: Diagnoser,
        engine: Engine,
    ) -> None:
        self._failsafe = failsafe
        self._name = name
        self._deadline = deadline
        self._diagnoser = diagnoser
        self.engine = engine

    def settle(
        self,
        line: Line,
        transaction: Transaction,
        error: BaseException,
        *,
        is_lost: bool,
        limit: float,
    ) -> None:
        """Find out what became of a COMMIT that failed; return where its work is committed.

        The service is tripped first, so that nobody else goes on while the receipt is asked for.

        Args:
            line: of the connection on which it was sent.
            transaction: the one to be committed.
            error: what the driver raised.
            is_lost: whether the connection is of no more use.
            limit: the end of the call (seconds, `time.monotonic()`).

        Raises:
            BaseException: `error`, where it tells the outcome itself or is no failure.
            CriticalError: the work is rolled back, or what became of it is not known yet.
        """
        diagnosis = self._diagnose(line, error, is_lost=is_lost)
        if diagnosis.outcome_known:
            transaction.settle(Outcome.ROLLED_BACK)
            raise error
        is_cut = line.cut is Cut.TRIP
        failure = self._unanswered(diagnosis, transaction, is_cut=is_cut)
        failure.__cause__ = error
        transaction.is_told = True
        try:
            if is_cut:
                mark_scope(failure)
            else:
                self._failsafe.trip(failure)
        finally:  # also where a second interrupt comes
            failure.outcome = self._ask(transaction, limit, failure.incident_id)
        self._trip_again(failure)
        if not isinstance(error, Exception):
            raise error
        if failure.outcome is not Outcome.COMMITTED:
            raise self._answered(failure, diagnosis, transaction, is_cut=is_cut) from error

    def _trip_again(self, failure: CriticalError) -> None:
        """Trip where the service has recovered while the question stayed without an answer."""
        if failure.outcome is Outcome.UNKNOWN and self._failsafe.is_normal:
            failure.incident_id = None
            self._failsafe.trip(failure)

    def _diagnose(self, line: Line, error: BaseException, *, is_lost: bool) -> Diagnosis:
        if line.cut is not None and line.is_severed:
            return SILENT
        return self._diagnoser.diagnose(error, phase=Phase.COMMIT, connection_invalidated=is_lost)

    def _unanswered(
        self, diagnosis: Diagnosis, transaction: Transaction, *, is_cut: bool
    ) -> CriticalError:
        if is_cut:
            return suspended(self._failsafe, Outcome.UNKNOWN)
        key = transaction.receipt.key if transaction.receipt else None
        return to_error(diagnosis, outcome=Outcome.UNKNOWN, name=self._name, key=key)

    def _answered(
        self,
        failure: CriticalError,
        diagnosis: Diagnosis,
        transaction: Transaction,
        *,
        is_cut: bool,
    ) -> CriticalError:
        """Return the error for what the question came to: a proven rollback is no doubt."""
        if failure.outcome is Outcome.UNKNOWN:
            return failure
        if is_cut:
            return suspended(self._failsafe, Outcome.ROLLED_BACK)
        error = TransactionFailedError(
            f"database {self._name!r}: COMMIT got no answer, and no receipt is there: the work is "
            "rolled back and can be committed no more",
            outcome=Outcome.ROLLED_BACK,
            incident_id=failure.incident_id,
            kind=diagnosis.kind,
        )
        error.action = diagnosis.action
        return error

    def gone(self, transaction: Transaction, limit: float) -> CommitOutcomeUnknownError:
        """Return the error for a transaction that somebody else has ended.

        Its receipt tells by which word, and is asked for until `limit`; there is no transaction to
        ask about on another kind of database than PostgreSQL.
        """
        transaction.settle(Outcome.UNKNOWN)
        transaction.is_told = True
        error = CommitOutcomeUnknownError(
            f"database {self._name!r} has no transaction any more, it was ended before its COMMIT",
            key=transaction.receipt.key if transaction.receipt else None,
            outcome=Outcome.UNKNOWN,
            kind="transaction_gone",
        )
        self._failsafe.trip(error)
        if transaction.receipt is not None and self.engine.dialect.name == "postgresql":
            error.outcome = self._ask(transaction, limit, error.incident_id)
        return error

    def doubt_of(self, transaction: Transaction, incident_id: str | None = None) -> InDoubt:
        """Return what is in doubt of a transaction with a receipt until its COMMIT is answered."""
        assert transaction.receipt is not None
        return InDoubt(
            database=self._name,
            key=transaction.receipt.key,
            since=transaction.since,
            backend_pid=transaction.backend,
            incident_id=incident_id,
        )

    # Asking

    def _ask(self, transaction: Transaction, limit: float, incident_id: str | None) -> Outcome:
        """Ask for the receipt of `transaction` until `limit`; write down what stays unknown."""
        doubt = self.doubt_of(transaction, incident_id)
        try:
            with self._failsafe.commits.asking():
                transaction.settle(self._ask_now(doubt, limit))
        finally:
            if transaction.outcome is Outcome.UNKNOWN:
                transaction.is_kept = self._failsafe.report_in_doubt(doubt)
        return transaction.outcome

    def _ask_now(self, doubt: InDoubt, limit: float) -> Outcome:
        left = limit - time.monotonic()
        if left < LEAST:
            return Outcome.UNKNOWN
        try:
            with limited(left), self.engine.connect() as connection:
                return self.question(connection, doubt)
        except Exception as error:  # noqa: BLE001 - no answer is an answer: it stays unknown
            logger.warning("database %r: asking failed: %s", self._name, type(error).__name__)
            return Outcome.UNKNOWN

    def question(self, connection: Connection, doubt: InDoubt) -> Outcome:
        """Ask on a connection of the guard's own what became of a transaction.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database does not answer.
        """
        limit = current_limit.get()
        seconds = self._deadline if limit is None else limit - time.monotonic()
        return put_question(
            connection, doubt, self._failsafe.service, self._sqlstate_of, seconds=seconds
        )

    def _sqlstate_of(self, error: Exception) -> str | None:
        return self._diagnoser.diagnose(error, phase=Phase.STATEMENT).sqlstate


def suspended(failsafe: FailSafe, outcome: Outcome) -> OperationsSuspendedError:
    """Return the error for work that a trip ended."""
    became = {
        Outcome.NOT_STARTED: "nothing was done",
        Outcome.ROLLED_BACK: "the work is rolled back",
    }.get(outcome, "whether it was committed is not known")
    incident = failsafe.incident
    error = OperationsSuspendedError(
        f"failsafe {failsafe.service!r} was tripped during the call; {became}",
        outcome=outcome,
        incident_id=incident.incident_id if incident else None,
    )
    if incident is not None:
        error.reason, error.cause_code = incident.reason, incident.error_code
    return error
