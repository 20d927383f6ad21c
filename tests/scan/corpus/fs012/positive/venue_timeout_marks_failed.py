import ccxt

from .models import Order

exchange = ccxt.bybit()


def send(order: Order, session):
    try:
        ticket = exchange.create_order(order.symbol, "limit", order.side, order.qty, order.price)
        order.venue_id = ticket["id"]
        order.status = "open"
    except (ccxt.NetworkError, ccxt.RequestTimeout) as exc:  # expect: FS012
        order.status = "failed"
        order.error = str(exc)
    session.commit()
