"""Measure how soon a trip in one process is refused in another one of the same host.

`python benchmarks/doorbell.py [TRIPS]`: the other process calls without a pause. Counted is the
time from the call of `trip()`, which writes the store and waits for the disk, and from its return.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from failstop import FailSafe, OperationsSuspendedError, Recovery
from failstop.errors import CriticalError

HOURLY = Recovery(probe_interval=3600.0)


def call(pipe: Connection, store: str) -> None:
    """Call until refused, and say when that was; again for as long as it is asked for."""
    with FailSafe("bench", store=store, recovery=HOURLY) as failsafe:
        pipe.send("ready")
        while pipe.recv():
            while not failsafe.is_normal:
                time.sleep(0.001)
            pipe.send("calling")
            try:
                while True:
                    failsafe.require()
            except OperationsSuspendedError:
                pipe.send(time.monotonic())


def measure(failsafe: FailSafe, pipe: Connection) -> tuple[float, float]:
    """Return the seconds from the call of `trip()`, and from its return, to the refusal."""
    pipe.send(True)
    pipe.recv()
    called = time.monotonic()
    failsafe.trip(CriticalError("bench"))
    returned = time.monotonic()
    refused = pipe.recv()
    failsafe.reset(actor="bench", reason="bench", force=True)
    return refused - called, refused - returned


def main() -> None:
    trips = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="failstop-bench-") as folder:
        store = str(Path(folder) / "failstop.db")
        other = context.Process(target=call, args=(theirs, store))
        other.start()
        mine.recv()
        with FailSafe("bench", store=store, recovery=HOURLY) as failsafe:
            found = [measure(failsafe, mine) for _ in range(trips)]
            mine.send(False)
            other.join()
    for name, times in zip(("called", "returned"), zip(*found, strict=True), strict=True):
        cuts = statistics.quantiles(times, n=100)
        print(
            f"refused in the other process after trip() {name:8} "
            f"p50 {cuts[49] * 1e3:7.2f} ms   p99 {cuts[98] * 1e3:7.2f} ms"
        )


if __name__ == "__main__":
    main()
