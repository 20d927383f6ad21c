import logging

from celery import shared_task
from sqlalchemy import update

from .db import engine
from .tables import orders

logger = logging.getLogger(__name__)


@shared_task
def expire_order(order_id):
    try:
        with engine.begin() as connection:
            connection.execute(update(orders).where(orders.c.id == order_id).values(state="expired"))
    except Exception as exc:  # expect: FS011
        logger.error("expire %s: %s", order_id, exc)
