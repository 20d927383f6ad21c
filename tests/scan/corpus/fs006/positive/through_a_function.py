import httpx

from .db import SessionLocal
from .models import Payout


def _notify(payout):
    with httpx.Client(timeout=3) as client:
        client.post("https://bank.example/payouts", json={"id": payout.id, "amount": payout.amount})


def pay_out(user_id, amount):
    with SessionLocal.begin() as session:
        payout = Payout(user_id=user_id, amount=amount)
        session.add(payout)
        session.flush()
        _notify(payout)  # expect: FS006
