import logging

import psycopg2

log = logging.getLogger(__name__)


def store(conn: "psycopg2.extensions.connection", fill):
    try:
        with conn.cursor() as cur:
            cur.execute("INSERT INTO fills (id) VALUES (%s)", (fill.id,))
        conn.commit()
    except psycopg2.Error:
        try:
            conn.rollback()
        except psycopg2.Error:
            log.warning("connection is gone")
        raise
