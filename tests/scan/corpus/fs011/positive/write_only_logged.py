import logging

from .database import SessionLocal
from .models import TradeLog

logger = logging.getLogger(__name__)


def log_trade(trade):
    db = SessionLocal()
    try:
        db.add(TradeLog(symbol=trade.symbol, qty=trade.qty, price=trade.price))
        db.commit()
    except Exception as e:  # expect: FS011
        logger.error(f"Error saving trade: {e}")
        db.rollback()
    finally:
        db.close()
