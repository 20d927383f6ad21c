"""Claim C7 with processes: three hosts trade, one halts, and the ledger is still.

What counts are the server's own commit timestamps, not what anybody was told.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.database.trading_host import COUNTS
from tests.waiting import wait_until

from failstop import Database, FailSafe, Recovery
from failstop._fence import HaltReport
from failstop.testing import PostgresServer

HOSTS = 3
WORKERS = 2
LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
SCRIPT = Path(__file__).with_name("trading_host.py")


class Worker:
    """One process that trades."""

    def __init__(self, counts: Path, *arguments: str) -> None:
        self.counts = counts
        counts.write_bytes(bytes(COUNTS.size))
        command = [sys.executable, str(SCRIPT), *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE)

    @property
    def done(self) -> int:
        done, _ = COUNTS.unpack(self.counts.read_bytes())
        return int(done)

    @property
    def refused(self) -> int:
        _, refused = COUNTS.unpack(self.counts.read_bytes())
        return int(refused)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(30)
        finally:
            self.process.kill()


class Fleet:
    """The hosts: each has a store, and workers that share it; this process is of the first one."""

    def __init__(
        self, server: PostgresServer, place: Path, level: str, word: str, stack: ExitStack
    ) -> None:
        self.server = server
        stores = [place / f"host-{number}.db" for number in range(HOSTS)]
        recovery = Recovery(probe_interval=0.2, consecutive=1)
        self.failsafe = FailSafe("trading", store=stores[0], recovery=recovery)
        self.database = Database.connect(server.url(), self.failsafe)
        stack.callback(self.database.engine.dispose)
        stack.enter_context(self.failsafe)
        self.workers = [
            Worker(
                place / f"counts-{number}",
                *(str(stores[number % HOSTS]), server.url(), level),
                *(str(place / f"counts-{number}"), word),
            )
            for number in range(HOSTS * WORKERS)
        ]
        for worker in self.workers:
            stack.callback(worker.close)
        self.wait_until_trading()

    def wait_until_trading(self, seconds: float = 60.0) -> None:
        before = [worker.done for worker in self.workers]
        wait_until(
            lambda: all(w.done > b + 1 for w, b in zip(self.workers, before, strict=True)), seconds
        )

    def wait_until_refused(self) -> None:
        before = [worker.refused for worker in self.workers]
        wait_until(
            lambda: all(w.refused > b + 2 for w, b in zip(self.workers, before, strict=True))
        )

    def halt(self, **settings: Any) -> HaltReport:
        return self.failsafe.halt(actor="ann", reason="odd fills", **settings)

    def reset(self) -> None:
        self.failsafe.reset(actor="bob", reason="understood")

    def now(self) -> datetime:
        [(now,)] = self.server.execute("SELECT clock_timestamp()")
        assert isinstance(now, datetime)
        return now

    def commits_after(self, moment: datetime) -> int:
        [(count,)] = self.server.execute(
            "SELECT count(*) FROM ledger WHERE pg_xact_commit_timestamp(xmin) > %s", [moment]
        )
        return int(count)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(settings={"track_commit_timestamp": True}) as server:
        server.create_schema()
        server.execute("CREATE TABLE ledger (id bigserial PRIMARY KEY, host text NOT NULL)")
        yield server


@pytest.fixture
def place(server: PostgresServer, tmp_path: Path) -> Path:
    server.execute("TRUNCATE ledger, failstop.receipt, failstop.fence, failstop.witness")
    return tmp_path


@pytest.mark.parametrize("level", LEVELS)
def test_no_host_commits_after_a_halt_has_returned(
    server: PostgresServer, place: Path, level: str
) -> None:
    with ExitStack() as stack:
        fleet = Fleet(server, place, level, "fenced", stack)
        for _ in range(3):
            report = fleet.halt()
            returned = fleet.now()
            assert report.is_exact
            fleet.wait_until_refused()
            assert fleet.commits_after(returned) == 0
            fleet.reset()
            fleet.wait_until_trading()


@pytest.mark.chaos  # how many halts it takes is a matter of luck
def test_without_the_lock_the_same_test_finds_commits_after_the_halt(
    server: PostgresServer, place: Path
) -> None:
    """The proof that the tests above can fail: they read the fence, but hold no lock on it."""
    with ExitStack() as stack:
        fleet = Fleet(server, place, LEVELS[0], "bare", stack)
        found = 0
        for _ in range(10):
            assert fleet.halt().is_exact
            returned = fleet.now()
            fleet.wait_until_refused()
            found = fleet.commits_after(returned)
            if found:
                break
            fleet.reset()
            fleet.wait_until_trading()
        assert found > 0


def test_a_worker_that_hangs_in_a_transaction_is_named_and_ended_by_force(
    server: PostgresServer, place: Path
) -> None:
    with ExitStack() as stack:
        fleet = Fleet(server, place, LEVELS[0], "fenced", stack)
        hanging = stack.enter_context(psycopg.connect(server.url(driver=None)))
        hanging.execute("LOCK TABLE failstop.fence IN ROW SHARE MODE")
        hanging.execute("INSERT INTO ledger (host) VALUES ('hanging')")
        report = fleet.halt(timeout=0.5)
        assert [each.pid for each in report.databases[0].stragglers] == [hanging.info.backend_pid]
        report = fleet.halt(timeout=2.0, terminate=True)
        returned = fleet.now()
        assert report.is_exact
        with pytest.raises(psycopg.OperationalError):
            hanging.commit()
        fleet.wait_until_refused()
        assert fleet.commits_after(returned) == 0


def test_a_dump_that_runs_is_not_waited_for(server: PostgresServer, place: Path) -> None:
    """pg_dump itself, slowed down by a table that it must wait for until the halt has returned."""
    server.execute("CREATE TABLE IF NOT EXISTS slow (id int)")
    with ExitStack() as stack:
        fleet = Fleet(server, place, LEVELS[0], "fenced", stack)
        blocker = stack.enter_context(psycopg.connect(server.url(driver=None)))
        blocker.execute("LOCK TABLE slow IN ACCESS EXCLUSIVE MODE")
        dump = subprocess.Popen(
            [str(server.bindir / "pg_dump"), "-d", server.url(driver=None), "-t", "failstop.fence",
             "-t", "slow", "-t", "ledger"],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        stack.callback(dump.wait, 30)
        stack.callback(blocker.rollback)
        wait_until(lambda: _waits_for(server, "slow"))
        report = fleet.halt(timeout=5.0)
        assert report.is_exact
        assert dump.poll() is None
        fleet.reset()
        fleet.wait_until_trading()
        blocker.rollback()
        assert dump.wait(30) == 0


def _waits_for(server: PostgresServer, table: str) -> bool:
    rows = server.execute(
        "SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted "
        "AND relation = to_regclass(%s) AND application_name = 'pg_dump'",
        [table],
    )
    return rows != []


def _loop(fleet: Fleet, rounds: int) -> None:
    for _ in range(rounds):
        assert fleet.halt().is_exact
        returned = fleet.now()
        assert fleet.commits_after(returned) == 0
        fleet.reset()
        assert fleet.failsafe.is_normal
    fleet.wait_until_trading()


def test_many_halts_and_resets_leave_a_fleet_that_trades(
    server: PostgresServer, place: Path
) -> None:
    with ExitStack() as stack:
        fleet = Fleet(server, place, LEVELS[1], "fenced", stack)
        _loop(fleet, 20)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("level", LEVELS)
def test_a_thousand_halts_and_resets(server: PostgresServer, place: Path, level: str) -> None:
    with ExitStack() as stack:
        fleet = Fleet(server, place, level, "fenced", stack)
        _loop(fleet, 334)


def test_halts_from_two_hosts_at_once_are_both_exact(server: PostgresServer, place: Path) -> None:
    with ExitStack() as stack:
        fleet = Fleet(server, place, LEVELS[2], "fenced", stack)
        second = FailSafe("trading", store=place / "host-1.db", recovery=Recovery())
        database = Database.connect(server.url(), second)
        stack.callback(database.engine.dispose)
        stack.enter_context(second)
        reports: list[HaltReport] = []
        threads = [
            threading.Thread(
                target=lambda each=each: reports.append(each.halt(actor="ann", reason="odd"))
            )
            for each in (fleet.failsafe, second)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        returned = fleet.now()
        assert [report.is_exact for report in reports] == [True, True]
        fleet.wait_until_refused()
        assert fleet.commits_after(returned) == 0
