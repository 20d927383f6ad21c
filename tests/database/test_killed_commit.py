"""Claim C5 across `kill -9`: a COMMIT under way in a killed process is in doubt, and found out."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import Connection
from tests.waiting import wait_until

from failstop import FailSafe
from failstop._commits import Commits
from failstop.database import Database
from failstop.database._database import LONGEST_NAME
from failstop.database._receipts import LONGEST_KEY
from failstop.errors import Outcome
from failstop.events import InDoubt
from failstop.recovery import Recovery
from failstop.testing import FaultProxy, PostgresServer

BY_HAND = Recovery(mode="manual", probe_interval=3600)

CHILD = """
import sys
from sqlalchemy import text
from failstop import Database, FailSafe
from failstop.recovery import Recovery

failsafe = FailSafe("tests", store=sys.argv[1], recovery=Recovery(probe_interval=3600))
database = Database.connect(sys.argv[2], failsafe, deadline=60)
failsafe.start()
with database.transaction(key="order-1") as connection:
    connection.execute(text("INSERT INTO trades VALUES (1, 100)"))
"""


@pytest.mark.parametrize(
    ("is_forwarded", "outcome"), [(True, Outcome.COMMITTED), (False, Outcome.ROLLED_BACK)]
)
def test_the_next_process_finds_out_before_it_works(
    own_server: PostgresServer, tmp_path: Path, is_forwarded: bool, outcome: Outcome
) -> None:
    store = tmp_path / "failstop.db"
    with FaultProxy(own_server) as proxy:
        url = proxy.url(own_server.url())
        # the first two are of the probe at the start: of the witness and of the roll
        sent = proxy.after("COMMIT", forwarded=is_forwarded, nth=3).black_hole()
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(store), url])
        try:
            sent.wait(60)
            wait_until(lambda: not is_forwarded or count(own_server) == 1)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        own_server.terminate_backends()  # else what the proxy holds back would arrive at last
        proxy.heal()
        told: list[tuple[str, Outcome]] = []
        failsafe = FailSafe("tests", store=store, recovery=Recovery(probe_interval=0.1))
        failsafe.on_resolved(lambda key, found: told.append((key, found)))
        database = Database.connect(own_server.url(), failsafe)
        with failsafe:
            wait_until(lambda: failsafe.is_normal)
            assert told == [("order-1", outcome)]
            assert failsafe.in_doubt() == ()
        database.engine.dispose()
    assert count(own_server) == (outcome is Outcome.COMMITTED)
    assert [path.name for path in tmp_path.iterdir() if "commits" in path.name] == []


def count(server: PostgresServer) -> int:
    return int(server.execute("SELECT count(*) FROM trades")[0][0])


def test_a_second_interrupt_loses_no_doubt(own_server: PostgresServer, tmp_path: Path) -> None:
    """Ctrl-C during COMMIT, and again while the receipt is asked for."""
    failsafe = FailSafe("tests", store=tmp_path / "failstop.db", recovery=BY_HAND)
    database = Database.connect(own_server.url(), failsafe)
    question = database._guard.settlement.engine

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with failsafe:
        with database.engine.connect() as connection:
            event.listen(database.engine, "commit", lambda _: listen_once(connection, interrupt))
            event.listen(question.pool, "checkout", interrupt)
            connection.execute(text("INSERT INTO trades VALUES (1, 100)"))
            with pytest.raises(KeyboardInterrupt):
                connection.commit()
            event.remove(question.pool, "checkout", interrupt)
        [doubt] = failsafe.in_doubt()
        assert database.resolve(doubt) is Outcome.COMMITTED
    database.engine.dispose()


def listen_once(connection: Connection, interrupt: Callable[..., None]) -> None:
    """Interrupt psycopg when the server has answered the COMMIT."""
    driver: Any = connection.connection.driver_connection
    commit = driver._commit_gen

    def then_interrupt() -> Any:
        yield from commit()
        interrupt()

    driver._commit_gen = then_interrupt


def test_a_doubt_that_the_store_does_not_take_is_left_for_the_next_process(tmp_path: Path) -> None:
    store = tmp_path / "failstop.db"
    commits, others = Commits(store), Commits(store)
    store.touch()
    doubt = InDoubt("database", "order-1", datetime.now(UTC), 7)
    with commits.under_way(doubt, lambda: False):
        pass
    with commits.under_way(InDoubt("database", "order-2", doubt.since, 7), lambda: True):
        pass
    assert list(others.left_behind()) == []  # its owner lives
    commits.close()
    for file in commits._files:
        file.forsake()  # as where the owner dies
    left = others.left_behind()
    assert next(left) == (doubt,)
    left.close()  # not kept: it stays where it is
    assert list(others.left_behind()) == [(doubt,)]
    assert list(others.left_behind()) == []


def test_the_longest_key_of_any_script_has_room(tmp_path: Path) -> None:
    store = tmp_path / "failstop.db"
    store.touch()
    commits = Commits(store)
    doubt = InDoubt("😀" * LONGEST_NAME, "😀" * LONGEST_KEY, datetime.now(UTC), 2**31)
    with commits.under_way(doubt, lambda: True):
        pass
    commits.close()
    assert [path.name for path in tmp_path.iterdir()] == ["failstop.db"]
