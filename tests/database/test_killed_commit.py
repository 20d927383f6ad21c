"""Claim C5 across `kill -9`: a COMMIT under way in a killed process is in doubt, and found out."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.waiting import wait_until

from failstop import FailSafe
from failstop.database import Database
from failstop.errors import Outcome
from failstop.recovery import Recovery
from failstop.testing import FaultProxy, PostgresServer

CHILD = """
import sys
from sqlalchemy import text
from failstop import Database, FailSafe
from failstop.recovery import Recovery

failsafe = FailSafe("tests", store=sys.argv[1], recovery=Recovery(probe_interval=3600))
database = Database.connect(sys.argv[2], failsafe, deadline=60)
failsafe.start()
with database.transaction(key="order-1") as connection:
    connection.execute(text("INSERT INTO trades VALUES (1, 100)"))
"""


@pytest.mark.parametrize(
    ("is_forwarded", "outcome"), [(True, Outcome.COMMITTED), (False, Outcome.ROLLED_BACK)]
)
def test_the_next_process_finds_out_before_it_works(
    own_server: PostgresServer, tmp_path: Path, is_forwarded: bool, outcome: Outcome
) -> None:
    store = tmp_path / "failstop.db"
    with FaultProxy(own_server) as proxy:
        url = proxy.url(own_server.url())
        # the first two are of the probes at the start
        sent = proxy.after("COMMIT", forwarded=is_forwarded, nth=3).black_hole()
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(store), url])
        try:
            sent.wait(60)
            wait_until(lambda: not is_forwarded or count(own_server) == 1)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        own_server.terminate_backends()  # else what the proxy holds back would arrive at last
        proxy.heal()
        told: list[tuple[str, Outcome]] = []
        failsafe = FailSafe("tests", store=store, recovery=Recovery(probe_interval=0.1))
        failsafe.on_resolved(lambda key, found: told.append((key, found)))
        database = Database.connect(own_server.url(), failsafe)
        with failsafe:
            wait_until(lambda: failsafe.is_normal)
            assert told == [("order-1", outcome)]
            assert failsafe.in_doubt() == ()
        database.engine.dispose()
    assert count(own_server) == (outcome is Outcome.COMMITTED)
    assert [path.name for path in tmp_path.iterdir() if "commits" in path.name] == []


def count(server: PostgresServer) -> int:
    return int(server.execute("SELECT count(*) FROM trades")[0][0])
