"""Measure how long after a trip the last of many blocked threads comes back; run by `compare.py`.

`python benchmarks/freed.py`: 200 threads in a statement on a frozen server, or 200 that wait for
the only connection of a pool; a PostgreSQL of its own. The bound is 50 ms.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable

from failstop import Database, FailSafe, Recovery
from failstop.testing import PostgresServer

THREADS = 200
ROUNDS = 5
BOUND = 0.05
SLEEP = "SELECT pg_sleep(60)"
ASLEEP = f"SELECT count(*) FROM pg_stat_activity WHERE query = '{SLEEP}' AND state = 'active'"


def freed_after(server: PostgresServer, driver: str, size: int) -> float:
    """Return the seconds from a trip to the return of the last of the blocked threads."""
    failsafe = FailSafe("bench", recovery=Recovery(probe_interval=3600))
    url = server.url(driver=driver)
    database = Database.connect(url, failsafe, deadline=60, pool_size=size, max_overflow=0)
    freed: list[float] = []

    def call() -> None:
        try:
            database.query(SLEEP)
        except Exception:  # noqa: BLE001 - what it is, the tests look at
            freed.append(time.monotonic())

    with failsafe:
        threads = [threading.Thread(target=call, daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        wait_until(lambda: server.execute(ASLEEP)[0][0] == size)
        time.sleep(0.5)  # the rest queues up
        server.freeze("backends")
        tripped = time.monotonic()
        failsafe.halt(actor="bench", reason="bench")
        for thread in threads:
            thread.join()
        server.thaw()
    database.engine.dispose()
    server.restart("immediate")
    return max(freed) - tripped


def wait_until(is_true: Callable[[], bool]) -> None:
    while not is_true():
        time.sleep(0.02)


def report() -> None:
    with PostgresServer(settings={"max_connections": THREADS + 20}) as server:
        for driver in ("psycopg", "psycopg2"):
            for where, size in (("in a statement", THREADS), ("for the pool", 1)):
                took = sorted(freed_after(server, driver, size) for _ in range(ROUNDS))
                mark = "" if statistics.median(took) <= BOUND else "  ABOVE ITS BOUND"
                print(
                    f"{f'{THREADS} blocked {where}, {driver}':40} "
                    f"{statistics.median(took) * 1e3:8.1f} ms (bound {BOUND * 1e3:.0f} ms; "
                    f"{took[0] * 1e3:.1f} to {took[-1] * 1e3:.1f} ms){mark}"
                )


if __name__ == "__main__":
    report()
