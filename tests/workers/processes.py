"""A service whose workers are made by `multiprocessing`; arguments: the method, and the store.

The parent halts; then every child says whether it would let a call pass. Printed as JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from failstop import FailSafe, OperationsSuspendedError, Recovery

HOURLY = Recovery(probe_interval=3600.0)

inherited: FailSafe | None = None


def work(pipe: Connection, store: str) -> None:
    failsafe = inherited
    if failsafe is None:
        failsafe = FailSafe("trading-api", store=store, recovery=HOURLY)
        failsafe.start()
    with failsafe:
        pipe.send(passes(failsafe))
        pipe.recv()
        names = sorted(each.name for each in threading.enumerate() if "failstop" in each.name)
        pipe.send({"passes": passes(failsafe), "pid": os.getpid(), "threads": names})


def passes(failsafe: FailSafe) -> bool:
    try:
        failsafe.require()
    except OperationsSuspendedError:
        return False
    return True


def main() -> None:
    global inherited
    multiprocessing.set_start_method(sys.argv[1])
    store = sys.argv[2]
    with FailSafe("trading-api", store=store, recovery=HOURLY) as failsafe:
        inherited = failsafe
        pipes, children = [], []
        for _ in range(3):
            mine, theirs = multiprocessing.Pipe()
            child = multiprocessing.Process(target=work, args=(theirs, store))
            child.start()
            pipes.append(mine)
            children.append(child)
        before = [pipe.recv() for pipe in pipes]
        failsafe.halt(actor="ann", reason="a test")
        for pipe in pipes:
            pipe.send("go")
        after = [pipe.recv() for pipe in pipes]
        for child in children:
            child.join()
        left = [each.name for each in Path(store).parent.iterdir()]
    print(json.dumps({"before": before, "after": after, "left": left}))


if __name__ == "__main__":
    main()
