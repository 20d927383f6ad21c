"""Where a drill plays: the database, with an ordinary role for the API, and the network to it.

Lives here: what every stage has, and the drill's own server. Never here: a fault, or what is said
of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL, make_url

from failstop.testing import FaultProxy, PostgresServer, PostgresStandby

__all__ = ["CONNECTION_LIMIT", "Needs", "OwnStage", "Row", "Stage", "own_stage"]

ROLE = "trader"
DATABASE = "trading"
CONNECTION_LIMIT = 60

Row = tuple[str, int]
"""An order's id and its quantity, as the table holds them."""


class Needs(StrEnum):
    """What an act needs of its stage, beside the network to it."""

    NOTHING = "the network only"
    MOMENTS = "a connection without TLS, so that the proxy sees what is said"
    SERVER = "the server's own process, or the rights of its administrator"


class Stage:
    """A database behind a fault proxy.

    Args:
        proxy: the network; the API connects by way of it, the drill itself goes past it.
        url: where the API connects.
        direct: where the drill connects, as libpq spells it.
        service: what the API calls itself, also to the server.
        orders: the name of its table.
        offers: what acts may need here.
    """

    pool_size = 5
    prefix = "order-"
    """How the ids of the orders begin."""

    def __init__(
        self,
        proxy: FaultProxy,
        url: str,
        direct: str,
        *,
        service: str,
        orders: str,
        offers: frozenset[Needs],
    ) -> None:
        self.proxy = proxy
        self.url = url
        self.service = service
        self.orders = orders
        self.offers = offers
        self.left_behind: list[str] = []
        self._direct = direct

    def environment(self) -> dict[str, str]:
        """Return what the API reads from its environment."""
        return {
            "DATABASE_URL": self.url,
            "FAILSTOP_DRILL_SERVICE": self.service,
            "FAILSTOP_DRILL_ORDERS": self.orders,
            "FAILSTOP_DRILL_POOL": str(self.pool_size),
        }

    def note_store(self, path: Path) -> None:
        """Look at the store of the API, before it is gone."""

    def connect(self) -> psycopg.Connection:
        """Connect in the role of the API, past the proxy.

        Raises:
            psycopg.OperationalError: no connection is given.
        """
        return psycopg.connect(self._direct, connect_timeout=10)

    def terminate(self) -> None:
        """End every backend that serves the API; a role may end its own."""
        with self.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = %s AND usename = current_user",
                [self.service],
            )

    def version(self) -> str:
        """Return the server's version."""
        with self.connect() as connection:
            [row] = connection.execute("SHOW server_version")
            return str(row[0])

    def rows(self) -> list[Row]:
        """Return what the table holds."""
        return read_orders(self.connect, self.orders)

    def left_rows(self) -> list[Row]:
        """Return what only a server holds that a failover has left behind."""
        return []


def read_orders(connect: Callable[[], psycopg.Connection], orders: str) -> list[Row]:
    """Return the orders of a table, on a connection of its own."""
    with connect() as connection:
        ask = sql.SQL("SELECT order_id, quantity FROM {}").format(sql.Identifier(orders))
        found: list[Row] = connection.execute(ask).fetchall()
        return found


class OwnStage(Stage):
    """A server of the drill's own, which it may kill."""

    pool_size = 20

    def __init__(self, server: PostgresServer, proxy: FaultProxy, stack: ExitStack) -> None:
        self.server = server
        self.old: PostgresServer | None = None
        self._standby: PostgresStandby | None = None
        self._stack = stack
        url = self._role_url(server, "postgresql+psycopg")
        super().__init__(
            proxy,
            proxy.url(url),
            self._role_url(server, "postgresql"),
            service="drill",
            orders="orders",
            offers=frozenset(Needs),
        )

    @staticmethod
    def _role_url(server: PostgresServer, driver: str) -> str:
        url: URL = make_url(server.url(DATABASE)).set(username=ROLE, password=ROLE)
        return url.set(drivername=driver).render_as_string(hide_password=False)

    def prepare(self) -> None:
        """Make the role and its database."""
        self.server.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'")
        self.server.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
        self.limit_connections(CONNECTION_LIMIT)

    def limit_connections(self, count: int) -> None:
        """Set how many connections the role may have in all."""
        self.server.execute(f"ALTER ROLE {ROLE} CONNECTION LIMIT {count}")

    def terminate(self) -> None:
        """End every backend that serves the API, also where the role gets no connection."""
        self.server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
            [self.service],
        )

    # Failing over

    def make_standby(self) -> None:
        """Make a server that has all that was committed until now, and nothing more."""
        standby = self._stack.enter_context(self.server.standby())
        standby.catch_up()
        standby.detach()
        self._standby = standby

    def fail_over(self) -> None:
        """Kill the server and put the standby in its place, under the same address."""
        standby = self._standby
        assert standby is not None
        self.old = self.server
        self.server.kill()
        standby.promote()
        self.proxy.redirect(standby)
        self.server = standby
        self._direct = self._role_url(standby, "postgresql")

    def left_rows(self) -> list[Row]:
        """Return what only the server holds that was killed in the failover."""
        if self.old is None:
            return []
        self.old.start()
        url = self._role_url(self.old, "postgresql")
        held = read_orders(lambda: psycopg.connect(url, connect_timeout=10), self.orders)
        here = {order_id for order_id, _ in self.rows()}
        return [row for row in held if row[0] not in here]


@contextmanager
def own_stage() -> Iterator[OwnStage]:
    """Give a stage with a server of the drill's own, which is removed with it."""
    with ExitStack() as stack:
        server = stack.enter_context(PostgresServer())
        proxy = stack.enter_context(FaultProxy(server))
        stage = OwnStage(server, proxy, stack)
        stage.prepare()
        yield stage
