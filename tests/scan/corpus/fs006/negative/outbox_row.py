import json

from sqlalchemy.orm import Session

from .models import Order, Outbox


def place(session: Session, order: dict):
    with session.begin():
        row = Order(**order)
        session.add(row)
        session.flush()
        session.add(Outbox(topic="orders", body=json.dumps({"id": row.id})))
