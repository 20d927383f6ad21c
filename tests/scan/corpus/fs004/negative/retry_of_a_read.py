import backoff
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from .db import SessionLocal
from .models import Candle


@backoff.on_exception(backoff.expo, OperationalError, max_tries=3)
def candles(symbol):
    with SessionLocal() as session:
        return session.scalars(select(Candle).where(Candle.symbol == symbol)).all()
