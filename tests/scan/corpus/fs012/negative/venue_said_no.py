import ccxt

exchange = ccxt.bybit()


def send(order):
    try:
        order.venue_id = exchange.create_order(order.symbol, "market", order.side, order.qty)["id"]
    except ccxt.InsufficientFunds:
        order.status = "rejected"
