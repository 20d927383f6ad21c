from .db import Session
from .models import Withdrawal


def approve(withdrawal_id):
    session = Session()
    withdrawal = session.get(Withdrawal, withdrawal_id)
    withdrawal.approve()
    try:
        session.commit()
    except Exception:  # expect: FS012
        session.rollback()
        withdrawal.mark_failed()
        raise
