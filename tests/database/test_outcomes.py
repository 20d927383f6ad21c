"""Claim C5: what became of a COMMIT without an answer is asked for, and told as it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection
from tests.database.conftest import Client, Clients
from tests.waiting import wait_until

from failstop import with_fail_fast_protection
from failstop.errors import CommitOutcomeUnknownError, CriticalError, Outcome
from failstop.events import DurabilityReduced
from failstop.recovery import Recovery
from failstop.testing import FaultProxy, PostgresServer

QUIET = Recovery(probe_interval=3600)


@pytest.fixture
def proxy(own_server: PostgresServer) -> Iterator[FaultProxy]:
    with FaultProxy(own_server) as proxy:
        yield proxy


@pytest.fixture
def remote(
    driver: str, own_server: PostgresServer, proxy: FaultProxy, clients: Clients
) -> Callable[..., Client]:
    """Make a client behind the proxy."""

    def make(**settings: Any) -> Client:
        name = {"psycopg_async": "psycopg"}.get(driver, driver)
        url = proxy.url(own_server.url(driver=name))
        return clients(driver, url, **{"deadline": 2.0, "recovery": QUIET, **settings})

    return make


def insert(connection: Connection) -> None:
    connection.execute(text("INSERT INTO trades VALUES (1, 100)"))


def count(server: PostgresServer) -> int:
    return int(server.execute("SELECT count(*) FROM trades")[0][0])


def test_a_commit_whose_answer_is_lost_returns(
    remote: Callable[..., Client], proxy: FaultProxy, own_server: PostgresServer
) -> None:
    client = remote()
    proxy.after("COMMIT", forwarded=True).reset()
    client.transaction(insert, key="order-1")
    assert count(own_server) == 1
    assert not client.failsafe.is_normal  # the connection was lost all the same
    assert client.failsafe.in_doubt() == ()


def test_the_scope_of_it_tells_that_it_is_committed(
    remote: Callable[..., Client], proxy: FaultProxy
) -> None:
    client = remote()
    proxy.after("COMMIT", forwarded=True).reset()
    handler = with_fail_fast_protection(failsafe=client.failsafe)(
        lambda: client.transaction(insert, key="order-1")
    )
    answer: Any = handler()
    assert answer.status == 503
    assert answer.body["details"]["outcome"] == "COMMITTED"
    assert answer.body["details"]["safeToRetry"] is False


def test_a_commit_that_never_arrived_is_told_as_rolled_back(
    remote: Callable[..., Client], proxy: FaultProxy, own_server: PostgresServer
) -> None:
    client = remote()
    proxy.after("COMMIT", forwarded=False).reset()
    with pytest.raises(CriticalError) as caught:
        client.transaction(insert, key="order-1")
    assert caught.value.outcome is Outcome.ROLLED_BACK
    assert not isinstance(caught.value, CommitOutcomeUnknownError)
    assert count(own_server) == 0
    assert client.failsafe.in_doubt() == ()
    assert own_server.execute("SELECT count(*) FROM failstop.receipt")[0][0] == 0


def test_run_once_returns_its_result_though_the_answer_was_lost(
    remote: Callable[..., Client], proxy: FaultProxy
) -> None:
    client = remote()
    proxy.after("COMMIT", forwarded=True).reset()

    def work(connection: Connection) -> int:
        insert(connection)
        return 7

    assert client.run_once("order-1", work) == 7


def test_what_cannot_be_asked_is_in_doubt_and_found_out_by_recovery(
    remote: Callable[..., Client], proxy: FaultProxy, own_server: PostgresServer
) -> None:
    client = remote(deadline=0.5, recovery=Recovery(probe_interval=0.1))
    told: list[tuple[str, Outcome]] = []
    client.failsafe.on_resolved(lambda key, outcome: told.append((key, outcome)))
    proxy.after("COMMIT", forwarded=True).black_hole()
    began = time.monotonic()
    with pytest.raises(CommitOutcomeUnknownError) as caught:
        client.transaction(insert, key="order-1")
    assert time.monotonic() - began < 0.5 + 0.25 + 2.5
    assert caught.value.outcome is Outcome.UNKNOWN
    assert caught.value.key == "order-1"
    assert [doubt.key for doubt in client.failsafe.in_doubt()] == ["order-1"]
    assert told == []
    proxy.heal()
    wait_until(lambda: client.failsafe.is_normal)
    assert told == [("order-1", Outcome.COMMITTED)]
    assert client.failsafe.in_doubt() == ()
    assert count(own_server) == 1


def test_an_original_that_hangs_is_ended_and_then_told(
    remote: Callable[..., Client], proxy: FaultProxy, own_server: PostgresServer
) -> None:
    """The backend waits for a standby that is not there; ended, it has committed all the same."""
    client = remote(deadline=3.0)
    require_standby(own_server)
    proxy.after("COMMIT", forwarded=True).reset()
    client.transaction(insert, key="order-1")
    assert count(own_server) == 1


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async", "asyncpg"])
def test_a_commit_that_gave_up_its_standby_returns_and_is_told(
    remote: Callable[..., Client], proxy: FaultProxy, own_server: PostgresServer
) -> None:
    client = remote(deadline=10.0)
    events: list[DurabilityReduced] = []
    client.failsafe.subscribe(
        lambda event: events.append(event) if isinstance(event, DurabilityReduced) else None
    )
    require_standby(own_server)
    proxy.after("COMMIT", forwarded=True).call(lambda: cancel_waiting(own_server))
    client.transaction(insert, key="order-1")
    assert client.failsafe.is_normal
    wait_until(lambda: [event.key for event in events] == ["order-1"])


def require_standby(server: PostgresServer) -> None:
    """Have every COMMIT wait for a standby that is not there."""
    server.execute("ALTER SYSTEM SET synchronous_standby_names = 'nowhere'")
    server.execute("SELECT pg_reload_conf()")
    wait_until(lambda: bool(server.execute("SHOW synchronous_standby_names")[0][0] == "nowhere"))


def cancel_waiting(server: PostgresServer) -> None:
    waiting = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    wait_until(lambda: bool(server.execute(f"SELECT pid {waiting}")))
    server.execute(f"SELECT pg_cancel_backend(pid) {waiting}")
