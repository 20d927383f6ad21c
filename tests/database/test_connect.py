"""Connecting ends in time, whatever the network does, and what came too late is closed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool
from tests.forking import exit_code

from failstop import FailSafe
from failstop.database import Database
from failstop.database._attempt import MOST_ABANDONED, Attempts
from failstop.errors import (
    CriticalDatabaseError,
    DatabaseUnavailableError,
    OperationsSuspendedError,
    Outcome,
)
from failstop.recovery import Recovery
from failstop.testing import PostgresDatabase, PostgresServer

SLACK = 3.0
QUIET = Recovery(probe_interval=60)


class SilentServer:
    """Refuses connections, then accepts them, reads, and never answers more than `greeting`."""

    def __init__(self, greeting: bytes = b"") -> None:
        self._greeting = greeting
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.port = self._socket.getsockname()[1]
        self.accepted: list[socket.socket] = []

    def listen(self) -> None:
        """Refuse no more."""
        self._socket.listen()
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            self.accepted.append(peer)
            if self._greeting:
                peer.recv(8)
                peer.sendall(self._greeting)

    def close(self) -> None:
        if self._thread.is_alive():
            self._socket.shutdown(socket.SHUT_RDWR)
            self._thread.join(5)
        self._socket.close()
        for peer in self.accepted:
            peer.close()


def url_to(driver: str, port: int, options: str = "") -> str:
    name = {"psycopg_async": "psycopg"}.get(driver, driver)
    return f"postgresql+{name}://u:p@127.0.0.1:{port}/x{options}"


@pytest.mark.parametrize("fault", ["refused", "no answer", "TLS that stalls"])
def test_a_connect_that_cannot_be_made_ends_in_time_as_not_started(
    driver: str, clients: Any, fault: str
) -> None:
    greeting = b"S" if fault == "TLS that stalls" else b""
    with closing(SilentServer(greeting)) as server:
        tls = "?ssl=require" if driver == "asyncpg" else "?sslmode=require"
        url = url_to(driver, server.port, tls if greeting else "")
        client = clients(driver, url, start=False, deadline=0.5, recovery=QUIET)
        force_normal(client.failsafe)
        if fault != "refused":
            server.listen()
        started = time.monotonic()
        with pytest.raises(CriticalDatabaseError) as raised:
            client.query("SELECT 1")
        assert time.monotonic() - started < 0.5 + SLACK
        assert raised.value.outcome is Outcome.NOT_STARTED
        assert not client.failsafe.is_normal


def force_normal(failsafe: FailSafe) -> None:
    """Start on a database that refuses, and let a person overrule it."""
    failsafe.start()
    failsafe.reset(actor="tester", reason="the fault is the test's", force=True)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_trip_frees_whoever_is_connecting(driver: str, clients: Any) -> None:
    with closing(SilentServer()) as server:
        url = url_to(driver, server.port)
        client = clients(driver, url, start=False, deadline=5.0, recovery=QUIET)
        force_normal(client.failsafe)
        server.listen()

        def halt() -> None:
            wait_until(lambda: bool(server.accepted))
            client.failsafe.halt(actor="tester", reason="test")

        thread = threading.Thread(target=halt)
        thread.start()
        started = time.monotonic()
        with pytest.raises(OperationsSuspendedError) as raised:
            client.query("SELECT 1", deadline=4.5)
        assert time.monotonic() - started < 3.0
        assert raised.value.outcome is Outcome.NOT_STARTED
        thread.join(5)


DNS = """
    import asyncio, json, os, sys, time
    from failstop import FailSafe
    from failstop.database import AsyncDatabase, Database
    from failstop.errors import CriticalDatabaseError
    from failstop.recovery import Recovery

    driver = sys.argv[1]
    name = {"psycopg_async": "psycopg"}.get(driver, driver)
    failsafe = FailSafe("dns", recovery=Recovery(probe_interval=60))
    kind = AsyncDatabase if driver in ("psycopg_async", "asyncpg") else Database
    database = kind.connect(
        f"postgresql+{name}://u:p@database.invalid/x", failsafe, deadline=0.3, connect_deadline=0.3
    )
    failsafe.start()
    failsafe.reset(actor="t", reason="t", force=True)
    started = time.monotonic()
    try:
        if kind is Database:
            database.query("SELECT 1")
        else:
            loop = asyncio.new_event_loop()
            loop.run_until_complete(database.query("SELECT 1"))
    except CriticalDatabaseError as error:
        took = time.monotonic() - started
        print(json.dumps({"took": took, "kind": error.kind, "outcome": error.outcome}), flush=True)
    os._exit(0)  # asyncio's executor would wait for the resolver to give up
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a name server of one's own needs root")
def test_a_name_server_that_never_answers_ends_in_time(driver: str, tmp_path: Path) -> None:
    address = f"127.9.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"  # one for each test run
    configuration = tmp_path / "resolv.conf"
    configuration.write_text(f"nameserver {address}\noptions timeout:5 attempts:1\n")
    script = tmp_path / "dns.py"
    script.write_text(textwrap.dedent(DNS))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((address, 53))
        done = subprocess.run(
            [
                *("unshare", "--mount", "sh", "-c"),
                'mount --bind "$1" /etc/resolv.conf && exec "$2" "$3" "$4"',
                *("sh", str(configuration), sys.executable, str(script), driver),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        silent.setblocking(False)
        assert silent.recv(4096), "nobody asked the name server"
    said = json.loads(done.stdout)
    assert said["took"] < 0.3 + SLACK
    assert said["outcome"] == "NOT_STARTED"
    assert said["kind"] == "connect_timeout"


def test_a_connection_that_comes_too_late_is_closed() -> None:
    closed: list[object] = []
    go = threading.Event()
    attempts = Attempts("database")

    def connect() -> object:
        go.wait(10)
        return "late"

    with pytest.raises(DatabaseUnavailableError):
        attempts.make(connect, closed.append, 0.05)
    assert closed == []
    go.set()
    wait_until(lambda: closed == ["late"])


def test_attempts_that_hang_do_not_pile_up() -> None:
    go = threading.Event()
    attempts = Attempts("database")
    before = threading.active_count()
    for _ in range(MOST_ABANDONED + 10):
        with pytest.raises(DatabaseUnavailableError):
            attempts.make(lambda: go.wait(30), lambda _: None, 0.001)
    assert threading.active_count() - before <= MOST_ABANDONED
    go.set()
    wait_until(lambda: threading.active_count() <= before)
    assert attempts.make(lambda: "well", lambda _: None, 5) == "well"


def test_what_connect_raises_is_raised_to_its_caller() -> None:
    def connect() -> object:
        raise OSError("no route")

    with pytest.raises(OSError, match="no route"):
        Attempts("database").make(connect, lambda _: None, 5)


def test_an_engine_with_a_creator_of_its_own_is_guarded(postgres: PostgresDatabase) -> None:
    import psycopg

    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(
            postgres.url(driver=None), options="-c statement_timeout=950"
        ),
        poolclass=NullPool,
    )
    with FailSafe("tests", recovery=QUIET) as failsafe:
        database = Database(engine, failsafe, deadline=1.0)
        assert database.query("SELECT 1") == [(1,)]
        failsafe.halt(actor="tester", reason="test")
        with pytest.raises(OperationsSuspendedError):
            database.query("SELECT 1")


def test_the_users_own_connect_options_are_kept(postgres: PostgresDatabase) -> None:
    engine = create_engine(
        postgres.url(),
        connect_args={"options": "-c statement_timeout=1234 -c search_path=public"},
    )
    with FailSafe("tests", recovery=QUIET) as failsafe:
        Database(engine, failsafe, deadline=5.0)
        with engine.connect() as connection:
            shown = connection.execute(text("SHOW search_path")).scalar()
            timeout = connection.execute(text("SHOW statement_timeout")).scalar()
        assert (shown, timeout) == ("public", "1234ms")
        engine.dispose()


def test_a_forked_child_makes_connections_of_its_own(postgres: PostgresDatabase) -> None:
    """The parent's connections stay whole, whatever the child does with its copy of the engine."""
    with FailSafe("tests", recovery=QUIET) as failsafe:
        database = Database.connect(postgres.url(), failsafe)
        (mine,) = database.query("SELECT pg_backend_pid()")[0]
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                (its,) = database.query("SELECT pg_backend_pid()")[0]
                os.write(writer, str(its).encode())
                database.engine.dispose()
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            its = pipe.read()
        exit_code(pid)
        assert its
        assert int(its) != mine
        assert database.query("SELECT pg_backend_pid()") == [(mine,)]
        database.engine.dispose()


def test_a_killed_server_is_known_again_when_it_is_back(
    driver: str, own_server: PostgresServer, clients: Any
) -> None:
    name = {"psycopg_async": "psycopg"}.get(driver, driver)
    client = clients(driver, own_server.url(driver=name), deadline=2.0)
    client.query("SELECT 1")
    own_server.kill()
    wait_until(lambda: not client.failsafe.is_normal)
    assert client.database.health().status != "up"
    own_server.start()
    wait_until(lambda: client.failsafe.is_normal)
    assert client.query("SELECT 1") == [(1,)]
    assert client.database.health().is_up


def wait_until(is_true: Callable[[], bool], seconds: float = 20.0) -> None:
    limit = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < limit, "the condition did not come true"
        time.sleep(0.005)
