from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from .models import Order


def accept(session: Session, order: Order):
    session.add(order)
    try:
        session.commit()
    except IntegrityError:
        session.rollback()
        order.status = "rejected"
