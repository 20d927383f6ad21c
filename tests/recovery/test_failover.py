"""Claim C8: a database that answers, and is not the one that was trusted, waits for a person."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.recovery.conftest import UNTRUSTED, Open, Service
from tests.waiting import wait_until

from failstop import offline
from failstop._latch import State
from failstop.errors import ResetRefusedError
from failstop.testing import FaultProxy, PostgresServer, PostgresStandby


@pytest.fixture
def standby(server: PostgresServer) -> Iterator[PostgresStandby]:
    with server.standby() as standby:
        standby.catch_up()
        yield standby


def fail_over(server: PostgresServer, standby: PostgresServer, proxy: FaultProxy) -> None:
    """The standby takes over under the same address, and the old server is no more."""
    server.kill()
    assert isinstance(standby, PostgresStandby)
    standby.promote()
    proxy.redirect(standby)
    proxy.reset()


def wait_for_finding(service: Service, kind: str) -> None:
    """Wait until the incident waits for a person, because of what was found."""
    wait_until(lambda: service.is_held() and kind in service.findings)


# A standby took over and has everything


def test_a_promoted_standby_that_has_everything_waits_for_a_person_and_needs_no_force(
    server: PostgresServer,
    standby: PostgresStandby,
    proxy: FaultProxy,
    url: str,
    opened: Open,
) -> None:
    service = opened(url)
    service.trade(1)
    wait_until(lambda: "witness" in service.detail())
    service.failsafe.halt(actor="ann", reason="planned failover")
    standby.catch_up()
    fail_over(server, standby, proxy)
    wait_until(lambda: "timeline 2" in service.detail())
    service.wait_for_rounds()
    assert service.state is State.FAIL_SAFE

    plan = service.failsafe.plan_reset()
    assert plan.is_allowed
    assert (plan.missing, plan.accepts) == ((), ("database", "fence"))
    assert "is on timeline 2 and was on 1" in plan.releases[-2]
    assert "the witness is intact" in plan.releases[-2]
    assert "ann halted everything" in plan.releases[-1], "the standby has the halt too"

    service.failsafe.reset(actor="ann", reason="the standby has all of it")
    [reset] = service.resets
    assert (reset.failed, reset.accepted) == ((), ("database", "fence"))
    service.wait_for_rounds()
    assert service.failsafe.is_normal, "what was accepted is the new baseline"
    service.trade(2)

    service.close()
    after = opened(url)
    assert after.state is State.NORMAL, "also for the process after this one"


def test_a_new_timeline_trips_a_service_that_is_normal_and_sees_no_failure(
    server: PostgresServer,
    standby: PostgresStandby,
    proxy: FaultProxy,
    url: str,
    opened: Open,
) -> None:
    """Nothing is asked between the last probe on the old server and the first on the new one."""
    service = opened(url, probe_interval=3600.0)
    standby.catch_up()
    fail_over(server, standby, proxy)
    service.wait_for_rounds(1)
    assert service.kinds == ["timeline_changed"]
    incident = service.failsafe.incident
    assert incident is not None
    assert incident.needs_person
    assert service.failsafe.plan_reset().accepts == ("database",)


def test_an_outage_that_turns_out_to_be_a_failover_waits_for_a_person(
    server: PostgresServer,
    standby: PostgresStandby,
    proxy: FaultProxy,
    url: str,
    opened: Open,
) -> None:
    """The incident was opened for another cause; it is held, and who was paged is told."""
    service = opened(url)
    server.kill()
    service.wait_for(State.FAIL_SAFE)
    fail_over(server, standby, proxy)
    wait_for_finding(service, "timeline_changed")
    service.wait_for_rounds()
    assert service.state is State.FAIL_SAFE
    service.sink.wait_for(lambda alert: alert.message.startswith("waits for a person"))
    assert len(service.kinds) == len(set(service.pages)) == 1


# A standby took over and lacks something


def test_a_promoted_standby_that_lacks_a_write_needs_force(
    server: PostgresServer,
    standby: PostgresStandby,
    proxy: FaultProxy,
    url: str,
    opened: Open,
) -> None:
    service = opened(url)
    standby.detach()
    service.trade(1)
    before = service.detail()
    wait_until(lambda: service.detail() != before)  # the witness has risen, and is lost too
    fail_over(server, standby, proxy)
    wait_for_finding(service, "writes_lost")
    service.wait_for_rounds(5)
    assert "has lost committed writes: the witness is at" in service.detail()

    plan = service.failsafe.plan_reset()
    assert not plan.is_allowed
    assert plan.missing == UNTRUSTED
    with pytest.raises(ResetRefusedError, match="these checks failed: database"):
        service.failsafe.reset(actor="ann", reason="hope")
    service.failsafe.reset(actor="ann", reason="trade 1 was entered by hand", force=True)
    [reset] = service.resets
    assert reset.failed == UNTRUSTED
    forced = service.sink.wait_for(lambda alert: alert.kind == "forced_reset")[-1]
    assert "FORCED" in forced.message
    service.wait_for_rounds()
    assert service.state is State.NORMAL, "what was accepted is the new baseline"


def test_a_trade_that_was_lost_between_two_probes_shows_by_its_receipt(
    server: PostgresServer,
    standby: PostgresStandby,
    proxy: FaultProxy,
    url: str,
    opened: Open,
) -> None:
    """The witness is intact: it did not rise since."""
    service = opened(url, probe_interval=3600.0)
    standby.catch_up()
    standby.detach()
    service.trade(1, key="order-with-a-name")
    service.trade(2)
    fail_over(server, standby, proxy)
    service.wait_for_rounds(1)
    assert service.kinds == ["writes_lost"]
    assert "at least 2 transactions that were acknowledged are missing" in service.detail()
    assert "order-with-a-name" not in service.failsafe.plan_reset().why[0]
    with pytest.raises(ResetRefusedError):
        service.failsafe.reset(actor="ann", reason="hope")

    service.close()
    after = opened(url, probe_interval=3600.0)
    assert after.failsafe.plan_reset().missing == UNTRUSTED, "the store remembers"
    after.failsafe.reset(actor="ann", reason="entered by hand", force=True)
    after.wait_for_rounds(1)
    assert after.state is State.NORMAL


# Another database


def test_another_cluster_under_the_same_url_is_never_accepted_without_force(
    proxy: FaultProxy, url: str, opened: Open, other: PostgresServer
) -> None:
    service = opened(url)
    proxy.redirect(other)
    proxy.reset()
    wait_for_finding(service, "cluster_changed")
    service.wait_for_rounds()
    assert service.detail() == "database 'database' is another one than before under the same URL"
    with pytest.raises(ResetRefusedError):
        service.failsafe.reset(actor="ann", reason="hope")
    assert other.execute("SELECT count(*) FROM failstop.witness") == [(0,)]
    service.failsafe.reset(actor="ann", reason="moved there on purpose", force=True)
    service.wait_for_rounds()
    assert service.state is State.NORMAL


@pytest.fixture
def other(server: PostgresServer) -> Iterator[PostgresServer]:
    """A cluster of its own, where the same login leads to the same names."""
    with PostgresServer(bindir=server.bindir, copied=False) as other:
        other.create_schema()
        other.execute("CREATE TABLE trades (n integer)")
        password = server.url().partition("postgres:")[2].partition("@")[0]
        other.execute(f"ALTER ROLE postgres PASSWORD '{password}'")
        yield other


def test_another_database_of_the_same_name_is_another_one(
    server: PostgresServer, opened: Open
) -> None:
    service = opened(server.create_database("again"))
    service.failsafe.halt(actor="ann", reason="maintenance")
    server.drop_database("again")
    server.create_database("again")
    wait_until(lambda: "is another one than before" in service.detail())
    assert service.failsafe.plan_reset().missing == UNTRUSTED
    service.close()
    server.drop_database("again")


# An old backup


@pytest.fixture
def backup(server: PostgresServer, tmp_path: Path) -> Path:
    """A cold copy of the server, made now."""
    server.stop()
    copy = tmp_path / "backup"
    shutil.copytree(server.data, copy, copy_function=shutil.copy)
    server.start()
    return copy


def restore(server: PostgresServer, backup: Path) -> None:
    """Put the copy in the place of the data, whose owner keeps the right to it."""
    owner = server.data.stat()
    server.stop("immediate")
    shutil.rmtree(server.data)
    shutil.copytree(backup, server.data)
    for path in (server.data, *server.data.rglob("*")):
        shutil.chown(path, owner.st_uid, owner.st_gid)
    server.data.chmod(0o700)
    server.start()


def test_a_restored_backup_is_found_while_the_service_runs(
    server: PostgresServer, backup: Path, url: str, opened: Open
) -> None:
    service = opened(url)
    service.trade(1)
    restore(server, backup)
    wait_for_finding(service, "writes_lost")
    service.wait_for_rounds()
    assert service.state is State.FAIL_SAFE
    assert not service.failsafe.plan_reset().is_allowed


def test_a_restored_backup_is_found_by_the_next_process(
    server: PostgresServer, backup: Path, url: str, opened: Open, tmp_path: Path
) -> None:
    before = opened(url)
    before.trade(1)
    before.wait_for_rounds()
    before.close()
    restore(server, backup)
    service = opened(url)
    assert service.state is State.FAIL_SAFE
    assert service.kinds == ["writes_lost"]
    assert "has lost committed writes: the witness is" in service.detail()
    service.close()

    seen = service.failsafe.epoch
    offline.reset(
        tmp_path / "desk.db", actor="ann", reason="entered by hand", epoch=seen, force=True
    )
    again = opened(url)
    assert again.state is State.NORMAL, "a reset of the store alone accepts what was seen last"
