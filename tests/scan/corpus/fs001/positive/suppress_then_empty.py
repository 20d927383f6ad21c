from contextlib import suppress

from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from .engine import engine
from .tables import alerts


def pending_alerts(user_id: int):
    with suppress(OperationalError):  # expect: FS001
        with engine.connect() as connection:
            statement = select(alerts).where(alerts.c.user_id == user_id)
            return connection.execute(statement).mappings().all()
    return []
