import asyncpg


async def credit(pool: asyncpg.Pool, account: int, cents: int) -> None:
    async with pool.acquire() as conn:
        async with conn.transaction():
            await conn.execute("SET LOCAL statement_timeout = '1500ms'")
            await conn.execute("UPDATE accounts SET cents = cents + $1 WHERE id = $2", cents, account)
