import logging

import asyncpg

log = logging.getLogger(__name__)


class Store:
    pool: asyncpg.Pool | None = None

    async def close(self):
        if self.pool is not None:
            try:
                await self.pool.close()
            except Exception as exc:
                log.warning("pool close: %s", exc)
