import asyncpg
from tenacity import retry, stop_after_attempt


@retry(stop=stop_after_attempt(5))
async def store_candle(pool: asyncpg.Pool, symbol, ts, close):
    async with pool.acquire() as conn:
        await conn.execute(
            """
            INSERT INTO candles (symbol, ts, close) VALUES ($1, $2, $3)
            ON CONFLICT (symbol, ts) DO UPDATE SET close = EXCLUDED.close
            """,
            symbol,
            ts,
            close,
        )
