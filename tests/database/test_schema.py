"""The tables that failstop keeps, and the write by which the monitor proves the database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import inspect

from failstop.database.schema import metadata, schema_sql
from failstop.testing import PostgresDatabase


def test_a_schema_is_created_once_and_changes_nothing_that_exists(
    driver: str, postgres: PostgresDatabase, clients: Any
) -> None:
    client = clients(driver, postgres, start=False)
    for _ in range(2):
        if client.is_async:
            client.run(client.database.create_schema)
        else:
            client.database.create_schema()
    tables = postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'failstop'")
    assert {name for (name,) in tables} == {table.name for table in metadata.sorted_tables}


def test_the_schema_s_sql_makes_the_same_tables(postgres: PostgresDatabase, clients: Any) -> None:
    for statement in schema_sql().split(";\n"):
        if statement.strip():
            postgres.execute(statement)
    client = clients("psycopg", postgres, start=False)
    assert client.database.schema_sql() == schema_sql()
    found = inspect(client.database._guard.probe_engine)
    for table in metadata.sorted_tables:
        columns = {column["name"] for column in found.get_columns(table.name, schema="failstop")}
        assert columns == {column.name for column in table.columns}
    client.database._guard.probe_engine.dispose()


def test_a_probe_commits_a_write_where_the_schema_is(
    driver: str, postgres: PostgresDatabase, clients: Any
) -> None:
    for statement in schema_sql().split(";\n"):
        if statement.strip():
            postgres.execute(statement)
    client = clients(driver, postgres)
    seen = "SELECT max(counter) FROM failstop.witness"
    first = postgres.execute(seen)[0][0]
    said = client.database.probe()
    assert "committed a write" in said
    assert postgres.execute(seen)[0][0] > first
