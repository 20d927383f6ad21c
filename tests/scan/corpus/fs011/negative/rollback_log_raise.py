import logging

from .database import SessionLocal
from .models import TradeLog

logger = logging.getLogger(__name__)


def log_trade(trade):
    db = SessionLocal()
    try:
        db.add(TradeLog(symbol=trade.symbol, qty=trade.qty))
        db.commit()
    except Exception:
        db.rollback()
        logger.exception("trade not stored")
        raise
    finally:
        db.close()
