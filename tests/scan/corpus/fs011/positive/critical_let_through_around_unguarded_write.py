import logging

import psycopg

from failstop.errors import CriticalDatabaseError

logger = logging.getLogger(__name__)


def record_fill(dsn, fill):
    try:
        with psycopg.connect(dsn, connect_timeout=3) as connection:
            connection.execute("INSERT INTO fills (id, quantity) VALUES (%s, %s)", fill)
    except CriticalDatabaseError:
        raise
    except Exception:  # expect: FS011
        logger.exception("fill not recorded")
