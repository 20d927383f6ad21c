import asyncpg


async def open_pool(dsn):
    return await asyncpg.create_pool(dsn, min_size=1, command_timeout=5)
