import stamina
from sqlalchemy.exc import OperationalError

from .db import Session
from .models import Payment


@stamina.retry(on=OperationalError, attempts=3)
def pay(idempotency_key: str, amount: int) -> None:
    with Session() as session:
        session.add(Payment(idempotency_key=idempotency_key, amount=amount))
        session.commit()
