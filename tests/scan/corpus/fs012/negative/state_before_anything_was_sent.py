from .models import Order
from .risk import RiskError, check


def submit(order: Order, broker):
    try:
        check(order)
    except RiskError as exc:
        order.status = "rejected"
        order.reason = str(exc)
        return order
    broker.place_order(order.symbol, order.qty)
    return order
