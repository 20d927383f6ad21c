"""The roll: which processes there are, and when each was last heard of."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.fleet.conftest import QUICK, Host, Hosts
from tests.waiting import wait_until

from failstop.cli import main
from failstop.errors import ConfigurationError
from failstop.testing import PostgresDatabase, PostgresServer

Captured = pytest.CaptureFixture[str]

OTHER = """
import os, sys, time
from failstop import Database, FailSafe, Recovery
store = sys.argv[2] if len(sys.argv) > 2 else None
failsafe = FailSafe("trading", store=store, recovery=Recovery(probe_interval=0.1))
Database.connect(sys.argv[1], failsafe)
failsafe.start()
print("started", flush=True)
time.sleep(60)
"""


def age_all(postgres: PostgresDatabase, interval: str) -> None:
    postgres.execute(f"UPDATE failstop.process SET seen_at = seen_at - interval '{interval}'")


def test_the_roll_names_every_process_with_its_state(hosts: Hosts) -> None:
    first, second = hosts("first", recovery=QUICK), hosts("second", scope="venue-a")
    found = {each.scope: each for each in first.database.processes()}
    assert set(found) == {"", "venue-a"}
    mine = found[""]
    assert (mine.service, mine.host, mine.pid) == ("trading", socket.gethostname(), os.getpid())
    assert mine.version == version("failstop")
    assert not mine.is_silent
    second.halt()
    wait_until(lambda: {each.state for each in second.database.processes()} >= {"FAIL_SAFE"})


def test_a_process_that_is_killed_is_silent_and_one_that_closes_is_gone(
    hosts: Hosts, postgres: PostgresDatabase
) -> None:
    host = hosts("first")
    command = [sys.executable, "-c", OTHER, postgres.url()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"started\n"
        other.send_signal(signal.SIGKILL)
    [left] = [each for each in host.database.processes() if each.pid == other.pid]
    wait_until(
        lambda: [each.pid for each in host.database.processes() if each.is_silent] == [left.pid]
    )
    host.close()
    found = postgres.execute("SELECT pid FROM failstop.process")
    assert found == [(left.pid,)]


def test_of_the_processes_that_share_a_store_a_killed_one_is_silent_and_the_others_are_not(
    hosts: Hosts, postgres: PostgresDatabase, tmp_path: Path
) -> None:
    """One of them probes, and writes the rows of all."""
    elected, follower = (
        hosts(name, recovery=QUICK, store="shared") for name in ("elected", "follower")
    )
    command = [sys.executable, "-c", OTHER, postgres.url(), str(tmp_path / "shared.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"started\n"
        wait_until(lambda: len(elected.database.processes()) == 3)
        other.send_signal(signal.SIGKILL)
    silent = partial(silent_pids, elected)
    wait_until(lambda: silent() == [other.pid])
    follower.close()
    wait_until(lambda: len(elected.database.processes()) == 2)
    assert silent() == [other.pid]
    assert len(list(tmp_path.glob("shared.db-process-*"))) == 1


def silent_pids(host: Host) -> list[int]:
    return [each.pid for each in host.database.processes() if each.is_silent]


def test_who_was_not_heard_of_for_a_day_is_taken_off_the_roll(
    hosts: Hosts, postgres: PostgresDatabase
) -> None:
    hosts("first")
    age_all(postgres, "23 hours")
    second = hosts("second")
    assert len(second.database.processes()) == 2
    age_all(postgres, "2 hours")
    third = hosts("third")
    assert len(third.database.processes()) == 2


def test_a_database_without_the_table_says_how_to_make_it(
    postgres_server: PostgresServer, hosts: Hosts
) -> None:
    with postgres_server.fresh_database(with_schema=False) as database:
        host = hosts("first", url=database.url(), start=False)
        with pytest.raises(ConfigurationError, match="failstop schema apply"):
            host.database.processes()
        host.close()


# The command


def test_fleet_shows_every_process_and_exits_with_0_while_all_are_heard(
    hosts: Hosts, postgres: PostgresDatabase, capsys: Captured
) -> None:
    hosts("first")
    assert main(["fleet", "--url", postgres.url()]) == 0
    heads, row = capsys.readouterr().out.splitlines()
    assert heads.split()[:3] == ["service", "scope", "host"]
    assert row.split()[:4] == ["trading", "(all)", socket.gethostname(), str(os.getpid())]
    assert "NORMAL" in row or "STARTING" in row
    assert row.endswith("s ago")


def test_fleet_exits_with_1_where_a_process_is_silent(
    hosts: Hosts, postgres: PostgresDatabase, capsys: Captured
) -> None:
    hosts("first")
    age_all(postgres, "1 hour")
    assert main(["fleet", "--url", postgres.url()]) == 1
    assert capsys.readouterr().out.splitlines()[1].endswith("s ago, SILENT")
    assert main(["fleet", "--url", postgres.url(), "--json"]) == 1
    [told] = json.loads(capsys.readouterr().out)
    assert told["is_silent"]
    assert told["age"] >= 3600


def test_fleet_exits_with_1_where_nobody_is_known(
    postgres: PostgresDatabase, capsys: Captured
) -> None:
    assert main(["fleet", "--url", postgres.url()]) == 1
    assert "no process is known here" in capsys.readouterr().out


def test_fleet_needs_a_url(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert main(["fleet"]) == 2
    assert "give --url or set DATABASE_URL" in capsys.readouterr().err
