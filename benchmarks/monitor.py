"""Measure what the monitor costs an idle service: its share of one core, at a round each second.

`python benchmarks/monitor.py [SECONDS]`: starts a PostgreSQL of its own, and three workers on one
store: the elected one asks the database, the others take over what it saw. DESIGN section 10 bounds
the share of each; a machine that is busy makes it larger.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from failstop import Database, FailSafe
from failstop.testing import PostgresServer

BOUND = 0.005
"""The share of one core that the monitor may take."""
SETTLE = 3.0
"""Seconds before the measurement, for what is done once only."""


def measure(url: str, store: str, seconds: float) -> dict[str, object]:
    """Return what this process used while it did nothing but look; called in a worker."""
    failsafe = FailSafe("bench", store=store)
    Database.connect(url, failsafe)
    with failsafe:
        time.sleep(SETTLE)
        elected = failsafe._rounds.election.is_elected
        began, used = time.monotonic(), time.process_time()
        time.sleep(seconds)
        share = (time.process_time() - used) / (time.monotonic() - began)
        assert failsafe.is_normal
    return {"share": share, "elected": elected}


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    with (
        tempfile.TemporaryDirectory(prefix="failstop-bench-") as folder,
        PostgresServer() as server,
    ):
        server.create_schema()
        store = str(Path(folder) / "failstop.db")
        command = [sys.executable, __file__, "--worker", server.url(), store, str(seconds)]
        workers = []
        for _ in range(3):
            workers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            time.sleep(0.5)
        found = [json.loads(worker.communicate()[0]) for worker in workers]
    for each in sorted(found, key=lambda each: not each["elected"]):
        name = "elected" if each["elected"] else "follows"
        mark = "" if each["share"] <= BOUND else "  ABOVE ITS BOUND"
        print(f"monitor, {name:8} {each['share']:8.2%} of a core  (bound {BOUND:.1%}){mark}")


if __name__ == "__main__":
    if "--worker" in sys.argv:
        json.dump(measure(sys.argv[2], sys.argv[3], float(sys.argv[4])), sys.stdout)
        sys.stdout.flush()
        os._exit(0)
    main()
