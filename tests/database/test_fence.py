"""Claim C7 between hosts: when `halt()` has returned, no guarded transaction commits anywhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session
from tests.database.conftest import Client, Clients
from tests.waiting import wait_until

from failstop import FailSafe
from failstop.database import Database
from failstop.database.schema import schema_sql
from failstop.errors import (
    ConfigurationError,
    OperationsSuspendedError,
    Outcome,
    ResetRefusedError,
)
from failstop.events import Checked, Event, FenceHalted
from failstop.recovery import Recovery
from failstop.testing import FaultProxy, PostgresDatabase, PostgresServer

QUIET = Recovery(probe_interval=3600)
"""Rounds when they are asked for only: what a host learns, it learns from the fence."""
CONNECT_DEADLINE = 3.0
"""The default."""
LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
FENCE = "SELECT scope, epoch, is_halted, incident_id, actor, reason FROM failstop.fence"


def insert(connection: Connection, number: int = 1) -> None:
    connection.execute(text("INSERT INTO trades VALUES (:number, 100)"), {"number": number})


def trades(postgres: PostgresDatabase) -> list[int]:
    return [number for (number,) in postgres.execute("SELECT id FROM trades ORDER BY id")]


def url_of(server: PostgresServer, driver: str) -> str:
    return server.url(driver={"psycopg_async": "psycopg"}.get(driver, driver))


def halt(client: Client, reason: str = "odd fills", **settings: Any) -> Any:
    return client.failsafe.halt(actor="ann", reason=reason, **settings)


def reset(client: Client, **settings: Any) -> None:
    client.failsafe.reset(actor="bob", reason="understood", **settings)


@pytest.fixture
def host(client: Client) -> Client:
    """The host that halts, with the table `trades`."""
    return client


@pytest.fixture
def other(host: Client, driver: str, postgres: PostgresDatabase, clients: Clients) -> Client:
    """Another host, which asks nothing of the database but in its transactions."""
    return clients(driver, postgres, recovery=QUIET)


@contextmanager
def open_elsewhere(postgres: PostgresDatabase, level: str = LEVELS[0]) -> Iterator[Any]:
    """Hold a transaction open as a host does that hears of nothing; gives its connection."""
    url = postgres.url(driver=None)
    with psycopg.connect(url, application_name="deaf") as connection:
        connection.execute(f"BEGIN ISOLATION LEVEL {level}".encode())
        connection.execute("LOCK TABLE failstop.fence IN ROW SHARE MODE")
        connection.execute("INSERT INTO trades VALUES (1, 100)")
        yield connection


# What a halt does to the other hosts


@pytest.mark.parametrize("level", LEVELS)
def test_a_halt_refuses_the_next_transaction_of_another_host(
    host: Client, other: Client, postgres: PostgresDatabase, level: str
) -> None:
    report = halt(host)
    assert report.is_exact
    with pytest.raises(OperationsSuspendedError) as caught:
        other.transaction(insert, isolation_level=level)
    assert caught.value.outcome is Outcome.NOT_STARTED
    assert caught.value.incident_id == report.incident_id
    assert trades(postgres) == []
    incident = other.failsafe.incident
    assert incident is not None
    assert (incident.kind, incident.incident_id) == ("halted_elsewhere", report.incident_id)
    assert incident.needs_person
    assert "ann" in incident.cause
    assert "odd fills" in incident.cause


def test_a_plain_session_cannot_outrun_it(
    host: Client, other: Client, postgres: PostgresDatabase
) -> None:
    halt(host)
    if other.is_async:
        with pytest.raises(OperationsSuspendedError):
            other.begin(insert)
    else:
        with pytest.raises(OperationsSuspendedError), Session(other.engine) as session:
            session.execute(text("INSERT INTO trades VALUES (1, 100)"))
            session.commit()
    assert trades(postgres) == []


def test_without_receipts_the_fence_is_there_too(
    host: Client, driver: str, clients: Clients, postgres: PostgresDatabase
) -> None:
    other = clients(driver, postgres, receipts=False, recovery=QUIET)
    other.transaction(lambda connection: insert(connection, 7))
    halt(host)
    with pytest.raises(OperationsSuspendedError):
        other.transaction(insert)
    assert trades(postgres) == [7]


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_without_a_fence_a_halt_says_that_it_is_not_exact(
    driver: str, clients: Clients, postgres: PostgresDatabase
) -> None:
    client = clients(driver, postgres, fence=False)
    assert any("C7" in warning for warning in client.database.warnings)
    report = halt(client)
    assert not report.is_exact
    assert "only this host" in report.unproven[0]
    assert not client.failsafe.is_normal


def test_a_read_passes_without_the_fence(host: Client, postgres: PostgresDatabase) -> None:
    with psycopg.connect(postgres.url(driver=None)) as hand:
        hand.execute("LOCK TABLE failstop.fence IN EXCLUSIVE MODE")
        assert host.query("SELECT 1") == [(1,)]


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_a_key_is_not_used_up_by_a_refusal(
    host: Client, other: Client, postgres: PostgresDatabase
) -> None:
    halt(host)
    with pytest.raises(OperationsSuspendedError):
        other.transaction(insert, key="order-1")
    reset(host)
    host.transaction(insert, key="order-1")
    assert trades(postgres) == [1]


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_a_halted_host_has_one_page_with_the_other_s_incident(host: Client, other: Client) -> None:
    report = halt(host)
    for _ in range(3):
        with pytest.raises(OperationsSuspendedError):
            other.transaction(insert)
    assert other.failsafe.epoch == 1
    assert other.failsafe.incident is not None
    assert other.failsafe.incident.occurrences == 1
    assert other.failsafe.incident.incident_id == report.incident_id


# Stragglers


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"], indirect=True)
@pytest.mark.parametrize("level", LEVELS)
def test_what_had_begun_before_is_waited_for(
    host: Client, postgres: PostgresDatabase, level: str
) -> None:
    reports: list[Any] = []
    with open_elsewhere(postgres, level) as straggler:
        thread = threading.Thread(target=lambda: reports.append(halt(host)))
        thread.start()
        wait_until(lambda: postgres.execute(FENCE) != [])
        assert not reports
        straggler.commit()
        thread.join(30)
    assert reports[0].is_exact
    assert trades(postgres) == [1]


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_a_straggler_past_the_time_is_named_and_no_other_gets_in(
    host: Client, other: Client, postgres: PostgresDatabase
) -> None:
    with open_elsewhere(postgres) as straggler:
        began = time.monotonic()
        report = halt(host, timeout=0.3)
        assert time.monotonic() - began < 3
        assert not report.is_exact
        [database] = report.databases
        assert [each.service for each in database.stragglers] == ["deaf"]
        assert str(straggler.info.backend_pid) in report.unproven[0]
        assert any("not exact" in each for each in host.failsafe.status().recommendations)
        with pytest.raises(OperationsSuspendedError):
            other.transaction(lambda connection: insert(connection, 3))
        straggler.commit()
    assert halt(host).is_exact
    assert trades(postgres) == [1]


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_a_straggler_is_ended_by_force_where_that_is_asked(
    host: Client, postgres: PostgresDatabase
) -> None:
    with pytest.raises(psycopg.OperationalError), open_elsewhere(postgres) as straggler:
        report = halt(host, timeout=1.0, terminate=True)
        assert report.is_exact
        assert report.databases[0].terminated == 1
        straggler.commit()
    assert trades(postgres) == []


def test_what_this_process_has_open_is_not_waited_for(
    host: Client, postgres: PostgresDatabase
) -> None:
    """A halt from within a transaction would wait for itself."""

    def body(connection: Connection) -> None:
        insert(connection)
        began = time.monotonic()
        thread = threading.Thread(target=lambda: reports.append(halt(host)))
        thread.start()
        thread.join(30)
        assert time.monotonic() - began < 3

    reports: list[Any] = []
    with pytest.raises(OperationsSuspendedError) as caught:
        host.transaction(body)
    assert caught.value.outcome is Outcome.ROLLED_BACK
    assert reports[0].is_exact
    assert trades(postgres) == []


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_a_dump_is_not_waited_for(host: Client, postgres: PostgresDatabase) -> None:
    """pg_dump holds ACCESS SHARE on every table, for as long as it runs."""
    with psycopg.connect(postgres.url(driver=None)) as dump:
        dump.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        dump.execute("LOCK TABLE failstop.fence, trades IN ACCESS SHARE MODE")
        began = time.monotonic()
        host.transaction(insert)
        assert halt(host).is_exact
        assert time.monotonic() - began < 3


def test_a_fence_that_is_locked_by_hand_refuses_and_trips_nothing(
    host: Client, postgres: PostgresDatabase
) -> None:
    with psycopg.connect(postgres.url(driver=None)) as hand:
        hand.execute("LOCK TABLE failstop.fence IN EXCLUSIVE MODE")
        for key in (None, "order-1"):
            began = time.monotonic()
            with pytest.raises(OperationsSuspendedError) as caught:
                host.transaction(insert, deadline=0.5, key=key)
            assert time.monotonic() - began < 2
            assert (caught.value.kind, caught.value.outcome) == (
                "fence_locked",
                Outcome.NOT_STARTED,
            )
    assert host.trips == []
    host.transaction(insert)
    assert trades(postgres) == [1]


# What could not be promised


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"], indirect=True)
def test_an_unreachable_database_stops_this_host_and_says_so(
    driver: str, own_server: PostgresServer, clients: Clients
) -> None:
    client = clients(driver, url_of(own_server, driver))
    events: list[Event] = []
    client.failsafe.subscribe(events.append)
    own_server.stop("immediate")
    report = halt(client)
    assert not report.is_exact
    assert not client.failsafe.is_normal
    assert "only this host" in report.unproven[0]
    assert [each.is_exact for each in events if isinstance(each, FenceHalted)] == [False]
    assert any("not exact" in each for each in client.failsafe.status().recommendations)
    own_server.start()
    assert halt(client).is_exact


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"], indirect=True)
def test_a_database_that_does_not_answer_holds_up_the_halt_of_no_other(
    driver: str, clients: Clients, postgres: PostgresDatabase, postgres_server: PostgresServer
) -> None:
    with postgres_server.fresh_database() as second, FaultProxy(postgres_server) as proxy:
        url = proxy.url(postgres.url(driver=driver))
        direct = postgres.url(driver=None)
        client = clients(driver, url, start=False, recovery=QUIET, name="silent", listen_url=direct)
        beside = Database.connect(second.url(), client.failsafe, name="well")
        client.failsafe.start()
        proxy.black_hole()
        began = time.monotonic()
        reports: list[Any] = []
        thread = threading.Thread(target=lambda: reports.append(halt(client)))
        thread.start()
        wait_until(lambda: second.execute(FENCE) != [])
        assert time.monotonic() - began < CONNECT_DEADLINE
        assert not reports
        thread.join(30)
        assert [each.is_exact for each in reports[0].databases] == [False, True]
        client.close()
        beside.engine.dispose()


def test_the_report_is_in_the_journal(tmp_path: Path, postgres: PostgresDatabase) -> None:
    from failstop.journal import rows as rows_of

    store = tmp_path / "failstop.db"
    failsafe = FailSafe("tests", store=store, recovery=QUIET)
    database = Database.connect(postgres.url(), failsafe)
    with failsafe:
        failsafe.halt(actor="ann", reason="drill")
    database.engine.dispose()
    rows = [row for row in rows_of(store) if "FenceHalted" in row.body]
    assert len(rows) == 1


# Several halts


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"], indirect=True)
def test_halts_from_several_hosts_at_once_are_all_exact(
    host: Client, other: Client, postgres: PostgresDatabase
) -> None:
    reports: list[Any] = []
    threads = [
        threading.Thread(target=lambda each=each: reports.append(halt(each)))
        for each in (host, other) * 3
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [report.is_exact for report in reports] == [True] * 6
    [(scope, epoch, is_halted, incident_id, *_)] = postgres.execute(FENCE)
    assert (scope, epoch, is_halted) == ("", 6, True)
    assert incident_id in {report.incident_id for report in reports}


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_a_halt_of_a_scope_stops_that_one_only(
    driver: str, clients: Clients, postgres: PostgresDatabase
) -> None:
    postgres.execute("CREATE TABLE trades (id integer PRIMARY KEY, price integer)")
    first, second, third = (
        clients(driver, postgres, scope=scope, recovery=QUIET)
        for scope in ("venue-a", "venue-a", "venue-b")
    )
    assert halt(first, scope="venue-a").is_exact
    with pytest.raises(OperationsSuspendedError):
        second.transaction(insert)
    third.transaction(lambda connection: insert(connection, 3))
    halt(first)  # everything
    with pytest.raises(OperationsSuspendedError):
        third.transaction(insert)
    assert trades(postgres) == [3]


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_a_halt_of_a_scope_is_not_exact_in_a_database_of_another(
    driver: str, clients: Clients, postgres: PostgresDatabase, postgres_server: PostgresServer
) -> None:
    with postgres_server.fresh_database() as second:
        client = clients(driver, postgres, scope="venue-a", recovery=QUIET)
        beside = Database.connect(second.url(), client.failsafe, name="beside")
        report = halt(client, scope="venue-a")
        assert [(each.database, each.is_exact) for each in report.databases] == [
            ("database", True),
            ("beside", False),
        ]
        assert not report.is_exact
        assert "venue-a" in report.unproven[0]
        assert second.execute(FENCE) == []
        client.close()
        beside.engine.dispose()


@pytest.mark.parametrize("scope", ["a'b", " ", 7, "a" * 101, "-a"])
def test_what_is_no_scope_is_refused(scope: Any) -> None:
    with pytest.raises(ConfigurationError, match="scope"):
        Database(create_engine("sqlite://"), FailSafe("tests"), scope=scope)


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_a_scope_that_is_nobody_s_is_refused(host: Client) -> None:
    with pytest.raises(ConfigurationError, match="scope"):
        halt(host, scope="venue-x")
    assert host.failsafe.is_normal


# The reset of the fleet


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"], indirect=True)
def test_one_reset_leads_every_host_back_that_proves_its_checks(
    host: Client, driver: str, clients: Clients, postgres: PostgresDatabase
) -> None:
    fast = Recovery(probe_interval=0.05, consecutive=2)
    other = clients(driver, postgres, recovery=fast)
    is_well = threading.Event()
    other.failsafe.check(is_well.is_set)
    report = halt(host)
    wait_until(lambda: not other.failsafe.is_normal)
    assert other.failsafe.incident is not None
    assert other.failsafe.incident.incident_id == report.incident_id
    assert "fence" in other.failsafe.plan_reset().accepts
    reset(host)
    assert host.failsafe.is_normal
    host.transaction(insert)
    assert not other.failsafe.is_normal
    is_well.set()
    wait_until(lambda: other.failsafe.is_normal)
    other.transaction(lambda connection: insert(connection, 2))
    assert trades(postgres) == [1, 2]


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_any_host_may_reset_and_the_one_that_halted_follows(
    driver: str, clients: Clients, postgres: PostgresDatabase
) -> None:
    fast = Recovery(probe_interval=0.05, consecutive=2)
    host, other = (clients(driver, postgres, recovery=fast) for _ in range(2))
    halt(host)
    wait_until(lambda: not other.failsafe.is_normal)
    reset(other)
    wait_until(lambda: host.failsafe.is_normal)


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_a_halt_that_reached_no_fence_waits_for_a_reset_of_its_own(
    driver: str, clients: Clients, postgres: PostgresDatabase
) -> None:
    fast = Recovery(probe_interval=0.05, consecutive=1)
    host, other = (clients(driver, postgres, recovery=fast) for _ in range(2))
    with psycopg.connect(postgres.url(driver=None)) as hand:
        hand.execute("LOCK TABLE failstop.fence IN ACCESS EXCLUSIVE MODE")
        host.database.fence.deadline = 0.2
        report = halt(host, timeout=0.2)
        assert not report.is_exact
        assert "SQLSTATE" in report.unproven[0]
    wait_until(lambda: other.failsafe.is_normal)
    halt(other)
    reset(other)
    passed = host.failsafe.plan_reset()
    assert passed.is_allowed
    assert not host.failsafe.is_normal


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_automatic_recovery_never_clears_a_halt(
    driver: str, clients: Clients, postgres: PostgresDatabase
) -> None:
    fast = Recovery(probe_interval=0.02, consecutive=1)
    host, other = (clients(driver, postgres, recovery=fast) for _ in range(2))
    halt(host)
    wait_until(lambda: not other.failsafe.is_normal)
    rounds = [other.failsafe.plan_reset() for _ in range(5)]
    assert not any(plan.incident is None for plan in rounds)
    assert [row[2] for row in postgres.execute(FENCE)] == [True]


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_a_newer_halt_refuses_the_reset(
    host: Client, other: Client, postgres: PostgresDatabase
) -> None:
    halt(host)
    seen = host.failsafe.epoch
    fence = host.database.fence
    host.failsafe.plan_reset()
    rows = fence.rows
    halt(other, "worse fills")
    with pytest.raises(ResetRefusedError, match="newer halt"):
        fence.reopen(actor="bob", reason="late", incident_id="", seen=rows)
    host.failsafe.plan_reset()  # tells of the newer halt where its incident is another
    assert host.failsafe.epoch >= seen
    assert [row[2] for row in postgres.execute(FENCE)] == [True]


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_a_halt_elsewhere_refuses_a_reset_that_names_the_epoch_before_it(
    host: Client, other: Client, postgres: PostgresDatabase
) -> None:
    from failstop.errors import DatabaseUnavailableError

    host.failsafe.trip(DatabaseUnavailableError("a drill"), needs_person=True)
    seen = host.failsafe.epoch
    halt(other)
    with pytest.raises(ResetRefusedError):
        reset(host, epoch=seen)
    assert [row[2] for row in postgres.execute(FENCE)] == [True]
    reset(host)
    assert [row[2] for row in postgres.execute(FENCE)] == [False]


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_a_halt_that_was_heard_after_the_checks_of_a_reset_refuses_it(
    driver: str, clients: Clients, postgres: PostgresDatabase
) -> None:
    host, other = (clients(driver, postgres, recovery=QUIET) for _ in range(2))
    halt(host)
    host.failsafe.plan_reset()
    [before] = host.database.fence.rows
    heard: list[Event] = []

    def come(event: Event) -> None:
        if isinstance(event, Checked) and not heard:
            heard.append(event)
            halt(other, "worse fills")
            wait_until(lambda: host.database.fence.rows[0].epoch > before.epoch)

    host.failsafe.subscribe(come)
    with pytest.raises(ResetRefusedError, match="newer halt"):
        reset(host, epoch=host.failsafe.epoch)
    assert heard
    assert [row[2] for row in postgres.execute(FENCE)] == [True]
    host.failsafe.plan_reset()  # which shows it
    reset(host)
    assert [row[2] for row in postgres.execute(FENCE)] == [False]


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_a_forced_reset_leaves_a_halt_that_was_not_seen(
    host: Client, other: Client, postgres: PostgresDatabase
) -> None:
    from failstop.errors import DatabaseUnavailableError

    other.failsafe.trip(DatabaseUnavailableError("a drill"), needs_person=True)
    halt(host)
    postgres.execute("ALTER TABLE failstop.process RENAME COLUMN patience TO impatience")
    with pytest.raises(ResetRefusedError, match="halt stands"):
        reset(other, force=True)
    assert other.database.fence.rows is None
    assert [row[2] for row in postgres.execute(FENCE)] == [True]
    reset(host, force=True)
    assert [row[2] for row in postgres.execute(FENCE)] == [False]


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_a_fence_whose_epoch_went_back_is_believed(
    driver: str, clients: Clients, postgres: PostgresDatabase
) -> None:
    """As after a failover to a standby that had not heard of the last halt."""
    client = clients(driver, postgres, recovery=QUIET)
    for _ in range(2):
        halt(client)
        client.failsafe.plan_reset()
        reset(client)
    halt(client)
    client.failsafe.plan_reset()
    postgres.execute("UPDATE failstop.fence SET epoch = 1, is_halted = false")
    reset(client)
    client.failsafe.plan_reset()
    assert client.failsafe.is_normal


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_what_was_written_by_hand_shows_no_secret(
    driver: str, clients: Clients, postgres: PostgresDatabase, tmp_path: Path
) -> None:
    fast = Recovery(probe_interval=0.05, consecutive=1)
    client = clients(driver, postgres, recovery=fast)
    events: list[Event] = []
    client.failsafe.subscribe(events.append)
    halt(client)
    secret = "reason = 'by postgresql://u:hunter2@h/db', actor = 'postgresql://u:hunter2@h/db'"
    postgres.execute(f"UPDATE failstop.fence SET {secret}, epoch = epoch + 1")
    wait_until(lambda: any("by" in each.reason for each in client.database.fence.rows))
    postgres.execute("UPDATE failstop.fence SET is_halted = false, epoch = epoch + 1")
    wait_until(lambda: client.failsafe.is_normal)
    assert "hunter2" not in repr(events)


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_a_host_that_was_down_already_goes_on_when_the_halt_is_cleared(
    host: Client, driver: str, clients: Clients, postgres: PostgresDatabase
) -> None:
    from failstop.errors import DatabaseUnavailableError

    fast = Recovery(probe_interval=0.05, consecutive=2)
    other = clients(driver, postgres, recovery=fast)
    halt(host)
    other.failsafe.trip(DatabaseUnavailableError("a drill"))
    failed = other.failsafe.plan_reset()
    assert "fence" in failed.accepts
    assert not other.failsafe.is_normal
    reset(host)
    wait_until(lambda: other.failsafe.is_normal)


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_a_process_that_starts_during_a_halt_starts_halted(
    host: Client, driver: str, clients: Clients, postgres: PostgresDatabase
) -> None:
    report = halt(host)
    late = clients(driver, postgres, start=False, recovery=Recovery(probe_interval=0.05))
    late.failsafe.start()
    assert late.failsafe.incident is not None
    assert late.failsafe.incident.kind == "halted_elsewhere"
    assert late.failsafe.incident.incident_id == report.incident_id
    reset(host)
    wait_until(lambda: late.failsafe.is_normal)


@pytest.mark.parametrize("driver", ["psycopg"], indirect=True)
def test_a_reset_without_the_database_is_refused_and_force_says_what_stands(
    driver: str, own_server: PostgresServer, clients: Clients
) -> None:
    client = clients(driver, url_of(own_server, driver), recovery=Recovery(probe_interval=0.2))
    halt(client)
    own_server.stop("immediate")
    with pytest.raises(ResetRefusedError):
        reset(client)
    said: list[str] = []
    client.failsafe.subscribe(lambda event: said.append(getattr(event, "reason", "")))
    reset(client, force=True)
    assert any("its halt stands" in each for each in said)
    own_server.start()
    assert [row[2] for row in own_server.execute(FENCE)] == [True]
    wait_until(lambda: not client.failsafe.is_normal)
    own_server.execute("TRUNCATE failstop.fence")


# The rights


@pytest.fixture
def trader(postgres: PostgresDatabase) -> Iterator[str]:
    """The URL of a role with the least rights that may trade, and not halt."""
    postgres.execute("CREATE TABLE trades (id integer PRIMARY KEY, price integer)")
    postgres.execute("CREATE ROLE trader LOGIN PASSWORD 'pw'")
    for statement in schema_sql("trader").split(";\n"):
        if statement.startswith("GRANT"):
            postgres.execute(statement)
    postgres.execute("REVOKE UPDATE ON failstop.fence FROM trader")
    postgres.execute("GRANT SELECT, INSERT ON trades TO trader")
    scheme, _, rest = postgres.url().partition("://")
    yield f"{scheme}://trader:pw@{rest.rpartition('@')[2]}"
    postgres.execute("DROP OWNED BY trader")
    postgres.execute("DROP ROLE trader")


def test_a_role_may_trade_and_not_halt(
    trader: str, clients: Clients, postgres: PostgresDatabase
) -> None:
    client = clients("psycopg", trader, recovery=QUIET)
    client.transaction(insert)
    report = halt(client)
    assert not report.is_exact
    assert "SQLSTATE 42501" in report.unproven[0]
    assert postgres.execute(FENCE) == []
    assert trades(postgres) == [1]


def test_a_role_without_rights_on_the_fence_is_told_so(
    trader: str, clients: Clients, postgres: PostgresDatabase
) -> None:
    postgres.execute("REVOKE INSERT ON failstop.fence FROM trader")
    client = clients("psycopg", trader, recovery=QUIET)
    with pytest.raises(ConfigurationError, match="fence"):
        client.transaction(insert)
    assert trades(postgres) == []
