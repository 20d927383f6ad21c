"""The metrics of one process: what happened is in the next scrape, and nothing secret ever is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import text
from tests.waiting import wait_until

from failstop import (
    ConfigurationError,
    CriticalError,
    Database,
    DatabaseUnavailableError,
    FailSafe,
    OperationsSuspendedError,
    Outcome,
    Recovery,
    State,
    with_fail_fast_protection,
)
from failstop.events import InDoubt
from failstop.prometheus import instrument
from failstop.testing import CapturingSink, PostgresDatabase, PostgresServer

SERVICE = "trading-api"
SECRET = "hunter2"


class Scraped:
    """One registry, as Prometheus sees it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def __call__(self, name: str, *, service: str = SERVICE, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"failstop_{name}", {"service": service, **labels})

    @property
    def text(self) -> str:
        return generate_latest(self.registry).decode()


@pytest.fixture
def scraped() -> Scraped:
    return Scraped()


@pytest.fixture
def failsafe(scraped: Scraped) -> Iterator[FailSafe]:
    """A FailSafe that is measured, with no dependency."""
    made = FailSafe(SERVICE, recovery=Recovery(probe_interval=0.05, consecutive=1))
    with instrument(made, scraped.registry):
        yield made
        made.close()


def failure(kind: str = "disk_full") -> CriticalError:
    return DatabaseUnavailableError(f"broken {SECRET}", kind=kind)


# What it is


def test_a_service_that_has_not_started_says_so(failsafe: FailSafe, scraped: Scraped) -> None:
    assert scraped("state", state="STARTING") == 1
    assert scraped("state", state="NORMAL") == 0
    assert scraped("observation_timestamp_seconds") == 0


def test_exactly_one_state_is_one(failsafe: FailSafe, scraped: Scraped) -> None:
    failsafe.start()
    failsafe.halt(actor="ops", reason="test")
    found = {state: scraped("state", state=state) for state in State}
    assert found == {state: float(state is State.FAIL_SAFE) for state in State}
    assert scraped("epoch") == 1
    assert scraped("needs_person") == 1


def test_a_closed_service_is_told_as_closed(failsafe: FailSafe, scraped: Scraped) -> None:
    failsafe.start()
    failsafe.close()
    assert scraped("state", state="CLOSED") == 1


def test_the_time_in_fail_safe_mode_grows_while_it_lasts_only(
    failsafe: FailSafe, scraped: Scraped
) -> None:
    failsafe.start()
    assert scraped("fail_safe_seconds_total") == 0
    failsafe.halt(actor="ops", reason="test")
    before = scraped("fail_safe_seconds_total") or 0.0
    wait_until(lambda: (scraped("fail_safe_seconds_total") or 0.0) > before)
    failsafe.reset(actor="ops", reason="test")
    after = scraped("fail_safe_seconds_total")
    assert after
    assert scraped("fail_safe_seconds_total") == after


# What happened


def test_a_trip_is_counted_by_its_cause_and_further_failures_by_theirs(
    failsafe: FailSafe, scraped: Scraped
) -> None:
    failsafe.start()
    failsafe.trip(failure())
    failsafe.trip(CriticalError("the check hung", kind="check_hung"))
    disk = {"code": "DB_UNAVAILABLE", "kind": "disk_full"}
    hung = {"code": "SYSTEM_FAILURE", "kind": "check_hung"}
    assert [scraped("trips_total", **each) for each in (disk, hung)] == [1, None]
    assert [scraped("critical_errors_total", **each) for each in (disk, hung)] == [1, 1]


def test_a_halt_is_a_trip_and_no_error(failsafe: FailSafe, scraped: Scraped) -> None:
    failsafe.start()
    failsafe.halt(actor="ops", reason="test")
    assert scraped("trips_total", code="SYSTEM_FAILURE", kind="halt") == 1
    assert "failstop_critical_errors_total{" not in scraped.text


def test_how_fail_safe_mode_was_left_is_counted(failsafe: FailSafe, scraped: Scraped) -> None:
    failsafe.start()
    failsafe.trip(failure())
    wait_until(lambda: failsafe.is_normal)
    failsafe.halt(actor="ops", reason="test")
    failsafe.reset(actor="ops", reason="test")
    assert [scraped("resets_total", by=by) for by in ("recovery", "person")] == [1, 1]


def test_refusals_and_failure_responses_are_counted(failsafe: FailSafe, scraped: Scraped) -> None:
    protected = with_fail_fast_protection(failsafe=failsafe)(lambda: None)
    protected()
    with pytest.raises(OperationsSuspendedError):
        failsafe.require()
    assert scraped("refusals_total") == 2
    assert scraped("responses_total", outcome="NOT_STARTED") == 1
    assert scraped("responses_total", outcome="UNKNOWN") == 0


def test_what_is_scraped_again_is_not_counted_again(failsafe: FailSafe, scraped: Scraped) -> None:
    with pytest.raises(OperationsSuspendedError):
        failsafe.require()
    assert [scraped("refusals_total") for _ in range(3)] == [1, 1, 1]


# In doubt and the alerts


def test_what_is_in_doubt_is_told_with_its_age_and_its_answer(
    failsafe: FailSafe, scraped: Scraped
) -> None:
    outcome = Outcome.UNKNOWN

    class Ledger:
        name = "ledger"

        def probe(self) -> str:
            return "well"

        def suspend(self, incident: object) -> None: ...

        def close(self) -> None: ...

        def resolve(self, doubt: InDoubt) -> Outcome:
            return outcome

    failsafe.watch(Ledger())
    failsafe.start()
    failsafe.report_in_doubt(InDoubt("ledger", SECRET, failsafe.status().checks[0].observed_at))
    assert scraped("in_doubt", database="ledger") == 1
    wait_until(lambda: (scraped("in_doubt_oldest_seconds", database="ledger") or 0) > 0.05)
    outcome = Outcome.COMMITTED
    wait_until(lambda: scraped("resolved_total", database="ledger", outcome="COMMITTED") == 1)
    assert scraped("in_doubt", database="ledger") == 0
    assert scraped("in_doubt_oldest_seconds", database="ledger") == 0
    assert scraped("doubts_total", database="ledger") == 1
    assert scraped("resolution_seconds_count", database="ledger") == 1
    assert SECRET not in scraped.text


def test_alerts_are_told_as_waiting_with_their_age_and_as_delivered(
    scraped: Scraped,
) -> None:
    sink = CapturingSink("pager")
    sink.failure = RuntimeError("no")
    failsafe = FailSafe(SERVICE, sinks=[sink], recovery=Recovery(probe_interval=0.05))
    with instrument(failsafe, scraped.registry), failsafe:
        assert scraped("alerts_pending", sink="pager") == 0
        assert scraped("alerts_total", sink="pager", result="delivered") == 0
        failsafe.halt(actor="ops", reason="test")
        wait_until(lambda: (scraped("alerts_total", sink="pager", result="failed") or 0) >= 1)
        assert scraped("alerts_pending", sink="pager") == 1
        assert (scraped("alerts_oldest_seconds", sink="pager") or 0) > 0
        sink.failure = None


# The database


@pytest.fixture
def database(failsafe: FailSafe, postgres: PostgresDatabase) -> Iterator[Database]:
    made = Database.connect(postgres.url(), failsafe, deadline=2.0)
    failsafe.start()
    yield made
    made.engine.dispose()


def test_operations_are_told_by_their_result_and_the_pool_by_its_use(
    database: Database, scraped: Scraped
) -> None:
    database.query("SELECT 1")
    with database.transaction() as connection:
        connection.execute(text("SELECT 1"))
        assert scraped("pool_connections", database="database", state="in_use") == 1
    results = {
        result: scraped("operations_total", database="database", result=result)
        for result in ("committed", "read", "failed", "unknown")
    }
    assert results == {"committed": 1, "read": 1, "failed": 0, "unknown": 0}
    assert scraped("pool_connections", database="database", state="in_use") == 0
    assert scraped("pool_limit", database="database") == 15
    assert scraped("pool_waiting", database="database") == 0
    assert scraped("deadline_hits_total", database="database", by="watchdog") == 0


def test_a_database_that_breaks_is_told_as_down_and_its_check_as_failed(
    failsafe: FailSafe, scraped: Scraped, breakable_postgres: PostgresServer
) -> None:
    database = Database.connect(breakable_postgres.url(), failsafe, deadline=2.0)
    failsafe.start()
    assert scraped("database_up", database="database") == 1
    assert scraped("check_failed", check="database") == 0
    assert (scraped("check_seconds_count", check="database") or 0) >= 1
    breakable_postgres.kill()
    wait_until(lambda: scraped("database_up", database="database") == 0)
    assert scraped("check_failed", check="database") == 1
    database.engine.dispose()


# Labels


def test_no_label_holds_what_a_person_or_a_failure_said(
    failsafe: FailSafe, scraped: Scraped
) -> None:
    failsafe.start()
    failsafe.trip(failure(kind=SECRET))
    failsafe.halt(actor=SECRET, reason=SECRET)
    failsafe.reset(actor=SECRET, reason=SECRET)
    assert scraped("critical_errors_total", code="DB_UNAVAILABLE", kind="other") == 1
    assert SECRET not in scraped.text


def test_a_name_that_holds_a_url_is_told_without_it(scraped: Scraped) -> None:
    service = f"api of postgresql://me:{SECRET}@db/x"
    failsafe = FailSafe(service, sinks=[CapturingSink(f"https://me:{SECRET}@pager")])
    with instrument(failsafe, scraped.registry):
        assert "failstop_alerts_pending{" in scraped.text
        assert SECRET not in scraped.text


# Who is told


def test_two_services_share_a_registry(failsafe: FailSafe, scraped: Scraped) -> None:
    other = FailSafe("reports")
    with instrument(other, scraped.registry):
        failsafe.start()
        assert scraped("state", state="NORMAL") == 1
        assert scraped("state", state="NORMAL", service="reports") == 0
    assert scraped("processes", service="reports") is None
    assert scraped("processes") == 1


def test_a_service_is_told_once(failsafe: FailSafe, scraped: Scraped) -> None:
    with pytest.raises(ConfigurationError, match="in this registry already"):
        instrument(failsafe, scraped.registry)
    with pytest.raises(ConfigurationError, match="takes a FailSafe"):
        instrument(None)  # type: ignore[arg-type]


def test_what_was_closed_is_told_no_more_and_may_be_told_again(scraped: Scraped) -> None:
    failsafe = FailSafe(SERVICE)
    first = instrument(failsafe, scraped.registry)
    first.close()
    first.close()
    assert "failstop" not in scraped.text
    failsafe.trip(failure())
    with instrument(failsafe, scraped.registry):
        assert scraped("state", state="FAIL_SAFE") == 1
        assert "failstop_trips_total{" not in scraped.text  # it came before


def test_each_registry_is_told(failsafe: FailSafe, scraped: Scraped) -> None:
    again = Scraped()
    with instrument(failsafe, again.registry):
        assert again("processes") == scraped("processes") == 1


def test_a_trip_of_another_process_of_the_host_is_its_own_to_count(
    tmp_path: Path, scraped: Scraped
) -> None:
    store = tmp_path / "failstop.db"
    here = FailSafe(SERVICE, store=store, recovery=Recovery(probe_interval=0.05))
    there = FailSafe(SERVICE, store=store, recovery=Recovery(probe_interval=0.05))
    elsewhere = Scraped()
    with (
        instrument(here, scraped.registry),
        instrument(there, elsewhere.registry),
        here,
        there,
    ):
        here.halt(actor="ops", reason="test")
        wait_until(lambda: not there.is_normal)
        here.reset(actor="ops", reason="test")
        wait_until(lambda: there.is_normal)
        found = [
            [
                each("trips_total", code="SYSTEM_FAILURE", kind="halt"),
                each("resets_total", by="person"),
            ]
            for each in (scraped, elsewhere)
        ]
    assert found == [[1, 1], [None, 0]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_tells_of_itself(failsafe: FailSafe, scraped: Scraped) -> None:
    failsafe.start()

    def told() -> bool:
        failsafe.halt(actor="ops", reason="test")
        return scraped("state", state="FAIL_SAFE") == 1

    assert in_child(told)
    assert scraped("state", state="NORMAL") == 1


def in_child(work: Any) -> bool:
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitpid(pid, 0)[1] == 0


def test_an_instrument_that_nobody_keeps_goes_on(scraped: Scraped) -> None:
    failsafe = FailSafe(SERVICE)
    instrument(failsafe, scraped.registry)
    assert scraped("processes") == 1
