import asyncpg


async def place(pool: asyncpg.Pool, order, bus):
    async with pool.acquire() as conn:
        async with conn.transaction():
            await conn.execute("INSERT INTO orders (id) VALUES ($1)", order.id)
    try:
        await bus.announce(order.id)
    except ConnectionError:
        await bus.later(order.id)
