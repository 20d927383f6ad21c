import asyncpg


class Ledger:
    def __init__(self, dsn):
        self._dsn = dsn

    async def _connect(self):
        try:
            return await asyncpg.connect(self._dsn, timeout=3)
        except (OSError, asyncpg.PostgresError):
            return None

    async def total(self):
        conn = await self._connect()
        if conn is None:
            raise RuntimeError("ledger database unreachable")
        try:
            return await conn.fetchval("SELECT sum(amount) FROM ledger")
        finally:
            await conn.close()
