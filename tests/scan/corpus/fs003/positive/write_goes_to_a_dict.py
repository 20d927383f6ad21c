import logging

from sqlalchemy.exc import SQLAlchemyError

from .db import Session
from .models import Order

logger = logging.getLogger(__name__)
ORDERS_IN_MEMORY = {}


def save_order(order: dict) -> None:
    session = Session()
    try:
        session.add(Order(**order))
        session.commit()
    except SQLAlchemyError as e:  # expect: FS003
        session.rollback()
        logger.error("order kept in memory: %s", e)
        ORDERS_IN_MEMORY[order["id"]] = order
    finally:
        session.close()
