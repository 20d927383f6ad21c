import asyncio

import asyncpg


async def guarded_update(pool: asyncpg.Pool, lock: asyncio.Lock, key):
    await asyncio.wait_for(lock.acquire(), timeout=1)
    try:
        async with pool.acquire() as conn:
            await conn.execute("UPDATE items SET seen = true WHERE key = $1", key)
    finally:
        lock.release()
