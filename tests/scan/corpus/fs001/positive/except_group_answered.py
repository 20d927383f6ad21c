import asyncio

import asyncpg


async def book_and_fills(pool: asyncpg.Pool, symbol):
    try:
        async with asyncio.TaskGroup() as group:
            book = group.create_task(pool.fetch("SELECT * FROM book WHERE symbol = $1", symbol))
            fills = group.create_task(pool.fetch("SELECT * FROM fills WHERE symbol = $1", symbol))
        return book.result(), fills.result()
    except* asyncpg.PostgresError:  # expect: FS001
        result = ([], [])
    return result
