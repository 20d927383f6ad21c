"""The commands on the store of a real process, while it and its database are dead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.waiting import wait_until

from failstop import journal
from failstop.testing import FaultProxy, PostgresDatabase

Run = Callable[..., "subprocess.CompletedProcess[str]"]

SERVICE = """
import os, sys
from failstop import Database, FailSafe, Recovery
failsafe = FailSafe("trading", store=sys.argv[1], recovery=Recovery(probe_interval=0.2))
Database.connect(os.environ["DATABASE_URL"], failsafe, deadline=1.0, connect_deadline=1.0)
with failsafe:
    print("started", flush=True)
    sys.stdin.read()
"""
WHO = ("--actor", "alice", "--reason", "OPS-112")


@contextmanager
def service(store: Path, url: str) -> Iterator[subprocess.Popen[str]]:
    """Run the service; kill it with SIGKILL at the end."""
    command = [sys.executable, "-c", SERVICE, str(store)]
    environment = {**os.environ, "DATABASE_URL": url}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def test_a_store_tells_and_takes_what_a_person_needs_while_all_else_is_dead(
    tmp_path: Path, postgres: PostgresDatabase, fault_proxy: FaultProxy, run: Run
) -> None:
    store, url = tmp_path / "service.db", fault_proxy.url(postgres.url())

    def told(*words: object) -> dict[str, Any]:
        done = run(*words, "--store", store, "--json")
        report: dict[str, Any] = json.loads(done.stdout)
        return {**report, "exit": done.returncode}

    with service(store, url):
        wait_until(lambda: told("status")["exit"] == 0)
        fault_proxy.refuse()
        fault_proxy.reset()
        wait_until(lambda: told("status")["exit"] == 1)
    # the process is killed, and nobody can reach the database
    report = told("status")
    assert report["failSafeMode"]["state"] == "FAIL_SAFE"
    assert report["database"]["status"] != "up"
    halted = told("halt", *WHO)
    assert (halted["exit"], halted["halted"]) == (0, True)
    plan = told("plan")
    assert (plan["exit"], plan["epoch"]) == (1, halted["epoch"])
    assert {"observation", "database"} <= set(plan["missing"])
    assert told("reset", *WHO)["exit"] == 1
    assert told("reset", *WHO, "--force", "--yes")["exit"] == 0
    assert journal.check(store).is_sound
    with service(store, url):  # the reset was a person's word; the database is dead all the same
        report = told("status")
        assert report["exit"] == 1
        assert report["failSafeMode"]["state"] == "FAIL_SAFE"
        fault_proxy.heal()
        wait_until(lambda: told("status")["exit"] == 0)
