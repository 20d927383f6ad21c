import logging

import psycopg

log = logging.getLogger(__name__)


def create_extensions(dsn, names):
    missing = []
    with psycopg.connect(dsn, autocommit=True, connect_timeout=3) as conn:
        for name in names:
            try:
                conn.execute(f"CREATE EXTENSION IF NOT EXISTS {name}")
            except psycopg.errors.InsufficientPrivilege:
                missing.append(name)
    return missing
