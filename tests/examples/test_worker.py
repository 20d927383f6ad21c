"""The order worker, as a process, with its database taken away and itself killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.examples.harness import PaperExchange, Process, order, wait_until

from failstop.testing import PostgresDatabase, PostgresServer
from worker import Message, Spool

TRIGGER = ":failstop.alerts:trigger: "


class Worker(Process):
    """The worker with its spool."""

    def __init__(self, directory: Path, log: Path, **environment: str) -> None:
        store = str(log.with_suffix(".db"))
        super().__init__(("worker", str(directory)), log, FAILSTOP_STORE=store, **environment)
        self.spool = Spool(directory)

    def put(self, *numbers: int) -> None:
        for number in numbers:
            self.spool.put(Message(f"{number:05}", json.dumps(order(number)).encode()))

    def wait_until(self, is_true: Callable[[], bool]) -> None:
        wait_until(is_true, self.log)

    def wait_for_done(self, count: int) -> None:
        self.wait_until(lambda: len(self.spool.names("done")) == count)


@pytest.fixture
def start_worker(tmp_path: Path, exchange: PaperExchange) -> Iterator[Callable[[str], Worker]]:
    with contextlib.ExitStack() as stack:

        def start_worker(url: str) -> Worker:
            urls = {"DATABASE_URL": url, "EXCHANGE_URL": exchange.url}
            worker = Worker(tmp_path / "spool", tmp_path / "log", **urls)
            stack.callback(worker.close)
            worker.start()
            return worker

        yield start_worker


@pytest.fixture
def worker(start_worker: Callable[[str], Worker], trading_database: PostgresDatabase) -> Worker:
    return start_worker(trading_database.url())


def placed(server: PostgresServer | PostgresDatabase) -> list[str]:
    return [row[0] for row in server.execute("SELECT order_id FROM trades ORDER BY order_id")]


def test_each_message_becomes_one_trade(worker: Worker, trading_database: PostgresDatabase) -> None:
    worker.put(1, 2, 3)
    worker.wait_for_done(3)
    assert placed(trading_database) == ["order-1", "order-2", "order-3"]


def test_a_message_delivered_twice_becomes_one_trade(
    worker: Worker, trading_database: PostgresDatabase
) -> None:
    worker.put(1)
    worker.spool.put(Message("again", json.dumps(order(1)).encode()))
    worker.wait_for_done(2)
    assert placed(trading_database) == ["order-1"]


def test_another_order_under_the_same_id_is_set_aside(
    worker: Worker, trading_database: PostgresDatabase
) -> None:
    worker.put(1)
    other = order(1) | {"quantity": "3"}
    worker.spool.put(Message("other", json.dumps(other).encode()))
    worker.wait_until(lambda: worker.spool.names("rejected") == ["other"])
    assert trading_database.execute("SELECT order_id, quantity FROM trades") == [("order-1", 2.5)]


def test_a_message_that_holds_no_order_is_set_aside(
    worker: Worker, trading_database: PostgresDatabase
) -> None:
    changes = {"quantity": "-1"}, {"user": "x" * 65}, {"orderId": "\n"}
    wrong = [*(order(1) | change for change in changes), {}, []]
    bodies = [b"no json", b"\xff", *(json.dumps(each).encode() for each in wrong)]
    for number, body in enumerate(bodies):
        worker.spool.put(Message(f"wrong-{number}", body))
    worker.put(2)
    worker.wait_until(lambda: len(worker.spool.names("rejected")) == len(bodies))
    assert worker.spool.names("done") == ["00002"]
    assert placed(trading_database) == ["order-2"]


def test_it_leaves_when_the_database_is_killed_and_no_message_is_lost_or_placed_twice(
    start_worker: Callable[[str], Worker], trading_server: PostgresServer, exchange: PaperExchange
) -> None:
    worker = start_worker(trading_server.url())
    exchange.put("order-1")
    worker.put(*range(1, 201))
    worker.wait_until(lambda: len(worker.spool.names("done")) > 10)
    trading_server.kill()
    assert worker.wait() == os.EX_SOFTWARE
    assert exchange.orders == []
    assert worker.log().count(TRIGGER) == 1
    assert len(worker.spool.names("done")) < 200
    assert worker.spool.names("rejected") == []

    exchange.put("order-2")
    worker.start()  # as a supervisor does; it stays, and waits
    worker.wait_until(lambda: worker.spool.names("taken") == [])
    trading_server.start()
    worker.wait_for_done(200)
    assert len(placed(trading_server)) == 200
    assert exchange.orders == ["order-2"]  # cancelled once an incident, not again by a restart
    assert worker.log().count(TRIGGER) == 1


def test_no_message_is_lost_or_placed_twice_when_the_worker_is_killed(
    worker: Worker, trading_database: PostgresDatabase
) -> None:
    worker.put(*range(1, 201))
    worker.wait_until(lambda: len(worker.spool.names("done")) > 10)
    worker.end(signal.SIGKILL)
    assert len(worker.spool.names("done")) < 200
    worker.start()
    worker.wait_for_done(200)
    assert len(placed(trading_database)) == 200


def test_sigterm_ends_it_with_the_message_in_hand_settled(worker: Worker) -> None:
    worker.put(1)
    worker.wait_for_done(1)
    assert worker.end(signal.SIGTERM) == 0
    assert worker.spool.names("taken") == []
