"""The drill against a database that is there already, with the rights of an ordinary role."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from sqlalchemy.engine import make_url

from failstop.cli import main
from failstop.drill import run_drill
from failstop.drill._staging import staging
from failstop.errors import ConfigurationError
from failstop.schema import schema_sql
from failstop.testing import PostgresDatabase, PostgresServer

Captured = pytest.CaptureFixture[str]


def url_of(database: PostgresDatabase, role: str) -> str:
    url = make_url(database.url()).set(username=role, password="pw")
    return url.render_as_string(hide_password=False)


@pytest.fixture
def role(postgres_server: PostgresServer) -> Iterator[str]:
    """An ordinary role, that is no superuser."""
    name = "drill_tester"
    postgres_server.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'pw'")
    yield name
    postgres_server.execute(f"DROP ROLE {name}")


@pytest.fixture
def empty(postgres_server: PostgresServer, role: str) -> Iterator[str]:
    """The URL of a database without failstop's tables, which is the role's."""
    postgres_server.execute(f"CREATE DATABASE drill_empty OWNER {role}")
    yield url_of(PostgresDatabase(postgres_server, "drill_empty"), role)
    postgres_server.execute("DROP DATABASE drill_empty WITH (FORCE)")


@pytest.fixture
def used(postgres: PostgresDatabase, role: str) -> Iterator[str]:
    """The URL of a database that others use, where the role has the least rights."""
    postgres.execute(f"GRANT CREATE ON SCHEMA public TO {role}")
    postgres.execute(schema_sql(role))
    yield url_of(postgres, role)
    postgres.execute(f"DROP OWNED BY {role}")


def tables(server: PostgresServer, database: str) -> list[tuple[str, str]]:
    ask = (
        "SELECT schemaname::text, tablename::text FROM pg_tables "
        "WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2"
    )
    return [(schema, table) for schema, table in server.execute(ask, database=database)]


def test_a_staging_database_is_drilled_and_left_as_it_was(
    empty: str, postgres_server: PostgresServer, capsys: Captured
) -> None:
    words = ["drill", "--act", "refuse", "--act", "lost-reply", "--url", empty]
    assert main([*words, "--yes-this-is-staging", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kept"], told["broken"]) == (True, [])
    assert [act["name"] for act in told["acts"]] == ["refuse", "lost-reply"]
    assert (told["left_out"], told["left_behind"]) == ({}, [])
    assert tables(postgres_server, "drill_empty") == []
    schemas = "SELECT 1 FROM pg_namespace WHERE nspname = 'failstop'"
    assert postgres_server.execute(schemas, database="drill_empty") == []


def test_what_a_role_may_not_remove_is_said(used: str, postgres: PostgresDatabase) -> None:
    before = tables(postgres.server, postgres.name)
    report = run_drill(lambda _: None, ["terminate"], url=used)
    assert report.broken == []
    assert len(report.left_behind) >= 2
    for what in report.left_behind:
        assert re.fullmatch(r"the rows of the service '[\w-]+' in failstop\.\w+ \(.*\)", what)
    assert "failstop.receipt (InsufficientPrivilege)" in " ".join(report.left_behind)
    assert tables(postgres.server, postgres.name) == before


def test_the_rows_of_others_stay(empty: str, postgres_server: PostgresServer) -> None:
    with staging(empty) as stage, stage.connect() as connection:
        connection.execute("INSERT INTO failstop.receipt (key, service) VALUES ('k', 'another')")
    assert stage.left_behind == ["failstop's own tables, for others use them by now"]
    ask = "SELECT key FROM failstop.receipt"
    assert postgres_server.execute(ask, database="drill_empty") == [("k",)]


def test_what_needs_the_server_is_left_out_and_named(empty: str) -> None:
    with staging(empty) as stage:
        from failstop.drill._acts import choose

        chosen, left_out = choose([], stage.offers)
    names = [act.name for act in chosen]
    assert names == ["terminate", "refuse", "black-hole", "half-open", "lost-reply"]
    assert {"kill", "freeze", "read-only", "connections"} <= left_out.keys()


def test_a_promise_of_tls_is_kept_and_costs_the_acts_that_listen(empty: str) -> None:
    """This server has no TLS, so nothing is sent; the point is that no one falls back to none."""
    from failstop.drill._staging import _place, _takes_plain

    for mode, is_taken in (("require", False), ("verify-full", False), ("prefer", True)):
        url, _ = _place(f"{empty}?sslmode={mode}")
        assert _takes_plain(url) is is_taken


@pytest.mark.parametrize("act", ["kill", "connections"])
def test_an_act_that_cannot_be_played_there_is_wrong_usage(
    act: str, empty: str, capsys: Captured
) -> None:
    words = ["drill", "--act", act, "--url", empty, "--yes-this-is-staging"]
    assert main(words) == 2
    assert f"the fault {act!r} needs the server's own process" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///db",
        "postgresql://a,b/db",
        "postgresql:///db?host=/run/postgresql",
        "postgresql:///db?host=a&host=b",
        "sqlite:///x.db",
        "nonsense",
    ],
)
def test_a_url_that_names_no_one_server_is_wrong_usage(url: str, capsys: Captured) -> None:
    assert main(["drill", "--url", url, "--yes-this-is-staging"]) == 2
    assert "give the URL of one database" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--url", "postgresql://u:hunter2@127.0.0.1:1/db"], ["--yes-this-is-staging"]]
)
def test_no_database_is_drilled_by_mistake(words: list[str], capsys: Captured) -> None:
    assert main(["drill", *words]) == 2
    said = capsys.readouterr().err
    assert "go together" in said
    assert "hunter2" not in said


def test_a_database_that_does_not_answer_is_exit_code_1(capsys: Captured) -> None:
    url = "postgresql://u:hunter2@127.0.0.1:1/db"
    assert main(["drill", "--url", url, "--yes-this-is-staging"]) == 1
    assert "hunter2" not in capsys.readouterr().err


def test_a_role_that_may_make_no_table_is_wrong_usage(
    postgres: PostgresDatabase, role: str, capsys: Captured
) -> None:
    postgres.execute(f"GRANT USAGE ON SCHEMA failstop TO {role}")
    try:
        words = ["drill", "--url", url_of(postgres, role), "--yes-this-is-staging", "--json"]
        assert main(words) == 2
        assert "grant it CREATE on its schema" in capsys.readouterr().err
    finally:
        postgres.execute(f"DROP OWNED BY {role}")


def test_tables_of_another_version_are_left_alone(postgres: PostgresDatabase, used: str) -> None:
    postgres.execute("ALTER TABLE failstop.receipt DROP COLUMN is_pruned")
    with pytest.raises(ConfigurationError, match="another version"), staging(used):
        pass
