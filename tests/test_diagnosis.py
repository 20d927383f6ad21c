"""The diagnosis, rule by rule: table, phases, the chain of causes, the policy, the words."""

from __future__ import annotations

import asyncio
import copy
import csv
import pickle
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg.errors
import pytest
import sqlalchemy as sa
from psycopg.pq import DiagnosticField
from sqlalchemy.exc import (
    DBAPIError,
    InvalidRequestError,
    OperationalError,
    ProgrammingError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

import failstop
from failstop.diagnosis import Diagnoser, Diagnosis, Phase, Verdict, diagnose, explain, to_error
from failstop.errors import (
    CommitOutcomeUnknownError,
    ConfigurationError,
    ConnectionFailedError,
    CriticalDatabaseError,
    DatabaseUnavailableError,
    ErrorCode,
    OperationsSuspendedError,
    Outcome,
    TransactionFailedError,
)

TABLE = Path(failstop.__file__).parent / "sqlstates.csv"
CONNECTING = (Phase.CHECKOUT, Phase.CONNECT, Phase.PING)
POSTGRES_CODES = sorted(
    cls.sqlstate
    for cls in vars(psycopg.errors).values()
    if isinstance(cls, type) and issubclass(cls, psycopg.Error) and cls.sqlstate
)


def lines() -> list[dict[str, str]]:
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def server_error(
    sqlstate: str,
    severity: str = "ERROR",
    *,
    file: str = "postgres.c",
    function: str = "exec_simple_query",
    message: str = "said by the server",
) -> psycopg.Error:
    """Return the real psycopg exception for what a server said."""
    told = {
        DiagnosticField.SQLSTATE: sqlstate,
        DiagnosticField.SEVERITY_NONLOCALIZED: severity,
        DiagnosticField.SOURCE_FILE: file,
        DiagnosticField.SOURCE_FUNCTION: function,
        DiagnosticField.MESSAGE_PRIMARY: message,
    }
    try:
        cls: type[psycopg.Error] = psycopg.errors.lookup(sqlstate)
    except KeyError:
        cls = psycopg.DatabaseError
    return cls(message, info={field: text.encode() for field, text in told.items()})


def wrapped(orig: BaseException, *, invalidated: bool = False) -> DBAPIError:
    """Wrap an exception as SQLAlchemy does."""
    error = DBAPIError("select 1", (), orig, connection_invalidated=invalidated)
    error.__cause__ = orig
    return error


def lost() -> DBAPIError:
    return wrapped(psycopg.OperationalError("server closed the connection"), invalidated=True)


def unique_violation() -> DBAPIError:
    return wrapped(server_error("23505"))


def verdict_of(error: BaseException, phase: Phase = Phase.STATEMENT) -> Verdict:
    return diagnose(error, phase=phase).verdict


class TestTable:
    def test_holds_every_sqlstate_that_psycopg_knows(self) -> None:
        assert len(POSTGRES_CODES) > 250
        assert set(POSTGRES_CODES) <= {line["sqlstate"] for line in lines()}

    @pytest.mark.parametrize("sqlstate", POSTGRES_CODES)
    def test_decides_every_sqlstate_explicitly(self, sqlstate: str) -> None:
        (line,) = [line for line in lines() if line["sqlstate"] == sqlstate]
        diagnosis = diagnose(wrapped(server_error(sqlstate)))
        remote = sqlstate in ("08000", "08001", "08003", "08004", "08006")
        assert diagnosis.kind == ("remote_server_unavailable" if remote else line["kind"])
        assert diagnosis.verdict == line["verdict"]
        assert diagnosis.sqlstate == sqlstate

    @pytest.mark.parametrize(
        ("sqlstate", "verdict"),
        [
            *[
                (code, "critical")
                for code in ("25006", "40003", "53100", "57P01", "58030", "XX001")
            ],
            *[(code, "conflict") for code in ("40001", "40P01", "55P03", "57014")],
            *[(code, "application") for code in ("22012", "23505", "42601", "53400", "P0001")],
        ],
    )
    def test_says_what_the_design_says(self, sqlstate: str, verdict: str) -> None:
        assert explain(sqlstate).verdict == verdict

    def test_no_kind_has_two_verdicts(self) -> None:
        assert len({line["kind"] for line in lines()}) == len(
            {(line["kind"], line["verdict"]) for line in lines()}
        )

    def test_a_code_goes_with_what_failed_and_with_nothing_else(self) -> None:
        for line in lines():
            assert bool(line["error_code"]) is (line["verdict"] in ("critical", "conflict"))

    @pytest.mark.parametrize("column", ["cause", "action"])
    def test_every_word_to_the_operator_is_one_sentence(self, column: str) -> None:
        for line in lines():
            assert re.fullmatch(r"[A-Z].*[^.]\.", line[column]), line
            assert not re.search(r"[a-z]\. [A-Z]", line[column]), line

    def test_every_kind_is_told_in_the_documentation(self) -> None:
        text = (Path(__file__).parents[1] / "docs" / "errors.md").read_text()
        mild = text.partition("## The application's own")[2]
        for line in lines():
            name = f"`{line['kind']}`"
            row = f"| {name} | {line['error_code']} | "
            assert (row in text) if line["error_code"] else (name in mild), name
            assert not line["error_code"] or re.search(rf"\| {name} .*{line['sqlstate']}", text)


class TestServerWord:
    def test_an_unknown_code_is_critical(self) -> None:
        diagnosis = diagnose(wrapped(server_error("ZZ999")))
        assert (diagnosis.verdict, diagnosis.kind) == (Verdict.CRITICAL, "unknown_sqlstate")

    def test_an_unknown_code_of_a_known_class_goes_with_its_class(self) -> None:
        assert diagnose(wrapped(server_error("23ZZZ"))).kind == "constraint_violation"
        assert diagnose(wrapped(server_error("57ZZZ"))).verdict is Verdict.CRITICAL

    def test_a_warning_class_excuses_no_unknown_code(self) -> None:
        assert verdict_of(wrapped(server_error("01ZZZ"))) is Verdict.CRITICAL

    def test_fatal_makes_a_mild_code_critical(self) -> None:
        diagnosis = diagnose(wrapped(server_error("42501", "FATAL")))
        assert (diagnosis.verdict, diagnosis.kind) == (Verdict.CRITICAL, "session_terminated")

    @pytest.mark.parametrize(
        ("sqlstate", "verdict"), [("25P03", Verdict.APPLICATION), ("25P04", Verdict.CONFLICT)]
    )
    def test_a_server_that_ends_an_idle_session_has_rolled_back(
        self, sqlstate: str, verdict: Verdict
    ) -> None:
        error = wrapped(server_error(sqlstate, "FATAL"), invalidated=True)
        diagnosis = diagnose(error, phase=Phase.COMMIT)
        assert (diagnosis.verdict, diagnosis.outcome_known) == (verdict, True)

    @pytest.mark.parametrize("sqlstate", ["23505", "40001", "53100"])
    def test_panic_is_always_critical_and_its_commit_in_doubt(self, sqlstate: str) -> None:
        diagnosis = diagnose(wrapped(server_error(sqlstate, "PANIC")))
        assert (diagnosis.verdict, diagnosis.outcome_known) == (Verdict.CRITICAL, False)

    def test_an_unreadable_severity_counts_as_fatal(self) -> None:
        assert verdict_of(wrapped(server_error("42501", "FEHLER"))) is Verdict.CRITICAL

    @pytest.mark.parametrize("sqlstate", ["57P01", "53100", "BIZ01"])
    def test_raise_in_the_database_is_the_applications_affair(self, sqlstate: str) -> None:
        error = wrapped(server_error(sqlstate, function="exec_stmt_raise", file="pl_exec.c"))
        assert diagnose(error).kind == "raised_by_application"
        assert verdict_of(error, Phase.COMMIT) is Verdict.APPLICATION

    def test_raise_of_a_serialization_failure_stays_a_conflict(self) -> None:
        error = wrapped(server_error("40001", function="exec_stmt_raise"))
        assert verdict_of(error) is Verdict.CONFLICT

    @pytest.mark.parametrize(
        ("sqlstate", "file", "kind"),
        [
            ("42501", "aclchk.c", "insufficient_privilege"),
            ("42501", "md.c", "io_error"),
            ("54000", "indextuple.c", "program_limit"),
            ("54000", "varsup.c", "wraparound"),
            ("58P01", "md.c", "data_file_missing"),
            ("58P01", "copyfrom.c", "server_file_missing"),
            ("58030", "copyfrom.c", "io_error"),
        ],
    )
    def test_the_servers_source_file_splits_overloaded_codes(
        self, sqlstate: str, file: str, kind: str
    ) -> None:
        assert diagnose(wrapped(server_error(sqlstate, file=file))).kind == kind

    def test_no_place_in_the_servers_source_excuses_a_session_that_was_ended(self) -> None:
        error = wrapped(server_error("57P01", "FATAL", function="exec_stmt_raise"))
        assert verdict_of(error) is Verdict.CRITICAL

    def test_a_cached_plan_is_a_conflict_and_a_missing_feature_is_not(self) -> None:
        assert diagnose(wrapped(server_error("0A000"))).kind == "feature_not_supported"
        stale = wrapped(server_error("0A000", function="RevalidateCachedQuery"))
        assert diagnose(stale).verdict is Verdict.CONFLICT

    def test_an_internal_error_is_mild_only_by_its_untranslated_texts(self) -> None:
        assert verdict_of(wrapped(server_error("XX000"))) is Verdict.CRITICAL
        racing = wrapped(server_error("XX000", message="tuple concurrently updated"))
        assert verdict_of(racing) is Verdict.CONFLICT

    def test_read_only_is_critical_unless_the_caller_asked_for_it(self) -> None:
        error = wrapped(server_error("25006"))
        assert diagnose(error).kind == "read_only"
        asked = Diagnoser().diagnose(error, read_only=True)
        assert (asked.verdict, asked.kind) == (Verdict.APPLICATION, "read_only_requested")

    def test_a_code_that_asyncpg_made_up_is_not_the_servers(self) -> None:
        import asyncpg.exceptions as raised

        error = raised.ConnectionDoesNotExistError("connection was closed")
        diagnosis = diagnose(error)
        assert (diagnosis.kind, diagnosis.sqlstate) == ("connection_lost", None)

    def test_what_the_server_said_before_asyncpg_lost_it_is_found(self) -> None:
        import asyncpg.exceptions as raised

        error = raised.ConnectionDoesNotExistError("connection was closed")
        error.__cause__ = raised.PostgresError.new({"C": "53100", "V": "PANIC", "M": "no space"})
        diagnosis = diagnose(error)
        assert (diagnosis.kind, diagnosis.sqlstate) == ("disk_full", "53100")


class TestPhase:
    @pytest.mark.parametrize("phase", CONNECTING)
    @pytest.mark.parametrize(
        "error",
        [
            TypeError("unexpected keyword"),
            InvalidRequestError("misuse"),
            ConfigurationError("misuse"),
            unique_violation(),
            wrapped(server_error("42501", "FATAL")),
            wrapped(psycopg.ProgrammingError("invalid connection option")),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_no_connection_to_be_had_is_always_critical(
        self, phase: Phase, error: BaseException
    ) -> None:
        assert verdict_of(error, phase) is Verdict.CRITICAL

    @pytest.mark.parametrize(
        ("error", "kind", "code"),
        [
            (ConnectionRefusedError(111, "refused"), "connection_refused", "DB_UNAVAILABLE"),
            (TimeoutError(), "connect_timeout", "DB_UNAVAILABLE"),
            (PoolTimeoutError("QueuePool limit"), "pool_timeout", "CONNECTION_FAILED"),
            (wrapped(server_error("53300", "FATAL")), "too_many_connections", "DB_UNAVAILABLE"),
            (wrapped(server_error("3D000", "FATAL")), "connect_rejected", "CONNECTION_FAILED"),
            (TypeError("bad option"), "bad_connect_option", "CONNECTION_FAILED"),
            (RuntimeError("?"), "connect_failed", "CONNECTION_FAILED"),
        ],
    )
    def test_a_failure_to_connect_has_a_helpful_kind(
        self, error: BaseException, kind: str, code: str
    ) -> None:
        diagnosis = diagnose(error, phase=Phase.CONNECT)
        assert (diagnosis.kind, diagnosis.error_code) == (kind, code)

    @pytest.mark.parametrize(
        "error",
        [
            lost(),
            asyncio.CancelledError(),
            TimeoutError(),
            KeyboardInterrupt(),
            ValueError("?"),
            wrapped(server_error("57P01", "FATAL"), invalidated=True),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_a_commit_that_may_have_taken_effect_is_critical(self, error: BaseException) -> None:
        diagnosis = diagnose(error, phase=Phase.COMMIT)
        assert diagnosis.verdict is Verdict.CRITICAL
        assert diagnosis.error_code is ErrorCode.TRANSACTION_FAILED
        assert not diagnosis.outcome_known

    def test_a_commit_that_is_in_doubt_keeps_the_underlying_kind(self) -> None:
        assert diagnose(lost(), phase=Phase.COMMIT).kind == "connection_lost"

    def test_nobody_is_told_to_retry_what_is_in_doubt(self) -> None:
        locked = sqlite3.OperationalError("database is locked")
        locked.sqlite_errorname = "SQLITE_BUSY"
        diagnosis = diagnose(wrapped(locked), phase=Phase.COMMIT)
        assert diagnosis.verdict is Verdict.CRITICAL
        assert "retry" not in diagnosis.action.lower()

    def test_a_commit_that_sqlite_could_not_write_is_in_doubt(self) -> None:
        full = sqlite3.OperationalError("database or disk is full")
        full.sqlite_errorname = "SQLITE_FULL"
        assert not diagnose(wrapped(full), phase=Phase.COMMIT).outcome_known

    @pytest.mark.parametrize("sqlstate", ["23503", "23505", "P0001", "40001"])
    def test_a_commit_that_a_living_server_refused_is_known(self, sqlstate: str) -> None:
        diagnosis = diagnose(wrapped(server_error(sqlstate)), phase=Phase.COMMIT)
        assert diagnosis.outcome_known
        assert diagnosis.verdict is not Verdict.CRITICAL

    def test_a_commit_on_a_connection_known_to_be_closed_was_never_sent(self) -> None:
        closed = psycopg.OperationalError("the connection is closed")
        diagnosis = diagnose(wrapped(closed, invalidated=True), phase=Phase.COMMIT)
        assert (diagnosis.verdict, diagnosis.outcome_known) == (Verdict.CRITICAL, True)

    @pytest.mark.parametrize(
        "error", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(), GeneratorExit()]
    )
    def test_being_told_to_stop_is_no_failure_of_the_database(self, error: BaseException) -> None:
        assert verdict_of(error) is Verdict.NONE


class TestSilence:
    def test_a_lost_connection_is_critical_whatever_the_class(self) -> None:
        error = wrapped(psycopg.ProgrammingError("?"), invalidated=True)
        assert diagnose(error).kind == "connection_lost"

    def test_the_guards_word_on_the_connection_counts(self) -> None:
        error = wrapped(psycopg.ProgrammingError("?"))
        assert verdict_of(error) is Verdict.APPLICATION
        told = Diagnoser().diagnose(error, connection_invalidated=True)
        assert told.verdict is Verdict.CRITICAL

    @pytest.mark.parametrize(
        "error", [ConnectionResetError(), EOFError(), TimeoutError(), OSError("?")]
    )
    def test_a_raw_network_error_is_critical(self, error: BaseException) -> None:
        assert verdict_of(error) is Verdict.CRITICAL

    @pytest.mark.parametrize("error", [ValueError(), TypeError(), OverflowError(), KeyError("b")])
    def test_a_parameter_that_the_driver_refuses_is_the_applications(
        self, error: BaseException
    ) -> None:
        assert verdict_of(error) is Verdict.APPLICATION

    @pytest.mark.parametrize("error", [RuntimeError(), AssertionError(), MemoryError()])
    def test_what_nobody_knows_is_critical(self, error: BaseException) -> None:
        diagnosis = diagnose(error)
        assert (diagnosis.verdict, diagnosis.kind) == (Verdict.CRITICAL, "unknown")

    def test_what_is_no_exception_at_all_is_critical(self) -> None:
        no_exception: Any = "not an exception"
        assert verdict_of(no_exception) is Verdict.CRITICAL

    def test_a_driver_error_without_a_code_is_critical(self) -> None:
        assert verdict_of(wrapped(psycopg.OperationalError("?"))) is Verdict.CRITICAL

    def test_a_mild_class_around_a_doubtful_one_is_critical(self) -> None:
        error = ProgrammingError("select 1", (), psycopg.OperationalError("?"))
        assert verdict_of(error) is Verdict.CRITICAL

    def test_asyncpgs_interface_error_is_mild_only_on_a_living_connection(self) -> None:
        import asyncpg

        error = asyncpg.InterfaceError("connection is closed")
        assert verdict_of(error) is Verdict.CRITICAL
        alive = Diagnoser().diagnose(error, connection_invalidated=False)
        assert alive.verdict is Verdict.APPLICATION

    def test_misuse_of_sqlalchemy_is_the_applications(self) -> None:
        assert verdict_of(InvalidRequestError("closed")) is Verdict.APPLICATION
        value_error = StatementError("?", "select :b", {}, ValueError("?"))
        assert verdict_of(value_error) is Verdict.APPLICATION

    def test_the_pools_timeout_is_critical_in_every_phase(self) -> None:
        assert {verdict_of(PoolTimeoutError("?"), phase) for phase in Phase} == {Verdict.CRITICAL}


class TestChain:
    def test_an_explicit_cause_speaks_for_a_plain_exception(self) -> None:
        error = RuntimeError("the service failed")
        error.__cause__ = unique_violation()
        assert verdict_of(error) is Verdict.APPLICATION
        error.__cause__ = lost()
        assert verdict_of(error) is Verdict.CRITICAL

    def test_what_was_being_handled_makes_it_graver(self) -> None:
        error = ValueError("?")
        error.__context__ = lost()
        assert verdict_of(error) is Verdict.CRITICAL

    def test_hiding_the_context_does_not_hide_it_from_the_diagnosis(self) -> None:
        error = ValueError("?")
        error.__context__ = lost()
        error.__suppress_context__ = True
        assert verdict_of(error) is Verdict.CRITICAL

    def test_what_was_being_handled_makes_nothing_milder(self) -> None:
        error = RuntimeError("?")
        error.__context__ = unique_violation()
        assert verdict_of(error) is Verdict.CRITICAL

    def test_a_lost_connection_that_replaced_a_mild_error_is_critical(self) -> None:
        error = lost()
        error.__context__ = unique_violation()
        assert verdict_of(error) is Verdict.CRITICAL

    def test_an_outage_that_was_handled_does_not_blacken_a_later_answer(self) -> None:
        error = unique_violation()
        error.__context__ = ConnectionRefusedError("another service")
        assert verdict_of(error) is Verdict.APPLICATION

    def test_a_mild_cause_excuses_no_network_error_and_no_cancelled_commit(self) -> None:
        reset, cancelled = ConnectionResetError(), asyncio.CancelledError()
        reset.__cause__ = cancelled.__cause__ = unique_violation()
        assert verdict_of(reset) is Verdict.CRITICAL
        assert verdict_of(cancelled, Phase.COMMIT) is Verdict.CRITICAL

    def test_the_gravest_member_of_a_group_decides(self) -> None:
        mild = ExceptionGroup("mild", [unique_violation(), ValueError("?")])
        assert verdict_of(mild) is Verdict.APPLICATION
        grave = BaseExceptionGroup("grave", [asyncio.CancelledError(), mild, lost()])
        assert verdict_of(grave) is Verdict.CRITICAL

    def test_a_group_too_large_to_judge_is_critical(self) -> None:
        assert verdict_of(ExceptionGroup("?", [unique_violation()] * 1500)) is Verdict.CRITICAL

    def test_a_group_among_the_causes_is_searched(self) -> None:
        error = ValueError("?")
        error.__cause__ = ExceptionGroup("group", [KeyError("?"), lost()])
        assert verdict_of(error) is Verdict.CRITICAL

    def test_a_cycle_of_causes_ends(self) -> None:
        first, second = RuntimeError("1"), RuntimeError("2")
        first.__cause__, second.__cause__ = second, first
        assert verdict_of(first) is Verdict.CRITICAL

    def test_a_chain_too_long_to_follow_is_critical(self) -> None:
        error: BaseException = ValueError("the last")
        for _ in range(5000):
            outer = ValueError("?")
            outer.__cause__ = error
            error = outer
        assert verdict_of(error) is Verdict.CRITICAL

    def test_a_critical_error_of_this_package_stays_critical(self) -> None:
        error = DatabaseUnavailableError("?", kind="disk_full")
        assert diagnose(error).kind == "disk_full"
        suspended = OperationsSuspendedError("?")
        assert diagnose(suspended).kind == "operations_suspended"
        assert verdict_of(DatabaseUnavailableError("?", kind="deadlock")) is Verdict.CRITICAL


class TestPolicy:
    def test_an_override_names_a_sqlstate_a_class_or_a_kind(self) -> None:
        for key in ("57014", "57", "query_cancelled"):
            diagnoser = Diagnoser(overrides={key: Verdict.CRITICAL})
            diagnosis = diagnoser.diagnose(wrapped(server_error("57014")))
            assert diagnosis.verdict is Verdict.CRITICAL
            assert diagnosis.error_code is ErrorCode.TRANSACTION_FAILED

    def test_the_finer_override_wins(self) -> None:
        overrides = {"55": Verdict.CRITICAL, "55P03": Verdict.APPLICATION}
        locked = wrapped(server_error("55P03"))
        assert Diagnoser(overrides=overrides).diagnose(locked).verdict is Verdict.APPLICATION
        overrides["lock_not_available"] = Verdict.CONFLICT
        assert Diagnoser(overrides=overrides).diagnose(locked).verdict is Verdict.CONFLICT

    def test_an_application_registers_its_own_sqlstates(self) -> None:
        diagnoser = Diagnoser(overrides={"BIZ01": Verdict.APPLICATION})
        diagnosis = diagnoser.diagnose(wrapped(server_error("BIZ01")))
        assert (diagnosis.verdict, diagnosis.kind) == (Verdict.APPLICATION, "registered")
        assert diagnoser.diagnose(wrapped(server_error("BIZ02"))).verdict is Verdict.CRITICAL

    def test_a_registered_code_that_is_raised_in_the_database_can_be_critical(self) -> None:
        diagnoser = Diagnoser(overrides={"BIZ01": Verdict.CRITICAL})
        raised = wrapped(server_error("BIZ01", function="exec_stmt_raise"))
        assert diagnoser.diagnose(raised).verdict is Verdict.CRITICAL

    def test_an_override_of_a_code_softens_neither_connecting_nor_another_meaning(self) -> None:
        diagnoser = Diagnoser(overrides={"42501": Verdict.APPLICATION})
        fatal = wrapped(server_error("42501", "FATAL"))
        assert diagnoser.diagnose(fatal, phase=Phase.CONNECT).verdict is Verdict.CRITICAL
        dying_disk = wrapped(server_error("42501", file="md.c"))
        assert diagnoser.diagnose(dying_disk).verdict is Verdict.CRITICAL

    def test_an_override_of_a_kind_may_soften_even_the_pools_timeout(self) -> None:
        diagnoser = Diagnoser(overrides={"pool_timeout": Verdict.APPLICATION})
        diagnosis = diagnoser.diagnose(PoolTimeoutError("?"), phase=Phase.CHECKOUT)
        assert (diagnosis.verdict, diagnosis.error_code) == (Verdict.APPLICATION, None)

    def test_no_override_softens_a_commit_in_doubt(self) -> None:
        diagnoser = Diagnoser(overrides={"connection_lost": Verdict.APPLICATION})
        assert diagnoser.diagnose(lost(), phase=Phase.COMMIT).verdict is Verdict.CRITICAL

    @pytest.mark.parametrize(
        ("key", "mend"),
        [("57p01", "five capitals"), ("disk_ful", "did you mean 'disk_full'"), ("", "SQLSTATE")],
    )
    def test_an_unknown_spelling_is_refused_with_the_mend(self, key: str, mend: str) -> None:
        with pytest.raises(ConfigurationError, match=mend):
            Diagnoser(overrides={key: Verdict.CRITICAL})

    def test_a_value_that_is_no_verdict_is_refused(self) -> None:
        overrides: Any = {"57014": "critical"}
        with pytest.raises(ConfigurationError, match="give a Verdict, not str"):
            Diagnoser(overrides=overrides)

    def test_later_changes_of_the_mapping_change_nothing(self) -> None:
        overrides = {"57014": Verdict.CRITICAL}
        diagnoser = Diagnoser(overrides=overrides)
        overrides.clear()
        cancelled = wrapped(server_error("57014"))
        assert diagnoser.diagnose(cancelled).verdict is Verdict.CRITICAL

    def test_strict_makes_every_failure_critical_and_a_cancellation_none(self) -> None:
        strict = Diagnoser.strict()
        for error in (unique_violation(), wrapped(server_error("40001")), ValueError("?")):
            diagnosis = strict.diagnose(error)
            assert diagnosis.verdict is Verdict.CRITICAL
            assert diagnosis.error_code is not None
        assert strict.diagnose(asyncio.CancelledError()).verdict is Verdict.NONE


class TestToError:
    @pytest.mark.parametrize(
        ("kind", "cls"),
        [
            ("disk_full", DatabaseUnavailableError),
            ("connection_lost", ConnectionFailedError),
            ("silent_rollback", TransactionFailedError),
            ("operations_suspended", CriticalDatabaseError),
            ("constraint_violation", TransactionFailedError),
        ],
    )
    def test_makes_the_class_of_the_code(self, kind: str, cls: type[CriticalDatabaseError]) -> None:
        diagnosis = explain(kind)
        error = to_error(diagnosis, outcome=Outcome.ROLLED_BACK, name="orders")
        assert type(error) is cls
        assert error.error_code is (diagnosis.error_code or ErrorCode.TRANSACTION_FAILED)
        assert (error.kind, error.action) == (kind, diagnosis.action)
        assert error.outcome is Outcome.ROLLED_BACK

    def test_an_unknown_outcome_carries_the_key(self) -> None:
        diagnosis = diagnose(lost(), phase=Phase.COMMIT)
        error = to_error(diagnosis, outcome=Outcome.UNKNOWN, name="orders", key="order-1")
        assert isinstance(error, CommitOutcomeUnknownError)
        assert (error.key, error.kind) == ("order-1", "connection_lost")
        assert not error.safe_to_retry

    def test_the_text_is_a_sentence_of_an_error(self) -> None:
        error = to_error(explain("disk_full"), outcome=Outcome.NOT_STARTED, name="orders")
        assert str(error) == (
            "CRITICAL DATABASE ERROR: database 'orders': a disk of the database server is full; "
            "free space on the data, WAL or temporary volume; do not delete files under pg_wal"
        )

    @pytest.mark.parametrize("remake", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
    def test_can_be_copied_and_pickled(self, remake: Any) -> None:
        error = to_error(explain("disk_full"), outcome=Outcome.UNKNOWN, name="orders", key="k")
        again = remake(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


class TestExplain:
    def test_gives_the_row_of_a_sqlstate(self) -> None:
        diagnosis = explain("57P01")
        assert (diagnosis.kind, diagnosis.sqlstate) == ("admin_shutdown", "57P01")
        assert explain("57p01") == diagnosis

    def test_gives_the_row_of_a_class_and_of_a_kind(self) -> None:
        assert explain("53").kind == "insufficient_resources"
        assert explain("pool_timeout").verdict is Verdict.CRITICAL

    @pytest.mark.parametrize("text", ["ZZ999", "nonsense", "", "57-01", "57P0199", "postgresql://"])
    def test_says_that_it_does_not_know(self, text: str) -> None:
        diagnosis = explain(text)
        assert (diagnosis.verdict, diagnosis.kind) == (Verdict.CRITICAL, "unknown_sqlstate")
        assert "not in the table" in diagnosis.cause


class TestSecrets:
    SECRET = "hunter2-s3cret"

    def leaky(self) -> list[BaseException]:
        url = f"postgresql://u:{self.SECRET}@db/x"
        said = server_error("42501", "FATAL", message=self.SECRET, file=self.SECRET)
        orig = psycopg.OperationalError(f'connection to "{url}" failed: password {self.SECRET}')
        params = {"pin": self.SECRET}
        return [
            DBAPIError(f"select '{self.SECRET}'", params, said),
            OperationalError(f"select '{self.SECRET}'", params, orig),
            ConnectionRefusedError(111, url),
            RuntimeError(url),
            DatabaseUnavailableError(url, kind=self.SECRET),
        ]

    @pytest.mark.parametrize("phase", Phase)
    def test_no_text_of_the_exception_is_in_the_diagnosis_or_the_error(self, phase: Phase) -> None:
        for leaky in self.leaky():
            diagnosis = diagnose(leaky, phase=phase)
            error = to_error(diagnosis, outcome=Outcome.UNKNOWN, name="orders")
            told = f"{diagnosis!r} {error} {error!r} {vars(error)}"
            assert self.SECRET not in told
            assert "postgresql://" not in told


class TestSqlite:
    """Provoked for real."""

    @pytest.fixture
    def engine(self, tmp_path: Path) -> Any:
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}", connect_args={"timeout": 0})
        with engine.begin() as connection:
            connection.execute(sa.text("create table t (id integer primary key)"))
            connection.execute(sa.text("insert into t values (1)"))
        yield engine
        engine.dispose()

    def provoke(self, engine: sa.Engine, sql: str) -> Diagnosis:
        with engine.connect() as connection, pytest.raises(DBAPIError) as raised:
            connection.execute(sa.text(sql))
        return diagnose(raised.value)

    @pytest.mark.parametrize(
        ("sql", "kind"),
        [
            ("insert into t values (1)", "constraint_violation"),
            ("selec 1", "statement_error"),
            ("select * from missing", "statement_error"),
        ],
    )
    def test_a_refused_statement_is_the_applications(
        self, engine: sa.Engine, sql: str, kind: str
    ) -> None:
        diagnosis = self.provoke(engine, sql)
        assert (diagnosis.verdict, diagnosis.kind) == (Verdict.APPLICATION, kind)

    def test_a_lock_is_a_conflict(self, engine: sa.Engine) -> None:
        with engine.connect() as other:
            other.exec_driver_sql("begin immediate")
            assert self.provoke(engine, "insert into t values (2)").verdict is Verdict.CONFLICT

    def test_a_read_only_database_is_critical(self, engine: sa.Engine) -> None:
        url = f"sqlite:///file:{engine.url.database}?mode=ro&uri=true"
        reader = sa.create_engine(url)
        diagnosis = self.provoke(reader, "insert into t values (2)")
        reader.dispose()
        assert (diagnosis.verdict, diagnosis.kind) == (Verdict.CRITICAL, "read_only")

    def test_a_file_that_is_no_database_is_critical(self, tmp_path: Path) -> None:
        (tmp_path / "noise.db").write_bytes(b"no database at all" * 100)
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'noise.db'}")
        diagnosis = self.provoke(engine, "select * from t")
        engine.dispose()
        assert (diagnosis.verdict, diagnosis.kind) == (Verdict.CRITICAL, "data_corruption")

    def test_a_missing_file_is_critical(self, tmp_path: Path) -> None:
        engine = sa.create_engine(f"sqlite:///file:{tmp_path / 'gone.db'}?mode=rw&uri=true")
        with pytest.raises(DBAPIError) as raised:
            engine.connect()
        assert diagnose(raised.value, phase=Phase.CONNECT).kind == "io_error"


def test_importing_the_diagnosis_loads_no_optional_driver() -> None:
    code = "import failstop.diagnosis, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "failstop.diagnosis" in loaded
    assert not {"psycopg2", "asyncpg", "psycopg_pool", "aiosqlite"} & set(loaded)
