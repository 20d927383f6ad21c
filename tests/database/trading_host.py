"""A worker of a host that trades as fast as it can, for the tests of a halt.

Run with a store, a URL, an isolation level, a driver, a file for its counts and a word: "fenced",
or "bare" for one whose transactions take no lock on the fence, so that a test can be seen to fail.
It writes how often it was let through and how often it was refused, and ends with its input.
"""

from __future__ import annotations

import mmap
import struct
import sys
import threading
import time
from pathlib import Path

from sqlalchemy import text

from failstop import CriticalError, Database, FailSafe, Recovery
from failstop.database import _opening

COUNTS = struct.Struct("=qq")
TRADE = text("INSERT INTO ledger (host) VALUES (:host)")
PAUSE = text("SELECT pg_sleep(0.01)")


def main(store: str, url: str, level: str, counts: str, word: str) -> None:
    if word == "bare":
        vars(_opening)["LOCK"] = "SELECT 1"
    failsafe = FailSafe(
        "trading", store=store, recovery=Recovery(probe_interval=0.2, consecutive=1)
    )
    database = Database.connect(url, failsafe, deadline=5.0)
    is_over = threading.Event()
    threading.Thread(target=_wait_for_the_end, args=(is_over,), daemon=True).start()
    with failsafe, Path(counts).open("r+b") as file:
        page = mmap.mmap(file.fileno(), COUNTS.size)
        done = refused = 0
        while not is_over.is_set():
            try:
                with database.transaction(isolation_level=level) as connection:  # type: ignore[arg-type]
                    connection.execute(TRADE, {"host": store})
                    connection.execute(PAUSE)
            except CriticalError:
                refused += 1
                time.sleep(0.002)
            else:
                done += 1
            COUNTS.pack_into(page, 0, done, refused)


def _wait_for_the_end(is_over: threading.Event) -> None:
    sys.stdin.read()
    is_over.set()


if __name__ == "__main__":
    main(*sys.argv[1:])
