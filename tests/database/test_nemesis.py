"""Claims C5 and C6 under a nemesis: at every message of the exchange, and at random.

A ledger of orders behind the fault proxy; whatever a caller was told is held against what is there.
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from tests.database.conftest import ASYNC, SYNC, Client, Clients
from tests.waiting import wait_until

from failstop.errors import Outcome, ResetRefusedError
from failstop.recovery import Recovery
from failstop.testing import FaultProxy, History, PostgresServer, check_ledger
from failstop.testing._proxy import Moment

DEADLINE = 1.0
BY_HAND = Recovery(mode="manual", probe_interval=3600)
INSERT = text("INSERT INTO orders VALUES (:key)")

POINTS: dict[str, Callable[[FaultProxy, Any], Moment]] = {
    "before it is forwarded": lambda proxy, what: proxy.after(what, forwarded=False),
    "after it is forwarded": lambda proxy, what: proxy.after(what, forwarded=True),
    "before its reply": lambda proxy, what: proxy.before_reply(what),
    "after its reply": lambda proxy, what: proxy.after_reply(what),
}
MESSAGES: dict[str, Callable[[str], str | re.Pattern[str]]] = {
    "BEGIN with the receipt": lambda key: re.compile(f"receipt.*'{key}'"),
    "statement": lambda key: "INSERT INTO orders",
    "COMMIT": lambda key: "COMMIT",
}
FAULTS: dict[str, Callable[[Moment], Any]] = {
    "reset": lambda moment: moment.reset(),
    "half-open": lambda moment: moment.half_open(),
    "black hole": lambda moment: moment.black_hole(),
}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        server.create_schema()
        server.execute("CREATE TABLE orders (key text)")  # not unique: a duplicate must show
        yield server


@pytest.fixture
def proxy(server: PostgresServer) -> Iterator[FaultProxy]:
    server.execute("TRUNCATE orders, failstop.receipt")
    with FaultProxy(server) as proxy:
        yield proxy


class Trader:
    """Places orders, writes down what it is told, and resets the service after each failure."""

    def __init__(self, client: Client, history: History, process: int = 0) -> None:
        self.client = client
        self.history = history
        self.process = process
        self.resolved: dict[str, Outcome] = {}
        client.failsafe.on_resolved(self.resolved.__setitem__)

    def place(self, key: str) -> None:
        invocation = self.history.invoke("order", key=key, process=self.process)
        try:
            self.client.transaction(lambda connection: insert(connection, key), key=key)
        except Exception as error:
            invocation.raised(error)
        else:
            invocation.ok()

    def recover(self) -> None:
        wait_until(self._is_reset)
        assert self.client.failsafe.in_doubt() == ()

    def _is_reset(self) -> bool:
        if self.client.failsafe.is_normal:
            return True
        try:
            self.client.failsafe.reset(actor="tester", reason="the fault is over")
        except ResetRefusedError:
            return False
        return True


def insert(connection: Connection, key: str) -> None:
    connection.execute(INSERT, {"key": key})


def url_of(server: PostgresServer, proxy: FaultProxy, driver: str) -> str:
    return proxy.url(server.url(driver={"psycopg_async": "psycopg"}.get(driver, driver)))


def placed(server: PostgresServer) -> list[str]:
    return [str(key) for (key,) in server.execute("SELECT key FROM orders")]


def require_true(trader: Trader, server: PostgresServer) -> None:
    """Hold what was told, at once and by recovery, against what is there."""
    rows = placed(server)
    verdict = check_ledger(trader.history, rows)
    assert verdict.is_valid, str(verdict)
    for key, outcome in trader.resolved.items():
        assert (key in rows) == (outcome is Outcome.COMMITTED), key


def strike_everywhere(
    trader: Trader, proxy: FaultProxy, fault: Callable[[Moment], Any]
) -> Iterator[str]:
    for message, pattern in MESSAGES.items():
        for point, moment in POINTS.items():
            cell = f"{message}, {point}"
            key = re.sub(r"\W+", "-", cell)
            strike = fault(moment(proxy, pattern(key)))
            trader.place(key)
            strike.wait(10)
            proxy.heal()
            trader.recover()
            yield cell


@pytest.mark.parametrize("driver", [*SYNC, *ASYNC])
def test_a_connection_cut_at_any_message_leaves_no_wrong_outcome(
    driver: str, server: PostgresServer, proxy: FaultProxy, clients: Clients
) -> None:
    url = url_of(server, proxy, driver)
    trader = Trader(clients(driver, url, deadline=DEADLINE, recovery=BY_HAND), History())
    cells = list(strike_everywhere(trader, proxy, FAULTS["reset"]))
    assert len(cells) == len(MESSAGES) * len(POINTS)
    require_true(trader, server)


@pytest.mark.chaos
@pytest.mark.parametrize("fault", ["half-open", "black hole"])
@pytest.mark.parametrize("driver", [*SYNC, *ASYNC])
def test_a_silence_at_any_message_leaves_no_wrong_outcome(
    driver: str, fault: str, server: PostgresServer, proxy: FaultProxy, clients: Clients
) -> None:
    url = url_of(server, proxy, driver)
    trader = Trader(clients(driver, url, deadline=DEADLINE, recovery=BY_HAND), History())
    assert list(strike_everywhere(trader, proxy, FAULTS[fault]))
    require_true(trader, server)


class Nemesis:
    """Breaks something at random while the traders work, until it is told to stop."""

    def __init__(
        self, server: PostgresServer, proxy: FaultProxy, seed: int, *, kills: bool
    ) -> None:
        self._server, self._proxy = server, proxy
        self._random = random.Random(seed)
        self._deeds = [self._strike] * 6 + [self._terminate] * 2 + [self._kill] * kills
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._proxy.heal()

    def _run(self) -> None:
        while not self._stop.wait(self._random.uniform(0.02, 0.2)):
            self._random.choice(self._deeds)()

    def _strike(self) -> None:
        what = self._random.choice(["BEGIN", "INSERT INTO orders", "COMMIT", "COMMIT"])
        moment = POINTS[self._random.choice(list(POINTS))](self._proxy, what)
        moment.reset()

    def _terminate(self) -> None:
        self._server.terminate_backends()

    def _kill(self) -> None:
        self._server.kill()
        self._server.start()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize(
    "orders", [40, pytest.param(1500, marks=[pytest.mark.chaos, pytest.mark.timeout(1800)])]
)
def test_a_nemesis_at_random_loses_and_doubles_nothing(
    driver: str, orders: int, server: PostgresServer, proxy: FaultProxy, clients: Clients
) -> None:
    history = History()
    url = url_of(server, proxy, driver)
    traders = [
        Trader(clients(driver, url, deadline=DEADLINE, recovery=BY_HAND), history, process)
        for process in range(2)
    ]

    def trade(trader: Trader) -> None:
        for number in range(orders):
            trader.place(f"order-{trader.process}-{number}")
            trader.recover()

    threads = [threading.Thread(target=trade, args=(trader,)) for trader in traders]
    with Nemesis(server, proxy, seed=7, kills=orders > 100):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for trader in traders:
        trader.recover()
        require_true(trader, server)


def test_the_same_orders_by_a_retry_loop_are_doubled(
    server: PostgresServer, proxy: FaultProxy
) -> None:
    """The test of the test: it finds what plain SQLAlchemy with a retry on its errors does."""
    engine = create_engine(url_of(server, proxy, "psycopg"))
    history = History()
    for number in range(3):
        invocation = history.invoke("order", key=f"order-{number}")
        proxy.before_reply("COMMIT").reset()
        while True:
            try:
                with engine.begin() as connection:
                    insert(connection, f"order-{number}")
            except DBAPIError:
                continue
            break
        invocation.ok()
    engine.dispose()
    verdict = check_ledger(history, placed(server))
    assert not verdict.is_valid
    assert len(verdict.duplicated) == 3
