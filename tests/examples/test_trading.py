"""The domain of the examples, where the answer to a COMMIT is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from failstop import CriticalError, Database, FailSafe, Outcome, Recovery
from failstop.testing import FaultProxy, PostgresDatabase
from trading import DuplicateOrderError, Order, Side, TradeService

BY_HAND = Recovery(mode="manual", probe_interval=600.0)
"""So that no other COMMIT is in the way."""

ORDER = Order("1", "alice", "ACME", Side.BUY, Decimal("2.5"), Decimal(100))


class Desk:
    """The service of trades in this process, behind a proxy."""

    def __init__(self, url: str) -> None:
        self.failsafe = FailSafe("trading", recovery=BY_HAND)
        self.database = Database.connect(url, self.failsafe, deadline=2.0)
        self.trades = TradeService(self.database)

    def recover(self) -> None:
        self.failsafe.reset(actor="ann", reason="the network is back")


@pytest.fixture
def desk(trading_database: PostgresDatabase, fault_proxy: FaultProxy) -> Iterator[Desk]:
    desk = Desk(fault_proxy.url(trading_database.url()))
    with desk.failsafe:
        yield desk
    desk.database.engine.dispose()


@pytest.fixture
def stored(trading_database: PostgresDatabase) -> Callable[[], list[str]]:
    """Tell which orders are in the table."""
    return lambda: [row[0] for row in trading_database.execute("SELECT order_id FROM trades")]


def test_an_order_whose_commit_was_not_answered_is_returned_as_placed(
    desk: Desk, fault_proxy: FaultProxy, stored: Callable[[], list[str]]
) -> None:
    fault_proxy.after("COMMIT", forwarded=True).reset()
    trade = desk.trades.place(ORDER)
    assert stored() == ["1"]
    assert not desk.failsafe.is_normal
    desk.recover()
    assert desk.trades.place(ORDER) == trade
    assert stored() == ["1"]


def test_an_order_whose_commit_never_arrived_may_be_sent_again(
    desk: Desk, fault_proxy: FaultProxy, stored: Callable[[], list[str]]
) -> None:
    fault_proxy.after("COMMIT", forwarded=False).reset()
    with pytest.raises(CriticalError) as caught:
        desk.trades.place(ORDER)
    assert caught.value.outcome is Outcome.ROLLED_BACK
    assert stored() == []
    desk.recover()
    assert desk.trades.place(ORDER)["orderId"] == "1"
    assert stored() == ["1"]


def test_the_same_amounts_in_other_words_are_the_same_order(desk: Desk) -> None:
    same = Order("1", "alice", "ACME", Side.BUY, Decimal("2.50"), Decimal("1e2"))
    assert desk.trades.place(ORDER) == desk.trades.place(same)
    other = Order("1", "alice", "ACME", Side.SELL, Decimal("2.5"), Decimal(100))
    with pytest.raises(DuplicateOrderError):
        desk.trades.place(other)
