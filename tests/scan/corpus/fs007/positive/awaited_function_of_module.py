import asyncio

import psycopg


async def _write(dsn, fill):
    async with await psycopg.AsyncConnection.connect(dsn) as conn:
        await conn.execute("INSERT INTO fills (id, qty) VALUES (%s, %s)", (fill.id, fill.qty))


async def on_fill(dsn, fill):
    try:
        await asyncio.wait_for(_write(dsn, fill), 3)  # expect: FS007
    except asyncio.TimeoutError:
        raise RuntimeError("fill not stored in time") from None
