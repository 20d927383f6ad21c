from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from .errors import BookUnavailable
from .models import Order


def status(session: Session, order_id):
    try:
        return session.get(Order, order_id).status
    except SQLAlchemyError as exc:
        raise BookUnavailable(order_id) from exc
