"""Failures provoked on a real PostgreSQL, on three drivers, as they come through SQLAlchemy."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from failstop.diagnosis import Diagnoser, Diagnosis, Phase, Verdict
from failstop.testing import PostgresDatabase

DRIVERS = ["psycopg", "psycopg2", "asyncpg"]
Work = Callable[[sa.Connection], object]


def raised_by(url: str, work: Work) -> BaseException | None:
    """Return what `work` raised in a transaction on a fresh connection, connecting included."""
    try:
        if "asyncpg" in url:
            asyncio.run(_work_async(url, work))
        else:
            engine = sa.create_engine(url, poolclass=NullPool)
            with engine.connect() as connection:
                work(connection)
    except Exception as error:
        return error
    return None


async def _work_async(url: str, work: Work) -> None:
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(work)


def diagnose(url: str, work: Work, phase: Phase = Phase.STATEMENT) -> Diagnosis:
    error = raised_by(url, work)
    assert error is not None
    return Diagnoser().diagnose(error, phase=phase)


def run(*statements: str) -> Work:
    def work(connection: sa.Connection) -> None:
        for statement in statements:
            connection.execute(sa.text(statement))

    return work


def commit(*statements: str) -> Work:
    def work(connection: sa.Connection) -> None:
        run(*statements)(connection)
        connection.commit()

    return work


@pytest.fixture(params=DRIVERS)
def url(request: pytest.FixtureRequest, postgres: PostgresDatabase) -> str:
    postgres.execute("create table t (id int unique deferrable initially deferred)")
    postgres.execute("create table p (id int primary key)")
    postgres.execute("insert into p values (1)")
    return postgres.url(request.param)


@pytest.fixture
def locked(postgres: PostgresDatabase, url: str) -> Iterator[None]:
    """Another session holds the table p."""
    engine = sa.create_engine(postgres.url("psycopg"), poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text("lock table p in access exclusive mode"))
        yield


RAISE = "do $$ begin raise exception 'no' using errcode = '57P01'; end $$"


@pytest.mark.parametrize(
    ("statements", "sqlstate", "verdict"),
    [
        (["insert into p values (1)"], "23505", Verdict.APPLICATION),
        (["selec 1"], "42601", Verdict.APPLICATION),
        (["select 1 / 0"], "22012", Verdict.APPLICATION),
        ([RAISE], "57P01", Verdict.APPLICATION),
        (["set local statement_timeout = 50", "select pg_sleep(30)"], "57014", Verdict.CONFLICT),
        (["set transaction read only", "insert into p values (2)"], "25006", Verdict.CRITICAL),
    ],
)
def test_a_statement_is_judged_by_the_servers_own_word(
    url: str, statements: list[str], sqlstate: str, verdict: Verdict
) -> None:
    diagnosis = diagnose(url, run(*statements))
    assert (diagnosis.sqlstate, diagnosis.verdict) == (sqlstate, verdict)


@pytest.mark.usefixtures("locked")
def test_a_lock_that_is_not_free_is_a_conflict(url: str) -> None:
    diagnosis = diagnose(url, run("lock table p in share mode nowait"))
    assert (diagnosis.kind, diagnosis.verdict) == ("lock_not_available", Verdict.CONFLICT)


def test_a_deferred_constraint_at_commit_is_the_applications_and_known(url: str) -> None:
    work = commit("insert into t values (1), (1)")
    diagnosis = diagnose(url, work, Phase.COMMIT)
    assert (diagnosis.verdict, diagnosis.outcome_known) == (Verdict.APPLICATION, True)


def test_a_session_ended_by_the_server_is_critical(url: str, postgres: PostgresDatabase) -> None:
    def work(connection: sa.Connection) -> None:
        connection.execute(sa.text("select 1"))
        postgres.terminate_backends()
        connection.execute(sa.text("select 1"))

    diagnosis = diagnose(url, work)
    assert diagnosis.verdict is Verdict.CRITICAL
    assert diagnosis.kind in ("admin_shutdown", "connection_lost")


def test_a_commit_on_a_session_ended_by_the_server_is_critical(
    url: str, postgres: PostgresDatabase
) -> None:
    def work(connection: sa.Connection) -> None:
        connection.execute(sa.text("insert into p values (2)"))
        postgres.terminate_backends()
        connection.commit()

    assert diagnose(url, work, Phase.COMMIT).verdict is Verdict.CRITICAL
    assert postgres.execute("select count(*) from p") == [(1,)]


def test_a_database_that_does_not_exist_is_critical(url: str) -> None:
    gone = sa.make_url(url).set(database="no_such_database")
    diagnosis = diagnose(gone.render_as_string(hide_password=False), run(), Phase.CONNECT)
    assert diagnosis.verdict is Verdict.CRITICAL


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_refused_connection_is_critical_and_named(driver: str) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        url = f"postgresql+{driver}://u:hunter2@127.0.0.1:{port}/x"
        diagnosis = diagnose(url, run(), Phase.CONNECT)
    assert (diagnosis.verdict, diagnosis.kind) == (Verdict.CRITICAL, "connection_refused")
    assert "hunter2" not in repr(diagnosis)
