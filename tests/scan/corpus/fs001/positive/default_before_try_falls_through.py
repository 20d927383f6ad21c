import logging

from trading.db import SessionLocal
from trading.models import Trade

logger = logging.getLogger(__name__)


def recent_trades(symbol: str, limit: int = 50) -> list[dict]:
    trades: list[dict] = []
    session = SessionLocal()
    try:
        query = session.query(Trade).filter(Trade.symbol == symbol)
        for trade in query.order_by(Trade.executed_at.desc()).limit(limit):
            trades.append({"id": trade.id, "price": trade.price, "qty": trade.quantity})
    except Exception as e:  # expect: FS001
        logger.error(f"Failed to fetch trades: {e}")
    finally:
        session.close()
    return trades
