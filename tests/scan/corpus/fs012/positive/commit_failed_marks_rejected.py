from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from .models import Order


def accept(session: Session, order: Order, bus):
    order.status = "accepted"
    try:
        session.commit()
    except SQLAlchemyError:  # expect: FS012
        session.rollback()
        order.status = "rejected"
        bus.send_update(order)
        raise
