import logging
import time

from .db import Session
from .models import Order

log = logging.getLogger("worker")


def run():
    while True:
        try:
            with Session() as session:
                for order in session.query(Order).filter_by(state="new"):
                    order.state = "sent"
                session.commit()
        except Exception:  # expect: FS011
            log.exception("cycle failed")
        time.sleep(5)
