from sqlalchemy.exc import OperationalError

from .db import SessionLocal
from .models import Fill


def book(order, fill):
    try:
        with SessionLocal.begin() as session:
            session.add(Fill(order_id=order.id, qty=fill.qty))
    except OperationalError:  # expect: FS012
        order.state = "error"
        order.notify()
        raise
