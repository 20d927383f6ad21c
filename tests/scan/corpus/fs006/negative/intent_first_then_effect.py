from .db import SessionLocal
from .models import Intent


def trade(broker, symbol, qty):
    with SessionLocal.begin() as session:
        intent = Intent(symbol=symbol, qty=qty, state="intended")
        session.add(intent)
    ticket = broker.place_order(symbol, qty)
    with SessionLocal.begin() as session:
        session.get(Intent, intent.id).ticket = ticket
