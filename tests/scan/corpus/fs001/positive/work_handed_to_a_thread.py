import asyncio
import logging

import psycopg

log = logging.getLogger(__name__)


class LimitCache:
    def __init__(self, dsn):
        self.dsn = dsn

    def _load(self, desk):
        with psycopg.connect(self.dsn, connect_timeout=2) as conn:
            return conn.execute("SELECT amount FROM limits WHERE desk = %s", (desk,)).fetchone()[0]

    async def limit(self, desk):
        try:
            return await asyncio.to_thread(self._load, desk)
        except Exception:  # expect: FS001
            log.exception("limit of %s", desk)
            return 1_000_000
