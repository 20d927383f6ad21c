"""The order worker: takes orders from a spool and places each of them exactly once.

    DATABASE_URL=postgresql://… python -m trading.schema
    DATABASE_URL=postgresql://… EXCHANGE_URL=http://… FAILSTOP_STORE=var/worker.db \
        python -m worker DIRECTORY

A message is acknowledged when its trade is committed, and not before. Whatever is unclear, the
message stays: `TradeService.place` takes effect once for each order, however often it is delivered.
"""

import json
import logging
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from threading import Event

from sqlalchemy.exc import DataError, OperationalError

from failstop import CriticalError, FailSafe, KeyInFlightError, with_fail_fast_protection
from trading import DuplicateOrderError, Order, Side, TradeService
from worker.spool import Message, Spool

__all__ = ["Message", "Spool", "consume", "make_handler"]

logger = logging.getLogger(__name__)

PAUSE = 0.1
"""Seconds between two looks at an empty spool, or at a service that is not in NORMAL."""


def make_handler(failsafe: FailSafe, trades: TradeService) -> Callable[[Message], None]:
    """Make the handler of one message."""

    @with_fail_fast_protection(failsafe=failsafe, respond="raise")
    def handle(message: Message) -> None:
        trades.place(read_order(message.body))

    return handle


def read_order(body: bytes) -> Order:
    """Return the order in a message.

    Raises:
        ValueError: there is none.
    """
    try:
        given = json.loads(body)
        return Order(
            order_id=given["orderId"],
            user=given["user"],
            symbol=given["symbol"],
            side=Side(given["side"]),
            quantity=Decimal(given["quantity"]),
            price=Decimal(given["price"]),
        )
    except (KeyError, TypeError, InvalidOperation) as error:
        raise ValueError("the message holds no order") from error


def consume(
    spool: Spool, failsafe: FailSafe, handle: Callable[[Message], None], stopping: Event
) -> None:
    """Handle message after message, and none at all unless the state is NORMAL."""
    while not stopping.is_set():
        message = spool.take() if failsafe.is_normal else None
        if message is None:
            stopping.wait(PAUSE)
        else:
            settle(spool, message, handle)


def settle(spool: Spool, message: Message, handle: Callable[[Message], None]) -> None:
    """Handle one message and say what becomes of it."""
    try:
        handle(message)
    except (CriticalError, OperationalError, KeyInFlightError) as error:  # it may be sent again
        logger.warning("%s goes back: %s", message.name, type(error).__name__)
        spool.give_back(message)
    except (DuplicateOrderError, ValueError, DataError) as error:
        logger.error("%s is rejected: %s", message.name, type(error).__name__)
        spool.reject(message)
    else:
        spool.acknowledge(message)
