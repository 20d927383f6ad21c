import async_timeout
import asyncpg


async def mark(conn: asyncpg.Connection, order_id):
    async with async_timeout.timeout(2):  # expect: FS007
        await conn.execute("UPDATE orders SET state = 'live' WHERE id = $1", order_id)
