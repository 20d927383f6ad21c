"""A standby of a real PostgreSQL server, to fail over to."""

from __future__ import annotations

import os
from collections.abc import Mapping

from failstop.testing._server import TEMPLATE, PostgresServer, Setting, _wait_until
from failstop.testing._workshop import SUPERUSER

__all__ = ["PostgresStandby"]

_RETRY = "100ms"  # when the primary is away; PostgreSQL's own is 5 s


class PostgresStandby(PostgresServer):
    """A server that follows another, made by `PostgresServer.standby()`.

    It has the settings that its primary was made with, then `settings`; not what the primary was
    told by `configure()`.
    """

    def __init__(
        self,
        primary: PostgresServer,
        *,
        is_synchronous: bool = False,
        settings: Mapping[str, Setting] | None = None,
    ) -> None:
        self.primary = primary
        self.is_synchronous: bool = is_synchronous
        ours = {"synchronous_standby_names": "", "wal_retrieve_retry_interval": _RETRY}
        super().__init__(
            settings=ours | dict(settings or {}),
            bindir=primary.bindir,
            transport=primary.transport,
        )
        self._names = primary._names  # noqa: SLF001 - the primary's databases are here too
        self._name = f"standby_{self.directory.name}"
        self._write_settings({"primary_conninfo": self._conninfo(self._name)})

    def follow(self, *, timeout: float = 60.0) -> None:
        """Start, and return when the primary streams to it and, if it is to, waits for it.

        Raises:
            PostgresServerError: it did not start.
            TimeoutError: the primary did not stream to it in `timeout` seconds.
        """
        self.start(timeout=timeout)
        if self.is_synchronous:
            self.primary.configure({"synchronous_standby_names": self._name})
        state = "sync" if self.is_synchronous else "async"
        _wait_until(
            lambda: self._replication() == [("streaming", state)],
            timeout,
            "the primary did not stream to its standby",
        )

    def catch_up(self, *, timeout: float = 10.0) -> None:
        """Return when what the primary has written until now can be read here.

        Raises:
            TimeoutError: it cannot within `timeout` seconds.
        """
        [(position,)] = self.primary.execute("SELECT pg_current_wal_lsn()::text")
        ask = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        _wait_until(
            lambda: self.execute(ask, [position]) == [(True,)],
            timeout,
            "the standby did not catch up",
        )

    def detach(self) -> None:
        """Receive nothing more: what the primary commits from now on, this server never has.

        The primary runs on; where the standby is synchronous, its commits wait.

        Raises:
            TimeoutError: it still received after 10 s.
        """
        self.configure({"primary_conninfo": ""})
        _wait_until(
            lambda: self.execute("SELECT 1 FROM pg_stat_wal_receiver") == [],
            10.0,
            "the standby did not stop receiving",
        )

    def attach(self) -> None:
        """Follow the primary again after `detach()`."""
        self.configure({"primary_conninfo": None})

    def promote(self, *, timeout: float = 60.0) -> None:
        """Make it a server of its own and return when it takes writes.

        The primary is left as it is: kill it first, or have two.

        Raises:
            PostgresServerError: it is no standby any more, or did not end its recovery in time.
        """
        if self.execute("SELECT pg_is_in_recovery()") == [(False,)]:
            raise self._error("the server is no standby any more; it was promoted before")
        if self.execute("SELECT pg_promote(true, %s::integer)", [timeout]) != [(True,)]:
            raise self._error(f"the standby was not promoted in {timeout} s")
        ask = "SELECT 1 FROM pg_database WHERE datname = %s"
        self._has_template = self.execute(ask, [TEMPLATE]) != []

    def close(self) -> None:
        """End it and remove its directory; a primary that waits for it is thawed and goes on."""
        super().close()
        if self.is_synchronous and self.primary.is_running:
            self.is_synchronous = False
            self.primary.thaw()
            self.primary.configure({"synchronous_standby_names": None})

    def _make_cluster(self, *, copied: bool) -> None:
        self._write_password()
        program = str(self.bindir / "pg_basebackup")
        options = ["--checkpoint=fast", "--no-sync", "--no-manifest", "--write-recovery-conf"]
        where = f"--dbname={self._conninfo('backup')}"
        self._workshop.run([program, f"--pgdata={self.data}", where, *options])
        (self.data / "postgresql.auto.conf").write_text("")  # what configure() told the primary

    def _conninfo(self, name: str) -> str:
        where = f"host={self.primary.directory} port={self.primary.port}"
        passfile = self.directory / "passfile"
        return f"{where} user={SUPERUSER} passfile={passfile} application_name={name}"

    def _write_password(self) -> None:
        """Write it to a file: the command line of a program is everybody's to read."""
        passfile = self.directory / "passfile"
        passfile.touch(0o600)
        passfile.write_text(f"*:*:*:*:{self.password}\n")
        owner = self.directory.stat()
        os.chown(passfile, owner.st_uid, owner.st_gid)

    def _replication(self) -> list[tuple[str, str]]:
        ask = "SELECT state, sync_state FROM pg_stat_replication WHERE application_name = %s"
        return [(state, sync) for state, sync in self.primary.execute(ask, [self._name])]
