from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from .models import Order, Tag


def store(session: Session, order: Order, tags):
    session.add(order)
    session.flush()
    for name in tags:
        try:
            with session.begin_nested():
                session.add(Tag(order_id=order.id, name=name))
        except IntegrityError:
            continue
    session.commit()
