import asyncpg
import backoff


class Fills:
    def __init__(self, pool: asyncpg.Pool):
        self.pool = pool

    @backoff.on_exception(backoff.expo, (asyncpg.PostgresError, OSError), max_tries=4)  # expect: FS004
    async def record(self, order_id, price, quantity):
        async with self.pool.acquire() as conn:
            async with conn.transaction():
                await conn.execute(
                    "INSERT INTO fills (order_id, price, quantity) VALUES ($1, $2, $3)",
                    order_id,
                    price,
                    quantity,
                )
