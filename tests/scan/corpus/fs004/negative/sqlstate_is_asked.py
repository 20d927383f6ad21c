import time

from sqlalchemy.exc import DBAPIError

from .db import Session
from .models import Slot

PROVEN = {"40001", "40P01"}


def reserve(slot_id, user_id):
    for attempt in range(4):
        try:
            with Session.begin() as session:
                session.get(Slot, slot_id, with_for_update=True).user_id = user_id
            return
        except DBAPIError as exc:
            if getattr(exc.orig, "sqlstate", None) not in PROVEN:
                raise
            time.sleep(0.05 * attempt)
    raise RuntimeError("slot is contended")
