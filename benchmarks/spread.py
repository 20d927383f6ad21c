"""Measure how long after a halt each worker refuses, on the same host and on others.

`python benchmarks/spread.py [ROUNDS]`: three hosts of two processes, each host with a store of its
own, and a PostgreSQL of its own. The bounds are 1 ms on the host and 50 ms (p99) across hosts, from
the return of `halt()`; a refusal that came before it counts as 0. What is measured from the call
holds the writing of the halt, and the wait for whoever had begun before.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from failstop import Database, FailSafe, Recovery
from failstop.testing import PostgresServer

HOSTS = 3
WORKERS = 2
ROUNDS = 50
LOOK = 0.0002
BOUNDS = {"same host": 0.001, "other hosts": 0.050}


def work(url: str, store: str, pipe: Connection) -> None:
    """Be one worker: say when it refuses, and halt or reset where that is asked for."""
    failsafe = FailSafe("bench", store=store, recovery=Recovery(probe_interval=0.5, consecutive=1))
    Database.connect(url, failsafe)
    failsafe.start()
    while True:
        wait_until(failsafe, is_normal=True)
        pipe.send("normal")
        if pipe.recv() == "halt":
            called = time.monotonic()
            failsafe.halt(actor="bench", reason="bench")
            pipe.send((called, time.monotonic()))
            pipe.recv()
            failsafe.reset(actor="bench", reason="bench")
        else:
            wait_until(failsafe, is_normal=False)
            pipe.send(time.monotonic())


def wait_until(failsafe: FailSafe, *, is_normal: bool) -> None:
    while failsafe.is_normal is not is_normal:
        time.sleep(LOOK)


def measure(pipes: Sequence[Connection], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return the seconds from the call and from the return of `halt()` to each refusal."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in BOUNDS}
    for _ in range(rounds):
        for pipe in pipes:
            pipe.recv()
        for number, pipe in enumerate(pipes):
            if number:
                pipe.send("watch")
        time.sleep(0.05)
        pipes[0].send("halt")
        called, returned = pipes[0].recv()
        refused = [pipe.recv() for pipe in pipes[1:]]
        for number, at in enumerate(refused, start=1):
            where = "same host" if number < WORKERS else "other hosts"
            found[where].append((at - called, max(0.0, at - returned)))
        pipes[0].send("reset")
    return found


def report(rounds: int) -> None:
    context = multiprocessing.get_context("spawn")
    with PostgresServer() as server, tempfile.TemporaryDirectory() as directory:
        server.create_schema()
        pipes = []
        for number in range(HOSTS * WORKERS):
            mine, theirs = context.Pipe()
            store = str(Path(directory) / f"host-{number // WORKERS}.db")
            facts = (server.url(), store, theirs)
            context.Process(target=work, args=facts, daemon=True).start()
            pipes.append(mine)
        found = measure(pipes, rounds)
        for child in multiprocessing.active_children():
            child.kill()
            child.join()
    for where, times in found.items():
        since_call, since_return = zip(*times, strict=True)
        line = f"{where:12} from the call {spread(since_call)}, from the return "
        print(f"{line}{spread(since_return)} (bound {1000 * BOUNDS[where]:g} ms)")


def spread(times: Sequence[float]) -> str:
    ranked = statistics.quantiles(times, n=100)
    return f"p50 {1000 * ranked[49]:6.2f} ms, p99 {1000 * ranked[98]:6.2f} ms"


if __name__ == "__main__":
    report(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
