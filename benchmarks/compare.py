"""Measure everything in one run and print the ratios that DESIGN section 10 bounds.

`python benchmarks/compare.py [--fast]`: starts a PostgreSQL of its own. A ratio above its bound is
marked; the exit code is 0 all the same, since machines are noisy: read it, run it again.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import freed
import pyperf

from failstop.testing import PostgresServer

ADDED = [
    ("protected handler, added cost", "call", 0.8),
    ("protected async handler, added cost", "async", 0.8),
]
RATIOS = [
    ("refusal in fail-safe mode", "refusal failstop", "refusal circuitbreaker", 1.0),
    ("query()", "query failstop", "query plain", 1.05),
    ("transaction()", "transaction failstop", "transaction plain", 1.5),
    ("a statement, watchdog armed", "statement failstop", "statement plain", 1.05),
]


def measure(output: Path, arguments: list[str]) -> dict[str, float]:
    """Return the median seconds of each benchmark."""
    with PostgresServer(settings={"synchronous_commit": "off"}) as server:
        server.execute("CREATE UNLOGGED TABLE bench (x integer)")
        environment = {**os.environ, "FAILSTOP_BENCH_URL": server.url(transport="socket")}
        subprocess.run(
            [
                *(sys.executable, str(Path(__file__).with_name("measured.py"))),
                *("--inherit-environ", "FAILSTOP_BENCH_URL", "-o", str(output), *arguments),
            ],
            env=environment,
            check=True,
        )
    suite = pyperf.BenchmarkSuite.load(str(output))
    return {bench.get_name(): bench.median() for bench in suite}


def report(seconds: dict[str, float]) -> None:
    for title, kind, bound in ADDED:
        bare = seconds[f"{kind} bare"]
        ours = seconds[f"{kind} failstop"] - bare
        theirs = seconds[f"{kind} circuitbreaker"] - bare
        show(title, ours / theirs, bound, f"{ours * 1e9:.0f} ns against {theirs * 1e9:.0f} ns")
    for title, ours_name, theirs_name, bound in RATIOS:
        ours, theirs = seconds[ours_name], seconds[theirs_name]
        show(title, ours / theirs, bound, f"{ours * 1e6:.1f} µs against {theirs * 1e6:.1f} µs")
    added = seconds["trip store"] - seconds["trip memory"]
    print(f"{'a trip made durable, added':40} {added * 1e6:8.0f} µs")
    loads = [import_seconds("failstop") - import_seconds("sqlalchemy") for _ in range(5)]
    print(f"{'import failstop over import sqlalchemy':40} {statistics.median(loads) * 1e3:8.1f} ms")


def show(title: str, ratio: float, bound: float, detail: str) -> None:
    mark = "" if ratio <= bound else "  ABOVE ITS BOUND"
    print(f"{title:40} {ratio:8.2f} x  (bound {bound:g} x; {detail}){mark}")


def import_seconds(module: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - begun


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="failstop-bench-") as folder:
        report(measure(Path(folder) / "results.json", sys.argv[1:]))
    freed.report()
