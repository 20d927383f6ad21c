import asyncpg


async def book(conn: asyncpg.Connection, fill):
    async with conn.transaction():
        await conn.execute("INSERT INTO fills (id, qty) VALUES ($1, $2)", fill.id, fill.qty)
        try:
            await conn.execute("UPDATE stats SET n = n + 1 WHERE day = $1", fill.day)
        except asyncpg.PostgresError:  # expect: FS005
            pass
