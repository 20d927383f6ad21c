import ccxt

from .db import Session
from .models import Fill

exchange = ccxt.kraken()


def sync_fill(order_id):
    trade = exchange.fetch_order(order_id)
    session = Session()
    session.add(Fill(order_id=order_id, price=trade["price"]))
    session.commit()
