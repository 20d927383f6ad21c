"""The faults of the drill: each strikes when it is entered and is mended when it is left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

import psycopg
from sqlalchemy.engine import URL, make_url

from failstop.testing import FaultProxy, PostgresServer, Strike

__all__ = ["ACTS", "Act", "Stage"]

ROLE = "trader"
DATABASE = "trading"
CONNECTION_LIMIT = 60
PAUSE = 0.01
"""Seconds between two rounds of ending backends."""
PATIENCE = 10.0
"""Seconds to wait for a moment of the conversation."""


class Stage:
    """The server, with a database and an ordinary role for the API, and the network to it.

    A role that is no superuser can be shut out while the administrator still gets in; the API
    connects by way of the proxy, the drill itself goes straight to the server.
    """

    def __init__(self, server: PostgresServer, proxy: FaultProxy) -> None:
        self.server = server
        self.proxy = proxy
        url: URL = make_url(server.url(DATABASE)).set(username=ROLE, password=ROLE)
        self.url: str = proxy.url(url.render_as_string(hide_password=False))
        self._libpq = url.set(drivername="postgresql").render_as_string(hide_password=False)

    def prepare(self) -> None:
        """Make the role and its database."""
        self.server.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'")
        self.server.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
        self.limit_connections(CONNECTION_LIMIT)

    def connect(self) -> psycopg.Connection:
        """Connect in the role of the API, past the proxy.

        Raises:
            psycopg.OperationalError: no connection is given.
        """
        return psycopg.connect(self._libpq, connect_timeout=10)

    def terminate(self) -> None:
        """End every backend that serves the API."""
        self.server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'drill'"
        )

    def limit_connections(self, count: int) -> None:
        """Set how many connections the role may have in all."""
        self.server.execute(f"ALTER ROLE {ROLE} CONNECTION LIMIT {count}")


@contextmanager
def killed(stage: Stage) -> Iterator[None]:
    """Kill every process of the server; start it again."""
    stage.server.kill()
    try:
        yield
    finally:
        stage.server.start()


@contextmanager
def frozen(stage: Stage) -> Iterator[None]:
    """Stop every process of the server; let them run on."""
    stage.server.freeze()
    try:
        yield
    finally:
        stage.server.thaw()


@contextmanager
def read_only(stage: Stage) -> Iterator[None]:
    """Refuse every write; allow them again."""
    stage.server.make_read_only()
    try:
        yield
    finally:
        stage.server.make_read_only(False)


@contextmanager
def terminated(stage: Stage) -> Iterator[None]:
    """End the API's backends, and those that take their place, until it has tripped.

    Once would not do: an idle connection that died is replaced, and nobody notices.
    """
    stopping = threading.Event()

    def end_them() -> None:
        while not stopping.wait(PAUSE):
            stage.terminate()

    thread = threading.Thread(target=end_them)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


@contextmanager
def full(stage: Stage) -> Iterator[None]:
    """Take every connection that the API's role may have, and leave it those it has."""
    hoard: list[psycopg.Connection] = []
    try:
        with suppress(psycopg.OperationalError):  # the end: no more are given
            while True:
                hoard.append(stage.connect())
        stage.limit_connections(len(hoard))  # so that the API gets none back that it loses
        yield
    finally:
        for connection in hoard:
            connection.close()
        stage.limit_connections(CONNECTION_LIMIT)


@contextmanager
def refused(stage: Stage) -> Iterator[None]:
    """Reset every connection and refuse new ones; let them through again."""
    stage.proxy.refuse()
    stage.proxy.reset()
    try:
        yield
    finally:
        stage.proxy.heal()


@contextmanager
def swallowed(stage: Stage) -> Iterator[None]:
    """Let nothing pass and tell nobody; then what was sent arrives, as in TCP."""
    stage.proxy.black_hole()
    try:
        yield
    finally:
        stage.proxy.heal()


@contextmanager
def half_open(stage: Stage) -> Iterator[None]:
    """End the server's side of every connection while an order is under way; tell nobody.

    Idle ones would not do: their ping is not answered, they are replaced, and nobody notices.
    """
    _await(stage.proxy.after("INSERT INTO orders", everywhere=True).half_open())
    try:
        yield
    finally:
        stage.proxy.heal()


@contextmanager
def reply_lost(stage: Stage) -> Iterator[None]:
    """Reset the connection of one order when the server has answered its COMMIT.

    The monitor commits as well: its next write is kept until an order's COMMIT was struck.
    """
    is_kept, may_go_on = threading.Event(), threading.Event()

    def keep() -> None:
        is_kept.set()
        may_go_on.wait(PATIENCE)

    stage.proxy.after("INSERT INTO failstop.witness").call(keep)
    try:
        is_kept.wait(PATIENCE)
        _await(stage.proxy.before_reply("COMMIT").reset())
        may_go_on.set()
        yield
    finally:
        may_go_on.set()
        stage.proxy.heal()


def _await(strike: Strike) -> None:
    """Wait for a moment; where it does not come, the act shows that nothing tripped."""
    with suppress(TimeoutError):
        strike.wait(PATIENCE)


@dataclass(frozen=True, slots=True)
class Act:
    """One fault, which `lasts` so many seconds after the trip.

    `clients` more than usual send meanwhile, and `then` strikes when it has tripped. Where `tells`
    is an outcome, the API must answer at least one order with it.
    """

    name: str
    title: str
    fault: Callable[[Stage], AbstractContextManager[None]]
    clients: int = 0
    then: Callable[[Stage], None] | None = None
    lasts: float = 0.5
    tells: str | None = None


ACTS = (
    Act("kill", "the server is killed with SIGKILL", killed),
    Act("freeze", "the server is frozen with SIGSTOP", frozen),
    Act("read-only", "the server turns read-only", read_only),
    Act("terminate", "the backends of the API are terminated", terminated, lasts=0.0),
    # the probe keeps the connection it has, so that one is cut as well
    Act("connections", "every connection is taken", full, clients=16, then=Stage.terminate),
    Act("refuse", "the network resets every connection and refuses new ones", refused),
    Act("black-hole", "the network lets nothing pass and tells nobody", swallowed),
    Act("half-open", "the server's side of every connection is gone", half_open, lasts=0.0),
    Act("lost-reply", "the reply to one COMMIT is lost", reply_lost, lasts=0.0, tells="COMMITTED"),
)
