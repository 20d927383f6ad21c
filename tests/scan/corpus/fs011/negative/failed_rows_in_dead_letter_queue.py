import logging

from sqlalchemy.exc import SQLAlchemyError

from .db import Session
from .models import Event

log = logging.getLogger(__name__)


def consume(messages, dead_letters):
    for message in messages:
        try:
            with Session.begin() as session:
                session.add(Event(**message.body))
        except SQLAlchemyError:
            log.exception("message %s", message.id)
            dead_letters.put(message)
