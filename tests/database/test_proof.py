"""Claim C8 with every driver: what recovery proves of a database, it proves through all four."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.engine import Connection
from tests.database.conftest import Client, Clients

from failstop.recovery import Recovery
from failstop.testing import PostgresDatabase

BY_HAND = Recovery(mode="manual", probe_interval=3600.0)


def trade(connection: Connection) -> None:
    connection.execute(text("INSERT INTO trades VALUES (1)"))


def test_all_of_it_is_proven_and_what_is_lost_is_found(
    driver: str, postgres: PostgresDatabase, clients: Clients
) -> None:
    postgres.execute("CREATE TABLE trades (n integer)")
    client = clients(driver, postgres, recovery=BY_HAND)
    client.transaction(trade, key="order-1")
    client.failsafe.halt(actor="ann", reason="drill")
    assert client.failsafe.plan_reset().missing == ()
    said = found(client)
    assert "read it back on a second connection" in said
    assert "connections are free" in said
    postgres.execute("DELETE FROM failstop.receipt")
    assert client.failsafe.plan_reset().missing == ("database", "database listener")
    assert "at least 1 transaction that was acknowledged is missing" in found(client)


def test_a_witness_that_fell_is_found(
    driver: str, postgres: PostgresDatabase, clients: Clients
) -> None:
    client = clients(driver, postgres, recovery=BY_HAND)
    client.failsafe.plan_reset()
    postgres.execute("UPDATE failstop.witness SET counter = 1")
    client.failsafe.plan_reset()
    assert client.trips == ["writes_lost"]
    assert "the witness is at 1, 2 was acknowledged" in found(client)


def found(client: Client) -> str:
    checks = client.failsafe.status().checks
    return next(each.detail for each in checks if each.name == "database")
