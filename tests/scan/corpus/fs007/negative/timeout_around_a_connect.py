import anyio
import psycopg


async def open_connection(dsn):
    with anyio.fail_after(5):
        return await psycopg.AsyncConnection.connect(dsn, connect_timeout=4)
