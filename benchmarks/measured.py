"""What is measured, each beside what it is compared with; run by `compare.py`, through pyperf."""

from __future__ import annotations

import asyncio
import atexit
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import circuitbreaker
import pyperf
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine

from failstop import Database, FailSafe, Recovery, with_fail_fast_protection
from failstop.errors import CriticalError, OperationsSuspendedError

QUIET = Recovery(probe_interval=3600)
SELECT = text("SELECT 1")
INSERT = text("INSERT INTO bench VALUES (1)")


def handler() -> int:
    return 1


async def async_handler() -> int:
    return 1


def repeat(function: Callable[[], Any]) -> Callable[[int], float]:
    """Time `loops` calls of a plain function, without pyperf's own call around each."""

    def run(loops: int) -> float:
        rounds = range(loops)
        began = time.perf_counter()
        for _ in rounds:
            function()
        return time.perf_counter() - began

    return run


def repeat_async(function: Callable[[], Any]) -> Callable[[int], float]:
    """Time `loops` awaited calls in one event loop."""

    async def run(loops: int) -> float:
        rounds = range(loops)
        began = time.perf_counter()
        for _ in rounds:
            await function()
        return time.perf_counter() - began

    def run_all(loops: int) -> float:
        return asyncio.run(run(loops))

    return run_all


def add_boundary(runner: pyperf.Runner) -> None:
    with_failsafe = with_fail_fast_protection(failsafe=started())
    breaker = circuitbreaker.circuit(name="bench")
    runner.bench_time_func("call bare", repeat(handler))
    runner.bench_time_func("call failstop", repeat(with_failsafe(handler)))
    runner.bench_time_func("call circuitbreaker", repeat(breaker(handler)))
    runner.bench_time_func("async bare", repeat_async(async_handler))
    runner.bench_time_func("async failstop", repeat_async(with_failsafe(async_handler)))
    runner.bench_time_func("async circuitbreaker", repeat_async(breaker(async_handler)))


def started() -> FailSafe:
    failsafe = FailSafe("bench", recovery=QUIET)
    failsafe.start()
    return failsafe


def add_refusal(runner: pyperf.Runner) -> None:
    failsafe = started()
    failsafe.halt(actor="bench", reason="bench")

    def refused() -> None:
        try:
            failsafe.require()
        except OperationsSuspendedError:
            return

    def raises() -> None:
        raise RuntimeError

    breaker = circuitbreaker.circuit(name="open", failure_threshold=1, recovery_timeout=3600)
    fails = breaker(raises)

    def refused_by_breaker() -> None:
        try:
            fails()
        except (RuntimeError, circuitbreaker.CircuitBreakerError):
            return

    refused_by_breaker()
    runner.bench_time_func("refusal failstop", repeat(refused))
    runner.bench_time_func("refusal circuitbreaker", repeat(refused_by_breaker))


def add_database(runner: pyperf.Runner, url: str) -> None:
    """Reads and writes, these with a receipt and with a store beside which a COMMIT is noted."""
    failsafe = FailSafe("bench", recovery=QUIET, store=store_path())
    plain = create_engine(url)
    database = Database(create_engine(url), failsafe)
    database.create_schema()
    failsafe.start()
    runner.bench_time_func("query plain", repeat(lambda: plain_query(plain)))
    runner.bench_time_func("query failstop", repeat(lambda: database.query(SELECT)))
    runner.bench_time_func("transaction plain", repeat(lambda: plain_transaction(plain)))
    runner.bench_time_func("transaction failstop", repeat(lambda: transaction(database)))
    with plain.connect() as one, database.engine.connect() as other:
        runner.bench_time_func("statement plain", repeat(lambda: one.execute(SELECT).all()))
        runner.bench_time_func("statement failstop", repeat(lambda: other.execute(SELECT).all()))


def plain_query(engine: Engine) -> object:
    with engine.connect() as connection:
        return connection.execute(SELECT).all()


def plain_transaction(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(INSERT)


def transaction(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(INSERT)


def add_trip(runner: pyperf.Runner) -> None:
    """A trip with its alert made durable, beside one that is kept in memory."""
    for name, store in (("memory", None), ("store", store_path())):
        failsafe = FailSafe("bench", recovery=QUIET, store=store)
        failsafe.start()
        runner.bench_time_func(f"trip {name}", lambda loops, f=failsafe: time_trips(f, loops))


def store_path() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="failstop-bench-")  # lasts as long as the process
    atexit.register(folder.cleanup)
    return Path(folder.name) / "failstop.db"


def time_trips(failsafe: FailSafe, loops: int) -> float:
    took = 0.0
    for _ in range(loops):
        began = time.perf_counter()
        failsafe.trip(CriticalError("bench"))
        took += time.perf_counter() - began
        failsafe.reset(actor="bench", reason="bench", force=True)
    return took


def main() -> None:
    runner = pyperf.Runner()
    url = os.environ["FAILSTOP_BENCH_URL"]
    add_boundary(runner)
    add_refusal(runner)
    add_trip(runner)
    add_database(runner, url)


if __name__ == "__main__":
    main()
