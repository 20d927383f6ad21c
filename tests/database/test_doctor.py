"""Settings that void a claim are named with their mend, and no service starts on them."""

from __future__ import annotations

import asyncio
import functools
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import stamina
import tenacity
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from tests.database.pgbouncer import PROGRAM, pgbouncer

from failstop import FailSafe
from failstop._redaction import redact
from failstop.database import AsyncDatabase, Database, Finding, Severity
from failstop.database._findings import RULES, Facts, Pooling, judge
from failstop.errors import ConfigurationError, CriticalDatabaseError
from failstop.recovery import Recovery
from failstop.testing import PostgresDatabase, PostgresServer

QUIET = Recovery(probe_interval=60)
PROMPT = Recovery(probe_interval=0.05, consecutive=1)
REFUSED, WARNED = Severity.REFUSED, Severity.WARNED

TIMEOUTS = "-c statement_timeout=1000 -c idle_in_transaction_session_timeout=10000"

SERVER = {
    "default_transaction_read_only": "off",
    "fsync": "on",
    "full_page_writes": "on",
    "idle_in_transaction_session_timeout": "5000",
    "statement_timeout": "1900",
    "synchronous_commit": "on",
    "synchronous_standby_names": "",
}
SOUND = Facts("postgresql", 2.0, settings=SERVER)
FILE = Facts(
    "sqlite", 2.0, settings={"synchronous": "2", "journal_mode": "wal", "file": "/ledger.db"}
)


def having(facts: Facts = SOUND, **settings: str) -> Facts:
    return replace(facts, settings={**facts.settings, **settings})


def found(findings: tuple[Finding, ...]) -> list[tuple[str, str, Severity]]:
    return [(each.setting, each.claim, each.severity) for each in findings]


# The table


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (having(fsync="off"), ("fsync", "C5", REFUSED)),
        (having(full_page_writes="off"), ("full_page_writes", "C5", REFUSED)),
        (having(synchronous_commit="off"), ("synchronous_commit", "C5", REFUSED)),
        (
            having(synchronous_commit="local", synchronous_standby_names="*"),
            ("synchronous_commit", "C8", WARNED),
        ),
        (
            having(synchronous_commit="remote_write", synchronous_standby_names="*"),
            ("synchronous_commit", "C8", WARNED),
        ),
        (
            having(default_transaction_read_only="on"),
            ("default_transaction_read_only", "C8", REFUSED),
        ),
        (having(statement_timeout="0"), ("statement_timeout", "C4", REFUSED)),
        (having(statement_timeout="2001"), ("statement_timeout", "C4", REFUSED)),
        (
            having(idle_in_transaction_session_timeout="0"),
            ("idle_in_transaction_session_timeout", "C6", WARNED),
        ),
        (
            having(idle_in_transaction_session_timeout="1999"),
            ("idle_in_transaction_session_timeout", "C4", WARNED),
        ),
        (replace(SOUND, is_pinged=False), ("pool_pre_ping", "C4", WARNED)),
        (replace(SOUND, hosts=2), ("target_session_attrs", "C8", REFUSED)),
        (
            replace(SOUND, hosts=2, session_attrs="prefer-standby"),
            ("target_session_attrs", "C8", REFUSED),
        ),
        (
            replace(SOUND, pooling=Pooling.TRANSACTION, sources={"statement_timeout": "session"}),
            ("pooling", "C4", REFUSED),
        ),
        (
            replace(SOUND, pooling=Pooling.TRANSACTION, sources={"statement_timeout": "client"}),
            ("pooling", "C4", REFUSED),
        ),
        (
            replace(SOUND, pooling=Pooling.TRANSACTION, sources={"statement_timeout": "user"}),
            ("pooling", "C4", WARNED),
        ),
        (replace(SOUND, missing=("failstop.receipt",)), ("schema", "C5, C6, C7", REFUSED)),
        (replace(SOUND, receipts=False), ("receipts", "C5, C6", WARNED)),
        (replace(SOUND, fence=False), ("fence", "C7", WARNED)),
        (replace(SOUND, retriers="tenacity in the creator"), ("retry", "C2", REFUSED)),
        (replace(SOUND, strangers="code of app in connect()"), ("wrapper", "C2", WARNED)),
        (having(FILE, synchronous="0"), ("synchronous", "C5", REFUSED)),
        (having(FILE, synchronous="1"), ("synchronous", "C5", REFUSED)),
        (having(FILE, journal_mode="off"), ("journal_mode", "C5", REFUSED)),
        (having(FILE, journal_mode="memory"), ("journal_mode", "C5", REFUSED)),
        (having(FILE, journal_mode="memory", file=""), ("memory", "C5", WARNED)),
    ],
)
def test_a_setting_is_refused_where_it_voids_a_claim_and_warned_of_where_it_weakens_one(
    facts: Facts, expected: tuple[str, str, Severity]
) -> None:
    assert found(judge(facts)) == [expected]


def test_notifications_through_a_pool_of_transactions_are_refused() -> None:
    facts = replace(SOUND, pooling=Pooling.TRANSACTION, listens=True)
    assert found(judge(facts)) == [("listen_url", "C12", REFUSED), ("pooling", "C4", WARNED)]


@pytest.mark.parametrize(
    "facts",
    [
        SOUND,
        FILE,
        having(statement_timeout="2000"),
        having(synchronous_commit="local"),
        having(synchronous_commit="remote_apply", synchronous_standby_names="*"),
        having(FILE, synchronous="1", journal_mode="delete"),
        replace(SOUND, hosts=3, session_attrs="read-write"),
        replace(SOUND, hosts=3, session_attrs="primary"),
        replace(SOUND, pooling=Pooling.SESSION, sources={"statement_timeout": "user"}),
        replace(SOUND, pooling=Pooling.SESSION, listens=True),
        replace(SOUND, listens=True),
    ],
)
def test_sound_settings_have_no_finding(facts: Facts) -> None:
    assert judge(facts) == ()


def test_what_is_refused_comes_first() -> None:
    severities = [each.severity for each in judge(replace(having(fsync="off"), is_pinged=False))]
    assert severities == [REFUSED, WARNED]


def test_what_the_server_allows_itself_is_warned_of_and_not_hidden() -> None:
    (finding,) = judge(replace(having(fsync="off"), allowed=frozenset({"fsync"})))
    assert finding.severity is WARNED
    assert "failstop.allow" in finding.cause


@pytest.mark.parametrize("setting", ["statement_timeout", "default_transaction_read_only"])
def test_only_what_costs_durability_can_be_allowed(setting: str) -> None:
    facts = having(statement_timeout="0", default_transaction_read_only="on")
    judged = judge(replace(facts, allowed=frozenset({setting})))
    assert setting in [each.setting for each in judged if each.is_refused]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.setting}-{rule.claim}")
def test_every_finding_is_shown_whole_by_alerts_and_status(rule: Any) -> None:
    """What is redacted on its way out would lose the mend."""
    finding = Finding(rule.setting, rule.claim, rule.severity, rule.cause, rule.mend)
    assert redact(str(finding)) == str(finding)
    assert rule.mend
    assert not rule.mend.endswith(".")


# Real servers


@pytest.fixture(scope="module")
def durable_server() -> Iterator[PostgresServer]:
    with PostgresServer(durable=True) as server:
        yield server


@pytest.fixture
def durable(durable_server: PostgresServer) -> Iterator[PostgresDatabase]:
    with durable_server.fresh_database() as database:
        yield database


@pytest.fixture
def failsafe() -> Iterator[FailSafe]:
    made = FailSafe("tests", recovery=QUIET)
    yield made
    made.close()


def settings_of(findings: tuple[Finding, ...], severity: Severity) -> set[str]:
    return {each.setting for each in findings if each.severity is severity}


def test_a_database_as_failstop_connects_it_has_no_finding(
    driver: str, durable: PostgresDatabase, clients: Any
) -> None:
    client = clients(driver, durable, start=False, deadline=2.0)
    assert client.database.findings() == ()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("synchronous_commit", "off"), ("default_transaction_read_only", "on")],
)
def test_a_setting_of_the_database_or_role_is_seen_through_every_driver(
    driver: str, durable: PostgresDatabase, clients: Any, setting: str, value: str
) -> None:
    durable.execute(f'ALTER DATABASE "{durable.name}" SET {setting} = {value}')
    client = clients(driver, durable, start=False)
    assert settings_of(client.database.findings(), REFUSED) == {setting}


def test_a_timeout_in_the_url_that_outlasts_the_deadline_is_refused(
    durable: PostgresDatabase, failsafe: FailSafe
) -> None:
    url = durable.url() + "?options=-c%20statement_timeout%3D60s"
    (finding,) = Database.connect(url, failsafe, deadline=5.0).findings()
    assert (finding.setting, finding.severity) == ("statement_timeout", REFUSED)
    assert "60000 ms" in finding.cause


def test_a_creator_that_sets_no_timeout_is_refused(
    durable: PostgresDatabase, failsafe: FailSafe
) -> None:
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(durable.url(driver=None))
    )
    database = Database(engine, failsafe)
    assert settings_of(database.findings(), REFUSED) == {"statement_timeout"}


def test_an_engine_without_pre_ping_is_warned_of_unless_it_keeps_no_connection(
    durable: PostgresDatabase, failsafe: FailSafe
) -> None:
    plain = Database(create_engine(durable.url()), failsafe, name="plain")
    keeps_none = Database(create_engine(durable.url(), poolclass=NullPool), failsafe, name="none")
    assert found(plain.findings()) == [("pool_pre_ping", "C4", WARNED)]
    assert keeps_none.findings() == ()


def test_a_list_of_hosts_must_say_that_it_wants_the_one_that_takes_writes(
    driver: str, durable: PostgresDatabase, clients: Any
) -> None:
    port = durable.server.port
    plain = durable.url(driver={"psycopg_async": "psycopg"}.get(driver, driver))
    url = plain.replace(
        f"@127.0.0.1:{port}/{durable.name}",
        f"@/{durable.name}?host=127.0.0.1:{port}&host=localhost:{port}",
    )
    assert url != plain
    database = clients(driver, url, start=False).database
    assert settings_of(database.findings(), REFUSED) == {"target_session_attrs"}
    mended = clients(driver, f"{url}&target_session_attrs=read-write", start=False).database
    assert mended.findings() == ()


def test_libpq_s_own_variables_count(
    durable: PostgresDatabase, failsafe: FailSafe, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, password = durable.server.port, durable.server.password
    user = durable.url(driver=None).split("//")[1].split(":")[0]
    monkeypatch.setenv("PGHOST", "127.0.0.1,localhost")
    url = f"postgresql+psycopg://{user}:{password}@:{port}/{durable.name}"
    database = Database.connect(url, failsafe)
    assert settings_of(database.findings(), REFUSED) == {"target_session_attrs"}
    database.engine.dispose()
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "read-write")
    again = Database.connect(url, failsafe, name="again")
    assert again.findings() == ()


def test_a_database_that_does_not_answer_has_no_findings_but_an_error(failsafe: FailSafe) -> None:
    database = Database.connect("postgresql://u:secret@127.0.0.1:1/x", failsafe)
    with pytest.raises(CriticalDatabaseError) as raised:
        database.findings()
    assert "secret" not in str(raised.value)


# Poolers


needs_pgbouncer = pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed here")


def through(url: str, driver: str) -> str:
    name = {"psycopg_async": "psycopg"}.get(driver, driver)
    url = url.replace("postgresql://", f"postgresql+{name}://")
    return f"{url}?prepared_statement_cache_size=0" if driver == "asyncpg" else url


@needs_pgbouncer
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_pooler_that_loses_the_timeouts_is_refused(
    mode: str, driver: str, durable_server: PostgresServer, clients: Any
) -> None:
    with pgbouncer(durable_server, mode) as url:
        client = clients(driver, through(url, driver), start=False)
        expected = {"statement_timeout"} | ({"listen_url"} if mode == "transaction" else set())
        assert settings_of(client.database.findings(), REFUSED) == expected
        client.close()


@needs_pgbouncer
@pytest.mark.parametrize("round_robin", ["0", "1"])
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_pool_of_transactions_is_told_from_one_of_sessions(
    mode: str, round_robin: str, driver: str, timeouts: PostgresServer, clients: Any
) -> None:
    with pgbouncer(timeouts, mode, server_round_robin=round_robin) as url:
        have_servers(url, 4)
        direct = timeouts.url(driver=None)
        client = clients(driver, through(url, driver), start=False, listen_url=direct)
        expected = [("pooling", "C4", WARNED)] if mode == "transaction" else []
        assert found(client.database.findings()) == expected
        client.close()


def have_servers(url: str, count: int) -> None:
    """Let a pooler hold several connections to the server that nobody uses now."""
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(psycopg.connect(url))) for _ in range(count)]
        for client in clients:
            client.execute("SELECT 1")
        for client in clients:
            client.commit()  # a pooler closes what it is given back in a transaction


@needs_pgbouncer
def test_a_session_s_own_timeouts_are_refused_in_a_pool_of_transactions(
    durable_server: PostgresServer, failsafe: FailSafe
) -> None:
    with pgbouncer(durable_server, "transaction") as url:
        engine = create_engine(through(url, "psycopg"), pool_pre_ping=True)

        @event.listens_for(engine, "connect")
        def set_timeout(connection: Any, entry: object) -> None:
            connection.execute("SET statement_timeout = 1000")
            connection.commit()

        database = Database(engine, failsafe, listen_url=durable_server.url(driver=None))
        assert settings_of(database.findings(), REFUSED) == {"pooling"}
        failsafe.close()


@pytest.fixture
def timeouts(durable_server: PostgresServer) -> Iterator[PostgresServer]:
    """The server with timeouts of its own, which no pooler can lose."""
    names = ("statement_timeout", "idle_in_transaction_session_timeout")
    durable_server.configure(dict(zip(names, ("1s", "10s"), strict=True)))
    yield durable_server
    durable_server.configure(dict.fromkeys(names))


# Who repeats


def retrying(function: Callable[..., Any]) -> Callable[..., Any]:
    return tenacity.retry(stop=tenacity.stop_after_attempt(3))(function)


@retrying
def connect_again_and_again(url: str) -> Any:
    return psycopg.connect(url, options=TIMEOUTS)


@stamina.retry(on=OSError)
def stamina_connect(url: str) -> Any:
    return psycopg.connect(url, options=TIMEOUTS)


def own_loop(url: str) -> Any:
    for attempt in stamina.retry_context(on=OSError):
        with attempt:
            return psycopg.connect(url, options=TIMEOUTS)
    return None


def plain_connect(url: str) -> Any:
    return psycopg.connect(url, options=TIMEOUTS)


@pytest.mark.parametrize(
    ("make", "library"),
    [
        (lambda url: functools.partial(connect_again_and_again, url), "tenacity"),
        (lambda url: lambda: connect_again_and_again(url), "tenacity"),
        (lambda url: functools.partial(stamina_connect, url), "stamina"),
        (lambda url: functools.partial(own_loop, url), "stamina"),
    ],
)
def test_a_creator_that_repeats_is_refused(
    make: Callable[[str], Any], library: str, durable: PostgresDatabase, failsafe: FailSafe
) -> None:
    creator = make(durable.url(driver=None))
    engine = create_engine("postgresql+psycopg://", creator=creator, poolclass=NullPool)
    (finding,) = Database(engine, failsafe).findings()
    assert (finding.setting, finding.severity) == ("retry", REFUSED)
    assert f"{library} in the creator" in finding.cause


def test_an_async_creator_that_repeats_is_refused(
    durable: PostgresDatabase, failsafe: FailSafe
) -> None:
    @tenacity.retry(stop=tenacity.stop_after_attempt(2))
    async def connect() -> Any:
        return await psycopg.AsyncConnection.connect(durable.url(driver=None), options=TIMEOUTS)

    engine = create_async_engine("postgresql+psycopg://", async_creator=connect, poolclass=NullPool)
    assert settings_of(AsyncDatabase(engine, failsafe).findings(), REFUSED) == {"retry"}


def test_what_the_guard_refuses_to_connect_is_a_wrong_configuration_too(
    durable: PostgresDatabase, failsafe: FailSafe
) -> None:
    async def connect() -> Any:
        import asyncpg

        return await asyncpg.connect(durable.url(driver=None))

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    AsyncDatabase(engine, failsafe)
    with pytest.raises(ConfigurationError, match="async_creator"):
        failsafe.start()
    assert failsafe.state == "STARTING"


def test_a_listener_of_do_connect_that_repeats_is_refused(
    durable: PostgresDatabase, failsafe: FailSafe
) -> None:
    engine = create_engine(durable.url(), poolclass=NullPool)

    @event.listens_for(engine, "do_connect")
    @retrying
    def connect(dialect: Any, entry: object, cargs: Any, cparams: Any) -> Any:
        return psycopg.connect(*cargs, **cparams, options=TIMEOUTS)

    assert settings_of(Database(engine, failsafe).findings(), REFUSED) == {"retry"}


def test_a_connect_that_was_replaced_by_one_that_repeats_is_refused(
    durable: PostgresDatabase, failsafe: FailSafe
) -> None:
    engine = create_engine(durable.url(), poolclass=NullPool)
    engine.connect = retrying(engine.connect)  # type: ignore[method-assign] # the misuse itself
    (finding,) = Database(engine, failsafe).findings()
    assert finding.cause.startswith("tenacity in the engine's connect():")


def test_a_commit_of_the_dialect_that_repeats_is_refused(
    durable: PostgresDatabase, failsafe: FailSafe
) -> None:
    """The most dangerous one: psycopg answers the second COMMIT without asking the server."""
    engine = create_engine(durable.url(), poolclass=NullPool)
    kind = type(engine.dialect)
    engine.dialect.__class__ = type("Retrying", (kind,), {"do_commit": retrying(kind.do_commit)})
    assert settings_of(Database(engine, failsafe).findings(), REFUSED) == {"retry"}


def test_an_engine_of_a_class_of_its_own_is_warned_of(
    durable: PostgresDatabase, failsafe: FailSafe
) -> None:
    class PatientEngine(Engine):
        def connect(self) -> Any:
            while True:
                try:
                    return super().connect()
                except OperationalError:
                    time.sleep(1)

    engine = create_engine(durable.url(), poolclass=NullPool)
    engine.__class__ = PatientEngine
    (finding,) = Database(engine, failsafe).findings()
    assert (finding.setting, finding.severity) == ("wrapper", WARNED)
    assert "the engine's connect()" in finding.cause


def test_a_plain_creator_and_a_listener_that_adds_a_password_are_not_found(
    durable: PostgresDatabase, failsafe: FailSafe
) -> None:
    creator = functools.partial(plain_connect, durable.url(driver=None))
    engine = create_engine("postgresql+psycopg://", creator=creator, poolclass=NullPool)
    other = create_engine(durable.url(), poolclass=NullPool)

    @event.listens_for(other, "do_connect")
    def add_password(dialect: Any, entry: object, cargs: Any, cparams: Any) -> None:
        cparams["password"] = durable.server.password

    assert Database(engine, failsafe, name="creator").findings() == ()
    assert Database(other, failsafe, name="listener").findings() == ()


# SQLite


@pytest.mark.parametrize(
    ("pragmas", "refused"),
    [
        ((), set()),
        (("synchronous=OFF",), {"synchronous"}),
        (("journal_mode=WAL", "synchronous=NORMAL"), {"synchronous"}),
        (("journal_mode=MEMORY",), {"journal_mode"}),
    ],
)
def test_sqlite_is_judged_too(
    pragmas: tuple[str, ...], refused: set[str], tmp_path: Path, failsafe: FailSafe
) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: sqlite3.Connection, entry: object) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    database = Database(engine, failsafe)
    database.create_schema()
    assert settings_of(database.findings(), REFUSED) == refused
    assert settings_of(database.findings(), WARNED) == set()


# What a service does with them


@pytest.fixture(params=["psycopg", "asyncpg"])
def one_driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def void(database: PostgresDatabase) -> None:
    name = database.name
    database.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    database.execute(f"ALTER DATABASE \"{name}\" SET failstop.allow = ''")


def test_start_names_every_refused_setting_with_its_mend_and_starts_nothing(
    one_driver: str, durable: PostgresDatabase, clients: Any
) -> None:
    void(durable)
    options = "&" if one_driver == "asyncpg" else "?options=-c%20statement_timeout%3D0"
    url = durable.url(driver=one_driver) + options.rstrip("&")
    client = clients(one_driver, url, start=False)
    with pytest.raises(ConfigurationError) as raised:
        client.failsafe.start()
    said = str(raised.value)
    assert "set synchronous_commit to on for the role of the service" in said
    assert ("statement_timeout (C4)" in said) is (one_driver == "psycopg")
    assert client.failsafe.state == "STARTING"
    assert client.failsafe.incident is None
    assert client.trips == []


def test_start_works_once_the_setting_is_mended(
    one_driver: str, durable: PostgresDatabase, clients: Any
) -> None:
    void(durable)
    client = clients(one_driver, durable, start=False)
    with pytest.raises(ConfigurationError):
        client.failsafe.start()
    durable.execute(f'ALTER DATABASE "{durable.name}" RESET ALL')
    client.failsafe.start()
    assert client.failsafe.is_normal


def test_start_inside_a_running_loop_judges_an_async_database(durable: PostgresDatabase) -> None:
    void(durable)

    async def main() -> None:
        failsafe = FailSafe("tests", recovery=QUIET)
        database = AsyncDatabase.connect(durable.url(driver="asyncpg"), failsafe)
        with pytest.raises(ConfigurationError, match="synchronous_commit"):
            failsafe.start()
        failsafe.close()
        await database.engine.dispose()

    asyncio.run(main())


def test_a_database_that_joins_a_running_service_is_judged_at_once(
    durable: PostgresDatabase,
) -> None:
    void(durable)
    with FailSafe("tests", recovery=QUIET) as failsafe:
        with pytest.raises(ConfigurationError, match="synchronous_commit"):
            Database.connect(durable.url(), failsafe)
        assert failsafe.is_normal


def test_a_read_only_server_is_an_outage_and_no_wrong_configuration(
    durable: PostgresDatabase, clients: Any
) -> None:
    durable.execute(f'ALTER DATABASE "{durable.name}" SET default_transaction_read_only = on')
    client = clients("psycopg", durable, start=False, recovery=QUIET)
    client.failsafe.start()
    assert client.trips == ["read_only"]


def test_a_database_that_was_down_at_the_start_is_judged_when_it_first_answers(
    one_driver: str, clients: Any
) -> None:
    with PostgresServer(durable=True, settings={"fsync": False}) as server:
        server.create_schema()
        url = server.url(driver=one_driver)
        server.stop()
        client = clients(one_driver, url, start=False, recovery=PROMPT)
        client.failsafe.start()
        assert not client.failsafe.is_normal
        server.start()
        wait_until(lambda: "set fsync to on at the server" in detail_of(client.failsafe))
        assert client.failsafe.state == "FAIL_SAFE"
        server.configure({"fsync": True})
        wait_until(lambda: client.failsafe.is_normal)


def detail_of(failsafe: FailSafe) -> str:
    return " ".join(each.detail for each in failsafe.status().checks if not each.is_passed)


def test_what_weakens_a_claim_is_in_the_status_and_logged_once(
    postgres: PostgresDatabase, clients: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The tests' server runs without fsync, and says so."""
    with caplog.at_level(logging.WARNING, "failstop"):
        client = clients("psycopg", postgres)
        client.failsafe.plan_reset()
    logged = [each.getMessage() for each in caplog.records if "fsync" in each.getMessage()]
    assert len(logged) == 1
    advice = client.failsafe.status().recommendations
    assert any("fsync" in each and "failstop.allow" in each for each in advice)


def wait_until(is_true: Callable[[], bool], seconds: float = 20.0) -> None:
    limit = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < limit, "the condition did not come true"
        time.sleep(0.005)
