import time

from sqlalchemy.exc import DBAPIError

from .db import SessionLocal
from .models import Slot


def _is_retryable(error):
    return getattr(error.orig, "sqlstate", "") in ("40001", "40P01")


def take(slot_id, user_id):
    for attempt in range(4):
        try:
            with SessionLocal.begin() as session:
                session.get(Slot, slot_id, with_for_update=True).user_id = user_id
            return
        except DBAPIError as error:
            if not _is_retryable(error) or attempt == 3:
                raise
            time.sleep(0.05)
