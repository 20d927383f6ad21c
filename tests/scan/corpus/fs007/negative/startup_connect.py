import asyncio

import asyncpg


async def open_pool(dsn):
    return await asyncio.wait_for(asyncpg.create_pool(dsn, command_timeout=5, timeout=5), timeout=20)
