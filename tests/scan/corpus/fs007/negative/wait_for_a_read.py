import asyncio

import asyncpg


async def price(pool: asyncpg.Pool, symbol: str):
    return await asyncio.wait_for(
        pool.fetchval("SELECT price FROM prices WHERE symbol = $1", symbol), timeout=1
    )
