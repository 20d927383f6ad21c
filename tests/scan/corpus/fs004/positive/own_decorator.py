import functools
import time

from sqlalchemy.exc import OperationalError

from .extensions import db
from .models import Position


def with_retries(times=3):
    def decorate(func):
        @functools.wraps(func)
        def wrapper(*args, **kwargs):
            for n in range(times):
                try:
                    return func(*args, **kwargs)
                except OperationalError:
                    if n == times - 1:
                        raise
                    db.session.rollback()
                    time.sleep(0.2)

        return wrapper

    return decorate


@with_retries(times=5)  # expect: FS004
def open_position(symbol, size):
    position = Position(symbol=symbol, size=size)
    db.session.add(position)
    db.session.commit()
    return position.id
