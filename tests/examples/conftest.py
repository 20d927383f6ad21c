"""Fixtures: the examples, and servers with their tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.examples.harness import PaperExchange, Start, starting

from failstop.testing import PostgresDatabase, PostgresServer
from trading import schema


@pytest.fixture
def exchange() -> Iterator[PaperExchange]:
    with contextlib.closing(PaperExchange()) as exchange:
        yield exchange


@pytest.fixture
def start(tmp_path: Path, exchange: PaperExchange) -> Iterator[Start]:
    with starting(tmp_path, exchange) as start:
        yield start


@pytest.fixture(scope="module")
def start_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start services that a module's tests share, because none of them breaks one."""
    directory = tmp_path_factory.mktemp("shared")
    with contextlib.closing(PaperExchange()) as exchange, starting(directory, exchange) as start:
        yield start


@pytest.fixture
def trading_server(breakable_postgres: PostgresServer) -> PostgresServer:
    """A server to break, with the tables of the trading system."""
    schema.create(breakable_postgres.url())
    return breakable_postgres


@pytest.fixture
def trading_database(postgres: PostgresDatabase) -> PostgresDatabase:
    """A database that stays well, with the tables of the trading system."""
    schema.create(postgres.url())
    return postgres


@pytest.fixture(scope="module")
def shared_database(postgres_server: PostgresServer) -> Iterator[PostgresDatabase]:
    """A database that stays well, for the services of `start_once`."""
    with postgres_server.fresh_database() as database:
        schema.create(database.url())
        yield database
