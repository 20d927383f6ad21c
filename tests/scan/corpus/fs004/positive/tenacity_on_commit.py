from sqlalchemy.orm import Session
from tenacity import retry, stop_after_attempt, wait_exponential

from .models import Order


@retry(stop=stop_after_attempt(3), wait=wait_exponential())  # expect: FS004
def store_order(session: Session, symbol: str, qty: int) -> int:
    order = Order(symbol=symbol, quantity=qty)
    session.add(order)
    session.commit()
    return order.id
