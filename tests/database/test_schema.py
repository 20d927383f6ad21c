"""The tables that failstop keeps, who may do what with them, and what becomes of old receipts."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import Engine

import failstop.schema
from failstop import FailSafe
from failstop.database import Database
from failstop.database import _prune as prune
from failstop.database.schema import create, metadata, missing, schema_sql
from failstop.errors import (
    ConfigurationError,
    CriticalDatabaseError,
    Outcome,
    ReceiptExpiredError,
)
from failstop.events import InDoubt
from failstop.recovery import Recovery
from failstop.testing import PostgresDatabase, PostgresServer

QUIET = Recovery(probe_interval=60)
ALL = (
    "failstop.fence",
    "failstop.horizon",
    "failstop.process",
    "failstop.receipt",
    "failstop.witness",
)
DAY = timedelta(days=1)


@pytest.fixture
def blank(postgres_server: PostgresServer) -> Iterator[PostgresDatabase]:
    with postgres_server.fresh_database(with_schema=False) as database:
        yield database


@pytest.fixture
def engine(blank: PostgresDatabase) -> Iterator[Engine]:
    engine = create_engine(blank.url())
    yield engine
    engine.dispose()


@pytest.fixture
def failsafe() -> Iterator[FailSafe]:
    failsafe = FailSafe("tests", recovery=QUIET)
    yield failsafe
    failsafe.close()


@pytest.fixture
def database(postgres: PostgresDatabase, failsafe: FailSafe) -> Iterator[Database]:
    database = Database.connect(postgres.url(), failsafe)
    yield database
    database.engine.dispose()


def structure(database: PostgresDatabase) -> list[tuple[Any, ...]]:
    return database.execute(
        "SELECT table_name, column_name, data_type, is_nullable, column_default "
        "FROM information_schema.columns WHERE table_schema = 'failstop' ORDER BY 1, 2"
    )


# What is created


def test_a_schema_is_created_once_and_changes_nothing_that_exists(
    driver: str, blank: PostgresDatabase, clients: Any
) -> None:
    client = clients(driver, blank, start=False)

    def create_schema() -> Any:
        if client.is_async:
            return client.run(client.database.create_schema)
        return client.database.create_schema()

    assert client.database.missing_schema() == ALL
    assert create_schema() == ALL
    blank.execute("INSERT INTO failstop.receipt (key, service) VALUES ('k', 's')")
    before = structure(blank)
    assert create_schema() == client.database.missing_schema() == ()
    assert structure(blank) == before
    assert blank.execute("SELECT key FROM failstop.receipt") == [("k",)]


def test_the_schema_s_sql_makes_the_same_tables(
    blank: PostgresDatabase, postgres_server: PostgresServer, engine: Engine
) -> None:
    with engine.begin() as connection:
        create(connection)
    with postgres_server.fresh_database(with_schema=False) as other:
        for _ in range(2):
            other.execute(schema_sql())
        assert structure(other) == structure(blank)
    found = inspect(engine)
    for table in metadata.sorted_tables:
        columns = {column["name"] for column in found.get_columns(table.name, schema="failstop")}
        assert columns == {column.name for column in table.columns}


def test_a_database_s_sql_is_of_its_kind(failsafe: FailSafe) -> None:
    ledger = Database(create_engine("sqlite://"), failsafe, name="ledger")
    assert "CREATE TABLE IF NOT EXISTS failstop_receipt" in ledger.schema_sql()
    with pytest.raises(ConfigurationError, match="sqlite has no roles"):
        ledger.schema_sql("app")
    trades = Database.connect("postgresql://nobody@127.0.0.1:1/x", failsafe, name="trades")
    assert trades.schema_sql("app") == schema_sql("app")


@pytest.mark.parametrize("role", ["", "a\0b"])
def test_a_role_without_a_name_is_refused(role: str) -> None:
    with pytest.raises(ConfigurationError, match="not empty"):
        schema_sql(role)


def test_a_database_of_another_kind_is_refused(failsafe: FailSafe) -> None:
    with pytest.raises(ConfigurationError, match="PostgreSQL and SQLite only, not mysql"):
        schema_sql(dialect="mysql")


def test_many_processes_create_the_schema_at_once(blank: PostgresDatabase) -> None:
    engines = [create_engine(blank.url()) for _ in range(6)]

    def make(engine: Engine) -> tuple[str, ...]:
        with engine.begin() as connection:
            return create(connection)

    with ThreadPoolExecutor(len(engines)) as threads:
        made = sorted(threads.map(make, engines))
    for engine in engines:
        engine.dispose()
    assert made == [()] * (len(engines) - 1) + [ALL]


def test_an_old_schema_is_found_and_given_what_it_lacks(
    blank: PostgresDatabase, engine: Engine
) -> None:
    blank.execute(schema_sql())
    whole = structure(blank)
    blank.execute("INSERT INTO failstop.receipt (key, service) VALUES ('k', 's')")
    blank.execute(
        "ALTER TABLE failstop.receipt DROP COLUMN is_pruned, DROP COLUMN result;"
        "DROP TABLE failstop.horizon"
    )
    lacking = ("failstop.horizon", "failstop.receipt.result", "failstop.receipt.is_pruned")
    with engine.begin() as connection:
        assert missing(connection) == lacking
        assert create(connection) == lacking
        assert missing(connection) == ()
    assert structure(blank) == whole
    assert blank.execute("SELECT key, is_pruned FROM failstop.receipt") == [("k", False)]


def test_an_old_schema_of_sqlite_is_mended_too(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    with engine.begin() as connection:
        create(connection)
        connection.exec_driver_sql("ALTER TABLE failstop_receipt DROP COLUMN is_pruned")
    with engine.begin() as connection:
        assert create(connection) == ("failstop_receipt.is_pruned",)
        assert missing(connection) == ()
    engine.dispose()


def test_the_sql_for_sqlite_makes_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(schema_sql(dialect="sqlite"))
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as made:
        assert missing(made) == ()
    engine.dispose()


def test_the_horizon_is_one_row(postgres: PostgresDatabase) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        postgres.execute("INSERT INTO failstop.horizon VALUES (2, now())")


def test_alembic_finds_the_metadata_by_its_public_name() -> None:
    assert failstop.schema.metadata is metadata


def test_a_probe_commits_a_write_where_the_schema_is(
    driver: str, postgres: PostgresDatabase, clients: Any
) -> None:
    client = clients(driver, postgres)
    seen = "SELECT max(counter) FROM failstop.witness"
    first = postgres.execute(seen)[0][0]
    said = client.database.probe()
    assert "committed a write" in said
    assert postgres.execute(seen)[0][0] > first


# Who may do what


@pytest.fixture(scope="module")
def governed(postgres_server: PostgresServer) -> Iterator[PostgresDatabase]:
    """A database with a table of somebody else's."""
    with postgres_server.fresh_database() as database:
        database.execute("CREATE TABLE secrets (word text)")
        yield database


@pytest.fixture(scope="module")
def role(governed: PostgresDatabase) -> Iterator[str]:
    """A role whose name must be quoted, with the least rights and no other."""
    quoted = '"trading ""1"" %"'
    governed.execute(f"CREATE ROLE {quoted} LOGIN PASSWORD 'p'")
    governed.execute(schema_sql('trading "1" %'))
    yield 'trading "1" %'
    governed.execute(f"DROP OWNED BY {quoted}; DROP ROLE {quoted}")


@pytest.fixture
def as_role(governed: PostgresDatabase, role: str) -> Iterator[Callable[[str], Any]]:
    """Give a function that runs SQL as that role, which is undone after the test."""
    with psycopg.connect(governed.url(None), user=role, password="p") as connection:
        yield connection.execute
        connection.rollback()


@pytest.fixture
def role_engine(governed: PostgresDatabase, role: str) -> Iterator[Engine]:
    """An engine whose connections are that role's."""
    made = create_engine(governed.url(), connect_args={"user": role, "password": "p"})
    yield made
    made.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO failstop.receipt (key, service) VALUES ('k', 's')",
        "SELECT * FROM failstop.receipt",
        "UPDATE failstop.receipt SET result = '1' WHERE key = 'k'",
        "INSERT INTO failstop.witness (process, counter) VALUES ('p', 1)",
        "UPDATE failstop.witness SET counter = 2, seen_at = now()",
        "SELECT * FROM failstop.horizon",
        "SELECT * FROM failstop.process",
        "DELETE FROM failstop.process",
        "LOCK TABLE failstop.fence IN ROW SHARE MODE",
        "LOCK TABLE failstop.fence IN EXCLUSIVE MODE",
        "SELECT * FROM failstop.fence",
        "INSERT INTO failstop.fence VALUES ('', 1, true, 'i', 'a', 'r')",
        "UPDATE failstop.fence SET is_halted = false",
    ],
)
def test_a_service_s_role_may_do_what_it_needs(
    statement: str, as_role: Callable[[str], Any]
) -> None:
    as_role(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM failstop.receipt",
        "TRUNCATE failstop.receipt",
        "UPDATE failstop.receipt SET key = 'other'",
        "UPDATE failstop.receipt SET is_pruned = true",
        "DELETE FROM failstop.witness",
        "INSERT INTO failstop.horizon VALUES (1, now())",
        "UPDATE failstop.horizon SET pruned_before = now()",
        "DELETE FROM failstop.horizon",
        "DELETE FROM failstop.fence",
        "CREATE TABLE failstop.mine (x integer)",
        "ALTER TABLE failstop.receipt ADD COLUMN mine integer",
        "SELECT * FROM secrets",
    ],
)
def test_a_service_s_role_may_do_nothing_else(
    statement: str, as_role: Callable[[str], Any]
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role(statement)


def test_a_role_that_may_create_nothing_creates_what_is_there_already(role_engine: Engine) -> None:
    with role_engine.begin() as connection:
        assert create(connection) == ()


# What start() says


def receipted(url: str, failsafe: FailSafe, **settings: Any) -> Database:
    return Database.connect(url, failsafe, **settings)


def test_no_service_starts_on_a_schema_that_is_missing(
    blank: PostgresDatabase, failsafe: FailSafe
) -> None:
    receipted(blank.url(), failsafe)
    with pytest.raises(ConfigurationError) as raised:
        failsafe.start()
    assert "failstop.receipt" in str(raised.value)
    assert "run failstop schema apply with DATABASE_URL set" in str(raised.value)
    assert failsafe.state == "STARTING"


def test_no_service_starts_on_an_old_schema(postgres: PostgresDatabase, failsafe: FailSafe) -> None:
    postgres.execute("ALTER TABLE failstop.receipt DROP COLUMN fingerprint")
    database = receipted(postgres.url(), failsafe)
    with pytest.raises(ConfigurationError, match=r"failstop\.receipt\.fingerprint"):
        failsafe.start()
    database.create_schema()
    failsafe.start()
    assert failsafe.is_normal


def test_no_service_starts_on_sqlite_without_the_receipts(
    tmp_path: Path, failsafe: FailSafe
) -> None:
    database = receipted(f"sqlite:///{tmp_path / 'ledger.db'}", failsafe)
    with pytest.raises(ConfigurationError, match="failstop_receipt"):
        failsafe.start()
    database.create_schema()
    failsafe.start()
    assert failsafe.is_normal


def test_without_receipts_and_fence_the_status_says_which_claims_are_void(
    blank: PostgresDatabase, failsafe: FailSafe
) -> None:
    database = receipted(blank.url(), failsafe, receipts=False, fence=False)
    failsafe.start()
    assert failsafe.is_normal
    advice = failsafe.status().to_dict()["recommendations"]
    for void in ("receipts are off: claims C5 and C6 are void", "claim C7 is void"):
        assert any(void in warning for warning in database.warnings)
        assert any(void in each for each in advice)


# What becomes of old receipts


def wrote(postgres: PostgresDatabase, key: str, *, days: float, is_automatic: bool) -> None:
    postgres.execute(
        "INSERT INTO failstop.receipt (key, fingerprint, result, service, committed_at, "
        "is_automatic) VALUES (%s, 'f', '1', 's', now() - make_interval(secs => %s), %s)",
        [key, days * 86400, is_automatic],
    )


def receipts(postgres: PostgresDatabase) -> dict[str, Any]:
    """Return what is left: by its key, whether each receipt was emptied."""
    rows = postgres.execute("SELECT key, result, fingerprint, is_pruned FROM failstop.receipt")
    assert all(result is fingerprint is None for _, result, fingerprint, gone in rows if gone)
    return {key: is_pruned for key, _, _, is_pruned in rows}


def horizon(postgres: PostgresDatabase) -> Any:
    rows = postgres.execute("SELECT pruned_before FROM failstop.horizon")
    return rows[0][0] if rows else None


def test_old_receipts_are_deleted_or_emptied_and_young_ones_kept(
    driver: str, postgres: PostgresDatabase, clients: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "PAGE", 2)
    for number in range(5):
        wrote(postgres, f"auto-{number}", days=91, is_automatic=True)
    wrote(postgres, "auto-young", days=89, is_automatic=True)
    wrote(postgres, "order-1", days=91, is_automatic=False)
    wrote(postgres, "order-2", days=89, is_automatic=False)
    database = clients(driver, postgres, start=False).database
    pruned = database.prune_receipts(90 * DAY)
    assert (pruned.deleted, pruned.emptied) == (5, 1)
    kept = "SELECT count(*) FROM failstop.receipt WHERE result IS NULL OR fingerprint IS NULL"
    assert postgres.execute(kept) == [(1,)]
    assert receipts(postgres) == {"auto-young": False, "order-1": True, "order-2": False}
    assert horizon(postgres) == pruned.before + DAY
    again = database.prune_receipts(90 * DAY)
    assert (again.deleted, again.emptied) == (0, 0)


def test_the_horizon_only_rises(database: Database, postgres: PostgresDatabase) -> None:
    wrote(postgres, "auto", days=100, is_automatic=True)
    first = database.prune_receipts(30 * DAY)
    wrote(postgres, "auto", days=100, is_automatic=True)
    database.prune_receipts(90 * DAY)
    assert horizon(postgres) == first.before + DAY


def test_the_horizon_is_never_behind_what_was_deleted(
    database: Database, postgres: PostgresDatabase
) -> None:
    """Whoever waited for a deletion with a tombstone must then read that it happened."""
    wrote(postgres, "auto", days=100, is_automatic=True)
    postgres.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NOT EXISTS (SELECT FROM failstop.horizon WHERE pruned_before > "
        "old.committed_at) THEN RAISE 'too early'; END IF; RETURN old; END $$;"
        "CREATE TRIGGER refuse BEFORE DELETE ON failstop.receipt "
        "FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    assert database.prune_receipts(90 * DAY).deleted == 1


def test_a_page_that_fails_is_not_half_pruned(
    database: Database, postgres: PostgresDatabase
) -> None:
    wrote(postgres, "auto", days=100, is_automatic=True)
    wrote(postgres, "order-1", days=100, is_automatic=False)
    postgres.execute("ALTER TABLE failstop.receipt ADD CHECK (result IS NOT NULL)")
    with pytest.raises(CriticalDatabaseError):
        database.prune_receipts(90 * DAY)
    assert receipts(postgres) == {"auto": False, "order-1": False}
    assert horizon(postgres) is None


def test_what_may_be_in_doubt_is_spared(database: Database, postgres: PostgresDatabase) -> None:
    for key in ("auto-1", "auto-2"):
        wrote(postgres, key, days=100, is_automatic=True)
    wrote(postgres, "order-1", days=100, is_automatic=False)
    pruned = database.prune_receipts(90 * DAY, spared={"auto-1", "order-1"})
    assert (pruned.deleted, pruned.emptied) == (1, 0)
    assert receipts(postgres) == {"auto-1": False, "order-1": False}


def test_the_horizon_stays_below_a_doubt_whose_receipt_may_never_come(
    database: Database, postgres: PostgresDatabase
) -> None:
    """Above it, a key that is not there would be too old to know, though it was rolled back."""
    wrote(postgres, "auto", days=100, is_automatic=True)
    since = datetime.now(UTC) - 99.5 * DAY
    pruned = database.prune_receipts(90 * DAY, spared={"another"}, doubted_since=since)
    assert pruned.deleted == 0
    assert horizon(postgres) == since - DAY  # and the question asks with `since`


def test_a_rehearsal_counts_and_changes_nothing(
    database: Database, postgres: PostgresDatabase
) -> None:
    wrote(postgres, "auto", days=100, is_automatic=True)
    wrote(postgres, "order-1", days=100, is_automatic=False)
    pruned = database.prune_receipts(90 * DAY, is_rehearsed=True)
    assert (pruned.deleted, pruned.emptied) == (1, 1)
    assert receipts(postgres) == {"auto": False, "order-1": False}
    assert horizon(postgres) is None


def test_less_than_a_day_is_refused(database: Database) -> None:
    with pytest.raises(ConfigurationError, match="younger than a day"):
        database.prune_receipts(timedelta(hours=23))


def test_a_service_s_role_may_not_prune(
    governed: PostgresDatabase, role_engine: Engine, failsafe: FailSafe
) -> None:
    wrote(governed, "auto", days=100, is_automatic=True)
    database = Database(role_engine, failsafe)
    with pytest.raises(ConfigurationError, match="the role that owns failstop's tables"):
        database.prune_receipts(90 * DAY)
    assert database.prune_receipts(90 * DAY, is_rehearsed=True).deleted == 1


def test_a_role_with_the_rights_that_the_docs_name_may_prune(
    postgres: PostgresDatabase, failsafe: FailSafe
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "schema.md").read_text("utf-8")
    grants = page.rpartition("```sql\n")[2].partition("```")[0]
    wrote(postgres, "auto", days=100, is_automatic=True)
    wrote(postgres, "order-1", days=100, is_automatic=False)
    postgres.execute("CREATE ROLE pruner LOGIN PASSWORD 'p'")
    try:
        postgres.execute(grants)
        arguments = {"user": "pruner", "password": "p"}
        database = Database(create_engine(postgres.url(), connect_args=arguments), failsafe)
        for _ in range(2):
            database.prune_receipts(90 * DAY)
        assert receipts(postgres) == {"order-1": True}
    finally:
        postgres.execute("DROP OWNED BY pruner; DROP ROLE pruner")


def test_a_key_that_was_emptied_takes_no_effect_again(
    database: Database, postgres: PostgresDatabase, failsafe: FailSafe
) -> None:
    failsafe.start()
    database.run_once("order-1", lambda connection: 7)
    postgres.execute("UPDATE failstop.receipt SET committed_at = now() - interval '100 days'")
    assert database.prune_receipts(90 * DAY).emptied == 1
    with pytest.raises(ReceiptExpiredError):
        database.run_once("order-1", lambda connection: 8)


def test_a_doubt_is_answered_before_and_not_contradicted_after_its_receipt_was_pruned(
    database: Database, postgres: PostgresDatabase
) -> None:
    """A transaction that was open for hours is doubted long after its receipt was dated."""
    wrote(postgres, "auto", days=90.1, is_automatic=True)
    since = datetime.now(UTC) - timedelta(days=89.9)
    doubt = InDoubt("database", "auto", since)
    assert database.resolve(doubt) is Outcome.COMMITTED
    database.prune_receipts(90 * DAY)
    assert receipts(postgres) == {}
    assert database.resolve(doubt) is Outcome.UNKNOWN


def test_a_service_starts_and_works_with_the_least_rights(
    governed: PostgresDatabase, role_engine: Engine, failsafe: FailSafe
) -> None:
    database = Database(role_engine, failsafe)
    failsafe.start()
    assert failsafe.is_normal
    assert [database.run_once("order-1", lambda connection: 7) for _ in range(2)] == [7, 7]
    assert receipts(governed)["order-1"] is False


def test_where_there_are_no_receipts_none_are_pruned(
    blank: PostgresDatabase, failsafe: FailSafe, tmp_path: Path
) -> None:
    database = Database.connect(blank.url(), failsafe)
    with pytest.raises(ConfigurationError, match="run failstop schema apply first"):
        database.prune_receipts(90 * DAY)
    ledger = Database.connect(f"sqlite:///{tmp_path / 'ledger.db'}", failsafe, name="ledger")
    with pytest.raises(ConfigurationError, match="PostgreSQL only, not sqlite"):
        ledger.prune_receipts(90 * DAY)
