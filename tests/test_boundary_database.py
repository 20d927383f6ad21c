"""The boundary over a real guard: what another thread's trip ends is told in every call it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from failstop import Database, FailSafe, FailureResponse, Recovery, with_fail_fast_protection
from failstop.testing import PostgresServer

THREAD = "failstop-connect"


@pytest.fixture
def failsafe() -> Iterator[FailSafe]:
    """A FailSafe whose monitor looks once a minute: here the calls find what fails."""
    with FailSafe("trading-api", recovery=Recovery(probe_interval=60.0)) as made:
        yield made


def test_a_call_that_a_trip_frees_from_its_connect_is_not_swallowed(
    failsafe: FailSafe, breakable_postgres: PostgresServer
) -> None:
    """It waits for a connection, another thread trips, and it catches what it then gets."""
    database = Database.connect(
        breakable_postgres.url(), failsafe, deadline=30.0, connect_deadline=30.0
    )
    answers: list[object] = []

    @with_fail_fast_protection(failsafe=failsafe)
    def trades() -> list[str]:
        try:
            return [row.symbol for row in database.query("SELECT 'BTC' AS symbol")]
        except Exception:
            return []

    breakable_postgres.freeze()
    caller = threading.Thread(target=lambda: answers.append(trades()))
    caller.start()
    wait_until_connecting()
    failsafe.halt(actor="ann", reason="drill")
    caller.join(20)
    assert not caller.is_alive()
    breakable_postgres.thaw()
    database.engine.dispose()
    assert isinstance(answers[0], FailureResponse)
    assert answers[0].body["details"]["outcome"] == "NOT_STARTED"


def wait_until_connecting() -> None:
    limit = time.monotonic() + 20
    while not any(thread.name == THREAD for thread in threading.enumerate()):
        assert time.monotonic() < limit, "no call ever came to connect"
        time.sleep(0.005)
