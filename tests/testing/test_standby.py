"""`PostgresServer.standby()`: a server that follows another, to fail over to."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from failstop.testing import PostgresServer, PostgresServerError, PostgresStandby

READ = "SELECT n FROM trades ORDER BY n"
IS_WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture
def primary(breakable_postgres: PostgresServer) -> PostgresServer:
    breakable_postgres.execute("CREATE TABLE trades (n integer)")
    return breakable_postgres


@pytest.fixture
def standby(primary: PostgresServer) -> Iterator[PostgresStandby]:
    with primary.standby() as standby:
        yield standby


def trade(server: PostgresServer, n: int) -> None:
    server.execute("INSERT INTO trades VALUES (%s)", [n])


def wait_for(server: PostgresServer, question: str) -> None:
    for _ in range(2000):
        if server.execute(question):
            return
    raise AssertionError(f"no row came of {question}")


def test_it_streams_and_takes_no_writes(primary: PostgresServer, standby: PostgresStandby) -> None:
    trade(primary, 1)
    standby.catch_up()
    assert standby.execute(READ) == [(1,)]
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        trade(standby, 2)


def test_a_commit_that_did_not_reach_it_is_lost_after_its_promotion(
    primary: PostgresServer, standby: PostgresStandby
) -> None:
    trade(primary, 1)
    standby.catch_up()
    standby.detach()
    trade(primary, 2)
    primary.kill()
    standby.promote()
    trade(standby, 3)
    assert standby.execute(READ) == [(1,), (3,)]


def test_it_follows_again_when_it_is_attached(
    primary: PostgresServer, standby: PostgresStandby
) -> None:
    standby.detach()
    trade(primary, 1)
    standby.attach()
    standby.catch_up()
    assert standby.execute(READ) == [(1,)]


def test_what_a_server_with_a_synchronous_standby_acknowledged_is_never_lost(
    primary: PostgresServer,
) -> None:
    with primary.standby(is_synchronous=True) as standby:
        trade(primary, 1)
        primary.kill()
        standby.promote()
        assert standby.execute(READ) == [(1,)]


def test_a_commit_waits_for_a_synchronous_standby_until_that_is_closed(
    primary: PostgresServer,
) -> None:
    with primary.standby(is_synchronous=True) as standby:
        standby.detach()
        waiting = threading.Thread(target=trade, args=(primary, 1))
        waiting.start()
        wait_for(primary, IS_WAITING)
    waiting.join(10)
    assert not waiting.is_alive()
    trade(primary, 2)
    assert primary.execute(READ) == [(1,), (2,)]


def test_the_status_of_a_transaction_lies_after_a_failover(
    primary: PostgresServer, standby: PostgresStandby
) -> None:
    """Its number is given again: an answer must rest on a row, never on `pg_xact_status`."""
    ask = "SELECT pg_xact_status(%s::xid8)"
    standby.catch_up()
    standby.detach()
    xid = primary.execute("INSERT INTO trades VALUES (1) RETURNING pg_current_xact_id()::text")[0]
    assert primary.execute(ask, xid) == [("committed",)]
    primary.kill()
    standby.promote()

    with pytest.raises(psycopg.errors.InvalidParameterValue, match="is in the future"):
        standby.execute(ask, xid)
    for _ in range(100):
        [(given,)] = standby.execute("SELECT pg_current_xact_id()::text")
        if int(given) >= int(xid[0]):
            break
    assert standby.execute(ask, xid) == [("committed",)]
    assert standby.execute(READ) == []


def test_a_promoted_standby_makes_databases_of_its_own(
    primary: PostgresServer, standby: PostgresStandby
) -> None:
    primary.create_database()
    standby.catch_up()
    primary.kill()
    standby.promote()
    standby.create_database()
    with standby.standby() as next_standby:
        next_standby.catch_up()


def test_it_follows_again_after_a_restart_of_either(
    primary: PostgresServer, standby: PostgresStandby
) -> None:
    primary.restart()
    trade(primary, 1)
    standby.catch_up()
    standby.restart("immediate")
    trade(primary, 2)
    standby.catch_up()
    assert standby.execute(READ) == [(1,), (2,)]


def test_it_does_not_count_as_a_client_of_its_primary(
    primary: PostgresServer, standby: PostgresStandby
) -> None:
    titles = [" ".join(process.cmdline()) for process in primary.processes()]
    assert any("walsender" in title for title in titles)
    assert primary.backends() == []


def test_it_is_promoted_once(primary: PostgresServer, standby: PostgresStandby) -> None:
    standby.promote()
    with pytest.raises(PostgresServerError, match="no standby any more"):
        standby.promote()


def test_a_server_that_does_not_run_has_no_standby(primary: PostgresServer) -> None:
    primary.kill()
    with pytest.raises(PostgresServerError, match="does not run; start"):
        primary.standby()


def test_it_has_the_settings_it_is_given_and_not_those_its_primary_was_told(
    primary: PostgresServer,
) -> None:
    primary.configure({"work_mem": "5MB", "maintenance_work_mem": "6MB"})
    with primary.standby(settings={"maintenance_work_mem": "7MB"}) as standby:
        assert standby.execute("SHOW work_mem") == [("4MB",)]
        assert standby.execute("SHOW maintenance_work_mem") == [("7MB",)]


def test_the_password_is_in_no_setting(standby: PostgresStandby) -> None:
    shown = standby.execute("SELECT setting FROM pg_settings")
    assert not [value for (value,) in shown if standby.password in value]


def test_it_leaves_nothing_behind(primary: PostgresServer) -> None:
    with primary.standby() as standby:
        assert standby.processes()
    assert standby.processes() == []
    assert not standby.directory.exists()
