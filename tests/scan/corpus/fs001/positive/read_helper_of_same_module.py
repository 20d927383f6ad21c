import logging

import psycopg

logger = logging.getLogger(__name__)


class SignalReader:
    def __init__(self, url):
        self.url = url

    def _run(self, sql, params=()):
        with psycopg.connect(self.url, connect_timeout=2) as connection:
            return connection.execute(sql, params).fetchall()

    def latest(self, strategy):
        try:
            rows = self._run(
                "SELECT symbol, direction, strength FROM signals WHERE strategy = %s", (strategy,)
            )
        except Exception:  # expect: FS001
            logger.exception("no signals")
            rows = []
        return [dict(symbol=r[0], direction=r[1], strength=r[2]) for r in rows]
