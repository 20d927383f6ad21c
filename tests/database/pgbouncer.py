"""A real PgBouncer in front of a server, where the machine has one."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from failstop.testing import PostgresServer

__all__ = ["PROGRAM", "pgbouncer"]

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def pgbouncer(server: PostgresServer, mode: str, **settings: str) -> Iterator[str]:
    """Start one in a pool mode and give the superuser's URL through it, without a driver.

    The database behind it has the tables of this library.
    """
    assert PROGRAM is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert PROGRAM is not None
    server.create_schema()
    directory = server.directory
    user, password = server.url(driver=None).split("//")[1].split("@")[0].split(":")
    users = directory / f"users-{port}"
    users.write_text(f'"{user}" "{password}"\n')
    lines = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "plain",
        "auth_file": str(users),
        "pool_mode": mode,
        "ignore_startup_parameters": "extra_float_digits,options,statement_timeout,lock_timeout,"
        "idle_in_transaction_session_timeout,jit",
        **settings,
    }
    database = f"host=127.0.0.1 port={server.port} user={user} password={password}"
    config = directory / f"pgbouncer-{port}.ini"
    config.write_text(_ini(database, lines))
    for path in (users, config):
        path.chmod(0o644)
    process = subprocess.Popen([PROGRAM, "-q", str(config)], **_as_nobody())  # type: ignore[call-overload] # both keywords are Popen's
    try:
        _wait_for(port, process)
        yield f"postgresql://{user}:{password}@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait(10)


def _ini(database: str, settings: Mapping[str, str]) -> str:
    written = "\n".join(f"{name} = {value}" for name, value in settings.items())
    return f"[databases]\n* = {database}\n[pgbouncer]\n{written}\n"


def _as_nobody() -> dict[str, int]:
    """Root is refused by PgBouncer."""
    return {"user": pwd.getpwnam("nobody").pw_uid} if os.geteuid() == 0 else {}


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 10
    while True:
        assert process.poll() is None, "pgbouncer ended at its start"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < until, "pgbouncer did not listen"
            time.sleep(0.01)
        else:
            return
