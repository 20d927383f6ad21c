import datetime as dt

import asyncpg


class TradingCalendar:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def is_market_open(self, venue: str) -> bool:
        now = dt.datetime.now(dt.timezone.utc)
        try:
            async with self._pool.acquire() as conn:
                row = await conn.fetchrow(
                    "SELECT opens_at, closes_at FROM sessions WHERE venue = $1 AND day = $2",
                    venue,
                    now.date(),
                )
            return row is not None and row["opens_at"] <= now <= row["closes_at"]
        except (asyncpg.PostgresError, OSError):  # expect: FS001
            return True
