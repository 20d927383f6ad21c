"""Claim C8: after an outage the service goes on by itself, once all is proven, and not before."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator

import psycopg
import pytest
from tests.recovery.conftest import UNTRUSTED, Open
from tests.waiting import wait_until

from failstop._latch import State
from failstop.errors import (
    CommitOutcomeUnknownError,
    CriticalDatabaseError,
    ErrorCode,
    OperationsSuspendedError,
    Outcome,
    ResetRefusedError,
)
from failstop.testing import FaultProxy, PostgresServer


def test_a_killed_server_is_trusted_again_when_it_is_back(
    server: PostgresServer, url: str, opened: Open
) -> None:
    service = opened(url)
    service.trade(1)
    server.kill()
    service.wait_for(State.FAIL_SAFE)
    with pytest.raises(OperationsSuspendedError):
        service.trade(2)
    server.start()
    service.wait_for(State.NORMAL)
    wait_until(lambda: bool(service.resets))  # observers are told a moment later
    [reset] = service.resets
    assert reset.actor is None
    _, known = service.failsafe.baselines.known("database")
    assert known is not None
    assert known.accepted == 0, "nobody has accepted anything"
    assert {each.name: each.is_passed for each in reset.evidence}["database"]
    assert "read it back on a second connection" in reset.evidence[1].detail
    service.trade(3)
    assert server.execute("SELECT n FROM trades") == [(1,), (3,)]
    assert len(service.kinds) == 1
    assert reset.incident.error_code in (ErrorCode.CONNECTION_FAILED, ErrorCode.DB_UNAVAILABLE)
    assert not reset.incident.kind.startswith("listener"), "the server's own failure is the cause"


def test_a_frozen_server_is_trusted_again_when_it_is_thawed(
    server: PostgresServer, url: str, opened: Open
) -> None:
    service = opened(url)
    server.freeze()
    service.wait_for(State.FAIL_SAFE)
    service.wait_for_rounds(1)
    assert service.state is State.FAIL_SAFE
    assert not service.kinds[0].startswith("listener"), "the server's own failure is the cause"
    server.thaw()
    service.wait_for(State.NORMAL)


def test_a_server_that_is_read_only_answers_and_is_not_trusted(
    server: PostgresServer, url: str, opened: Open
) -> None:
    service = opened(url)
    server.make_read_only()
    service.wait_for(State.FAIL_SAFE)
    service.wait_for_rounds()
    assert service.state is State.FAIL_SAFE
    assert service.detail() == "database 'database' is read-only"
    assert service.kinds == ["read_only"]
    server.make_read_only(False)
    service.wait_for(State.NORMAL)


@pytest.fixture
def small_disk(server: PostgresServer) -> Iterator[None]:
    """Put the table `trades` on a disk of its own, of 1 MB, with nothing left on it."""
    place = server.directory / "small"
    place.mkdir()
    owner = (server.directory / "data").stat()
    settings = f"size=1m,mode=700,uid={owner.st_uid},gid={owner.st_gid}"
    mount = ["mount", "-t", "tmpfs", "-o", settings, "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        server.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
        server.execute("ALTER TABLE trades SET TABLESPACE small")
        server.execute("CREATE TABLE filler (body text) TABLESPACE small")
        with pytest.raises(psycopg.errors.DiskFull):
            for _ in range(200):
                server.execute(
                    "INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 8)"
                )
        yield
        server.execute("DROP TABLE IF EXISTS filler, trades")
        server.execute("DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, timeout=30)


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_stops_the_service_and_it_goes_on_when_there_is_room(
    server: PostgresServer, url: str, opened: Open
) -> None:
    service = opened(url)
    taken: list[int] = []
    with pytest.raises(CriticalDatabaseError) as refused:
        for n in range(1000):
            service.trade(n)
            taken.append(n)
    assert (refused.value.kind, refused.value.outcome) == ("disk_full", Outcome.ROLLED_BACK)
    assert service.kinds[0] == "disk_full"
    server.execute("DROP TABLE filler")
    service.wait_for(State.NORMAL)
    service.trade(1000)
    assert server.execute("SELECT n FROM trades ORDER BY n") == [(n,) for n in [*taken, 1000]]


def test_a_server_without_a_free_connection_is_not_trusted(
    server: PostgresServer, url: str, opened: Open
) -> None:
    """The monitor's own connection may stand; recovery needs another one."""
    service = opened(url)
    with server.fill_connections():
        service.failsafe.halt(actor="ann", reason="drill")
        plan = service.failsafe.plan_reset()
        assert plan.missing == UNTRUSTED
        assert "all connection slots" in plan.why[0]
        with pytest.raises(ResetRefusedError):
            service.failsafe.reset(actor="ann", reason="done")
    service.failsafe.reset(actor="ann", reason="done")
    assert service.state is State.NORMAL
    service.failsafe.halt(actor="ann", reason="drill")
    assert "connections are free" in service.failsafe.plan_reset().checks[1].detail


@pytest.mark.parametrize("what", ["kill", "freeze", "make_read_only"])
def test_what_a_server_fails_while_nobody_trades_is_told_by_its_own_name(
    what: str, server: PostgresServer, url: str, opened: Open
) -> None:
    """The listener hears nothing either, and is never the first to tell."""
    service = opened(url)
    getattr(server, what)()
    service.wait_for(State.FAIL_SAFE)
    service.wait_for_rounds(2)
    [kind] = service.kinds
    assert not kind.startswith("listener")
    assert service.failsafe.plan_reset().why[0].startswith("database: ")


def test_while_a_transaction_is_in_doubt_a_server_that_is_well_is_not_enough(
    server: PostgresServer, proxy: FaultProxy, url: str, opened: Open
) -> None:
    """The answer to a COMMIT is lost, and its receipt is locked, so nobody can ask for it."""
    service = opened(url)
    locked, unlock = threading.Event(), threading.Event()

    def hold() -> None:
        with server._connect("postgres") as connection:
            connection.execute("BEGIN; LOCK TABLE failstop.receipt IN SHARE MODE")
            locked.set()
            unlock.wait(30)
            connection.rollback()

    holder = threading.Thread(target=hold)

    def lose_the_answer() -> None:
        holder.start()
        locked.wait(10)
        proxy.reset()

    proxy.before_reply("COMMIT").call(lose_the_answer)
    with pytest.raises(CommitOutcomeUnknownError):
        service.trade(1, key="order-1", deadline=3.0)
    service.wait_for_rounds(2)
    assert service.detail().startswith("committed a write")
    assert "1 transaction is in doubt" in service.detail("in doubt")
    assert service.state is State.FAIL_SAFE
    unlock.set()
    holder.join(10)
    service.wait_for(State.NORMAL)
    assert server.execute("SELECT n FROM trades") == [(1,)]
    assert len(service.kinds) == 1, "it had not recovered while the receipt was asked for"
