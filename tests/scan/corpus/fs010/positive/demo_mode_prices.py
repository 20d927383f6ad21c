import asyncpg


class PriceService:
    def __init__(self, pool: asyncpg.Pool, demo_mode: bool):
        self.pool = pool
        self.demo_mode = demo_mode

    async def price(self, symbol: str) -> float:
        if self.demo_mode:  # expect: FS010
            return 100.0
        return await self.pool.fetchval("SELECT price FROM prices WHERE symbol = $1", symbol)
