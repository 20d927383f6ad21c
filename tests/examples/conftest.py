"""Fixtures: the examples, and servers with their tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.examples.harness import TOKEN, PaperExchange, Service, Start, reserved_port

from failstop.testing import PostgresDatabase, PostgresServer
from trading import schema


@pytest.fixture
def exchange() -> Iterator[PaperExchange]:
    with contextlib.closing(PaperExchange()) as exchange:
        yield exchange


@pytest.fixture
def start(tmp_path: Path, exchange: PaperExchange) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def start(*words: str, **environment: str) -> Service:
            port = stack.enter_context(reserved_port())
            words = tuple(word.format(port=port) for word in words)
            environment["FAILSTOP_STORE"] = str(tmp_path / f"{port}.db")
            environment["EXCHANGE_URL"] = exchange.url
            environment["FAILSTOP_ADMIN_TOKEN"] = TOKEN
            service = Service(words, port, tmp_path / f"{port}.log", **environment)
            stack.callback(service.close)
            service.start()
            return service

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
