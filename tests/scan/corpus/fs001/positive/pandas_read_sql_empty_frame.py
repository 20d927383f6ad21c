import pandas as pd
from sqlalchemy import create_engine

from settings import DATABASE_URL

engine = create_engine(
    DATABASE_URL, connect_args={"connect_timeout": 5, "options": "-c statement_timeout=20000"}
)


def load_candles(symbol: str, timeframe: str) -> pd.DataFrame:
    query = f"SELECT ts, open, high, low, close FROM candles_{timeframe} WHERE symbol = %(s)s"
    try:
        frame = pd.read_sql(query, engine, params={"s": symbol}, index_col="ts")
    except Exception as e:  # expect: FS001
        print(f"Could not load candles for {symbol}: {e}")
        return pd.DataFrame()
    return frame.sort_index()
