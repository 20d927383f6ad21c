import logging

import psycopg2

log = logging.getLogger(__name__)


def open_positions(dsn):
    try:
        with psycopg2.connect(dsn, connect_timeout=3) as conn, conn.cursor() as cur:
            cur.execute("SELECT symbol, qty FROM positions WHERE qty <> 0")
            return cur.fetchall()
    except psycopg2.Error:
        log.exception("positions not readable")
        raise
