"""A halt and a reset reach every host; what a host missed it reads when it comes back."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psycopg
import pytest
from tests.fleet.conftest import QUICK, SLOW, Host, Hosts
from tests.waiting import wait_until

from failstop import State, offline
from failstop.database import Database
from failstop.errors import OperationsSuspendedError, ResetRefusedError
from failstop.events import Halted
from failstop.testing import FaultProxy, PostgresDatabase, PostgresServer


@pytest.fixture
def proxy(postgres_server: PostgresServer) -> Iterator[FaultProxy]:
    with FaultProxy(postgres_server) as proxy:
        yield proxy


def is_refused(host: Host) -> bool:
    try:
        host.failsafe.require()
    except OperationsSuspendedError:
        return True
    return False


# Halts


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_a_halt_on_one_host_is_heard_by_the_others_whatever_their_driver(
    driver: str, hosts: Hosts, postgres: PostgresDatabase
) -> None:
    first = hosts("first")
    others = [hosts("second", url=postgres.url(driver=driver)), hosts("third")]
    report = first.halt()
    for other in others:
        wait_until(partial(is_refused, other))
        incident = other.failsafe.incident
        assert incident is not None
        assert incident.kind == "halted_elsewhere"
        assert (incident.incident_id, incident.actor) == (report.incident_id, "alice")
        assert "the venue sends nonsense" in incident.cause


def test_the_halting_host_does_not_hear_of_itself_as_of_another(hosts: Hosts) -> None:
    first, second = hosts("first"), hosts("second")
    first.halt()
    second.wait_for("halted_elsewhere")
    assert first.kind == "halt"
    assert len([each for each in first.events if isinstance(each, Halted)]) == 1


def test_a_halt_of_a_part_stops_that_part_only_and_one_of_the_whole_stops_all(
    hosts: Hosts,
) -> None:
    first = hosts("first", scope="venue-a")
    same, other = hosts("same", scope="venue-a"), hosts("other", scope="venue-b")
    first.halt(scope="venue-a")
    same.wait_for("halted_elsewhere")
    other.place_order()
    first.halt()
    other.wait_for("halted_elsewhere")


def test_the_pages_of_one_halt_share_their_dedup_key_on_every_host(hosts: Hosts) -> None:
    fleet = [hosts(name) for name in ("first", "second", "third")]
    fleet[0].halt()
    for host in fleet[1:]:
        host.wait_for("halted_elsewhere")
    for host in fleet:
        assert host.failsafe.flush(10.0)
    keys = {alert.dedup_key for host in fleet for alert in host.sink.alerts}
    assert len(keys) == 1


def test_a_host_that_starts_while_a_halt_stands_starts_tripped(hosts: Hosts) -> None:
    hosts("first").halt()
    late = hosts("late", start=False)
    late.failsafe.start()
    assert late.kind == "halted_elsewhere"


# What is told is not believed


@pytest.mark.parametrize(
    "payload", ["", "nonsense", '{"kind": "halt", "scope": "", "epoch": 99}', "x" * 7999]
)
def test_a_payload_only_wakes_whoever_reads_the_fence(
    payload: str, hosts: Hosts, postgres: PostgresDatabase
) -> None:
    first, second = hosts("first"), hosts("second")
    postgres.execute("SELECT pg_notify('failstop', %s)", (payload,))
    second.place_order()
    first.halt()
    second.wait_for("halted_elsewhere")


def test_a_flood_of_notifications_costs_few_reads(hosts: Hosts, postgres: PostgresDatabase) -> None:
    second = hosts("second")
    with psycopg.connect(postgres.url(driver=None), autocommit=True) as stranger:
        stranger.execute(
            "DO $$ BEGIN FOR i IN 1..2000 LOOP PERFORM pg_notify('failstop', i::text); "
            "COMMIT; END LOOP; END $$"
        )
    hosts("first").halt()
    second.wait_for("halted_elsewhere")


# Resets


def test_a_reset_by_one_releases_every_host_that_has_proven_itself(hosts: Hosts) -> None:
    fleet = [hosts(name, recovery=QUICK) for name in ("first", "second", "third")]
    is_reconciled = False
    fleet[2].failsafe.check(lambda: is_reconciled)
    fleet[0].halt()
    for host in fleet[1:]:
        host.wait_for("halted_elsewhere")
    fleet[1].reset()
    assert fleet[1].is_normal
    fleet[0].wait_for(None)
    wait_until(lambda: fleet[2].checks.get("fence", False))
    assert not fleet[2].is_normal
    is_reconciled = True
    fleet[2].wait_for(None)
    for host in fleet:
        host.place_order()


def test_a_reset_that_saw_an_older_halt_is_refused(hosts: Hosts) -> None:
    first, second = hosts("first", recovery=QUICK), hosts("second", recovery=QUICK)
    first.halt()
    second.wait_for("halted_elsewhere")
    seen = second.failsafe.epoch
    first.reset()
    second.wait_for(None)
    first.halt("and again")
    second.wait_for("halted_elsewhere")
    with pytest.raises(ResetRefusedError):
        second.reset(epoch=seen)
    assert not first.is_normal


def test_a_reset_that_a_fence_does_not_know_of_releases_no_process_of_a_host(
    hosts: Hosts, tmp_path: Path
) -> None:
    away = hosts("away", recovery=QUICK)
    here = [hosts("here", recovery=QUICK) for _ in range(2)]
    away.halt()
    for process in here:
        process.wait_for("halted_elsewhere")
    seen = here[0].failsafe.epoch
    wait_until(lambda: offline.status(tmp_path / "here.db").state is State.FAIL_SAFE)
    offline.reset(tmp_path / "here.db", actor="bob", reason="I hope", epoch=seen, force=True)
    for process in here:
        count = len(process.events)
        wait_until(lambda: len(process.events) > count + 10)  # noqa: B023 - called at once
        assert not process.is_normal
    away.reset()
    for process in here:
        process.wait_for(None)


def test_a_reset_that_is_refused_says_where_it_has_opened_the_fence(
    hosts: Hosts, postgres: PostgresDatabase
) -> None:
    """It goes on by itself then, which nobody expects who reads that it was refused."""
    host = hosts("here", recovery=QUICK)
    host.halt()
    wait_until(lambda: host.checks.get("fence") is False)
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'RowExclusiveLock'"
    with ThreadPoolExecutor(1) as pool:
        with psycopg.connect(postgres.url(driver=None)) as other:
            other.execute("LOCK TABLE failstop.fence IN EXCLUSIVE MODE")
            reset = pool.submit(host.reset)
            wait_until(lambda: postgres.execute(waits) == [(1,)])
            host.failsafe._keeper.void_evidence()
        with pytest.raises(ResetRefusedError, match="the fence is open by now"):
            reset.result(20)
    host.wait_for(None)


# Partitions


def test_a_partitioned_host_stops_by_itself_and_the_others_go_on(
    hosts: Hosts, postgres: PostgresDatabase, proxy: FaultProxy
) -> None:
    settings = {"deadline": 0.5, "connect_deadline": 0.5}
    near = hosts("near", recovery=QUICK)
    far = hosts("far", url=proxy.url(postgres.url()), recovery=QUICK, **settings)
    proxy.black_hole()
    wait_until(lambda: not far.is_normal)
    near.place_order()
    proxy.heal()
    far.wait_for(None)
    assert far.checks["database"]
    assert far.checks["database listener"]
    far.place_order()


def test_what_was_missed_while_away_is_read_from_the_fence_on_return(
    hosts: Hosts, postgres: PostgresDatabase, proxy: FaultProxy
) -> None:
    settings = {"deadline": 0.5, "connect_deadline": 0.5}
    near = hosts("near", recovery=QUICK)
    far = hosts("far", url=proxy.url(postgres.url()), recovery=QUICK, **settings)
    proxy.refuse()
    proxy.reset()
    wait_until(lambda: not far.is_normal)
    report = near.halt()
    assert report.is_exact
    proxy.heal()
    wait_until(lambda: far.checks.get("database", False))
    assert not far.is_normal
    assert not far.checks["fence"]
    near.reset()
    far.wait_for(None)


def test_a_halt_that_was_ordered_and_reset_while_away_is_not_missed_after_it(
    hosts: Hosts, postgres: PostgresDatabase, proxy: FaultProxy
) -> None:
    settings = {"deadline": 0.5, "connect_deadline": 0.5}
    near = hosts("near", recovery=QUICK)
    far = hosts("far", url=proxy.url(postgres.url()), recovery=QUICK, **settings)
    proxy.refuse()
    proxy.reset()
    wait_until(lambda: not far.is_normal)
    near.halt()
    near.reset()
    proxy.heal()
    far.wait_for(None)
    near.halt("once more")
    far.wait_for("halted_elsewhere")


def test_a_service_without_a_fence_listens_to_nothing(hosts: Hosts) -> None:
    host = hosts("alone", fence=False, recovery=SLOW)
    assert list(host.checks) == ["store", "database", "in doubt"]
    assert isinstance(host.database, Database)
