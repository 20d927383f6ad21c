"""A listener that hears nothing is found by its own echo, wherever the silence comes from."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator

import pytest
from tests.database.pgbouncer import PROGRAM, pgbouncer
from tests.fleet.conftest import QUICK, Host, Hosts
from tests.forking import exit_code
from tests.waiting import wait_until

from failstop import Recovery
from failstop.errors import ConfigurationError
from failstop.events import Tripped
from failstop.testing import FaultProxy, PostgresDatabase, PostgresServer

LISTENER = "database listener"
PATIENCE = QUICK.freshness
EARS = "FROM pg_stat_activity WHERE application_name = 'trading listener'"
END_EARS = f"SELECT pg_terminate_backend(pid) {EARS}"


@pytest.fixture
def proxy(postgres_server: PostgresServer) -> Iterator[FaultProxy]:
    with FaultProxy(postgres_server) as proxy:
        yield proxy


def ears(postgres: PostgresDatabase) -> set[int]:
    """Return the server's processes that serve listeners in this database."""
    found = postgres.execute(f"SELECT pid {EARS} AND datname = current_database()")
    return {pid for (pid,) in found}


def trips(host: Host) -> list[str]:
    return [each.incident.kind for each in host.events if isinstance(each, Tripped)]


def test_each_round_proves_that_the_listener_hears(hosts: Hosts) -> None:
    host = hosts("first", recovery=QUICK)
    [seen] = [each for each in host.failsafe.status().checks if each.name == LISTENER]
    assert seen.is_passed
    assert re.match("heard echo [0-9]+, and read the fence", seen.detail)


def test_a_silent_monitor_is_found_as_soon_with_a_listener_as_without(hosts: Hosts) -> None:
    host = hosts("first", recovery=QUICK)
    assert host.failsafe._rounds._bound() == host.database.probe_seconds


def test_a_lost_connection_is_made_anew_without_a_trip(
    hosts: Hosts, postgres: PostgresDatabase
) -> None:
    host, other = hosts("first", recovery=QUICK), hosts("other")
    mine = ears(postgres)
    postgres.execute(f"{END_EARS} AND datname = current_database()")
    wait_until(lambda: len(ears(postgres) - mine) == len(mine))
    other.halt()
    host.wait_for("halted_elsewhere")
    assert trips(host) == []


def test_notifications_that_are_swallowed_are_found_by_the_echo(
    hosts: Hosts, postgres: PostgresDatabase, proxy: FaultProxy
) -> None:
    host = hosts("first", recovery=QUICK, listen_url=proxy.url(postgres.url()))
    proxy.black_hole("to_client")
    host.wait_for("listener_silent")
    assert host.checks["database"]
    assert not host.checks[LISTENER]
    host.events.clear()
    proxy.heal()
    host.wait_for(None)
    hosts("other").halt()
    host.wait_for("halted_elsewhere")


def test_a_listener_that_cannot_connect_stops_the_service_and_recovery_needs_it(
    hosts: Hosts, postgres: PostgresDatabase, proxy: FaultProxy
) -> None:
    host = hosts("first", recovery=QUICK, listen_url=proxy.url(postgres.url()))
    proxy.refuse()
    proxy.reset()
    host.wait_for("listener_silent")
    wait_until(lambda: host.checks["database"] and not host.checks[LISTENER])
    proxy.heal()
    host.wait_for(None)


def test_an_echo_that_was_sent_before_it_listened_is_no_silence(
    hosts: Hosts, postgres: PostgresDatabase, proxy: FaultProxy
) -> None:
    """A follower probes now and then, while the elected process is a little too slow."""
    patience = QUICK.freshness
    settings = {"store": "shared", "recovery": QUICK, "listen_url": proxy.url(postgres.url())}
    _, follower = (hosts(name, **settings) for name in ("elected", "follower"))
    proxy.refuse()
    proxy.reset()
    follower.database.probe()
    asked_at = time.monotonic()
    proxy.heal()
    wait_until(lambda: len(ears(postgres)) == 2)
    wait_until(lambda: time.monotonic() > asked_at + patience)
    assert "heard echo" in follower.failsafe._dependencies[LISTENER].probe()
    assert trips(follower) == []


def test_a_listener_that_cannot_connect_takes_no_time_from_the_database_s_own_probe(
    hosts: Hosts, postgres: PostgresDatabase, proxy: FaultProxy
) -> None:
    """Its patience is longer than the probe's time here, and than the round's."""
    proxy.refuse()
    seldom = Recovery(probe_interval=30.0, round_timeout=15.0)
    settings = {"deadline": 1.0, "connect_deadline": 1.0}
    url = proxy.url(postgres.url())
    host = hosts("first", recovery=seldom, start=False, listen_url=url, **settings)
    host.failsafe.start()
    assert host.kind == "listener_silent"
    assert (host.checks["database"], host.checks[LISTENER]) == (True, False)


def test_an_echo_that_is_swallowed_at_the_start_holds_the_round_for_a_deadline_only(
    hosts: Hosts, postgres: PostgresDatabase, postgres_server: PostgresServer
) -> None:
    with postgres_server.fresh_database() as other:
        seldom = Recovery(probe_interval=30.0, round_timeout=15.0)
        url = other.url(driver=None)
        host = hosts("first", recovery=seldom, start=False, listen_url=url, deadline=1.0)
        host.failsafe.start()
        assert host.kind == "listener_silent"
        host.close()


def test_an_echo_is_not_waited_for_where_the_connection_is_gone(
    hosts: Hosts, postgres_server: PostgresServer
) -> None:
    with postgres_server.fresh_database() as other:
        seldom = Recovery(probe_interval=30.0, round_timeout=60.0)
        url = other.url(driver=None)
        host = hosts("first", recovery=seldom, start=False, listen_url=url, deadline=20.0)
        starting = threading.Thread(target=host.failsafe.start)
        starting.start()

        def has_started_without_ears() -> bool:
            other.execute(f"{END_EARS} AND datname = current_database()")
            return not starting.is_alive()

        wait_until(has_started_without_ears, 10.0)
        assert host.kind == "listener_silent"
        host.close()


def test_a_server_that_answers_late_is_not_taken_for_a_deaf_listener(
    hosts: Hosts, proxy: FaultProxy, postgres: PostgresDatabase
) -> None:
    """The probe passes within its deadline, which is longer than the listener's patience."""
    host = hosts("first", recovery=QUICK, url=proxy.url(postgres.url()))
    late = proxy.before_reply(re.compile("pg_notify")).call(lambda: time.sleep(1.5 * PATIENCE))
    late.wait(20.0)
    before = host.failsafe.status().observed_at
    wait_until(lambda: host.failsafe.status().observed_at != before)
    assert trips(host) == []


def test_a_frozen_server_keeps_no_thread_of_a_closed_service(
    hosts: Hosts, postgres: PostgresDatabase, proxy: FaultProxy
) -> None:
    settings = {"deadline": 0.5, "connect_deadline": 0.5}
    host = hosts("first", listen_url=proxy.url(postgres.url()), **settings)
    proxy.black_hole()
    host.close()
    wait_until(lambda: not any(t.name == "failstop-listener" for t in threading.enumerate()))


def test_a_closed_service_listens_no_more(hosts: Hosts, postgres: PostgresDatabase) -> None:
    host = hosts("first")
    assert len(ears(postgres)) == 1
    host.close()
    assert not any(t.name == "failstop-listener" for t in threading.enumerate())
    wait_until(lambda: not ears(postgres))


def test_a_listen_url_of_another_database_is_found_by_the_echo(
    hosts: Hosts, postgres_server: PostgresServer
) -> None:
    with postgres_server.fresh_database() as other:
        host = hosts("first", recovery=QUICK, start=False, listen_url=other.url(driver=None))
        host.failsafe.start()
        assert host.kind == "listener_silent"
        incident = host.failsafe.incident
        assert incident is not None
        assert "listen_url" in incident.action
        host.close()


@pytest.mark.parametrize("url", ["sqlite:///x.db", "mysql://localhost/x"])
def test_a_listen_url_that_is_none_of_postgresql_is_refused(url: str, hosts: Hosts) -> None:
    with pytest.raises(ConfigurationError, match="listen_url"):
        hosts("first", listen_url=url)


def test_no_error_shows_the_password_of_a_listen_url(
    hosts: Hosts, postgres: PostgresDatabase
) -> None:
    url = postgres.url().replace("@", "not-the-password@")
    host = hosts("first", recovery=QUICK, start=False, listen_url=url)
    host.failsafe.start()
    assert host.kind == "listener_silent"
    assert "not-the-password" not in repr(host.failsafe.status())


# Several processes on a host


def test_of_the_processes_of_a_host_one_listens_and_the_next_one_when_that_is_gone(
    hosts: Hosts, postgres: PostgresDatabase
) -> None:
    elected, follower = (
        hosts(name, recovery=QUICK, store="shared") for name in ("elected", "follower")
    )
    wait_until(lambda: len(ears(postgres)) == 1)
    processes = follower.database.processes()
    assert len(processes) == 2
    assert not any(each.is_silent for each in processes)
    [before] = ears(postgres)
    elected.close()
    wait_until(lambda: bool(ears(postgres) - {before}))
    hosts("other").halt()
    follower.wait_for("halted_elsewhere")
    assert trips(follower) == []


def test_what_one_process_of_a_host_hears_stops_the_others_at_their_next_call(
    hosts: Hosts, postgres: PostgresDatabase
) -> None:
    pair = [hosts(name, recovery=QUICK, store="shared") for name in ("elected", "follower")]
    wait_until(lambda: len(ears(postgres)) == 1)
    hosts("other").halt()
    wait_until(lambda: not all(each.is_normal for each in pair))
    wait_until(lambda: not any(each.is_normal for each in pair))


# Forks


@pytest.mark.parametrize("is_durable", [False, True], ids=["alone", "with a store"])
def test_a_forked_child_hears_of_a_halt_and_shares_no_connection(
    is_durable: bool, hosts: Hosts, postgres: PostgresDatabase
) -> None:
    """Without a store by a listener of its own, else by its parent's and the doorbell."""
    host = hosts("first", recovery=QUICK, is_durable=is_durable)
    child = os.fork()
    if child == 0:
        try:
            host.wait_for("halted_elsewhere", 20.0)
            os._exit(7)
        finally:
            os._exit(1)
    if not is_durable:
        wait_until(lambda: len(ears(postgres)) == 2)
    hosts("other").halt()
    assert exit_code(child) == 7
    host.wait_for("halted_elsewhere")


def test_a_forked_child_waits_for_no_thread_of_its_parent_s(hosts: Hosts) -> None:
    host = hosts("first", is_durable=False)
    fence = host.database.fence
    with fence._lock:
        child = os.fork()
        if child == 0:
            host.database.probe()
            os._exit(7 if fence.rows == () else 1)
        assert exit_code(child) == 7


# Poolers

needs_pgbouncer = pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed here")
TIMEOUTS = {"statement_timeout": "4s", "idle_in_transaction_session_timeout": "1min"}


@pytest.fixture
def pooled(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """A server that brings the timeouts which a pooler would lose."""
    for name, value in TIMEOUTS.items():
        postgres_server.execute(f"ALTER DATABASE postgres SET {name} = '{value}'")
    yield postgres_server
    for name in TIMEOUTS:
        postgres_server.execute(f"ALTER DATABASE postgres RESET {name}")
    postgres_server.execute("TRUNCATE failstop.fence")


def with_driver(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")


@needs_pgbouncer
def test_a_pool_of_transactions_is_refused_without_a_listen_url(
    hosts: Hosts, pooled: PostgresServer
) -> None:
    with pgbouncer(pooled, "transaction") as url:
        host = hosts("first", url=with_driver(url), start=False)
        with pytest.raises(ConfigurationError, match="listen_url"):
            host.failsafe.start()
        host.close()


@needs_pgbouncer
def test_behind_a_pool_of_transactions_a_halt_is_heard_by_the_listen_url(
    hosts: Hosts, pooled: PostgresServer
) -> None:
    direct = pooled.url(driver=None)
    with pgbouncer(pooled, "transaction") as url:
        first, second = (
            hosts(name, url=with_driver(url), listen_url=direct) for name in ("first", "second")
        )
        first.halt()
        second.wait_for("halted_elsewhere")
        first.close()
        second.close()


@needs_pgbouncer
def test_a_listen_url_through_a_pool_of_transactions_is_found_by_the_echo(
    hosts: Hosts, pooled: PostgresServer
) -> None:
    with pgbouncer(pooled, "transaction") as url:
        direct = pooled.url()
        host = hosts("first", url=direct, listen_url=url, recovery=QUICK, start=False)
        host.failsafe.start()
        assert host.kind == "listener_silent"
        host.close()


@needs_pgbouncer
def test_a_pool_of_sessions_needs_no_listen_url(hosts: Hosts, pooled: PostgresServer) -> None:
    with pgbouncer(pooled, "session") as url:
        first, second = (hosts(name, url=with_driver(url)) for name in ("first", "second"))
        first.halt()
        second.wait_for("halted_elsewhere")
        first.close()
        second.close()
