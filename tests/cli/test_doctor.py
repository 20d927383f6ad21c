"""`failstop doctor`: what is found on a database, in words and exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from failstop.cli import main
from failstop.testing import PostgresDatabase, PostgresServer


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(durable=True) as server:
        yield server


@pytest.fixture
def database(server: PostgresServer) -> Iterator[PostgresDatabase]:
    with server.fresh_database() as database:
        yield database


@pytest.fixture(autouse=True)
def no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg", None])
def test_a_sound_database_is_exit_code_0(
    driver: str | None, database: PostgresDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--url", database.url(driver)]) == 0
    assert capsys.readouterr() == ("no setting voids or weakens a claim\n", "")


def test_the_short_scheme_of_hosting_providers_is_read(database: PostgresDatabase) -> None:
    assert main(["doctor", "--url", database.url(None).replace("postgresql:", "postgres:")]) == 0


def test_a_refused_setting_is_exit_code_1_with_its_mend(
    database: PostgresDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    database.execute(f'ALTER DATABASE "{database.name}" SET synchronous_commit = off')
    assert main(["doctor", "--url", database.url()]) == 1
    said = capsys.readouterr().out
    assert "refused  synchronous_commit (C5)" in said
    assert "set synchronous_commit to on for the role of the service" in said


def test_a_service_without_receipts_needs_no_schema_and_is_told_what_it_lacks(
    database: PostgresDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    database.execute("DROP SCHEMA failstop CASCADE")
    assert main(["doctor", "--url", database.url()]) == 1
    said = capsys.readouterr().out
    assert "refused  schema (C5, C6, C7)" in said
    assert "run failstop schema apply" in said
    assert main(["doctor", "--url", database.url(), "--no-receipts", "--no-fence"]) == 0
    assert "receipts are off: claims C5 and C6 are void" in capsys.readouterr().out


def test_warnings_alone_are_exit_code_0(
    postgres: PostgresDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--url", postgres.url()]) == 0
    said, noise = capsys.readouterr()
    assert "warned   fsync (C5)" in said
    assert noise == ""


def test_json_is_for_machines(
    postgres: PostgresDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--url", postgres.url(), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert set(told) == {"setting", "claim", "severity", "cause", "mend"}
    assert (told["setting"], told["severity"]) == ("fsync", "warned")


def test_the_deadline_is_the_service_s(
    database: PostgresDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{database.url()}?options=-c%20statement_timeout%3D3s"
    assert main(["doctor", "--url", url, "--deadline", "4"]) == 0
    assert main(["doctor", "--url", url, "--deadline", "2"]) == 1
    assert "refused  statement_timeout" in capsys.readouterr().out


def test_the_url_comes_from_the_environment_too(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url())
    assert main(["doctor"]) == 0


def test_neither_the_url_nor_the_password_is_shown(
    database: PostgresDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    database.execute(f'ALTER DATABASE "{database.name}" SET synchronous_commit = off')
    down = "postgresql://u:very-secret@127.0.0.1:1/x"
    unknown = "nonsense+driver://u:very-secret@127.0.0.1/x"
    for url in (database.url(), down, unknown, "very-secret"):
        assert main(["doctor", "--url", url]) != 0
        assert main(["doctor", "--url", url, "--json"]) != 0
    said = "".join(capsys.readouterr())
    for secret in ("very-secret", "127.0.0.1", database.server.password, database.name):
        assert secret not in said


def test_a_database_that_does_not_answer_is_exit_code_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor", "--url", "postgresql://u:p@127.0.0.1:1/x"]) == 1
    assert "nothing answers at the database's address" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--url", ""],
        ["--url", "no url"],
        ["--url", "nonsense+driver://x"],
        ["--url", "sqlite://", "--deadline", "soon"],
        ["--url", "sqlite://", "--deadline", "0"],
    ],
)
def test_wrong_words_are_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *arguments]) == 2
    assert capsys.readouterr().err
