import ccxt

exchange = ccxt.bybit()


def send(order, session):
    try:
        ticket = exchange.create_order(order.symbol, "market", order.side, order.qty)
        order.status = "open"
        order.venue_id = ticket["id"]
    except ccxt.NetworkError:
        order.status = "unknown"
        session.commit()
        raise
