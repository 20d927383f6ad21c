import logging

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from .models import Order, Tag

log = logging.getLogger(__name__)


def store(session: Session, order: Order, tags):
    session.add(order)
    session.flush()
    failed = []
    for name in tags:
        try:
            with session.begin_nested():
                session.add(Tag(order_id=order.id, name=name))
        except SQLAlchemyError:
            log.exception("tag %s", name)
            failed.append(name)
    session.commit()
    return failed
