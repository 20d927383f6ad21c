"""Hosts of one service: each has a store and a FailSafe of its own, and shares the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection
from tests.waiting import wait_until

from failstop import AsyncDatabase, Database, FailSafe, Recovery
from failstop.testing import CapturingSink, PostgresDatabase

SLOW = Recovery(probe_interval=60.0)
"""With it nothing but the listener brings news in time."""

QUICK = Recovery(probe_interval=0.1, consecutive=2)


class Host:
    """One host, with `place_order()` as its work."""

    def __init__(
        self, name: str, url: str, store: Path | None, recovery: Recovery, **settings: Any
    ) -> None:
        self.name = name
        self.sink = CapturingSink()
        self.failsafe = FailSafe("trading", store=store, sinks=[self.sink], recovery=recovery)
        self.events: list[object] = []
        self.failsafe.subscribe(self.events.append)
        is_async = "asyncpg" in url
        kind: Any = AsyncDatabase if is_async else Database
        self.database: Any = kind.connect(url, self.failsafe, **settings)

    @property
    def is_normal(self) -> bool:
        return self.failsafe.is_normal

    @property
    def kind(self) -> str | None:
        """The kind of the open incident."""
        incident = self.failsafe.incident
        return None if incident is None else incident.kind

    @property
    def checks(self) -> dict[str, bool]:
        """Which checks of the last round passed."""
        return {each.name: each.is_passed for each in self.failsafe.status().checks}

    def place_order(self) -> None:
        with self.database.transaction() as connection:
            insert(connection)

    def halt(self, reason: str = "the venue sends nonsense", **settings: Any) -> Any:
        return self.failsafe.halt(actor="alice", reason=reason, **settings)

    def reset(self, **settings: Any) -> None:
        self.failsafe.reset(actor="bob", reason="the venue is well", **settings)

    def wait_for(self, kind: str | None, seconds: float = 20.0) -> None:
        """Wait until the open incident is of this kind; None waits for NORMAL."""
        if kind is None:
            wait_until(lambda: self.is_normal, seconds)
        else:
            wait_until(lambda: self.kind == kind, seconds)

    def close(self) -> None:
        self.failsafe.close()
        if isinstance(self.database, Database):
            self.database.engine.dispose()


def insert(connection: Connection) -> None:
    connection.execute(text("INSERT INTO orders DEFAULT VALUES"))


Hosts = Callable[..., Host]


@pytest.fixture
def hosts(postgres: PostgresDatabase, tmp_path: Path) -> Iterator[Hosts]:
    """Make hosts that are started, unless `start=False` says otherwise, and close them."""
    postgres.execute("CREATE TABLE orders (id bigserial PRIMARY KEY)")
    with ExitStack() as stack:

        def make(
            name: str,
            *,
            url: str | None = None,
            recovery: Recovery = SLOW,
            start: bool = True,
            store: str | None = None,
            is_durable: bool = True,
            **settings: Any,
        ) -> Host:
            url = postgres.url() if url is None else url
            place = tmp_path / f"{store or name}.db" if is_durable else None
            host = Host(name, url, place, recovery, **settings)
            stack.callback(host.close)
            if start:
                host.failsafe.start()
                assert host.is_normal, host.failsafe.status().checks
            return host

        yield make
