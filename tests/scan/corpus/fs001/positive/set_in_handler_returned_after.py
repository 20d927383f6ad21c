import logging

import psycopg

logger = logging.getLogger("risk")

DEFAULT_LIMIT = 100_000


def exposure_limit(dsn: str, desk: str) -> int:
    limit = None
    try:
        with psycopg.connect(dsn) as conn:
            row = conn.execute("SELECT max_exposure FROM limits WHERE desk = %s", [desk]).fetchone()
            limit = row[0]
    except psycopg.Error as error:  # expect: FS001
        logger.warning("limit for %s not readable: %s", desk, error)
        limit = DEFAULT_LIMIT
    logger.info("limit for %s is %s", desk, limit)
    return limit
