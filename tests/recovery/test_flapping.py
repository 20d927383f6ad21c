"""Claim C8: a database that comes and goes is not trusted, and nothing is sent to it meanwhile."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.recovery.conftest import Open, Service
from tests.waiting import wait_until

from failstop._latch import State
from failstop.errors import CriticalError
from failstop.testing import FaultProxy, PostgresServer

PERIOD = 0.2
STATEMENT = re.compile(r"\[desk\] LOG:  (?:statement|execute [^:]*): (.*)")
"""What the server logs of a statement of the service's own, not of its monitor's."""


@contextmanager
def traffic(service: Service) -> Iterator[list[int]]:
    """Trade without a pause, from two threads; gives the numbers that were acknowledged."""
    placed: list[int] = []
    is_over = threading.Event()

    def trade(first: int) -> None:
        number = first
        while not is_over.is_set():
            number += 2
            try:
                service.trade(number)
            except CriticalError:
                time.sleep(0.001)
            else:
                placed.append(number)

    threads = [threading.Thread(target=trade, args=(first,)) for first in (0, 1)]
    for thread in threads:
        thread.start()
    try:
        yield placed
    finally:
        is_over.set()
        for thread in threads:
            thread.join(20)


def flap(proxy: FaultProxy, seconds: float) -> None:
    """Let the address answer and refuse in turn, the connections cut at each turn."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        proxy.refuse()
        proxy.reset()
        time.sleep(PERIOD)
        proxy.heal()
        time.sleep(PERIOD)


@pytest.mark.parametrize(
    "seconds", [pytest.param(3.0), pytest.param(60.0, marks=[pytest.mark.chaos])]
)
def test_a_database_that_flaps_is_never_trusted_and_pages_once(
    seconds: float, server: PostgresServer, proxy: FaultProxy, url: str, opened: Open
) -> None:
    """Three rounds take longer than it is ever well, however often somebody asks for one."""
    service = opened(url, probe_interval=0.1, consecutive=3)
    with traffic(service) as placed:
        proxy.refuse()
        proxy.reset()
        service.wait_for(State.FAIL_SAFE)
        asking = threading.Event()
        planning = threading.Thread(target=plan_until, args=(service, asking))
        planning.start()
        flap(proxy, seconds)
        asking.set()
        planning.join(20)
        assert service.resets == []
        assert len(service.kinds) == 1
        proxy.heal()
        service.wait_for(State.NORMAL)
    [page] = service.pages
    assert page == service.resets[0].incident.incident_id
    assert len(service.sink.alerts) <= 3 + seconds / 30
    rows = [n for (n,) in server.execute("SELECT n FROM trades")]
    assert set(placed) <= set(rows)
    assert len(rows) == len(set(rows))


def plan_until(service: Service, asking: threading.Event) -> None:
    while not asking.is_set():
        service.failsafe.plan_reset()


BUSY = (
    "SELECT 1 FROM pg_stat_activity WHERE application_name = 'desk' AND state <> 'idle' "
    "AND backend_type = 'client backend'"
)


def test_the_servers_own_log_has_no_statement_of_the_service_while_it_is_not_normal(
    server: PostgresServer, url: str, opened: Open
) -> None:
    """What was sent before the trip may be logged a moment later: the server works it off first."""
    server.configure({"log_line_prefix": "%m [%a] "})
    service = opened(url, mode="manual")
    windows: list[tuple[int, int]] = []
    with traffic(service) as placed:
        for turn in range(6):
            before = len(placed)
            wait_until(lambda count=before + 20: len(placed) >= count)  # type: ignore[misc]
            if turn % 2:
                server.terminate_backends()
            service.failsafe.halt(actor="ann", reason="drill")
            wait_until(lambda: not server.execute(BUSY))
            since = server.log_size()
            service.wait_for_rounds(3)
            windows.append((since, server.log_size()))
            service.failsafe.reset(actor="ann", reason="drill")
    log = server.log_path.read_bytes()
    sent = [STATEMENT.findall(log[start:end].decode()) for start, end in windows]
    assert sent == [[]] * 6
    seen = [log[start:end].count(b"[desk monitor] LOG:") for start, end in windows]
    assert min(seen) > 3, "the monitor has looked meanwhile"
    assert len(STATEMENT.findall(log.decode())) > 120, "the log does have the service's statements"
