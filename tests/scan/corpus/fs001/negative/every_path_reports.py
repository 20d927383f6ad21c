import logging

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from .db import engine

log = logging.getLogger(__name__)


class ReadFailed(Exception):
    pass


def fail(message):
    log.error(message)
    raise ReadFailed(message)


def depth(symbol):
    try:
        with engine.connect() as c:
            return c.execute(text("SELECT depth FROM books WHERE symbol = :s"), {"s": symbol}).all()
    except DBAPIError as exc:
        fail(f"depth of {symbol}: {exc.__class__.__name__}")
