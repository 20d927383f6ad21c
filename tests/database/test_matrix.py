"""Claim C3, cell by cell: every driver, every phase, every fault ends by its deadline.

A real PostgreSQL behind the fault proxy. Each cell asserts how long the call took, the error, the
outcome against what the table holds, that it tripped once, and that nothing is left behind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection

from failstop.errors import ConnectionFailedError, CriticalError, DatabaseUnavailableError, Outcome
from failstop.recovery import Recovery
from failstop.testing import FaultProxy, PostgresServer

DEADLINE = 0.5
TENTH_DEADLINE = 0.8
"""A busy machine needs some of it for the nine statements before the fault."""

BOUND = DEADLINE + 0.25
SLACK = 2.5
"""Seconds a busy machine may add; a wait that nobody ended would be longer still."""

QUIET = Recovery(probe_interval=3600)

PHASES = {
    "begin": "BEGIN",
    "first statement": "INSERT INTO trades VALUES (0,",
    "tenth statement": "INSERT INTO trades VALUES (9,",
    "commit": "COMMIT",
    "rollback": "ROLLBACK",
}
FAULTS = ["killed", "frozen", "black hole", "half-open", "reset", "slow drip"]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        server.create_schema()
        server.execute("CREATE TABLE trades (id integer PRIMARY KEY, price integer)")
        yield server


@pytest.fixture
def proxy(server: PostgresServer) -> Iterator[FaultProxy]:
    server.execute("TRUNCATE trades")
    with FaultProxy(server) as proxy:
        yield proxy
    server.thaw()


def url_of(server: PostgresServer, proxy: FaultProxy, driver: str, options: str = "") -> str:
    name = {"psycopg_async": "psycopg"}.get(driver, driver)
    return proxy.url(server.url(driver=name)) + options


def inflict(where: Any, fault: str, server: PostgresServer) -> None:
    """Have `fault` strike: at a moment of the proxy, or at once on the proxy itself."""
    match fault:
        case "killed" | "frozen":
            breaks: Callable[[], object] = (
                server.terminate_backends
                if fault == "killed"
                else lambda: server.freeze("backends")
            )
            if isinstance(where, FaultProxy):
                breaks()
            else:
                where.call(breaks)
        case "black hole":
            where.black_hole()
        case "half-open":
            where.half_open()
        case "reset":
            where.reset()
        case "slow drip":
            where.slow_drip(interval=5.0)


def work(phase: str) -> Callable[[Connection], None]:
    def body(connection: Connection) -> None:
        for index in range(10 if phase == "tenth statement" else 1):
            connection.execute(text(f"INSERT INTO trades VALUES ({index}, 1)"))
        if phase == "rollback":
            raise KeyError

    return body


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    before = descriptors()
    yield
    wait_until(lambda: not own_threads())
    wait_until(lambda: descriptors() <= before)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("phase", PHASES)
def test_an_established_connection(
    driver: str,
    phase: str,
    fault: str,
    nothing_is_left: None,
    server: PostgresServer,
    proxy: FaultProxy,
    clients: Any,
) -> None:
    client = clients(
        driver,
        url_of(server, proxy, driver),
        deadline=TENTH_DEADLINE if phase == "tenth statement" else DEADLINE,
        pool_pre_ping=False,
        recovery=QUIET,
    )
    client.query("SELECT 1")
    # what breaks the server must be done before it has the statement, else it may answer in time
    is_forwarded = fault not in ("killed", "frozen")
    inflict(proxy.after(PHASES[phase], forwarded=is_forwarded), fault, server)
    began = time.monotonic()
    error: BaseException | None = None
    try:
        client.transaction(work(phase))
    except (CriticalError, KeyError) as raised:
        error = raised
    took = time.monotonic() - began
    proxy.heal()
    server.thaw()
    assert took < BOUND + SLACK
    assert_told(error, phase, server)
    if not isinstance(error, KeyError):
        assert len(client.trips) == 1
        assert not client.failsafe.is_normal
    client.close()


def assert_told(error: BaseException | None, phase: str, server: PostgresServer) -> None:
    """The outcome is what the phase allows, and never contradicts the table."""
    if error is None:  # the receipt was there: committed, though the answer was lost
        assert phase == "commit"
        assert server.execute("SELECT count(*) FROM trades") != [(0,)]
        return
    if not isinstance(error, CriticalError):
        assert phase == "rollback"
        return
    allowed = {
        "begin": {Outcome.NOT_STARTED, Outcome.ROLLED_BACK},
        "commit": {Outcome.UNKNOWN, Outcome.ROLLED_BACK},
    }.get(phase, {Outcome.ROLLED_BACK})
    assert error.outcome in allowed
    if error.outcome is not Outcome.UNKNOWN:
        assert server.execute("SELECT count(*) FROM trades") == [(0,)]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_ping_of_an_idle_connection(
    driver: str,
    fault: str,
    nothing_is_left: None,
    server: PostgresServer,
    proxy: FaultProxy,
    clients: Any,
) -> None:
    """A dead idle connection is replaced where another can be made; else there is none in time."""
    client = clients(driver, url_of(server, proxy, driver), deadline=DEADLINE, recovery=QUIET)
    client.query("SELECT 1")
    inflict(proxy, fault, server)
    began = time.monotonic()
    error: CriticalError | None = None
    try:
        client.query("SELECT 1")
    except CriticalError as raised:
        error = raised
    took = time.monotonic() - began
    assert len(client.trips) == (0 if error is None else 1)
    assert error is None or error.outcome in (Outcome.NOT_STARTED, Outcome.ROLLED_BACK)
    proxy.heal()
    server.thaw()
    assert took < BOUND + SLACK
    client.close()


@pytest.mark.parametrize(
    "fault",
    [
        *("refused", "no answer", "stalled TLS", "frozen postmaster"),
        *("black hole", "half-open", "reset", "slow drip"),
    ],
)
def test_a_connection_that_is_being_made(
    driver: str,
    fault: str,
    nothing_is_left: None,
    server: PostgresServer,
    proxy: FaultProxy,
    clients: Any,
) -> None:
    tls = "?ssl=require" if driver == "asyncpg" else "?sslmode=require"
    url = url_of(server, proxy, driver, tls if fault == "stalled TLS" else "")
    client = clients(driver, url, start=False, deadline=DEADLINE, recovery=QUIET)
    client.failsafe.start()  # on a database that is well: the fault is for the call
    if not client.failsafe.is_normal:  # the server speaks no TLS
        client.failsafe.reset(actor="tester", reason="the fault is the test's", force=True)
    client.trips.clear()
    strike(fault, server, proxy)
    began = time.monotonic()
    with pytest.raises(CriticalError) as raised:
        client.query("SELECT 1")
    took = time.monotonic() - began
    proxy.heal()
    server.thaw()
    assert took < BOUND + SLACK
    assert isinstance(raised.value, DatabaseUnavailableError | ConnectionFailedError)
    assert raised.value.outcome is Outcome.NOT_STARTED
    assert len(client.trips) == 1
    client.close()


def strike(fault: str, server: PostgresServer, proxy: FaultProxy) -> None:
    match fault:
        case "refused":
            proxy.refuse()
        case "no answer":
            proxy.ignore()
        case "stalled TLS":
            proxy.stall_tls()
        case "frozen postmaster":
            server.freeze("postmaster")
        case "black hole":
            proxy.black_hole()
        case "slow drip":
            proxy.slow_drip(interval=5.0)
        case _:
            inflict(proxy.after("STARTUP", times=None, everywhere=True), fault, server)


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def own_threads() -> list[str]:
    return [
        each.name
        for each in threading.enumerate()
        if each.name.startswith("failstop-") and "proxy" not in each.name
    ]


def wait_until(is_true: Callable[[], bool], seconds: float = 20.0) -> None:
    limit = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < limit, "the condition did not come true"
        time.sleep(0.01)
