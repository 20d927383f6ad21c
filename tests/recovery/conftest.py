"""A small trading service on a real server that breaks, and is proven whole before it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.waiting import wait_until

from failstop import FailSafe
from failstop._latch import State
from failstop.database import Database
from failstop.events import Event, FailureCounted, Reset, Tripped
from failstop.recovery import Recovery
from failstop.testing import CapturingSink, FaultProxy, PostgresServer

INTERVAL = 0.05
TABLES = ", ".join(
    f"failstop.{name}" for name in ("receipt", "witness", "horizon", "fence", "process")
)
"""What a test leaves to nobody: a halt's row in the fence would halt the next service too."""

UNTRUSTED = ("database", "database listener")
"""What a database fails that is not trusted: its own cause first, and no echo is asked of it."""


class Service:
    """One process of the service: it trades, and its monitor looks every few milliseconds."""

    def __init__(self, url: str, store: Path, **settings: Any) -> None:
        self.sink = CapturingSink()
        self.events: list[Event] = []
        recovery = Recovery(**{"probe_interval": INTERVAL, "consecutive": 2, **settings})
        self.failsafe = FailSafe("desk", store=store, sinks=[self.sink], recovery=recovery)
        self.failsafe.subscribe(self.events.append)
        self.database = Database.connect(url, self.failsafe, deadline=0.6, connect_deadline=0.6)

    def trade(self, n: int, **settings: Any) -> None:
        with self.database.transaction(**settings) as connection:
            connection.execute(text("INSERT INTO trades VALUES (:n)"), {"n": n})

    @property
    def state(self) -> State:
        return self.failsafe.state

    @property
    def kinds(self) -> list[str]:
        """The kind of each incident so far."""
        return [event.incident.kind for event in self.events if isinstance(event, Tripped)]

    @property
    def findings(self) -> list[str]:
        """The kind of each failure that has an incident wait for a person."""
        held = [event for event in self.events if isinstance(event, FailureCounted)]
        opened = [event.incident for event in self.events if isinstance(event, Tripped)]
        return [each.kind for each in held if each.finding] + [
            each.kind for each in opened if each.needs_person
        ]

    def is_held(self) -> bool:
        """Say whether the open incident waits for a person."""
        incident = self.failsafe.incident
        return incident is not None and incident.needs_person

    @property
    def resets(self) -> list[Reset]:
        return [event for event in self.events if isinstance(event, Reset)]

    @property
    def pages(self) -> list[str]:
        """The incidents that somebody was paged for, notes apart."""
        told = [alert for alert in self.sink.alerts if alert.action.value == "trigger"]
        return [alert.incident_id for alert in told if not alert.incident_id.startswith("note-")]

    def detail(self, name: str = "database") -> str:
        """Return what a check found last."""
        return next(
            (each.detail for each in self.failsafe.status().checks if each.name == name), ""
        )

    def wait_for(self, state: State, seconds: float = 20.0) -> None:
        wait_until(lambda: self.state is state, seconds)

    def wait_for_rounds(self, count: int = 3) -> None:
        """Wait until so many more check rounds were made."""
        for _ in range(count):
            self.failsafe.plan_reset()

    def close(self) -> None:
        self.failsafe.close()
        self.database.engine.dispose()


Open = Callable[..., Service]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Start processes of one service, which share a store."""
    with ExitStack() as stack:

        def start(url: str, *, store: str = "desk.db", **settings: Any) -> Service:
            service = Service(url, tmp_path / store, **settings)
            stack.callback(service.close)
            service.failsafe.start()
            return service

        yield start


@pytest.fixture(scope="session")
def server_to_break(
    postgres_settings: Mapping[str, str | int | float | bool], postgres_bindir: Path | None
) -> Iterator[PostgresServer]:
    settings = {**postgres_settings, "log_statement": "all"}
    with PostgresServer(settings=settings, bindir=postgres_bindir) as server:
        server.create_schema()
        yield server


@pytest.fixture
def server(server_to_break: PostgresServer) -> Iterator[PostgresServer]:
    """A server of the test's own, with the table `trades`; made whole again for the next."""
    server = server_to_break
    server.execute("DROP TABLE IF EXISTS trades; CREATE TABLE trades (n integer)")
    server.execute(f"TRUNCATE {TABLES}")
    yield server
    server.thaw()
    if not server.is_running:
        server.start()
    server.terminate_backends()
    server.execute("ALTER SYSTEM RESET ALL")
    server.execute("SELECT pg_reload_conf()")


@pytest.fixture
def proxy(server: PostgresServer) -> Iterator[FaultProxy]:
    """The address of the database, which may lead to another server after a failover."""
    with FaultProxy(server) as proxy:
        yield proxy


@pytest.fixture
def url(server: PostgresServer, proxy: FaultProxy) -> str:
    return proxy.url(server.url())
