"""Placing, cancelling and booking orders."""

import asyncio
import logging

import requests
from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from tenacity import retry, stop_after_attempt, wait_fixed

from migration.before.settings import ASYNC_DATABASE_URL, VENUE_URL
from migration.before.store import audit, engine, orders, positions

logger = logging.getLogger(__name__)


def place_order(order):
    """Store the order and send it to the venue, in one transaction so that both happen."""
    with engine.begin() as connection:
        connection.execute(orders.insert().values(**order, state="new"))
        answer = requests.post(f"{VENUE_URL}/orders", json=order, timeout=5)
        connection.execute(
            update(orders)
            .where(orders.c.id == order["id"])
            .values(state="sent", venue_reference=answer.json()["reference"])
        )


@retry(stop=stop_after_attempt(5), wait=wait_fixed(1))
def book_fill(fill):
    """Book a fill; the network is flaky, so try again."""
    with engine.begin() as connection:
        connection.execute(
            update(positions)
            .where(positions.c.symbol == fill["symbol"])
            .values(quantity=positions.c.quantity + fill["quantity"])
        )


def cancel_order(order_id):
    """Ask for a cancellation; a missing audit row must not stop it."""
    with engine.begin() as connection:
        connection.execute(
            update(orders).where(orders.c.id == order_id).values(state="cancel requested")
        )
        try:
            connection.execute(audit.insert().values(order_id=order_id, event="cancel requested"))
        except SQLAlchemyError:
            logger.warning("no audit row for %s", order_id)


def confirm_order(session, order, reference):
    """Keep the venue's reference; what cannot be stored was not placed."""
    try:
        order.venue_reference = reference
        session.commit()
    except SQLAlchemyError:
        session.rollback()
        order.state = "rejected"
        session.commit()


async def settle(fills):
    """Book the fills of the day within ten seconds."""
    async_engine = create_async_engine(ASYNC_DATABASE_URL)
    async with AsyncSession(async_engine) as session:
        for fill in fills:
            session.add(fill)
        await asyncio.wait_for(session.commit(), timeout=10)


def record_event(order_id, event):
    """Write down what happened to an order."""
    try:
        with engine.begin() as connection:
            connection.execute(audit.insert().values(order_id=order_id, event=event))
    except SQLAlchemyError:
        logger.exception("event of order %s not recorded", order_id)
