"""Claim C5 across a real failover: a commit that the new primary never got is not told as one."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from failstop import FailSafe
from failstop.database import Database
from failstop.errors import CriticalError, Outcome
from failstop.recovery import Recovery
from failstop.testing import FaultProxy, PostgresServer

BY_HAND = Recovery(mode="manual", probe_interval=3600)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_commit_is_told_as_the_promoted_standby_has_it(
    own_server: PostgresServer, is_streamed: bool
) -> None:
    with own_server.standby() as standby, FaultProxy(own_server) as proxy:
        database_url = own_server.url()
        hosts = f"{host_of(proxy.url(database_url))},{host_of(standby.url())}"
        standby.catch_up()
        failsafe = FailSafe("tests", recovery=BY_HAND)
        database = Database.connect(
            with_hosts(database_url, hosts), failsafe, deadline=20.0, connect_deadline=15.0
        )
        failsafe.start()
        if not is_streamed:
            standby.detach()

        def fail_over() -> None:
            if is_streamed:
                standby.catch_up()
            own_server.kill()
            standby.promote()
            proxy.reset()  # and the answer with it

        lost: CriticalError | None = None
        try:
            with database.transaction(key="order-1") as connection:
                connection.execute(text("INSERT INTO trades VALUES (1, 100)"))
                proxy.before_reply("COMMIT").call(fail_over)
        except CriticalError as error:
            lost = error
        failsafe.close()
        database.engine.dispose()
        [(count,)] = standby.execute("SELECT count(*) FROM trades")
        if is_streamed:
            assert (lost, count) == (None, 1)
        else:
            assert lost is not None
            assert (lost.outcome, count) == (Outcome.ROLLED_BACK, 0)


def host_of(url: str) -> str:
    return url.partition("@")[2].partition("/")[0]


def with_hosts(url: str, hosts: str) -> str:
    """Make a URL of several servers, the first that takes writes of which is used."""
    head, _, tail = url.partition("@")
    name = tail.partition("/")[2].partition("?")[0]
    listed = "&".join(f"host={host}" for host in hosts.split(","))
    return f"{head}@/{name}?{listed}&target_session_attrs=read-write"
