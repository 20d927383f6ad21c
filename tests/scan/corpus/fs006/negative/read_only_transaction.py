import asyncpg
import httpx


async def report(pool: asyncpg.Pool, hook: str):
    async with pool.acquire() as conn:
        async with conn.transaction(readonly=True):
            total = await conn.fetchval("SELECT sum(amount) FROM ledger")
            async with httpx.AsyncClient() as client:
                await client.post(hook, json={"total": str(total)})
