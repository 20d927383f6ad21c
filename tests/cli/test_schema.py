"""`failstop schema`: applied, printed and checked on a real database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from failstop.cli import main
from failstop.schema import metadata, schema_sql
from failstop.testing import PostgresDatabase, PostgresServer

APPLIED = "".join(f"created {name}\n" for name in sorted(metadata.tables))


@pytest.fixture
def blank(postgres_server: PostgresServer) -> Iterator[PostgresDatabase]:
    with postgres_server.fresh_database(with_schema=False) as database:
        yield database


@pytest.fixture(autouse=True)
def no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg", None])
def test_apply_makes_what_check_misses(
    driver: str | None, blank: PostgresDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    url = blank.url(driver)
    assert main(["schema", "check", "--url", url]) == 1
    assert capsys.readouterr() == (APPLIED.replace("created", "missing"), "")
    assert main(["schema", "apply", "--url", url]) == 0
    assert capsys.readouterr() == (APPLIED, "")
    assert main(["schema", "check", "--url", url]) == 0
    assert capsys.readouterr() == ("nothing is missing\n", "")
    assert main(["schema", "apply", "--url", url]) == 0
    assert capsys.readouterr() == ("nothing was missing\n", "")


def test_an_old_schema_is_named_and_mended_with_the_url_of_the_environment(
    postgres: PostgresDatabase, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres.url())
    postgres.execute("ALTER TABLE failstop.receipt DROP COLUMN is_pruned")
    assert main(["schema", "check", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"missing": ["failstop.receipt.is_pruned"]}
    assert main(["schema", "apply", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"created": ["failstop.receipt.is_pruned"]}


def test_a_file_of_sqlite_is_given_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ledger.db"
    assert main(["schema", "apply", "--url", f"sqlite:///{path}"]) == 0
    assert capsys.readouterr().out == "created failstop_receipt\n"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM failstop_receipt").fetchone() == (0,)


def test_sql_is_what_psql_takes(
    blank: PostgresDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    blank.execute('CREATE ROLE "the app"')
    try:
        assert main(["schema", "sql", "--role", "the app"]) == 0
        said = capsys.readouterr().out
        assert said == schema_sql("the app")
        blank.execute(said)
        assert main(["schema", "check", "--url", blank.url()]) == 0
    finally:
        blank.execute('DROP OWNED BY "the app"; DROP ROLE "the app"')


def test_sql_is_json_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "sql", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"sql": schema_sql()}


def test_sql_for_sqlite_needs_no_role(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "sql", "--dialect", "sqlite"]) == 0
    assert capsys.readouterr().out == schema_sql(dialect="sqlite")
    assert main(["schema", "sql", "--dialect", "sqlite", "--role", "app"]) == 2
    assert "sqlite has no roles" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["apply", "check"])
def test_without_a_url_the_mend_is_named(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", command]) == 2
    assert "give --url or set DATABASE_URL" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["apply", "check"])
def test_a_database_that_does_not_answer_is_exit_code_1_and_no_secret_is_shown(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schema", command, "--url", "postgresql://u:secret@127.0.0.1:1/x"]) == 1
    said, noise = capsys.readouterr()
    assert said == ""
    assert "secret" not in noise


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_role_that_may_not_create_is_told_so(
    driver: str, blank: PostgresDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    blank.execute("CREATE ROLE creates_nothing LOGIN PASSWORD 'p'")
    try:
        host = blank.url(driver).partition("@")[2]
        url = f"postgresql+{driver}://creates_nothing:p@{host}"
        assert main(["schema", "apply", "--url", url]) == 2
        assert "this role may not create failstop's tables" in capsys.readouterr().err
    finally:
        blank.execute("DROP ROLE creates_nothing")
