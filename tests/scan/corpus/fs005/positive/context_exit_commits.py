import logging

import psycopg

logger = logging.getLogger(__name__)


def settle(dsn, day):
    with psycopg.connect(dsn, connect_timeout=3) as conn:
        conn.execute("UPDATE trades SET settled = true WHERE day = %s", (day,))
        try:
            conn.execute("INSERT INTO settlement_log (day) VALUES (%s)", (day,))
        except psycopg.Error:  # expect: FS005
            logger.warning("settlement log is missing")
