import logging

import psycopg2
from psycopg2.extras import Json

log = logging.getLogger(__name__)


def ingest(dsn, trades):
    connection = psycopg2.connect(dsn, connect_timeout=3)
    cursor = connection.cursor()
    for trade in trades:
        try:
            cursor.execute(
                "INSERT INTO trades (id, body) VALUES (%s, %s)", (trade["id"], Json(trade))
            )
        except Exception as error:  # expect: FS005
            log.error("trade %s skipped: %s", trade["id"], error)
    connection.commit()
    connection.close()
