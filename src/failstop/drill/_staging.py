"""A stage in a database that is there already: for staging, struck through the network only.

What the drill makes there has names of its own, and is removed with it; what cannot be removed is
said. Never here: a fault, or a right that an ordinary role does not have.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from failstop import Database, FailSafe
from failstop.drill._stage import Needs, Stage
from failstop.errors import ConfigurationError
from failstop.schema import metadata
from failstop.testing import FaultProxy

__all__ = ["staging"]

ENCRYPTED = ("require", "verify-ca", "verify-full")
"""The words of sslmode that promise TLS, which the drill then keeps."""
OURS = tuple(sorted(f"failstop.{table.name}" for table in metadata.tables.values()))
"""Failstop's own tables."""
_NAMES = {"receipt": "service", "fence": "scope", "process": "service", "witness": "process"}
NAMED_BY = {
    each.name: _NAMES[each.name] for each in metadata.tables.values() if each.name in _NAMES
}
"""Which column of each table says whose a row is; the witness is the store's, by its id."""
WRITE = "give the URL of one database, such as postgresql://role:password@host:5432/staging"


class StagingStage(Stage):
    """A database for staging; `made` says which of failstop's own tables the drill made there."""

    def __init__(self, proxy: FaultProxy, url: URL, run: str, offers: frozenset[Needs]) -> None:
        through = url.set(port=proxy.port).update_query_dict({"hostaddr": proxy.host})
        super().__init__(
            proxy,
            through.render_as_string(hide_password=False),
            _libpq(url),
            service=f"failstop-drill-{run}",
            orders=f"failstop_drill_{run}_orders",
            offers=offers,
        )
        self.prefix = f"{self.service}-"
        self._url = url
        self._witnesses: list[str] = []

    def note_store(self, path: Path) -> None:
        """Remember the name under which the API had its witness: it is in its store."""
        with contextlib.closing(sqlite3.connect(path)) as store:
            self._witnesses += [
                str(name) for (name,) in store.execute("SELECT store_id FROM standing")
            ]

    def prepare(self, stack: ExitStack) -> None:
        """Make what is missing, to be removed with `stack`.

        Raises:
            ConfigurationError: the database cannot be used as it is, or the role may not.
            CriticalDatabaseError: it does not answer.
        """
        with self._database() as database:
            self._make_ours(database, stack)
            for table, column in NAMED_BY.items():
                what = f"the rows of the service {self.service!r} in failstop.{table}"
                stack.callback(self._remove, what, partial(self._delete_rows, table, column))
            self._require_usable(database)
        stack.callback(self._remove, f"the table {self.orders}", self._drop_orders)

    def _make_ours(self, database: Database, stack: ExitStack) -> None:
        """Make failstop's own tables where there are none."""
        absent = database.missing_schema()
        if not absent:
            return
        if len(absent) < len(OURS):
            raise ConfigurationError(
                "the database has failstop's tables of another version; run failstop schema apply "
                "there first"
            )
        has_schema = self._ask("SELECT to_regnamespace('failstop') IS NOT NULL")
        database.create_schema()
        drop = partial(self._drop_ours, has_schema=has_schema)
        stack.callback(self._remove, "failstop's own tables", drop)

    @contextmanager
    def _database(self) -> Iterator[Database]:
        failsafe = FailSafe(self.service)
        url = self._url.render_as_string(hide_password=False)
        database = Database.connect(url, failsafe, name="staging")
        try:
            yield database
        finally:
            failsafe.close()
            database.engine.dispose()

    def _require_usable(self, database: Database) -> None:
        refused = [str(finding) for finding in database.findings() if finding.is_refused]
        if refused:
            raise ConfigurationError(f"no service would start on it: {'; '.join(refused)}")
        if not self._ask("SELECT has_schema_privilege(current_schema(), 'CREATE')"):
            raise ConfigurationError(
                "the role has no right to make a table there; grant it CREATE on its schema"
            )

    def _ask(self, question: str) -> bool:
        with self.connect() as connection:
            row = connection.execute(question.encode()).fetchone()
            return row is not None and row[0] is True

    # The end

    def _remove(self, what: str, remove: Callable[[psycopg.Connection], None]) -> None:
        """Remove something; where that fails, say what is left behind."""
        try:
            with self.connect() as connection:
                connection.execute("SET LOCAL lock_timeout = '5s'")
                remove(connection)
        except psycopg.Error as error:
            self.left_behind.append(f"{what} ({type(error).__name__})")

    def _drop_orders(self, connection: psycopg.Connection) -> None:
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(self.orders)))

    def _delete_rows(self, table: str, column: str, connection: psycopg.Connection) -> None:
        """Delete what the API wrote beside its orders; which needs a right that services lack."""
        values = self._witnesses if table == "witness" else [self.service]
        names = sql.Identifier("failstop", table), sql.Identifier(column)
        found = sql.SQL("SELECT 1 FROM {} WHERE {} = ANY (%s)").format(*names)
        if connection.execute(found, [values]).fetchone() is not None:
            delete = sql.SQL("DELETE FROM {} WHERE {} = ANY (%s)").format(*names)
            connection.execute(delete, [values])

    def _drop_ours(self, connection: psycopg.Connection, *, has_schema: bool) -> None:
        """Drop failstop's own tables, unless somebody else has begun to use them."""
        tables = [sql.Identifier(*name.split(".")) for name in OURS]
        listed = sql.SQL(", ").join(tables)
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(listed))
        for table in tables:
            row = connection.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(table))
            if row.fetchone() is not None:
                self.left_behind.append("failstop's own tables, for others use them by now")
                return
        connection.execute(sql.SQL("DROP TABLE {}").format(listed))
        if not has_schema:
            connection.execute("DROP SCHEMA failstop")


@contextmanager
def staging(url: str) -> Iterator[StagingStage]:
    """Give a stage in the database at `url`, which is left as it was.

    Raises:
        ConfigurationError: the URL, or the database, cannot be used.
        CriticalDatabaseError: the database does not answer.
    """
    made, upstream = _place(url)
    with ExitStack() as stack:
        proxy = stack.enter_context(FaultProxy(upstream))
        offers = {Needs.NOTHING}
        if _takes_plain(made):
            made = made.update_query_dict({"sslmode": "disable"})
            offers.add(Needs.MOMENTS)
        stage = StagingStage(proxy, made, secrets.token_hex(4), frozenset(offers))
        stage.prepare(stack)
        yield stage


def _place(url: str) -> tuple[URL, tuple[str, int]]:
    """Return the URL for the driver of the drill, and the server that it leads to."""
    try:
        made = make_url(url).set(drivername="postgresql+psycopg")
        is_right = make_url(url).get_backend_name() == "postgresql"
    except (ArgumentError, ValueError):
        raise ConfigurationError(f"the database URL cannot be read; {WRITE}") from None
    given = dict(made.query)
    host = made.host or given.pop("host", None)
    address, port = given.pop("hostaddr", host), made.port or given.pop("port", "5432")
    if not (is_right and isinstance(host, str) and isinstance(address, str)):
        raise ConfigurationError(f"the drill needs PostgreSQL behind one address; {WRITE}")
    if address.startswith("/") or "," in f"{address}{port}" or not str(port).isdigit():
        raise ConfigurationError(f"the drill needs PostgreSQL behind one address; {WRITE}")
    given.pop("host", None)
    upstream = (address, int(str(port)))
    return made.set(host=host, port=upstream[1], query=given), upstream


def _takes_plain(url: URL) -> bool:
    """Say whether it may be spoken to without TLS: nobody asked for it, and the server takes it."""
    if url.query.get("sslmode") in ENCRYPTED:
        return False
    plain = url.update_query_dict({"sslmode": "disable"})
    try:
        psycopg.connect(_libpq(plain), connect_timeout=10).close()
    except psycopg.OperationalError:
        return False
    return True


def _libpq(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)
