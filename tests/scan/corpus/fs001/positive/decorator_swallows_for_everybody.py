import functools
import logging

from sqlalchemy import text

from .database import engine

logger = logging.getLogger(__name__)


def safe_query(default):
    def wrap(func):
        @functools.wraps(func)
        def inner(*args, **kwargs):
            try:
                return func(*args, **kwargs)
            except Exception as e:  # expect: FS001
                logger.warning("%s failed: %s", func.__name__, e)
                return default

        return inner

    return wrap


@safe_query(default=[])
def watchlist(user_id):
    with engine.connect() as conn:
        return conn.execute(
            text("SELECT symbol FROM watchlist WHERE user_id = :u"), {"u": user_id}
        ).fetchall()
