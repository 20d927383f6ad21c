import asyncpg


class Executor:
    def __init__(self, pool: asyncpg.Pool, broker):
        self.pool = pool
        self.broker = broker

    async def execute(self, intent):
        async with self.pool.acquire() as conn:
            async with conn.transaction():
                await conn.execute("UPDATE intents SET state = 'sent' WHERE id = $1", intent.id)
                await self.broker.submit_order(intent.symbol, intent.qty)  # expect: FS006
