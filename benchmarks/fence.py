"""What the fence costs: transactions a second with it and without, at 1, 8 and 32 connections.

Both run by turns in one run, and what is told is the median of their ratios: other work on the
machine hits both. The server is a local one with `synchronous_commit=off`, so that nothing hides
the cost.

    python benchmarks/fence.py [--fast]
"""

from __future__ import annotations

import statistics
import sys
import threading
import time

from sqlalchemy import text

from failstop import Database, FailSafe, Recovery
from failstop.testing import PostgresServer

CONNECTIONS = (1, 8, 32)
INSERT = text("INSERT INTO ledger (n) VALUES (1)")


def count(database: Database, connections: int, seconds: float) -> float:
    """Return the transactions a second that so many threads make."""
    until = time.monotonic() + seconds
    done = [0] * connections

    def work(number: int) -> None:
        while time.monotonic() < until:
            with database.transaction() as connection:
                connection.execute(INSERT)
            done[number] += 1

    began = time.monotonic()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.monotonic() - began)


def compare(server: PostgresServer, connections: int, turns: int, seconds: float) -> None:
    """Print what so many connections do with the fence and without it."""
    failsafe = FailSafe("bench", recovery=Recovery(probe_interval=3600))
    made = {
        fence: Database.connect(
            server.url(transport="socket"),
            failsafe,
            name=f"fence-{fence}",
            fence=fence,
            deadline=30.0,
            pool_size=connections,
        )
        for fence in (True, False)
    }
    rates: dict[bool, list[float]] = {True: [], False: []}
    with failsafe:
        for turn in range(turns + 1):
            for fence in (True, False) if turn % 2 else (False, True):
                rate = count(made[fence], connections, seconds)
                if turn:  # the first one warms up
                    rates[fence].append(rate)
    ratios = [a / b for a, b in zip(rates[True], rates[False], strict=True)]
    print(
        f"{connections:3} connections: {statistics.median(rates[True]):7.0f}/s with the fence, "
        f"{statistics.median(rates[False]):7.0f}/s without; "
        f"lost {100 * (1 - statistics.median(ratios)):.1f} %"
    )
    for database in made.values():
        database.engine.dispose()


def main() -> None:
    """Compare at each number of connections."""
    turns, seconds = (4, 0.5) if "--fast" in sys.argv else (20, 1.0)
    settings = {"synchronous_commit": False, "max_connections": 100}
    with PostgresServer(settings=settings) as server:
        server.create_schema()
        server.execute("CREATE TABLE ledger (id bigserial PRIMARY KEY, n integer)")
        for connections in CONNECTIONS:
            compare(server, connections, turns, seconds)


if __name__ == "__main__":
    main()
