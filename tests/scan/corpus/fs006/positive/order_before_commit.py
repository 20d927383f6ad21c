import ccxt

from .db import Session
from .models import Order

exchange = ccxt.binance()


def buy(symbol, amount):
    session = Session()
    order = Order(symbol=symbol, amount=amount, side="buy")
    session.add(order)
    session.flush()
    placed = exchange.create_order(symbol, "market", "buy", amount)  # expect: FS006
    order.venue_id = placed["id"]
    session.commit()
    return order.id
