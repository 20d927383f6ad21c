"""A worker process for the tests: a FailSafe that does what its standard input says, line by line.

Arguments: the store's path, the settings as JSON, the database's URL or nothing. Each command is
answered by one line of JSON; moments are those of `time.monotonic()`, which all processes share.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

from failstop import Database, FailSafe, Recovery
from failstop.errors import CriticalError, DatabaseUnavailableError, OperationsSuspendedError


class Worker:
    def __init__(self, store: str, settings: dict[str, Any], url: str | None) -> None:
        self.failsafe = FailSafe("trading-api", store=store, recovery=Recovery(**settings))
        self.database = None
        if url is not None:
            self.database = Database.connect(url, self.failsafe, deadline=5.0, pool_size=2)
        self.passed: list[float] = []
        self.refused = 0
        self.work: dict[str, Any] = {}
        self.is_calling = False

    def start(self) -> None:
        self.failsafe.start()

    def state(self) -> dict[str, Any]:
        status = self.failsafe.status()
        incident = self.failsafe.incident
        return {
            "pid": os.getpid(),
            "state": self.failsafe.state,
            "epoch": self.failsafe.epoch,
            "needs_person": incident is not None and incident.needs_person,
            "kind": incident.kind if incident else None,
            "cause": incident.cause if incident else None,
            "age": status.age,
            "checks": {check.name: check.is_passed for check in status.checks},
        }

    def trip(self) -> float:
        self.failsafe.trip(DatabaseUnavailableError("gone", kind="refused"))
        return time.monotonic()

    def halt(self) -> float:
        self.failsafe.halt(actor="ann", reason="a test")
        return time.monotonic()

    def reset(self) -> float:
        self.failsafe.reset(actor="ann", reason="a test")
        return time.monotonic()

    def require(self) -> bool:
        try:
            self.failsafe.require()
        except OperationsSuspendedError:
            return False
        return True

    def call(self) -> None:
        """Call without a pause in a thread of its own, until a call is refused."""

        def run() -> None:
            while self.is_calling:
                began = time.monotonic()
                if not self.require():
                    break
                self.passed.append(began)

        self.is_calling = True
        threading.Thread(target=run, daemon=True).start()

    def calls(self) -> dict[str, Any]:
        self.is_calling = False
        return {"count": len(self.passed), "last": self.passed[-1] if self.passed else None}

    def commit(self) -> str:
        """Commit a transaction under a key of its own, and return that."""
        assert self.database is not None
        key = f"order-{os.getpid()}"
        with self.database.transaction(key=key) as connection:
            connection.exec_driver_sql("SELECT 1")
        return key

    def transact(self) -> None:
        """Begin a transaction in a thread of its own that waits in the server for a minute."""

        def run() -> None:
            assert self.database is not None
            try:
                with self.database.transaction() as connection:
                    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                    self.work["began"] = True
                    connection.exec_driver_sql("SELECT pg_sleep(4)")
            except CriticalError as error:
                self.work["error"] = type(error).__name__
            self.work["ended"] = time.monotonic()

        threading.Thread(target=run, daemon=True).start()

    def working(self) -> dict[str, Any]:
        return self.work

    def elected(self) -> bool:
        return self.failsafe._rounds.election.is_elected

    def fork(self) -> int:
        """Fork a child that lives on for a minute, whatever becomes of this process."""
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        return child


def main() -> None:
    store, settings, url = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3] or None
    worker = Worker(store, settings, url)
    for line in sys.stdin:
        print(json.dumps(getattr(worker, line.strip())()), flush=True)
    worker.failsafe.close()


if __name__ == "__main__":
    main()
