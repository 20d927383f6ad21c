import asyncio

import httpx


async def quote(client: httpx.AsyncClient, symbol: str):
    async with asyncio.timeout(1):
        response = await client.get(f"/quotes/{symbol}")
    return response.json()
