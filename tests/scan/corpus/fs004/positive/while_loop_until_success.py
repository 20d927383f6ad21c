import logging
import time

from .database import SessionLocal
from .models import Payment

log = logging.getLogger(__name__)


def book_payment(data):
    retries = 3
    while retries > 0:  # expect: FS004
        db = SessionLocal()
        try:
            db.add(Payment(**data))
            db.commit()
            return True
        except Exception as e:  # expect: FS001
            db.rollback()
            log.warning("booking failed, retrying: %s", e)
            retries -= 1
            time.sleep(1)
        finally:
            db.close()
    return False
